// The token that a program signs in with (spec 05, section 6.2; for gateways also section 16). It is a secret: it leaves this file only
// by `reveal`, and what prints or serializes a token by accident prints "[secret]".

import { readFileSync, statSync } from "node:fs";
import { join } from "node:path";
import { inspect } from "node:util";

/** Variable that holds the token, and name of the systemd credential. */
export const TOKEN_VARIABLE = "FIREZONE_TOKEN";

/** Group and others must have no access, and nobody executes a token. */
const FORBIDDEN_MODE = 0o177;

/** There is no token, or it must not be used. */
export class TokenError extends Error {
  override readonly name = "TokenError";
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
 *
 * @throws TokenError naming what is missing or wrong.
 */
export function takeToken(environment: NodeJS.ProcessEnv, sources: TokenSources): Token {
  const fromEnvironment = environment[TOKEN_VARIABLE];
  delete environment[TOKEN_VARIABLE];
  const { argument, path, credential } = sources;
  const directory = credential === true ? environment["CREDENTIALS_DIRECTORY"] : undefined;
  const text =
    argument ??
    fromEnvironment ??
    (directory === undefined ? undefined : readIfThere(join(directory, TOKEN_VARIABLE))) ??
    (path === undefined ? undefined : readTokenFile(path));
  const token = text?.trim();
  if (token !== undefined && token !== "") return new Token(token);
  const places = [`the variable ${TOKEN_VARIABLE} is not set`];
  if (path !== undefined) places.push(`there is no token in ${path}`);
  throw new TokenError(`no token found: ${places.join(", and ")}`);
}

/** Reads a token file after checking who could have written or read it. `undefined`: it does not exist. */
function readTokenFile(path: string): string | undefined {
  const status = statSync(path, { throwIfNoEntry: false });
  if (status === undefined) return undefined;
  if (!status.isFile()) throw new TokenError(`${path} is not a file`);
  if (status.uid !== 0) throw new TokenError(`${path} must belong to the user root (chown root ${path})`);
  if (status.gid !== 0) throw new TokenError(`${path} must belong to the group root (chgrp root ${path})`);
  if ((status.mode & FORBIDDEN_MODE) !== 0)
    throw new TokenError(`${path} must be readable by root only: mode 0400 or 0600 (chmod 0400 ${path})`);
  return readIfThere(path);
}

function readIfThere(path: string): string | undefined {
  try {
    const bytes = readFileSync(path);
    return new TextDecoder("utf-8", { fatal: true }).decode(bytes);
  } catch (error) {
    if (error instanceof TypeError) throw new TokenError(`${path} is not UTF-8 text`);
    if (error instanceof Error && "code" in error) return undefined;
    throw error;
  }
}
