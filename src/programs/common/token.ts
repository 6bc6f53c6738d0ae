// The token that a program signs in with (spec 05, section 6.2; for gateways also section 16). It is a secret: it leaves this file only
// by `reveal`, and what prints or serializes a token by accident prints "[secret]".

import { isUtf8 } from "node:buffer";
import { closeSync, constants, fstatSync, openSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { inspect } from "node:util";

/** Variable that holds the token, and name of the systemd credential. */
export const TOKEN_VARIABLE = "FIREZONE_TOKEN";

/** Group and others must have no access, and nobody executes a token. */
const FORBIDDEN_MODE = 0o177;

/** Why there is no usable token. */
export type TokenProblem = "absent" | "unreadable" | "not-a-file" | "user" | "group" | "mode" | "encoding";

/** There is no token, or it must not be used. */
export class TokenError extends Error {
  override readonly name = "TokenError";
  readonly problem: TokenProblem;

  constructor(problem: TokenProblem, message: string, options?: ErrorOptions) {
    super(message, options);
    this.problem = problem;
  }
}

/** A token. */
export class Token {
  readonly #text: string;

  constructor(text: string) {
    this.#text = text;
  }

  /** The token itself. */
  reveal(): string {
    return this.#text;
  }

  toString(): string {
    return "[secret]";
  }

  toJSON(): string {
    return "[secret]";
  }

  [inspect.custom](): string {
    return "[secret]";
  }
}

/** Where else a token may come from than the environment. */
export interface TokenSources {
  /** Given on the command line. */
  readonly argument?: string | undefined;
  /** A file that only root can read. */
  readonly path?: string | undefined;
  /** Whether to look for a systemd credential. */
  readonly credential?: boolean;
}

/**
 * Takes the token, and takes it out of the environment so that no child process sees it. In this order: argument, variable, credential, file.
 * What is empty counts as absent. Whitespace around the token is not part of it.
 *
 * @throws TokenError naming what is missing or wrong.
 */
export function takeToken(environment: NodeJS.ProcessEnv, sources: TokenSources): Token {
  const fromEnvironment = environment[TOKEN_VARIABLE];
  delete environment[TOKEN_VARIABLE];
  const { argument, path, credential } = sources;
  const directory = credential === true ? environment["CREDENTIALS_DIRECTORY"] : undefined;
  const text =
    content(argument) ??
    content(fromEnvironment) ??
    // The service manager vouches for its credentials: their owner is the service's user.
    (directory === undefined ? undefined : content(readFile(join(directory, TOKEN_VARIABLE), () => undefined))) ??
    (path === undefined ? undefined : content(readFile(path, checkAccess)));
  if (text !== undefined) return new Token(text);
  const places = [`the variable ${TOKEN_VARIABLE} is not set`];
  if (path !== undefined) places.push(`there is no token in ${path}`);
  throw new TokenError("absent", `no token found: ${places.join(", and ")}`);
}

function content(text: string | undefined): string | undefined {
  const trimmed = text?.trim();
  return trimmed === "" ? undefined : trimmed;
}

/** Reads a file after a check of who could have written or read it. `undefined`: it does not exist. */
function readFile(path: string, check: (path: string, descriptor: number) => void): string | undefined {
  const descriptor = open(path);
  if (descriptor === undefined) return undefined;
  try {
    // What is checked is what is read: the path might lead elsewhere by then.
    if (!fstatSync(descriptor).isFile()) throw new TokenError("not-a-file", `${path} is not a file`);
    check(path, descriptor);
    return decode(path, readFileSync(descriptor));
  } finally {
    closeSync(descriptor);
  }
}

function checkAccess(path: string, descriptor: number): void {
  const { uid, gid, mode } = fstatSync(descriptor);
  if (uid !== 0) throw new TokenError("user", `${path} must belong to the user root (chown root ${path})`);
  if (gid !== 0) throw new TokenError("group", `${path} must belong to the group root (chgrp root ${path})`);
  if ((mode & FORBIDDEN_MODE) !== 0)
    throw new TokenError("mode", `${path} must be readable by root only: mode 0400 or 0600 (chmod 0400 ${path})`);
}

function open(path: string): number | undefined {
  try {
    // A pipe without a writer would keep us waiting.
    return openSync(path, constants.O_RDONLY | constants.O_NONBLOCK);
  } catch (error) {
    if (!(error instanceof Error && "code" in error)) throw error;
    if (error.code === "ENOENT") return undefined;
    throw new TokenError("unreadable", `cannot read the token: ${error.message}`, { cause: error });
  }
}

function decode(path: string, bytes: Buffer): string {
  if (!isUtf8(bytes)) throw new TokenError("encoding", `${path} is not UTF-8 text`);
  return bytes.toString("utf8");
}
