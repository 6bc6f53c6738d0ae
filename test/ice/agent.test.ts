// The ICE agent in simulated time: spec 02, sections 10 and 15.3.

import assert from "node:assert/strict";
import { test } from "node:test";
import type { SocketAddress } from "../../src/base/address.js";
import { type Candidate, candidatePriority } from "../../src/ice/candidate.js";
import { IDLE_CHECK_INTERVAL } from "../../src/ice/constants.js";
import { hostCandidate, relayCandidate, serverReflexiveCandidate } from "../../src/ice/local-candidate.js";
import { Priority, UseCandidate } from "../../src/stun/attributes.js";
import { parseStunMessage, type StunMessage } from "../../src/stun/message.js";
import { address, IceNetwork, type IceSide, LATENCY, type Sent } from "../support/ice-network.js";

const CLIENT = "192.0.2.1:1000";
const GATEWAY = "198.51.100.1:2000";

const messageOf = ({ payload }: Sent): StunMessage => {
  const message = parseStunMessage(payload);
  return typeof message === "string" ? assert.fail(message) : message;
};
const requests = (side: IceSide): Sent[] => side.sent.filter((sent) => messageOf(sent).class === "request");

/** Two hosts that see each other. */
function connected(): IceNetwork {
  const network = new IceNetwork();
  network.introduce();
  network.addHosts(network.client, CLIENT);
  network.addHosts(network.gateway, GATEWAY);
  network.run(network.now + 1000);
  assert.deepEqual([network.client.state, network.gateway.state], ["completed", "completed"]);
  return network;
}

test("spec 02, 15.3.1: local preferences of host candidates in the order of their addition", () => {
  const { client } = new IceNetwork();
  for (const text of ["192.0.2.1:1", "[2001:db8::1]:1", "[2001:db8::2]:1", "192.0.2.2:1"])
    client.agent.addLocalCandidate(hostCandidate(address(text)), 0);
  assert.deepEqual(
    client.agent.localCandidates.map(({ priority }) => priority),
    [65534, 65535, 65533, 65532].map((preference) => candidatePriority("host", preference)),
  );
});

test("spec 02, 15.3.2: a redundant candidate of lower priority is refused, one of higher priority replaces the old one", () => {
  const { client } = new IceNetwork();
  const own = address(CLIENT);
  assert.equal(client.agent.addLocalCandidate(relayCandidate(own), 0), true);
  assert.equal(client.agent.addLocalCandidate(hostCandidate(own), 0), true);
  assert.deepEqual(
    client.agent.localCandidates.map(({ kind }) => kind),
    ["host"],
  );
  assert.equal(client.agent.addLocalCandidate(relayCandidate(own), 0), false);
  assert.equal(client.agent.addLocalCandidate(hostCandidate(own), 0), false);
});

test("spec 02, 15.3.3: pairs only within one IP version, sorted; redundant ones merge; invalidated candidates form none", () => {
  const network = new IceNetwork();
  const { client } = network;
  network.introduce();
  network.addHosts(client, CLIENT, "[2001:db8::1]:1000");
  const remote = ["198.51.100.1:2000", "[2001:db8::2]:2000"].map((text) => hostCandidate(address(text)));
  for (const candidate of remote) client.agent.addRemoteCandidate(candidate, 0);
  assert.equal(client.agent.pairs.length, 2);
  assert.deepEqual(
    client.agent.pairs.map(({ local }) => local.candidate.address.family),
    [6, 4],
    "IPv6 goes first",
  );

  // The same address as a server-reflexive candidate too, as hosts without NAT signal it: the same way.
  const again = serverReflexiveCandidate(address(GATEWAY), address(GATEWAY));
  client.agent.addRemoteCandidate(again, 0);
  assert.equal(client.agent.pairs.length, 2);

  client.agent.removeRemoteCandidate(again, 0);
  assert.equal(client.agent.pairs.length, 2, "the host candidate still is that way");
  for (const candidate of remote) client.agent.removeRemoteCandidate(candidate, 0);
  assert.equal(client.agent.pairs.length, 0);
  network.addHosts(client, "192.0.2.9:1000");
  assert.equal(client.agent.pairs.length, 0, "with invalidated candidates there is nothing to pair");
});

test("spec 02, 15.3.3: a peer-reflexive candidate that is signalled later keeps its pair and its nomination", () => {
  const network = new IceNetwork();
  network.introduce();
  const { client, gateway } = network;
  network.addHosts(gateway, GATEWAY);
  network.own(client, CLIENT);
  client.agent.addLocalCandidate(hostCandidate(address(CLIENT)), network.now);
  network.run(network.now + 500);
  assert.equal(gateway.state, "completed");
  assert.deepEqual(
    gateway.agent.remoteCandidates.map(({ kind }) => kind),
    ["prflx"],
  );
  const [pair] = gateway.agent.pairs;

  gateway.agent.addRemoteCandidate(hostCandidate(address(CLIENT)), network.now);
  network.run(network.now + 500);
  assert.deepEqual(
    gateway.agent.remoteCandidates.map(({ kind }) => kind),
    ["host"],
  );
  assert.equal(gateway.agent.pairs.length, 1);
  assert.equal(gateway.agent.pairs[0], pair);
  assert.equal(pair?.nomination, "success");
  assert.equal(gateway.nominations.length, 1);
});

test("spec 02, 15.3.4: invalidation compares the kind", () => {
  const { client } = connected();
  const reflexive = serverReflexiveCandidate(address(CLIENT), address(CLIENT));
  assert.equal(client.agent.removeLocalCandidate(reflexive, 0), false);
  assert.equal(client.agent.localCandidates.length, 1);
});

test("spec 02, 15.3.5: no disconnection before any remote candidate, nor before any local one, is known", () => {
  const network = new IceNetwork();
  network.introduce();
  network.addHosts(network.gateway, GATEWAY);
  network.run(network.now + 60_000);
  assert.deepEqual(network.gateway.states, []);
  assert.deepEqual(network.client.states, [], "section 10.6, later fixed: no local candidates, no verdict");
});

test("spec 02, 15.3.6: a response to a transaction that we do not know is refused although its integrity is right", () => {
  const network = connected();
  const response = network.gateway.sent.find((sent) => messageOf(sent).class === "success") ?? assert.fail();
  assert.equal(network.client.agent.accept(messageOf(response)), undefined, "answered before");
});

test("spec 02, 15.3.7: a request before the remote credentials is kept, and answered after they are set", () => {
  const network = new IceNetwork();
  const { client, gateway } = network;
  network.addHosts(client, CLIENT);
  network.addHosts(gateway, GATEWAY);
  client.agent.setRemoteCredentials(gateway.agent.localCredentials);
  network.run(network.now + 100);
  assert.equal(gateway.sent.length, 0);
  gateway.agent.setRemoteCredentials(client.agent.localCredentials);
  network.run(network.now + 100);
  assert.equal(client.nominations.length, 1);
  assert.equal(gateway.nominations.length, 1);
});

test("spec 02, 15.3.8: a request to a local address that is no candidate is ignored", () => {
  const network = connected();
  const { gateway, client } = network;
  const request = requests(client).at(-1) ?? assert.fail();
  gateway.sent.length = 0;
  const accepted = gateway.agent.accept(messageOf(request)) ?? assert.fail();
  gateway.agent.handleInput(accepted, address("203.0.113.9:9"), address(CLIENT), network.now);
  assert.equal(gateway.agent.pollTransmit(), undefined);
  assert.equal(gateway.agent.remoteCandidates.length, 1);
});

test("spec 02, 15.3.9: on a clean path both sides are connected after two or three requests, with one nomination each", () => {
  const network = new IceNetwork();
  network.introduce();
  network.addHosts(network.client, CLIENT);
  network.addHosts(network.gateway, GATEWAY);
  network.run(network.now + 4 * LATENCY);
  for (const side of [network.client, network.gateway]) {
    assert.equal(side.state, "completed");
    assert.ok(requests(side).length <= 3, `${requests(side).length} requests`);
    assert.equal(side.nominations.length, 1);
  }
  assert.deepEqual(network.client.nominations, [`${CLIENT} ${GATEWAY}`]);
  assert.deepEqual(network.gateway.nominations, [`${GATEWAY} ${CLIENT}`]);
});

test("spec 02, 15.3.10 and 10.7: nobody answers: the whole schedule of checks, then disconnected", () => {
  const network = new IceNetwork();
  network.introduce();
  network.rule = () => undefined;
  network.addHosts(network.client, CLIENT);
  network.addHosts(network.gateway, GATEWAY);
  const start = network.now;
  network.run(start + 9249);
  for (const side of [network.client, network.gateway]) {
    assert.deepEqual(
      requests(side).map(({ at }) => at - start),
      [0, 250, 750, 1750, 3250, 4750, 6250, 7750],
    );
    assert.equal(side.state, "checking");
  }
  network.run(start + 9250);
  assert.deepEqual([network.client.state, network.gateway.state], ["disconnected", "disconnected"]);
});

test("spec 02, 15.3.11 and 10.7: one direction is cut: both sides notice 10.5 s after the first check in vain", () => {
  const network = connected();
  network.run(network.now + 10_000);
  const cut = network.now;
  network.rule = (from) => (from.equals(address(GATEWAY)) ? undefined : from);
  network.run(cut + 10_000);
  assert.deepEqual([network.client.state, network.gateway.state], ["completed", "completed"]);
  network.run(cut + 12_000 + LATENCY);
  assert.equal(network.client.state, "disconnected");
  const first = requests(network.client).find(({ at }) => at >= cut)?.at ?? assert.fail();
  const times = requests(network.client).flatMap(({ at }) => (at >= cut ? [at - first] : []));
  assert.deepEqual(times, [0, 1500, 2000, 3000, 4500, 6000, 7500, 9000]);
});

test("spec 02, 10.7: a pair that works is checked again and again, every 1.5 s in the end", () => {
  const network = new IceNetwork();
  network.introduce();
  network.addHosts(network.client, CLIENT);
  network.addHosts(network.gateway, GATEWAY);
  const start = network.now;
  network.run(start + 60_000);
  const times = requests(network.gateway).map(({ at }) => at - start);
  const gaps = times.slice(1).map((time, index) => time - (times[index] ?? 0));
  assert.ok(
    gaps.slice(8).every((gap) => gap === 1500),
    gaps.join(),
  );
  assert.equal(network.client.states.includes("disconnected"), false);
});

test("spec 02, section 14: nobody uses the connection: 25 s between checks; a check in vain is repeated at the usual pace", () => {
  const network = connected();
  network.run(network.now + 20_000);
  const idle = network.now;
  for (const { agent } of [network.client, network.gateway]) agent.setPace("idle", idle);
  network.run(idle + 200_000);
  const count = requests(network.client).filter(({ at }) => at > idle).length;
  assert.equal(count, 200_000 / IDLE_CHECK_INTERVAL);
  assert.equal(network.client.state, "completed");

  const cut = network.now;
  network.rule = () => undefined;
  network.run(cut + IDLE_CHECK_INTERVAL + 10_500);
  assert.equal(network.client.state, "disconnected");

  const used = connected();
  for (const { agent } of [used.client, used.gateway]) agent.setPace("idle", used.now);
  used.run(used.now + 20_000);
  used.client.agent.setPace("eager", used.now);
  const before = requests(used.client).length;
  used.run(used.now + 10);
  assert.equal(requests(used.client).length, before + 1, "back in use: checked at once");
});

test("spec 02, 15.3.12 and 15.6.13: an invalidated candidate is not answered for, and another one takes over at once", () => {
  const network = connected();
  const { client, gateway } = network;
  const old = hostCandidate(address(GATEWAY));
  gateway.agent.removeLocalCandidate(old, network.now);
  client.agent.removeRemoteCandidate(old, network.now);
  gateway.sent.length = 0;
  const request = requests(client).at(-1) ?? assert.fail();
  gateway.receive(address(GATEWAY), address(CLIENT), request.payload, network.now);
  network.run(network.now + 100);
  assert.equal(gateway.sent.length, 0);

  network.addHosts(gateway, "198.51.100.7:2007");
  network.run(network.now + 100);
  assert.equal(client.nominations.at(-1), `${CLIENT} 198.51.100.7:2007`);
  assert.equal(gateway.nominations.at(-1), `198.51.100.7:2007 ${CLIENT}`);
});

test("spec 02, 15.3.13: a candidate that comes again, local or remote, connects again", () => {
  for (const which of ["local", "remote"] as const) {
    const network = connected();
    const { client, gateway } = network;
    const [side, other] = which === "local" ? [client, gateway] : [gateway, client];
    const candidate = hostCandidate(address(which === "local" ? CLIENT : GATEWAY));
    side.agent.removeLocalCandidate(candidate, network.now);
    other.agent.removeRemoteCandidate(candidate, network.now);
    network.run(network.now + 100);
    assert.equal(client.state, "disconnected");
    side.agent.addLocalCandidate(candidate, network.now);
    other.agent.addRemoteCandidate(candidate, network.now);
    network.run(network.now + 1000);
    assert.deepEqual([client.state, gateway.state], ["completed", "completed"], which);
  }
});

test("spec 02, 15.3.14: through a source NAT the sides connect by a peer-reflexive candidate", () => {
  const network = new IceNetwork();
  network.introduce();
  const { client, gateway } = network;
  const inside = address("10.0.0.2:1000");
  const outside = address("203.0.113.5:40000");
  network.own(client, "203.0.113.5:40000");
  network.rule = (from, to) => (from.equals(inside) ? outside : to.equals(inside) ? undefined : from);
  // What comes to the NAT's address arrives at the host's.
  const receive = client.receive.bind(client);
  client.receive = (_local, from, payload, now) => receive(inside, from, payload, now);
  client.agent.addLocalCandidate(hostCandidate(inside), network.now);
  gateway.agent.addRemoteCandidate(hostCandidate(inside), network.now);
  network.addHosts(gateway, GATEWAY);
  network.run(network.now + 1000);
  assert.deepEqual(client.nominations, [`${inside} ${GATEWAY}`]);
  assert.deepEqual(gateway.nominations, [`${GATEWAY} ${outside}`]);
});

test("spec 02, 15.3.15: a late candidate connects a hopeless agent", () => {
  const network = new IceNetwork();
  network.introduce();
  const { client, gateway } = network;
  network.addHosts(client, CLIENT);
  client.agent.addRemoteCandidate(hostCandidate(address("203.0.113.77:7")), network.now);
  network.run(network.now + 20_000);
  assert.equal(client.state, "disconnected");
  network.addHosts(gateway, GATEWAY);
  network.run(network.now + 1000);
  assert.equal(client.state, "completed");
});

test("spec 02, 15.3.16: a second pair of lower priority does not take the nomination; one of higher priority does", () => {
  const network = connected();
  const { client, gateway } = network;
  network.addHosts(gateway, "198.51.100.2:2000");
  network.run(network.now + 5000);
  assert.equal(client.nominations.length, 1);
  assert.equal(gateway.nominations.length, 1);
  network.addHosts(client, "[2001:db8::1]:1000");
  network.addHosts(gateway, "[2001:db8::2]:2000");
  network.run(network.now + 1000);
  assert.equal(client.nominations.at(-1), "[2001:db8::1]:1000 [2001:db8::2]:2000");
  assert.equal(gateway.nominations.at(-1), "[2001:db8::2]:2000 [2001:db8::1]:1000");
});

test("spec 02, 15.3.17: candidates that are signalled after a peer-reflexive connection do not disconnect it", () => {
  const network = new IceNetwork();
  network.introduce();
  const { client, gateway } = network;
  network.addHosts(gateway, GATEWAY);
  network.own(client, CLIENT);
  client.agent.addLocalCandidate(hostCandidate(address(CLIENT)), network.now);
  network.run(network.now + 500);
  assert.deepEqual([client.state, gateway.state], ["completed", "completed"]);
  // The one that it came from, under another name, and ways that lead nowhere; each later than the one before.
  const candidates = [
    serverReflexiveCandidate(address(CLIENT), address("10.0.0.2:1000")),
    hostCandidate(address("10.0.0.2:1000")),
    relayCandidate(address("203.0.113.9:49152")),
    hostCandidate(address(CLIENT)),
  ];
  for (const candidate of candidates) {
    gateway.agent.addRemoteCandidate(candidate, network.now);
    network.run(network.now + 20_000);
    for (const side of [client, gateway]) assert.ok(!side.states.includes("disconnected"));
    assert.deepEqual([client.nominations, gateway.nominations.length], [[`${CLIENT} ${GATEWAY}`], 1]);
  }
  assert.deepEqual([client.state, gateway.state], ["completed", "completed"]);
});

test("spec 02, 15.6.14: USE-CANDIDATE at the controlling side: no answer, no change", () => {
  const network = connected();
  const { client, gateway } = network;
  const nominating = requests(client).find((sent) => messageOf(sent).get(UseCandidate) === true) ?? assert.fail();
  const accepted = gateway.agent.accept(messageOf(nominating)) ?? assert.fail();
  assert.ok(accepted.type === "request" && accepted.useCandidate);
  client.agent.handleInput(accepted, address(CLIENT), address(GATEWAY), network.now);
  assert.equal(client.agent.pollTransmit(), undefined);
  assert.equal(client.nominations.length, 1);
});

test("spec 02, 15.6.15: foreign user fragments and wrong passwords are not accepted", () => {
  const network = connected();
  const stranger = new IceNetwork();
  stranger.introduce();
  stranger.addHosts(stranger.client, CLIENT);
  stranger.addHosts(stranger.gateway, GATEWAY);
  stranger.run(stranger.now + 100);
  const request = requests(network.client).at(-1) ?? assert.fail();
  const forged = request.payload.slice();
  // A bit of the integrity: 8 bytes of FINGERPRINT follow it.
  const last = forged.length - 9;
  forged[last] = (forged[last] ?? 0) ^ 1;
  const { rejected } = network.gateway;
  network.gateway.receive(address(GATEWAY), address(CLIENT), forged, network.now);
  assert.equal(network.gateway.rejected, rejected + 1);
});

test("spec 02, 15.6.16: 300 pairs are checked at once, and then there is rest", () => {
  const network = new IceNetwork();
  network.introduce();
  network.rule = () => undefined;
  const { client } = network;
  for (let i = 1; i <= 20; i++) network.addHosts(client, `192.0.2.${i}:1000`);
  for (let i = 1; i <= 20; i++)
    client.agent.addRemoteCandidate(hostCandidate(address(`198.51.100.${i}:2000`)), network.now);
  assert.equal(client.agent.pairs.length, 300);
  network.run(network.now);
  assert.equal(requests(client).length, 300);
  assert.ok((client.agent.pollTimeout() ?? 0) > network.now);
});

test("spec 02, 10.3: PRIORITY of checks is that of a peer-reflexive candidate; exact numbers", () => {
  const priorityOf = (candidate: Candidate, remote: SocketAddress) => {
    const network = new IceNetwork();
    network.introduce();
    network.client.agent.addLocalCandidate(candidate, network.now);
    network.client.agent.addRemoteCandidate(hostCandidate(remote), network.now);
    network.run(network.now);
    return messageOf(requests(network.client)[0] ?? assert.fail()).get(Priority);
  };
  assert.equal(priorityOf(hostCandidate(address(CLIENT)), address(GATEWAY)), 1862270719);
  assert.equal(priorityOf(relayCandidate(address(CLIENT)), address(GATEWAY)), 1849687807);
});

test("spec 02, 10.5: of several candidates with the sender's address the best counts", () => {
  const network = new IceNetwork();
  network.introduce();
  const { gateway, client } = network;
  network.addHosts(client, CLIENT);
  // As signalled by a host without NAT, sorted: the reflexive one first.
  gateway.agent.addRemoteCandidate(serverReflexiveCandidate(address(CLIENT), address(CLIENT)), network.now);
  network.addHosts(gateway, GATEWAY);
  network.run(network.now + 1000);
  assert.equal(gateway.agent.pairs.length, 1);
  assert.equal(gateway.agent.pairs[0]?.remote.candidate.kind, "host");
});

test("every source of an authenticated message is reported once", () => {
  const network = connected();
  const sources = network.gateway.events.flatMap((event) =>
    event.type === "source-discovered" ? [event.source.toString()] : [],
  );
  assert.deepEqual(sources, [CLIENT]);
});

test("a closed agent sends, reports and is found no more", () => {
  const network = connected();
  const { client } = network;
  client.agent.close();
  assert.equal(client.agent.pollTimeout(), undefined);
  const { rejected } = client;
  const request = requests(network.gateway).at(-1) ?? assert.fail();
  client.receive(address(CLIENT), address(GATEWAY), request.payload, network.now);
  assert.equal(client.rejected, rejected + 1);
});
