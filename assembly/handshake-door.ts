// The door for handshake messages: what they must prove before the control plane sees them. A flood of initiations costs the one who
// sends it nothing; so what does not carry our public key's mac1 (whitepaper, section 5.4.4; spec 02, section 11.4) is dropped here, for
// the price of two BLAKE2s blocks, and what does is passed on at a rate that the control plane can bear. There it meets the cookies.

import { Drop } from "./abi";
import { BLOCK_SIZE, compress, keyState } from "./blake2s";
import { DOOR_CHECKS, DOOR_STATE } from "./records";
import { drop } from "./region";
import { DOOR, HANDSHAKE_BUDGET, HANDSHAKE_BUDGET_AT, NOW, SCRATCH } from "./regions";

/** Types of messages (the first byte), and how many of their bytes mac1 covers; it follows them. */
const INITIATION: u32 = 1;
const INITIATION_COVERED: u32 = 116;
const RESPONSE: u32 = 2;
const RESPONSE_COVERED: u32 = 60;

/**
 * Handshake messages that a thread passes on per second, and at once: far more than a site with ten thousand peers needs, which renew their
 * sessions every two minutes, and little work for the control plane, most of it cookie replies.
 */
const BUDGET_PER_SECOND: f64 = 2000;
export const HANDSHAKE_BURST: f64 = 1000;

/** Writes the key that mac1 is checked with from now on: `key` points to 32 bytes and 32 zeros; 0 ends the checks. */
export function setMac1Key(door: u32, key: u32): void {
  atomic.store<u32>(door, 0, DOOR_CHECKS);
  if (key == 0) return;
  // A message that a worker checks in this moment may be refused wrongly; its sender will repeat it.
  keyState(door + DOOR_STATE, key);
  atomic.store<u32>(door, 1, DOOR_CHECKS);
}

/** Whether a handshake message of a known length may go to the control plane; otherwise it has been counted as dropped. */
export function mayEnter(region: u32, message: u32): bool {
  const door = load<u32>(region, DOOR);
  const type = load<u32>(message);
  if (type <= RESPONSE && atomic.load<u32>(door, DOOR_CHECKS)) {
    const covered = type == INITIATION ? INITIATION_COVERED : RESPONSE_COVERED;
    if (!checkMac(door + DOOR_STATE, message, covered, region + SCRATCH)) {
      drop(region, Drop.HandshakeMac, 1);
      return false;
    }
  }
  const now = load<f64>(region, NOW);
  const elapsed = max<f64>(0, now - load<f64>(region, HANDSHAKE_BUDGET_AT));
  const budget = min<f64>(HANDSHAKE_BURST, load<f64>(region, HANDSHAKE_BUDGET) + (elapsed * BUDGET_PER_SECOND) / 1000);
  store<f64>(region, now, HANDSHAKE_BUDGET_AT);
  if (budget < 1) {
    store<f64>(region, budget, HANDSHAKE_BUDGET);
    drop(region, Drop.HandshakeFlood, 1);
    return false;
  }
  store<f64>(region, budget - 1, HANDSHAKE_BUDGET);
  return true;
}

/** Whether the 16 bytes behind the first `length` (at most two blocks) of `message` are their keyed hash. In constant time. */
function checkMac(key: u32, message: u32, length: u32, scratch: u32): bool {
  const state = scratch;
  const last = scratch + 32;
  v128.store(state, v128.load(key));
  v128.store(state, v128.load(key, 16), 16);
  let at: u32 = 0;
  while (length - at > BLOCK_SIZE) {
    compress(state, message + at, BLOCK_SIZE + at + BLOCK_SIZE, 0);
    at += BLOCK_SIZE;
  }
  memory.fill(last, 0, BLOCK_SIZE);
  memory.copy(last, message + at, length - at);
  compress(state, last, BLOCK_SIZE + length, -1);
  return !v128.any_true(v128.xor(v128.load(state), v128.load(message + length)));
}
