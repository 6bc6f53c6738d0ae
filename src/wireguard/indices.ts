// Receiver indices: how a node finds the peer and the session that a message is for (spec 02, section 11.6).
//
//     31                              8 7             0
//    +---------------------------------+---------------+
//    |  peer index: fixed per peer     |  session      |   a local index
//    +---------------------------------+---------------+
//
// Peer indices come from a shift register with a random start and a random mask, so that they do not repeat and an observer
// cannot tell how many peers there are.

import { type Random, randomBelow } from "../base/random.js";

/** A number of 24 bits that stands for a peer. */
export type PeerIndex = number;

/** Peers that can have an index at a time: all the states of a 24-bit register, zero is none. */
const PEER_INDEX_COUNT = 2 ** 24 - 1;

/** Feedback of a 24-bit register of maximum length in Galois form (spec 02, section 11.6). */
const FEEDBACK = 0xd80000;

/** Session numbers of a peer: 8 bits. */
const SESSION_NUMBERS = 256;

/** The peer of a local index. */
export function peerIndexOf(localIndex: number): PeerIndex {
  return localIndex >>> 8;
}

/** Hands out peer indices that are unique within a node. */
export class PeerIndices {
  readonly #mask: number;
  readonly #inUse = new Set<PeerIndex>();
  #register: number;

  constructor(random: Random) {
    this.#register = 1 + randomBelow(random, PEER_INDEX_COUNT);
    this.#mask = randomBelow(random, 2 ** 24);
  }

  /** An index that no peer has; one that was released comes again only after all the others. */
  allocate(): PeerIndex {
    // The tables hold thousands of peers, the register has 2^24 states: running out of them is a leak of ours.
    if (this.#inUse.size >= PEER_INDEX_COUNT) throw new RangeError("all peer indices are in use");
    for (;;) {
      const index = (this.#register - 1) ^ this.#mask;
      this.#register = (this.#register >>> 1) ^ ((this.#register & 1) * FEEDBACK);
      if (this.#inUse.has(index)) continue;
      this.#inUse.add(index);
      return index;
    }
  }

  /** Gives back an index whose peer is gone. */
  release(index: PeerIndex): void {
    this.#inUse.delete(index);
  }
}

/** Local indices of one peer: one for each session and for each handshake that may become one. */
export class SessionIndices {
  readonly #peerIndex: PeerIndex;
  #session = 0;

  constructor(peerIndex: PeerIndex) {
    this.#peerIndex = peerIndex;
  }

  /** The next local index that is not `inUse`; the first handshake message of a peer carries session number 1. */
  next(inUse: (localIndex: number) => boolean): number {
    let index: number;
    do {
      this.#session = (this.#session + 1) % SESSION_NUMBERS;
      index = ((this.#peerIndex << 8) | this.#session) >>> 0;
    } while (inUse(index));
    return index;
  }
}
