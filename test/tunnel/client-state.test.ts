// The client's state over a node without network: resources, routes, intents, details, access, and what waits for them.

import assert from "node:assert/strict";
import { test } from "node:test";
import { ClientState } from "../../src/tunnel/client-state.js";
import type { ClientEvent } from "../../src/tunnel/events.js";
import { INTENT_INTERVAL } from "../../src/tunnel/intents.js";
import { PACKET_BUFFER_CAPACITY } from "../../src/tunnel/packet-buffer.js";
import { encodePeerMessage } from "../../src/tunnel/peer-message.js";
import { RECENT_GATEWAYS_CAPACITY } from "../../src/tunnel/recent-gateways.js";
import type { Resource } from "../../src/tunnel/resources.js";
import { OFFLINE_TIME } from "../../src/tunnel/site-status.js";
import { TCP_ACK, TCP_SYN, tcpPacket, udpPacket } from "../support/ip-packets.js";
import { ipAddress, START } from "../support/simulated-host.js";
import { cidr, drain, INTERFACE, packetTo, SITE, StubClientNode, TUNNEL_IPV4 } from "../support/tunnel-network.js";

const KEY = new Uint8Array(32);
const ANSWER = { credentials: { username: "user", password: "password" } };
const A = cidr("a", "10.1.0.0/16");
const B = cidr("b", "10.2.0.0/16");

class Client {
  readonly node = new StubClientNode();
  readonly state = new ClientState(this.node);
  now = START;
  /** Since the last look. */
  events: ClientEvent[] = [];

  constructor(...resources: readonly Resource[]) {
    this.state.setInterface(INTERFACE);
    this.state.setResources(resources, this.now);
    this.look();
  }

  /** Events since the last look. */
  look(): ClientEvent[] {
    this.events = drain(this.state);
    return this.events;
  }

  of<T extends ClientEvent["type"]>(type: T): Extract<ClientEvent, { readonly type: T }>[] {
    return this.events.filter((event): event is Extract<ClientEvent, { type: T }> => event.type === type);
  }

  send(packet: Uint8Array, connection?: string): void {
    this.state.handlePacket(connection, packet, this.now);
    this.look();
  }

  details(resource: string, gateway = "g", site = SITE.id): void {
    this.state.handleRoutingDetails(resource, gateway, site, this.now);
    this.look();
  }

  answer(gateway = "g"): void {
    this.state.handleAnswer(gateway, KEY, ANSWER, this.now);
    this.look();
  }

  established(gateway = "g"): void {
    this.node.emit({ type: "connection-established", connection: gateway });
    this.timeout();
  }

  failed(gateway = "g"): void {
    this.node.emit({ type: "connection-removed", connection: gateway });
    this.node.emit({ type: "connection-failed", connection: gateway, reason: "no-path" });
    this.timeout();
  }

  timeout(): void {
    this.state.handleTimeout(this.now);
    this.look();
  }

  /** From the first packet to a connection. */
  connect(resource: string, packet: Uint8Array, gateway = "g"): void {
    this.send(packet);
    this.details(resource, gateway);
    this.answer(gateway);
    this.established(gateway);
  }

  status(id: string): string | undefined {
    return this.state.resources().find(({ resource }) => resource.id === id)?.status;
  }

  routes(): string[] {
    return this.of("tun-routes-updated").at(-1)?.prefixes.map(String).sort() ?? [];
  }
}

const PROXY = ["100.96.0.0/11", "fd00:2021:1111:8000::/107"];

// ---- Resources, routes, status

test("spec 04, 10.1.1: multicast is never a resource, and neither are broadcast and our own address", () => {
  const client = new Client({ type: "internet", id: "i", name: "i", sites: [SITE], canBeDisabled: true });
  for (const to of ["224.0.0.22", "ff02::2", "255.255.255.255", "100.64.0.7"]) client.send(packetTo(to));
  assert.equal(client.state.counters.unroutable, 4);
  client.send(packetTo("203.0.113.1"));
  assert.equal(client.of("connection-intent").length, 1);
});

test("spec 04, 2: packets that are not from our tunnel address, are fragments or no packets at all, are dropped", () => {
  const client = new Client(A);
  const fields = { destination: ipAddress("10.1.0.1"), sourcePort: 1, destinationPort: 2, payload: KEY };
  client.send(udpPacket({ ...fields, source: ipAddress("100.64.0.8") }));
  client.send(udpPacket({ ...fields, source: TUNNEL_IPV4, fragment: 0x2000 }));
  client.send(Uint8Array.of(0x45, 0, 0));
  client.send(new Uint8Array(0));
  assert.equal(client.state.counters.unroutable, 4);
  client.send(packetTo("10.9.0.1"));
  assert.equal(client.state.counters.noResource, 1);
  assert.deepEqual(client.of("connection-intent"), []);
});

test("spec 04, 10.1.4 to 10.1.6, 10.1.9: routes and list follow the resources", () => {
  const client = new Client();
  client.state.setResources([A, B], client.now);
  client.look();
  assert.deepEqual(client.routes(), ["10.1.0.0/16", "10.2.0.0/16", ...PROXY].sort());
  assert.deepEqual(
    client.state.resources().map(({ resource, status }) => `${resource.id} ${status}`),
    ["a Unknown", "b Unknown"],
  );
  client.state.addResource(cidr("c", "10.3.0.0/16"), client.now);
  client.look();
  assert.equal(client.state.resources().length, 3);
  client.state.addResource(cidr("c", "10.4.0.0/16"), client.now);
  client.look();
  assert.deepEqual(client.routes(), ["10.1.0.0/16", "10.2.0.0/16", "10.4.0.0/16", ...PROXY].sort());
  client.state.setResources([B], client.now);
  client.look();
  assert.deepEqual(client.routes(), ["10.2.0.0/16", ...PROXY].sort());
  // Nothing changes, nothing is said.
  client.state.setResources([B], client.now);
  client.state.setInterface(INTERFACE);
  assert.deepEqual(client.look(), []);
});

test("spec 04, 10.1.7 and 10.1.8: another type with the same id; removal", () => {
  const client = new Client({ type: "dns", id: "a", name: "a", sites: [SITE], address: "*.example.com" }, B);
  client.state.addResource(A, client.now);
  client.look();
  assert.deepEqual(client.routes(), ["10.1.0.0/16", "10.2.0.0/16", ...PROXY].sort());
  client.state.removeResource("a", client.now);
  client.state.removeResource("b", client.now);
  client.look();
  assert.deepEqual(client.routes(), PROXY);
  assert.deepEqual(client.state.resources(), []);
});

test("spec 04, 10.1.10 and 10.1.11: a site is online while one of its gateways is connected", () => {
  const other = cidr("other", "10.9.0.0/16", { sites: [{ id: "elsewhere", name: "Elsewhere" }] });
  const client = new Client(A, B, other);
  client.connect("a", packetTo("10.1.0.1"));
  assert.deepEqual(
    ["a", "b", "other"].map((id) => client.status(id)),
    ["Online", "Online", "Unknown"],
  );
  assert.equal(client.of("resources-changed").length, 1);
  client.failed();
  assert.deepEqual(
    ["a", "b", "other"].map((id) => client.status(id)),
    ["Unknown", "Unknown", "Unknown"],
  );
});

test("spec 04, 10.1.12 and 3.6: offline, only if all sites are, and for 5 minutes", () => {
  const elsewhere = { id: "elsewhere", name: "Elsewhere" };
  const both = cidr("both", "10.9.0.0/16", { sites: [SITE, elsewhere] });
  const client = new Client(A, both, cidr("none", "10.10.0.0/16", { sites: [] }));
  client.send(packetTo("10.1.0.1"));
  client.state.handleOffline("a", client.now);
  client.look();
  assert.deepEqual(
    ["a", "both", "none"].map((id) => client.status(id)),
    ["Offline", "Unknown", "Unknown"],
  );
  assert.equal(client.state.counters.buffered, 1);
  assert.equal(client.state.pollTimeout(), client.now + OFFLINE_TIME);
  client.now += OFFLINE_TIME;
  client.timeout();
  assert.equal(client.status("a"), "Unknown");
  assert.equal(client.of("resources-changed").length, 1);
  assert.equal(client.state.pollTimeout(), undefined);
});

test("spec 04, 10.1.13: order of the list", () => {
  const named = (name: string, id: string) => cidr(id, "10.1.0.0/16", { name });
  const internet: Resource = { type: "internet", id: "zz", name: "zz", sites: [], canBeDisabled: false };
  const names = [
    "*.test.net",
    "10",
    "9",
    "Cloudflare DNS",
    "Example",
    "Fast.com",
    "Metabase",
    "Metabase",
    "ifconfig.net",
    "🙂",
  ];
  const sorted = names.map((name, i) => named(name, `id${i}`));
  const client = new Client(...[...sorted].reverse(), internet);
  assert.deepEqual(
    client.state.resources().map(({ resource }) => resource),
    [internet, ...sorted],
  );
});

test("spec 04, 3.3: of two resources with one prefix the smaller id has it, the connected one keeps it, and removal uncovers", () => {
  const client = new Client(cidr("m", "10.1.0.0/16"), cidr("z", "10.1.0.0/16"));
  client.connect("m", packetTo("10.1.0.1"));
  // A smaller id comes, but the other is connected.
  client.state.addResource(A, client.now);
  client.send(packetTo("10.1.0.2"));
  assert.deepEqual(client.of("connection-intent"), []);
  client.state.removeResource("m", client.now);
  client.send(packetTo("10.1.0.3"));
  assert.deepEqual(
    client.of("connection-intent").map(({ resourceId }) => resourceId),
    ["a"],
  );
  client.state.removeResource("a", client.now);
  client.send(packetTo("10.1.0.4"));
  assert.deepEqual(
    client.of("connection-intent").map(({ resourceId }) => resourceId),
    ["z"],
  );
});

test("spec 04, 3.5: the longest prefix wins, and anything beats the internet resource", () => {
  const internet: Resource = { type: "internet", id: "i", name: "i", sites: [SITE], canBeDisabled: true };
  const client = new Client(cidr("wide", "10.0.0.0/8"), cidr("narrow", "10.1.2.0/24"), internet);
  for (const [to, id] of [
    ["10.1.2.3", "narrow"],
    ["10.1.3.3", "wide"],
    ["192.0.2.3", "i"],
    ["2001:db8::3", "i"],
  ] as const) {
    client.send(packetTo(to));
    if (id !== "i" || to === "192.0.2.3")
      assert.deepEqual(
        client.of("connection-intent").map(({ resourceId }) => resourceId),
        [id],
        to,
      );
  }
});

// ---- Intents and details

test("spec 04, 4.2: an intent for the first packet, then at most one in 2 s, while packets come", () => {
  const client = new Client(A);
  const times: number[] = [];
  for (let i = 0; i < 100; i++) {
    client.send(packetTo("10.1.0.1", i));
    if (client.of("connection-intent").length > 0) times.push(client.now - START);
    client.now += 100;
  }
  assert.deepEqual(times, [0, 2000, 4000, 6000, 8000]);
  client.now += 60_000;
  client.timeout();
  assert.deepEqual(client.look(), []);
});

test("spec 04, 4.2: refusals do not make a storm of intents", () => {
  const client = new Client(A);
  let intents = 0;
  for (let i = 0; i < 50; i++) {
    client.send(packetTo("10.1.0.1", i));
    intents += client.of("connection-intent").length;
    if (i % 2 === 0) client.state.handleOffline("a", client.now);
    else {
      client.details("a");
      client.state.handleConnectionRefused("g", client.now);
    }
    client.now += 100;
  }
  assert.equal(intents, 3);
  // What is configured anew starts anew.
  client.state.setDisabledResources(new Set(["a"]), client.now);
  client.state.setDisabledResources(new Set(), client.now);
  client.send(packetTo("10.1.0.1"));
  assert.equal(client.of("connection-intent").length, 1);
  assert.equal(INTENT_INTERVAL, 2000);
});

test("spec 04, 4.2: gateways used lately are named, most recent first, as many as fit", () => {
  const resources = Array.from({ length: RECENT_GATEWAYS_CAPACITY + 5 }, (_, i) => cidr(`r${i}`, `10.${i}.0.0/16`));
  const client = new Client(...resources, cidr("last", "192.0.2.0/24"));
  for (const [i, { id }] of resources.entries()) {
    client.send(packetTo(`10.${i}.0.1`));
    client.details(id, `g${i}`);
  }
  client.send(packetTo("192.0.2.1"));
  const hint = client.of("connection-intent")[0]?.connectedGatewayIds ?? [];
  assert.equal(hint.length, RECENT_GATEWAYS_CAPACITY);
  assert.deepEqual(hint.slice(0, 2), [`g${RECENT_GATEWAYS_CAPACITY + 4}`, `g${RECENT_GATEWAYS_CAPACITY + 3}`]);
});

test("spec 04, 4.4: details make a connection, the answer and the session release what has waited, in order", () => {
  const client = new Client(A);
  const packets = [1, 2, 3].map((mark) => packetTo("10.1.0.1", mark));
  for (const packet of packets) client.send(packet);
  client.details("a");
  assert.deepEqual(
    client.of("request-connection").map(({ gatewayId, resourceId }) => [gatewayId, resourceId]),
    [["g", "a"]],
  );
  const later = packetTo("10.1.0.1", 4);
  client.send(later);
  client.answer();
  assert.deepEqual(client.of("request-access"), []);
  assert.deepEqual(client.of("send-packet"), []);
  client.established();
  assert.deepEqual(
    client.of("send-packet").map(({ packet }) => packet),
    [...packets, later],
  );
  // The route comes first.
  const events = client.of("route-set").map(({ target }) => target);
  assert.deepEqual(events, [{ type: "connection", connection: "g" }]);
});

test("spec 04, 4.4: stale details: unknown resource, no intent, a second time", () => {
  const client = new Client(A);
  for (const id of ["nobody", "a"]) client.details(id);
  assert.deepEqual([client.look(), client.node.calls], [[], []]);
  client.send(packetTo("10.1.0.1"));
  client.details("a");
  client.details("a", "other");
  assert.deepEqual(client.node.calls, ["new g"]);
});

test("spec 04, 10.6.40: details for a resource that was disabled or removed meanwhile are ignored", () => {
  const client = new Client(A, B);
  client.send(packetTo("10.1.0.1"));
  client.send(packetTo("10.2.0.1"));
  client.state.setDisabledResources(new Set(["a"]), client.now);
  client.state.removeResource("b", client.now);
  client.details("a");
  client.details("b");
  assert.deepEqual(client.node.calls, []);
  assert.equal(client.state.counters.buffered, 2);
});

test("spec 04, 4.4 (later fixed): another gateway than before is legal", () => {
  const client = new Client(A);
  client.connect("a", packetTo("10.1.0.1"));
  client.failed();
  client.now += 2000;
  client.connect("a", packetTo("10.1.0.1"), "h");
  assert.deepEqual(
    client.of("send-packet").map(({ connection }) => connection),
    ["h"],
  );
});

// ---- Access

test("spec 04, 10.6.37 and 4.9: a second resource of a gateway that is offered waits for the answer, then for its grant", () => {
  const client = new Client(A, B);
  client.send(packetTo("10.1.0.1", 1));
  client.now += 10;
  client.send(packetTo("10.2.0.1", 2));
  client.now += 40;
  client.details("a");
  client.now += 10;
  client.details("b");
  assert.deepEqual([client.of("request-connection"), client.of("request-access")], [[], []]);
  assert.deepEqual(client.node.calls, ["new g"]);
  client.now += 50;
  client.answer();
  assert.deepEqual(
    client.of("request-access").map(({ resourceId }) => resourceId),
    ["b"],
  );
  // The session is there at once, but the grant is still on its way: as long as the intent took, 50 ms.
  client.established();
  assert.deepEqual(
    client.of("send-packet").map(({ packet }) => packet),
    [packetTo("10.1.0.1", 1)],
  );
  assert.equal(client.state.pollTimeout(), client.now + 50);
  client.now += 49;
  client.timeout();
  assert.deepEqual(client.look(), []);
  client.now += 1;
  client.timeout();
  assert.deepEqual(
    client.of("send-packet").map(({ packet }) => packet),
    [packetTo("10.2.0.1", 2)],
  );
  assert.deepEqual(
    client.of("route-set").map(({ prefix, target }) => [String(prefix), target.type]),
    [["10.2.0.0/16", "connection"]],
  );
  assert.equal(client.state.pollTimeout(), undefined);
});

test("spec 04, 4.9, rule 4: access is requested at once when the gateway is connected; settling takes 5 ms to 500 ms", () => {
  for (const [roundTrip, settle] of [
    [0, 5],
    [120, 120],
    [3000, 500],
  ] as const) {
    const client = new Client(A, B);
    client.connect("a", packetTo("10.1.0.1"));
    client.send(packetTo("10.2.0.1"));
    client.now += roundTrip;
    client.details("b");
    assert.equal(client.of("request-access").length, 1);
    assert.equal(client.state.pollTimeout(), client.now + settle);
  }
});

test("packets of a second resource that were on their way here when its route was set are not lost", () => {
  const client = new Client(A, B);
  client.connect("a", packetTo("10.1.0.1"));
  client.now += 60_000;
  client.send(packetTo("10.2.0.1"));
  client.details("b");
  client.now += 5;
  client.timeout();
  assert.equal(client.of("send-packet").length, 1);
  const late = packetTo("10.2.0.1", 2);
  client.send(late);
  assert.deepEqual(client.of("send-packet"), [{ type: "send-packet", connection: "g", packet: late }]);
  // Much later it means that the datapath has no room for the route: sending would bring it back for ever.
  client.now += 1000;
  client.send(late);
  assert.deepEqual(client.of("send-packet"), []);
  assert.equal(client.node.packets.length, 1);
});

test("a packet whose session has ended goes to the node, of the gateway that serves the resource now", () => {
  const client = new Client(A);
  client.connect("a", packetTo("10.1.0.1"));
  client.send(packetTo("10.1.0.1", 2), "a gateway of before");
  assert.deepEqual(client.node.packets, [{ connection: "g", packet: packetTo("10.1.0.1", 2) }]);
});

test("spec 04, 4.9, rule 7: refusals of access and of connections start over with an intent", () => {
  const client = new Client(A, B);
  client.connect("a", packetTo("10.1.0.1"));
  client.send(packetTo("10.2.0.1"));
  client.details("b");
  client.state.handleAccessRefused("b", "g", client.now);
  client.state.handleAccessRefused("b", "g", client.now);
  client.now += 2000;
  client.send(packetTo("10.2.0.1"));
  assert.equal(client.of("connection-intent").length, 1);
  // The other resource is not concerned.
  client.send(packetTo("10.1.0.1"), "g");
  assert.deepEqual(client.of("connection-intent"), []);

  const refused = new Client(A);
  refused.send(packetTo("10.1.0.1"));
  refused.details("a");
  refused.state.handleConnectionRefused("g", refused.now);
  assert.deepEqual(refused.node.calls, ["new g", "remove g"]);
  assert.equal(refused.state.counters.buffered, 1);
  refused.answer();
  assert.deepEqual(refused.node.calls, ["new g", "remove g"]);
  refused.now += 2000;
  refused.send(packetTo("10.1.0.1"));
  assert.equal(refused.of("connection-intent").length, 1);
});

test("an answer that cannot be used ends the connection, and no access is requested of it", () => {
  const client = new Client(A, B);
  client.send(packetTo("10.1.0.1"));
  client.send(packetTo("10.2.0.1"));
  client.details("a");
  client.details("b");
  client.node.emit({ type: "connection-removed", connection: "g" });
  client.node.emit({ type: "connection-failed", connection: "g", reason: "invalid-parameters" });
  client.answer();
  assert.deepEqual(client.of("request-access"), []);
  assert.equal(client.state.counters.buffered, 2);
});

test("spec 04, 10.6.39: when no answer comes everything of the gateway is cleaned, and the next packet sends an intent", () => {
  const client = new Client(A, B);
  client.send(packetTo("10.1.0.1"));
  client.send(packetTo("10.2.0.1"));
  client.details("a");
  client.details("b");
  client.now += 20_000;
  client.failed();
  assert.equal(client.state.counters.buffered, 2);
  assert.deepEqual(
    client.of("gateway-disconnected").map(({ gatewayId }) => gatewayId),
    ["g"],
  );
  // 10.6.41: an answer afterwards is ignored.
  client.answer();
  assert.deepEqual(client.node.calls, ["new g"]);
  client.send(packetTo("10.1.0.1"));
  assert.deepEqual(
    client.of("connection-intent").map(({ resourceId }) => resourceId),
    ["a"],
  );
});

test("spec 04, 10.6.49: without resources a gateway is let go; with a new resource everything starts over", () => {
  const client = new Client(A, B);
  client.connect("a", packetTo("10.1.0.1"));
  client.send(packetTo("10.2.0.1"));
  client.details("b");
  client.state.removeResource("a", client.now);
  assert.ok(!client.node.calls.includes("remove g"));
  client.state.removeResource("b", client.now);
  client.look();
  assert.ok(client.node.calls.includes("remove g"));
  assert.equal(client.of("gateway-disconnected").length, 1);
  client.state.addResource(A, client.now);
  client.send(packetTo("10.1.0.1"));
  assert.equal(client.of("connection-intent").length, 1);
});

test("spec 04, 3.3: a resource with another prefix or other sites is interrupted, one with another name is not", () => {
  const client = new Client(A);
  client.connect("a", packetTo("10.1.0.1"));
  client.state.addResource(cidr("a", "10.1.0.0/16", { name: "other" }), client.now);
  assert.ok(!client.node.calls.includes("remove g"));
  client.state.addResource(cidr("a", "10.1.0.0/16", { sites: [{ id: "elsewhere", name: "" }] }), client.now);
  assert.ok(client.node.calls.includes("remove g"));
});

test("spec 04, 3.11: reset forgets intents, their packets and the gateways used lately, but no resource", () => {
  const client = new Client(A, B);
  client.connect("a", packetTo("10.1.0.1"));
  client.send(packetTo("10.2.0.1"));
  client.node.emit({ type: "connection-closed", connection: "g", reason: "reset" });
  client.state.reset(client.now);
  client.look();
  assert.equal(client.of("gateway-disconnected").length, 1);
  assert.equal(client.state.counters.buffered, 1);
  assert.equal(client.status("a"), "Unknown");
  client.send(packetTo("10.2.0.1"));
  assert.deepEqual(
    client.of("connection-intent").map(({ connectedGatewayIds }) => connectedGatewayIds),
    [[]],
  );
});

test("resources in use are asked for again at once after a reset, a failure and a goodbye; others wait for a packet", () => {
  for (const [end, again] of [
    ["reset", true],
    ["failed", true],
    ["goodbye", true],
    ["idle", false],
  ] as const) {
    const client = new Client(A, B);
    client.connect("a", packetTo("10.1.0.1"));
    client.look();
    const activity = { sentAt: client.now, receivedAt: 0, sentDataAt: client.now, receivedDataAt: 0 };
    if (end !== "idle") client.state.handleActivity("g", activity, client.now);
    client.now += 29_000;
    switch (end) {
      case "reset":
        client.node.emit({ type: "connection-closed", connection: "g", reason: "reset" });
        client.state.reset(client.now);
        break;
      case "failed":
      case "idle":
        client.node.emit({ type: "connection-failed", connection: "g", reason: "no-path" });
        client.state.handleTimeout(client.now);
        break;
      case "goodbye":
        client.state.handlePeerMessage("g", encodePeerMessage({ type: "goodbye" }), client.now);
        assert.ok(client.node.calls.includes("remove g"));
        break;
    }
    client.look();
    assert.equal(client.of("gateway-disconnected").length, 1, end);
    assert.deepEqual(
      client.of("connection-intent").map(({ resourceId }) => resourceId),
      again ? ["a"] : [],
      end,
    );
  }
});

test("a resource in use is asked for again at every reset until 30 s after its last packet, whether or not it had come back", () => {
  const client = new Client(A, B);
  client.connect("a", packetTo("10.1.0.1"));
  const activity = { sentAt: client.now, receivedAt: 0, sentDataAt: client.now, receivedDataAt: 0 };
  client.state.handleActivity("g", activity, client.now);
  client.node.emit({ type: "connection-failed", connection: "g", reason: "no-path" });
  client.state.handleTimeout(client.now);
  client.look();
  for (const [after, again] of [
    [10_000, ["a"]],
    [19_000, ["a"]],
    [2000, []],
  ] as const) {
    client.now += after;
    client.state.reset(client.now);
    client.look();
    assert.deepEqual(
      client.of("connection-intent").map(({ resourceId }) => resourceId),
      again,
    );
  }
});

test("spec 04, 11.1: the client says goodbye to the gateways that it is connected to, and takes no other message", () => {
  const client = new Client(A, B);
  client.connect("a", packetTo("10.1.0.1"));
  client.look();
  const goodbye = encodePeerMessage({ type: "goodbye" });
  client.state.handlePeerMessage("elsewhere", goodbye, client.now);
  client.state.handlePeerMessage("g", goodbye.with(40, 1), client.now);
  client.state.handlePeerMessage("g", goodbye.subarray(0, 47), client.now);
  client.state.handlePeerMessage("g", goodbye.with(39, 1), client.now);
  client.look();
  assert.deepEqual(client.of("gateway-disconnected"), []);
  client.state.close(client.now);
  client.look();
  assert.deepEqual(client.of("send-peer-message"), [{ type: "send-peer-message", connection: "g", packet: goodbye }]);
  assert.ok(client.node.calls.includes("close"));
});

// ---- What waits

test("spec 04, 10.6.50: 129 packets: the first is dropped; a copy is kept once; of repeated SYNs the last", () => {
  const client = new Client(A);
  const packets = Array.from({ length: PACKET_BUFFER_CAPACITY + 1 }, (_, i) => packetTo("10.1.0.1", i));
  for (const packet of [...packets, ...packets.slice(5)]) client.send(packet);
  client.details("a");
  client.answer();
  client.established();
  assert.deepEqual(
    client.of("send-packet").map(({ packet }) => packet),
    packets.slice(1),
  );
  assert.equal(client.state.counters.buffered, 1);

  const syns = new Client(A);
  const syn = (id: number, flags = TCP_SYN, sourcePort = 1) =>
    tcpPacket({
      source: TUNNEL_IPV4,
      destination: ipAddress("10.1.0.1"),
      sourcePort,
      destinationPort: 80,
      sequence: 7,
      flags,
      id,
      payload: new Uint8Array(0),
    });
  for (const packet of [syn(1), syn(9, TCP_SYN | TCP_ACK), syn(2, TCP_SYN, 2), syn(3)]) syns.send(packet);
  syns.connect("a", syn(4));
  assert.deepEqual(
    syns.of("send-packet").map(({ packet }) => packet),
    [syn(4), syn(9, TCP_SYN | TCP_ACK), syn(2, TCP_SYN, 2)],
  );
});

test("spec 02, 3.2: candidates are told in one message per connection, sorted and without duplicates", () => {
  const client = new Client();
  const event = (type: "new-ice-candidate" | "invalidate-ice-candidate", connection: string, candidate: string) =>
    ({ type, connection, candidate }) as const;
  client.node.emit(
    event("new-ice-candidate", "g", "2"),
    event("new-ice-candidate", "h", "3"),
    event("new-ice-candidate", "g", "1"),
    event("new-ice-candidate", "g", "2"),
    event("invalidate-ice-candidate", "g", "9"),
  );
  client.timeout();
  assert.deepEqual(
    client.events.map((event) =>
      "candidates" in event ? `${event.type} ${event.connection} ${event.candidates}` : "",
    ),
    ["added-ice-candidates g 1,2", "added-ice-candidates h 3", "removed-ice-candidates g 9"],
  );
  client.state.handleCandidates("g", ["x", "y"], client.now);
  client.state.handleInvalidatedCandidates("g", ["x"], client.now);
  assert.deepEqual(client.node.calls, ["candidate g x", "candidate g y", "no candidate g x"]);
});

test("an interface that changes is told, with all routes", () => {
  const client = new Client(A);
  client.state.setInterface({ ...INTERFACE, ipv4: ipAddress("100.64.0.9") });
  client.look();
  assert.equal(client.of("tun-interface-updated").length, 1);
  assert.deepEqual(client.routes(), ["10.1.0.0/16", ...PROXY].sort());
  client.send(packetTo("10.1.0.1"));
  assert.equal(client.state.counters.unroutable, 1);
});
