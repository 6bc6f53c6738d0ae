// Versions of programs, which gate what the portal tells them (spec 01, sections 3.3, 11.2, 11.5 and 11.6).

/** A semantic version (semver.org, 2.0.0) without build metadata. */
export interface Version {
  readonly major: number;
  readonly minor: number;
  readonly patch: number;
  /** What follows the hyphen; empty for releases. */
  readonly prerelease: string;
}

/** Since this version programs understand `**` and wildcards anywhere in a name. */
const CURRENT_WILDCARDS = version(1, 2);
/** Clients since this version need gateways since this version, which know how to be asked for access. */
const NEW_HANDSHAKE = version(1, 1);

/** What a program is taken for that does not come through HTTP. */
export const CURRENT_VERSION = version(1, 3);

function version(major: number, minor: number): Version {
  return { major, minor, patch: 0, prerelease: "" };
}

/** The version in a user agent, as written: the rest of the first word that starts with `relay/` or `connlib/`. `undefined`: there is none. */
export function userAgentVersion(userAgent: string): string | undefined {
  for (const word of userAgent.split(" ")) {
    const match = /^(?:relay|connlib)\/(.+)$/.exec(word);
    if (match !== null) return match[1];
  }
  return undefined;
}

/** Parses `major.minor.patch[-pre][+build]`. */
export function parseVersion(text: string): Version | undefined {
  const match = /^(\d{1,9})\.(\d{1,9})\.(\d{1,9})(?:-([0-9A-Za-z.-]+))?(?:\+[0-9A-Za-z.-]+)?$/.exec(text);
  if (match === null) return undefined;
  return {
    major: Number(match[1]),
    minor: Number(match[2]),
    patch: Number(match[3]),
    prerelease: match[4] ?? "",
  };
}

/** Negative, zero or positive, as for sorting. Pre-releases come before their release; among themselves they are ordered as text. */
export function compareVersions(a: Version, b: Version): number {
  const difference = a.major - b.major || a.minor - b.minor || a.patch - b.patch;
  if (difference !== 0 || a.prerelease === b.prerelease) return difference;
  if (a.prerelease === "") return 1;
  if (b.prerelease === "") return -1;
  return a.prerelease < b.prerelease ? -1 : 1;
}

/** Whether a client and a gateway speak with each other. A version that is none counts as the oldest. */
export function isCompatible(client: Version | undefined, gateway: Version | undefined): boolean {
  if (client === undefined || compareVersions(client, NEW_HANDSHAKE) < 0) return true;
  return gateway !== undefined && compareVersions(gateway, NEW_HANDSHAKE) >= 0;
}

/**
 * A DNS resource's name as a program of this version understands it.
 *
 * @returns `undefined` when the program cannot express it: the resource is not for it.
 */
export function addressForVersion(address: string, version: Version | undefined): string | undefined {
  if (version !== undefined && compareVersions(version, CURRENT_WILDCARDS) >= 0) return address;
  const leading = /^\*{0,2}/.exec(address)?.[0] ?? "";
  const rest = address.slice(leading.length);
  if (/[*?]/.test(rest)) return undefined;
  return (leading === "**" ? "*" : leading === "*" ? "?" : "") + rest;
}
