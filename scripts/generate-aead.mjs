// Generates the kernels of the AEAD: unrolled ChaCha20 of several blocks with Poly1305 of other text woven in. They are only
// fast unrolled and with their state in locals, and AssemblyScript has no macros; so this script is the readable source, and
// what it emits in build/generated/ is built, not committed. Names are those of RFC 8439.
//
// Why woven: ChaCha20 runs in the processor's vector units and Poly1305 in its scalar multiplier, side by side when the
// instructions of both alternate.
//
// There are four sets of kernels, for four builds of the engine (src/engine/builds.ts): of four lanes in vectors of 128 bits (narrow)
// and of eight in pairs of them, which V8 merges to 256 bits with --experimental-wasm-revectorize (wide), and both
//
// in locals, for V8 13 and later. It keeps the order of the source and takes as many instructions as are written: the processor's
//   limits are their number and the size of the code, which must fit into its cache of decoded instructions. So a loop has many
//   short turns, of an even number of rounds where Poly1305 can be shared out so.
// in memory (-stored), for V8 11 and 12 (Node 20 and 22). It orders the instructions of a straight piece of code by a walk backwards
//   from its stores. With the stores of both computations at the end it takes turns between them, where values carried in locals
//   from one turn of a loop to the next would be computed one after the other: hence the way through memory between two turns.
//   V8 12 merges no vectors that a loop carries in locals, either, and ends the process over a permutation that it wants to merge:
//   so the output is a function of its own, in 128 bits.
//
// V8 merges two vectors when each statement is written for one half and the other, when they are loaded from and stored to adjacent
// addresses, and when each permutation in between is one that it knows (it knows those of the transposition at the end, but none of
// bytes: rotations are shifts).

import { existsSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { companions } from "./aead-companions.mjs";
import {
  countOn,
  eightLanes,
  fourLanes,
  laneRounds,
  outputBy128,
  outputBy256,
  outputInline,
  stateInLocals,
  stateInMemory,
} from "./aead-lanes.mjs";
import { pairKernel } from "./aead-pair.mjs";
import { lines, polyConstants, polyConstantsLoaded, polyKernels, weave } from "./aead-statements.mjs";

/**
 * The sets. A kernel's shape is the rounds of a turn of its loop and what its companion does in it: groups of Poly1305, or blocks of a
 * text and how many are left for the end of the kernel; whether values are carried in locals is the set's, unless said otherwise. All
 * were found by measuring.
 */
const sets = [
  {
    name: "",
    lanes: fourLanes,
    carried: true,
    constants: polyConstants,
    shapes: {
      groups: { rounds: 10, groups: 2 },
      text: { rounds: 4, blocks: 3, rest: 1 },
      key: { rounds: 4 },
      nothing: { rounds: 4 },
    },
    output: outputInline,
  },
  {
    name: "-stored",
    lanes: fourLanes,
    carried: false,
    constants: polyConstants,
    shapes: {
      groups: { rounds: 10, groups: 2 },
      text: { rounds: 10, blocks: 8, rest: 0 },
      key: { rounds: 4 },
      nothing: { rounds: 4, carried: true },
    },
    output: outputInline,
  },
  {
    name: "-wide",
    lanes: eightLanes,
    carried: true,
    constants: polyConstantsLoaded,
    shapes: {
      groups: { rounds: 5, groups: 2 },
      text: { rounds: 2, blocks: 3, rest: 2 },
      key: { rounds: 2 },
      nothing: { rounds: 2 },
    },
    output: outputBy256,
  },
  {
    name: "-wide-stored",
    lanes: eightLanes,
    carried: false,
    constants: polyConstantsLoaded,
    shapes: {
      groups: { rounds: 5, groups: 2 },
      text: { rounds: 5, blocks: 8, rest: 0 },
      key: { rounds: 5 },
      nothing: { rounds: 5 },
    },
    output: outputBy128,
  },
];

/** The kernels that work on all lanes, by their companions, and what they do. */
const laneKernels = {
  groups: [
    "laneKernel",
    `/**
 * ChaCha20 of all lanes: counts on, then xors the 64 bytes at SOURCES with the keystream blocks of the INITIAL states to DESTINATIONS.
 * Before anything is written there, the groups of POLY_TEXTS are absorbed into POLY_TARGETS, in their order.
 */`,
  ],
  text: [
    "textKernel",
    "/** The same, but one text is absorbed: 64 bytes for each lane from the first of POLY_TEXTS on, into the first of POLY_TARGETS. */",
  ],
  key: [
    "keyKernel",
    "/** The same, and nothing is absorbed, but the one-time key of STATE and PAIR_WORDS is made in lane area 0. */",
  ],
  nothing: ["plainKernel", "/** The same, and nothing else. */"],
};

function laneKernel(set, companionName) {
  const { lanes, output } = set;
  const shape = { carried: set.carried, ...set.shapes[companionName] };
  const [name, comment] = laneKernels[companionName];
  const companion = companions[companionName](shape, set.constants);
  const state = shape.carried ? stateInLocals(lanes, shape.rounds) : stateInMemory(lanes, shape.rounds);
  const end = shape.carried ? output.begin : [];
  return `${comment}
export function ${name}(scratch: u32): void {
${lines(2, [...lanes.begin, ...countOn(lanes), ...state.begin, ...companion.begin])}
  for (let turn = 0; turn < ${20 / shape.rounds}; turn++) {
${lines(4, [
  ...state.beginTurn,
  ...weave(laneRounds(lanes, shape.rounds), companion.turn),
  ...state.endTurn,
  ...companion.afterTurn,
])}
  }
${lines(2, [...weave(end, companion.meanwhile), ...companion.end, ...output.end])}
}
`;
}

const kernelsFile = (set) => `// Generated by scripts/generate-aead.mjs.

import { HIGH_BIT, MASK34 } from "../../assembly/aead/poly1305";
import {
  COUNTER_STEPS, COUNTERS, DESTINATIONS, INITIAL, KEY_BLOCK, LANE_AREAS, PAIR_WORDS, POLY_CONSTANTS, POLY_TARGETS, POLY_TEXTS,
  SOURCES, STATE, WORKING,
} from "../../assembly/aead/scratch";

${Object.keys(laneKernels)
  .map((companion) => laneKernel(set, companion))
  .join("\n")}
${set.output.functions}

${pairKernel()}
${polyKernels()}`;

const lanesFile = (set) => `// Generated by scripts/generate-aead.mjs.

/** Lanes of the lane kernel. */
export const LANES: u32 = ${set.lanes.count};
`;

const directory = fileURLToPath(new URL("../build/generated/", import.meta.url));
mkdirSync(directory, { recursive: true });
for (const set of sets) {
  write(`aead-kernels${set.name}.ts`, kernelsFile(set));
  write(`aead-lanes${set.name}.ts`, lanesFile(set));
}

/** A file that is as it should be keeps its time. */
function write(name, content) {
  const path = directory + name;
  if (!existsSync(path) || readFileSync(path, "utf8") !== content) writeFileSync(path, content);
}
