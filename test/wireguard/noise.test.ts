// The handshake byte for byte against the vector of spec 02, section 11.5, and the codec of the messages.

import assert from "node:assert/strict";
import { test } from "node:test";
import { IpAddress, SocketAddress } from "../../src/base/address.js";
import { concatBytes, toHex, viewOf } from "../../src/base/bytes.js";
import { nodeCrypto } from "../../src/system/crypto.js";
import { CookieGenerator, cookieKeyOf, sealCookieReply } from "../../src/wireguard/cookie.js";
import { LocalIdentity } from "../../src/wireguard/identity.js";
import {
  encodeCookieReply,
  encodeInitiation,
  encodeResponse,
  encodeTransport,
  macFields,
  parseMessage,
} from "../../src/wireguard/messages.js";
import {
  consumeResponse,
  createInitiation,
  createResponse,
  finishInitiation,
  receiveInitiation,
} from "../../src/wireguard/noise.js";
import { HandshakeReceiver } from "../../src/wireguard/receiver.js";
import { Tai64nClock } from "../../src/wireguard/tai64n.js";
import { hex, repeated } from "../support/hex.js";
import { readCapture } from "../support/pcap.js";
import { seededRandom } from "../support/random.js";
import { readJsonLines, vectorPath, vectorSkip } from "../support/vectors.js";

const initiator = new LocalIdentity(repeated(1, 32), nodeCrypto);
const responder = new LocalIdentity(repeated(2, 32), nodeCrypto);
const presharedKey = repeated(5, 32);
const initiatorIndex = 0x0000_0101;
const responderIndex = 0x0000_0201;
const UNIX_TIME = 1_724_716_800_500;

const INITIATION = hex(`
  01000000010100005dfedd3b6bd47f6fa28ee15d969d5bb0ea53774d488bdaf9df1c6e0124b3ef22
  0a26599fb2188bb723276fc173af67616c817fc32fd04d686d87ec152fac10eed2bda3bb3b6f1eded697768408228
  4d817fb46b3aa058dcca0ea5bd68603ddd315373ba1a8329950780029a85dd0120063f6f05fca26442683a7bca7
  00000000000000000000000000000000`);
const RESPONSE = hex(`
  020000000102000001010000ac01b2209e86354fb853237b5de0f4fab13c7fcbf433a61c019369617fecf10b
  7c309827aab7c6ec11b593a8890f4bc881c75925a9716cc46edc7bff4e1dc56500000000000000000000000000000000`);
const COOKIE_REPLY = hex(`
  0300000001010000000102030405060708090a0b0c0d0e0f1011121314151617
  1482913382834c0bf80e64dbbac74feb73d26aaf7ed501f853656301c3604e86`);

function staticStatic(own: LocalIdentity, other: LocalIdentity): Uint8Array {
  const secret = nodeCrypto.x25519(own.privateKey, other.publicKey);
  assert.ok(secret);
  return secret;
}

function initiate() {
  const initiation = createInitiation(nodeCrypto, {
    identity: initiator,
    remotePublicKey: responder.publicKey,
    staticStatic: staticStatic(initiator, responder),
    ephemeralPrivateKey: repeated(3, 32),
    localIndex: initiatorIndex,
    timestamp: new Tai64nClock(0, UNIX_TIME).stamp(0),
  });
  assert.ok(initiation);
  new CookieGenerator(responder.publicKey, nodeCrypto).addMacs(initiation.message, initiatorIndex, 0);
  return initiation;
}

function respond(datagram: Uint8Array) {
  const message = parseMessage(datagram);
  assert.ok(message?.type === "initiation");
  const received = receiveInitiation(nodeCrypto, responder, message);
  assert.ok(typeof received !== "string");
  assert.deepEqual(received.staticPublicKey, initiator.publicKey);
  const authenticated = finishInitiation(nodeCrypto, received, staticStatic(responder, initiator));
  assert.ok(typeof authenticated !== "string");
  const { timestamp } = authenticated;
  const response = createResponse(nodeCrypto, authenticated, {
    presharedKey,
    ephemeralPrivateKey: repeated(4, 32),
    localIndex: responderIndex,
  });
  assert.ok(response);
  new CookieGenerator(initiator.publicKey, nodeCrypto).addMacs(response.message, responderIndex, 0);
  return { ...response, timestamp };
}

function seal(key: Uint8Array, counter: bigint, receiverIndex: number, packet: Uint8Array): Uint8Array {
  const nonce = new Uint8Array(12);
  viewOf(nonce).setBigUint64(4, counter, true);
  const encryptedPacket = nodeCrypto.chacha20Poly1305Seal(key, nonce, packet, new Uint8Array());
  return encodeTransport({ receiverIndex, counter, encryptedPacket });
}

test("spec 02, 11.5: public keys and timestamp", () => {
  const publicKeys = [1, 2, 3, 4].map((byte) => toHex(nodeCrypto.x25519PublicKey(repeated(byte, 32))));
  assert.deepEqual(publicKeys, [
    "a4e09292b651c278b9772c569f5fa9bb13d906b46ab68c9df9dc2b4409f8a209",
    "ce8d3ad1ccb633ec7b70c17814a5c76ecd029685050d344745ba05870e587d59",
    "5dfedd3b6bd47f6fa28ee15d969d5bb0ea53774d488bdaf9df1c6e0124b3ef22",
    "ac01b2209e86354fb853237b5de0f4fab13c7fcbf433a61c019369617fecf10b",
  ]);
  assert.equal(toHex(new Tai64nClock(0, UNIX_TIME).stamp(0)), "4000000066cd17251dcd6500");
});

test("spec 02, 11.5: initiation, and the state after it", () => {
  const { message, state } = initiate();
  assert.equal(toHex(message), toHex(INITIATION));
  assert.equal(toHex(state.symmetric.chainingKey), "4696b0ed00cff9c62cf447eb5f9c899d508e66b889a8cef23c4ae5c60f902b5e");
  assert.equal(toHex(state.symmetric.hash), "a95e5481a6f16011121661e5161be84b7e0905dd2f647e93036b40c26e241bc1");
});

test("spec 02, 11.5: response, session keys on both sides, and transport messages", () => {
  const { message, keys, timestamp } = respond(INITIATION);
  assert.equal(toHex(timestamp), "4000000066cd17251dcd6500");
  assert.equal(toHex(message), toHex(RESPONSE));

  const response = parseMessage(RESPONSE);
  assert.ok(response?.type === "response");
  const initiatorKeys = consumeResponse(nodeCrypto, initiate().state, initiator, presharedKey, response);
  assert.ok(typeof initiatorKeys !== "string");
  assert.equal(toHex(initiatorKeys.sendKey), "a18cc809fd05b6b5f99644cf506f89dce368c2f54a9dbeb9a384f36c274317ef");
  assert.equal(toHex(initiatorKeys.receiveKey), "b1aa1b797d3a45da97552b8084ade493aa767f15af95854bc86557f6dacd851d");
  assert.deepEqual(keys, { sendKey: initiatorKeys.receiveKey, receiveKey: initiatorKeys.sendKey });

  const packet = hex("4500002000000000401100006440000164600001162e0017000c000000010203");
  assert.equal(
    toHex(seal(initiatorKeys.sendKey, 0n, responderIndex, new Uint8Array())),
    "040000000102000000000000000000002573d3030aabba0c616df8e5a1bab60b",
  );
  assert.equal(
    toHex(seal(initiatorKeys.sendKey, 1n, responderIndex, packet)),
    "04000000010200000100000000000000bff40fa8ad16255233a73db492b85214475a5f5af43f590100a5e13645a85151" +
      "d4dd7f1e8097be28af986edc438ad042",
  );
  assert.equal(
    toHex(seal(keys.sendKey, 0n, initiatorIndex, packet)),
    "04000000010100000000000000000000679b62edf85a670b647dcec99d3d7d861cda08af9a34e8c7a89a8e76896351ea" +
      "a2cd6d584296182a2473833dd5dc8034",
  );
});

test("spec 02, 11.5 and 15.6.7: cookie reply, and mac2 under the cookie", () => {
  const cookie = repeated(6, 16);
  const nonce = Uint8Array.from({ length: 24 }, (_, i) => i);
  const { mac1 } = macFields(INITIATION);
  assert.equal(toHex(mac1), "5dd0120063f6f05fca26442683a7bca7");
  const cookieKey = cookieKeyOf(responder.publicKey);
  const reply = sealCookieReply(nodeCrypto, { cookieKey, receiverIndex: initiatorIndex, nonce, cookie, mac1 });
  assert.equal(toHex(reply), toHex(COOKIE_REPLY));

  const generator = new CookieGenerator(responder.publicKey, nodeCrypto);
  const datagram = INITIATION.slice();
  generator.addMacs(datagram, initiatorIndex, 0);
  const message = parseMessage(COOKIE_REPLY);
  assert.ok(message?.type === "cookie-reply");
  assert.equal(generator.consumeReply(message, 1000), undefined);
  generator.addMacs(datagram, initiatorIndex, 2000);
  assert.equal(toHex(macFields(datagram).mac2), "65c56e6acf9941e9220bf7ce7c5315d9");
});

test("spec 02, 11.3: any changed bit of an initiation or response is noticed", () => {
  const receiver = new HandshakeReceiver({ identity: responder, crypto: nodeCrypto, random: seededRandom(1) });
  const source = new SocketAddress(IpAddress.fromBytes(Uint8Array.of(192, 0, 2, 1)), 51820);
  for (let bit = 0; bit < 116 * 8; bit += 5) {
    const changed = INITIATION.slice();
    changed[bit >> 3] = (changed[bit >> 3] ?? 0) ^ (1 << (bit & 7));
    // Without valid macs it goes no further; an attacker who knows our public key can make mac1.
    assert.equal(receiver.admit(changed, source, bit * 1000).type, "rejected");
    new CookieGenerator(responder.publicKey, nodeCrypto).addMacs(changed, initiatorIndex, 0);
    const admission = receiver.admit(changed, source, bit * 1000);
    if (admission.type === "rejected") continue;
    assert.ok(admission.type === "sealed-initiation", admission.type);
    const opened = receiver.open(admission.message);
    if (typeof opened === "string") continue;
    const finished = finishInitiation(nodeCrypto, opened, staticStatic(responder, initiator));
    // Two kinds of bits are not authenticated: the sender index, and the top bit of the ephemeral key, which X25519 ignores (but
    // the transcript does not).
    const isSenderIndex = bit >= 32 && bit < 64;
    assert.equal(typeof finished === "string", !isSenderIndex, `bit ${bit}`);
  }
  for (let bit = 12 * 8; bit < 60 * 8; bit += 3) {
    const changed = RESPONSE.slice();
    changed[bit >> 3] = (changed[bit >> 3] ?? 0) ^ (1 << (bit & 7));
    const message = parseMessage(changed);
    assert.ok(message?.type === "response");
    const { state } = initiate();
    assert.equal(typeof consumeResponse(nodeCrypto, state, initiator, presharedKey, message), "string", `bit ${bit}`);
  }
});

test("spec 02, 11.2: messages parse and come out the same; other types, reserved bits and lengths do not parse", () => {
  const keepalive = hex("040000000102000000000000000000002573d3030aabba0c616df8e5a1bab60b");
  for (const [datagram, type] of [
    [INITIATION, "initiation"],
    [RESPONSE, "response"],
    [COOKIE_REPLY, "cookie-reply"],
    [keepalive, "transport"],
  ] as const) {
    const message = parseMessage(datagram);
    assert.equal(message?.type, type);
    const again = datagram.slice();
    switch (message?.type) {
      case "initiation":
        again.set(encodeInitiation(message).subarray(0, 116));
        break;
      case "response":
        again.set(encodeResponse(message).subarray(0, 60));
        break;
      case "cookie-reply":
        again.set(encodeCookieReply(message));
        break;
      case "transport":
        assert.equal(message.counter, 0n);
        again.set(encodeTransport(message));
        break;
    }
    assert.deepEqual(again, datagram);

    assert.equal(parseMessage(datagram.subarray(0, datagram.length - 1)), undefined, `${type}, one byte short`);
    if (type !== "transport") assert.equal(parseMessage(concatBytes(datagram, Uint8Array.of(0))), undefined);
    for (const reserved of [1, 2, 3]) {
      const changed = datagram.slice();
      changed[reserved] = 1;
      assert.equal(parseMessage(changed), undefined, `${type}, reserved byte ${reserved}`);
    }
  }
  for (const type of [0, 5, 255]) {
    const changed = INITIATION.slice();
    changed[0] = type;
    assert.equal(parseMessage(changed), undefined);
  }
});

test("field notes, 4.3: truncated, oversized and random datagrams never throw", () => {
  const random = seededRandom(4);
  const receiver = new HandshakeReceiver({ identity: responder, crypto: nodeCrypto, random });
  const source = new SocketAddress(IpAddress.fromBytes(Uint8Array.of(192, 0, 2, 1)), 51820);
  for (let round = 0; round < 3000; round++) {
    const length = (random.bytes(1)[0] ?? 0) + (round % 50 === 0 ? 65_000 : 0);
    const datagram = random.bytes(length);
    if (length >= 4 && round % 2 === 0) datagram.set([1 + (round % 4), 0, 0, 0]);
    const { type } = receiver.admit(datagram, source, round);
    assert.ok(type === "rejected" || type === "cookie-reply", type);
  }
});

test("TAI64N timestamps grow strictly, whatever time does", () => {
  const clock = new Tai64nClock(100, UNIX_TIME);
  const stamps = [100, 100, 99, 100.0005, 101, 5000].map((now) => toHex(clock.stamp(now)));
  assert.deepEqual(stamps, [...stamps].sort());
  assert.equal(new Set(stamps).size, stamps.length);
  assert.equal(stamps[0], "4000000066cd17251dcd6500");
  assert.equal(stamps[5], "4000000066cd172a17d78400");
});

for (const name of ["direct", "relayed"]) {
  const files = [`recorded-2024/${name}.pcap`, `recorded-2024/${name}.jsonl`];
  test(`recorded exchange, ${name}: every handshake message is for client or gateway by its mac1`, {
    skip: vectorSkip(...files),
  }, () => {
    const publicKeys = new Set<string>();
    for (const line of readJsonLines(`recorded-2024/${name}.jsonl`)) {
      const { uri } = (line["request"] ?? {}) as { uri?: string };
      const key = uri && new URL(uri).searchParams.get("public_key");
      if (key) publicKeys.add(key);
    }
    assert.equal(publicKeys.size, 2);
    const receivers = [...publicKeys].map((key) => new Mac1Check(Buffer.from(key, "base64")));
    const counts: Record<string, number> = {};
    for (const datagram of readCapture(vectorPath(`recorded-2024/${name}.pcap`))) {
      const payload = withoutChannelHeader(datagram.payload);
      const message = parseMessage(payload);
      if (message === undefined) continue;
      counts[message.type] = (counts[message.type] ?? 0) + 1;
      if (message.type !== "initiation" && message.type !== "response") continue;
      assert.equal(receivers.filter((receiver) => receiver.accepts(payload)).length, 1, `${datagram.time}`);
    }
    assert.ok((counts["initiation"] ?? 0) >= 2 && (counts["response"] ?? 0) >= 2, JSON.stringify(counts));
    assert.ok((counts["transport"] ?? 0) > 10, JSON.stringify(counts));
    assert.equal(counts["cookie-reply"], undefined);
  });
}

/** Checks mac1 for a public key alone: the recorded private keys are not known. */
class Mac1Check {
  readonly #publicKey: Uint8Array;

  constructor(publicKey: Uint8Array) {
    this.#publicKey = publicKey;
  }

  accepts(datagram: Uint8Array): boolean {
    const again = datagram.slice();
    new CookieGenerator(this.#publicKey, nodeCrypto).addMacs(again, 0, 0);
    return toHex(macFields(again).mac1) === toHex(macFields(datagram).mac1);
  }
}

/** The payload of TURN channel data (RFC 8656, section 12.4), or the datagram itself. */
function withoutChannelHeader(datagram: Uint8Array): Uint8Array {
  const first = datagram[0] ?? 0;
  if (first < 0x40 || first > 0x4f) return datagram;
  return datagram.subarray(4, 4 + viewOf(datagram).getUint16(2));
}
