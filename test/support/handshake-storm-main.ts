// Many WireGuard initiators that come at the same moment, as a program: node handshake-storm-main.js ADDRESS PORT PUBLIC-KEY COUNT
//
// Prints how many of them have completed their handshake once all have, or after some seconds.

import { createSocket } from "node:dgram";
import { pathToFileURL } from "node:url";
import { nodeCrypto, systemRandom } from "../../src/system/crypto.js";
import { CookieGenerator } from "../../src/wireguard/cookie.js";
import { LocalIdentity } from "../../src/wireguard/identity.js";
import { parseMessage } from "../../src/wireguard/messages.js";
import { consumeResponse, createInitiation, type InitiatorState, NO_PRESHARED_KEY } from "../../src/wireguard/noise.js";
import { Tai64nClock } from "../../src/wireguard/tai64n.js";

/** How long to wait for answers, in ms: less than it takes a real initiator to try again. */
const LIMIT = 4000;

/** The static key of initiator `i`: anybody can make it. */
export function initiatorIdentity(i: number): LocalIdentity {
  const privateKey = new Uint8Array(32).fill(1);
  new DataView(privateKey.buffer).setUint32(4, i);
  return new LocalIdentity(privateKey, nodeCrypto);
}

async function main([host = "", port = "", publicKey = "", count = ""]: readonly string[]): Promise<void> {
  const remotePublicKey = new Uint8Array(Buffer.from(publicKey, "base64"));
  const cookies = new CookieGenerator(remotePublicKey, nodeCrypto);
  const clock = new Tai64nClock(0, Date.now());
  const waiting = new Map<number, { identity: LocalIdentity; state: InitiatorState }>();
  const messages = Array.from({ length: Number(count) }, (_, localIndex) => {
    const identity = initiatorIdentity(localIndex);
    const staticStatic = nodeCrypto.x25519(identity.privateKey, remotePublicKey);
    const ephemeralPrivateKey = systemRandom.bytes(32);
    const keys = { identity, remotePublicKey, ephemeralPrivateKey, staticStatic: staticStatic ?? new Uint8Array(32) };
    const created = createInitiation(nodeCrypto, { ...keys, localIndex, timestamp: clock.stamp(0) });
    if (created === undefined) throw new Error("a key of low order");
    waiting.set(localIndex, { identity, state: created.state });
    cookies.addMacs(created.message, localIndex, 0);
    return created.message;
  });

  const socket = createSocket("udp4");
  socket.on("message", (datagram) => {
    const message = parseMessage(new Uint8Array(datagram));
    if (message?.type !== "response") return;
    const { identity, state } = waiting.get(message.receiverIndex) ?? {};
    if (identity === undefined || state === undefined) return;
    const keys = consumeResponse(nodeCrypto, state, identity, NO_PRESHARED_KEY, message);
    if (typeof keys !== "string") waiting.delete(message.receiverIndex);
    if (waiting.size === 0) end();
  });
  const end = () => {
    console.log(String(messages.length - waiting.size));
    process.exit(0);
  };
  for (const message of messages) socket.send(message, Number(port), host);
  setTimeout(end, LIMIT);
}

if (import.meta.url === pathToFileURL(process.argv[1] ?? "").href) await main(process.argv.slice(2));
