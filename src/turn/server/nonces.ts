// Nonces without memory (RFC 8489, section 9.2; spec 03, section 2.5): a nonce says until when it holds, and for whom, and only the relay
// can make one. It looks like a UUID, as those of the reference do.
//
//   | end in seconds, u32 | HMAC-SHA1(secret, end, client address) cut to 12 bytes |

import type { SocketAddress } from "../../base/address.js";
import { concatBytes, constantTimeEqual, fromHex, toHex, viewOf } from "../../base/bytes.js";
import type { Crypto } from "../../base/crypto.js";
import type { Random } from "../../base/random.js";
import { type Duration, type Instant, MINUTE, SECOND } from "../../base/time.js";

/** How long a nonce holds (RFC 8656, section 5: an hour at least is not asked for, but clients keep theirs that long). */
export const NONCE_LIFETIME: Duration = 60 * MINUTE;

const SECRET_LENGTH = 20;
const MAC_LENGTH = 12;

/** Makes and checks nonces. */
export class Nonces {
  readonly #secret: Uint8Array;
  readonly #crypto: Crypto;

  constructor(random: Random, crypto: Crypto) {
    this.#secret = random.bytes(SECRET_LENGTH);
    this.#crypto = crypto;
  }

  /** A nonce for a client. */
  create(client: SocketAddress, now: Instant): string {
    return format(this.#nonce(client, Math.floor((now + NONCE_LIFETIME) / SECOND)));
  }

  /** Whether a nonce is one of ours for this client that still holds; `malformed`: it is none of anybody's. */
  check(nonce: string, client: SocketAddress, now: Instant): "valid" | "stale" | "malformed" {
    const bytes = parse(nonce);
    if (bytes === undefined) return "malformed";
    const end = viewOf(bytes).getUint32(0);
    const isOurs = constantTimeEqual(bytes, this.#nonce(client, end));
    return isOurs && now < end * SECOND ? "valid" : "stale";
  }

  #nonce(client: SocketAddress, end: number): Uint8Array {
    const head = new Uint8Array(4);
    viewOf(head).setUint32(0, end);
    const mac = this.#crypto.hmacSha1(this.#secret, concatBytes(head, new TextEncoder().encode(client.key)));
    return concatBytes(head, mac.subarray(0, MAC_LENGTH));
  }
}

function format(bytes: Uint8Array): string {
  const hex = toHex(bytes);
  return [hex.slice(0, 8), hex.slice(8, 12), hex.slice(12, 16), hex.slice(16, 20), hex.slice(20)].join("-");
}

function parse(text: string): Uint8Array | undefined {
  const hex = text.toLowerCase().replaceAll("-", "");
  const isUuid = /^[0-9a-f]{8}(-?[0-9a-f]{4}){3}-?[0-9a-f]{12}$/i.test(text);
  return isUuid ? fromHex(hex) : undefined;
}
