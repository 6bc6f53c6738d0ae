// The portal's file: what it may say, and that errors name line, column and field.

import assert from "node:assert/strict";
import { test } from "node:test";
import { ConfigurationError, parseConfiguration } from "../../src/portal/server/configuration.js";
import { EXAMPLE_CONFIGURATION } from "../../src/portal/server/example.js";
import { resourceId } from "../../src/portal/server/rendering.js";

function problems(text: string): string[] {
  try {
    parseConfiguration(text, "portal.yaml");
  } catch (error) {
    assert.ok(error instanceof ConfigurationError, String(error));
    assert.equal(error.message.split("\n").length, error.problems.length);
    return error.message.split("\n");
  }
  return [];
}

test("the example is valid", () => {
  const { sites, actors, resources, policies } = parseConfiguration(EXAMPLE_CONFIGURATION, "example");
  assert.ok(sites.length > 0 && actors.length > 0 && resources.length > 0 && policies.length > 0);
});

test("an empty file, and one of comments only, is a portal without anything", () => {
  for (const text of ["", "# nothing\n", "---\n"])
    assert.deepEqual(parseConfiguration(text, "portal.yaml").resources, []);
});

const BASE = `sites:
  - name: office
    tokens: [gateway-token]
actors:
  - name: alice
    groups: [staff]
    tokens: [client-token]
resources:
  - name: lan
    type: cidr
    address: 10.20.0.0/16
    sites: [office]
policies:
  - { actor: alice, resource: lan }
`;

const CASES: readonly (readonly [string, string, string, string])[] = [
  ["host bits", "10.20.0.0/16", "10.20.0.1/16", "portal.yaml:11:14: resources[0].address: a network like 10.0.0.0/8"],
  ["no prefix that is one", "10.20.0.0/16", "10.20.0.0/33", "portal.yaml:11:14: resources[0].address: a network"],
  ["tunnel range", "10.20.0.0/16", "100.80.0.0/16", "portal.yaml:11:14: resources[0].address: this network is the"],
  ["tunnel range", "10.20.0.0/16", '"fd00:2021:1111:1::/64"', "portal.yaml:11:14: resources[0].address: this network"],
  ["loopback", "10.20.0.0/16", "127.0.0.0/8", "portal.yaml:11:14: resources[0].address: this network is the tunnel's"],
  ["unspecified", "10.20.0.0/16", "0.0.0.0", "portal.yaml:11:14: resources[0].address: this network is the tunnel's"],
  ["type", "type: cidr", "type: network", "portal.yaml:10:11: resources[0].type: a type is missing: cidr, ip, dns or"],
  ["no type", "    type: cidr\n", "", "portal.yaml:9:5: resources[0].type: a type is missing"],
  [
    "unknown field",
    "    sites: [office]",
    "    site: [office]\n    sites: [office]",
    "portal.yaml:12:5: resources[0].site: there is no such field",
  ],
  ["unknown field", "policies:", "policy:", "portal.yaml:13:1: policy: there is no such field"],
  [
    "unknown site",
    "sites: [office]",
    "sites: [home]",
    'portal.yaml:12:13: resources[0].sites[0]: there is no site "home"',
  ],
  ["no site", "sites: [office]", "sites: []", "portal.yaml:12:12: resources[0].sites: "],
  ["unknown actor", "actor: alice", "actor: bob", 'portal.yaml:14:14: policies[0].actor: there is no actor "bob"'],
  [
    "unknown group",
    "actor: alice",
    "group: sales",
    'portal.yaml:14:14: policies[0].group: no actor is in a group "sales"',
  ],
  [
    "unknown resource",
    "resource: lan",
    "resource: wan",
    'portal.yaml:14:31: policies[0].resource: there is no resource "wan"',
  ],
  [
    "actor and group",
    "actor: alice",
    "actor: alice, group: staff",
    "portal.yaml:14:5: policies[0]: either actor or group",
  ],
  [
    "token twice",
    "client-token",
    "gateway-token",
    "portal.yaml:7:14: actors[0].tokens[0]: the same token occurs twice",
  ],
  ["token that is a number", "client-token", "12345", "portal.yaml:7:14: actors[0].tokens[0]: "],
  [
    "end of a token",
    "[client-token]",
    "[{ token: t, expires_at: tomorrow }]",
    "portal.yaml:7:38: actors[0].tokens[0].expires_at: ",
  ],
  [
    "field of a token",
    "[client-token]",
    "[{ token: t, expires: 1 }]",
    "portal.yaml:7:14: actors[0].tokens[0].expires_at: ",
  ],
  [
    "name twice",
    "policies:",
    "  - { name: lan, type: internet, sites: [office] }\npolicies:",
    'portal.yaml:13:13: resources[1].name: "lan" occurs twice',
  ],
  ["empty name", "name: office", 'name: ""', "portal.yaml:2:11: sites[0].name: "],
  [
    "DNS name",
    "type: cidr\n    address: 10.20.0.0/16",
    "type: dns\n    address: a..b",
    "portal.yaml:11:14: resources[0].address: a name like",
  ],
  [
    "port",
    "sites: [office]\n",
    "sites: [office]\n    filters: [{ protocol: tcp, ports: [80-70] }]\n",
    "portal.yaml:13:40: resources[0].filters[0].ports[0]: a port like 443",
  ],
  [
    "protocol",
    "sites: [office]\n",
    "sites: [office]\n    filters: [sctp]\n",
    "portal.yaml:13:15: resources[0].filters[0]: ",
  ],
  [
    "DNS server",
    "policies:",
    "upstream_dns: [dns.example.com]\npolicies:",
    "portal.yaml:13:16: upstream_dns[0]: an address, with or without port",
  ],
  [
    "relay",
    "policies:",
    "relays: { static: [{ address: 192.0.2.1, username: u, password: p }] }\npolicies:",
    "portal.yaml:13:31: relays.static[0].address: an address with port",
  ],
  ["list that is none", "groups: [staff]", "groups: staff", "portal.yaml:6:13: actors[0].groups: "],
  [
    "proxy",
    "policies:",
    "trusted_proxies: [proxy]\npolicies:",
    "portal.yaml:13:19: trusted_proxies[0]: a network like",
  ],
];

for (const [name, from, to, expected] of CASES)
  test(`an error names line, column and field: ${name} (${to.trim().split("\n")[0]})`, () => {
    assert.ok(BASE.includes(from));
    assert.deepEqual(problems(BASE), []);
    const [first = "", ...others] = problems(BASE.replace(from, to));
    assert.equal(first.slice(0, expected.length), expected, [first, ...others].join("\n"));
  });

test("errors of YAML itself name line and column", () => {
  assert.match(problems("sites:\n  - name: a\n   tokens: []\n")[0] ?? "", /^portal\.yaml:3:\d+: /);
  assert.match(problems("sites: [\n")[0] ?? "", /^portal\.yaml:[12]:\d+: /);
  assert.match(problems("sites: []\nsites: []\n")[0] ?? "", /^portal\.yaml:2:1: /);
  assert.match(problems("sites: *nowhere\n")[0] ?? "", /^portal\.yaml:1:\d+: /);
  assert.match(problems("7\n")[0] ?? "", /^portal\.yaml:1:1: file: /);
});

test("aliases that grow without bound are an error, and not many megabytes", () => {
  const lines = ["a: &a [x, x, x, x, x, x, x, x, x, x]"];
  for (let i = 1; i < 10; i++) {
    const [name, before] = [String.fromCharCode(97 + i), String.fromCharCode(96 + i)];
    lines.push(`${name}: &${name} [${Array(10).fill(`*${before}`).join(", ")}]`);
  }
  assert.match(problems(lines.join("\n")).join(), /alias/i);
});

test("errors never show a token", () => {
  const secret = "very-secret-token";
  for (const text of [
    BASE.replace("client-token", `${secret}, ${secret}`),
    BASE.replace("[client-token]", `[{ token: ${secret}, expires_at: never }]`),
    BASE.replace("[client-token]", `[{ ${secret} }]`).replace("gateway-token", "7"),
    BASE.replace("tokens: [client-token]", `tokens: ${secret}`),
    BASE.replace("[client-token]", `[[${secret}]]`),
    BASE.replace("[client-token]", `["${secret}]`),
  ]) {
    const found = problems(text);
    assert.ok(found.length > 0, text);
    // A token in the place of a field's name is taken for the name.
    if (!text.includes(`{ ${secret} }`)) assert.ok(!found.join().includes(secret), found.join("\n"));
  }
});

test("very many problems are reported up to a limit", () => {
  const policies = Array.from({ length: 500 }, () => "  - { actor: nobody, resource: nothing }").join("\n");
  assert.equal(problems(`policies:\n${policies}\n`).length, 50);
});

test("ids: the given one in lower case, or one derived from the name that stays", () => {
  const [lan] = parseConfiguration(BASE, "f").resources;
  const [again] = parseConfiguration(BASE.replace("10.20", "10.21"), "f").resources;
  assert.ok(lan !== undefined && again !== undefined);
  assert.equal(resourceId(lan), resourceId(again));
  const id = "ABCDEF00-1111-4111-8111-111111111111";
  const [given] = parseConfiguration(BASE.replace("type: cidr", `type: cidr\n    id: ${id}`), "f").resources;
  assert.equal(given?.id, id.toLowerCase());
  const twice = `  - { name: a, type: internet, sites: [office], id: ${id} }\n`.repeat(2).replace("name: a", "name: b");
  assert.match(problems(BASE.replace("policies:", `${twice}policies:`)).join(), /resources\[2\]\.id: another resource/);
});
