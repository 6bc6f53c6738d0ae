// What a request proves, and what the answer to one that proves nothing is signed with (RFC 8489, section 9.2.4; spec 03, section 3.4).

import assert from "node:assert/strict";
import { test } from "node:test";
import { Nonce, Realm, Username } from "../../src/stun/attributes.js";
import { StunBuilder } from "../../src/stun/builder.js";
import { Method } from "../../src/stun/header.js";
import { longTermKey } from "../../src/stun/integrity.js";
import { parseStunMessage, type StunMessage } from "../../src/stun/message.js";
import { nodeCrypto } from "../../src/system/crypto.js";
import { fixedUsers } from "../../src/turn/credentials.js";
import { Authenticator } from "../../src/turn/server/authentication.js";
import { NONCE_LIFETIME } from "../../src/turn/server/nonces.js";
import { seededRandom } from "../support/random.js";
import { at } from "../support/turn.js";

const CLIENT = at("203.0.113.7:51820");
const KEY = longTermKey("alice", "example", "secret", nodeCrypto);
const OTHER_KEY = longTermKey("alice", "example", "wrong", nodeCrypto);

function message(stunClass: "request" | "error", add: (message: StunBuilder) => void, key?: Uint8Array): StunMessage {
  const builder = new StunBuilder(stunClass, Method.Refresh, new Uint8Array(12));
  add(builder);
  if (key !== undefined) builder.addIntegrity(key, nodeCrypto);
  const parsed = parseStunMessage(builder.finish());
  assert.ok(typeof parsed !== "string");
  return parsed;
}

function authenticator(): { authenticator: Authenticator; nonce: string } {
  const users = [fixedUsers([{ name: "alice", password: "secret" }], "example", nodeCrypto)];
  const authenticator = new Authenticator(users, seededRandom(1), nodeCrypto);
  const { explain } = authenticator.challenge(
    message("request", () => undefined),
    undefined,
    CLIENT,
    0,
  );
  const answer = message("error", explain);
  assert.equal(answer.get(Realm), "example");
  return { authenticator, nonce: answer.get(Nonce) ?? assert.fail("no nonce") };
}

test("a request is its user's with integrity, user name and a nonce for its sender that holds, and only then", () => {
  const { authenticator: it, nonce } = authenticator();
  const request = (username: string, usedNonce: string | undefined, key: Uint8Array | undefined) =>
    message(
      "request",
      (builder) => {
        builder.add(Username, username);
        if (usedNonce !== undefined) builder.add(Nonce, usedNonce);
      },
      key,
    );
  const resultOf = (sent: StunMessage, client = CLIENT, now = 0) => {
    const result = it.authenticate(sent, client, now, 0);
    return result.type === "accepted" ? result.user.username : result.error.code;
  };
  const good = request("alice", nonce, KEY);
  assert.equal(resultOf(good), "alice");
  assert.equal(resultOf(good, CLIENT, NONCE_LIFETIME), 438, "too late");
  assert.equal(resultOf(good, at("203.0.113.7:51821")), 438, "the nonce is another client's");
  assert.equal(resultOf(request("alice", "none", KEY)), 401, "no nonce of a relay");
  assert.equal(resultOf(request("alice", undefined, KEY)), 401, "no nonce");
  assert.equal(resultOf(request("alice", nonce, undefined)), 401, "no integrity");
  assert.equal(resultOf(request("alice", nonce, undefined), CLIENT, NONCE_LIFETIME), 401, "the first failure decides");
  assert.equal(resultOf(request("alice", nonce, OTHER_KEY)), 401, "another password");
  assert.equal(resultOf(request("bob", nonce, KEY)), 401, "no such user");
});

test("a challenge is signed for whoever can verify it", () => {
  const { authenticator: it } = authenticator();
  const keyFor = (username: string, key: Uint8Array | undefined) => {
    const request = message("request", (builder) => builder.add(Username, username), key);
    const result = it.authenticate(request, CLIENT, 0, 0);
    assert.ok(result.type === "challenged");
    return it.challenge(request, result.claimed, CLIENT, 0).key;
  };
  assert.deepEqual(keyFor("alice", undefined), KEY, "nothing says that its key is another");
  assert.deepEqual(keyFor("alice", KEY), KEY);
  assert.equal(keyFor("alice", OTHER_KEY), undefined, "it would take the answer for a forgery");
  assert.equal(keyFor("bob", KEY), undefined);
});
