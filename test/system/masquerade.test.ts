// Masquerading: what the tools are told, with stand-ins for them, and what packets meet, with the real ones in a lab.

import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import {
  chmodSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, afterEach, before, beforeEach, describe, test } from "node:test";
import type { LabHost } from "../../scripts/lab/host.js";
import { Lab } from "../../scripts/lab/lab.js";
import { type Masquerade, type MasqueradeResult, startMasquerade } from "../../src/system/linux/masquerade.js";
import { NFT_TABLE } from "../../src/system/linux/masquerade-nft.js";
import { defaultToolPath } from "../../src/system/linux/tool.js";
import { labSkip } from "../support/lab-skip.js";

const TUNNEL = "tun-test";
const RESOURCE4 = "203.0.113.2";
const RESOURCE6 = "2001:db8:3::2";
const FAMILIES = [4, 6] as const;

/** Where a program is installed; `undefined`: nowhere. */
function installed(program: string): string | undefined {
  return defaultToolPath()
    .split(":")
    .map((folder) => join(folder, program))
    .find(existsSync);
}

function activeMasquerade(result: MasqueradeResult): { masquerade: Masquerade; problems: readonly string[] } {
  assert.ok(result.type === "active", result.type === "unavailable" ? result.reason : "");
  return result;
}

let folder: string;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), "wirelane-masquerade-"));
});
afterEach(() => rmSync(folder, { recursive: true }));

/** A search path with just these programs of the system. */
function pathWith(...programs: string[]): string {
  const path = join(folder, `only-${programs.join("-")}`);
  mkdirSync(path, { recursive: true });
  for (const program of programs) symlinkSync(installed(program) ?? "", join(path, program));
  return path;
}

/** A stand-in for a program: a shell script in the search path `folder`. */
function standIn(program: string, script: string): void {
  writeFileSync(
    join(folder, program),
    `#!/bin/sh\nPATH=/usr/bin:/bin\nstate="${join(folder, `${program}.rules`)}"\n${script}`,
  );
  chmodSync(join(folder, program), 0o755);
}

/** A stand-in for iptables that keeps rules as lines "table chain words", the first rule first. */
const IPTABLES = `
touch "$state"
shift 2
if [ "$1" = -S ]; then
  echo "-P FORWARD ACCEPT"
  sed -n 's/^filter FORWARD /-A FORWARD /p' "$state"
  exit 0
fi
table=$2 action=$3 chain=$4
shift 4
if [ "$action" = -I ]; then
  [ "$1" = 1 ] || { echo "not at position 1" >&2; exit 2; }
  shift
fi
rule="$table $chain $*"
case $action in
  -C) grep -qxF -e "$rule" "$state" ;;
  -I) { echo "$rule"; cat "$state"; } > "$state.new" && mv "$state.new" "$state" ;;
  -D) grep -qxF -e "$rule" "$state" && awk -v r="$rule" '!done && $0 == r { done = 1; next } 1' "$state" > "$state.new" && mv "$state.new" "$state" ;;
esac
`;

function rulesOf(program: string): string[] {
  const file = join(folder, `${program}.rules`);
  return existsSync(file)
    ? readFileSync(file, "utf8")
        .split("\n")
        .filter((line) => line !== "")
    : [];
}

const OURS4 = [
  "nat POSTROUTING -s 100.64.0.0/11 ! -o tun-test -m comment --comment wirelane -j MASQUERADE",
  "filter FORWARD -o tun-test -m comment --comment wirelane -j ACCEPT",
  "filter FORWARD -i tun-test -m comment --comment wirelane -j ACCEPT",
];
const OURS6 = OURS4.map((rule) => rule.replace("100.64.0.0/11", "fd00:2021:1111::/107"));

describe("masquerading with stand-ins for the tools", () => {
  const start = () => startMasquerade({ tunnelInterface: TUNNEL, families: FAMILIES, path: folder });

  test("without any tool it is unavailable, and the missing package is named", () => {
    assert.deepEqual(start(), {
      type: "unavailable",
      reason: "neither nft nor iptables is installed: install the package nftables (or iptables)",
    });
  });

  test("spec 05, 11.1: by iptables, with FORWARD rules at position 1 and only for clients' addresses", () => {
    standIn("iptables", IPTABLES);
    standIn("ip6tables", IPTABLES);
    const foreign = "filter FORWARD -j DROP";
    writeFileSync(join(folder, "iptables.rules"), `${foreign}\n`);
    const { masquerade, problems } = activeMasquerade(start());
    assert.deepEqual([masquerade.tool, masquerade.families, problems], ["iptables", [4, 6], []]);
    assert.deepEqual(rulesOf("iptables"), [...OURS4, foreign]);
    assert.deepEqual(rulesOf("ip6tables"), OURS6);
    assert.deepEqual(masquerade.remove(), []);
    assert.deepEqual(masquerade.remove(), [], "idempotent");
    assert.deepEqual([rulesOf("iptables"), rulesOf("ip6tables")], [[foreign], []]);
  });

  test("rules of a crashed run are replaced, those of an administrator stay", () => {
    standIn("iptables", IPTABLES);
    standIn("ip6tables", IPTABLES);
    const foreign = "filter FORWARD -i tun-test -j ACCEPT";
    writeFileSync(join(folder, "iptables.rules"), [foreign, ...OURS4, ...OURS4, ""].join("\n"));
    const { masquerade } = activeMasquerade(start());
    assert.deepEqual(rulesOf("iptables"), [...OURS4, foreign]);
    masquerade.remove();
    assert.deepEqual(rulesOf("iptables"), [foreign]);
  });

  test("rules that somebody else has removed are no problem at the end", () => {
    standIn("iptables", IPTABLES);
    standIn("ip6tables", IPTABLES);
    const { masquerade } = activeMasquerade(start());
    writeFileSync(join(folder, "iptables.rules"), "");
    assert.deepEqual(masquerade.remove(), []);
  });

  test("one family without its tool or refused by the kernel is a problem, the other one works", () => {
    standIn("iptables", IPTABLES);
    const alone = activeMasquerade(start());
    assert.deepEqual(alone.masquerade.families, [4]);
    assert.deepEqual(alone.problems, ["only IPv4 is masqueraded: ip6tables is not installed"]);
    alone.masquerade.remove();

    // It takes the rules of the table "filter" and fails at "nat".
    standIn(
      "ip6tables",
      IPTABLES.replace("table=$2", 'if [ "$2" = nat ]; then echo "no chain" >&2; exit 3; fi\ntable=$2'),
    );
    const refused = activeMasquerade(start());
    assert.deepEqual(refused.masquerade.families, [4]);
    assert.match(
      refused.problems.join(),
      /^IPv6 is not masqueraded: ip6tables -w 5 -t nat -I POSTROUTING 1 .*: no chain$/,
    );
    assert.deepEqual(rulesOf("ip6tables"), [], "what was inserted before the failure is taken back");
  });

  test("tools that fail are quoted, and the gateway goes on", () => {
    standIn("nft", 'echo "Error: Could not process rule: Operation not permitted" >&2\nexit 1\n');
    const result = start();
    assert.ok(result.type === "unavailable");
    assert.match(
      result.reason,
      /^IPv4 is not masqueraded: nft -f -: Error: Could not process rule: Operation not permitted; IPv6/,
    );
  });

  test("nft is preferred; where iptables drops forwarded packets, it lets ours pass", () => {
    standIn("nft", 'cat >> "$state"\n');
    standIn("iptables", IPTABLES);
    standIn("ip6tables", IPTABLES);
    const drop = "filter FORWARD -j DROP";
    writeFileSync(join(folder, "iptables.rules"), [drop, ...OURS4, ""].join("\n"));
    const { masquerade, problems } = activeMasquerade(start());
    assert.deepEqual([masquerade.tool, masquerade.families, problems], ["nft", [4, 6], []]);
    assert.deepEqual(rulesOf("iptables"), [...OURS4.slice(1), drop], "and a crashed run's rules are gone");
    assert.deepEqual(rulesOf("ip6tables"), [], "a chain that accepts everything is left alone");
    assert.match(
      rulesOf("nft").join("\n"),
      /^add table ip wirelane-masquerade\ndelete table ip wirelane-masquerade\ntable ip wire/,
    );
    masquerade.remove();
    assert.deepEqual(rulesOf("iptables"), [drop]);
    assert.equal(rulesOf("nft").at(-1), "delete table ip6 wirelane-masquerade");
  });

  test("an interface name that means something else to the tools is refused", () => {
    for (const tunnelInterface of ["tun*", "tun+", '"; flush ruleset; "', "-j", "!eth0", "", "sixteen-letters-"])
      assert.throws(() => startMasquerade({ tunnelInterface, path: folder }), { name: "RangeError" }, tunnelInterface);
  });
});

describe("masquerading in a lab", { skip: labSkip }, () => {
  // client 100.64.0.1 ── tun-test [gateway] eth0 203.0.113.1 ── 203.0.113.2 resource, which knows no way back to the client
  let lab: Lab;
  let client: LabHost;
  let gateway: LabHost;
  let resource: LabHost;

  before(async () => {
    lab = Lab.create();
    client = lab.host("client");
    gateway = lab.host("gateway");
    resource = lab.host("resource");
    lab.connect(client, gateway, {
      ipv4: ["100.64.0.1/11", "100.64.0.9/11"],
      ipv6: ["fd00:2021:1111::1/107", "fd00:2021:1111::9/107"],
      names: ["eth0", TUNNEL],
    });
    lab.connect(gateway, resource, {
      ipv4: ["203.0.113.1/24", `${RESOURCE4}/24`],
      ipv6: ["2001:db8:3::1/64", `${RESOURCE6}/64`],
    });
    client.route("default", { via: "100.64.0.9" });
    client.route("default6", { via: "fd00:2021:1111::9" });
    gateway.enableForwarding();
    const server = resource.spawn(
      process.execPath,
      [
        "-e",
        "require('net').createServer((s) => s.end(s.remoteAddress)).listen(8080, '::', () => console.log('ready'))",
      ],
      { stdio: ["ignore", "pipe", "inherit"] },
    );
    await new Promise((resolve) => server.stdout?.once("data", resolve));
  });
  after(() => lab?.destroy());

  /** The client's address as the resource sees it; "unreachable" when no connection comes about. */
  async function seenBy(address: string): Promise<string> {
    const script = `const s = require('net').connect(8080, '${address}'); s.setTimeout(700, () => s.destroy(new Error()));
      s.on('error', () => console.log('unreachable')); s.on('data', (d) => console.log(String(d).replace('::ffff:', '')))`;
    return (await client.run(process.execPath, ["-e", script])).stdout.trim();
  }
  const seen = async () => [await seenBy(RESOURCE4), await seenBy(RESOURCE6)];
  const start = (path: string) => gateway.enter(() => startMasquerade({ tunnelInterface: TUNNEL, path }));
  const ruleset = async () => (await gateway.run("nft", ["list", "ruleset"])).stdout;

  test("without it the resource does not answer", async () =>
    assert.deepEqual(await seen(), ["unreachable", "unreachable"]));

  const nftSkip = installed("nft") === undefined && "needs nft";
  test("by nft: resources see the gateway; leftovers are replaced; removal leaves nothing", {
    skip: nftSkip,
  }, async () => {
    const before = await ruleset();
    start(pathWith("nft"));
    const { masquerade, problems } = activeMasquerade(start(join(folder, "only-nft")));
    assert.deepEqual([masquerade.tool, masquerade.families, problems], ["nft", [4, 6], []]);
    assert.deepEqual(await seen(), ["203.0.113.1", "2001:db8:3::1"]);
    assert.equal((await ruleset()).match(/masquerade$/gm)?.length, FAMILIES.length);
    gateway.enter(() => assert.deepEqual(masquerade.remove(), []));
    assert.equal(await ruleset(), before);
    gateway.enter(() => assert.deepEqual(masquerade.remove(), []));
    assert.deepEqual(await seen(), ["unreachable", "unreachable"]);
  });

  test("by nft: only clients' addresses are masqueraded", { skip: nftSkip }, async () => {
    const { masquerade } = activeMasquerade(start(pathWith("nft")));
    client.configure("eth0", { addresses: ["198.51.100.1/32"] });
    resource.route("198.51.100.1/32", { via: "203.0.113.1" });
    gateway.route("198.51.100.1/32", { dev: TUNNEL });
    const script = `const s = require('net').connect({ port: 8080, host: '${RESOURCE4}', localAddress: '198.51.100.1' });
      s.on('data', (d) => console.log(String(d).replace('::ffff:', '')))`;
    const { stdout } = await client.run(process.execPath, ["-e", script]);
    assert.equal(stdout.trim(), "198.51.100.1");
    gateway.enter(() => masquerade.remove());
  });

  test("by nft: a firewall that drops forwarded packets is named", { skip: nftSkip }, async () => {
    const table = "table inet strict {\n chain forward {\n type filter hook forward priority 0; policy drop;\n }\n}\n";
    await gateway.run("nft", ["-f", "-"], { input: table });
    const { masquerade, problems } = activeMasquerade(start(pathWith("nft")));
    assert.deepEqual(problems, [
      "the firewall's chain inet strict forward drops forwarded packets by policy: accept those from and to tun-test there",
    ]);
    gateway.enter(() => masquerade.remove());
    assert.ok((await ruleset()).includes("table inet strict"), "rules of others stay");
    await gateway.run("nft", ["delete", "table", "inet", "strict"]);
    assert.ok(!(await ruleset()).includes(NFT_TABLE));
  });

  const iptablesSkip =
    (installed("iptables") === undefined || installed("ip6tables") === undefined) && "needs iptables and ip6tables";
  test("by iptables: past a DROP rule; leftovers are replaced; removal leaves nothing", {
    skip: iptablesSkip,
  }, async () => {
    const path = pathWith("iptables", "ip6tables");
    const rules = () =>
      gateway.enter(() =>
        ["iptables", "ip6tables"].map((program) =>
          ["nat", "filter"].map(
            (table) => spawnSync(join(path, program), ["-t", table, "-S"], { encoding: "utf8" }).stdout,
          ),
        ),
      );
    await gateway.run(join(path, "iptables"), ["-A", "FORWARD", "-j", "DROP"]);
    const before = rules();
    start(path);
    const { masquerade, problems } = activeMasquerade(start(path));
    assert.deepEqual([masquerade.tool, masquerade.families, problems], ["iptables", [4, 6], []]);
    assert.deepEqual(await seen(), ["203.0.113.1", "2001:db8:3::1"]);
    assert.equal(String(rules()).match(/MASQUERADE/g)?.length, FAMILIES.length);
    gateway.enter(() => assert.deepEqual(masquerade.remove(), []));
    assert.deepEqual(rules(), before);
    assert.deepEqual(await seen(), ["unreachable", "unreachable"]);
  });
});
