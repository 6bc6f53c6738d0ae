// Bytes, and bytes per second, for people (spec 02, section 12.2; spec 03, section 4.4): two decimals, cut off, in decimal units.

const UNITS = ["B", "kB", "MB", "GB", "TB"] as const;

/** As `955.33 MB/s`. @param bytesPerSecond not negative. */
export function formatThroughput(bytesPerSecond: number): string {
  return `${formatBytes(bytesPerSecond)}/s`;
}

/** As `12.50 MB`. @param bytes not negative. */
export function formatBytes(bytes: number): string {
  let value = bytes;
  let unit = 0;
  while (value >= 1000 && unit < UNITS.length - 1) {
    value /= 1000;
    unit++;
  }
  return `${(Math.floor(value * 100) / 100).toFixed(2)} ${UNITS[unit]}`;
}
