// The portal's YAML file: what it may say, and what is wrong with it in words that name line, column and field.

import { type Document, isMap, isNode, isScalar, LineCounter, parseDocument } from "yaml";
import { z } from "zod";
import { IpAddress, IpPrefix, SocketAddress } from "../../base/address.js";
import { resourceId } from "./rendering.js";

/** One thing that is wrong with a file. */
export interface ConfigurationProblem {
  /** Counted from 1. */
  readonly line: number;
  readonly column: number;
  /** `resources[0].address`; `file` for the whole. */
  readonly field: string;
  readonly message: string;
}

/** A file that cannot be used. `message` has one line per problem: `portal.yaml:12:5: resources[0].address: …`. */
export class ConfigurationError extends Error {
  override readonly name = "ConfigurationError";
  /** Empty when the file cannot be read. */
  readonly problems: readonly ConfigurationProblem[];

  constructor(message: string, options?: ErrorOptions, problems: readonly ConfigurationProblem[] = []) {
    super(message, options);
    this.problems = problems;
  }

  /** Problems of one file. */
  static of(file: string, problems: readonly ConfigurationProblem[]): ConfigurationError {
    const lines = problems.map(
      ({ line, column, field, message }) => `${file}:${line}:${column}: ${field === "" ? "" : `${field}: `}${message}`,
    );
    return new ConfigurationError(lines.join("\n"), undefined, problems);
  }
}

/** Problems reported of one file, at most: one mistake may cause very many. */
const MAX_PROBLEMS = 50;

const nameSchema = z.string().trim().min(1).max(255);
const tokenSchema = z.string().min(1).max(4096);

const portsSchema = z.union([z.number(), z.string()]).transform((value, context): readonly [number, number] => {
  const match = /^(\d{1,5})(?:-(\d{1,5}))?$/.exec(String(value));
  const first = Number(match?.[1]);
  const last = Number(match?.[2] ?? match?.[1]);
  if (match !== null && first <= last && last <= 65535) return [first, last];
  context.addIssue({ code: "custom", message: "a port like 443, or a range like 8000-8100" });
  return z.NEVER;
});

const filterSchema = z.union([
  z.enum(["tcp", "udp", "icmp"]).transform((protocol) => ({ protocol, ports: [] as (readonly [number, number])[] })),
  z.strictObject({ protocol: z.enum(["tcp", "udp"]), ports: z.array(portsSchema).default([]) }),
  z.strictObject({ protocol: z.literal("icmp") }).transform(() => ({ protocol: "icmp" as const, ports: [] })),
]);

function custom<T>(parse: (text: string) => T | undefined, expected: string) {
  return z.string().transform((text, context): T => {
    const value = parse(text);
    if (value !== undefined) return value;
    context.addIssue({ code: "custom", message: expected });
    return z.NEVER;
  });
}

const resourceCommon = {
  name: nameSchema,
  id: z.guid().toLowerCase().optional(),
  description: z.string().optional(),
  sites: z.array(nameSchema).min(1),
};

/** A DNS name with or without wildcards, in presentation format; a trailing dot is taken off. */
function parsePattern(text: string): string | undefined {
  const pattern = text.replace(/\.$/, "");
  return /^(?:[\p{L}\p{N}_*?-]{1,63}\.)*[\p{L}\p{N}_*?-]{1,63}$/u.test(pattern) ? pattern : undefined;
}

const resourceSchema = z.discriminatedUnion(
  "type",
  [
    z
      .strictObject({
        type: z.literal("ip"),
        ...resourceCommon,
        address: custom((text) => IpAddress.parse(text), "an address like 10.0.0.1"),
        filters: z.array(filterSchema).default([]),
      })
      .transform((resource) => ({ ...resource, type: "cidr" as const, address: IpPrefix.host(resource.address) })),
    z.strictObject({
      type: z.literal("cidr"),
      ...resourceCommon,
      address: custom((text) => IpPrefix.parse(text), "a network like 10.0.0.0/8 (host bits zero), or an address"),
      filters: z.array(filterSchema).default([]),
    }),
    z.strictObject({
      type: z.literal("dns"),
      ...resourceCommon,
      address: custom(parsePattern, "a name like www.example.com, or a pattern like **.example.com"),
      filters: z.array(filterSchema).default([]),
    }),
    z.strictObject({ type: z.literal("internet"), ...resourceCommon }),
  ],
  { error: "a type is missing: cidr, ip, dns or internet" },
);

const schema = z.strictObject({
  sites: z.array(z.strictObject({ name: nameSchema, tokens: z.array(tokenSchema).default([]) })).default([]),
  relays: z
    .strictObject({
      tokens: z.array(tokenSchema).default([]),
      static: z
        .array(
          z.strictObject({
            address: custom((text) => SocketAddress.parse(text), "an address with port, like 203.0.113.7:3478"),
            username: z.string(),
            password: z.string(),
          }),
        )
        .default([]),
    })
    .default({ tokens: [], static: [] }),
  actors: z
    .array(
      z.strictObject({
        name: nameSchema,
        groups: z.array(nameSchema).default([]),
        tokens: z
          .array(
            z.union([
              tokenSchema.transform((token) => ({ token, expiresAt: undefined })),
              z
                .strictObject({ token: tokenSchema, expires_at: z.iso.datetime({ offset: true }) })
                .transform(({ token, expires_at }) => ({ token, expiresAt: Date.parse(expires_at) })),
            ]),
          )
          .default([]),
      }),
    )
    .default([]),
  resources: z.array(resourceSchema).default([]),
  policies: z
    .array(
      z
        .strictObject({ actor: nameSchema.optional(), group: nameSchema.optional(), resource: nameSchema })
        .refine((policy) => (policy.actor === undefined) !== (policy.group === undefined), "either actor or group"),
    )
    .default([]),
  upstream_dns: z
    .array(
      custom((text) => {
        const ip = IpAddress.parse(text);
        return ip === undefined ? SocketAddress.parse(text) : new SocketAddress(ip, 53);
      }, "an address, with or without port"),
    )
    .default([]),
  trusted_proxies: z
    .array(custom((text) => IpPrefix.parse(text), "a network like 10.0.0.0/8 (host bits zero), or an address"))
    .default([]),
});

/** A valid configuration. */
export type Configuration = z.output<typeof schema>;

/** A resource of a configuration. */
export type ConfiguredResource = Configuration["resources"][number];

/** A filter of a configuration. */
export type ConfiguredFilter = z.output<typeof filterSchema>;

/** Parses and checks the text of a configuration. @throws ConfigurationError */
export function parseConfiguration(text: string, file: string): Configuration {
  const lines = new LineCounter();
  const document = parseDocument(text, { lineCounter: lines, prettyErrors: false });
  const problem = (offset: number, field: string, message: string): ConfigurationProblem => {
    const { line, col } = lines.linePos(offset);
    return { line, column: col, field, message };
  };
  const syntax = document.errors.map((error) => problem(error.pos[0], "", error.message));
  if (syntax.length > 0) throw ConfigurationError.of(file, syntax.slice(0, MAX_PROBLEMS));

  const at = ({ path, message, isKey }: Issue) =>
    problem(positionOf(document, path, isKey === true), fieldName(path), message);
  const result = schema.safeParse(plainValue(document, file) ?? {});
  const issues = result.success ? [...crossCheck(result.data)] : result.error.issues.flatMap(readableIssues);
  if (issues.length > 0) throw ConfigurationError.of(file, issues.slice(0, MAX_PROBLEMS).map(at));
  if (!result.success) throw new ConfigurationError(`${file}: ${result.error.message}`);
  return result.data;
}

/** The document without YAML's trimmings. @throws ConfigurationError for aliases to nothing, or too many. */
function plainValue(document: Document.Parsed, file: string): unknown {
  try {
    return document.toJS();
  } catch (error) {
    if (!(error instanceof ReferenceError)) throw error;
    throw ConfigurationError.of(file, [{ line: 1, column: 1, field: "", message: error.message }]);
  }
}

/** A problem with a field. */
interface Issue {
  readonly path: readonly PropertyKey[];
  readonly message: string;
  /** The field itself is wrong, not its value. */
  readonly isKey?: boolean;
}

/** zod's issues in our words: unknown fields one by one, and of alternatives the one that was meant. */
function readableIssues(issue: z.core.$ZodIssue): Issue[] {
  if (issue.code === "unrecognized_keys")
    return issue.keys.map((key) => ({ path: [...issue.path, key], message: "there is no such field", isKey: true }));
  if (issue.code === "invalid_union" && issue.errors.length > 0) {
    const depth = (issues: readonly z.core.$ZodIssue[]) =>
      Math.max(...issues.map(({ path, code }) => path.length + (code === "unrecognized_keys" ? 1 : 0)));
    const meant = issue.errors.reduce((best, other) => (depth(other) > depth(best) ? other : best));
    // None got further than the value itself: all alternatives failed at once.
    if (depth(meant) > 0)
      return meant.flatMap(readableIssues).map((inner) => ({ ...inner, path: [...issue.path, ...inner.path] }));
    return [{ path: issue.path, message: meant[0]?.message ?? issue.message }];
  }
  return [{ path: issue.path, message: issue.message }];
}

/** Problems that only show between the parts: unknown names, names and tokens that occur twice. */
function* crossCheck(configuration: Configuration): Generator<Issue> {
  const { sites, actors, resources, policies, relays } = configuration;
  yield* duplicates(sites, "sites");
  yield* duplicates(actors, "actors");
  yield* duplicates(resources, "resources");
  const siteNames = new Set(sites.map(({ name }) => name));
  for (const [index, resource] of resources.entries())
    for (const [number, site] of resource.sites.entries())
      if (!siteNames.has(site))
        yield { path: ["resources", index, "sites", number], message: `there is no site "${site}"` };

  const ids = new Set<string>();
  for (const [index, resource] of resources.entries()) {
    const id = resourceId(resource);
    if (ids.has(id)) yield { path: ["resources", index, "id"], message: "another resource has the same id" };
    ids.add(id);
    if (resource.type === "cidr" && isReserved(resource.address))
      yield { path: ["resources", index, "address"], message: "this network is the tunnel's own, or leads nowhere" };
  }

  const groups = new Set(actors.flatMap((actor) => actor.groups));
  const resourceNames = new Set(resources.map(({ name }) => name));
  for (const [index, { actor, group, resource }] of policies.entries()) {
    if (actor !== undefined && !actors.some(({ name }) => name === actor))
      yield { path: ["policies", index, "actor"], message: `there is no actor "${actor}"` };
    if (group !== undefined && !groups.has(group))
      yield { path: ["policies", index, "group"], message: `no actor is in a group "${group}"` };
    if (!resourceNames.has(resource))
      yield { path: ["policies", index, "resource"], message: `there is no resource "${resource}"` };
  }

  const seen = new Set<string>();
  const tokens: [string, PropertyKey[]][] = [
    ...sites.flatMap((site, i) =>
      site.tokens.map((token, j): [string, PropertyKey[]] => [token, ["sites", i, "tokens", j]]),
    ),
    ...actors.flatMap((actor, i) =>
      actor.tokens.map(({ token }, j): [string, PropertyKey[]] => [token, ["actors", i, "tokens", j]]),
    ),
    ...relays.tokens.map((token, j): [string, PropertyKey[]] => [token, ["relays", "tokens", j]]),
  ];
  for (const [token, path] of tokens) {
    if (seen.has(token)) yield { path, message: "the same token occurs twice" };
    seen.add(token);
  }
}

/** What no resource may lie in: tunnel addresses, loopback (spec 01, section 11.4). */
const RESERVED = ["100.64.0.0/10", "fd00:2021:1111::/48", "127.0.0.0/8", "::1/128"].flatMap(
  (text) => IpPrefix.parse(text) ?? [],
);

/** Whether an address must not be a resource's. `0.0.0.0/0` and `::/0` are none of these. */
function isReserved(prefix: IpPrefix): boolean {
  if (RESERVED.some((reserved) => reserved.containsPrefix(prefix))) return true;
  return prefix.address.isUnspecified && prefix.length === (prefix.family === 4 ? 32 : 128);
}

function* duplicates(items: readonly { readonly name: string }[], field: string): Generator<Issue> {
  const seen = new Set<string>();
  for (const [index, { name }] of items.entries()) {
    if (seen.has(name)) yield { path: [field, index, "name"], message: `"${name}" occurs twice` };
    seen.add(name);
  }
}

/** Where a field's value (or the field itself) starts in the text, or the innermost part of its path that exists. */
function positionOf(document: Document.Parsed, path: readonly PropertyKey[], isKey: boolean): number {
  if (isKey) {
    const map = document.getIn(path.slice(0, -1), true);
    const key = isMap(map) && map.items.find((item) => isScalar(item.key) && item.key.value === path.at(-1))?.key;
    if (isNode(key) && key.range) return key.range[0];
  }
  for (let depth = path.length; depth >= 0; depth--) {
    const node = depth === 0 ? document.contents : document.getIn(path.slice(0, depth), true);
    if (isNode(node) && node.range) return node.range[0];
  }
  return 0;
}

function fieldName(path: readonly PropertyKey[]): string {
  let name = "";
  for (const part of path) name += typeof part === "number" ? `[${part}]` : `${name === "" ? "" : "."}${String(part)}`;
  return name === "" ? "file" : name;
}
