// `wirelane relay` with coturn's test clients: channels, indications, IPv6, many clients, two clients with each other. Nothing is lost,
// and nobody complains.

import assert from "node:assert/strict";
import { existsSync } from "node:fs";
import { after, afterEach, before, beforeEach, describe, test } from "node:test";
import type { LabHost } from "../../scripts/lab/host.js";
import { Lab } from "../../scripts/lab/lab.js";
import { runUclient, startTurnServer, type TurnServerProcess } from "../../scripts/lab/turn-programs.js";
import { labSkip } from "../support/lab-skip.js";

const skip =
  labSkip ||
  (!existsSync("/usr/bin/turnutils_uclient") && "needs coturn's turnutils: bash scripts/install-test-peers.sh");

const RELAY = "192.0.2.1";
const RELAY6 = "2001:db8::1";
const PEER = "192.0.2.2";
const PEER6 = "2001:db8::2";

/**
 * Each client allocates once for a trial, from a socket that it then closes. One in eleven runs with 50 clients has the luck that the kernel gives a
 * later socket the port of one of those: a mismatch for every server (RFC 8656, section 7.2), and the client takes another port.
 */
const PORT_AGAIN = /^.*(error 437 \(Allocation Mismatch\)|trying allocate again 437).*\n/gm;

describe("coturn's clients against wirelane relay", { skip, timeout: 180_000 }, () => {
  let lab: Lab;
  let relay: LabHost;
  let server: TurnServerProcess;
  let host: LabHost;

  before(() => {
    lab = Lab.create();
    relay = lab.host("relay");
    host = lab.host("client");
    lab.connect(relay, host, { ipv4: [`${RELAY}/24`, `${PEER}/24`], ipv6: [`${RELAY6}/64`, `${PEER6}/64`] });
    host.spawn("turnutils_peer", ["-L", PEER, "-L", PEER6], { stdio: "ignore" });
  });

  // A relay for each: the clients leave their allocations behind.
  beforeEach(async () => {
    server = await startTurnServer("wirelane", relay, { ipv4: RELAY, ipv6: RELAY6 });
  });

  afterEach(() => server?.stop());

  after(() => lab?.destroy());

  const cases: readonly [title: string, messages: number, ...args: string[]][] = [
    ["channels", 200, "-e", PEER, "-n", "200", "-l", "200", "-z", "5"],
    ["channels, padded", 100, "-D", "-e", PEER, "-n", "100", "-l", "201", "-z", "5"],
    ["indications (-s)", 100, "-s", "-e", PEER, "-n", "100", "-l", "200", "-z", "5"],
    ["IPv6 relay addresses (-x)", 100, "-x", "-e", PEER6, "-n", "100", "-l", "200", "-z", "5"],
    ["50 clients (-m 50)", 5000, "-m", "50", "-e", PEER, "-n", "100", "-l", "1000", "-z", "10"],
    ["clients with each other (-y)", 1000, "-y", "-m", "10", "-n", "100", "-l", "1200", "-z", "5"],
  ];
  for (const [title, messages, ...args] of cases) {
    test(title, async () => {
      const { sent, received, output } = await runUclient(host, RELAY, ...args);
      assert.equal(sent, messages, output);
      assert.equal(received, messages, output);
      assert.doesNotMatch(output.replace(PORT_AGAIN, ""), /integrity|error|wrong|fail/i);
    });
  }

  for (const address of [RELAY, RELAY6]) {
    test(`turnutils_stunclient to ${address}`, async () => {
      const { stdout, stderr } = await host.run("turnutils_stunclient", [address]);
      const own = address === RELAY ? PEER : PEER6;
      assert.match(stdout + stderr, new RegExp(`UDP reflexive addr: \\[?${own}`));
    });
  }
});

describe("coturn's clients against a relay whose public address is not the one that its host sends from", {
  skip,
  timeout: 60_000,
}, () => {
  /** Of the link, and an additional one that a provider routes to the host. */
  const LINK = "198.51.100.2";
  const CLIENT = "198.51.100.1";
  const PUBLIC = "203.0.113.77";
  let lab: Lab;
  let server: TurnServerProcess;
  let host: LabHost;

  before(async () => {
    lab = Lab.create();
    const relay = lab.host("relay");
    host = lab.host("client");
    lab.connect(relay, host, { ipv4: [`${LINK}/24`, `${CLIENT}/24`] });
    relay.configure("lo", { addresses: [`${PUBLIC}/32`] });
    host.route(`${PUBLIC}/32`, { via: LINK });
    server = await startTurnServer("wirelane", relay, { ipv4: PUBLIC });
    host.spawn("turnutils_peer", ["-L", CLIENT], { stdio: "ignore" });
  });

  after(async () => {
    await server?.stop();
    await lab?.destroy();
  });

  test("clients are answered from the address that they asked, peers from the relayed one", async () => {
    const args = ["-e", CLIENT, "-n", "100", "-l", "200", "-z", "5"];
    const { sent, received, output } = await runUclient(host, PUBLIC, ...args);
    assert.equal(sent, 100, output);
    assert.equal(received, 100, output);
    const { stdout, stderr } = await host.run("turnutils_stunclient", [PUBLIC]);
    assert.match(stdout + stderr, new RegExp(`UDP reflexive addr: ${CLIENT}`));
  });
});
