// The answers of WireGuard's configuration protocol (https://www.wireguard.com/xplatform/, "Configuration Protocol").

import { toHex } from "../base/bytes.js";
import { SECOND } from "../base/time.js";
import type { DeviceConfiguration, PeerConfiguration } from "../wireguard/configuration.js";
import { ERRNO, type ErrorNumber } from "./errno.js";

const NANOSECONDS_PER_MILLISECOND = 1_000_000;

/** The answer to `get=1`. */
export function encodeConfiguration(configuration: DeviceConfiguration): string {
  const { privateKey, listenPort, fwmark, peers } = configuration;
  const lines: string[] = [];
  if (privateKey !== undefined) lines.push(`private_key=${toHex(privateKey)}`);
  if (listenPort !== 0) lines.push(`listen_port=${listenPort}`);
  if (fwmark !== 0) lines.push(`fwmark=${fwmark}`);
  for (const peer of peers) addPeer(lines, peer);
  lines.push(encodeResult(ERRNO.ok));
  return lines.join("\n");
}

/** The answer to `set=1`, or to a request that failed. wg(8) wants error numbers negative, as the kernel has them. */
export function encodeResult(errno: ErrorNumber): string {
  return `errno=${errno === 0 ? 0 : -errno}\n\n`;
}

function addPeer(lines: string[], peer: PeerConfiguration): void {
  const handshakeAt = peer.lastHandshakeAt ?? 0;
  const seconds = Math.floor(handshakeAt / SECOND);
  lines.push(`public_key=${toHex(peer.publicKey)}`, `preshared_key=${toHex(peer.presharedKey)}`, "protocol_version=1");
  if (peer.endpoint !== undefined) lines.push(`endpoint=${peer.endpoint}`);
  lines.push(
    `last_handshake_time_sec=${seconds}`,
    `last_handshake_time_nsec=${Math.floor((handshakeAt - seconds * SECOND) * NANOSECONDS_PER_MILLISECOND)}`,
    `tx_bytes=${peer.txBytes}`,
    `rx_bytes=${peer.rxBytes}`,
    `persistent_keepalive_interval=${peer.persistentKeepaliveInterval}`,
  );
  for (const prefix of peer.allowedIps) lines.push(`allowed_ip=${prefix}`);
}
