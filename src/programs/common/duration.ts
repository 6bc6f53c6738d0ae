// Durations as people write them (spec 05, section 1.3): "5m", "1h 30m", "30 days".

import { type Duration, MINUTE, SECOND } from "../../base/time.js";

const HOUR = 60 * MINUTE;
const DAY = 24 * HOUR;
/** Average lengths in the Gregorian calendar. */
const MONTH = 30.44 * DAY;
const YEAR = 365.25 * DAY;

const UNITS: Readonly<Record<string, Duration>> = {
  ns: 1e-6,
  nsec: 1e-6,
  us: 1e-3,
  usec: 1e-3,
  ms: 1,
  msec: 1,
  s: SECOND,
  sec: SECOND,
  secs: SECOND,
  second: SECOND,
  seconds: SECOND,
  m: MINUTE,
  min: MINUTE,
  mins: MINUTE,
  minute: MINUTE,
  minutes: MINUTE,
  h: HOUR,
  hr: HOUR,
  hrs: HOUR,
  hour: HOUR,
  hours: HOUR,
  d: DAY,
  day: DAY,
  days: DAY,
  w: 7 * DAY,
  week: 7 * DAY,
  weeks: 7 * DAY,
  M: MONTH,
  month: MONTH,
  months: MONTH,
  y: YEAR,
  year: YEAR,
  years: YEAR,
};

/** Parses one or more groups of integer and unit, with or without spaces; `undefined` when the text is anything else. */
export function parseDuration(text: string): Duration | undefined {
  if (!/^\s*(\d+\s*[A-Za-z]+\s*)+$/.test(text)) return undefined;
  let total = 0;
  for (const [, count, unit = ""] of text.matchAll(/(\d+)\s*([A-Za-z]+)/g)) {
    const length = UNITS[unit];
    if (length === undefined) return undefined;
    total += Number(count) * length;
  }
  return Number.isSafeInteger(Math.round(total)) ? total : undefined;
}
