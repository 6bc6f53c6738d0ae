// What this host is, for the portal's administrator to see: host name, operating system, kernel. The user agent is made of it
// (spec 01, section 3.3; spec 05, section 1.4).

import { readFileSync } from "node:fs";
import { arch, hostname, release } from "node:os";

/** What is known of a host. */
export interface HostInfo {
  /** Host name; the default name of a client or gateway. */
  readonly hostname: string;
  /** Distribution, as `Ubuntu`; `Linux` when unknown. */
  readonly system: string;
  /** Version of the distribution in three parts, as `22.4.0`; absent: it has none or it is unknown. */
  readonly systemVersion?: string;
  /** Processor as `uname -m` names it, as `x86_64`. */
  readonly architecture: string;
  /** Kernel release, as `6.5.0-1025-azure`. */
  readonly kernel: string;
}

/** `uname -m` of `os.arch()`, where the two differ. */
const ARCHITECTURES: Readonly<Record<string, string>> = { x64: "x86_64", arm64: "aarch64", loong64: "loongarch64" };

/** Where distributions describe themselves, by precedence: os-release(5). */
const OS_RELEASE_FILES = ["/etc/os-release", "/usr/lib/os-release"];

/** Looks at this host. */
export function hostInfo(osReleaseFiles: readonly string[] = OS_RELEASE_FILES): HostInfo {
  return {
    hostname: hostname(),
    ...parseOsRelease(firstReadable(osReleaseFiles)),
    architecture: ARCHITECTURES[arch()] ?? arch(),
    kernel: release(),
  };
}

/** Name and version of the distribution that the text of an os-release(5) file describes. */
export function parseOsRelease(text: string): Pick<HostInfo, "system" | "systemVersion"> {
  const values = new Map<string, string>();
  for (const line of text.split("\n")) {
    const [, name = "", quoted = ""] = /^([A-Z0-9_]+)=(.*)$/.exec(line.trim()) ?? [];
    const value = /^(["'])(.*)\1$/.exec(quoted)?.[2] ?? quoted;
    values.set(name, value.replace(/\\(.)/g, "$1"));
  }
  // "Debian GNU/Linux": the slash would look like that of a version.
  const system = (values.get("NAME") ?? "Linux").replace(/ GNU\/Linux$/, "").replaceAll("/", " ");
  const systemVersion = threeParts(values.get("VERSION_ID") ?? "");
  return systemVersion === undefined ? { system } : { system, systemVersion };
}

/**
 * The user agent for the portal: `Ubuntu/22.4.0 connlib/1.2.1 (x86_64; 6.5.0-1025-azure)`.
 *
 * @param component `connlib` is what the portal looks for; @param version its version as `major.minor.patch`.
 */
export function userAgent(info: Omit<HostInfo, "hostname">, component: string, version: string): string {
  const system = `${info.system}/${info.systemVersion ?? "unknown"}`;
  const agent = `${system} ${component}/${version} (${info.architecture}; ${info.kernel})`;
  // Header values are ASCII.
  return agent.replace(/[^\x20-\x7e]/g, "");
}

/** `22.04` as `22.4.0`: the reference reads the parts as numbers. */
function threeParts(version: string): string | undefined {
  if (!/^\d+(\.\d+){0,2}$/.test(version)) return undefined;
  const [major = 0, minor = 0, patch = 0] = version.split(".").map(Number);
  return `${major}.${minor}.${patch}`;
}

function firstReadable(paths: readonly string[]): string {
  for (const path of paths) {
    try {
      return readFileSync(path, "utf8");
    } catch (error) {
      // The next one, or nothing: a host need not say what it is.
      if (!(error instanceof Error && "code" in error)) throw error;
    }
  }
  return "";
}
