// Connection intents (spec 04, section 4.2): which gateway serves this resource? What waits for the answer, and when it was asked last:
// at once for the first packet, then once in two seconds while packets come.

import { type Duration, type Instant, SECOND } from "../base/time.js";
import type { ClientEvent } from "./events.js";
import { PacketBuffer } from "./packet-buffer.js";
import { RecentGateways } from "./recent-gateways.js";

/** Least time between two intents for one resource. */
export const INTENT_INTERVAL: Duration = 2 * SECOND;

/** An intent to send. */
export type ConnectionIntent = Extract<ClientEvent, { readonly type: "connection-intent" }>;

/** An intent that the portal has answered. */
export interface AnsweredIntent {
  /** What has come for the resource meanwhile. */
  readonly packets: PacketBuffer;
  /** Time from intent to routing details. */
  readonly roundTrip: Duration;
}

/** The intents of all resources. */
export class Intents {
  /** Resource → packets that wait for routing details. */
  readonly #waiting = new Map<string, PacketBuffer>();
  /** When the last intent for a resource was sent, whatever came of it: refusals must not make a storm of them. */
  readonly #sentAt = new Map<string, Instant>();
  readonly #recent = new RecentGateways();

  /** The resource needs a gateway. @returns where its packets may wait, and the intent, if it is time to send one. */
  want(resourceId: string, now: Instant): { readonly packets: PacketBuffer; readonly intent?: ConnectionIntent } {
    const packets = this.#waiting.get(resourceId) ?? new PacketBuffer();
    this.#waiting.set(resourceId, packets);
    const sentAt = this.#sentAt.get(resourceId);
    if (sentAt !== undefined && now - sentAt < INTENT_INTERVAL) return { packets };
    this.#sentAt.set(resourceId, now);
    const intent = { type: "connection-intent", resourceId, connectedGatewayIds: [...this.#recent.list()] } as const;
    return { packets, intent };
  }

  /** The portal named a gateway; `undefined` when nobody waits for that any more. */
  answer(resourceId: string, gatewayId: string, now: Instant): AnsweredIntent | undefined {
    const packets = this.#waiting.get(resourceId);
    if (packets === undefined) return undefined;
    this.#waiting.delete(resourceId);
    this.#recent.touch(gatewayId);
    return { packets, roundTrip: now - (this.#sentAt.get(resourceId) ?? now) };
  }

  /** Nothing waits for the resource's gateway any more. The interval goes on. @returns the packets that did. */
  drop(resourceId: string): PacketBuffer | undefined {
    const packets = this.#waiting.get(resourceId);
    this.#waiting.delete(resourceId);
    return packets;
  }

  /** The resource is gone, or switched off: should it come back, it may be asked for at once. */
  forget(resourceId: string): void {
    this.#sentAt.delete(resourceId);
  }

  /** Starts anew, without preferences. @returns all packets that waited. */
  clear(): PacketBuffer[] {
    const waiting = [...this.#waiting.values()];
    this.#waiting.clear();
    this.#sentAt.clear();
    this.#recent.clear();
    return waiting;
  }
}
