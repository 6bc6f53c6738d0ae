// Messages of the gateway's channel (spec 01, section 8).

import { z } from "zod";
import {
  candidatesSchema,
  domainRequestSchema,
  iceCredentialsSchema,
  interfaceSchema,
  relaysPresenceSchema,
  relaysSchema,
} from "./common-messages.js";
import { gatewayResourceSchema, idSchema, ipv4Schema, ipv6Schema, keySchema } from "./values.js";

/** Unix seconds, or null: never expires. Must be present. As milliseconds. */
const expirySchema = z
  .number()
  .nullable()
  .transform((seconds) => (seconds === null ? undefined : seconds * 1000));

/** Pushes that a gateway understands. */
export const gatewayPushSchema = z.discriminatedUnion("event", [
  z.object({
    event: z.literal("init"),
    payload: z.object({
      interface: interfaceSchema,
      config: z.object({ ipv4_masquerade_enabled: z.boolean(), ipv6_masquerade_enabled: z.boolean() }),
      relays: relaysSchema,
    }),
  }),
  z.object({
    event: z.literal("request_connection"),
    payload: z
      .object({
        ref: z.string(),
        resource: gatewayResourceSchema,
        expires_at: expirySchema,
        client: z.object({
          id: idSchema,
          peer: z.object({ public_key: keySchema, preshared_key: keySchema, ipv4: ipv4Schema, ipv6: ipv6Schema }),
          payload: z.object({ ice_parameters: iceCredentialsSchema, domain: domainRequestSchema }),
        }),
      })
      .transform(({ ref, resource, expires_at, client }) => ({
        ref,
        resource,
        expiresAt: expires_at,
        clientId: client.id,
        publicKey: client.peer.public_key,
        presharedKey: client.peer.preshared_key,
        ipv4: client.peer.ipv4,
        ipv6: client.peer.ipv6,
        credentials: client.payload.ice_parameters,
        domain: client.payload.domain,
      })),
  }),
  z.object({
    event: z.literal("allow_access"),
    payload: z
      .object({
        ref: z.string(),
        client_id: idSchema,
        resource: gatewayResourceSchema,
        expires_at: expirySchema,
        payload: domainRequestSchema,
        client_ipv4: ipv4Schema.optional(),
        client_ipv6: ipv6Schema.optional(),
      })
      .transform((value) => ({
        ref: value.ref,
        clientId: value.client_id,
        resource: value.resource,
        expiresAt: value.expires_at,
        domain: value.payload,
        ipv4: value.client_ipv4,
        ipv6: value.client_ipv6,
      })),
  }),
  z.object({
    event: z.literal("reject_access"),
    payload: z
      .object({ client_id: idSchema, resource_id: idSchema })
      .transform((value) => ({ clientId: value.client_id, resourceId: value.resource_id })),
  }),
  z.object({ event: z.literal("resource_updated"), payload: gatewayResourceSchema }),
  z.object({
    event: z.literal("ice_candidates"),
    payload: z.object({ client_id: idSchema, candidates: candidatesSchema }),
  }),
  z.object({
    event: z.literal("invalidate_ice_candidates"),
    payload: z.object({ client_id: idSchema, candidates: candidatesSchema }),
  }),
  z.object({ event: z.literal("relays_presence"), payload: relaysPresenceSchema }),
]);

/** A push to a gateway. */
export type GatewayPush = z.output<typeof gatewayPushSchema>;

/** What a gateway tells the portal. */
export type GatewayMessage =
  | {
      readonly event: "connection_ready";
      readonly payload: {
        readonly ref: string;
        readonly gateway_payload:
          | {
              readonly ConnectionAccepted: {
                readonly ice_parameters: { readonly username: string; readonly password: string };
                readonly domain_response: null | { readonly domain: string; readonly address: readonly string[] };
              };
            }
          | {
              readonly ResourceAccepted: {
                readonly domain_response: { readonly domain: string; readonly address: readonly string[] };
              };
            };
      };
    }
  | {
      readonly event: "broadcast_ice_candidates" | "broadcast_invalidated_ice_candidates";
      readonly payload: { readonly client_ids: readonly string[]; readonly candidates: readonly string[] };
    };
