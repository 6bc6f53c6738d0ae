// Which relay a connection uses (spec 03, section 6.4): any of those that are about as near as the nearest, so that all users together
// do not fall upon one.

import { type Random, randomBelow } from "../../base/random.js";
import type { Duration } from "../../base/time.js";

/** Up to so many relays have no meaningful spread: then a multiple of the fastest decides. */
const FEW = 2;
const FEW_FACTOR = 1.5;
/** Relays this many median deviations above the median are outliers. */
const DEVIATIONS = 3;
/** Deviations below this are noise. */
const LEAST_DEVIATION: Duration = 2;

/** A relay to choose from. */
export interface RelayOffer {
  readonly id: string;
  /** `undefined`: never measured; not chosen. */
  readonly roundTripTime: Duration | undefined;
}

/** Chooses among relays that were measured; `undefined` when none was. */
export function chooseRelay(offers: readonly RelayOffer[], random: Random): string | undefined {
  const times = offers.flatMap(({ roundTripTime }) => roundTripTime ?? []).sort((a, b) => a - b);
  const [fastest] = times;
  if (fastest === undefined) return undefined;
  const limit = times.length <= FEW ? FEW_FACTOR * fastest : outlierLimit(times);
  const near = offers.filter(({ roundTripTime = Number.POSITIVE_INFINITY }) => roundTripTime <= limit);
  return near[randomBelow(random, near.length)]?.id;
}

function outlierLimit(sorted: readonly Duration[]): Duration {
  const middle = median(sorted);
  const deviations = sorted.map((time) => Math.abs(time - middle)).sort((a, b) => a - b);
  return middle + DEVIATIONS * Math.max(median(deviations), LEAST_DEVIATION);
}

function median(sorted: readonly number[]): number {
  const half = sorted.length / 2;
  const upper = sorted[Math.floor(half)] ?? 0;
  return Number.isInteger(half) ? ((sorted[half - 1] ?? 0) + upper) / 2 : upper;
}
