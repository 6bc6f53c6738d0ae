// Bytes per second for people (spec 03, section 4.4): two decimals, cut off, in decimal units.

const UNITS = ["B/s", "kB/s", "MB/s", "GB/s", "TB/s"] as const;

/** As `955.33 MB/s`. @param bytesPerSecond not negative. */
export function formatThroughput(bytesPerSecond: number): string {
  let value = bytesPerSecond;
  let unit = 0;
  while (value >= 1000 && unit < UNITS.length - 1) {
    value /= 1000;
    unit++;
  }
  return `${(Math.floor(value * 100) / 100).toFixed(2)} ${UNITS[unit]}`;
}
