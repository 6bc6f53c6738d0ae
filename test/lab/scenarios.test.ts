// The laboratory's scenarios as tests, one by one; `npm run lab -- NAME` runs one with its progress. The environment variable
// WIRELANE_LAB_RELAY=coturn puts coturn in the place of wirelane's relays.

import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { bestPath } from "./matrix.js";
import { routerSkip } from "./router-skip.js";
import { describeFailure, runScenario, whyNot } from "./scenario.js";
import { scenarios } from "./scenarios.js";

/** What of the specification a scenario shows: statements of spec 02, section 15.5, and of spec 03, section 8. */
const STATEMENTS: Readonly<Record<string, string>> = {
  "direct-curl-portal-down": "spec 02, 15.5.1",
  "direct-curl-portal-restart": "spec 02, 15.5.1",
  "direct-curl-portal-relay-down": "spec 02, 15.5.1; spec 03, 8.3.38",
  "relayed-curl": "spec 02, 15.5.2",
  "relayed-curl-portal-down": "spec 02, 15.5.2; spec 03, 8.3.38",
  "relayed-curl-portal-restart": "spec 02, 15.5.2; spec 03, 8.3.38",
  "relayed-curl-relay-restart": "spec 02, 15.5.2; spec 03, 8.3.38",
  "relay-graceful-shutdown": "spec 02, 15.5.3; spec 03, 8.3.36 and 8.3.37",
  "direct-curl-relay-restart": "spec 02, 15.5.4",
  "direct-download-roaming-network": "spec 02, 15.5.5",
  "relayed-download-roaming-network": "spec 02, 15.5.5; spec 03, 8.6.85",
  "roaming-between-nats": "spec 02, 15.5.5",
  "ipv6-to-ipv4": "spec 02, 15.5.8; spec 03, 8.6.89",
};

const relayKind = process.env["WIRELANE_LAB_RELAY"] === "coturn" ? "coturn" : "wirelane";

test("names of scenarios are unique and can be typed", () => {
  const names = scenarios.map(({ name }) => name);
  assert.equal(new Set(names).size, names.length);
  for (const name of names) assert.match(name, /^[a-z0-9]+(-[a-z0-9]+)*$/);
});

test("statements are shown by scenarios that exist", () => {
  const names = new Set(scenarios.map(({ name }) => name));
  for (const name of Object.keys(STATEMENTS)) assert.ok(names.has(name), name);
});

test("the matrix expects direct paths wherever both NATs allow them", () => {
  assert.equal(bestPath("port-restricted", "double", "ipv4"), "direct");
  assert.equal(bestPath("symmetric", "port-restricted", "ipv4"), "relayed");
  assert.equal(bestPath("symmetric", "open", "ipv4"), "direct");
  assert.equal(bestPath("symmetric", "symmetric", "ipv6"), "direct");
});

describe("laboratory", { skip: routerSkip }, () => {
  for (const scenario of scenarios) {
    const shown = STATEMENTS[scenario.name];
    test(`${scenario.name}: ${scenario.description}${shown === undefined ? "" : ` (${shown})`}`, {
      skip: whyNot(scenario, relayKind) ?? false,
    }, async (context) => {
      const result = await runScenario(scenario, { relayKind });
      for (const note of result.notes) context.diagnostic(note);
      assert.equal(result.outcome, "passed", describeFailure(result));
    });
  }
});

describe("laboratory, with coturn's turnserver as the only relay", { skip: routerSkip }, () => {
  for (const scenario of scenarios.filter(({ name }) => name === "relayed-curl" || name === "direct-becomes-relayed")) {
    test(scenario.name, { skip: whyNot(scenario, "coturn") ?? false }, async () => {
      const result = await runScenario(scenario, { relayKind: "coturn" });
      assert.equal(result.outcome, "passed", describeFailure(result));
    });
  }
});
