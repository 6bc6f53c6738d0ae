// `wirelane wg` with the WireGuard programs of others: handshakes both ways, over IPv4 and IPv6, and data in both directions.

import assert from "node:assert/strict";
import { afterEach, test } from "node:test";
import { otherPrograms, programSkip, wg, wirelane } from "../support/wireguard-programs.js";
import { cleanUp, configure, OUTER, PORT, ping, show, transfer, twoSides } from "../support/wireguard-sides.js";

afterEach(cleanUp);

for (const other of otherPrograms) {
  for (const family of [4, 6] as const) {
    for (const role of ["initiator", "responder"] as const) {
      const title = `${other.name} over IPv${family}, wirelane as ${role}`;
      test(title, { skip: programSkip(other), timeout: 90_000 }, async () => {
        const [ours, theirs] = await twoSides([wirelane, other]);
        const [initiator, responder] = role === "initiator" ? [ours, theirs] : [theirs, ours];
        // Only the initiator knows where the other is; the responder learns it.
        await configure(responder, initiator);
        await configure(initiator, responder, [`Endpoint = ${OUTER[family][responder.number - 1]}:${PORT}`]);
        await ping(initiator, responder);
        await ping(responder, initiator, "-s", "1300");
        await transfer(initiator, responder, `10.77.0.${responder.number}`);
        await transfer(responder, initiator, `2001:db8:77::${initiator.number}`);

        assert.equal((await show(responder, "endpoints"))[1], `${OUTER[family][initiator.number - 1]}:${PORT}`);
        for (const side of [ours, theirs]) {
          const [, received, sent] = await show(side, "transfer");
          assert.ok(Number(received) > 4_000_000 && Number(sent) > 4_000_000, `${received} ${sent}`);
        }
        const [, handshake] = await show(ours, "latest-handshakes");
        assert.ok(Math.abs(Number(handshake) - Date.now() / 1000) < 60, `latest handshake ${handshake}`);
      });
    }
  }
}

test("wirelane with itself: data both ways, and a peer that changes its port is found again", {
  skip: programSkip(),
  timeout: 90_000,
}, async () => {
  const [one, two] = await twoSides([wirelane, wirelane]);
  await configure(two, one);
  await configure(one, two, [`Endpoint = ${OUTER[4][1]}:${PORT}`]);
  await ping(one, two);
  await transfer(two, one, "10.77.0.1");

  // Roaming: the responder learns the new port from the next data, without a handshake.
  const [, before] = await show(two, "latest-handshakes");
  await wg(one.host, ["set", one.device, "listen-port", "44444"]);
  await ping(one, two);
  assert.equal((await show(two, "endpoints"))[1], `${OUTER[4][0]}:44444`);
  await ping(two, one);
  assert.equal((await show(two, "latest-handshakes"))[1], before);
});

test("a packet from an address that the peer may not use does not come through", {
  skip: programSkip(),
  timeout: 60_000,
}, async () => {
  const [one, two] = await twoSides([wirelane, wirelane]);
  await configure(two, one);
  await configure(one, two, [`Endpoint = ${OUTER[4][1]}:${PORT}`]);
  await ping(one, two);
  await one.host.run("ip", ["address", "add", "10.77.0.99/32", "dev", one.device]);
  const spoofed = await one.host.run("ping", ["-c", "2", "-i", "0.1", "-W", "1", "-I", "10.77.0.99", "10.77.0.2"], {
    allowFailure: true,
  });
  assert.notEqual(spoofed.status, 0);
  await ping(one, two);
});
