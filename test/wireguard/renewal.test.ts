// When a session is replaced by a new one: by age and use.

import assert from "node:assert/strict";
import { test } from "node:test";
import { renewalDue } from "../../src/wireguard/renewal.js";
import type { Session } from "../../src/wireguard/session.js";

/** Not a full millisecond: the datapath's stamps are. */
const START = 1000.7;
const NEVER = Number.NEGATIVE_INFINITY;
const UNUSED = { sentAt: NEVER, sentDataAt: NEVER, receivedDataAt: NEVER };
const SESSION: Session = { localIndex: 1, role: "initiator", establishedAt: START };

test("whitepaper, 6.2: a session is renewed by its initiator, by age, and only when it is used", () => {
  for (const [use, age] of [
    [{}, undefined],
    [{ sentAt: 1000 }, undefined],
    [{ sentAt: 120_999 }, undefined],
    [{ sentAt: 121_000 }, 120_000],
    [{ sentDataAt: 999, receivedDataAt: 999 }, undefined],
    [{ sentDataAt: 1000 }, 120_000],
    [{ receivedDataAt: 1000 }, 165_000],
    [{ sentDataAt: 1000, receivedDataAt: 1000 }, 120_000],
  ] as const) {
    const due = renewalDue(SESSION, { ...UNUSED, ...use }, 333);
    assert.equal(due, age === undefined ? undefined : START + age + 333, JSON.stringify(use));
  }
  const used = { sentAt: 2000, sentDataAt: 2000, receivedDataAt: 2000 };
  assert.equal(renewalDue({ ...SESSION, role: "responder" }, used, 0), undefined);
  assert.equal(renewalDue(undefined, used, 0), undefined);
});
