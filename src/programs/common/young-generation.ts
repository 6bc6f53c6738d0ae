// V8's young generation in programs that hold much and make little garbage: it doubles whenever something survives a collection, and so
// grows with every object that is to stay, to 16 MB (Node 20) or 48 (Node 24), which it hardly ever gives back. A relay with ten thousand
// allocations would have half of its memory in it.

import { setFlagsFromString } from "node:v8";

/**
 * Keeps the young generation at the size that it has now, in all threads of the process: collections come sooner and are shorter. V8 reads the
 * factor anew at each growth, but sets it to 2 at least whenever a heap is made: so it is to be called again after a thread was started, and is of
 * no use on the command line.
 */
export function keepYoungGenerationSmall(): void {
  setFlagsFromString("--semi-space-growth-factor=1");
}
