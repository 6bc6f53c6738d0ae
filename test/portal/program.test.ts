// `wirelane portal` as a process: its options, its log, its file that changes, its end.

import assert from "node:assert/strict";
import { type ChildProcess, spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, readFileSync, renameSync, rmSync, statSync, writeFileSync } from "node:fs";
import { type AddressInfo, createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type TestContext, test } from "node:test";
import { fileURLToPath } from "node:url";
import WebSocket from "ws";
import { EXAMPLE_CONFIGURATION } from "../../src/portal/server/example.js";
import { keyOf, member } from "../support/portal-programs.js";

const MAIN = fileURLToPath(new URL("../../src/programs/main.js", import.meta.url));
/** For everything that a process does, milliseconds: the machine may be busy. */
const SOON = 20_000;

const CONFIGURATION = `sites: [{ name: office, tokens: [gateway-token] }]
actors: [{ name: alice, tokens: [alice-token] }]
resources: [{ name: lan, type: cidr, address: 10.20.0.0/16, sites: [office] }]
policies: [{ actor: alice, resource: lan }]
`;

/** The environment without what could change the program's mind. */
const ENVIRONMENT = Object.fromEntries(
  Object.entries(process.env).filter(([name]) => !/^(WIRELANE|FIREZONE)_|^RUST_LOG$/.test(name)),
);

function directory(t: TestContext): string {
  const path = mkdtempSync(join(tmpdir(), "wirelane-portal-"));
  t.after(() => rmSync(path, { recursive: true }));
  return path;
}

function run(args: readonly string[], environment: NodeJS.ProcessEnv = {}) {
  const { status, stdout, stderr } = spawnSync(process.execPath, [MAIN, "portal", ...args], {
    encoding: "utf8",
    env: { ...ENVIRONMENT, ...environment },
    timeout: SOON,
  });
  return { status, stdout, stderr };
}

interface LogLine {
  readonly message: string;
  readonly severity: string;
  readonly [field: string]: unknown;
}

/** A portal that runs. */
class Portal {
  /** Not yet taken. */
  readonly lines: LogLine[] = [];
  /** Everything that was logged. */
  log = "";
  readonly exit: Promise<number | null>;
  readonly #process: ChildProcess;
  #text = "";
  #wake: () => void = () => undefined;

  constructor(t: TestContext, args: readonly string[]) {
    this.#process = spawn(
      process.execPath,
      [MAIN, "portal", "--log-format", "json", "--listen", "127.0.0.1:0", ...args],
      {
        env: ENVIRONMENT,
        stdio: ["ignore", "pipe", "inherit"],
      },
    );
    this.#process.stdout?.on("data", (data: Buffer) => {
      this.#text += data.toString();
      this.log += data.toString();
      const lines = this.#text.split("\n");
      this.#text = lines.pop() ?? "";
      this.lines.push(...lines.map((line) => JSON.parse(line) as LogLine));
      this.#wake();
    });
    this.exit = new Promise((resolve) => this.#process.on("exit", (code) => resolve(code)));
    t.after(() => this.#process.kill("SIGKILL"));
  }

  signal(signal: NodeJS.Signals): void {
    this.#process.kill(signal);
  }

  /** Removes the lines up to the first with this message, and returns it. */
  async line(message: string): Promise<LogLine> {
    const deadline = Date.now() + SOON;
    for (;;) {
      const index = this.lines.findIndex((line) => line.message === message);
      const line = this.lines[index];
      if (line !== undefined) {
        this.lines.splice(0, index + 1);
        return line;
      }
      const left = deadline - Date.now();
      if (left <= 0) throw new Error(`no line "${message}"`);
      await new Promise<void>((resolve) => {
        const timer = setTimeout(resolve, left);
        this.#wake = () => {
          clearTimeout(timer);
          resolve();
        };
      });
    }
  }
}

/** Signs a client in; its tunnel address, and the socket. */
function signIn(
  address: unknown,
  token: string,
): Promise<{ readonly ipv4: unknown; readonly socket: WebSocket } | number> {
  const query = new URLSearchParams({ token, public_key: keyOf(1), external_id: "c1", name: "laptop" });
  const socket = new WebSocket(`ws://${address}/client/websocket?${query}`, {
    headers: { "user-agent": "Debian/12.0.0 connlib/1.2.1" },
  });
  return new Promise((resolve, reject) => {
    socket.on("error", reject);
    socket.on("unexpected-response", (request, response) => {
      resolve(response.statusCode ?? 0);
      request.destroy();
    });
    socket.on("open", () => socket.send('{"topic":"client","event":"phx_join","payload":null,"ref":0}'));
    socket.on("message", (data) => {
      const frame: unknown = JSON.parse(data.toString());
      if (member(frame, "event") === "init") resolve({ ipv4: member(frame, "payload", "interface", "ipv4"), socket });
    });
  });
}

test("--example prints a file that --check accepts", (t) => {
  const example = run(["--example"]);
  assert.deepEqual([example.status, example.stdout], [0, EXAMPLE_CONFIGURATION]);
  const file = join(directory(t), "example.yaml");
  writeFileSync(file, example.stdout);
  const check = run(["--check", "--config", file]);
  assert.equal(check.status, 0, check.stderr);
  assert.equal(check.stdout, `${file}: 1 sites, 1 actors, 2 resources, 2 policies, 0 relays\n`);
  const json = run(["--check", "--json"], { WIRELANE_PORTAL_CONFIG: file });
  assert.deepEqual(JSON.parse(json.stdout), {
    file,
    ok: true,
    sites: 1,
    actors: 1,
    resources: 2,
    policies: 2,
    relays: 0,
  });
});

test("--check of a broken file: exit code 1, with line and field", (t) => {
  const file = join(directory(t), "broken.yaml");
  writeFileSync(file, CONFIGURATION.replace("10.20.0.0", "10.20.0.1"));
  const check = run(["--check", "--config", file]);
  assert.equal(check.status, 1);
  assert.ok(check.stderr.includes(`${file}:3:47: resources[0].address: `), check.stderr);
  const json = run(["--check", "--json", "--config", file]);
  assert.equal(json.status, 1);
  const [problem] = member(JSON.parse(json.stdout), "problems") as Record<string, unknown>[];
  assert.deepEqual([problem?.["line"], problem?.["field"]], [3, "resources[0].address"]);
  const missing = run(["--check", "--config", `${file}.not`]);
  assert.equal(missing.status, 1);
  assert.match(missing.stderr, /cannot read .*ENOENT.*--example/);
});

test("what cannot be used: exit code 1 with a word why, and bad options are refused", (t) => {
  const path = directory(t);
  const config = join(path, "portal.yaml");
  writeFileSync(config, CONFIGURATION);
  const state = join(path, "state");
  writeFileSync(state, "[]");
  const foreign = run(["--config", config, "--state", state, "--listen", "127.0.0.1:0"]);
  assert.equal(foreign.status, 1);
  assert.match(foreign.stderr, /does not hold the tunnel addresses/);
  assert.equal(readFileSync(state, "utf8"), "[]");
  assert.notEqual(run(["--listen", "nowhere"]).status, 0);
});

test("an address that is taken, or not this host's, is named with the option that chooses another", async (t) => {
  const file = join(directory(t), "portal.yaml");
  writeFileSync(file, CONFIGURATION);
  const taken = createServer().listen(0, "127.0.0.1");
  t.after(() => taken.close());
  await once(taken, "listening");
  const { port } = taken.address() as AddressInfo;
  for (const address of [`127.0.0.1:${port}`, "192.0.2.1:8080"]) {
    const { status, stderr } = run(["--config", file, "--listen", address]);
    assert.equal(status, 1);
    assert.ok(stderr.includes(address) && stderr.includes("--listen"), stderr);
  }
});

test("the portal's life: listens, signs in, follows its file, keeps addresses over a restart, ends with 0", async (t) => {
  const path = directory(t);
  const config = join(path, "portal.yaml");
  const state = join(path, "state.json");
  writeFileSync(config, CONFIGURATION);
  const args = ["--config", config, "--state", state];
  const portal = new Portal(t, args);
  const { address } = await portal.line("Portal is listening");
  const client = await signIn(address, "alice-token");
  assert.ok(typeof client === "object");
  const signedIn = await portal.line("Signed in");
  assert.equal(signedIn["role"], "client");
  assert.equal(await signIn(address, "wrong-token"), 401);
  const refused = await portal.line("Refused a sign-in");
  assert.deepEqual([refused["reason"], refused.severity], ["Invalid token", "WARNING"]);

  // As editors do it: another file in the place of this one.
  const replace = (text: string) => {
    writeFileSync(`${config}~`, text);
    renameSync(`${config}~`, config);
  };
  replace(CONFIGURATION.replace("10.20.0.0", "10.20.0.1"));
  const kept = await portal.line("The configuration stays as it was");
  assert.match(String(kept["reason"]), /portal\.yaml:3:47: resources\[0\]\.address/);
  const pushed = new Promise<unknown>((resolve) =>
    client.socket.once("message", (data) => resolve(JSON.parse(data.toString()))),
  );
  replace(CONFIGURATION.replace("10.20.0.0", "10.21.0.0"));
  const read = await portal.line("Configuration is in force");
  assert.deepEqual([read["pushed"], read["deleted"]], [1, 0]);
  assert.equal(member(await pushed, "payload", "address"), "10.21.0.0/16");
  // In place, and by signal.
  writeFileSync(config, CONFIGURATION);
  await portal.line("Configuration is in force");
  portal.signal("SIGHUP");
  assert.equal((await portal.line("Configuration is in force"))["pushed"], 0);

  portal.signal("SIGTERM");
  assert.equal(await portal.exit, 0);
  assert.equal(statSync(state).mode & 0o777, 0o600);
  assert.doesNotMatch(
    portal.log,
    /alice|-token|"lan"|100\.\d|laptop/,
    "names, addresses and tokens stay out of the log",
  );

  const again = new Portal(t, args);
  const returned = await signIn((await again.line("Portal is listening"))["address"], "alice-token");
  assert.ok(typeof returned === "object");
  assert.equal(returned.ipv4, client.ipv4);
  again.signal("SIGINT");
  assert.equal(await again.exit, 0);
});
