// The task of the thread that opens initiations for the control plane: src/wireguard/initiation-queue.ts says which and why.

import { constants, getPriority, setPriority } from "node:os";
import { nodeCrypto } from "../../system/crypto.js";
import { InitiationBlock } from "../../wireguard/initiation-block.js";

/**
 * Niceness of the thread (Linux has one per thread, and gives "this process" the meaning "this thread"): where cores are short, established traffic goes
 * first. 10 is a tenth of a normal thread's share of a core (sched(7)), which opens 500 initiations in a second.
 */
const NICENESS = 10;

/** The end of the scale. */
const MAX_NICENESS = constants.priority.PRIORITY_LOW;

/** One batch. */
export interface InitiationTask {
  readonly memory: SharedArrayBuffer;
  readonly count: number;
}

setPriority(Math.min(getPriority() + NICENESS, MAX_NICENESS));

/** Opens the batch in its place. */
export default function openInitiations({ memory, count }: InitiationTask): void {
  new InitiationBlock(memory).compute(nodeCrypto, count);
}
