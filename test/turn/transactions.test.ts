// Requests that wait by themselves: what a relay may ask for before they are answered, and what is given up.

import assert from "node:assert/strict";
import { test } from "node:test";
import type { SocketAddress } from "../../src/base/address.js";
import type { Crypto } from "../../src/base/crypto.js";
import type { Transmit } from "../../src/base/state-machine.js";
import { SECOND } from "../../src/base/time.js";
import { ErrorCodeAttribute, Nonce } from "../../src/stun/attributes.js";
import { StunBuilder } from "../../src/stun/builder.js";
import { ErrorCode } from "../../src/stun/error-code.js";
import { parseStunMessage, type StunMessage } from "../../src/stun/message.js";
import { nodeCrypto } from "../../src/system/crypto.js";
import type { TurnRequest } from "../../src/turn/allocation/requests.js";
import { Transactions } from "../../src/turn/allocation/transactions.js";
import { seededRandom } from "../support/random.js";
import { at } from "../support/turn.js";

const SERVER: SocketAddress = at("198.51.100.1:3478");
const ALLOCATE: TurnRequest = { type: "allocate" };
const BINDING: TurnRequest = { type: "binding" };

function transactionsWithWire(crypto: Crypto = nodeCrypto): { it: Transactions; takeSent: () => StunMessage[] } {
  const sent: Transmit[] = [];
  const it = new Transactions({
    credentials: { username: "alice", password: "secret", realm: "example" },
    random: seededRandom(1),
    crypto,
    software: "test",
    transmit: (transmit) => sent.push(transmit),
  });
  const takeSent = () => sent.splice(0).map(({ payload }) => parsed(payload));
  return { it, takeSent };
}

function parsed(datagram: Uint8Array): StunMessage {
  const message = parseStunMessage(datagram);
  assert.ok(typeof message !== "string");
  return message;
}

function challenge(request: StunMessage, nonce: string): StunMessage {
  const answer = new StunBuilder("error", request.method, request.transactionId);
  return parsed(answer.add(ErrorCodeAttribute, ErrorCode.StaleNonce).add(Nonce, nonce).finish());
}

test("a request follows five nonces, and fails with the sixth", () => {
  const { it, takeSent } = transactionsWithWire();
  it.send(ALLOCATE, SERVER, 0);
  for (let i = 0; i < 5; i++) {
    const [request] = takeSent();
    assert.ok(request);
    assert.deepEqual(it.handleInput(challenge(request, `nonce ${i}`), 0), { type: "continued" });
  }
  const [last] = takeSent();
  assert.equal(last?.get(Nonce), "nonce 4");
  assert.ok(last);
  assert.deepEqual(it.handleInput(challenge(last, "nonce 5"), 0), { type: "failed", failure: "protocol" });
  assert.equal(it.isWaitingFor("allocate"), false);
  assert.deepEqual(takeSent(), []);
});

test("what is forgotten while a request is given up is neither repeated nor given up itself", () => {
  const { it, takeSent } = transactionsWithWire();
  it.send({ type: "refresh", isProbe: true }, SERVER, 0);
  it.send(ALLOCATE, SERVER, 0);
  it.send(BINDING, SERVER, 0);
  const [, , binding] = takeSent();
  const given: string[] = [];
  it.handleTimeout(SECOND, ({ type }) => {
    given.push(type);
    it.forgetAllButBindings();
  });
  assert.deepEqual(given, ["refresh"]);
  assert.deepEqual(
    takeSent().map(({ method }) => method),
    [binding?.method],
  );
  assert.equal(it.isWaitingFor("allocate", "refresh"), false);
  assert.equal(it.isWaitingFor("binding"), true);
});

test("when it is closed nothing waits any more, and of the key nothing is left", () => {
  const keys: Uint8Array[] = [];
  const md5 = (message: Uint8Array) => {
    const key = nodeCrypto.md5(message);
    keys.push(key);
    return key;
  };
  const { it } = transactionsWithWire({ ...nodeCrypto, md5 });
  it.send(ALLOCATE, SERVER, 0);
  assert.deepEqual(keys, [nodeCrypto.md5(new TextEncoder().encode("alice:example:secret"))]);
  it.close();
  assert.equal(it.isWaitingFor("allocate"), false);
  assert.deepEqual(keys, [new Uint8Array(16)]);
});
