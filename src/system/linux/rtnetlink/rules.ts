// Policy routing rules by rtnetlink: ip-rule(8), include/uapi/linux/fib_rules.h.
//
//   struct fib_rule_hdr   family u8 | destination length u8 | source length u8 | tos u8 |
//                         table u8 | 0 u8 | 0 u8 | action u8 | flags u32                   12 bytes

import type { AddressFamily } from "../../../base/address.js";
import { viewOf } from "../../../base/bytes.js";
import { Errno, SystemCallError } from "../errno.js";
import { AF_INET, AF_INET6 } from "../libc.js";
import { addressFamilyNumber } from "../sockaddr.js";
import { Attributes, MessageBuilder, MessageFlag, type NetlinkMessage } from "./message.js";
import { DUMP_FLAGS, type Netlink, requestFlags } from "./netlink.js";
import { RouteProtocol, tableName } from "./routes.js";

/** A rule that sends packets to a routing table. */
export interface Rule {
  readonly family: AddressFamily;
  /** Rules are tried from the lowest priority to the highest; several may share one. */
  readonly priority: number;
  /** The table to look up. */
  readonly table: number;
  /** Only packets with this mark; absent: all. */
  readonly mark?: number;
  /** Which bits of the mark count. Default: all. */
  readonly markMask?: number;
  /** The rule is for packets that do *not* fulfil its conditions. */
  readonly invert?: boolean;
  /** Who made the rule: {@link RouteProtocol}. Default `kernel`: systemd-networkd deletes foreign rules of any other. */
  readonly protocol?: number;
}

const RTM_NEWRULE = 32;
const RTM_DELRULE = 33;
const RTM_GETRULE = 34;

const RULE_HEADER_LENGTH = 12;
const FRA_PRIORITY = 6;
const FRA_FWMARK = 10;
const FRA_TABLE = 15;
const FRA_FWMASK = 16;
const FRA_PROTOCOL = 21;
const FR_ACT_TO_TBL = 1;
const FIB_RULE_INVERT = 2;
/** The 8-bit table field for tables that do not fit. */
const RT_TABLE_COMPAT = 252;
const ALL_BITS = 0xffffffff;

/** Adds a rule unless the same one exists. @returns whether it was added. */
export function addRule(netlink: Netlink, rule: Rule): boolean {
  const request = new MessageBuilder(RTM_NEWRULE, requestFlags(MessageFlag.CREATE | MessageFlag.EXCLUSIVE));
  header(request, rule);
  try {
    netlink.request(request, describe("adding", rule));
    return true;
  } catch (error) {
    if (error instanceof SystemCallError && error.errno === Errno.EEXIST) return false;
    throw error;
  }
}

/** Deletes one rule with these properties. @returns whether there was one. */
export function deleteRule(netlink: Netlink, rule: Rule): boolean {
  const request = new MessageBuilder(RTM_DELRULE, requestFlags());
  header(request, rule);
  try {
    netlink.request(request, describe("deleting", rule));
    return true;
  } catch (error) {
    if (error instanceof SystemCallError && error.errno === Errno.ENOENT) return false;
    throw error;
  }
}

/** All rules of a family that send to a table, by priority. */
export function listRules(netlink: Netlink, family: AddressFamily): Rule[] {
  const request = new MessageBuilder(RTM_GETRULE, DUMP_FLAGS);
  request.uint8(addressFamilyNumber(family)).uint8(0).uint8(0).uint8(0).uint8(0).uint8(0).uint8(0).uint8(0).uint32(0);
  // A kernel without IPv6 lists the rules of all families that it has.
  return netlink
    .dump(request, `listing IPv${family} rules`)
    .map(decodeRule)
    .filter((rule) => rule !== undefined)
    .filter((rule) => rule.family === family)
    .sort((a, b) => a.priority - b.priority);
}

/** The rule that a message describes; `undefined` for anything else, and for rules that do not send to a table. */
export function decodeRule(message: NetlinkMessage): Rule | undefined {
  if (message.type !== RTM_NEWRULE && message.type !== RTM_DELRULE) return undefined;
  if (message.payload.length < RULE_HEADER_LENGTH) return undefined;
  const view = viewOf(message.payload);
  const family = view.getUint8(0);
  const attributes = Attributes.decode(message.payload, RULE_HEADER_LENGTH);
  if (attributes === undefined || (family !== AF_INET && family !== AF_INET6)) return undefined;
  if (view.getUint8(7) !== FR_ACT_TO_TBL) return undefined;
  const mark = attributes.uint32(FRA_FWMARK);
  const markMask = attributes.uint32(FRA_FWMASK) ?? ALL_BITS;
  return {
    family: family === AF_INET ? 4 : 6,
    priority: attributes.uint32(FRA_PRIORITY) ?? 0,
    table: attributes.uint32(FRA_TABLE) ?? view.getUint8(4),
    invert: (view.getUint32(8, true) & FIB_RULE_INVERT) !== 0,
    // Before Linux 4.17 rules had no maker.
    protocol: attributes.uint8(FRA_PROTOCOL) ?? RouteProtocol.kernel,
    ...(mark === undefined ? {} : { mark, markMask }),
  };
}

/** `struct fib_rule_hdr` and attributes. */
function header(message: MessageBuilder, rule: Rule): void {
  message.uint8(addressFamilyNumber(rule.family)).uint8(0).uint8(0).uint8(0);
  message
    .uint8(rule.table < 256 ? rule.table : RT_TABLE_COMPAT)
    .uint8(0)
    .uint8(0)
    .uint8(FR_ACT_TO_TBL);
  message.uint32(rule.invert === true ? FIB_RULE_INVERT : 0);
  message.attributeUint32(FRA_PRIORITY, rule.priority);
  message.attributeUint32(FRA_TABLE, rule.table);
  message.attributeUint8(FRA_PROTOCOL, rule.protocol ?? RouteProtocol.kernel);
  if (rule.mark !== undefined) {
    message.attributeUint32(FRA_FWMARK, rule.mark);
    message.attributeUint32(FRA_FWMASK, rule.markMask ?? ALL_BITS);
  }
}

/** `adding IPv4 rule 100: not mark 0xfd002021 to table 0x2021fd00`, for errors. */
function describe(verb: string, { family, priority, table, mark, invert }: Rule): string {
  const condition = mark === undefined ? "" : ` ${invert === true ? "not " : ""}mark 0x${mark.toString(16)}`;
  return `${verb} IPv${family} rule ${priority}:${condition} to table ${tableName(table)}`;
}
