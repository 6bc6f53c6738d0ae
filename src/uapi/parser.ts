// Parser of WireGuard's configuration protocol (https://www.wireguard.com/xplatform/, "Configuration Protocol"), the requests' side:
//
//   get=1                     set=1
//   (empty line)              private_key=... listen_port=... fwmark=... replace_peers=true          about the device
//                             public_key=...  remove=true update_only=true preshared_key=...         about one peer,
//                             endpoint=... persistent_keepalive_interval=... replace_allowed_ips=true  repeated
//                             allowed_ip=...  protocol_version=1
//                             (empty line)                                                           each on its own line
//
// One pass over the lines, bounded in size. A request with a mistake is read to its end and has no effect at all.

import { IpAddress, IpPrefix, SocketAddress } from "../base/address.js";
import { fromHex } from "../base/bytes.js";
import type { AllowedIpChange, DeviceChange, PeerChange } from "../wireguard/configuration.js";
import { KEY_LENGTH } from "../wireguard/constants.js";
import { ERRNO, type ErrorNumber } from "./errno.js";

/** Longest line in characters; the longest meaningful one has less than a hundred. */
export const MAX_LINE_LENGTH = 1024;

/** Longest request in characters: as many allowed IPs as a device takes, with IPv6 addresses. */
export const MAX_REQUEST_LENGTH = 32 * 1024 * 1024;

/** A complete request. */
export type Request =
  | { readonly type: "get" }
  | { readonly type: "set"; readonly change: DeviceChange }
  /** To be answered with this error. `fatal`: what follows cannot be understood, the connection is to be closed. */
  | { readonly type: "invalid"; readonly errno: ErrorNumber; readonly fatal: boolean };

type Writable<T> = { -readonly [K in keyof T]: T[K] };

/** What a `set` has said so far. */
interface PartialSet {
  readonly type: "set";
  readonly device: Writable<Omit<DeviceChange, "peers">>;
  readonly peers: (Writable<Omit<PeerChange, "allowedIps">> & { readonly allowedIps: AllowedIpChange[] })[];
  error: ErrorNumber | undefined;
}

interface PartialGet {
  readonly type: "get";
  error: ErrorNumber | undefined;
}

/** Parses the requests of one connection. */
export class RequestParser {
  #rest = "";
  #request: PartialSet | PartialGet | undefined;
  #requestLength = 0;
  #isBroken = false;

  /** Takes the next piece of the stream; yields the requests that it completes. After a fatal one, nothing is yielded any more. */
  *push(text: string): Generator<Request> {
    let from = 0;
    this.#rest += text;
    for (
      let end = this.#rest.indexOf("\n", from);
      end !== -1 && !this.#isBroken;
      end = this.#rest.indexOf("\n", from)
    ) {
      const line = this.#rest.slice(from, end);
      from = end + 1;
      const request = this.#line(line);
      if (request !== undefined) yield request;
    }
    this.#rest = this.#isBroken ? "" : this.#rest.slice(from);
    if (this.#rest.length > MAX_LINE_LENGTH) yield this.#break();
  }

  #line(line: string): Request | undefined {
    this.#requestLength += line.length + 1;
    if (line.length > MAX_LINE_LENGTH || this.#requestLength > MAX_REQUEST_LENGTH) return this.#break();
    if (this.#request === undefined) return this.#operation(line);
    if (line === "") return this.#finish(this.#request);
    this.#request.error ??= this.#request.type === "get" ? ERRNO.EINVAL : applyLine(this.#request, line);
    return undefined;
  }

  #operation(line: string): Request | undefined {
    switch (line) {
      case "get=1":
        this.#request = { type: "get", error: undefined };
        return undefined;
      case "set=1":
        this.#request = { type: "set", device: {}, peers: [], error: undefined };
        return undefined;
      default:
        return this.#break();
    }
  }

  #finish(request: PartialSet | PartialGet): Request {
    this.#request = undefined;
    this.#requestLength = 0;
    if (request.error !== undefined) return { type: "invalid", errno: request.error, fatal: false };
    if (request.type === "get") return { type: "get" };
    return { type: "set", change: { ...request.device, peers: request.peers } };
  }

  #break(): Request {
    this.#isBroken = true;
    this.#request = undefined;
    return { type: "invalid", errno: ERRNO.EPROTO, fatal: true };
  }
}

/** Adds what a line says; an error number when it says nothing that makes sense here. */
function applyLine(request: PartialSet, line: string): ErrorNumber | undefined {
  const equals = line.indexOf("=");
  if (equals === -1) return ERRNO.EPROTO;
  const key = line.slice(0, equals);
  const value = line.slice(equals + 1);
  if (key === "public_key") {
    const publicKey = parseKey(value);
    if (publicKey === undefined) return ERRNO.EINVAL;
    request.peers.push({ publicKey, allowedIps: [] });
    return undefined;
  }
  const peer = request.peers.at(-1);
  const understood = peer === undefined ? applyToDevice(request.device, key, value) : applyToPeer(peer, key, value);
  return understood ? undefined : ERRNO.EINVAL;
}

function applyToDevice(device: PartialSet["device"], key: string, value: string): boolean {
  switch (key) {
    case "private_key":
      return assign(device, "privateKey", parseKey(value));
    case "listen_port":
      return assign(device, "listenPort", parseNumber(value, 0xffff));
    case "fwmark":
      return assign(device, "fwmark", parseNumber(value, 0xffff_ffff));
    case "replace_peers":
      return assign(device, "replacePeers", parseTrue(value));
    default:
      return false;
  }
}

function applyToPeer(peer: PartialSet["peers"][number], key: string, value: string): boolean {
  switch (key) {
    case "remove":
      return assign(peer, "remove", parseTrue(value));
    case "update_only":
      return assign(peer, "updateOnly", parseTrue(value));
    case "preshared_key":
      return assign(peer, "presharedKey", parseKey(value));
    case "endpoint":
      return assign(peer, "endpoint", SocketAddress.parse(value));
    case "persistent_keepalive_interval":
      return assign(peer, "persistentKeepaliveInterval", parseNumber(value, 0xffff));
    case "replace_allowed_ips":
      return assign(peer, "replaceAllowedIps", parseTrue(value));
    case "allowed_ip": {
      const remove = value.startsWith("-");
      const prefix = parsePrefix(remove ? value.slice(1) : value);
      if (prefix === undefined) return false;
      peer.allowedIps.push({ prefix, remove });
      return true;
    }
    case "protocol_version":
      return value === "1";
    default:
      return false;
  }
}

/** Sets `target[key]` unless the value did not parse; whether it did. */
function assign<T, K extends keyof T>(target: T, key: K, value: T[K] | undefined): boolean {
  if (value === undefined) return false;
  target[key] = value;
  return true;
}

function parseKey(text: string): Uint8Array | undefined {
  return text.length === 2 * KEY_LENGTH ? fromHex(text) : undefined;
}

function parseNumber(text: string, max: number): number | undefined {
  if (!/^\d{1,10}$/.test(text)) return undefined;
  const value = Number(text);
  return value <= max ? value : undefined;
}

/** The flags of the protocol are either absent or true. */
function parseTrue(text: string): true | undefined {
  return text === "true" ? true : undefined;
}

/** An address with a prefix length; host bits are cleared, as the kernel does. */
function parsePrefix(text: string): IpPrefix | undefined {
  const slash = text.indexOf("/");
  const address = IpAddress.parse(slash === -1 ? text : text.slice(0, slash));
  if (address === undefined) return undefined;
  const bits = address.bytes.length * 8;
  const length = slash === -1 ? bits : parseNumber(text.slice(slash + 1), bits);
  return length === undefined ? undefined : IpPrefix.of(address, length);
}
