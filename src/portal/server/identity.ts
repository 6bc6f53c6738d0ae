// Stable identities: ids derived from names, tunnel addresses from ranges (spec 01, section 11.4).

import { createHash } from "node:crypto";
import { IpAddress } from "../../base/address.js";
import { type Random, randomBelow } from "../../base/random.js";

/** A UUID (version 8, RFC 9562) that is the same for the same words. */
export function derivedId(...words: readonly string[]): string {
  return uuidFromDigest(createHash("sha256").update(JSON.stringify(words)).digest(), 8);
}

/** The UUID of a version whose other bits are those of a digest. */
export function uuidFromDigest(digest: Uint8Array, version: 4 | 8): string {
  const bytes = Buffer.from(digest.subarray(0, 16));
  bytes[6] = ((bytes[6] ?? 0) & 0x0f) | (version << 4);
  bytes[8] = ((bytes[8] ?? 0) & 0x3f) | 0x80;
  const hex = bytes.toString("hex");
  return `${hex.slice(0, 8)}-${hex.slice(8, 12)}-${hex.slice(12, 16)}-${hex.slice(16, 20)}-${hex.slice(20)}`;
}

/** Tunnel addresses of a program. */
export interface TunnelAddresses {
  readonly ipv4: string;
  readonly ipv6: string;
}

/** Addresses in 100.64.0.0/11 and in fd00:2021:1111::/107. */
const RANGE_SIZE = 2 ** 21;
/** Never given: the first two addresses and the last one. */
const FIRST_OFFSET = 2;
const LAST_OFFSET = RANGE_SIZE - 2;
const IPV4_BASE = 0x64400000;
const IPV6_BASE = Uint8Array.of(0xfd, 0, 0x20, 0x21, 0x11, 0x11, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0);

/** Remembers which tunnel addresses belong to whom; survives restarts through a snapshot. */
export class AddressBook {
  readonly #random: Random;
  readonly #offsets = new Map<string, number>();
  readonly #used = new Set<number>();
  /** Called when an owner was added. */
  onAdded: () => void = () => undefined;

  /** @param snapshot of an earlier book; offsets outside the range, or given twice, are left out. */
  constructor(random: Random, snapshot: Readonly<Record<string, number>> = {}) {
    this.#random = random;
    for (const [owner, offset] of Object.entries(snapshot)) this.#take(owner, offset);
  }

  /** The owner's addresses, given at first sight and kept. `undefined`: the range is exhausted. */
  addressesOf(owner: string): TunnelAddresses | undefined {
    const known = this.#offsets.get(owner);
    const offset = known ?? this.#allocate(owner);
    if (offset === undefined) return undefined;
    if (known === undefined) this.onAdded();
    const ipv4 = new Uint8Array(4);
    new DataView(ipv4.buffer).setUint32(0, IPV4_BASE + offset);
    const ipv6 = IPV6_BASE.slice();
    new DataView(ipv6.buffer).setUint32(12, offset);
    return { ipv4: IpAddress.fromBytes(ipv4).toString(), ipv6: IpAddress.fromBytes(ipv6).toString() };
  }

  /** Owner → offset in the ranges. */
  snapshot(): Record<string, number> {
    return Object.fromEntries(this.#offsets);
  }

  /** Owners so far. Grows with every new one: a snapshot is needed when it has changed. */
  get size(): number {
    return this.#offsets.size;
  }

  /** From a random offset upwards to the last but one, then downwards to the second. */
  #allocate(owner: string): number | undefined {
    if (this.#used.size > LAST_OFFSET - FIRST_OFFSET) return undefined;
    const start = FIRST_OFFSET + randomBelow(this.#random, LAST_OFFSET - FIRST_OFFSET + 1);
    for (let offset = start; offset <= LAST_OFFSET; offset++) if (this.#take(owner, offset)) return offset;
    for (let offset = start - 1; offset >= FIRST_OFFSET; offset--) if (this.#take(owner, offset)) return offset;
    return undefined;
  }

  #take(owner: string, offset: number): boolean {
    if (!Number.isInteger(offset) || offset < FIRST_OFFSET || offset > LAST_OFFSET) return false;
    if (this.#used.has(offset)) return false;
    this.#used.add(offset);
    this.#offsets.set(owner, offset);
    return true;
  }
}
