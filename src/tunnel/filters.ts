// What a client may reach, as the control plane judges it (spec 04, section 6.6). Established traffic is judged by the packet engine
// (assembly/tables/filters.ts); this is for packets that waited for their grant. Several filters that cover a destination add up.

import { viewOf } from "../base/bytes.js";
import { type IpPacket, IpProtocol } from "../packet/ip.js";
import type { Filter, FilterRule } from "./events.js";

/** Whether any of the filters lets the packet through. */
export function isAllowed(filters: readonly Filter[], packet: IpPacket): boolean {
  return filters.some(
    ({ prefix, rules }) =>
      prefix.contains(packet.destination) && (rules.length === 0 || rules.some((rule) => isAllowedBy(rule, packet))),
  );
}

function isAllowedBy(rule: FilterRule, packet: IpPacket): boolean {
  switch (rule.protocol) {
    case "icmp":
      return packet.protocol === (packet.version === 4 ? IpProtocol.icmp : IpProtocol.icmpv6);
    case "tcp":
    case "udp": {
      if (packet.protocol !== IpProtocol[rule.protocol] || packet.bytes.length < packet.payloadOffset + 4) return false;
      const port = viewOf(packet.bytes).getUint16(packet.payloadOffset + 2);
      return rule.first <= port && port <= rule.last;
    }
  }
}
