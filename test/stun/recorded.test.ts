// Every STUN message that the programs of 2024 exchanged parses, and what it is authenticated with verifies.

import assert from "node:assert/strict";
import { test } from "node:test";
import { toHex } from "../../src/base/bytes.js";
import { AttributeError } from "../../src/stun/attribute.js";
import {
  ErrorCodeAttribute,
  Fingerprint,
  MessageIntegrity,
  Username,
  XorMappedAddress,
} from "../../src/stun/attributes.js";
import { verifyFingerprint } from "../../src/stun/fingerprint.js";
import { Method } from "../../src/stun/header.js";
import { longTermKey, shortTermKey, verifyIntegrity } from "../../src/stun/integrity.js";
import { parseStunMessage, StunMessage } from "../../src/stun/message.js";
import { nodeCrypto } from "../../src/system/crypto.js";
import { RECORDINGS, recordedDatagrams, recordedPasswords, recordingSkip } from "../support/recorded.js";
import { ALL_ATTRIBUTES } from "../support/stun-samples.js";

for (const name of RECORDINGS) {
  test(`recorded ${name}: every STUN message parses, decodes and verifies`, { skip: recordingSkip }, () => {
    const passwords = recordedPasswords(name);
    const iceKeys = new Map<string, Uint8Array>();
    const counts = { ice: 0, iceRelayed: 0, turnAuthenticated: 0, other: 0 };
    for (const { payload, relayed } of recordedDatagrams(name)) {
      const message = parseStunMessage(payload);
      if (!(message instanceof StunMessage)) {
        // Everything else is WireGuard: a type from 1 to 4 and three zero bytes.
        assert.match(toHex(payload.subarray(0, 4)), /^0[1-4]000000$/);
        continue;
      }
      for (const attribute of ALL_ATTRIBUTES)
        assert.ok(!(message.decode(attribute) instanceof AttributeError), `${attribute.name} decodes`);
      const username = message.get(Username);
      if (message.has(Fingerprint)) {
        // ICE: the key is the password of whoever receives the request and sends the response.
        assert.equal(verifyFingerprint(message), true);
        if (message.class === "request") {
          const password = passwords.get(username?.split(":")[0] ?? "");
          assert.ok(password !== undefined, `known user fragment: ${username}`);
          iceKeys.set(message.transactionKey, shortTermKey(password));
        } else assert.ok(message.has(XorMappedAddress));
        const key = iceKeys.get(message.transactionKey);
        // Of a relayed exchange, the request is not in the capture when it went from one allocation to another inside the relay.
        if (key === undefined) {
          assert.ok([...passwords.values()].some((value) => verifyIntegrity(message, shortTermKey(value), nodeCrypto)));
        } else assert.ok(verifyIntegrity(message, key, nodeCrypto));
        if (relayed) counts.iceRelayed++;
        else counts.ice++;
      } else if (message.has(MessageIntegrity)) {
        assert.ok(username !== undefined);
        const password = passwords.get(username);
        assert.ok(password !== undefined, `known TURN user: ${username}`);
        assert.ok(verifyIntegrity(message, longTermKey(username, "firezone", password, nodeCrypto), nodeCrypto));
        counts.turnAuthenticated++;
      } else {
        // Binding to the relay, and the relay's answers, which carry no integrity.
        if (message.class === "error") assert.equal(message.get(ErrorCodeAttribute)?.code, 401);
        else if (message.class === "request") assert.equal(message.method, Method.Binding);
        counts.other++;
      }
    }
    assert.ok(counts.ice + counts.iceRelayed > 100, JSON.stringify(counts));
    assert.ok(counts.turnAuthenticated > 4 && counts.other > 4, JSON.stringify(counts));
    if (name === "relayed") assert.ok(counts.iceRelayed > 50, JSON.stringify(counts));
  });
}
