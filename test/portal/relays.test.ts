// Relays: credentials, selection, presence; and the selection of gateways by place (spec 01, sections 11.6, 11.8, 11.9).

import assert from "node:assert/strict";
import { test } from "node:test";
import { type Coordinates, distance, groupByDistance, parseCoordinates } from "../../src/portal/server/geography.js";
import { relayCredentials, relayPassword } from "../../src/portal/server/relay-credentials.js";
import { relayId } from "../../src/portal/server/relays.js";
import { compareVersions, parseVersion, userAgentVersion } from "../../src/portal/server/versions.js";
import { keyOf, member, PortalBench, type PortalProgram } from "../support/portal-programs.js";

const CONFIGURATION = `
sites: [{ name: office, tokens: [gateway-token] }]
actors: [{ name: alice, tokens: [alice-token, { token: short-token, expires_at: "2026-01-02T00:00:00Z" }] }]
resources: [{ name: lan, type: cidr, address: 10.20.0.0/16, sites: [office], id: 11111111-1111-4111-8111-111111111111 }]
policies: [{ actor: alice, resource: lan }]
relays: { tokens: [relay-token] }
`;

const BERLIN = { latitude: 52.52, longitude: 13.4 };
const PARIS = { latitude: 48.86, longitude: 2.35 };
const TOKYO = { latitude: 35.68, longitude: 139.69 };

interface Entry {
  readonly id: string;
  readonly addr: string;
  readonly username: string;
  readonly password: string;
  readonly expires_at: number;
}

function joinRelay(bench: PortalBench, number: number, location?: Coordinates): PortalProgram {
  const login = { token: "relay-token", ipv4: `192.0.2.${number}`, location };
  return bench.join("relay", login, { stamp_secret: `secret ${number}` });
}

/** Ids that the relays of these numbers have. */
function ids(...numbers: readonly number[]): string[] {
  return numbers.map((number) => relayId(`secret ${number}`));
}

function initRelays(bench: PortalBench, login: object = {}): Entry[] {
  const client = bench.signIn("client", { token: "alice-token", ...login });
  client.send("phx_join", null);
  const relays = member(client.takeOnly("init"), "relays") as Entry[];
  client.close();
  return relays;
}

function presence(program: PortalProgram): { disconnected: string[]; connected: string[] } {
  const payload = program.takeOnly("relays_presence");
  return {
    disconnected: member(payload, "disconnected_ids") as string[],
    connected: (member(payload, "connected") as Entry[]).map(({ id }) => id),
  };
}

test("spec 01, 15.7.57: the password's test vectors", () => {
  assert.equal(
    relayPassword("1cab293a-4032-46f4-862a-40e5d174b0d2", 1685984278, "uvdgKvS9GXYZ_vmv"),
    "6xUIoZ+QvxKhRasLifwfRkMXl+ETLJUsFkHlXjlHAkg",
  );
  assert.equal(
    relayPassword("4c98bf59c99b3e467ecd7cf9d6b3e5279645fca59be67bc5bb4af3cf653761ab", 1892160000, "n23JJ2wKKtt30oXi"),
    "00hqldgk5xLeKKOB+xls9mHMVtgqzie9DulfgQwMv68",
  );
});

test("spec 01, 14.6: a relay's id comes from its secret, and credentials are the same for the same device", () => {
  const secret = "a54dca182530bb1d6d132cded6237b2ed91e3f721fcb1971174494d6493c9d5c";
  assert.equal(relayId(secret), "869f2100-f71b-4901-88d8-239cadd2e4b5");
  const { username, password } = relayCredentials(secret, 1892160000, keyOf(1));
  assert.match(username, /^1892160000:[A-Za-z0-9_-]{22}$/);
  assert.match(password, /^[A-Za-z0-9+/]{43}$/);
  assert.deepEqual(relayCredentials(secret, 1892160000, keyOf(1)), { username, password });
  assert.notEqual(relayCredentials(secret, 1892160000, keyOf(2)).username, username);
});

test("spec 01, 11.8: a dual-stack relay has two entries, IPv4 first; they hold until the token ends, a gateway's until 2038", () => {
  const bench = new PortalBench(CONFIGURATION);
  const login = { token: "relay-token", ipv4: "192.0.2.9", ipv6: "2001:db8::9", port: "1234" };
  bench.join("relay", login, { stamp_secret: "s" });
  const entries = initRelays(bench, { token: "short-token" });
  assert.deepEqual(
    entries.map(({ addr }) => addr),
    ["192.0.2.9:1234", "[2001:db8::9]:1234"],
  );
  for (const { id, username, password, expires_at } of entries) {
    assert.equal(id, relayId("s"));
    assert.equal(expires_at, Date.UTC(2026, 0, 2) / 1000);
    const [expiry = "", salt = ""] = username.split(":");
    assert.equal(password, relayPassword("s", Number(expiry), salt));
    assert.equal(Number(expiry), expires_at);
  }
  const gateway = bench.signIn("gateway", { token: "gateway-token" });
  gateway.send("phx_join", null);
  const relays = member(gateway.takeOnly("init"), "relays") as Entry[];
  assert.deepEqual(
    relays.map(({ expires_at }) => expires_at),
    Array(2).fill(Date.UTC(2038, 0, 1) / 1000),
  );
});

test("spec 01, 15.8.75: a relay that goes is named and others are offered; with none left the list is empty", () => {
  const bench = new PortalBench(CONFIGURATION);
  const relays = [1, 2, 3].map((number) => joinRelay(bench, number));
  const client = bench.signIn("client", { token: "alice-token" });
  client.send("phx_join", null);
  const given = (member(client.takeOnly("init"), "relays") as Entry[]).map(({ id }) => id);
  assert.equal(given.length, 2);
  const byId = new Map(ids(1, 2, 3).map((id, i) => [id, relays[i]]));
  const [lost = "", kept = ""] = given;

  const before = bench.state.relaysRevision;
  byId.get(lost)?.close();
  assert.ok(bench.state.relaysRevision > before);
  assert.deepEqual(client.take(), []);
  bench.state.announceRelays();
  const first = presence(client);
  assert.deepEqual(first.disconnected, [lost]);
  assert.ok(!first.connected.includes(lost) && first.connected.includes(kept), "what is left is kept");

  for (const session of [...bench.state.sessions]) if (session.role === "relay") bench.state.disconnected(session);
  bench.state.announceRelays();
  const second = presence(client);
  assert.deepEqual(second.connected, []);
  assert.deepEqual(new Set(second.disconnected), new Set(first.connected));
  bench.state.announceRelays();
  assert.deepEqual(client.take(), []);
});

test("spec 01, 15.8.75 with the later behaviour: relays are announced to who has fewer than two, not to others", () => {
  const bench = new PortalBench(CONFIGURATION);
  const gateway = bench.join("gateway", { token: "gateway-token" });
  joinRelay(bench, 1);
  bench.state.announceRelays();
  assert.deepEqual(presence(gateway), { disconnected: [], connected: ids(1) });
  joinRelay(bench, 2);
  bench.state.announceRelays();
  assert.deepEqual(presence(gateway), { disconnected: [], connected: ids(1, 2) });
  joinRelay(bench, 3);
  bench.state.announceRelays();
  assert.deepEqual(gateway.take(), []);
});

test("spec 01, 11.9 with the later behaviour: a relay that is back within the quiet time was not away", () => {
  const bench = new PortalBench(CONFIGURATION);
  const relay = joinRelay(bench, 1);
  const client = bench.join("client", { token: "alice-token" });
  relay.close();
  joinRelay(bench, 1);
  bench.state.announceRelays();
  assert.deepEqual(client.take(), []);
});

test("spec 01, 12.10: a relay with a new secret replaces the old one in one message", () => {
  const bench = new PortalBench(CONFIGURATION);
  const relay = joinRelay(bench, 1);
  const client = bench.join("client", { token: "alice-token" });
  relay.close();
  bench.join("relay", { token: "relay-token", ipv4: "192.0.2.1" }, { stamp_secret: "secret 4" });
  bench.state.announceRelays();
  assert.deepEqual(presence(client), { disconnected: ids(1), connected: ids(4) });
});

test("relays of the file need no session; when their credentials change, they are other relays", () => {
  const fixed = (password: string) =>
    CONFIGURATION.replace(
      "tokens: [relay-token]",
      `tokens: [], static: [{ address: "192.0.2.7:3478", username: u, password: ${password} }]`,
    );
  const bench = new PortalBench(fixed("p"));
  const client = bench.signIn("client", { token: "alice-token" });
  client.send("phx_join", null);
  const [entry] = member(client.takeOnly("init"), "relays") as Entry[];
  assert.deepEqual([entry?.addr, entry?.username, entry?.password], ["192.0.2.7:3478", "u", "p"]);
  bench.configure(fixed("other"));
  bench.state.announceRelays();
  const { disconnected, connected } = presence(client);
  assert.deepEqual(disconnected, [entry?.id]);
  assert.ok(connected.length === 1 && connected[0] !== entry?.id);
});

test("spec 01, 15.8.76: relays of the two nearest places, one of each; unknown places last; without location any two", () => {
  const bench = new PortalBench(CONFIGURATION);
  joinRelay(bench, 1, TOKYO);
  joinRelay(bench, 2);
  joinRelay(bench, 3, BERLIN);
  joinRelay(bench, 4, BERLIN);
  const select = (location?: Coordinates) => initRelays(bench, { location }).map(({ id }) => id);
  const berlin = ids(3, 4);
  const seen = new Set<string>();
  for (let i = 0; i < 50; i++) {
    const [nearest = "", next] = select(PARIS);
    assert.ok(berlin.includes(nearest));
    assert.equal(next, ids(1)[0]);
    seen.add(nearest);
  }
  assert.deepEqual(seen, new Set(berlin));
  const anywhere = new Set(Array.from({ length: 100 }, () => select()).flat());
  assert.deepEqual(anywhere, new Set(ids(1, 2, 3, 4)));

  const sparse = new PortalBench(CONFIGURATION);
  joinRelay(sparse, 1, BERLIN);
  joinRelay(sparse, 2, BERLIN);
  assert.equal(initRelays(sparse, { location: PARIS }).length, 1);
  joinRelay(sparse, 5);
  assert.equal(initRelays(sparse, { location: PARIS })[1]?.id, ids(5)[0]);
});

test("spec 01, 15.8.77: gateways of the nearest place, there the newest version, random among equals", () => {
  const bench = new PortalBench(CONFIGURATION);
  const gateway = (externalId: string, location: Coordinates | undefined, version: string) =>
    bench.join("gateway", { token: "gateway-token", externalId, location, userAgent: `connlib/${version}` }).id;
  gateway("far", TOKYO, "9.0.0");
  gateway("unknown", undefined, "9.0.0");
  gateway("old", BERLIN, "1.9.0");
  const newest = [gateway("a", BERLIN, "1.10.0"), gateway("b", BERLIN, "1.10.0")];
  gateway("pre", BERLIN, "1.10.0-rc.1");
  const client = bench.join("client", { token: "alice-token", location: PARIS });
  const chosen = () =>
    member(
      client.ask("prepare_connection", { resource_id: "11111111-1111-4111-8111-111111111111" }),
      "response",
      "gateway_id",
    );
  assert.deepEqual(new Set(Array.from({ length: 100 }, chosen)), new Set(newest));
});

test("spec 01, 11.6: distances, and places sorted by them", () => {
  assert.ok(Math.abs(distance(BERLIN, PARIS) - 878) < 5);
  assert.equal(distance(BERLIN, BERLIN), 0);
  assert.ok(Math.abs(distance({ latitude: 0, longitude: 0 }, { latitude: 0, longitude: 180 }) - 20_015) < 1);
  const items = [{ location: undefined }, { location: TOKYO }, { location: PARIS }, { location: { ...TOKYO } }];
  assert.deepEqual(
    groupByDistance(items, BERLIN).map((group) => group.map((item) => items.indexOf(item))),
    [[2], [1, 3], [0]],
  );
});

test("spec 01, 11.1: coordinates are lat,lon as decimals; anything else is unknown", () => {
  assert.deepEqual(parseCoordinates("52.52, 13.4"), BERLIN);
  assert.deepEqual(parseCoordinates("-90,180"), { latitude: -90, longitude: 180 });
  for (const text of [undefined, "", "52.52", "91,0", "0,181", "a,b", "1,2,3", "1e3,0", "NaN,0"])
    assert.equal(parseCoordinates(text), undefined, text);
});

test("spec 01, 3.3: the version is the rest of the first word that starts with connlib/ or relay/", () => {
  assert.equal(userAgentVersion("Ubuntu/22.4.0 connlib/1.2.1 (x86_64; 6.5.0)"), "1.2.1");
  assert.equal(userAgentVersion("Mac OS/14 connlib/1.0 relay/2"), "1.0");
  assert.equal(userAgentVersion("relay/0.1.0"), "0.1.0");
  assert.equal(userAgentVersion("Mozilla/5.0"), undefined);
  for (const text of ["1.2", "1", "a.b.c", "1.2.3.4", "", "1.2.3-", "-1.2.3"])
    assert.equal(parseVersion(text), undefined);
  const sorted = ["0.9.9", "1.2.0-alpha", "1.2.0-beta", "1.2.0", "1.9.0", "1.10.0"];
  const versions = sorted.flatMap((text) => parseVersion(text) ?? []);
  assert.deepEqual([...versions].reverse().sort(compareVersions), versions);
});
