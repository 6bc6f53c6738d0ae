// The portal's state and what it does with messages (spec 01, sections 11 and 12), without sockets: sessions and texts come in,
// texts and closings come out.

import type { Random } from "../../base/random.js";
import type { UnixTime } from "../../base/time.js";
import { Channels, type PortalOutput } from "./channels.js";
import type { Configuration } from "./configuration.js";
import { FlowTable } from "./flows.js";
import { Grants, resourceChanges } from "./grants.js";
import { type AddressBook, derivedId } from "./identity.js";
import { parseMessage, stringField } from "./messages.js";
import { RelayDirectory } from "./relays.js";
import { renderForClient, renderForGateway, resourceId, routingOf } from "./rendering.js";
import { checkParameters, type Login, type LoginResult, type Session } from "./session.js";
import { Signalling } from "./signalling.js";
import { TokenTable, tokenDigest } from "./tokens.js";

export type { Login, LoginResult, Session } from "./session.js";

/** How long a relay may be away before others hear of it, milliseconds (spec 01, section 11.9). */
export const RELAY_QUIET_TIME = 1000;

/** How many pushes of each kind a new configuration has caused, and how many sockets it has closed. */
export interface ConfigurationChanges {
  readonly created_or_updated: number;
  readonly deleted: number;
  readonly rejected: number;
  readonly closed: number;
}

/** The portal. */
export class PortalState {
  readonly #addresses: AddressBook;
  #grants: Grants;
  #tokens: TokenTable;
  readonly #channels = new Channels();
  readonly #flows = new FlowTable();
  readonly #signalling: Signalling;
  readonly #relays: RelayDirectory<Session>;
  #relaysRevision = 0;

  constructor(configuration: Configuration, random: Random, addresses: AddressBook) {
    this.#grants = new Grants(configuration);
    this.#tokens = new TokenTable(configuration);
    this.#addresses = addresses;
    this.#signalling = new Signalling(this.#channels, this.#flows, random);
    this.#relays = new RelayDirectory(random);
    this.#relays.setFixed(configuration);
  }

  /** Sessions that are signed in. */
  get sessions(): ReadonlySet<Session> {
    return this.#channels.sessions;
  }

  /** The configuration in force. */
  get configuration(): Configuration {
    return this.#grants.configuration;
  }

  /** Counts changes of the set of relays: call {@link announceRelays} when it has been quiet for {@link RELAY_QUIET_TIME}. */
  get relaysRevision(): number {
    return this.#relaysRevision;
  }

  pollOutput(): PortalOutput | undefined {
    return this.#channels.pollOutput();
  }

  /** Judges a login. The session is online once it has joined; {@link disconnected} must be called at its end. */
  login(role: Session["role"], login: Login, now: UnixTime): LoginResult {
    if (login.token === undefined || login.token === "") return { type: "refused", status: 401, text: "Missing token" };
    const digest = tokenDigest(login.token);
    const owner = this.#tokens.find(role, digest, now);
    if (owner === undefined) return { type: "refused", status: 401, text: "Invalid token" };

    const parameters = checkParameters(role, login);
    if (parameters.type === "invalid") {
      const text = `Invalid or missing connection parameters: ${parameters.problems.join("\n")}\n`;
      return { type: "refused", status: 422, text };
    }
    const { key, publicKey, version } = parameters;
    const identity = `${role} ${owner.name} ${key}`;
    const addresses = role === "relay" ? undefined : this.#addresses.addressesOf(identity);
    if (role !== "relay" && addresses === undefined)
      return { type: "refused", status: 503, text: "No tunnel address is free" };
    const session: Session = {
      role,
      tokenDigest: digest,
      owner: owner.name,
      id: derivedId("device", identity),
      addresses,
      relayAddresses: parameters.relayAddresses,
      publicKey,
      remoteIp: login.remoteIp,
      location: login.location,
      version,
      expiresAt: owner.expiresAt,
      joined: false,
    };
    this.#channels.add(session);
    return { type: "accepted", session };
  }

  /** The session's socket is gone. */
  disconnected(session: Session): void {
    this.#channels.remove(session);
    this.#leave(session);
    this.#signalling.disconnected(session);
  }

  /** The session's token has expired. */
  expire(session: Session): void {
    this.#channels.push(session, "disconnect", { reason: "token_expired" });
    this.#channels.push(session, "phx_close", {});
    this.#close(session);
  }

  /** A text frame of a session. */
  handleText(session: Session, text: string): void {
    const message = parseMessage(text);
    if (message === undefined || !this.#channels.sessions.has(session)) {
      this.#close(session);
      return;
    }
    const { topic, event, payload, ref } = message;
    if (topic === "phoenix" && event === "heartbeat") {
      this.#channels.reply(session, "phoenix", ref, {});
    } else if (topic === session.role && event === "phx_join") {
      this.#join(session, ref, payload);
    } else if (topic !== session.role || !session.joined) {
      this.#channels.refuse(session, topic, ref, "unmatched topic");
    } else if (event === "phx_leave") {
      this.#leave(session);
      this.#channels.reply(session, topic, ref, {});
    } else if (!this.#handle(session, event, payload, ref)) {
      this.#channels.refuse(session, topic, ref, "unknown_message");
    }
  }

  /** Tells everybody whose relays have gone, or who has too few, what there is. */
  announceRelays(): void {
    for (const { user, disconnectedIds, connected } of this.#relays.changes())
      this.#channels.push(user, "relays_presence", { disconnected_ids: disconnectedIds, connected });
  }

  /** Replaces the configuration and tells everybody what has changed for them (spec 01, section 11.10). */
  setConfiguration(next: Configuration, now: UnixTime): ConfigurationChanges {
    const before = this.#grants;
    this.#grants = new Grants(next);
    this.#tokens = new TokenTable(next);
    this.#relays.setFixed(next);

    // A withdrawn token closes the socket; the attempt to come back is refused with 401. A token with another end signs in anew.
    const withdrawn = [...this.#channels.sessions].filter((session) => !this.#isTokenOf(session.role, session, now));
    for (const session of withdrawn) this.#close(session);

    const dnsChanged = JSON.stringify(upstreamDns(before.configuration)) !== JSON.stringify(upstreamDns(next));
    const counts = { created_or_updated: 0, deleted: 0 };
    for (const session of this.#channels.joined("client")) {
      if (dnsChanged) this.#channels.push(session, "config_changed", { interface: this.#interfaceOf(session) });
      const { deleted, changed } = resourceChanges(before, this.#grants, session.owner, session.version);
      for (const id of deleted) this.#channels.push(session, "resource_deleted", id);
      for (const resource of changed) this.#channels.push(session, "resource_created_or_updated", resource);
      counts.deleted += deleted.length;
      counts.created_or_updated += changed.length;
    }
    const rejected = this.#revokeFlows(before, now);
    this.#pushUpdatesToGateways(before);
    this.#relaysRevision++;
    return { ...counts, rejected, closed: withdrawn.length };
  }

  #join(session: Session, ref: unknown, payload: unknown): void {
    const { role, version } = session;
    if (role === "client" && version === undefined) {
      this.#channels.refuse(session, role, ref, "invalid_version");
      return;
    }
    const stampSecret = stringField(payload, "stamp_secret");
    if (role === "relay" && stampSecret === undefined) {
      this.#channels.refuse(session, role, ref, "join crashed");
      return;
    }
    session.joined = true;
    this.#channels.reply(session, role, ref, {});
    switch (role) {
      case "client":
        this.#channels.push(session, "init", {
          interface: this.#interfaceOf(session),
          resources: this.#grants.resourcesOf(session.owner).flatMap((resource) => renderForClient(resource, version)),
          relays: this.#relays.give(session),
        });
        return;
      case "gateway":
        this.#channels.push(session, "init", {
          interface: this.#interfaceOf(session),
          config: { ipv4_masquerade_enabled: true, ipv6_masquerade_enabled: true },
          relays: this.#relays.give(session),
        });
        // What was taken back while the gateway was away.
        this.#pushRejections(session.id);
        this.#signalling.joined(session);
        return;
      case "relay":
        this.#channels.push(session, "init", {});
        this.#relays.add(session, session.relayAddresses, session.location, stampSecret ?? "");
        this.#relaysRevision++;
    }
  }

  #leave(session: Session): void {
    session.joined = false;
    this.#signalling.left(session);
    this.#relays.forget(session);
    if (this.#relays.remove(session)) this.#relaysRevision++;
  }

  /** A message on a joined channel; whether there is such a message. */
  #handle(session: Session, event: string, payload: unknown, ref: unknown): boolean {
    if (event !== "metrics") return this.#signalling.handle(session, event, payload, ref, this.#grants);
    const { role } = session;
    if (role === "gateway") this.#channels.reply(session, role, ref, {});
    return role === "gateway";
  }

  #isTokenOf(
    role: Session["role"],
    holder: {
      readonly tokenDigest: Uint8Array;
      readonly expiresAt: UnixTime | undefined;
      readonly owner: string;
    },
    now: UnixTime,
  ): boolean {
    const owner = this.#tokens.find(role, holder.tokenDigest, now);
    return owner?.name === holder.owner && owner.expiresAt === holder.expiresAt;
  }

  /** Ends flows whose token or grant is gone, or whose resource leads elsewhere; how many gateways were told. */
  #revokeFlows(before: Grants, now: UnixTime): number {
    const routing = new Map(
      before.configuration.resources.map((resource) => [resourceId(resource), routingOf(resource)]),
    );
    this.#flows.revoke((flow) => {
      const holder = { tokenDigest: flow.tokenDigest, expiresAt: flow.expiresAt, owner: flow.actor };
      if (!this.#isTokenOf("client", holder, now)) return true;
      const resource = this.#grants.resource(flow.actor, flow.resourceId);
      return resource === undefined || routing.get(flow.resourceId) !== routingOf(resource);
    });
    const gateways = new Set(Array.from(this.#channels.joined("gateway"), ({ id }) => id));
    let count = 0;
    for (const id of gateways) count += this.#pushRejections(id);
    return count;
  }

  #pushRejections(gatewayId: string): number {
    const flows = this.#flows.takeRevoked(gatewayId);
    for (const { id, clientId, resourceId } of flows)
      this.#channels.pushToDevice("gateway", gatewayId, "reject_access", {
        flow_id: id,
        client_id: clientId,
        resource_id: resourceId,
      });
    return flows.length;
  }

  #pushUpdatesToGateways(before: Grants): void {
    const old = new Map(before.configuration.resources.map((resource) => [resourceId(resource), resource]));
    for (const session of this.#channels.joined("gateway")) {
      const served = this.#flows.servedBy(session.id);
      for (const resource of this.configuration.resources) {
        const previous = old.get(resourceId(resource));
        if (previous === undefined || !served.has(resourceId(resource))) continue;
        const [rendered] = renderForGateway(resource, session.version);
        const [renderedBefore] = renderForGateway(previous, session.version);
        if (rendered !== undefined && JSON.stringify(rendered) !== JSON.stringify(renderedBefore))
          this.#channels.push(session, "resource_updated", rendered);
      }
    }
  }

  #interfaceOf({ role, addresses }: Session): object {
    const { ipv4, ipv6 } = addresses ?? {};
    return role === "client" ? { ipv4, ipv6, upstream_dns: upstreamDns(this.configuration) } : { ipv4, ipv6 };
  }

  #close(session: Session): void {
    this.#channels.close(session);
    this.disconnected(session);
  }
}

function upstreamDns(configuration: Configuration): object[] {
  return configuration.upstream_dns.map((address) => ({ protocol: "ip_port", address: address.toString() }));
}
