// The portal's YAML file: what it may say, and what is wrong with it in words that name line, column and field.

import { type Document, isNode, LineCounter, parseDocument } from "yaml";
import { z } from "zod";
import { IpAddress, IpPrefix, SocketAddress } from "../../base/address.js";

/** A file that cannot be used. `message` has one line per problem: `portal.yaml:12:5: resources[0].address: …`. */
export class ConfigurationError extends Error {
  override readonly name = "ConfigurationError";
}

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
  id: z.uuid().optional(),
  description: z.string().optional(),
  sites: z.array(nameSchema).min(1),
};

const resourceSchema = z.discriminatedUnion("type", [
  z.strictObject({
    type: z.literal("cidr"),
    ...resourceCommon,
    address: custom((text) => IpPrefix.parse(text), "a network like 10.0.0.0/8 (host bits zero), or an address"),
    filters: z.array(filterSchema).default([]),
  }),
  z.strictObject({
    type: z.literal("dns"),
    ...resourceCommon,
    address: nameSchema,
    filters: z.array(filterSchema).default([]),
  }),
  z.strictObject({ type: z.literal("internet"), ...resourceCommon }),
]);

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
  const problems: string[] = document.errors.map((error) => {
    const { line, col } = lines.linePos(error.pos[0]);
    return `${file}:${line}:${col}: ${error.message}`;
  });
  if (problems.length > 0) throw new ConfigurationError(problems.join("\n"));

  const at = (path: readonly PropertyKey[], message: string) => {
    const { line, col } = lines.linePos(positionOf(document, path));
    return `${file}:${line}:${col}: ${fieldName(path)}: ${message}`;
  };
  const result = schema.safeParse(document.toJS() ?? {});
  if (!result.success)
    throw new ConfigurationError(result.error.issues.map((issue) => at(issue.path, issue.message)).join("\n"));
  for (const [path, message] of crossCheck(result.data)) problems.push(at(path, message));
  if (problems.length > 0) throw new ConfigurationError(problems.join("\n"));
  return result.data;
}

/** Problems that only show between the parts: unknown names, names and tokens that occur twice. */
function* crossCheck(configuration: Configuration): Generator<[PropertyKey[], string]> {
  const { sites, actors, resources, policies, relays } = configuration;
  yield* duplicates(sites, "sites");
  yield* duplicates(actors, "actors");
  yield* duplicates(resources, "resources");
  const siteNames = new Set(sites.map(({ name }) => name));
  for (const [index, resource] of resources.entries())
    for (const [number, site] of resource.sites.entries())
      if (!siteNames.has(site)) yield [["resources", index, "sites", number], `there is no site "${site}"`];

  const groups = new Set(actors.flatMap((actor) => actor.groups));
  const resourceNames = new Set(resources.map(({ name }) => name));
  for (const [index, { actor, group, resource }] of policies.entries()) {
    if (actor !== undefined && !actors.some(({ name }) => name === actor))
      yield [["policies", index, "actor"], `there is no actor "${actor}"`];
    if (group !== undefined && !groups.has(group))
      yield [["policies", index, "group"], `no actor is in a group "${group}"`];
    if (!resourceNames.has(resource)) yield [["policies", index, "resource"], `there is no resource "${resource}"`];
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
    if (seen.has(token)) yield [path, "the same token occurs twice"];
    seen.add(token);
  }
}

function* duplicates(items: readonly { readonly name: string }[], field: string): Generator<[PropertyKey[], string]> {
  const seen = new Set<string>();
  for (const [index, { name }] of items.entries()) {
    if (seen.has(name)) yield [[field, index, "name"], `"${name}" occurs twice`];
    seen.add(name);
  }
}

/** Where a field, or the innermost part of its path that exists, starts in the text. */
function positionOf(document: Document.Parsed, path: readonly PropertyKey[]): number {
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
