// The recorded exchanges of the reference's programs: every message is understood, what we send has the same form, and our portal,
// played the part of the recorded one, says the same.

import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { clientPushSchema, clientReplySchema, requestConnection } from "../../src/portal/client-messages.js";
import { gatewayPushSchema } from "../../src/portal/gateway-messages.js";
import { loginUrl } from "../../src/portal/login-url.js";
import { PhoenixChannel } from "../../src/portal/phoenix-channel.js";
import { decodeKey } from "../../src/portal/values.js";
import { member, PortalBench, type PortalProgram } from "../support/portal-programs.js";
import { seededRandom } from "../support/random.js";
import { RECORDINGS, type Recording, recordingSkip } from "../support/recorded.js";
import { readJsonLines } from "../support/vectors.js";

type Role = "client" | "gateway" | "relay";

type Line =
  | { readonly type: "step"; readonly step: string }
  | { readonly type: "open"; readonly role: Role; readonly url: URL; readonly headers: readonly string[] }
  | { readonly type: "closed"; readonly role: Role }
  | { readonly type: "from" | "to"; readonly role: Role; readonly message: Message };

interface Message {
  readonly topic: string;
  readonly event: string;
  readonly payload: unknown;
  readonly ref: number | null;
}

function lines(name: Recording): Line[] {
  return readJsonLines(`recorded-2024/${name}.jsonl`).map((line): Line => {
    const { step, program, websocket, request, from, to, message } = line;
    if (typeof step === "string") return { type: "step", step };
    if (websocket === "closed") return { type: "closed", role: program as Role };
    if (websocket === "open")
      return {
        type: "open",
        role: program as Role,
        url: new URL(String(member(request, "uri"))),
        headers: member(request, "headers") as string[],
      };
    const type = from === undefined ? "to" : "from";
    return { type, role: (from ?? to) as Role, message: message as Message };
  });
}

function messages(type: "from" | "to", role: Role): Message[] {
  return RECORDINGS.flatMap(lines).flatMap((line) => (line.type === type && line.role === role ? [line.message] : []));
}

describe("recorded exchanges", { skip: recordingSkip }, () => {
  test("every push and every reply to a client is understood", () => {
    let count = 0;
    for (const { event, payload } of messages("to", "client")) {
      const response = member(payload, "response");
      if (event === "phx_reply" && JSON.stringify(response) === "{}") continue;
      const result =
        event === "phx_reply" ? clientReplySchema.safeParse(response) : clientPushSchema.safeParse({ event, payload });
      assert.ok(result.success, `${event}: ${result.error?.message}`);
      count++;
    }
    assert.ok(count > 20, `${count}`);
  });

  test("every push to a gateway is understood; resources and relays of init are complete", () => {
    for (const { event, payload } of messages("to", "gateway")) {
      if (event === "phx_reply") continue;
      const result = gatewayPushSchema.safeParse({ event, payload });
      assert.ok(result.success, `${event}: ${result.error?.message}`);
    }
    for (const { event, payload } of messages("to", "client")) {
      if (event !== "init") continue;
      const push = clientPushSchema.parse({ event, payload });
      assert.ok(push.event === "init");
      assert.equal(push.payload.resources.length, (member(payload, "resources") as unknown[]).length);
      assert.equal(push.payload.relays.length, (member(payload, "relays") as unknown[]).length);
    }
  });

  test("the channel hands on what the recorded portal said, and ignores nothing", () => {
    for (const role of ["client", "gateway"] as const) {
      const channel = new PhoenixChannel({ topic: role, joinPayload: null, random: seededRandom(1) }, 0);
      channel.handleTimeout(0);
      channel.handleOpened(0);
      const seen: string[] = [];
      for (const message of messages("to", role)) {
        channel.handleText(JSON.stringify(message), 0);
        for (let event = channel.pollEvent(); event !== undefined; event = channel.pollEvent()) seen.push(event.type);
      }
      assert.ok(seen.includes("joined") && !seen.includes("ignored") && !seen.includes("disconnect"), seen.join());
    }
  });

  test("the channel writes frames like the recorded programs", () => {
    for (const role of ["client", "gateway"] as const)
      for (const message of messages("from", role)) {
        const channel = new PhoenixChannel({ topic: role, joinPayload: message.payload, random: seededRandom(1) }, 0);
        const texts = () => {
          const found: string[] = [];
          for (let event = channel.pollEvent(); event !== undefined; event = channel.pollEvent())
            if (event.type === "send") found.push(event.text);
          return found;
        };
        channel.handleTimeout(0);
        channel.handleOpened(0);
        if (message.event === "phx_join") {
          assert.deepEqual(texts(), [JSON.stringify({ ...message, ref: 0 })]);
          continue;
        }
        channel.handleText('{"topic":"","event":"phx_reply","payload":{"status":"ok","response":{}},"ref":0}', 0);
        while (channel.send(message.event, message.payload) < (message.ref ?? 0)) texts();
        assert.equal(texts().at(-1), JSON.stringify(message));
      }
  });

  test("a connection request is put together like the recorded ones", () => {
    let count = 0;
    for (const { event, payload } of messages("from", "client")) {
      if (event !== "request_connection" || member(payload, "client_payload", "domain") !== null) continue;
      const key = decodeKey(String(member(payload, "client_preshared_key")));
      assert.ok(key !== undefined);
      const message = requestConnection(
        String(member(payload, "gateway_id")),
        String(member(payload, "resource_id")),
        key,
        member(payload, "client_payload", "ice_parameters") as { username: string; password: string },
      );
      assert.equal(JSON.stringify(message.payload), JSON.stringify(payload));
      count++;
    }
    assert.ok(count > 0);
  });

  test("login URLs are like the recorded ones", () => {
    for (const line of RECORDINGS.flatMap(lines)) {
      if (line.type !== "open" || line.role === "relay") continue;
      const { searchParams: query } = line.url;
      const publicKey = decodeKey(query.get("public_key") ?? "");
      assert.ok(publicKey !== undefined);
      const url = loginUrl(`ws://${line.url.host}`, {
        role: line.role,
        token: query.get("token") ?? "",
        publicKey,
        externalId: query.get("external_id") ?? "",
        name: query.get("name") ?? "",
      });
      assert.equal(url.href.replace(/^ws/, "http"), line.url.href);
    }
  });

  for (const name of RECORDINGS)
    test(`our portal in the place of the recorded one says the same: ${name}`, () => {
      const compared = new Replay(lines(name)).run();
      assert.ok(compared > 15, `${compared} messages`);
    });
});

/** Where our values may be others than the recorded ones, and which must then always be exchanged for the same ones. */
const RENAMED = new Set([
  "id",
  "client_id",
  "gateway_id",
  "gateway_group_id",
  "ref",
  "flow_id",
  "ipv4",
  "ipv6",
  "client_ipv4",
  "client_ipv6",
]);
/** Where only the type counts. */
const FREE = new Set(["username", "password", "expires_at"]);
/** What the recorded portal left out. */
const ADDED = new Set(["flow_id"]);
/** From here on the recorded portal was told what to say by hand. */
const END = "reject access";

/** Programs' recorded messages go to our portal, and its answers are compared with the recorded ones. */
class Replay {
  readonly #lines: readonly Line[];
  readonly #bench: PortalBench;
  readonly #programs = new Map<Role, PortalProgram>();
  readonly #names = new Map<string, string>();
  #configuration: string;

  constructor(lines: readonly Line[]) {
    this.#lines = lines;
    this.#configuration = JSON.stringify(configurationOf(lines));
    this.#bench = new PortalBench(this.#configuration);
  }

  run(): number {
    let compared = 0;
    for (const line of this.#lines) {
      switch (line.type) {
        case "step":
          if (line.step === END) return compared;
          if (line.step === "resource updated") {
            this.#configuration = this.#configuration.replaceAll('"lan"', '"lan renamed"');
            this.#bench.configure(this.#configuration);
          }
          break;
        case "open":
          this.#open(line);
          break;
        case "closed":
          this.#programs.get(line.role)?.close();
          break;
        case "from":
          this.#program(line.role).sendText(this.#translate(JSON.stringify(line.message)));
          break;
        case "to": {
          const [frame] = this.#program(line.role).frames.splice(0, 1);
          this.#compare(line.message, frame, line.message.event, "");
          compared++;
        }
      }
    }
    return compared;
  }

  #program(role: Role): PortalProgram {
    const program = this.#programs.get(role);
    assert.ok(program !== undefined);
    return program;
  }

  #open({ role, url, headers }: Extract<Line, { type: "open" }>): void {
    const query = (name: string) => url.searchParams.get(name) ?? undefined;
    const userAgent = headers.find((header) => header.startsWith("user-agent: "))?.slice("user-agent: ".length);
    const program = this.#bench.signIn(role, {
      token: query("token") ?? "",
      externalId: query("external_id"),
      publicKey: query("public_key"),
      ipv4: query("ipv4"),
      ipv6: query("ipv6"),
      port: query("port"),
      userAgent,
      remoteIp: role === "client" ? "203.0.113.100" : "203.0.113.200",
    });
    this.#programs.set(role, program);
  }

  #translate(text: string): string {
    let translated = text;
    for (const [recorded, own] of this.#names) translated = translated.replaceAll(recorded, own);
    return translated;
  }

  #compare(recorded: unknown, own: unknown, path: string, key: string): void {
    if (typeof recorded === "object" && recorded !== null) {
      assert.ok(typeof own === "object" && own !== null, path);
      assert.equal(Array.isArray(own), Array.isArray(recorded), path);
      const keys = (value: object) => new Set(Object.keys(value).filter((name) => !ADDED.has(name)));
      assert.deepEqual(keys(own), keys(recorded), path);
      for (const [name, value] of Object.entries(recorded))
        this.#compare(value, member(own, name), `${path}.${name}`, Array.isArray(recorded) ? key : name);
      return;
    }
    if (FREE.has(key) && key !== "username") assert.equal(typeof own, typeof recorded, path);
    else if (typeof recorded === "string" && typeof own === "string" && RENAMED.has(key)) {
      assert.equal(this.#names.get(recorded) ?? own, own, path);
      if (recorded !== own) this.#names.set(recorded, own);
    } else if (!(FREE.has(key) && /^\d+:/.test(String(recorded)))) assert.equal(own, recorded, path);
  }
}

/** The configuration that the recorded portal must have had. */
function configurationOf(recorded: readonly Line[]): object {
  const init = recorded.find((line) => line.type === "to" && line.role === "client" && line.message.event === "init");
  assert.ok(init?.type === "to");
  const { resources, interface: addresses } = init.message.payload as {
    readonly resources: readonly {
      readonly name: string;
      readonly type: string;
      readonly id: string;
      readonly address: string;
      readonly gateway_groups: readonly { readonly name: string }[];
      readonly filters: readonly {
        readonly protocol: string;
        readonly port_range_start?: number;
        readonly port_range_end?: number;
      }[];
    }[];
    readonly interface: { readonly upstream_dns: readonly { readonly address: string }[] };
  };
  return {
    sites: [{ name: "site", tokens: ["gtok"] }],
    actors: [{ name: "actor", tokens: [{ token: "ctok", expires_at: "2030-01-01T00:00:00Z" }] }],
    resources: resources.map(({ name, type, id, address, gateway_groups, filters }) => ({
      name,
      type,
      id,
      address,
      sites: gateway_groups.map((group) => group.name),
      filters: filters.map(({ protocol, port_range_start, port_range_end }) =>
        port_range_start === undefined ? protocol : { protocol, ports: [`${port_range_start}-${port_range_end}`] },
      ),
    })),
    policies: resources.map(({ name }) => ({ actor: "actor", resource: name })),
    relays: { tokens: ["rtok"] },
    upstream_dns: addresses.upstream_dns.map(({ address }) => address),
  };
}
