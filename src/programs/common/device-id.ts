// Who a client or gateway is for the portal: an id that stays the same over restarts (spec 05, sections 6.3 and 9.1).

import { createHash } from "node:crypto";
import { chmodSync, mkdirSync, readFileSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { dirname } from "node:path";
import { randomUuid } from "../../base/random.js";
import { systemRandom } from "../../system/crypto.js";

/** Where clients keep their id. */
export const CLIENT_ID_PATH = "/var/lib/dev.firezone.client/config/firezone-id.json";
/** Where gateways keep their id. */
export const GATEWAY_ID_PATH = "/var/lib/firezone/gateway_id";
/** Of the clients' directory: other programs of its group write there too. */
const CLIENT_DIRECTORY_MODE = 0o770;
/** Of the files. */
const FILE_MODE = 0o640;
const UUID = /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/;
/** What later versions of the reference store: they would lose their id if it were replaced. */
const HASHED_ID = /^[0-9a-f]{64}$/;

/** The id cannot be kept. */
export class DeviceIdError extends Error {
  override readonly name = "DeviceIdError";
}

/** The client's id: the one given if not empty, else the one kept in the file, else a new one. @throws DeviceIdError */
export function clientDeviceId(given: string | undefined, path = CLIENT_ID_PATH): string {
  if (given !== undefined && given !== "") return given;
  return keeping(path, () => {
    mkdirSync(dirname(path), { recursive: true });
    chmodSync(dirname(path), CLIENT_DIRECTORY_MODE);
    const known = parseClientId(readIfReadable(path));
    if (known !== undefined) return known;
    const id = randomUuid(systemRandom);
    replaceFile(path, JSON.stringify({ id }));
    return id;
  });
}

/** The gateway's id, likewise; its file holds nothing but the id. @throws DeviceIdError */
export function gatewayDeviceId(given: string | undefined, path = GATEWAY_ID_PATH): string {
  if (given !== undefined && given !== "") return given;
  return keeping(path, () => {
    const known = readIfThere(path);
    if (known !== undefined && known !== "") return known;
    mkdirSync(dirname(path), { recursive: true });
    const id = randomUuid(systemRandom);
    replaceFile(path, id);
    return id;
  });
}

/** What the portal is told instead of the id: lower-case hexadecimal SHA-256 of its text (spec 05, section 1.5). */
export function externalId(id: string): string {
  return createHash("sha256").update(id).digest("hex");
}

/** An invalid file counts as none: it is replaced. */
function parseClientId(text: string | undefined): string | undefined {
  if (text === undefined) return undefined;
  try {
    const value: unknown = JSON.parse(text);
    const id = typeof value === "object" && value !== null && "id" in value ? value.id : undefined;
    const lower = typeof id === "string" ? id.toLowerCase() : "";
    return UUID.test(lower) || HASHED_ID.test(lower) ? lower : undefined;
  } catch (error) {
    if (error instanceof SyntaxError) return undefined;
    throw error;
  }
}

/** An unreadable file counts as none, too. */
function readIfReadable(path: string): string | undefined {
  try {
    return readFileSync(path, "utf8");
  } catch (error) {
    if (error instanceof Error && "code" in error) return undefined;
    throw error;
  }
}

function readIfThere(path: string): string | undefined {
  try {
    return readFileSync(path, "utf8");
  } catch (error) {
    if (error instanceof Error && "code" in error && error.code === "ENOENT") return undefined;
    throw error;
  }
}

/** All or nothing: a power failure leaves the old file or the new one. */
function replaceFile(path: string, text: string): void {
  // A name that cannot be foreseen, and a file that must not exist: others may write to the directory, and we are root.
  const draft = `${path}.${randomUuid(systemRandom)}`;
  writeFileSync(draft, text, { mode: FILE_MODE, flag: "wx", flush: true });
  try {
    renameSync(draft, path);
  } catch (error) {
    rmSync(draft, { force: true });
    throw error;
  }
}

function keeping<T>(path: string, action: () => T): T {
  try {
    return action();
  } catch (error) {
    if (!(error instanceof Error && "code" in error)) throw error;
    const hint = "set FIREZONE_ID, or make the directory writable";
    throw new DeviceIdError(`cannot keep this device's id in ${path}: ${error.message}; ${hint}`, { cause: error });
  }
}
