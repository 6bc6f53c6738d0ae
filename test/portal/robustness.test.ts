// Whatever arrives, nothing throws: random and mutated frames into the channel, the schemas, the portal's state and its file.

import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { clientPushSchema, clientReplySchema } from "../../src/portal/client-messages.js";
import { gatewayPushSchema } from "../../src/portal/gateway-messages.js";
import { PhoenixChannel } from "../../src/portal/phoenix-channel.js";
import { ConfigurationError, parseConfiguration } from "../../src/portal/server/configuration.js";
import { EXAMPLE_CONFIGURATION } from "../../src/portal/server/example.js";
import { keyOf, member, PortalBench } from "../support/portal-programs.js";
import { assertProperty } from "../support/property.js";
import { seededRandom } from "../support/random.js";

const ID = "1b0e3a52-8f1c-4a76-9d0e-5a7f6c1d2e30";
const ICE = { username: "aB3d", password: "0123456789abcdefghijkl" };
const INTERFACE = { ipv4: "100.71.12.9", ipv6: "fd00:2021:1111::7:c09" };
const RELAY = { id: ID, type: "turn", addr: "203.0.113.7:3478", username: "1:a", password: "b", expires_at: 1 };
const RESOURCE = {
  type: "cidr",
  id: ID,
  name: "LAN",
  address: "10.20.0.0/16",
  gateway_groups: [{ id: ID, name: "Berlin" }],
  filters: [{ protocol: "tcp", port_range_start: 1, port_range_end: 2 }],
};
const DOMAIN = { name: "git.example.com", proxy_ips: ["100.96.0.1"] };

/** Valid payloads by event, of both directions. */
const PAYLOADS: Readonly<Record<string, unknown>> = {
  init: {
    interface: { ...INTERFACE, upstream_dns: [{ protocol: "ip_port", address: "192.0.2.1:53" }] },
    resources: [RESOURCE],
    relays: [RELAY],
    config: { ipv4_masquerade_enabled: true, ipv6_masquerade_enabled: true },
  },
  config_changed: { interface: INTERFACE },
  resource_created_or_updated: RESOURCE,
  resource_updated: RESOURCE,
  resource_deleted: ID,
  relays_presence: { disconnected_ids: [ID], connected: [RELAY] },
  ice_candidates: { gateway_id: ID, client_id: ID, candidates: ["c"] },
  allow_access: { ref: "r", client_id: ID, resource: RESOURCE, expires_at: 1, payload: DOMAIN },
  reject_access: { client_id: ID, resource_id: ID },
  request_connection: {
    ref: "r",
    resource: RESOURCE,
    expires_at: null,
    client: {
      id: ID,
      peer: { public_key: keyOf(1), preshared_key: keyOf(2), ...INTERFACE },
      payload: { ice_parameters: ICE, domain: DOMAIN },
    },
    gateway_id: "GATEWAY",
    resource_id: ID,
    client_preshared_key: keyOf(9),
    client_payload: { ice_parameters: ICE, domain: null },
  },
  reuse_connection: { gateway_id: "GATEWAY", resource_id: ID, payload: DOMAIN },
  prepare_connection: { resource_id: ID, connected_gateway_ids: ["GATEWAY"] },
  connection_ready: {
    ref: "REF",
    gateway_payload: { ConnectionAccepted: { ice_parameters: ICE, domain_response: null } },
  },
  broadcast_ice_candidates: { gateway_ids: ["GATEWAY"], client_ids: ["CLIENT"], candidates: ["c"] },
  broadcast_invalidated_ice_candidates: { gateway_ids: ["GATEWAY"], client_ids: ["CLIENT"], candidates: ["c"] },
  metrics: {},
  heartbeat: {},
  phx_join: { stamp_secret: "s" },
  phx_leave: {},
  phx_error: {},
  phx_close: {},
  phx_reply: { status: "ok", response: {} },
  disconnect: { reason: "token_expired" },
};
const REPLIES: readonly unknown[] = [
  { resource_id: ID, gateway_id: ID, gateway_group_id: ID, gateway_remote_ip: "192.0.2.1" },
  {
    resource_id: ID,
    gateway_public_key: keyOf(1),
    persistent_keepalive: 25,
    gateway_payload: { ConnectionAccepted: { ice_parameters: ICE } },
  },
  { status: "error", response: { reason: "offline" } },
];

/** One change: at the place that `where` leads to, through `value`. */
interface Mutation {
  readonly where: readonly number[];
  readonly value: unknown;
  readonly how: "replace" | "remove" | "keep";
}

const mutation: fc.Arbitrary<Mutation> = fc.record({
  where: fc.array(fc.nat(20), { maxLength: 4 }),
  value: fc.oneof(
    fc.jsonValue({ maxDepth: 2 }),
    fc.constantFrom<unknown>(
      "",
      "__proto__",
      "toString",
      -1,
      2 ** 53,
      1e300,
      {},
      [],
      null,
      "0.0.0.0/33",
      "[::1]:99999",
    ),
  ),
  how: fc.constantFrom("replace", "remove", "keep"),
});

function mutate(value: unknown, { where, value: replacement, how }: Mutation, depth = 0): unknown {
  if (how === "keep") return value;
  const step = where[depth];
  if (typeof value !== "object" || value === null || step === undefined) return replacement;
  const keys = Object.keys(value);
  const key = keys[step % Math.max(1, keys.length)];
  if (key === undefined) return replacement;
  const inner = mutate(member(value, key), { where, value: replacement, how }, depth + 1);
  const isLast = depth + 1 >= where.length;
  if (Array.isArray(value))
    return value.flatMap((item, i) => (String(i) === key ? (how === "remove" && isLast ? [] : [inner]) : [item]));
  const { [key]: _, ...rest } = value as Record<string, unknown>;
  return how === "remove" && isLast ? rest : { ...rest, [key]: inner };
}

const payload = fc
  .tuple(fc.constantFrom(...Object.keys(PAYLOADS)), mutation)
  .map(([event, change]) => ({ event, payload: mutate(PAYLOADS[event], change) }));

/** A frame: valid, with one change anywhere, cut off, or any text. */
const frame = fc.oneof(
  {
    weight: 8,
    arbitrary: fc
      .tuple(fc.constantFrom("client", "gateway", "relay", "phoenix"), payload, fc.nat(5))
      .map(([topic, message, ref]) => JSON.stringify({ topic, ...message, ref })),
  },
  {
    weight: 2,
    arbitrary: fc
      .tuple(payload, mutation, fc.nat(5))
      .map(([message, change, ref]) => JSON.stringify(mutate({ topic: "client", ...message, ref }, change)) ?? ""),
  },
  {
    weight: 1,
    arbitrary: fc.tuple(payload, fc.nat(400)).map(([message, length]) => JSON.stringify(message).slice(0, length)),
  },
  { weight: 1, arbitrary: fc.string({ maxLength: 40 }) },
);

test("spec 01, 6: the schemas judge whatever comes, and never throw", () => {
  assertProperty(
    fc.property(fc.oneof({ weight: 4, arbitrary: payload }, { weight: 1, arbitrary: fc.anything() }), (message) => {
      clientPushSchema.safeParse(message);
      gatewayPushSchema.safeParse(message);
    }),
    { seed: 1, numRuns: 20_000 },
  );
  assertProperty(
    fc.property(fc.constantFrom(...REPLIES), mutation, (reply, change) => {
      clientReplySchema.safeParse(mutate(reply, change));
    }),
    { seed: 2, numRuns: 20_000 },
  );
});

test("spec 01, 5: the channel takes whatever comes, and stays a channel", () => {
  const input = fc.oneof(
    { weight: 6, arbitrary: frame },
    {
      weight: 1,
      arbitrary: fc.constantFrom(
        { what: "open" },
        { what: "closed" },
        { what: "refused" },
        { what: "send" },
        { what: "reconnect" },
      ),
    },
    { weight: 1, arbitrary: fc.record({ what: fc.constant("wait"), time: fc.nat(40_000) }) },
  );
  assertProperty(
    fc.property(fc.nat(), fc.array(input, { maxLength: 12 }), (seed, inputs) => {
      const channel = new PhoenixChannel({ topic: "client", joinPayload: null, random: seededRandom(seed) }, 0);
      let now = 0;
      channel.handleTimeout(now);
      channel.handleOpened(now);
      for (const step of inputs) {
        if (typeof step === "string") channel.handleText(step, now);
        else if (step.what === "open") channel.handleOpened(now);
        else if (step.what === "closed") channel.handleClosed("x", now);
        else if (step.what === "refused") channel.handleFailure({ type: "http", status: 503 }, now);
        else if (step.what === "send") channel.send("m", {});
        else if (step.what === "reconnect") channel.reconnect(now);
        else if ("time" in step) now += step.time;
        channel.handleTimeout(now);
        const timeout = channel.pollTimeout();
        assert.ok(timeout === undefined || Number.isFinite(timeout));
        let events = 0;
        for (let event = channel.pollEvent(); event !== undefined; event = channel.pollEvent()) {
          events++;
          if (event.type === "send") assert.ok(Number.isInteger(member(JSON.parse(event.text), "ref")));
        }
        assert.ok(events < 50);
      }
    }),
    { seed: 3, numRuns: 20_000 },
  );
});

const CONFIGURATION = `
sites: [{ name: office, tokens: [gateway-token] }]
actors: [{ name: alice, tokens: [alice-token] }]
resources: [{ name: lan, type: cidr, address: 10.20.0.0/16, sites: [office], id: ${ID} }]
policies: [{ actor: alice, resource: lan }]
relays: { tokens: [relay-token] }
`;

test("spec 01, 12: the portal takes whatever programs send, and answers with frames", () => {
  const roles = ["client", "gateway", "relay"] as const;
  const step = fc.tuple(fc.constantFrom(...roles), frame, fc.boolean());
  const before = parseConfiguration(CONFIGURATION, "portal.yaml");
  const after = parseConfiguration(CONFIGURATION.replace("10.20", "10.21"), "portal.yaml");
  let answers = 0;
  assertProperty(
    fc.property(fc.array(step, { minLength: 1, maxLength: 10 }), (steps) => {
      const bench = new PortalBench(before);
      const programs = {
        client: bench.join("client", { token: "alice-token" }),
        gateway: bench.join("gateway", { token: "gateway-token" }),
        relay: bench.join("relay", { token: "relay-token" }, { stamp_secret: "s" }),
      };
      let ref = "REF";
      for (const [role, text, own] of steps) {
        const named = text
          .replaceAll("GATEWAY", programs.gateway.id)
          .replaceAll("CLIENT", programs.client.id)
          .replaceAll("REF", ref);
        programs[role].sendText(own ? named.replace(/"topic":"[a-z]*"/, `"topic":"${role}"`) : named);
        for (const { payload: sent } of programs.gateway.take()) ref = String(member(sent, "ref") ?? ref);
        for (const program of Object.values(programs)) answers += program.take().length;
      }
      bench.configure(after);
      bench.state.announceRelays();
      bench.deliver();
    }),
    { seed: 4, numRuns: 20_000 },
  );
  assert.ok(answers > 20_000, `${answers} answers`);
});

test("a login with whatever parameters is judged", () => {
  const text = fc.option(
    fc.oneof(fc.string(), fc.constantFrom("alice-token", "relay-token", "192.0.2.1", "::1", keyOf(1))),
    { nil: undefined },
  );
  const login = fc.record({
    token: text,
    externalId: text,
    publicKey: text,
    ipv4: text,
    ipv6: text,
    port: text,
    userAgent: fc.oneof(text, fc.constant("connlib/1.2.1")),
    remoteIp: fc.string(),
  });
  const { state } = new PortalBench(CONFIGURATION);
  assertProperty(
    fc.property(fc.constantFrom("client", "gateway", "relay"), login, (role, parameters) => {
      const result = state.login(role, parameters, 0);
      if (result.type === "accepted") state.disconnected(result.session);
    }),
    { seed: 5, numRuns: 20_000 },
  );
  assert.equal(state.sessions.size, 0);
});

test("a file with whatever in it is read, or refused with line and column", () => {
  const edit = fc.record({
    at: fc.nat(EXAMPLE_CONFIGURATION.length),
    remove: fc.nat(30),
    insert: fc.string({ maxLength: 8 }),
  });
  assertProperty(
    fc.property(fc.array(edit, { minLength: 1, maxLength: 4 }), (edits) => {
      let text = EXAMPLE_CONFIGURATION;
      for (const { at, remove, insert } of edits) text = text.slice(0, at) + insert + text.slice(at + remove);
      try {
        parseConfiguration(text, "portal.yaml");
      } catch (error) {
        assert.ok(error instanceof ConfigurationError, String(error));
        assert.ok(error.problems.length > 0 && error.problems.every(({ line, column }) => line > 0 && column > 0));
      }
    }),
    { seed: 6, numRuns: 2000 },
  );
});
