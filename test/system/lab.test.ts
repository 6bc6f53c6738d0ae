import assert from "node:assert/strict";
import { type ChildProcess, spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import { existsSync, readFileSync, statSync } from "node:fs";
import { dirname, join } from "node:path";
import { describe, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import type { LabHost } from "../../scripts/lab/host.js";
import { Lab } from "../../scripts/lab/lab.js";
import { processesInside } from "../../scripts/lab/processes.js";
import { whyNoUserNamespace } from "../../scripts/lab/user-namespace.js";
import { labSkip } from "../support/lab-skip.js";

const MAIN = join(dirname(fileURLToPath(import.meta.url)), "../support/lab-main.js");

const SERVER =
  "require('net').createServer((s) => s.end(s.remoteAddress)).listen(8080, '::', () => console.log('ready'))";

async function serve(host: LabHost): Promise<ChildProcess> {
  const server = host.spawn(process.execPath, ["-e", SERVER], { stdio: ["ignore", "pipe", "inherit"] });
  assert.ok(server.stdout);
  await once(server.stdout, "data");
  return server;
}

/** The answer of the server above, which is the client's address. */
async function ask(host: LabHost, address: string): Promise<string> {
  const script = `require('net').connect(8080, '${address}').on('data', (d) => process.stdout.write(d))`;
  const { stdout } = await host.run(process.execPath, ["-e", script], { timeout: 5000 });
  return stdout.replace("::ffff:", "");
}

/** Whether a process exists and has not ended. */
function runs(pid: number | undefined): boolean {
  return existsSync(`/proc/${pid}`) && !/^State:\s+Z/m.test(readFileSync(`/proc/${pid}/status`, "utf8"));
}

/** Waits until `condition` holds, at most 3 s. */
async function eventually(condition: () => boolean, what: string): Promise<void> {
  for (let i = 0; i < 150 && !condition(); i++) await sleep(20);
  assert.ok(condition(), what);
}

describe("lab", { skip: labSkip }, () => {
  test("two hosts on a cable reach each other at once, by IPv4 and IPv6", async () => {
    const lab = Lab.create();
    const [a, b] = [lab.host("a"), lab.host("b")];
    lab.connect(a, b, {
      ipv4: ["192.0.2.1/24", "192.0.2.2/24"],
      ipv6: ["2001:db8::1/64", "2001:db8::2/64"],
      mtu: 1400,
    });
    await serve(b);
    assert.equal(await ask(a, "2001:db8::2"), "2001:db8::1");
    assert.equal(await ask(a, "192.0.2.2"), "192.0.2.1");
    assert.match((await a.run("cat", ["/proc/self/net/dev"])).stdout, /eth0:/);
    assert.equal((await a.run("cat", ["/sys/class/net/lo/mtu"])).status, 0);
    await lab.destroy();
  });

  test("hosts on two switches reach each other through a router, by IPv4 and IPv6", async () => {
    const lab = Lab.create();
    const [client, router, server] = [lab.host("client"), lab.host("router"), lab.host("server")];
    const [left, right] = [lab.switch("left"), lab.switch("right")];
    assert.equal(left.attach(client, { addresses: ["192.0.2.1/24", "2001:db8:1::1/64"] }), "eth0");
    assert.equal(left.attach(router, { addresses: ["192.0.2.9/24", "2001:db8:1::9/64"] }), "eth0");
    assert.equal(right.attach(router, { addresses: ["198.51.100.9/24", "2001:db8:2::9/64"] }), "eth1");
    right.attach(server, { addresses: ["198.51.100.1/24", "2001:db8:2::1/64"], name: "lan" });
    client.route("default", { via: "192.0.2.9" });
    client.route("default6", { via: "2001:db8:1::9" });
    server.route("192.0.2.0/24", { via: "198.51.100.9" });
    server.route("2001:db8:1::/64", { via: "2001:db8:2::9", dev: "lan" });
    router.enableForwarding();
    await serve(server);
    assert.equal(await ask(client, "198.51.100.1"), "192.0.2.1");
    assert.equal(await ask(client, "2001:db8:2::1"), "2001:db8:1::1");

    client.changeLink("eth0", { up: false });
    await assert.rejects(ask(client, "198.51.100.1"), /ENETUNREACH/);
    await lab.destroy();
  });

  test("programs: output, input, exit code, time limit, absence", async () => {
    const lab = Lab.create();
    const host = lab.host("only");
    const shell = (script: string, options = {}) => host.run("sh", ["-c", script], options);
    assert.deepEqual(await shell("cat; echo error >&2", { input: "in" }), {
      status: 0,
      signal: null,
      stdout: "in",
      stderr: "error\n",
    });
    await assert.rejects(shell("echo why >&2; exit 3"), /only: sh -c .* ended with exit code 3\nwhy/);
    assert.equal((await shell("exit 3", { allowFailure: true })).status, 3);
    assert.equal((await shell("echo $COLOUR", { env: { ...process.env, COLOUR: "blue" } })).stdout, "blue\n");
    await assert.rejects(host.run("sleep", ["60"], { timeout: 50 }), /only: sleep 60 did not end within 50 ms/);
    await assert.rejects(host.run("nonexistent-program"), /nonexistent-program/);
    assert.throws(() => host.route("nonsense", {}), RangeError);
    assert.throws(() => host.configure("lo", { addresses: ["192.0.2.1"] }), RangeError);
    assert.throws(() => host.sysctl("net/ipv4/nonexistent", "1"), /ENOENT|EACCES/);
    await lab.destroy();
  });

  test("destruction ends all programs, also stubborn ones and descendants, and only those", async () => {
    const lab = Lab.create();
    const host = lab.host("only");
    const outside = spawn("sleep", ["60"]);
    const polite = host.spawn("sleep", ["60"]);
    const deep = host.spawn("setsid", ["sh", "-c", "setsid sleep 60 & trap '' TERM; echo up; sleep 60"], {
      stdio: ["ignore", "pipe", "ignore"],
    });
    assert.ok(deep.stdout);
    await once(deep.stdout, "data");
    await eventually(() => processesInside([host.namespace]).length === 4, "four programs run");
    const inside = processesInside([host.namespace]);
    assert.ok(polite.pid !== undefined && inside.includes(polite.pid));
    await host.stop(polite);
    assert.equal(polite.signalCode, "SIGTERM");
    await lab.destroy();
    assert.deepEqual(inside.filter(runs), []);
    assert.ok(runs(outside.pid));
    outside.kill("SIGKILL");
    await lab.destroy();
  });

  for (const signal of ["SIGINT", "SIGTERM", "SIGKILL"] as const) {
    const skip = signal === "SIGKILL" && spawnSync("setpriv", ["--version"]).error !== undefined && "needs setpriv";
    test(`${signal} to the owner of a lab leaves nothing`, { skip }, async () => {
      const owner = spawn(process.execPath, [MAIN, "lab"], { stdio: ["ignore", "pipe", "inherit"] });
      const [output] = await once(owner.stdout, "data");
      const program = Number(String(output));
      assert.ok(runs(program));
      const ended = once(owner, "exit");
      owner.kill(signal);
      assert.deepEqual(await ended, [null, signal], "it dies of the signal, as its starter expects");
      await eventually(() => !runs(program), "the program ended");
    });
  }

  test("a lab whose owner just ends leaves nothing", () => {
    const { stdout } = spawnSync(process.execPath, [MAIN, "forgetful-lab"], { encoding: "utf8" });
    assert.ok(Number(stdout) > 0);
    assert.ok(!runs(Number(stdout)));
  });
});

describe("a user namespace", () => {
  const isRoot = process.getuid?.() === 0;
  const nobody = 65534;
  const asUser = isRoot ? { uid: nobody, gid: nobody } : {};
  const refused = spawnSync("unshare", ["--user", "--map-root-user", "--net", "--mount", "true"], asUser).status !== 0;
  const unreadable = spawnSync(process.execPath, ["--check", MAIN], { ...asUser, cwd: "/" }).status !== 0;
  // Read and write for others (stat(2)): root of a user namespace is nobody to the device.
  const closed = isRoot && ((statSync("/dev/net/tun", { throwIfNoEntry: false })?.mode ?? 0) & 0o6) !== 0o6;
  const skip =
    (refused && "the kernel refuses user namespaces") ||
    (unreadable && "this folder is not open to other users") ||
    (closed && "/dev/net/tun is not open to other users");

  test("gives a user without privilege a lab, with the program's own exit code", { skip }, () => {
    const { status, stdout, stderr } = spawnSync(process.execPath, [MAIN, "user-namespace", "argument"], {
      ...asUser,
      encoding: "utf8",
      cwd: "/",
    });
    assert.equal(stdout, "granted to 0 with argument, the lab works\n", stderr);
    assert.equal(status, 7);
  });

  test("that is refused is explained, with what would allow it", () => {
    const explain = (settings: Readonly<Record<string, string>>) =>
      whyNoUserNamespace("unshare failed: Operation not permitted", (name) => settings[name]);
    assert.match(
      explain({ "kernel/unprivileged_userns_clone": "0" }),
      /sudo, or .*kernel\.unprivileged_userns_clone=1/,
    );
    assert.match(explain({ "user/max_user_namespaces": "0" }), /\(unshare failed: .*user\.max_user_namespaces=/);
    assert.match(
      explain({ "user/max_user_namespaces": "9", "kernel/apparmor_restrict_unprivileged_userns": "1" }),
      /kernel\.apparmor_restrict_unprivileged_userns=0/,
    );
    assert.match(explain({}), /container/);
  });
});
