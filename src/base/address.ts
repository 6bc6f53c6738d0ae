// Internet addresses as values: an IP address, a socket address and a prefix. They hold bytes, compare by value and have a
// `key` for use in maps. Text in and out follows RFC 4291 and RFC 5952; parsing and printing of IP text is `ipaddr.js`.

import ipaddr from "ipaddr.js";
import { bytesEqual, toHex } from "./bytes.js";

/** 4 for IPv4, 6 for IPv6. */
export type AddressFamily = 4 | 6;

/** An IPv4 or IPv6 address. Immutable: nobody may write to `bytes`. */
export class IpAddress {
  /** 4 or 16 bytes in network order. */
  readonly bytes: Uint8Array;
  /** Equal for equal addresses, different for different ones; IPv4 and IPv4-mapped IPv6 differ. */
  readonly key: string;

  private constructor(bytes: Uint8Array) {
    this.bytes = bytes;
    this.key = toHex(bytes);
  }

  /** Copies 4 or 16 bytes; any other length is a caller's bug and throws. */
  static fromBytes(bytes: Uint8Array): IpAddress {
    if (bytes.length !== 4 && bytes.length !== 16)
      throw new RangeError(`an IP address has 4 or 16 bytes, not ${bytes.length}`);
    return new IpAddress(bytes.slice());
  }

  /** `0.0.0.0` or `::`. */
  static unspecified(family: AddressFamily): IpAddress {
    return new IpAddress(new Uint8Array(family === 4 ? 4 : 16));
  }

  /** Parses `192.0.2.1` or `2001:db8::1` (no brackets, no zone, four decimal parts); `undefined` for anything else. */
  static parse(text: string): IpAddress | undefined {
    if (text.includes(":")) {
      return ipaddr.IPv6.isValid(text) && !text.includes("%")
        ? new IpAddress(Uint8Array.from(ipaddr.IPv6.parse(text).toByteArray()))
        : undefined;
    }
    return ipaddr.IPv4.isValidFourPartDecimal(text)
      ? new IpAddress(Uint8Array.from(ipaddr.IPv4.parse(text).toByteArray()))
      : undefined;
  }

  /** Address family. */
  get family(): AddressFamily {
    return this.bytes.length === 4 ? 4 : 6;
  }

  /** `0.0.0.0` or `::`. */
  get isUnspecified(): boolean {
    return this.bytes.every((byte) => byte === 0);
  }

  /** `127.0.0.0/8` or `::1`. */
  get isLoopback(): boolean {
    if (this.family === 4) return this.bytes[0] === 127;
    return this.bytes.every((byte, index) => byte === (index === 15 ? 1 : 0));
  }

  /** `169.254.0.0/16` or `fe80::/10`. */
  get isLinkLocal(): boolean {
    const [first = 0, second = 0] = this.bytes;
    return this.family === 4 ? first === 169 && second === 254 : first === 0xfe && (second & 0xc0) === 0x80;
  }

  /** `224.0.0.0/4` or `ff00::/8`. */
  get isMulticast(): boolean {
    const [first = 0] = this.bytes;
    return this.family === 4 ? (first & 0xf0) === 0xe0 : first === 0xff;
  }

  /** `255.255.255.255`. */
  get isBroadcast(): boolean {
    return this.family === 4 && this.bytes.every((byte) => byte === 255);
  }

  /** Equality by value. */
  equals(other: IpAddress): boolean {
    return bytesEqual(this.bytes, other.bytes);
  }

  /** Dotted decimal, or RFC 5952 form without brackets. */
  toString(): string {
    if (this.family === 4) return this.bytes.join(".");
    return new ipaddr.IPv6(Array.from(this.bytes)).toRFC5952String();
  }
}

/** An IP address and a UDP or TCP port. Immutable. */
export class SocketAddress {
  readonly ip: IpAddress;
  /** 0 to 65535. */
  readonly port: number;
  /** Equal for equal socket addresses, different for different ones. */
  readonly key: string;

  constructor(ip: IpAddress, port: number) {
    if (!Number.isInteger(port) || port < 0 || port > 65535) throw new RangeError(`${port} is not a port`);
    this.ip = ip;
    this.port = port;
    this.key = `${ip.key}:${port}`;
  }

  /** Parses `192.0.2.1:80` or `[2001:db8::1]:80`; `undefined` for anything else. */
  static parse(text: string): SocketAddress | undefined {
    const match = /^(?:\[([^\]]+)\]|([^:]+)):(\d{1,5})$/.exec(text);
    if (match === null) return undefined;
    const ip = IpAddress.parse(match[1] ?? match[2] ?? "");
    const port = Number(match[3]);
    if (ip === undefined || port > 65535 || (ip.family === 6) !== (match[1] !== undefined)) return undefined;
    return new SocketAddress(ip, port);
  }

  /** Address family of the IP address. */
  get family(): AddressFamily {
    return this.ip.family;
  }

  /** Equality by value. */
  equals(other: SocketAddress): boolean {
    return this.port === other.port && this.ip.equals(other.ip);
  }

  /** `192.0.2.1:80` or `[2001:db8::1]:80`. */
  toString(): string {
    return this.family === 4 ? `${this.ip}:${this.port}` : `[${this.ip}]:${this.port}`;
  }
}

/** An address prefix (network) in canonical form: all host bits are zero. Immutable. */
export class IpPrefix {
  readonly address: IpAddress;
  /** Number of significant leading bits, 0 to 32 or 128. */
  readonly length: number;
  /** Equal for equal prefixes, different for different ones. */
  readonly key: string;

  private constructor(address: IpAddress, length: number) {
    this.address = address;
    this.length = length;
    this.key = `${address.key}/${length}`;
  }

  /** The network of `length` bits that contains `address`; host bits of `address` are cleared. */
  static of(address: IpAddress, length: number): IpPrefix {
    const bits = address.bytes.length * 8;
    if (!Number.isInteger(length) || length < 0 || length > bits)
      throw new RangeError(`${length} is not a prefix length`);
    const bytes = address.bytes.slice();
    for (let i = 0; i < bytes.length; i++) {
      const keep = Math.min(8, Math.max(0, length - 8 * i));
      bytes[i] = (bytes[i] ?? 0) & (0xff00 >> keep) & 0xff;
    }
    return new IpPrefix(IpAddress.fromBytes(bytes), length);
  }

  /** The prefix that contains just `address`: `/32` or `/128`. */
  static host(address: IpAddress): IpPrefix {
    return new IpPrefix(address, address.bytes.length * 8);
  }

  /** Parses `10.0.0.0/8`. A bare address is a host prefix; host bits that are set, or other text, give `undefined`. */
  static parse(text: string): IpPrefix | undefined {
    const [addressText = "", lengthText, ...rest] = text.split("/");
    const address = IpAddress.parse(addressText);
    if (address === undefined || rest.length > 0) return undefined;
    if (lengthText === undefined) return IpPrefix.host(address);
    const length = Number(lengthText);
    if (!/^\d{1,3}$/.test(lengthText) || length > address.bytes.length * 8) return undefined;
    const prefix = IpPrefix.of(address, length);
    return prefix.address.equals(address) ? prefix : undefined;
  }

  /** Address family. */
  get family(): AddressFamily {
    return this.address.family;
  }

  /** Whether `address` lies in this prefix; false for the other family. */
  contains(address: IpAddress): boolean {
    return address.family === this.family && IpPrefix.of(address, this.length).address.equals(this.address);
  }

  /** Whether `other` is this prefix or lies inside it. */
  containsPrefix(other: IpPrefix): boolean {
    return other.length >= this.length && this.contains(other.address);
  }

  /** Equality by value. */
  equals(other: IpPrefix): boolean {
    return this.length === other.length && this.address.equals(other.address);
  }

  /** `10.0.0.0/8` or `2001:db8::/32`. */
  toString(): string {
    return `${this.address}/${this.length}`;
  }
}
