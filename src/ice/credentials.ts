// ICE credentials (RFC 8445, section 5.3; spec 02, section 3.1).

import { type Random, randomString } from "../base/random.js";

/** User fragment and password of one side of a connection. */
export interface IceCredentials {
  /** User fragment: names the agent in connectivity checks. */
  readonly username: string;
  /** Key of the integrity of checks that are sent to this side. Secret. */
  readonly password: string;
}

/** Symbols of own credentials: letters and digits without `w` and `W` (spec 02, section 3.1). */
const ALPHABET = "abcdefghijklmnopqrstuvxyzABCDEFGHIJKLMNOPQRSTUVXYZ0123456789";

/** Length of own user fragments: 23 bits, hence unique among the connections of a node only by checking. */
const USERNAME_LENGTH = 4;

/** Length of own passwords: 129 bits. */
const PASSWORD_LENGTH = 22;

/** Longest user fragment taken: two of them and a colon must fit into 128 bytes (spec 02, section 10.2). */
const MAX_USERNAME_LENGTH = 63;

/** Longest password taken (RFC 8839, section 5.4). */
const MAX_PASSWORD_LENGTH = 256;

/** Fresh credentials. */
export function generateCredentials(random: Random): IceCredentials {
  return {
    username: randomString(random, ALPHABET, USERNAME_LENGTH),
    password: randomString(random, ALPHABET, PASSWORD_LENGTH),
  };
}

/** Whether checks can be made with these credentials of the other side. Any printable ASCII but a colon in the user fragment will do. */
export function areUsable(credentials: IceCredentials): boolean {
  const { username, password } = credentials;
  return (
    username.length <= MAX_USERNAME_LENGTH &&
    password.length <= MAX_PASSWORD_LENGTH &&
    /^[!-9;-~]+$/.test(username) &&
    /^[!-~]+$/.test(password)
  );
}
