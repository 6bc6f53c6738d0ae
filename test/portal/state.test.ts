// The portal's decisions, without sockets (spec 01, sections 11, 12 and 15.8).

import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { IpAddress, IpPrefix } from "../../src/base/address.js";
import { Channels } from "../../src/portal/server/channels.js";
import { AddressBook } from "../../src/portal/server/identity.js";
import { type Login, RELAY_QUIET_TIME } from "../../src/portal/server/state.js";
import { keyOf, member, NOW, PortalBench } from "../support/portal-programs.js";
import { seededRandom } from "../support/random.js";

const SITES = `
sites:
  - { name: office, tokens: [gateway-token] }
  - { name: branch, tokens: [branch-token] }
`;
const ACTORS = `
actors:
  - { name: alice, groups: [staff], tokens: [alice-token] }
  - { name: bob, tokens: [bob-token, { token: short-token, expires_at: "2026-01-02T00:00:00Z" }] }
`;
const RESOURCES = `
resources:
  - { name: lan, type: cidr, address: 10.20.0.0/16, sites: [office], id: 11111111-1111-4111-8111-111111111111 }
  - { name: printer, type: ip, address: 10.9.9.9, sites: [office], filters: [{ protocol: tcp, ports: [80, 100-200] }, icmp] }
  - { name: web, type: dns, address: "*.example.com", sites: [branch] }
  - { name: odd, type: dns, address: "api.*.example.com", sites: [office] }
`;
const POLICIES = `
policies:
  - { group: staff, resource: lan }
  - { actor: alice, resource: lan }
  - { actor: alice, resource: printer }
  - { actor: alice, resource: web }
  - { actor: alice, resource: odd }
  - { actor: bob, resource: lan }
`;
const CONFIGURATION = `${SITES}${ACTORS}${RESOURCES}${POLICIES}
upstream_dns: [192.0.2.53, "[2001:db8::53]:5353", "2001:db8::54"]
relays: { tokens: [relay-token] }
`;
const LAN = "11111111-1111-4111-8111-111111111111";

const ICE = { username: "aB3d", password: "0123456789abcdefghijkl" };

/** alice's client, and gateways in both sites. */
function office() {
  const bench = new PortalBench(CONFIGURATION);
  return {
    bench,
    client: bench.join("client", { token: "alice-token" }),
    gateway: bench.join("gateway", { token: "gateway-token", publicKey: keyOf(2), remoteIp: "198.51.100.7" }),
    branch: bench.join("gateway", { token: "branch-token", externalId: "branch" }),
  };
}

function connectionRequest(gatewayId: string, resourceId = LAN) {
  return {
    gateway_id: gatewayId,
    resource_id: resourceId,
    client_preshared_key: keyOf(9),
    client_payload: { ice_parameters: ICE, domain: null },
  };
}

/** Ids of the resources in a client's init, by name. */
function resourceIds(bench: PortalBench, token = "alice-token"): Map<string, string> {
  const client = bench.signIn("client", { token, externalId: "another" });
  client.send("phx_join", null);
  const resources = member(client.takeOnly("init"), "resources") as { name: string; id: string }[];
  client.close();
  return new Map(resources.map(({ name, id }) => [name, id]));
}

const error = (reason: string) => ({ status: "error", response: { reason } });

describe("sign-in", () => {
  const refused = (role: "client" | "gateway" | "relay", login: Partial<Login>) => {
    const result = new PortalBench(CONFIGURATION).state.login(
      role,
      {
        token: "alice-token",
        externalId: "x",
        publicKey: keyOf(1),
        remoteIp: "192.0.2.1",
        userAgent: "connlib/1.2.1",
        ...login,
      },
      NOW,
    );
    return result.type === "refused" ? `${result.status} ${result.text}` : "accepted";
  };

  test("spec 01, 15.8.64: no token, a wrong one, one of another role: 401", () => {
    assert.equal(refused("client", { token: undefined }), "401 Missing token");
    assert.equal(refused("client", { token: "" }), "401 Missing token");
    for (const token of ["nobody", "alice-toke", "alice-token ", "gateway-token", "relay-token"])
      assert.equal(refused("client", { token }), "401 Invalid token", token);
    assert.equal(refused("gateway", {}), "401 Invalid token");
    assert.equal(refused("relay", { ipv4: "192.0.2.9" }), "401 Invalid token");
    assert.equal(refused("client", {}), "accepted");
  });

  test("spec 01, 15.8.64: a token that has expired: 401", () => {
    const { state } = new PortalBench(CONFIGURATION);
    const login = { token: "short-token", externalId: "x", publicKey: keyOf(1), remoteIp: "192.0.2.1" };
    assert.equal(state.login("client", login, Date.UTC(2026, 0, 1)).type, "accepted");
    assert.equal(state.login("client", login, Date.UTC(2026, 0, 2)).type, "refused");
  });

  test("spec 01, 15.8.64: missing or wrong parameters: 422, naming them", () => {
    const prefix = "422 Invalid or missing connection parameters: ";
    for (const externalId of [undefined, "", "x".repeat(256)])
      assert.equal(refused("client", { externalId }), `${prefix}external_id: is invalid\n`);
    for (const publicKey of [undefined, "", "x".repeat(44), keyOf(1).slice(4)])
      assert.equal(refused("client", { publicKey }), `${prefix}public_key: is invalid\n`);
    const both = { externalId: undefined, publicKey: undefined };
    assert.equal(refused("client", both), `${prefix}external_id: is invalid\npublic_key: is invalid\n`);
    for (const userAgent of ["", "curl/8.0", "connlib/", "xconnlib/1.2.1"])
      assert.equal(refused("client", { userAgent }), `${prefix}user_agent: has no version\n`);
  });

  test("spec 01, 11.2: a relay has an address and a port from 1 to 65535", () => {
    const relay = (login: Partial<Login>) =>
      refused("relay", { token: "relay-token", userAgent: "relay/0.1.0", ...login });
    assert.match(relay({}), /^422 .*ipv4/);
    assert.match(relay({ ipv4: "2001:db8::1" }), /^422 .*ipv4: is invalid/);
    for (const port of ["0", "65536", "-1", "3478x", ""])
      assert.match(relay({ ipv4: "192.0.2.9", port }), /^422 .*port: is invalid/, port);
    assert.equal(relay({ ipv4: "192.0.2.9", ipv6: "2001:db8::9", port: "65535" }), "accepted");
  });

  test("spec 01, 15.8.65: a device keeps id and addresses, its key is replaced; another owner's is another device", () => {
    const bench = new PortalBench(CONFIGURATION);
    const first = bench.signIn("client", { token: "alice-token", publicKey: keyOf(1) }).session;
    bench.state.disconnected(first);
    const second = bench.signIn("client", { token: "alice-token", publicKey: keyOf(2) }).session;
    const other = bench.signIn("client", { token: "bob-token", publicKey: keyOf(2) }).session;
    const gateway = bench.signIn("gateway", { token: "gateway-token", externalId: "client-1" }).session;
    assert.deepEqual([second.id, second.addresses], [first.id, first.addresses]);
    assert.notEqual(second.publicKey, first.publicKey);
    assert.equal(new Set([first.id, other.id, gateway.id]).size, 3);
    assert.equal(new Set([first, other, gateway].map(({ addresses }) => addresses?.ipv4)).size, 3);
  });

  test("spec 01, 11.11: a device may be signed in twice, and both sockets are told", () => {
    const { bench, client, gateway } = office();
    const twin = bench.join("gateway", { token: "gateway-token", publicKey: keyOf(3) });
    assert.equal(twin.id, gateway.id);
    assert.equal(client.ask("request_connection", connectionRequest(gateway.id)), undefined);
    const refs = [gateway, twin].map((program) => member(program.takeOnly("request_connection"), "ref"));
    assert.equal(refs[0], refs[1]);
    assert.deepEqual(twin.ask("connection_ready", { ref: refs[0], gateway_payload: {} }), {
      status: "ok",
      response: {},
    });
    assert.deepEqual(gateway.ask("connection_ready", { ref: refs[0], gateway_payload: {} }), error("invalid_ref"));
    assert.equal(member(client.takeOnly("phx_reply"), "response", "gateway_public_key"), keyOf(3));
    twin.close();
    assert.equal(member(client.ask("prepare_connection", { resource_id: LAN }), "status"), "ok");
  });
});

describe("tunnel addresses", () => {
  test("spec 01, 15.8.66: they lie in the ranges, are unique, never the first two or the last", () => {
    const book = new AddressBook(seededRandom(3));
    const [ipv4, ipv6] = ["100.64.0.0/11", "fd00:2021:1111::/107"].map((text) => IpPrefix.parse(text));
    const seen = new Set<string>();
    for (let i = 0; i < 5000; i++) {
      const addresses = book.addressesOf(`device ${i}`);
      const own = IpAddress.parse(addresses?.ipv4 ?? "");
      const own6 = IpAddress.parse(addresses?.ipv6 ?? "");
      assert.ok(own !== undefined && own6 !== undefined && ipv4?.contains(own) && ipv6?.contains(own6));
      assert.ok(!["100.64.0.0", "100.64.0.1", "100.95.255.255"].includes(String(own)));
      seen.add(String(own)).add(String(own6));
    }
    assert.equal(seen.size, 10_000);
    const copy = new AddressBook(seededRandom(4), JSON.parse(JSON.stringify(book.snapshot())));
    assert.deepEqual(copy.addressesOf("device 17"), book.addressesOf("device 17"));
  });

  test("spec 01, 15.8.66: an exhausted range is an error, 503 at the door", () => {
    const size = 2 ** 21;
    const snapshot: Record<string, number> = {};
    for (let offset = 2; offset < size - 2; offset++) snapshot[offset] = offset;
    const book = new AddressBook(seededRandom(1), { ...snapshot, outside: size, first: 0, twice: 2 });
    assert.deepEqual(book.addressesOf("one"), { ipv4: "100.95.255.254", ipv6: "fd00:2021:1111::1f:fffe" });
    for (const owner of ["two", "outside", "first", "twice"]) assert.equal(book.addressesOf(owner), undefined, owner);
    const { state } = new PortalBench(CONFIGURATION, 1, book);
    const login = { token: "alice-token", externalId: "x", publicKey: keyOf(1), remoteIp: "192.0.2.1" };
    assert.deepEqual(state.login("client", login, NOW), {
      type: "refused",
      status: 503,
      text: "No tunnel address is free",
    });
  });
});

describe("channel", () => {
  test("spec 01, 12.2: heartbeats, unknown topics, messages before the join, leaving", () => {
    const client = new PortalBench(CONFIGURATION).signIn("client", { token: "alice-token" });
    const beat = client.send("heartbeat", {}, "phoenix");
    const [reply] = client.take();
    assert.deepEqual(reply, {
      topic: "phoenix",
      event: "phx_reply",
      ref: beat,
      payload: { status: "ok", response: {} },
    });
    assert.deepEqual(client.ask("prepare_connection", { resource_id: LAN }), error("unmatched topic"));
    client.send("phx_join", null);
    assert.deepEqual(client.takeEvents(), ["phx_reply", "init"]);
    client.send("phx_join", null, "gateway");
    assert.deepEqual(client.takeOnly("phx_reply"), error("unmatched topic"));
    assert.deepEqual(client.ask("phx_leave", {}), { status: "ok", response: {} });
    assert.deepEqual(client.ask("prepare_connection", { resource_id: LAN }), error("unmatched topic"));
  });

  test("spec 01, 12.1: ref is echoed with its JSON type", () => {
    const client = new PortalBench(CONFIGURATION).signIn("client", { token: "alice-token" });
    for (const ref of [0, 7, "7", null, 1.5, [1], { a: 1 }]) {
      client.sendText(JSON.stringify({ topic: "phoenix", event: "heartbeat", payload: {}, ref }));
      assert.deepEqual(client.take()[0]?.ref, ref);
    }
  });

  test("spec 01, 4.1: a frame that is no object, or lacks a key, ends the connection", () => {
    const whole = { topic: "client", event: "phx_join", payload: null, ref: 0 };
    const lacking = Object.keys(whole).map((key) => ({ ...whole, [key]: undefined }));
    for (const text of ["", "{", "[]", "7", "null", ...lacking.map((frame) => JSON.stringify(frame))]) {
      const bench = new PortalBench(CONFIGURATION);
      const client = bench.signIn("client", { token: "alice-token" });
      client.sendText(text);
      assert.ok(client.isClosed, text);
      assert.equal(bench.state.sessions.size, 0);
    }
  });

  test("spec 01, 11.5: a client whose version is none is refused its join; a gateway is not", () => {
    const bench = new PortalBench(CONFIGURATION);
    const client = bench.signIn("client", { token: "alice-token", userAgent: "Debian/12 connlib/latest" });
    assert.deepEqual(client.ask("phx_join", null), error("invalid_version"));
    const gateway = bench.signIn("gateway", { token: "gateway-token", userAgent: "Debian/12 connlib/latest" });
    assert.deepEqual(gateway.ask("phx_join", null), { status: "ok", response: {} });
  });

  test("spec 01, 11.6 with the later behaviour: unknown messages, and those that lack something, answer unknown_message", () => {
    const { client, gateway } = office();
    const { client_payload: _, ...noPayload } = connectionRequest(gateway.id);
    for (const [event, payload] of [
      ["create_log_sink", {}],
      ["connection_ready", {}],
      ["request_connection", { gateway_id: gateway.id, resource_id: LAN }],
      ["request_connection", { ...connectionRequest(gateway.id), client_preshared_key: "short" }],
      ["request_connection", noPayload],
      ["reuse_connection", { gateway_id: gateway.id, resource_id: LAN }],
      ["init", null],
    ] as const)
      assert.deepEqual(client.ask(event, payload), error("unknown_message"), event);
    assert.deepEqual(gateway.ask("prepare_connection", {}), error("unknown_message"));
    assert.deepEqual(gateway.ask("metrics", { metrics: [] }), { status: "ok", response: {} });
  });

  test("spec 01, 10: a relay needs a secret to join, and gets an empty init", () => {
    const relay = new PortalBench(CONFIGURATION).signIn("relay", { token: "relay-token" });
    for (const payload of [null, {}, { stamp_secret: 7 }])
      assert.deepEqual(relay.ask("phx_join", payload), error("join crashed"));
    assert.deepEqual(relay.ask("phx_join", { stamp_secret: "s" }), { status: "ok", response: {} });
    assert.deepEqual(relay.takeOnly("init"), {});
    assert.deepEqual(relay.ask("anything", {}), error("unknown_message"));
  });
});

describe("init", () => {
  test("spec 01, 15.8.67: every granted resource once; ip is cidr /32; what is not granted is absent", () => {
    const bench = new PortalBench(CONFIGURATION);
    const client = bench.signIn("client", { token: "alice-token" });
    client.send("phx_join", null);
    const [reply, init] = client.take();
    assert.deepEqual([reply?.event, init?.event], ["phx_reply", "init"]);
    const resources = member(init?.payload, "resources") as Record<string, unknown>[];
    assert.deepEqual(
      resources.map(({ name }) => name),
      ["lan", "printer", "web", "odd"],
    );
    const [lan, printer] = resources;
    assert.deepEqual([lan?.["id"], lan?.["address_description"]], [LAN, null]);
    assert.deepEqual([printer?.["type"], printer?.["address"]], ["cidr", "10.9.9.9/32"]);
    assert.deepEqual(printer?.["filters"], [
      { protocol: "tcp", port_range_start: 80, port_range_end: 80 },
      { protocol: "tcp", port_range_start: 100, port_range_end: 200 },
      { protocol: "icmp" },
    ]);
    assert.deepEqual([...resourceIds(bench, "bob-token").keys()], ["lan"]);
  });

  test("spec 01, 15.8.68: DNS servers without port get :53", () => {
    const client = new PortalBench(CONFIGURATION).signIn("client", { token: "alice-token" });
    client.send("phx_join", null);
    const servers = member(client.takeOnly("init"), "interface", "upstream_dns") as { address: string }[];
    assert.deepEqual(
      servers.map(({ address }) => address),
      ["192.0.2.53:53", "[2001:db8::53]:5353", "[2001:db8::54]:53"],
    );
  });

  test("spec 01, 11.5: clients before 1.2.0 get names in the old notation, or not at all", () => {
    const client = new PortalBench(CONFIGURATION).signIn("client", {
      token: "alice-token",
      userAgent: "connlib/1.1.9",
    });
    client.send("phx_join", null);
    const resources = member(client.takeOnly("init"), "resources") as { address: string }[];
    assert.deepEqual(
      resources.map(({ address }) => address),
      ["10.20.0.0/16", "10.9.9.9/32", "?.example.com"],
    );
  });

  test("spec 01, 11.7: a gateway's init has its interface and both switches", () => {
    const gateway = new PortalBench(CONFIGURATION).signIn("gateway", { token: "gateway-token" });
    gateway.send("phx_join", null);
    assert.deepEqual(gateway.takeOnly("init"), {
      interface: { ...gateway.session.addresses },
      config: { ipv4_masquerade_enabled: true, ipv6_masquerade_enabled: true },
      relays: [],
    });
  });
});

describe("connections", () => {
  test("spec 01, 15.8.69: details of a gateway of the resource's site", () => {
    const { client, gateway } = office();
    const details = member(
      client.ask("prepare_connection", { resource_id: LAN, connected_gateway_ids: [] }),
      "response",
    );
    assert.equal(member(details, "resource_id"), LAN);
    assert.equal(member(details, "gateway_id"), gateway.id);
    assert.equal(member(details, "gateway_remote_ip"), "198.51.100.7");
    assert.match(String(member(details, "gateway_group_id")), /^[0-9a-f-]{36}$/);
  });

  test("spec 01, 15.8.69: not_found for resources that are unknown or not granted, offline without a gateway of the site", () => {
    const { bench, client, gateway, branch } = office();
    const ids = resourceIds(bench);
    const bob = bench.join("client", { token: "bob-token" });
    for (const resource_id of ["22222222-2222-4222-8222-222222222222", "", undefined, 7])
      assert.deepEqual(client.ask("prepare_connection", { resource_id }), error("not_found"));
    assert.deepEqual(bob.ask("prepare_connection", { resource_id: ids.get("printer") }), error("not_found"));
    gateway.close();
    assert.deepEqual(client.ask("prepare_connection", { resource_id: LAN }), error("offline"));
    branch.send("phx_leave", {});
    assert.deepEqual(client.ask("prepare_connection", { resource_id: ids.get("web") }), error("offline"));
  });

  test("spec 01, 15.8.69: only gateways that are too old: not_found; a name with an inner wildcard needs 1.2.0", () => {
    const bench = new PortalBench(CONFIGURATION);
    const odd = resourceIds(bench).get("odd");
    const client = bench.join("client", { token: "alice-token" });
    bench.join("gateway", { token: "gateway-token", externalId: "ancient", userAgent: "connlib/1.0.9" });
    assert.deepEqual(client.ask("prepare_connection", { resource_id: LAN }), error("not_found"));
    const old = bench.join("gateway", { token: "gateway-token", externalId: "old", userAgent: "connlib/1.1.5" });
    assert.equal(member(client.ask("prepare_connection", { resource_id: LAN }), "response", "gateway_id"), old.id);
    assert.deepEqual(client.ask("prepare_connection", { resource_id: odd }), error("not_found"));
    const current = bench.join("gateway", { token: "gateway-token", externalId: "new", userAgent: "connlib/1.2.0" });
    assert.equal(member(client.ask("prepare_connection", { resource_id: odd }), "response", "gateway_id"), current.id);
    const ancient = bench.join("client", { token: "bob-token", userAgent: "connlib/1.0.0" });
    assert.equal(member(ancient.ask("prepare_connection", { resource_id: LAN }), "status"), "ok");
  });

  test("spec 01, 15.8.69: a connected gateway is preferred, the first of several; without one all have their turn", () => {
    const bench = new PortalBench(CONFIGURATION);
    const client = bench.join("client", { token: "alice-token" });
    const ids = Array.from(
      { length: 4 },
      (_, i) => bench.join("gateway", { token: "gateway-token", externalId: `${i}` }).id,
    );
    const ask = (connected_gateway_ids: readonly unknown[]) =>
      member(client.ask("prepare_connection", { resource_id: LAN, connected_gateway_ids }), "response", "gateway_id");
    for (const id of ids) for (let i = 0; i < 5; i++) assert.equal(ask(["unknown", 7, id, ...ids]), id);
    const chosen = new Set(Array.from({ length: 200 }, () => ask([])));
    assert.deepEqual(chosen, new Set(ids));
  });

  test("spec 01, 15.8.70: request_connection is answered when the gateway is ready, with its payload unchanged", () => {
    const { client, gateway } = office();
    const ref = client.send("request_connection", connectionRequest(gateway.id));
    assert.deepEqual(client.take(), []);
    const request = gateway.takeOnly("request_connection");
    assert.deepEqual(member(request, "resource"), {
      type: "cidr",
      id: LAN,
      name: "lan",
      address: "10.20.0.0/16",
      filters: [],
    });
    assert.equal(member(request, "expires_at"), null);
    assert.deepEqual(member(request, "client"), {
      id: client.id,
      peer: {
        public_key: keyOf(1),
        preshared_key: keyOf(9),
        ...client.session.addresses,
        persistent_keepalive: 25,
      },
      payload: { ice_parameters: ICE, domain: null },
    });
    const gateway_payload = { ConnectionAccepted: { ice_parameters: ICE, domain_response: null, later: [1] } };
    const ready = { ref: member(request, "ref"), gateway_payload };
    assert.deepEqual(gateway.ask("connection_ready", ready), { status: "ok", response: {} });
    assert.deepEqual(client.take(), [
      {
        topic: "client",
        event: "phx_reply",
        ref,
        payload: {
          status: "ok",
          response: { resource_id: LAN, persistent_keepalive: 25, gateway_public_key: keyOf(2), gateway_payload },
        },
      },
    ]);
  });

  test("spec 01, 15.8.70: reuse_connection becomes allow_access, with the token's end", () => {
    const { bench, gateway } = office();
    const bob = bench.join("client", { token: "short-token" });
    const payload = { name: "git.example.com", proxy_ips: ["100.96.0.1"] };
    assert.equal(bob.ask("reuse_connection", { gateway_id: gateway.id, resource_id: LAN, payload }), undefined);
    const access = gateway.takeOnly("allow_access");
    assert.equal(member(access, "client_id"), bob.id);
    assert.equal(member(access, "client_ipv4"), bob.session.addresses?.ipv4);
    assert.equal(member(access, "expires_at"), Date.UTC(2026, 0, 2) / 1000);
    assert.deepEqual(member(access, "payload"), payload);
  });

  test("spec 01, 15.8.70: unknown gateway or resource not_found; gateway of a foreign site, or away, offline", () => {
    const { bench, client, gateway, branch } = office();
    const printer = resourceIds(bench).get("printer");
    assert.deepEqual(client.ask("request_connection", connectionRequest("nobody")), error("not_found"));
    assert.deepEqual(client.ask("request_connection", connectionRequest(gateway.id, "nothing")), error("not_found"));
    assert.deepEqual(client.ask("request_connection", connectionRequest(client.id)), error("not_found"));
    const bob = bench.join("client", { token: "bob-token" });
    assert.deepEqual(bob.ask("request_connection", connectionRequest(gateway.id, printer)), error("not_found"));
    assert.deepEqual(client.ask("request_connection", connectionRequest(branch.id)), error("offline"));
    gateway.send("phx_leave", {});
    assert.deepEqual(client.ask("request_connection", connectionRequest(gateway.id)), error("offline"));
    assert.deepEqual(branch.takeEvents(), []);
  });

  test("spec 01, 15.8.71: connection_ready with a ref that is unknown, used, or another gateway's: invalid_ref", () => {
    const { client, gateway, branch } = office();
    client.send("request_connection", connectionRequest(gateway.id));
    const ref = member(gateway.takeOnly("request_connection"), "ref");
    for (const bad of ["unknown", "", 7, null, "__proto__"])
      assert.deepEqual(gateway.ask("connection_ready", { ref: bad, gateway_payload: {} }), error("invalid_ref"));
    assert.deepEqual(branch.ask("connection_ready", { ref, gateway_payload: {} }), error("invalid_ref"));
    assert.equal(member(gateway.ask("connection_ready", { ref, gateway_payload: {} }), "status"), "ok");
    assert.deepEqual(gateway.ask("connection_ready", { ref, gateway_payload: {} }), error("invalid_ref"));
    client.take();
    client.send("request_connection", connectionRequest(gateway.id));
    const second = member(gateway.takeOnly("request_connection"), "ref");
    client.close();
    assert.deepEqual(gateway.ask("connection_ready", { ref: second, gateway_payload: {} }), error("invalid_ref"));
  });

  test("issue 4: what two programs say to each other does not make the portal look at all the others", (t) => {
    const { client, gateway } = office();
    const joined = t.mock.method(Channels.prototype, "joined");
    const sessions = t.mock.getter(Channels.prototype, "sessions");
    client.send("prepare_connection", { resource_id: LAN });
    client.send("request_connection", connectionRequest(gateway.id));
    const ref = member(gateway.takeOnly("request_connection"), "ref");
    gateway.send("connection_ready", { ref, gateway_payload: {} });
    client.send("broadcast_ice_candidates", { gateway_ids: [gateway.id], candidates: ["a"] });
    gateway.send("broadcast_ice_candidates", { client_ids: [client.id], candidates: ["b"] });
    client.send("reuse_connection", { gateway_id: gateway.id, resource_id: LAN, payload: {} });
    assert.equal(client.takeEvents().length, 3);
    assert.deepEqual(gateway.takeEvents(), ["phx_reply", "ice_candidates", "allow_access"]);
    // Gateways are few.
    assert.ok(joined.mock.calls.every(({ arguments: [role] }) => role === "gateway"));
    // Whether the sender is still signed in.
    assert.equal(sessions.mock.callCount(), 6);
  });

  test("a client that waits for a gateway which leaves, or comes back on another socket, is told at once that it is offline", () => {
    const { bench, client, gateway, branch } = office();
    const again = () =>
      bench.join("gateway", { token: "gateway-token", publicKey: keyOf(2), remoteIp: "198.51.100.7" });
    const web = resourceIds(bench).get("web");
    assert.equal(client.ask("request_connection", connectionRequest(branch.id, web)), undefined);
    const access = { gateway_id: gateway.id, resource_id: LAN, payload: {} };
    assert.equal(client.ask("reuse_connection", access), undefined);
    const refusals = () =>
      client.take().map(({ event, ref, payload }) => [event, ref, member(payload, "response", "reason")]);

    const first = client.send("request_connection", connectionRequest(gateway.id));
    const twin = again();
    assert.deepEqual(refusals(), [["phx_reply", first, "offline"]], "the first socket may have been dead");
    const stale = member(gateway.takeOnly("request_connection"), "ref");
    assert.deepEqual(gateway.ask("connection_ready", { ref: stale, gateway_payload: {} }), error("invalid_ref"));

    const second = client.send("request_connection", connectionRequest(gateway.id));
    gateway.close();
    assert.deepEqual(refusals(), [], "the other socket has been asked too");
    twin.close();
    assert.deepEqual(refusals(), [["phx_reply", second, "offline"]]);

    const back = again();
    const third = client.send("request_connection", connectionRequest(back.id));
    back.send("phx_leave", {});
    assert.deepEqual(refusals(), [["phx_reply", third, "offline"]]);
    again();
    assert.deepEqual(refusals(), [], "once, and not for the access, nor for the other gateway");
    branch.close();
    assert.equal(refusals().length, 1);
  });

  test("spec 01, 15.8.72; spec 02, 15.1.9: candidates reach each target unchanged, with the sender's id; an empty list nobody", () => {
    const { client, gateway, branch } = office();
    const candidates = ["candidate:1 1 udp 2130706175 198.51.100.20 51820 typ host", "what ever"];
    client.send("broadcast_ice_candidates", { gateway_ids: [], candidates });
    client.send("broadcast_ice_candidates", { gateway_ids: [gateway.id, "nobody"], candidates });
    assert.deepEqual(gateway.take(), [
      { topic: "gateway", event: "ice_candidates", payload: { client_id: client.id, candidates }, ref: null },
    ]);
    assert.deepEqual(branch.take(), []);
    gateway.send("broadcast_invalidated_ice_candidates", { client_ids: [client.id], candidates });
    assert.deepEqual(client.take(), [
      {
        topic: "client",
        event: "invalidate_ice_candidates",
        payload: { gateway_id: gateway.id, candidates },
        ref: null,
      },
    ]);
  });

  test("deny by default: candidates do not pass between those whom no policy lets meet", () => {
    const { bench, branch } = office();
    const bob = bench.join("client", { token: "bob-token" });
    bob.send("broadcast_ice_candidates", { gateway_ids: [branch.id], candidates: ["c"] });
    branch.send("broadcast_ice_candidates", { client_ids: [bob.id], candidates: ["c"] });
    assert.deepEqual([bob.take(), branch.take()], [[], []]);
  });
});

describe("changes of the configuration", () => {
  const without = (text: string, line: string) => {
    assert.ok(text.includes(line), line);
    return text.replace(line, "");
  };

  test("spec 01, 15.8.74: a policy that goes: resource_deleted, and reject_access for each flow", () => {
    const { bench, client, gateway } = office();
    const bob = bench.join("client", { token: "bob-token" });
    for (const program of [client, bob]) program.send("request_connection", connectionRequest(gateway.id));
    gateway.take();
    bench.configure(without(CONFIGURATION, "  - { actor: bob, resource: lan }\n"));
    assert.deepEqual(bob.takeOnly("resource_deleted"), LAN);
    const rejection = gateway.takeOnly("reject_access");
    assert.deepEqual([member(rejection, "client_id"), member(rejection, "resource_id")], [bob.id, LAN]);
    assert.deepEqual(client.take(), []);
    assert.deepEqual(bob.ask("prepare_connection", { resource_id: LAN }), error("not_found"));
  });

  test("spec 01, 15.8.74: one of two policies that goes changes nothing for who holds the resource", () => {
    const { bench, client, gateway } = office();
    client.send("request_connection", connectionRequest(gateway.id));
    gateway.take();
    bench.configure(without(CONFIGURATION, "  - { group: staff, resource: lan }\n"));
    assert.deepEqual([client.take(), gateway.take()], [[], []]);
  });

  test("spec 01, 11.10: name and filters: clients and gateways that serve the resource are told", () => {
    const { bench, client, gateway, branch } = office();
    client.send("request_connection", connectionRequest(gateway.id));
    gateway.take();
    bench.configure(CONFIGURATION.replace("name: lan,", "name: lan, filters: [icmp],"));
    assert.deepEqual(member(client.takeOnly("resource_created_or_updated"), "filters"), [{ protocol: "icmp" }]);
    assert.deepEqual(member(gateway.takeOnly("resource_updated"), "filters"), [{ protocol: "icmp" }]);
    assert.deepEqual(branch.take(), []);
  });

  test("spec 01, 11.10: another address or site ends the flows", () => {
    for (const [from, to] of [
      ["10.20.0.0/16, sites: [office]", "10.21.0.0/16, sites: [office]"],
      ["10.20.0.0/16, sites: [office]", "10.20.0.0/16, sites: [branch]"],
    ] as const) {
      const { bench, client, gateway } = office();
      client.send("request_connection", connectionRequest(gateway.id));
      gateway.take();
      bench.configure(CONFIGURATION.replace(from, to));
      assert.equal(member(client.takeOnly("resource_created_or_updated"), "id"), LAN);
      assert.deepEqual(member(gateway.takeOnly("reject_access"), "client_id"), client.id);
    }
  });

  test("spec 01, 11.10: a new policy: resource_created_or_updated; the same file again: nothing", () => {
    const { bench, client, gateway } = office();
    const bob = bench.join("client", { token: "bob-token" });
    bench.configure(CONFIGURATION);
    assert.deepEqual([client.take(), bob.take(), gateway.take()], [[], [], []]);
    bench.configure(
      CONFIGURATION.replace("- { actor: bob, ", "- { actor: bob, resource: printer }\n  - { actor: bob, "),
    );
    assert.equal(member(bob.takeOnly("resource_created_or_updated"), "name"), "printer");
    assert.deepEqual(client.take(), []);
  });

  test("spec 01, 11.10: DNS servers: config_changed to all clients", () => {
    const { bench, client, gateway } = office();
    bench.configure(CONFIGURATION.replace("192.0.2.53", "192.0.2.54"));
    const servers = member(client.takeOnly("config_changed"), "interface", "upstream_dns") as { address: string }[];
    assert.equal(servers[0]?.address, "192.0.2.54:53");
    assert.deepEqual(gateway.take(), []);
  });

  test("spec 01, 15.8.78: a token that goes closes the socket without disconnect, and the next sign-in is refused", () => {
    const { bench, client, gateway } = office();
    client.send("request_connection", connectionRequest(gateway.id));
    gateway.take();
    bench.configure(CONFIGURATION.replace("alice-token", "other-token"));
    assert.ok(client.isClosed);
    assert.deepEqual(client.takeEvents(), []);
    assert.equal(member(gateway.takeOnly("reject_access"), "client_id"), client.id);
    const login = { token: "alice-token", externalId: "client-1", publicKey: keyOf(1), remoteIp: "192.0.2.1" };
    assert.equal(bench.state.login("client", login, NOW).type, "refused");
    assert.ok(!gateway.isClosed);
  });

  test("a token that goes while its client is away ends the client's flows too", () => {
    const { bench, client, gateway } = office();
    client.send("request_connection", connectionRequest(gateway.id));
    gateway.take();
    client.close();
    bench.configure(CONFIGURATION.replace("alice-token", "other-token"));
    assert.equal(member(gateway.takeOnly("reject_access"), "client_id"), client.id);
  });

  test("a gateway that was away hears at its next join what was taken back meanwhile", () => {
    const { bench, client, gateway } = office();
    client.send("request_connection", connectionRequest(gateway.id));
    gateway.close();
    bench.configure(
      without(without(CONFIGURATION, "  - { group: staff, resource: lan }\n"), "  - { actor: alice, resource: lan }\n"),
    );
    const again = bench.signIn("gateway", { token: "gateway-token", publicKey: keyOf(2) });
    again.send("phx_join", null);
    const frames = again.take();
    assert.deepEqual(
      frames.map(({ event }) => event),
      ["phx_reply", "init", "reject_access"],
    );
    assert.equal(member(frames[2]?.payload, "resource_id"), LAN);
    const third = bench.join("gateway", { token: "gateway-token", publicKey: keyOf(2) });
    assert.deepEqual(third.takeEvents(), []);
  });

  test("a token with another end signs in anew", () => {
    const bench = new PortalBench(CONFIGURATION);
    const bob = bench.join("client", { token: "short-token" });
    bench.configure(CONFIGURATION.replace("2026-01-02", "2026-01-03"));
    assert.ok(bob.isClosed);
    assert.equal(bench.signIn("client", { token: "short-token" }).session.expiresAt, Date.UTC(2026, 0, 3));
  });

  test("spec 01, 15.8.73: expiry: disconnect, phx_close, then the socket closes", () => {
    const bench = new PortalBench(CONFIGURATION);
    const bob = bench.join("client", { token: "short-token" });
    bench.state.expire(bob.session);
    const frames = bob.take();
    assert.deepEqual(
      frames.map(({ event }) => event),
      ["disconnect", "phx_close"],
    );
    assert.deepEqual(frames[0]?.payload, { reason: "token_expired" });
    assert.ok(bob.isClosed);
  });
});

test("spec 01, 11.9: the quiet time is a second", () => assert.equal(RELAY_QUIET_TIME, 1000));
