// The replay window of a session (RFC 6479; spec 02, section 11.9): bits, one per counter, in a ring of words that is larger than
// the window, so that moving on clears whole words. The newest word is not in the ring but in the session's record, where packets
// that come in order find all they need in one line; it goes to its place in the ring when the next one begins.
//
//    counters   … | too old | window: REPLAY_WINDOW counters             | next …
//                           └ accepted while their bit is 0              └ always accepted
//    words      … |  ring   |  ring  |  ring  | … |  ring  |  newest word  |
//
// `next` is the highest counter received plus one. Counters are below REJECT_AFTER_MESSAGES, so no sum here overflows.

import {
  REPLAY_RING_BITS,
  REPLAY_WINDOW,
  SESSION_LOCKED,
  SESSION_NEWEST,
  SESSION_NEXT,
  SESSION_RING,
  SESSION_STATE,
} from "../records";

const RING_WORDS: u64 = REPLAY_RING_BITS / 64;

/**
 * Whether a message with this counter may still be accepted: to be asked before it is decrypted, without the lock. Only `mark`,
 * after the tag verified, decides.
 */
export function mayAccept(session: u32, counter: u64): bool {
  const next = atomic.load<u64>(session, SESSION_NEXT);
  if (counter >= next) return true;
  if (counter + REPLAY_WINDOW < next) return false;
  if (counter >> 6 != (next - 1) >> 6) return !isSet(load<u64>(ringWord(session, counter >> 6)), counter);
  const newest = atomic.load<u64>(session, SESSION_NEWEST);
  // Another worker may have begun another word. It writes under the lock, and `next` last.
  const moving = atomic.load<u32>(session, SESSION_STATE) & SESSION_LOCKED;
  if (moving || atomic.load<u64>(session, SESSION_NEXT) != next) return true;
  return !isSet(newest, counter);
}

/** Marks the counter of an authenticated message as seen; false when it was seen before or is too old. Under the lock. */
export function mark(session: u32, counter: u64): bool {
  const next = load<u64>(session, SESSION_NEXT);
  const index = counter >> 6;
  const bit = (<u64>1) << (counter & 63);
  if (counter >= next) {
    let newest: u64 = 0;
    if (next != 0 && (next - 1) >> 6 == index) newest = load<u64>(session, SESSION_NEWEST);
    else beginWord(session, next, index);
    atomic.store<u64>(session, newest | bit, SESSION_NEWEST);
    atomic.store<u64>(session, counter + 1, SESSION_NEXT);
    return true;
  }
  if (counter + REPLAY_WINDOW < next) return false;
  const address = (next - 1) >> 6 == index ? session + SESSION_NEWEST : ringWord(session, index);
  const bits = load<u64>(address);
  store<u64>(address, bits | bit);
  return (bits & bit) == 0;
}

/** Takes the session's lock. It is held for some hundred nanoseconds at most, so waiting is spinning. */
export function lock(session: u32): void {
  while (true) {
    const state = atomic.load<u32>(session, SESSION_STATE) & ~SESSION_LOCKED;
    if (atomic.cmpxchg<u32>(session, state, state | SESSION_LOCKED, SESSION_STATE) == state) return;
  }
}

/** Releases it. */
export function unlock(session: u32): void {
  atomic.sub<u32>(session, SESSION_LOCKED, SESSION_STATE);
}

/**
 * Puts the newest word into the ring and clears the words between it and the one that begins, which hold bits of a time long gone.
 * A new session's ring may hold anything: no word is read that was not written here.
 */
function beginWord(session: u32, next: u64, index: u64): void {
  let cleared: u64 = 0;
  if (next != 0) {
    const newest = (next - 1) >> 6;
    store<u64>(ringWord(session, newest), load<u64>(session, SESSION_NEWEST));
    cleared = newest + 1;
  }
  if (index >= RING_WORDS && cleared < index - RING_WORDS) cleared = index - RING_WORDS;
  for (; cleared < index; cleared++) store<u64>(ringWord(session, cleared), 0);
}

function isSet(word: u64, counter: u64): bool {
  return ((word >> (counter & 63)) & 1) != 0;
}

/** Where the ring has a word. */
function ringWord(session: u32, index: u64): u32 {
  return load<u32>(session, SESSION_RING) + ((<u32>index & (<u32>RING_WORDS - 1)) << 3);
}
