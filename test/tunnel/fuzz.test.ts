// Random and mutated packets, datagrams and messages into client and gateway: nothing throws, nothing grows, and a connection that
// was there still works.

import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { type Random, randomBelow } from "../../src/base/random.js";
import { echoPacket, ipPacket, tcpPacket } from "../support/ip-packets.js";
import { CLIENT_ID, GATEWAY_ID } from "../support/node-network.js";
import { assertProperty } from "../support/property.js";
import { seededRandom } from "../support/random.js";
import { ipAddress, socketAddress, UNIX_TIME } from "../support/simulated-host.js";
import { cidr, packetTo, SITE, TUNNEL_IPV4, TunnelPair } from "../support/tunnel-network.js";

const RUNS = 200;
const INPUTS = 130;

const RESOURCES = [cidr("a", "10.1.0.0/16"), cidr("b", "10.2.0.0/16"), cidr("c", "10.3.0.0/16")];

/** Changes a few bytes, or cuts, or leaves as it is. */
function mutate(bytes: Uint8Array, random: Random): Uint8Array {
  const kind = randomBelow(random, 4);
  if (kind === 0) return bytes;
  const result = bytes.slice(0, kind === 1 ? randomBelow(random, bytes.length + 1) : bytes.length);
  if (kind > 1 && result.length > 0)
    for (let i = 0; i < kind; i++) result[randomBelow(random, Math.min(result.length, 64))] = randomBelow(random, 256);
  return result;
}

function pick<T>(items: readonly T[], random: Random): T {
  assert.ok(items.length > 0);
  return items[randomBelow(random, items.length)] as T;
}

function anyPacket(random: Random): Uint8Array {
  const destination = ipAddress(`10.${1 + randomBelow(random, 4)}.0.${randomBelow(random, 256)}`);
  const fields = { source: TUNNEL_IPV4, destination };
  const payload = random.bytes(randomBelow(random, 60));
  switch (randomBelow(random, 5)) {
    case 0:
      return random.bytes(randomBelow(random, 100));
    case 1:
      return echoPacket({ ...fields, payload });
    case 2:
      return ipPacket({ source: fields.destination, destination: TUNNEL_IPV4 }, randomBelow(random, 256), payload);
    case 3:
      return tcpPacket({ ...fields, sourcePort: 1, destinationPort: 2, sequence: 3, flags: 2, payload });
    default:
      return packetTo(destination.toString(), randomBelow(random, 65536));
  }
}

/** One input to one side. */
function input(pair: TunnelPair, random: Random): void {
  const { now, network } = pair;
  const [client, gateway] = [pair.client.machine, pair.gateway.machine];
  switch (randomBelow(random, 13)) {
    case 0:
    case 1:
      pair.send(mutate(anyPacket(random), random));
      return;
    case 2:
      client.handlePacket(pick([undefined, GATEWAY_ID, "nobody"], random), mutate(anyPacket(random), random), now);
      break;
    case 3:
      gateway.handlePacket(pick([undefined, CLIENT_ID, "nobody"], random), mutate(anyPacket(random), random), now);
      break;
    case 4:
      gateway.handleDeniedPacket(pick([CLIENT_ID, "nobody"], random), mutate(anyPacket(random), random), now);
      break;
    case 5:
    case 6:
    case 7: {
      // What was sent, once more, mutated, to whom it was meant or the other side, from there or from elsewhere.
      const { payload, source } = pick(network.sent, random);
      const host = pick([pair.client, pair.gateway], random);
      const local = pick(host.addresses, random);
      const stranger = socketAddress(`203.0.113.${randomBelow(random, 256)}:${1 + randomBelow(random, 65535)}`);
      host.receive(local, pick([source, stranger], random), mutate(payload, random), now);
      return;
    }
    case 8:
      client.handleRoutingDetails(pick(["a", "b", "c", "?"], random), pick([GATEWAY_ID, "h"], random), SITE.id, now);
      break;
    case 9:
      client.handleAnswer(
        pick([GATEWAY_ID, "h"], random),
        random.bytes(pick([31, 32], random)),
        { credentials: { username: pick(["", "user", "a:b"], random), password: "password" } },
        now,
      );
      break;
    case 10: {
      const text = `candidate:${randomBelow(random, 9)} 1 udp ${randomBelow(random, 2 ** 32)} 203.0.113.${randomBelow(random, 256)} ${randomBelow(random, 70000)} typ host`;
      client.handleCandidates(GATEWAY_ID, [text], now);
      gateway.handleCandidates(CLIENT_ID, [text, text.slice(randomBelow(random, 40))], now);
      break;
    }
    case 11: {
      const [resource] = [pick(RESOURCES, random)];
      const grant = { type: "cidr", id: resource.id, address: resource.address, filters: [] } as const;
      gateway.handleAccess(
        {
          clientId: pick([CLIENT_ID, "d"], random),
          resource: grant,
          expiresAt: pick([undefined, UNIX_TIME + now + 500], random),
        },
        now,
        UNIX_TIME + now,
      );
      break;
    }
    case 12:
      network.wait(randomBelow(random, 300));
      return;
  }
  pair.client.drain(now);
  pair.gateway.drain(now);
}

test(`spec 04, 9 and 10.6.52: ${RUNS * INPUTS} random and mutated inputs: no exception, no growth`, () => {
  assertProperty(
    fc.property(fc.nat(), (seed) => {
      const random = seededRandom(seed);
      const pair = new TunnelPair(RESOURCES, seed);
      pair.send(packetTo("10.1.0.1"));
      pair.network.wait(500);
      assert.equal(pair.reached.length, 1);
      for (let i = 0; i < INPUTS; i++) input(pair, random);
      // One connection to the gateway, and one that was asked for by made-up details.
      assert.ok(pair.client.connections.length <= 2 && pair.gateway.connections.length <= 1);
      assert.ok(pair.client.sessions <= 4 && pair.gateway.sessions <= 4);
      assert.ok(pair.gateway.machine.clients.length <= 2);
      assert.equal(pair.client.machine.pollEvent(), undefined);
      // Let what was made up die. Grants that were made up may contradict each other, so client and gateway begin anew.
      pair.network.wait(45_000);
      pair.client.machine.reset(pair.now);
      for (const address of pair.client.addresses) pair.client.machine.addLocalHostCandidate(address, pair.now);
      pair.client.drain(pair.now);
      assert.deepEqual(pair.client.connections, []);
      const mark = packetTo("10.1.200.200", 12_345);
      pair.send(mark);
      pair.network.wait(3000);
      assert.ok(pair.reached.some((packet) => Buffer.from(packet).equals(mark)));
    }),
    { seed: 20_261_123, numRuns: RUNS },
  );
});
