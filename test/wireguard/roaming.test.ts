// Where a peer is, and whose a prefix is, apart from the device: what of it is told to the datapath.

import assert from "node:assert/strict";
import { test } from "node:test";
import { IpPrefix } from "../../src/base/address.js";
import { EventQueue } from "../../src/base/event-queue.js";
import { CryptokeyRouting } from "../../src/wireguard/cryptokey-routing.js";
import type { DeviceEvent } from "../../src/wireguard/device-events.js";
import { newPeerRecord, type PeerRecord } from "../../src/wireguard/device-peer.js";
import { Roaming } from "../../src/wireguard/roaming.js";
import { socketAddress } from "../support/simulated-host.js";

function drain(events: EventQueue<DeviceEvent>): DeviceEvent[] {
  const drained: DeviceEvent[] = [];
  for (let event = events.shift(); event !== undefined; event = events.shift()) drained.push(event);
  return drained;
}

function peer(name: string): PeerRecord {
  return newPeerRecord(name, new Uint8Array(32));
}

function prefix(text: string): IpPrefix {
  const parsed = IpPrefix.parse(text);
  assert.ok(parsed);
  return parsed;
}

test("whitepaper, 2.1: what is where it was is told only to a datapath that waits for a path", () => {
  const events = new EventQueue<DeviceEvent>();
  const roaming = new Roaming(events);
  const record = peer("p");
  const types = () => drain(events).map(({ type }) => type);
  const [local, other] = [socketAddress("192.0.2.1:1000"), socketAddress("192.0.2.2:1000")];
  const remote = socketAddress("198.51.100.1:2000");
  roaming.move(record, { local, remote }, "if-changed");
  assert.deepEqual(types(), ["path-selected", "endpoint-changed"]);
  roaming.move(record, { local, remote }, "if-changed");
  assert.deepEqual(types(), []);
  roaming.move(record, { local, remote }, "rewrite-path");
  assert.deepEqual(types(), ["path-selected"]);
  // The peer is where it was, and talks to another of our addresses.
  roaming.move(record, { local: other, remote }, "if-changed");
  assert.deepEqual(types(), ["path-selected"]);
  assert.equal(record.endpoint?.local, other);
  roaming.forgetLocalAddress(record);
  assert.deepEqual(types(), ["path-selected"]);
  assert.ok(record.endpoint?.local.ip.isUnspecified);
  assert.equal(record.endpoint?.remote, remote);
  roaming.forgetLocalAddress(record);
  assert.deepEqual(types(), []);
});

test("whitepaper, 2: prefixes that are replaced by themselves keep their routes; what is too much stops the change", () => {
  const events = new EventQueue<DeviceEvent>();
  const routing = new CryptokeyRouting(2, events);
  const [a, b] = [peer("a"), peer("b")];
  const routes = () =>
    drain(events).map((event) =>
      event.type === "route-set"
        ? `+${event.prefix}`
        : event.type === "route-removed"
          ? `-${event.prefix}`
          : event.type,
    );
  const change = (prefixes: readonly string[], replaceAllowedIps: boolean) => ({
    publicKey: new Uint8Array(32),
    allowedIps: prefixes.map((text) => ({ prefix: prefix(text), remove: false })),
    replaceAllowedIps,
  });
  assert.equal(routing.configure(a, change(["10.1.0.0/16", "10.2.0.0/16"], false)), undefined);
  assert.deepEqual(routes(), ["+10.1.0.0/16", "+10.2.0.0/16"]);
  assert.equal(routing.configure(a, change(["10.2.0.0/16", "10.3.0.0/16"], true)), undefined);
  assert.deepEqual(routes(), ["-10.1.0.0/16", "+10.3.0.0/16"]);
  // One that exists may move even when there is no room for more.
  assert.equal(routing.configure(b, change(["10.3.0.0/16", "10.4.0.0/16"], false)), "too-many-allowed-ips");
  assert.deepEqual(routes(), ["+10.3.0.0/16"]);
  assert.deepEqual(routing.prefixesOf(a).map(String), ["10.2.0.0/16"]);
  routing.removePeer(a);
  assert.deepEqual(routes(), ["-10.2.0.0/16"]);
});
