// The door for handshake messages: what they must prove before the control plane sees them. A flood of initiations costs the one who
// sends it nothing; so what does not carry our public key's mac1 (whitepaper, section 5.4.4; spec 02, section 11.4) is dropped here, for
// the price of two BLAKE2s blocks, and what does is passed on at a rate that the control plane can bear. There it meets the cookies.

import { Drop } from "./abi";
import { BLOCK_SIZE, compress, keyState } from "./blake2s";
import { fillBudget, spend } from "./budget";
import { DOOR_CHECKS, DOOR_SEED, DOOR_STATE } from "./records";
import { drop } from "./region";
import {
  AUX_NAME,
  DOOR,
  HANDSHAKE_BUDGET,
  HANDSHAKE_BUDGET_SIZE,
  HANDSHAKE_SOURCE_BUDGETS,
  HANDSHAKE_SOURCES,
  NOW,
  RECEIVE_FAMILY,
  SCRATCH,
} from "./regions";

/** Types of messages (the first byte), and how many of their bytes mac1 covers; it follows them. */
const INITIATION: u32 = 1;
const INITIATION_COVERED: u32 = 116;
const RESPONSE: u32 = 2;
const RESPONSE_COVERED: u32 = 60;

/**
 * Handshake messages that a thread passes on per second, and at once: far more than a site with ten thousand peers needs, which renew their
 * sessions every two minutes, and little work for the control plane, which has its own limits. At once: all clients of a company, after a cut.
 */
const RATE: f64 = 1000;
const BURST: f64 = 2000;
/**
 * The same from one source, so that a flood from one does not keep out the others. An office behind a NAT is one source, and so are all clients of a
 * relay. Sources share budgets by chance.
 */
const SOURCE_RATE: f64 = 100;
const SOURCE_BURST: f64 = 1000;

const BUDGET_SIZE: u32 = HANDSHAKE_BUDGET_SIZE;
const SOURCES: u32 = HANDSHAKE_SOURCES;

/** Fills the budgets of a region. */
export function initializeDoor(region: u32): void {
  fillBudget(region + HANDSHAKE_BUDGET, BURST);
  for (let i: u32 = 0; i < SOURCES; i++) fillBudget(region + HANDSHAKE_SOURCE_BUDGETS + i * BUDGET_SIZE, SOURCE_BURST);
}

/** Writes the key that mac1 is checked with from now on: `key` points to 32 bytes and 32 zeros; 0 ends the checks. */
export function setMac1Key(door: u32, key: u32): void {
  atomic.store<u32>(door, 0, DOOR_CHECKS);
  if (key == 0) return;
  // A message that a worker checks in this moment may be refused wrongly; its sender will repeat it.
  keyState(door + DOOR_STATE, key);
  atomic.store<u32>(door, 1, DOOR_CHECKS);
}

/** Whether a handshake message of a known length, with the aux record of its datagram, may go to the control plane; otherwise it has been counted as dropped. */
export function mayEnter(region: u32, aux: u32, message: u32): bool {
  const door = load<u32>(region, DOOR);
  const type = load<u32>(message);
  if (type <= RESPONSE && atomic.load<u32>(door, DOOR_CHECKS)) {
    const covered = type == INITIATION ? INITIATION_COVERED : RESPONSE_COVERED;
    if (!checkMac(door + DOOR_STATE, message, covered, region + SCRATCH)) {
      drop(region, Drop.HandshakeMac, 1);
      return false;
    }
  }
  const source = budgetOfSource(region, aux);
  const now = load<f64>(region, NOW);
  // What one source is refused must not use up what all have together.
  if (spend(source, SOURCE_RATE, SOURCE_BURST, now) && spend(region + HANDSHAKE_BUDGET, RATE, BURST, now)) return true;
  drop(region, Drop.HandshakeFlood, 1);
  return false;
}

/** The budget of the source of a message with this aux record. */
export function budgetOfSource(region: u32, aux: u32): u32 {
  return region + HANDSHAKE_SOURCE_BUDGETS + sourceHash(load<u32>(region, DOOR), region, aux) * BUDGET_SIZE;
}

/** Which of the sources' budgets is that of the message with this aux record: an IPv4 address, or an IPv6 network of 64 bits. */
function sourceHash(door: u32, region: u32, aux: u32): u32 {
  const name = aux + AUX_NAME;
  const isIpv4 = load<u32>(region, RECEIVE_FAMILY) == 4;
  const address = isIpv4 ? <u64>load<u32>(name, 4) : load<u64>(name, 8);
  let hash = (address ^ load<u64>(door, DOOR_SEED)) * 0x9e3779b97f4a7c15;
  hash = (hash ^ (hash >> 32)) * 0xd6e8feb86659fd93;
  return <u32>(hash >> 32) % SOURCES;
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
