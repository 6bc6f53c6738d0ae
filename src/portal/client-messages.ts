// Messages of the client's channel (spec 01, section 7): pushes and replies of the portal, requests of the client.

import { z } from "zod";
import {
  candidatesSchema,
  iceCredentialsSchema,
  interfaceSchema,
  lenientArray,
  relaysPresenceSchema,
  relaysSchema,
} from "./common-messages.js";
import { clientResourceSchema, encodeKey, idSchema, ipSchema, keySchema } from "./values.js";

/** Pushes that a client understands. */
export const clientPushSchema = z.discriminatedUnion("event", [
  z.object({
    event: z.literal("init"),
    payload: z.object({
      interface: interfaceSchema,
      resources: lenientArray(clientResourceSchema),
      relays: relaysSchema,
    }),
  }),
  z.object({ event: z.literal("config_changed"), payload: z.object({ interface: interfaceSchema }) }),
  z.object({ event: z.literal("resource_created_or_updated"), payload: clientResourceSchema }),
  z.object({ event: z.literal("resource_deleted"), payload: idSchema }),
  z.object({
    event: z.literal("ice_candidates"),
    payload: z.object({ gateway_id: idSchema, candidates: candidatesSchema }),
  }),
  z.object({
    event: z.literal("invalidate_ice_candidates"),
    payload: z.object({ gateway_id: idSchema, candidates: candidatesSchema }),
  }),
  z.object({ event: z.literal("relays_presence"), payload: relaysPresenceSchema }),
]);

/** A push to a client. */
export type ClientPush = z.output<typeof clientPushSchema>;

/** What a gateway answered; the portal passes it through. */
const gatewayPayloadSchema = z.union([
  z.object({ ConnectionAccepted: z.object({ ice_parameters: iceCredentialsSchema }) }).transform((value) => ({
    type: "connection-accepted" as const,
    credentials: value.ConnectionAccepted.ice_parameters,
  })),
  z.object({ ResourceAccepted: z.object({}) }).transform(() => ({ type: "resource-accepted" as const })),
]);

/** Replies to a client's requests, told apart by shape (spec 01, section 7.1). */
export const clientReplySchema = z.union([
  z
    .object({
      resource_id: idSchema,
      gateway_id: idSchema,
      // The later portal calls it site_id (spec 01, section 14.3).
      gateway_group_id: idSchema.optional(),
      site_id: idSchema.optional(),
      gateway_remote_ip: ipSchema,
    })
    .transform((value, context) => {
      const siteId = value.gateway_group_id ?? value.site_id;
      if (siteId === undefined) {
        context.addIssue({ code: "custom", message: "gateway_group_id is missing" });
        return z.NEVER;
      }
      return {
        type: "connection-details" as const,
        resourceId: value.resource_id,
        gatewayId: value.gateway_id,
        siteId,
      };
    }),
  z
    .object({
      resource_id: idSchema,
      gateway_public_key: keySchema,
      persistent_keepalive: z.number(),
      gateway_payload: gatewayPayloadSchema,
    })
    .transform((value) => ({
      type: "connect" as const,
      resourceId: value.resource_id,
      gatewayPublicKey: value.gateway_public_key,
      answer: value.gateway_payload,
    })),
]);

/** A reply to a client's request. */
export type ClientReply = z.output<typeof clientReplySchema>;

/** What a client asks for or tells. */
export type ClientMessage =
  | {
      readonly event: "prepare_connection";
      readonly payload: { readonly resource_id: string; readonly connected_gateway_ids: readonly string[] };
    }
  | {
      readonly event: "request_connection";
      readonly payload: {
        readonly gateway_id: string;
        readonly resource_id: string;
        readonly client_preshared_key: string;
        readonly client_payload: {
          readonly ice_parameters: { readonly username: string; readonly password: string };
          readonly domain: null;
        };
      };
    }
  | {
      readonly event: "reuse_connection";
      readonly payload: { readonly resource_id: string; readonly gateway_id: string; readonly payload: null };
    }
  | {
      readonly event: "broadcast_ice_candidates" | "broadcast_invalidated_ice_candidates";
      readonly payload: { readonly gateway_ids: readonly string[]; readonly candidates: readonly string[] };
    };

/** The request that starts a connection; `presharedKey` has 32 bytes. */
export function requestConnection(
  gatewayId: string,
  resourceId: string,
  presharedKey: Uint8Array,
  credentials: { readonly username: string; readonly password: string },
): ClientMessage {
  return {
    event: "request_connection",
    payload: {
      gateway_id: gatewayId,
      resource_id: resourceId,
      client_preshared_key: encodeKey(presharedKey),
      client_payload: {
        ice_parameters: { username: credentials.username, password: credentials.password },
        domain: null,
      },
    },
  };
}
