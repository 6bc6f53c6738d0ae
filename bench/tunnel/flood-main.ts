// A flood of WireGuard handshake initiations, as a program: node flood-main.js ADDRESS PORT PUBLIC-KEY SECONDS
//
// 50 000 a second with a random mac1, and 5000 whose mac1 is right, as whoever knows the public key can make them; none of them is
// a handshake. Sent in trains (UDP_SEGMENT), so that sending costs little of the machine that is being measured.

import { randomBytes } from "node:crypto";
import { SocketAddress } from "../../src/base/address.js";
import {
  AF_INET,
  allocate,
  check,
  connect,
  SOCK_DGRAM,
  setsockopt,
  socket,
  write,
} from "../../src/system/linux/libc.js";
import { writeSocketAddress } from "../../src/system/linux/sockaddr.js";
import { mac1KeyOf } from "../../src/wireguard/cookie.js";
import { macFields } from "../../src/wireguard/messages.js";
import { mac } from "../../src/wireguard/primitives.js";

const INITIATION_LENGTH = 148;
/** Initiations of each kind in a millisecond. */
const INVALID = 50;
const VALID = 5;
/** Different trains of each kind, which take turns. */
const TRAINS = 40;
const SOL_UDP = 17;
const UDP_SEGMENT = 103;

const [host = "", port = "", publicKey = "", seconds = ""] = process.argv.slice(2);
const target = SocketAddress.parse(`${host}:${port}`);
if (target === undefined) throw new RangeError(`"${host}:${port}" is not an address`);

const fd = check(socket(AF_INET, SOCK_DGRAM, 0), "socket");
const scratch = allocate(128);
check(connect(fd, scratch.address, writeSocketAddress(scratch, 0, target)), "connect");
scratch.view.setInt32(0, INITIATION_LENGTH, true);
check(setsockopt(fd, SOL_UDP, UDP_SEGMENT, scratch.address, 4), "setsockopt(UDP_SEGMENT)");

const key = mac1KeyOf(new Uint8Array(Buffer.from(publicKey, "base64")));
const invalid = trains(INVALID, () => undefined);
const valid = trains(VALID, (initiation) => {
  const { coveredByMac1, mac1 } = macFields(initiation);
  mac1.set(mac(key, coveredByMac1));
});

const start = performance.now();
const sleeper = new Int32Array(new SharedArrayBuffer(4));
for (let sent = 0; ; ) {
  const elapsed = performance.now() - start;
  if (elapsed > 1000 * Number(seconds)) break;
  for (; sent < elapsed; sent++) {
    send(invalid, INVALID, sent);
    send(valid, VALID, sent);
  }
  Atomics.wait(sleeper, 0, 0, 1);
}

/** What the kernel refuses for want of room is lost: floods are not reliable. */
function send(buffer: { readonly address: number }, count: number, turn: number): void {
  const length = count * INITIATION_LENGTH;
  write(fd, buffer.address + (turn % TRAINS) * length, length);
}

function trains(count: number, complete: (initiation: Uint8Array) => void) {
  const buffer = allocate(TRAINS * count * INITIATION_LENGTH);
  for (let i = 0; i < TRAINS * count; i++) {
    const initiation = randomBytes(INITIATION_LENGTH);
    initiation.set([1, 0, 0, 0]);
    complete(initiation);
    buffer.bytes.set(initiation, i * INITIATION_LENGTH);
  }
  return buffer;
}
