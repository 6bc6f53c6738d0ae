// JSON types that several portal messages share (spec 01, section 6), as zod schemas that yield this project's values.

import { z } from "zod";
import { type AddressFamily, IpAddress, IpPrefix, SocketAddress } from "../base/address.js";

/** A UUID in text, of whatever version. */
export const idSchema = z.guid();

function parsed<T>(what: string, parse: (text: string) => T | undefined) {
  return z.string().transform((text, context): T => {
    const value = parse(text);
    if (value !== undefined) return value;
    context.addIssue({ code: "custom", message: `not ${what}` });
    return z.NEVER;
  });
}

/** A key of 32 bytes in standard Base64 with padding. */
export const keySchema = parsed("a key of 32 bytes in Base64", decodeKey);

/** An IP address. */
export const ipSchema = parsed("an IP address", (text) => IpAddress.parse(text));

/** An IPv4 address. */
export const ipv4Schema = parsed("an IPv4 address", (text) => ofFamily(4, text));

/** An IPv6 address. */
export const ipv6Schema = parsed("an IPv6 address", (text) => ofFamily(6, text));

/** A socket address. */
export const socketAddressSchema = parsed("a socket address", (text) => SocketAddress.parse(text));

/** A network in canonical form; a bare address is accepted as a host prefix. */
export const prefixSchema = parsed("a network without host bits", (text) => IpPrefix.parse(text));

function ofFamily(family: AddressFamily, text: string): IpAddress | undefined {
  const address = IpAddress.parse(text);
  return address?.family === family ? address : undefined;
}

/** Decodes a Base64 key; `undefined` unless it is canonical and has 32 bytes. */
export function decodeKey(text: string): Uint8Array | undefined {
  if (!/^[A-Za-z0-9+/]{43}=$/.test(text)) return undefined;
  const bytes = Uint8Array.from(atob(text), (character) => character.charCodeAt(0));
  // The last character holds two bits that belong to no byte: one key has one form.
  return encodeKey(bytes) === text ? bytes : undefined;
}

/** Encodes a key of 32 bytes. */
export function encodeKey(key: Uint8Array): string {
  return btoa(String.fromCharCode(...key));
}

/** `undefined` or null as absent. */
function optional<T extends z.ZodType>(schema: T) {
  return schema.nullish().transform((value) => value ?? undefined);
}

const portSchema = z.number().int().min(0).max(65535);

/** One rule of a resource's filter list (spec 01, section 6.5). An empty list permits everything. */
export const filterSchema = z.discriminatedUnion("protocol", [
  z.object({
    protocol: z.literal("tcp"),
    port_range_start: portSchema.default(0),
    port_range_end: portSchema.default(65535),
  }),
  z.object({
    protocol: z.literal("udp"),
    port_range_start: portSchema.default(0),
    port_range_end: portSchema.default(65535),
  }),
  z.object({ protocol: z.literal("icmp") }),
]);

/** A filter rule. */
export type PortalFilter = z.infer<typeof filterSchema>;

/** A site, which the wire calls gateway group. */
export const siteSchema = z.object({ id: idSchema, name: z.string() });

/** A site. */
export type Site = z.infer<typeof siteSchema>;

/** A resource as clients see it (spec 01, section 6.3). */
export const clientResourceSchema = z.discriminatedUnion("type", [
  z.object({
    type: z.literal("cidr"),
    id: idSchema,
    name: z.string(),
    address: prefixSchema,
    address_description: optional(z.string()),
    gateway_groups: z.array(siteSchema),
  }),
  z.object({
    type: z.literal("dns"),
    id: idSchema,
    name: z.string(),
    address: z.string(),
    address_description: optional(z.string()),
    gateway_groups: z.array(siteSchema),
  }),
  z.object({
    type: z.literal("internet"),
    id: idSchema,
    name: z.string().default("<-> Internet Resource"),
    gateway_groups: z.array(siteSchema),
    can_be_disabled: optional(z.boolean()).transform((value) => value ?? false),
  }),
]);

/** A resource as clients see it. */
export type ClientResource = z.infer<typeof clientResourceSchema>;

/** A resource as gateways see it (spec 01, section 6.4). */
export const gatewayResourceSchema = z.discriminatedUnion("type", [
  z.object({
    type: z.literal("cidr"),
    id: idSchema,
    name: z.string(),
    address: prefixSchema,
    filters: z.array(filterSchema),
  }),
  z.object({
    type: z.literal("dns"),
    id: idSchema,
    name: z.string(),
    address: z.string(),
    filters: z.array(filterSchema),
  }),
  z.object({ type: z.literal("internet"), id: idSchema }),
]);

/** A resource as gateways see it. */
export type GatewayResource = z.infer<typeof gatewayResourceSchema>;
