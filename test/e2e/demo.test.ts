// `npm run demo` as its user starts it: a program with exit code, output and nothing left behind.

import assert from "node:assert/strict";
import { spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import { existsSync, mkdtempSync, readdirSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, test } from "node:test";
import { fileURLToPath } from "node:url";
import { routerSkip } from "../lab/router-skip.js";
import { labSkip } from "../support/lab-skip.js";

const MAIN = fileURLToPath(new URL("../../scripts/demo/main.js", import.meta.url));

/** Time limit of one run, milliseconds. */
const RUN_TIMEOUT = 120_000;

interface Outcome {
  readonly status: number | null;
  readonly stdout: string;
  readonly stderr: string;
  /** What it left in its folder for temporary files. */
  readonly left: readonly string[];
}

/** Runs the demo, behind the words of `before` if there are any. */
function runDemo(args: readonly string[], before: readonly string[] = [], mode = 0o700): Outcome {
  const folder = mkdtempSync(join(tmpdir(), "wirelane-demo-test-"));
  try {
    const [program = process.execPath, ...rest] = [...before, process.execPath, MAIN, ...args];
    if (mode !== 0o700) spawnSync("chmod", [mode.toString(8), folder]);
    const env = { ...process.env, TMPDIR: folder };
    const run = spawnSync(program, rest, { encoding: "utf8", env, timeout: RUN_TIMEOUT, maxBuffer: 1 << 26 });
    return { status: run.status, stdout: run.stdout, stderr: run.stderr, left: readdirSync(folder) };
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

interface Document {
  readonly version: number;
  readonly ok: boolean;
  readonly steps: readonly { readonly name: string; readonly milliseconds: number }[];
  readonly firstPacket: { readonly roundTripMs: number; readonly secondResourceMs: number };
  readonly download: { readonly bytes: number; readonly seconds: number; readonly sha256: string };
  readonly ping: { readonly ipv4: readonly number[]; readonly ipv6?: readonly number[] };
  readonly denied: readonly { readonly address: string }[];
  readonly throughput: { readonly download: number; readonly upload: number };
  readonly relayed?: { readonly toRelayMs: number; readonly toDirectMs: number; readonly lost: number };
}

/** Names of the steps, in their order. */
const STEPS = [
  "portal-up",
  "relay-online",
  "gateway-online",
  "client-signed-in",
  "first-packet-sent",
  "intent",
  "routing-details",
  "handshake",
  "first-byte",
  "second-resource",
  "download",
  "ping-ipv4",
  ...(existsSync("/proc/sys/net/ipv6") ? ["ping-ipv6"] : []),
  "denied",
  "throughput-download",
  "throughput-upload",
];
/** Those that need nft. */
const RELAYED_STEPS = ["relayed", "direct-again"];

/** A run with `--json` that must have passed. */
function passedDocument(outcome: Outcome): Document {
  assert.equal(outcome.status, 0, outcome.stderr);
  const document = JSON.parse(outcome.stdout) as Document;
  assert.equal(document.version, 1);
  assert.equal(document.ok, true);
  assert.deepEqual(
    document.steps.map(({ name }) => name),
    document.relayed === undefined ? STEPS : [...STEPS, ...RELAYED_STEPS],
  );
  assert.ok(document.steps.every(({ milliseconds }) => Number.isFinite(milliseconds) && milliseconds >= 0));
  assert.equal(document.download.bytes, 100_000_000);
  assert.match(document.download.sha256, /^[0-9a-f]{64}$/);
  assert.ok(document.throughput.download > 0 && document.throughput.upload > 0);
  assert.ok(document.denied.length > 0);
  assert.deepEqual(outcome.left, [], "the logs of a demo that passed are removed");
  return document;
}

/** Runs what follows as nobody. */
const AS_NOBODY = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"] as const;

describe("demo", () => {
  test("--help explains what happens and exits 0, a wrong option exits 2", () => {
    const help = runDemo(["--help"]);
    assert.equal(help.status, 0);
    for (const word of ["--keep", "--json", "--seconds", "Exit code", "user namespaces"])
      assert.ok(help.stdout.includes(word), word);
    const wrong = runDemo(["--jason"]);
    assert.equal(wrong.status, 2);
    assert.match(wrong.stderr, /--jason/);
    assert.equal(runDemo(["--seconds", "0"]).status, 2);
  });

  test("issue 3, item 11: as root it passes all steps, and its JSON document says so", { skip: labSkip }, (context) => {
    const document = passedDocument(runDemo(["--json", "--seconds", "1"]));
    // Issue 5, item 8: a relayed connection becomes direct. Nothing is lost by that; a busy machine may lose something.
    const { relayed } = document;
    if (routerSkip === false) assert.ok(relayed !== undefined && relayed.lost <= 2, JSON.stringify(relayed));
    context.diagnostic(`path changes: ${JSON.stringify(relayed ?? "not shown")}`);
    context.diagnostic(`first packet answered after ${document.firstPacket.roundTripMs.toFixed(1)} ms`);
    context.diagnostic(`download ${(document.throughput.download / 1e6).toFixed(0)} Mbit/s`);
    context.diagnostic(`upload ${(document.throughput.upload / 1e6).toFixed(0)} Mbit/s`);
  });

  test("issue 3, item 11: without nft and iptables it passes all the same", { skip: labSkip || hidingSkip() }, () => {
    // In a mount namespace of its own, the folder that holds both is empty.
    const hide = 'mount -t tmpfs none /usr/sbin && exec "$@"';
    const outcome = runDemo(["--json", "--seconds", "1"], ["unshare", "--mount", "sh", "-c", hide, "sh"]);
    assert.equal(passedDocument(outcome).relayed, undefined);
    assert.match(outcome.stderr, /no masquerading here/);
    assert.match(outcome.stderr, /not shown: routers need nft/);
  });

  test("issue 3, item 11: an ordinary user's run goes through a user namespace", {
    skip: labSkip || userSkip(),
  }, () => {
    const outcome = runDemo(["--json", "--seconds", "1"], [...AS_NOBODY], 0o777);
    passedDocument(outcome);
  });

  test("a failed step is named, the exit code is 1 and the logs stay", { skip: labSkip }, () => {
    // Programs that take a broken filter for an error end at once (spec 05, section 2.1).
    const before = ["env", "RUST_LOG=wirelane=loud=very"];
    const folder = mkdtempSync(join(tmpdir(), "wirelane-demo-test-"));
    try {
      const [program = "", ...rest] = [...before, process.execPath, MAIN, "--json"];
      const env = { ...process.env, TMPDIR: folder };
      const run = spawnSync(program, rest, { encoding: "utf8", env, timeout: RUN_TIMEOUT });
      assert.equal(run.status, 1, run.stderr);
      const document = JSON.parse(run.stdout) as { ok: boolean; failedStep: string; logs: string };
      assert.equal(document.ok, false);
      assert.match(document.failedStep, /portal up|gateway online/);
      assert.match(run.stderr, new RegExp(`the step "${document.failedStep}" failed`));
      assert.ok(run.stderr.includes(document.logs) && readdirSync(document.logs).length > 0, "the logs are there");
    } finally {
      rmSync(folder, { recursive: true, force: true });
    }
  });

  test("--keep leaves the world standing until SIGINT, which takes it down", { skip: labSkip }, async () => {
    const folder = mkdtempSync(join(tmpdir(), "wirelane-demo-test-"));
    const demo = spawn(process.execPath, [MAIN, "--keep", "--seconds", "1"], {
      stdio: ["ignore", "pipe", "pipe"],
      env: { ...process.env, TMPDIR: folder },
    });
    try {
      let stdout = "";
      let words = "";
      demo.stdout.setEncoding("utf8").on("data", (text: string) => {
        stdout += text;
      });
      demo.stderr.setEncoding("utf8");
      for await (const text of demo.stderr) {
        words += text;
        if (words.includes("Ctrl-C takes the world down")) break;
      }
      assert.match(stdout, /Everything passed/, stdout + words);
      const [, enter = ""] = /client +(nsenter .*) bash/.exec(words) ?? [];
      const ping = spawnSync("sh", ["-c", `${enter} cat /proc/net/dev`], { encoding: "utf8" });
      assert.match(ping.stdout, /tun-firezone/, "the client's interface stands");
      const end = once(demo, "exit");
      demo.kill("SIGINT");
      assert.deepEqual(await end, [0, null]);
      assert.equal(readdirSync(folder).length, 1, "the logs stay");
    } finally {
      demo.kill("SIGKILL");
      rmSync(folder, { recursive: true, force: true });
    }
  });

  test("SIGINT in the middle cleans up and exits 130", { skip: labSkip }, async () => {
    const folder = mkdtempSync(join(tmpdir(), "wirelane-demo-test-"));
    const demo = spawn(process.execPath, [MAIN], {
      stdio: ["ignore", "pipe", "ignore"],
      env: { ...process.env, TMPDIR: folder },
    });
    try {
      await once(demo.stdout, "data");
      const end = once(demo, "exit");
      demo.kill("SIGINT");
      assert.deepEqual(await end, [130, null]);
      assert.deepEqual(readdirSync(folder), []);
    } finally {
      demo.kill("SIGKILL");
      rmSync(folder, { recursive: true, force: true });
    }
  });
});

/** Why nobody cannot run the demo here, for reasons that are not the demo's. */
function userSkip(): string | false {
  if (process.getuid?.() !== 0) return "only root can become another user";
  const trial = spawnSync("setpriv", [...AS_NOBODY.slice(1), "unshare", "--user", "--map-root-user", "--net", "true"]);
  if (trial.status !== 0) return "the kernel refuses user namespaces to ordinary users";
  const device = spawnSync("setpriv", [...AS_NOBODY.slice(1), "test", "-w", "/dev/net/tun", "-a", "-r", MAIN]);
  if (device.status !== 0) return "/dev/net/tun or the built demo is not open to ordinary users";
  return false;
}

/** Why nft and iptables cannot be hidden here. */
function hidingSkip(): string | false {
  const trial = spawnSync("unshare", ["--mount", "mount", "-t", "tmpfs", "none", "/usr/sbin"]);
  if (trial.status !== 0) return "needs the privilege to mount";
  const others = ["/usr/bin", "/usr/local/bin", "/usr/local/sbin"];
  const elsewhere = others.some((folder) => existsSync(`${folder}/nft`) || existsSync(`${folder}/iptables`));
  return elsewhere ? "nft or iptables is installed elsewhere than in /usr/sbin" : false;
}
