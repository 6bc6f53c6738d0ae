// Where an address is routed.

import { TABLE_LENGTHS, TABLE_VERSION } from "../records";
import { MEMO_FAMILY, MEMO_HIGH, MEMO_LOW, MEMO_TARGET, MEMO_VERSION, ROUTES } from "../regions";
import { addressHigh, addressLow, firstEntry, lookupPrefix } from "./prefix";

/**
 * Where the address at `address` in a packet is routed: a connection slot, a `RouteTarget`, or `NONE`. The last answer is
 * remembered, because packets come in trains; it is void as soon as the table changes.
 */
export function lookupRoute(region: u32, family: u32, address: u32): u32 {
  const table = load<u32>(region, ROUTES);
  const high = addressHigh(family, address);
  const low = addressLow(family, address);
  const version = atomic.load<u32>(table, TABLE_VERSION);
  if (
    version == load<u32>(region, MEMO_VERSION) &&
    high == load<u64>(region, MEMO_HIGH) &&
    low == load<u64>(region, MEMO_LOW) &&
    family == load<u32>(region, MEMO_FAMILY)
  ) {
    return load<u32>(region, MEMO_TARGET);
  }
  const target = lookupPrefix(table, table + TABLE_LENGTHS, 0, family, high, low);
  store<u32>(region, version, MEMO_VERSION);
  // The answer may be that of a later version.
  store<u32>(region, atomic.load<u32>(table, TABLE_VERSION) == version ? family : 0, MEMO_FAMILY);
  store<u64>(region, high, MEMO_HIGH);
  store<u64>(region, low, MEMO_LOW);
  store<u32>(region, target, MEMO_TARGET);
  return target;
}

/** Address of what `lookupRoute` of the same address will read first. */
export function firstRoute(region: u32, family: u32, address: u32): u32 {
  const table = load<u32>(region, ROUTES);
  return firstEntry(table, table + TABLE_LENGTHS, 0, family, addressHigh(family, address), addressLow(family, address));
}
