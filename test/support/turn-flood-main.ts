// What field notes, section 4.3, has strangers send to a relay, as a program: requests without and with wrong credentials, from forged
// addresses, what is no STUN, an expiry that no clock reaches, and port 0. Whole IP packets (raw(7)), so that any source can be named.
//
//    arguments: target address and port, packets per second, seconds

import { randomBytes, randomInt } from "node:crypto";
import { SocketAddress } from "../../src/base/address.js";
import { MessageIntegrity, Nonce, Realm, RequestedTransport, Username } from "../../src/stun/attributes.js";
import { StunBuilder } from "../../src/stun/builder.js";
import { Method } from "../../src/stun/header.js";
import { AF_INET, allocate, check, SOCK_RAW, sendto, socket } from "../../src/system/linux/libc.js";
import { SOCKADDR_IN_SIZE, writeSocketAddress } from "../../src/system/linux/sockaddr.js";

/** The kernel adds nothing but length, id and checksum (raw(7)). */
const IPPROTO_RAW = 255;
const IP_HEADER = 20;
const UDP_HEADER = 8;
const MAX_PACKET = 1500;

const [address = "", rate = "", seconds = ""] = process.argv.slice(2);
const target = SocketAddress.parse(address);
if (target === undefined) throw new RangeError(`"${address}" is no address`);

const fd = check(socket(AF_INET, SOCK_RAW, IPPROTO_RAW), "socket");
const destination = allocate(SOCKADDR_IN_SIZE);
// A raw socket knows no ports.
writeSocketAddress(destination, 0, new SocketAddress(target.ip, 0));
const packet = allocate(MAX_PACKET);

const allocation = () => new StunBuilder("request", Method.Allocate, randomBytes(12)).add(RequestedTransport, 17);
const signed = (user: string) =>
  allocation()
    .add(Username, user)
    .add(Realm, "wirelane")
    .add(Nonce, "0a0b0c0d-0102-0304-0506-0708090a0b0c")
    .add(MessageIntegrity, randomBytes(20))
    .finish();
const badLength = () => {
  const message = Buffer.from(allocation().finish());
  // The attribute reaches beyond the message.
  message.writeUInt16BE(0xfff0, 22);
  return message;
};
const own = () => Uint8Array.of(203, 0, 113, 2);
const forged = () => Uint8Array.of(10, 66, randomInt(256), randomInt(1, 255));

/** In turn: what, from where, from which port. */
const kinds: readonly (readonly [() => Uint8Array, () => Uint8Array, () => number])[] = [
  [() => allocation().finish(), own, () => randomInt(1, 65_536)],
  [() => signed("bench"), own, () => randomInt(1, 65_536)],
  [() => allocation().finish(), forged, () => randomInt(1, 65_536)],
  [() => signed(`${"9".repeat(15)}:salt`), forged, () => randomInt(1, 65_536)],
  [() => signed(`${"9".repeat(40)}:salt`), own, () => randomInt(1, 65_536)],
  [badLength, forged, () => randomInt(1, 65_536)],
  [() => Uint8Array.of(0, 1, ...randomBytes(randomInt(60))), forged, () => randomInt(1, 65_536)],
  [() => allocation().finish(), forged, () => 0],
];
/** Made before, because making them is more work than sending them. */
const payloads = Array.from({ length: 512 }, (_, i) => kinds[i % kinds.length]?.[0]() ?? new Uint8Array());

function send(number: number): void {
  const payload = payloads[number % payloads.length] ?? new Uint8Array();
  const [, source, port] = kinds[number % kinds.length] ?? [];
  if (source === undefined || port === undefined || target === undefined) return;
  const { view, bytes } = packet;
  bytes.fill(0, 0, IP_HEADER + UDP_HEADER);
  view.setUint8(0, 0x45);
  view.setUint8(8, 64);
  view.setUint8(9, 17);
  bytes.set(source(), 12);
  bytes.set(target.ip.bytes, 16);
  view.setUint16(IP_HEADER, port());
  view.setUint16(IP_HEADER + 2, target.port);
  view.setUint16(IP_HEADER + 4, UDP_HEADER + payload.length);
  bytes.set(payload, IP_HEADER + UDP_HEADER);
  const length = IP_HEADER + UDP_HEADER + payload.length;
  // A full queue loses it: a flood has others.
  sendto(fd, packet.address, length, 0, destination.address, SOCKADDR_IN_SIZE);
}

const start = performance.now();
const sleeper = new Int32Array(new SharedArrayBuffer(4));
for (let sent = 0; ; ) {
  const elapsed = performance.now() - start;
  if (elapsed > 1000 * Number(seconds)) break;
  for (const due = (elapsed / 1000) * Number(rate); sent < due; sent++) send(sent);
  Atomics.wait(sleeper, 0, 0, 1);
}
