// Which messages an agent takes: only those that are for it, from the other side, and authentic.

import assert from "node:assert/strict";
import { test } from "node:test";
import { type AcceptanceRules, acceptMessage } from "../../src/ice/acceptance.js";
import { buildRequest, buildResponse } from "../../src/ice/check-messages.js";
import type { IceCredentials } from "../../src/ice/credentials.js";
import { shortTermKey } from "../../src/stun/integrity.js";
import { parseStunMessage, type StunMessage } from "../../src/stun/message.js";
import { nodeCrypto } from "../../src/system/crypto.js";
import { at } from "../support/turn.js";

const US: IceCredentials = { username: "usus", password: "our password of this agent" };
const THEM: IceCredentials = { username: "them", password: "their password of that agent" };
const STRANGER: IceCredentials = { username: "else", password: "a password of somebody else" };
const ID = new Uint8Array(12).fill(7);

function party({ username, password }: IceCredentials) {
  return { username, key: shortTermKey(password) };
}

function parsed(datagram: Uint8Array): StunMessage {
  const message = parseStunMessage(datagram);
  assert.ok(typeof message !== "string");
  return message;
}

/** A check that `from` sends to whom it believes to be `to`. */
function check(from: IceCredentials, to: IceCredentials, useCandidate = false): StunMessage {
  const tieBreaker = new Uint8Array(8);
  const request = {
    transactionId: ID,
    local: from,
    remote: to,
    role: "controlling",
    tieBreaker,
    priority: 77,
  } as const;
  return parsed(buildRequest({ ...request, useCandidate }, nodeCrypto));
}

function accepts(message: StunMessage, rules: Partial<AcceptanceRules> = {}) {
  const both = { local: party(US), remote: party(THEM), isAwaited: () => true };
  return acceptMessage(message, { ...both, ...rules }, nodeCrypto);
}

test("a check is taken from the other side, or from whoever knows our password while the other side is not known", () => {
  const expected = { type: "request", transactionId: ID, sender: "them", priority: 77, useCandidate: false };
  assert.deepEqual(accepts(check(THEM, US)), expected);
  assert.deepEqual(accepts(check(THEM, US, true)), { ...expected, useCandidate: true });
  assert.equal(accepts(check(STRANGER, US)), undefined, "another sender");
  assert.deepEqual(accepts(check(STRANGER, US), { remote: undefined }), { ...expected, sender: "else" });
  assert.equal(accepts(check(THEM, { ...US, username: "else" })), undefined, "for another agent");
  assert.equal(accepts(check(THEM, { ...US, password: "guessed" })), undefined, "another password");
});

test("an answer is taken to a check that waits, signed by the other side", () => {
  const answer = (by: IceCredentials) => parsed(buildResponse(ID, at("203.0.113.7:1"), by, nodeCrypto));
  const transaction = answer(THEM).transactionKey;
  const awaited: string[] = [];
  const isAwaited = (id: string) => awaited.push(id) > 0;
  assert.deepEqual(accepts(answer(THEM), { isAwaited }), { type: "response", transaction });
  assert.deepEqual(awaited, [transaction]);
  assert.equal(accepts(answer(THEM), { isAwaited: () => false }), undefined, "nothing waits");
  assert.equal(accepts(answer(STRANGER)), undefined, "another password");
  assert.equal(accepts(answer(THEM), { remote: undefined }), undefined, "nobody was asked");
});
