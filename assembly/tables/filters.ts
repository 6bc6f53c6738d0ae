// Whether a connection's filters allow a decrypted packet (spec 04, section 6.6). Layout: assembly/records.ts, "Filters".

import { NONE } from "../abi";
import { destination, ICMP, ICMPV6, TCP, UDP } from "../packet/ip";
import {
  ALLOW_ALL,
  CONNECTION_FILTERS,
  FILTER_SET_SIZE,
  RULES_ICMP,
  RULES_RANGE_SIZE,
  RULES_RANGES,
  RULES_TCP,
  RULES_UDP,
} from "../records";
import { FILTER_SETS, FILTERS } from "../regions";
import { addressHigh, addressLow, lookupPrefix } from "./prefix";

/**
 * Whether the packet's destination, protocol and port are allowed. `payload` is the offset of the IP payload, `protocol` the
 * protocol or (first) next header; the packet is valid and no fragment.
 */
export function isAllowed(
  region: u32,
  connection: u32,
  packet: u32,
  length: u32,
  family: u32,
  protocol: u32,
  payload: u32,
): bool {
  const set = atomic.load<u32>(connection, CONNECTION_FILTERS);
  if (set == NONE) return false;
  const address = destination(packet, family);
  const rules = lookupPrefix(
    load<u32>(region, FILTERS),
    load<u32>(region, FILTER_SETS) + set * FILTER_SET_SIZE,
    set + 1,
    family,
    addressHigh(family, address),
    addressLow(family, address),
  );
  if (rules == NONE) return false;
  if (rules == ALLOW_ALL) return true;

  const rest = length - payload;
  const transport = packet + payload;
  const tcpCount = <u32>load<u16>(rules, RULES_TCP);
  const ranges = rules + RULES_RANGES;
  if (protocol == TCP && rest >= 20) return isInRanges(ranges, tcpCount, destinationPort(transport));
  if (protocol == UDP && rest >= 8) {
    return isInRanges(
      ranges + tcpCount * RULES_RANGE_SIZE,
      <u32>load<u16>(rules, RULES_UDP),
      destinationPort(transport),
    );
  }
  if (protocol == (family == 4 ? ICMP : ICMPV6) && rest >= 8) return load<u32>(rules, RULES_ICMP) != 0;
  return false;
}

function destinationPort(transport: u32): u32 {
  return <u32>bswap<u16>(load<u16>(transport, 2));
}

/** Whether one of `count` disjoint ascending ranges contains the port: a binary search for the last that begins at or below it. */
function isInRanges(ranges: u32, count: u32, port: u32): bool {
  let low: u32 = 0;
  let high = count;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (<u32>load<u16>(ranges + middle * RULES_RANGE_SIZE) <= port) low = middle + 1;
    else high = middle;
  }
  return low > 0 && port <= <u32>load<u16>(ranges + (low - 1) * RULES_RANGE_SIZE, 2);
}
