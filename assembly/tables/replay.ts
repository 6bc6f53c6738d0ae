// The replay window of a session (RFC 6479; spec 02, section 11.9): a ring of bits, one per counter, larger than the window, so
// that moving on clears whole words.
//
//    counters   … | too old | window: REPLAY_WINDOW counters | next …
//                           └ accepted while their bit is 0  └ always accepted
//
// `next` is the highest counter received plus one. Counters are below REJECT_AFTER_MESSAGES, so no sum here overflows.

import { REPLAY_RING_BITS, REPLAY_WINDOW, SESSION_LOCK, SESSION_NEXT, SESSION_RING } from "../records";

const RING_WORDS: u64 = REPLAY_RING_BITS / 64;

/**
 * Whether a message with this counter may still be accepted: to be asked before it is decrypted, without the lock. Only `mark`,
 * after the tag verified, decides.
 */
export function mayAccept(session: u32, counter: u64): bool {
  const next = atomic.load<u64>(session, SESSION_NEXT);
  if (counter >= next) return true;
  if (counter + REPLAY_WINDOW < next) return false;
  return ((load<u64>(word(session, counter)) >> (counter & 63)) & 1) == 0;
}

/** Marks the counter of an authenticated message as seen; false when it was seen before or is too old. Under the lock. */
export function mark(session: u32, counter: u64): bool {
  const next = load<u64>(session, SESSION_NEXT);
  if (counter >= next) {
    // The words after that of the highest counter so far, up to that of this one, hold bits of a time long gone.
    const first = (next + 63) >> 6;
    const last = counter >> 6;
    if (last >= first + (RING_WORDS - 1)) {
      memory.fill(session + SESSION_RING, 0, REPLAY_RING_BITS / 8);
    } else {
      for (let i = first; i <= last; i++) store<u64>(word(session, i << 6), 0);
    }
    atomic.store<u64>(session, counter + 1, SESSION_NEXT);
  } else if (counter + REPLAY_WINDOW < next) {
    return false;
  }
  const address = word(session, counter);
  const bits = load<u64>(address);
  const bit = (<u64>1) << (counter & 63);
  store<u64>(address, bits | bit);
  return (bits & bit) == 0;
}

/** Takes the session's lock. It is held for some hundred nanoseconds at most, so waiting is spinning. */
export function lock(session: u32): void {
  while (atomic.cmpxchg<u32>(session, 0, 1, SESSION_LOCK) != 0) {}
}

/** Releases it. */
export function unlock(session: u32): void {
  atomic.store<u32>(session, 0, SESSION_LOCK);
}

/** The word that holds a counter's bit. */
function word(session: u32, counter: u64): u32 {
  return session + SESSION_RING + ((<u32>(counter >> 6) & (<u32>RING_WORDS - 1)) << 3);
}
