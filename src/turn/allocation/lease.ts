// What a relay lends us, and until when (RFC 8656, sections 7.3 and 8; spec 03, sections 5.9 to 5.11): one address per IP version at most, for a time
// that begins anew with each refresh.
//
//   begun ── half of the lifetime ──► to be renewed ── the other half ──► over

import type { AddressFamily, SocketAddress } from "../../base/address.js";
import { type Duration, type Instant, SECOND } from "../../base/time.js";

/** An address has come or gone. */
export type LeaseEvent =
  /** The relay lends us this address. */
  | { readonly type: "relayed-address"; readonly address: SocketAddress }
  | { readonly type: "relayed-address-lost"; readonly address: SocketAddress };

/** See the head of this file. */
export class Lease {
  readonly #emit: (event: LeaseEvent) => void;
  readonly #addresses = new Map<AddressFamily, SocketAddress>();
  #granted: { readonly at: Instant; readonly lifetime: Duration } | undefined;
  /** The last renewal was refused: not again before then. */
  #renewAfter: Instant = Number.NEGATIVE_INFINITY;

  constructor(emit: (event: LeaseEvent) => void) {
    this.#emit = emit;
  }

  /** Whether the relay has lent us anything, as far as we know. */
  get isHeld(): boolean {
    return this.#granted !== undefined;
  }

  /** The addresses that the relay lends us, IPv4 first. */
  get addresses(): readonly SocketAddress[] {
    return [this.#addresses.get(4), this.#addresses.get(6)].filter((address) => address !== undefined);
  }

  /** The address of this IP version. */
  address(family: AddressFamily): SocketAddress | undefined {
    return this.#addresses.get(family);
  }

  /** When it is to be renewed. */
  get renewAt(): Instant | undefined {
    return this.#granted && Math.max(this.#granted.at + this.#granted.lifetime / 2, this.#renewAfter);
  }

  /** When it is over. */
  get endsAt(): Instant | undefined {
    return this.#granted && this.#granted.at + this.#granted.lifetime;
  }

  /** The relay has answered that it lends us these addresses, for so many seconds. @returns false when that is nothing. */
  begin(addresses: readonly SocketAddress[], lifetime: number | undefined, now: Instant): boolean {
    if (addresses.length === 0 || !this.renew(lifetime, now)) return false;
    for (const family of [4, 6] as const) {
      const address = addresses.find((other) => other.family === family);
      if (address === undefined || this.#addresses.get(family)?.equals(address) === true) continue;
      this.#lose(family);
      this.#addresses.set(family, address);
      this.#emit({ type: "relayed-address", address });
    }
    return true;
  }

  /** The relay has answered that it lends us what it does for so many seconds more. @returns false when there is no such time. */
  renew(lifetime: number | undefined, now: Instant): boolean {
    if (lifetime === undefined || lifetime === 0) return false;
    this.#granted = { at: now, lifetime: lifetime * SECOND };
    return true;
  }

  /** Is not to be renewed before then. */
  postponeRenewal(until: Instant): void {
    this.#renewAfter = until;
  }

  /** It is over, or never was. */
  end(): void {
    this.#granted = undefined;
    this.#renewAfter = Number.NEGATIVE_INFINITY;
    this.#lose(4);
    this.#lose(6);
  }

  #lose(family: AddressFamily): void {
    const address = this.#addresses.get(family);
    if (address === undefined) return;
    this.#addresses.delete(family);
    this.#emit({ type: "relayed-address-lost", address });
  }
}
