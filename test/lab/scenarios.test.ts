// The laboratory's scenarios as tests, one by one; `npm run lab -- NAME` runs one with its progress. The environment variable
// WIRELANE_LAB_RELAY=coturn puts coturn in the place of wirelane's relays.

import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { bestPath } from "./matrix.js";
import { routerSkip } from "./router-skip.js";
import { describeFailure, runScenario, whyNot } from "./scenario.js";
import { scenarios } from "./scenarios.js";

const relayKind = process.env["WIRELANE_LAB_RELAY"] === "coturn" ? "coturn" : "wirelane";

test("names of scenarios are unique and can be typed", () => {
  const names = scenarios.map(({ name }) => name);
  assert.equal(new Set(names).size, names.length);
  for (const name of names) assert.match(name, /^[a-z0-9]+(-[a-z0-9]+)*$/);
});

test("the matrix expects direct paths wherever both NATs allow them", () => {
  assert.equal(bestPath("port-restricted", "double", "ipv4"), "direct");
  assert.equal(bestPath("symmetric", "port-restricted", "ipv4"), "relayed");
  assert.equal(bestPath("symmetric", "open", "ipv4"), "direct");
  assert.equal(bestPath("symmetric", "symmetric", "ipv6"), "direct");
});

describe("laboratory", { skip: routerSkip }, () => {
  for (const scenario of scenarios) {
    test(`${scenario.name}: ${scenario.description}`, {
      skip: whyNot(scenario, relayKind) ?? false,
    }, async (context) => {
      const result = await runScenario(scenario, { relayKind });
      for (const note of result.notes) context.diagnostic(note);
      assert.equal(result.outcome, "passed", describeFailure(result));
    });
  }
});
