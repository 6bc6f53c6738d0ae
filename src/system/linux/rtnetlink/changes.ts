// Notifications of the routing subsystem: links, addresses and routes that appear, change or vanish (rtnetlink(7), multicast groups).
//
// Node cannot wait for a netlink socket in its event loop: the owner has it watched (readiness-watch.ts) and then reads.

import { Errno, SystemCallError } from "../errno.js";
import { decodeAddress, type InterfaceAddress, RTM_DELADDR, RTM_NEWADDR } from "./addresses.js";
import { decodeLink, type Link, RTM_DELLINK, RTM_NEWLINK } from "./links.js";
import type { NetlinkMessage } from "./message.js";
import { EBADMSG, RouteSocket } from "./route-socket.js";
import { decodeRoute, type Route, RTM_DELROUTE, RTM_NEWROUTE } from "./routes.js";

/** Something changed in the network configuration of this host. `present`: it appeared or changed; otherwise it is gone. */
export type NetworkChange =
  | { readonly type: "link"; readonly present: boolean; readonly link: Link }
  | { readonly type: "address"; readonly present: boolean; readonly address: InterfaceAddress }
  | { readonly type: "route"; readonly present: boolean; readonly route: Route }
  /** More changed than the kernel remembered: look at everything anew. */
  | { readonly type: "overrun" };

/** Which changes to report. Default: all. */
export interface ChangeFilter {
  readonly links?: boolean;
  readonly addresses?: boolean;
  readonly routes?: boolean;
}

const RTMGRP_LINK = 0x1;
const RTMGRP_IPV4_IFADDR = 0x10;
const RTMGRP_IPV4_ROUTE = 0x40;
const RTMGRP_IPV6_IFADDR = 0x100;
const RTMGRP_IPV6_ROUTE = 0x400;

/** Size of the receive buffer in bytes; a notification is at most a page or two. */
const RECEIVE_BUFFER_LENGTH = 32 * 1024;
/** Most datagrams that one `read` takes, so that a storm of changes does not hold up the caller. */
const MAX_DATAGRAMS = 256;
/** Errors that mean: something was reported that could not be read. */
const CHANGES_LOST: readonly number[] = [Errno.ENOBUFS, Errno.EMSGSIZE, EBADMSG];

/** A subscription to the changes of one network namespace. */
export class NetworkChanges {
  readonly #socket: Pick<RouteSocket, "fd" | "receive" | "close">;
  #open = true;

  /** `socket`: its `receive` does not wait. */
  constructor(socket: Pick<RouteSocket, "fd" | "receive" | "close">) {
    this.#socket = socket;
  }

  /** Subscribes to changes in the calling thread's network namespace. */
  static subscribe(filter: ChangeFilter = {}): NetworkChanges {
    let groups = 0;
    if (filter.links !== false) groups |= RTMGRP_LINK;
    if (filter.addresses !== false) groups |= RTMGRP_IPV4_IFADDR | RTMGRP_IPV6_IFADDR;
    if (filter.routes !== false) groups |= RTMGRP_IPV4_ROUTE | RTMGRP_IPV6_ROUTE;
    return new NetworkChanges(RouteSocket.open({ capacity: RECEIVE_BUFFER_LENGTH, receiveTimeout: 0, groups }));
  }

  /** To be watched: readable when there is something to {@link NetworkChanges.read}. */
  get fd(): number {
    return this.#socket.fd;
  }

  /** What happened since the last call; nothing when nothing did. Never waits. */
  read(): NetworkChange[] {
    const changes: NetworkChange[] = [];
    if (!this.#open) return changes;
    for (let i = 0; i < MAX_DATAGRAMS; i++) {
      const received = this.#socket.receive();
      if (received.type === "messages") {
        for (const message of received.messages) {
          // A copy: changes outlive the receive buffer.
          const change = decodeChange({ ...message, payload: message.payload.slice() });
          if (change !== undefined) changes.push(change);
        }
      } else if (received.errno === Errno.EAGAIN) {
        break;
      } else if (CHANGES_LOST.includes(received.errno)) {
        changes.push({ type: "overrun" });
      } else {
        throw new SystemCallError("receiving network changes", received.errno);
      }
    }
    return changes;
  }

  /** Ends the subscription. Idempotent. */
  close(): void {
    this.#open = false;
    this.#socket.close();
  }
}

/** The change that a notification reports; `undefined` for one that this project does not care about. */
export function decodeChange(message: NetlinkMessage): NetworkChange | undefined {
  switch (message.type) {
    case RTM_NEWLINK:
    case RTM_DELLINK: {
      const link = decodeLink(message);
      return link === undefined ? undefined : { type: "link", present: message.type === RTM_NEWLINK, link };
    }
    case RTM_NEWADDR:
    case RTM_DELADDR: {
      const address = decodeAddress(message);
      return address === undefined ? undefined : { type: "address", present: message.type === RTM_NEWADDR, address };
    }
    case RTM_NEWROUTE:
    case RTM_DELROUTE: {
      const route = decodeRoute(message);
      return route === undefined ? undefined : { type: "route", present: message.type === RTM_NEWROUTE, route };
    }
    default:
      return undefined;
  }
}
