// What a client or gateway signs in to the portal with (spec 05, sections 1.4 and 1.5): its token, who it is, and a key of its own for as
// long as it runs.

import { loginUrl } from "../../portal/login-url.js";
import { nodeCrypto, systemRandom } from "../../system/crypto.js";
import { type HostInfo, userAgent } from "../../system/linux/host-info.js";
import { LocalIdentity } from "../../wireguard/identity.js";
import { externalId } from "./device-id.js";
import { displayName } from "./names.js";
import type { Token } from "./token.js";
import type { TunnelOptions } from "./tunnel-runner.js";
import { CONNLIB_VERSION } from "./version.js";

/** Who signs in. */
export interface SignInOptions {
  readonly role: "client" | "gateway";
  readonly host: HostInfo;
  readonly apiUrl: string;
  readonly token: Token;
  /** As it is kept on this device. */
  readonly deviceId: string;
  /** Absent: the host's. */
  readonly name: string | undefined;
}

/** The part of a tunnel's options that says who signs in. @throws with words for the user. */
export function createSignIn(options: SignInOptions): Pick<TunnelOptions, "loginUrl" | "userAgent" | "identity"> {
  const { role, host, apiUrl, token, deviceId, name } = options;
  const identity = LocalIdentity.generate(systemRandom, nodeCrypto);
  return {
    loginUrl: loginUrl(apiUrl, {
      role,
      token: token.reveal(),
      publicKey: identity.publicKey,
      externalId: externalId(deviceId),
      name: displayName(name),
    }),
    userAgent: userAgent(host, "connlib", CONNLIB_VERSION),
    identity,
  };
}
