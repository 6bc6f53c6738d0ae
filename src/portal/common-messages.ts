// Parts of messages that clients and gateways share (spec 01, sections 6 and 7.2).

import { z } from "zod";
import { idSchema, ipSchema, ipv4Schema, ipv6Schema, socketAddressSchema } from "./values.js";

/** An array whose malformed elements are skipped one by one (spec 01, section 13, defect 8); absent or null: empty. */
export function lenientArray<T extends z.ZodType>(element: T) {
  return z
    .array(z.unknown())
    .nullish()
    .transform((items) => {
      const accepted: z.output<T>[] = [];
      for (const item of items ?? []) {
        const result = element.safeParse(item);
        if (result.success) accepted.push(result.data);
      }
      return accepted;
    });
}

/** Tunnel addresses and DNS servers (spec 01, section 6.1). */
export const interfaceSchema = z
  .object({
    ipv4: ipv4Schema,
    ipv6: ipv6Schema,
    upstream_dns: lenientArray(z.object({ protocol: z.literal("ip_port"), address: socketAddressSchema })),
  })
  .transform((value) => ({
    ipv4: value.ipv4,
    ipv6: value.ipv6,
    upstreamDns: value.upstream_dns.map((server) => server.address),
  }));

/** A relay's address with credentials (spec 01, section 6.2). Entries of type `stun` are skipped by {@link relaysSchema}. */
const relaySchema = z
  .object({
    id: idSchema,
    type: z.literal("turn"),
    addr: socketAddressSchema,
    username: z.string(),
    password: z.string(),
  })
  .transform(({ id, addr, username, password }) => ({ id, address: addr, username, password }));

/** One address of a relay. A dual-stack relay is two entries with the same id. */
export type RelayEntry = z.output<typeof relaySchema>;

/** Relays of an `init` or `relays_presence`. */
export const relaysSchema = lenientArray(relaySchema);

/** Change in the set of relays (spec 01, section 7.2). */
export const relaysPresenceSchema = z
  .object({ disconnected_ids: z.array(idSchema), connected: relaysSchema })
  .transform((value) => ({ disconnectedIds: value.disconnected_ids, connected: value.connected }));

/** ICE user fragment and password (spec 01, section 6.6). */
export const iceCredentialsSchema = z.object({ username: z.string(), password: z.string() });

/** A name that a client resolved, with the addresses that it gave the name (spec 01, section 6.6); a bare name from old clients. */
export const domainRequestSchema = z
  .union([z.string(), z.object({ name: z.string(), proxy_ips: z.array(ipSchema) })])
  .nullish()
  .transform((value) => {
    if (value === null || value === undefined) return undefined;
    return typeof value === "string" ? { name: value, proxyIps: [] } : { name: value.name, proxyIps: value.proxy_ips };
  });

/** Candidates of one peer. */
export const candidatesSchema = lenientArray(z.string());
