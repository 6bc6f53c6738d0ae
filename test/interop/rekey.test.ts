// Sessions are renewed while traffic flows and nothing is lost (spec 02, sections 11.7 and 11.8): with every program of others, on both
// sides of the first handshake, all at the same time, since renewal comes after 120 s.

import assert from "node:assert/strict";
import { afterEach, test } from "node:test";
import { otherPrograms, programSkip, wirelane } from "../support/wireguard-programs.js";
import { cleanUp, configure, OUTER, PORT, type Side, show, twoSides } from "../support/wireguard-sides.js";

afterEach(cleanUp);

/** REKEY_AFTER_TIME of 120 s, the jitter of all implementations, and time to see packets on the new session; in seconds. */
const DURATION = 128;
/** Echo requests per second. */
const RATE = 20;
/** Age in seconds up to which the last handshake must be the second one: well below {@link DURATION}. */
const RENEWED_WITHIN = 60;

const pairs = otherPrograms.flatMap((other) =>
  (["initiator", "responder"] as const).map((role) => ({ other, role, title: `${other.name}, wirelane as ${role}` })),
);

test(`a rekey under traffic loses nothing: ${pairs.map(({ title }) => title).join("; ")}`, {
  skip: programSkip(...otherPrograms),
  timeout: (DURATION + 60) * 1000,
}, async (context) => {
  const runs = [];
  for (const { other, role, title } of pairs) {
    const [ours, theirs] = await twoSides([wirelane, other]);
    const [initiator, responder] = role === "initiator" ? [ours, theirs] : [theirs, ours];
    await configure(responder, initiator);
    await configure(initiator, responder, [`Endpoint = ${OUTER[4][responder.number - 1]}:${PORT}`]);
    runs.push({ title, ours, initiator, responder });
  }
  const results = await Promise.all(
    runs.map(async ({ title, ours, initiator, responder }) => ({
      title,
      lost: await watch(initiator, responder),
      age: await handshakeAge(ours),
    })),
  );
  for (const { title, lost, age } of results) {
    context.diagnostic(`${title}: ${lost} lost, last handshake ${age} s ago`);
    assert.equal(lost, 0, `${title}: echo requests lost`);
    assert.ok(age <= RENEWED_WITHIN, `${title}: the session was not renewed, its handshake is ${age} s old`);
  }
});

/** Sends echo requests all the time; returns how many went unanswered. */
async function watch(from: Side, to: Side): Promise<number> {
  const count = DURATION * RATE;
  const args = ["-q", "-c", String(count), "-i", String(1 / RATE), "-W", "5", `10.77.0.${to.number}`];
  const { stdout } = await from.host.run("ping", args, { timeout: (DURATION + 30) * 1000, allowFailure: true });
  const [, received] = /(\d+) received/.exec(stdout) ?? [];
  return count - Number(received);
}

/** Seconds since the last handshake of our device: boringtun says something else under that name. */
async function handshakeAge(side: Side): Promise<number> {
  const [, handshake] = await show(side, "latest-handshakes");
  return Math.round(Date.now() / 1000 - Number(handshake));
}
