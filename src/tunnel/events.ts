// What client and gateway state report: messages for the portal, changes for the host's interface, and changes for the
// datapath's tables. Table-facing events of the node pass through unchanged.

import type { IpAddress, IpPrefix, SocketAddress } from "../base/address.js";
import type { DatapathEvent, Offer, RelayFailed } from "../connection/events.js";
import type { ResourceView } from "./resources.js";

/** What a route of the datapath leads to. */
export type RouteDestination =
  | { readonly type: "connection"; readonly connection: string }
  /** Ask the control plane: intent, buffering. */
  | { readonly type: "exception" };

/** A change of the datapath's routing table. */
export type RouteEvent =
  | { readonly type: "route-set"; readonly prefix: IpPrefix; readonly target: RouteDestination }
  | { readonly type: "route-removed"; readonly prefix: IpPrefix };

/** Send a packet of {@link encodePeerMessage} on a connection. */
export interface PeerMessageEvent {
  readonly type: "send-peer-message";
  readonly connection: string;
  readonly packet: Uint8Array;
}

/** ICE candidates of one connection, sorted and without duplicates (spec 02, section 3.2). */
export type CandidateEvent = {
  readonly type: "added-ice-candidates" | "removed-ice-candidates";
  readonly connection: string;
  readonly candidates: readonly string[];
};

/** What client and gateway both report. */
export type TunnelEvent = CandidateEvent | RouteEvent | PeerMessageEvent | RelayFailed | DatapathEvent;

/** Tunnel addresses and DNS servers of this host. */
export interface InterfaceConfiguration {
  readonly ipv4: IpAddress;
  readonly ipv6: IpAddress;
  readonly upstreamDns: readonly SocketAddress[];
}

/** What the client's state reports. */
export type ClientEvent =
  | {
      readonly type: "connection-intent";
      readonly resourceId: string;
      /** Most recently used first. */
      readonly connectedGatewayIds: readonly string[];
    }
  | {
      readonly type: "request-connection";
      readonly gatewayId: string;
      readonly resourceId: string;
      /** 32 bytes, secret. */
      readonly presharedKey: Uint8Array;
      readonly credentials: Offer["credentials"];
    }
  | { readonly type: "request-access"; readonly gatewayId: string; readonly resourceId: string }
  | { readonly type: "resources-changed"; readonly resources: readonly ResourceView[] }
  | { readonly type: "tun-interface-updated"; readonly configuration: InterfaceConfiguration }
  | { readonly type: "tun-routes-updated"; readonly prefixes: readonly IpPrefix[] }
  | { readonly type: "gateway-connected"; readonly gatewayId: string }
  | { readonly type: "gateway-disconnected"; readonly gatewayId: string; readonly reason: string }
  | TunnelEvent;

/** One rule of a filter: destination ports of TCP or UDP, both bounds inclusive, or all of ICMP and ICMPv6. */
export type FilterRule =
  | { readonly protocol: "tcp" | "udp"; readonly first: number; readonly last: number }
  | { readonly protocol: "icmp" };

/** What a client may reach within a prefix; an empty list: everything (spec 04, section 6.6). Overlapping filters add up. */
export interface Filter {
  readonly prefix: IpPrefix;
  readonly rules: readonly FilterRule[];
}

/** What the gateway's state reports. */
export type GatewayEvent =
  | { readonly type: "client-connected"; readonly clientId: string }
  | { readonly type: "client-disconnected"; readonly clientId: string; readonly reason: string }
  | { readonly type: "filters-set"; readonly connection: string; readonly filters: readonly Filter[] }
  /** Hand a client's packet to the network: it came before its grant. */
  | { readonly type: "deliver-packet"; readonly packet: Uint8Array }
  | TunnelEvent;
