// Decoding of what the portal says (spec 01, section 15.2 and the decoding scenarios of 15.5 and 15.6).

import assert from "node:assert/strict";
import { test } from "node:test";
import { clientPushSchema, clientReplySchema, requestConnection } from "../../src/portal/client-messages.js";
import { gatewayPushSchema } from "../../src/portal/gateway-messages.js";
import { decodeKey, encodeKey } from "../../src/portal/values.js";
import { keyOf } from "../support/portal-programs.js";

const ID = "1b0e3a52-8f1c-4a76-9d0e-5a7f6c1d2e30";
const SITE = { id: "8d2f4c10-3b6a-4f8e-a1c5-0e9b7d6a5c41", name: "Berlin" };
const INTERFACE = { ipv4: "100.71.12.9", ipv6: "fd00:2021:1111::7:c09" };
const CIDR = { type: "cidr", id: ID, name: "Office LAN", address: "10.20.0.0/16", gateway_groups: [SITE] };
const GATEWAY_CIDR = { type: "cidr", id: ID, name: "Office LAN", address: "10.20.0.0/16", filters: [] };
const RELAY = {
  id: "7a7b7c7d-0001-4002-8003-a0b0c0d0e0f0",
  type: "turn",
  addr: "203.0.113.7:3478",
  username: "1725350400:NGC-MSAeaf7aoO7ouZl_XA",
  password: "42CPePy9ZQ7kQvM9K8FnugUt5jPb0HCjhbWZ9XGScPM",
  expires_at: 1725350400,
};

function clientPush(event: string, payload: unknown) {
  return clientPushSchema.safeParse({ event, payload });
}

function gatewayPush(event: string, payload: unknown) {
  return gatewayPushSchema.safeParse({ event, payload });
}

function accepted<T>(result: { readonly success: boolean; readonly data?: T; readonly error?: unknown }): T {
  if (!result.success || result.data === undefined) assert.fail(String(result.error));
  return result.data;
}

/** The `init` of a client with this and that. */
function init(payload: object) {
  const push = accepted(clientPush("init", { interface: INTERFACE, ...payload }));
  if (push.event !== "init") assert.fail();
  return push.payload;
}

test("spec 01, 15.2.10: unknown members of any type are ignored on every level", () => {
  for (const extra of [null, true, 7, "text", [1], { a: 1 }]) {
    const { interface: addresses, resources } = init({
      extra,
      interface: { ...INTERFACE, extra },
      resources: [{ ...CIDR, extra, gateway_groups: [{ ...SITE, extra }] }],
    });
    assert.equal(String(addresses.ipv4), INTERFACE.ipv4);
    assert.equal(resources.length, 1);
    const config = { ipv4_masquerade_enabled: true, ipv6_masquerade_enabled: true, extra };
    accepted(gatewayPush("init", { interface: INTERFACE, config, extra }));
  }
});

test("spec 01, 15.2.11: init without relays, resources or upstream_dns has empty lists", () => {
  const payload = init({});
  assert.deepEqual([payload.relays, payload.resources, payload.interface.upstreamDns], [[], [], []]);
  assert.equal(clientPush("init", { interface: { ipv4: INTERFACE.ipv4 } }).success, false);
  assert.equal(clientPush("init", { interface: { ipv4: INTERFACE.ipv6, ipv6: INTERFACE.ipv4 } }).success, false);
});

test("spec 01, 15.2.12: a description that is missing or null is absent", () => {
  for (const resource of [CIDR, { ...CIDR, address_description: null }]) {
    const push = accepted(clientPush("resource_created_or_updated", resource));
    assert.ok(push.event === "resource_created_or_updated" && push.payload.type === "cidr");
    assert.equal(push.payload.address_description, undefined);
  }
});

test("spec 01, 15.2.13: an internet resource with unknown members decodes on both sides; clients give it a name", () => {
  const resource = { type: "internet", id: ID, gateway_groups: [SITE], address: 7, filters: "none" };
  const push = accepted(clientPush("resource_created_or_updated", resource));
  assert.ok(push.event === "resource_created_or_updated");
  assert.equal(push.payload.name, "<-> Internet Resource");
  assert.ok(push.payload.type === "internet" && push.payload.can_be_disabled === false);
  accepted(gatewayPush("resource_updated", resource));
});

test("spec 01, 15.2.14: filters with bounds, without, and for ICMP", () => {
  const filters = (list: object[]) => {
    const push = accepted(gatewayPush("resource_updated", { ...GATEWAY_CIDR, filters: list }));
    assert.ok(push.event === "resource_updated" && push.payload.type === "cidr");
    return push.payload.filters;
  };
  assert.deepEqual(filters([{ protocol: "icmp" }, { protocol: "tcp" }]), [
    { protocol: "icmp" },
    { protocol: "tcp", port_range_start: 0, port_range_end: 65535 },
  ]);
  assert.deepEqual(filters([{ protocol: "udp", port_range_start: 53, port_range_end: 54 }]), [
    { protocol: "udp", port_range_start: 53, port_range_end: 54 },
  ]);
  assert.deepEqual(filters([{ protocol: "tcp", port_range_start: 80 }]), [
    { protocol: "tcp", port_range_start: 80, port_range_end: 65535 },
  ]);
  assert.equal(gatewayPush("resource_updated", { ...GATEWAY_CIDR, filters: [{ protocol: "sctp" }] }).success, false);
});

test("spec 01, 15.2.15: a key survives Base64; keys of other lengths are refused", () => {
  const key = Uint8Array.from({ length: 32 }, (_, i) => i * 7);
  assert.deepEqual(decodeKey(encodeKey(key)), key);
  for (const length of [0, 31, 33, 64]) assert.equal(decodeKey(encodeKey(new Uint8Array(length))), undefined);
  for (const text of [encodeKey(key).slice(0, -1), `${encodeKey(key)}=`, encodeKey(key).replace("A", "-"), "{}"])
    assert.equal(decodeKey(text), undefined, text);
  assert.equal(decodeKey(`${"A".repeat(42)}B=`), undefined, "bits behind the last byte");
});

test("spec 01, 15.2.16: replies are told apart by shape", () => {
  const details = { resource_id: ID, gateway_id: RELAY.id, gateway_group_id: SITE.id, gateway_remote_ip: "192.0.2.9" };
  assert.equal(clientReplySchema.parse(details).type, "connection-details");
  const { gateway_group_id: _, ...later } = { ...details, site_id: SITE.id };
  const reply = clientReplySchema.parse(later);
  assert.ok(reply.type === "connection-details" && reply.siteId === SITE.id);
  assert.equal(clientReplySchema.safeParse({ ...details, gateway_remote_ip: "nowhere" }).success, false);

  const connect = {
    resource_id: ID,
    gateway_public_key: keyOf(3),
    persistent_keepalive: 25,
    gateway_payload: {
      ConnectionAccepted: {
        ice_parameters: { username: "Zz9y", password: "lkjihgfedcba9876543210" },
        domain_response: { domain: "git.example.com", address: ["192.0.2.7"] },
      },
    },
  };
  const answer = clientReplySchema.parse(connect);
  assert.ok(answer.type === "connect" && answer.answer.type === "connection-accepted");
  assert.deepEqual(answer.answer.credentials, { username: "Zz9y", password: "lkjihgfedcba9876543210" });
  const accepted = { ResourceAccepted: { domain_response: { domain: "git.example.com", address: [] } } };
  const other = clientReplySchema.parse({ ...connect, gateway_payload: accepted });
  assert.ok(other.type === "connect" && other.answer.type === "resource-accepted");
  for (const response of [null, {}, [], "text", { resource_id: ID }])
    assert.equal(clientReplySchema.safeParse(response).success, false);
});

function connectionRequest(payload: object, rest: object = { expires_at: 1725350400 }) {
  return gatewayPush("request_connection", {
    ref: "SFMyNTY.opaque.sig",
    resource: GATEWAY_CIDR,
    client: {
      id: SITE.id,
      peer: { public_key: keyOf(1), preshared_key: keyOf(2), ...INTERFACE, persistent_keepalive: 25 },
      payload: { ice_parameters: { username: "aB3d", password: "0123456789abcdefghijkl" }, ...payload },
    },
    ...rest,
  });
}

test("spec 01, 15.2.17: a gateway understands a request without domain, with one, and with the name alone", () => {
  const domain = (payload: object) => {
    const extra = { expires_at: null, actor: { id: ID }, relays: [], flow_id: 7 };
    const push = accepted(connectionRequest(payload, extra));
    assert.ok(push.event === "request_connection");
    return push.payload.domain;
  };
  assert.equal(domain({}), undefined);
  assert.equal(domain({ domain: null }), undefined);
  assert.deepEqual(domain({ domain: "git.example.com" }), { name: "git.example.com", proxyIps: [] });
  const full = domain({ domain: { name: "git.example.com", proxy_ips: ["100.96.0.1", "fd00:2021:1111:8000::"] } });
  assert.deepEqual(full?.proxyIps.map(String), ["100.96.0.1", "fd00:2021:1111:8000::"]);
});

test("spec 01, 15.2.18: without expires_at the message is dropped; null never expires; seconds become milliseconds", () => {
  assert.equal(connectionRequest({}, {}).success, false);
  const expiry = (expires_at: number | null) => {
    const push = accepted(connectionRequest({}, { expires_at }));
    assert.ok(push.event === "request_connection");
    return push.payload.expiresAt;
  };
  assert.equal(expiry(null), undefined);
  assert.equal(expiry(1725350400), 1725350400_000);
  const access = { ref: "r", client_id: SITE.id, resource: GATEWAY_CIDR };
  assert.equal(gatewayPush("allow_access", access).success, false);
  accepted(gatewayPush("allow_access", { ...access, expires_at: null }));
});

test("spec 01, 15.2.19: relays_presence has ids and TURN entries; others are skipped", () => {
  const payload = {
    disconnected_ids: [ID],
    connected: [RELAY, { id: ID, type: "stun", addr: RELAY.addr }, { type: 7 }],
  };
  for (const push of [clientPush("relays_presence", payload), gatewayPush("relays_presence", payload)]) {
    const { payload: presence } = accepted<{ event: string; payload: unknown }>(push);
    const { disconnectedIds, connected } = presence as { disconnectedIds: string[]; connected: { address: unknown }[] };
    assert.deepEqual(disconnectedIds, [ID]);
    assert.deepEqual(
      connected.map(({ address }) => String(address)),
      [RELAY.addr],
    );
  }
  assert.equal(clientPush("relays_presence", { connected: [] }).success, false);
});

test("spec 01, 15.2.20: a connection request has the reference's members", () => {
  const message = requestConnection(RELAY.id, ID, new Uint8Array(32).fill(2), { username: "u", password: "p" });
  assert.deepEqual(message, {
    event: "request_connection",
    payload: {
      gateway_id: RELAY.id,
      resource_id: ID,
      client_preshared_key: keyOf(2),
      client_payload: { ice_parameters: { username: "u", password: "p" }, domain: null },
    },
  });
});

test("spec 01, 15.2.22: a network with host bits is skipped, and so is what is unknown; the rest of init counts", () => {
  const { resources } = init({
    resources: [
      { ...CIDR, address: "10.20.0.1/16" },
      { ...CIDR, type: "static_device_pool" },
      { ...CIDR, gateway_groups: undefined },
      7,
      CIDR,
    ],
  });
  assert.deepEqual(
    resources.map(({ id }) => id),
    [ID],
  );
});

test("spec 01, 15.6.50: allow_access without payload, with null and with a domain decodes", () => {
  const access = { ref: "r", client_id: SITE.id, resource: GATEWAY_CIDR, expires_at: null };
  for (const [payload, name] of [
    [{}, undefined],
    [{ payload: null }, undefined],
    [{ payload: { name: "git.example.com", proxy_ips: ["100.96.0.1"] } }, "git.example.com"],
  ] as const) {
    const push = accepted(gatewayPush("allow_access", { ...access, ...payload }));
    assert.ok(push.event === "allow_access");
    assert.equal(push.payload.domain?.name, name);
  }
  accepted(gatewayPush("reject_access", { flow_id: "f", client_id: SITE.id, resource_id: ID }));
});

test("spec 02, 15.1.9: the signalling messages of section 3.2 go through JSON unchanged, on both sides", () => {
  const candidates = [
    "candidate:fffeff7eedd1c3d03373177f 1 udp 2130706175 10.0.0.5 40123 typ host",
    "candidate:ffffff022f169fa007202cbb 1 udp 50331647 2001:db8:9::1 51200 typ relay",
  ];
  for (const event of ["ice_candidates", "invalidate_ice_candidates"]) {
    const toClient = { event, payload: { gateway_id: ID, candidates } };
    assert.deepEqual(accepted(clientPushSchema.safeParse(JSON.parse(JSON.stringify(toClient)))), toClient);
    const toGateway = { event, payload: { client_id: ID, candidates } };
    assert.deepEqual(accepted(gatewayPushSchema.safeParse(JSON.parse(JSON.stringify(toGateway)))), toGateway);
  }
});

test("spec 01, 6: ids are UUIDs of any version, candidates are skipped one by one", () => {
  const push = clientPush("ice_candidates", {
    gateway_id: "00000000-0000-0000-0000-000000000001",
    candidates: ["a", 7, "b"],
  });
  const { payload } = accepted(push);
  assert.deepEqual(payload, { gateway_id: "00000000-0000-0000-0000-000000000001", candidates: ["a", "b"] });
  assert.equal(clientPush("resource_deleted", "7").success, false);
  assert.equal(clientPush("unknown_event", {}).success, false);
});
