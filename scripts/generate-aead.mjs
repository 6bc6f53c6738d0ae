// Generates the kernels of the AEAD: unrolled ChaCha20 of several blocks with Poly1305 of other text woven in. They are only
// fast unrolled and with their state in locals, and AssemblyScript has no macros; so this script is the readable source, and
// what it emits in build/generated/ is built, not committed. Names are those of RFC 8439.
//
// Why woven: ChaCha20 runs in the processor's vector units and Poly1305 in its scalar multiplier, side by side when the
// instructions of both alternate.
//
// There are three sets of kernels, for three builds of the engine:
//
// narrow (aead-kernels.ts, aead-lanes.ts), for V8 11 (Node 20): four blocks in vectors of 128 bits. It orders the instructions
//   of a straight piece of code by a walk backwards from its stores. With the stores of both computations at the end it takes
//   turns between them, where values carried in locals from one turn of a loop to the next would be computed one after the
//   other: hence the way through memory between the two turns of the loop.
// wide (aead-kernels-wide.ts, aead-lanes-wide.ts), for V8 12 and later with --experimental-wasm-revectorize: eight blocks in
//   pairs of vectors, which V8 merges to 256 bits when each statement is written for one half and the other, when they are
//   loaded from and stored to adjacent addresses, and when each permutation in between is one that it knows (it knows those of
//   the transposition at the end, but none of bytes: rotations are shifts). It keeps the order of the source, so no way through
//   memory, and takes as many instructions as are written: the processor's limit here is their number. Four turns of a loop of
//   five rounds each, so that the code fits well into the processor's cache of decoded instructions: a quarter faster on Zen 2.
// wide-stored (aead-kernels-wide-stored.ts, aead-lanes-wide-stored.ts): the same with the way through memory, for V8 12 (Node 22),
//   which merges no vectors that a loop carries in locals, and ends the process over a permutation that it wants to merge: so the
//   output is a function of its own.
//
// The statements, a quarter round and a block of Poly1305, are in aead-statements.mjs.

import { existsSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import {
  columns,
  diagonals,
  inTurn,
  lines,
  polyBlocks,
  polyConstants,
  polyConstantsLoaded,
  polyEnd,
  polyGroup,
  polyKernels,
  polyKey,
  quarterRound,
  range,
  rotateByBytes,
  rotateByShifts,
  rotationMasks,
  staggered,
  transpose,
  weave,
} from "./aead-statements.mjs";

/**
 * The output of four lanes: adds the initial state to the working state, turns words of four blocks into blocks, xors the
 * text. `first` is the first of the lanes, `lanes` how many there are in a row.
 */
function output(first, lanes) {
  const at = (row, word) => `v128.load(scratch, ${row} + ${4 * (lanes * word + first)})`;
  const addresses = range(4).flatMap((lane) => [
    `const source${lane} = load<u32>(scratch, SOURCES + ${4 * (first + lane)});`,
    `const destination${lane} = load<u32>(scratch, DESTINATIONS + ${4 * (first + lane)});`,
  ]);
  const quarters = range(4).flatMap((quarter) => {
    const words = range(4).map((i) => 4 * quarter + i);
    return [
      ...words.map((word) => `const y${word} = i32x4.add(${at("WORKING", word)}, ${at("INITIAL", word)});`),
      ...transpose(...words.map((word) => `y${word}`), `q${quarter}`),
      ...range(4).map((lane) => {
        const text = `v128.load(source${lane}, ${16 * quarter})`;
        return `v128.store(destination${lane}, v128.xor(q${quarter}${lane}, ${text}), ${16 * quarter});`;
      }),
    ];
  });
  return lines(2, [...addresses, ...quarters]);
}

const laneKernelComment = `/**
 * ChaCha20 of all lanes: counts on, then xors the 64 bytes at SOURCES with the keystream blocks of the INITIAL states to DESTINATIONS.
 * Before anything is written there, the groups of POLY_TEXTS are absorbed into POLY_TARGETS, in their order.
 */`;

/** The block counters of this kernel, whose row is made of vectors at `offsets`. */
const countOn = (offsets) =>
  offsets.map((at) => {
    const counters = `i32x4.add(v128.load(scratch, COUNTERS + ${at}), v128.load(scratch, COUNTER_STEPS + ${at}))`;
    return `v128.store(scratch, ${counters}, COUNTERS + ${at});`;
  });

const plainKernelComment = `/** The same, and nothing is absorbed. */`;

const wordsNamed = (name, indices) => indices.map((i) => `${name}${i}`);

/** Four lanes: vector x_i holds word i of all. Two turns of five double rounds, and in each two groups of Poly1305. */
function narrowLaneKernel() {
  const vectors = wordsNamed("x", range(16));
  // Four quarter rounds at a time, for they do not depend on each other.
  const round = (words) => inTurn(words.map((indices) => quarterRound(wordsNamed("x", indices), rotateByBytes)));
  const doubleRounds = (count) => range(count).flatMap(() => [...round(columns), ...round(diagonals)]);
  const poly = [...polyGroup(0), ...polyEnd(0), ...polyGroup(1)];
  return `${laneKernelComment}
export function laneKernel(scratch: u32): void {
${lines(2, [...rotationMasks, ...polyConstants, ...countOn([0])])}
  let words = scratch + INITIAL;
  let job = scratch;
  const end = scratch + 16;
  do {
${lines(
  4,
  vectors.map((x, i) => `let ${x} = v128.load(words, ${16 * i});`),
)}
${lines(4, weave(doubleRounds(5), poly))}
    words = scratch + WORKING;
${lines(
  4,
  vectors.map((x, i) => `v128.store(scratch, ${x}, WORKING + ${16 * i});`),
)}
${lines(4, polyEnd(1))}
    job += 8;
  } while (job != end);
${output(0, 4)}
}

${plainKernelComment}
export function plainKernel(scratch: u32): void {
${lines(2, [...rotationMasks, ...countOn([0])])}
${lines(
  2,
  vectors.map((x, i) => `let ${x} = v128.load(scratch, INITIAL + ${16 * i});`),
)}
  for (let i = 0; i < 5; i++) {
${lines(4, doubleRounds(2))}
  }
${lines(
  2,
  vectors.map((x, i) => `v128.store(scratch, ${x}, WORKING + ${16 * i});`),
)}
${output(0, 4)}
}
`;
}

/** Turns of the wide kernel's loop, and what each does: an odd number of rounds, and as many groups of Poly1305 in their shares. */
const WIDE_TURNS = 4;
const WIDE_ROUNDS = 20 / WIDE_TURNS;
const WIDE_GROUPS = 8 / WIDE_TURNS;

/**
 * After an odd number of rounds words change places such that column rounds become diagonal rounds and the other way round: word c
 * of row r goes to r - c; the four words of a column (r - c with one c) are then those of a diagonal.
 */
const exchangedPlace = (word) => (word & ~3) + (((word >> 2) - word) & 3);

/** The vectors of the wide kernel, x_i and z_i, which hold word i of four lanes each, and where they are in a state. */
const halves = (statement) => range(16).flatMap((i) => [statement(`x${i}`, 32 * i), statement(`z${i}`, 32 * i + 16)]);

/** Stores to WORKING. The second half comes first: V8 merges the two stores then, and would write the first half twice otherwise. */
const storeHalves = (x, z, at) => [
  `v128.store(scratch, ${z}, WORKING + ${at + 16});`,
  `v128.store(scratch, ${x}, WORKING + ${at});`,
];

const loadInitial = halves((x, at) => `let ${x} = v128.load(scratch, INITIAL + ${at});`);

/** What happens between two turns. */
const exchangePlaces = ["x", "z"].flatMap((half) =>
  range(16).flatMap((word) => {
    const other = exchangedPlace(word);
    if (other <= word) return [];
    const [a, b] = [`${half}${word}`, `${half}${other}`];
    return [`const kept_${a} = ${a};`, `${a} = ${b};`, `${b} = kept_${a};`];
  }),
);

/** The keystream from the state after the rounds, in 256 bits: quarter by quarter, each for lanes 0 and 4, 1 and 5, 2 and 6, 3 and 7. */
const keystream = [
  ...halves((x, at) => `${x} = i32x4.add(${x}, v128.load(scratch, INITIAL + ${at}));`),
  ...range(4).flatMap((quarter) => {
    const words = range(4).map((i) => 4 * quarter + i);
    return [
      ...inTurn(["x", "z"].map((half) => transpose(...words.map((word) => half + word), `${half}q${quarter}`))),
      ...range(4).flatMap((lane) =>
        storeHalves(`xq${quarter}${lane}`, `zq${quarter}${lane}`, keystreamPlace(quarter, lane)),
      ),
    ];
  }),
];

function keystreamPlace(quarter, lane) {
  return 128 * quarter + 32 * (lane & 3) + 4 * (lane & 4);
}

/** Xors the texts with that keystream, two quarters of a lane at a time: they are merged to 256 bits. */
function xorKeystream() {
  const statements = range(8).flatMap((lane) => [
    `const source${lane} = load<u32>(scratch, SOURCES + ${4 * lane});`,
    `const destination${lane} = load<u32>(scratch, DESTINATIONS + ${4 * lane});`,
    ...[0, 2].flatMap((first) => {
      const quarters = [first, first + 1];
      return [
        ...quarters.map((quarter) => {
          const key = `v128.load(scratch, WORKING + ${keystreamPlace(quarter, lane)})`;
          return `const y${lane}${quarter} = v128.xor(${key}, v128.load(source${lane}, ${16 * quarter}));`;
        }),
        ...quarters.reverse().map((quarter) => `v128.store(destination${lane}, y${lane}${quarter}, ${16 * quarter});`),
      ];
    }),
  ]);
  return `function output(scratch: u32): void {
${lines(2, statements)}
}`;
}

/** The output of eight lanes by halves, in 128 bits. */
const outputByHalves = () => `function output(scratch: u32): void {
  outputLow(scratch);
  outputHigh(scratch);
}

function outputLow(scratch: u32): void {
${output(0, 8)}
}

function outputHigh(scratch: u32): void {
${output(4, 8)}
}`;

/** A state in locals from one turn to the next. */
const inLocals = {
  poly: range(WIDE_GROUPS).flatMap((g) => [...polyGroup(g), ...polyEnd(g)]),
  polyAfter: [],
  begin: loadInitial,
  beginTurn: [],
  endTurn: exchangePlaces,
  end: keystream,
  output: xorKeystream,
};

/**
 * A state in memory between turns, and no permutations in 256 bits: V8 12 aborts when it meets them. It orders a turn by a walk backwards, as V8
 * 11 does, so the stores of the last group come at the end, and the loads of r of all groups at the start: a twelfth less time.
 */
const inMemory = {
  poly: [
    ...range(WIDE_GROUPS).flatMap(polyKey),
    ...range(WIDE_GROUPS).flatMap((g) => [...polyBlocks(g), ...(g < WIDE_GROUPS - 1 ? polyEnd(g) : [])]),
  ],
  polyAfter: polyEnd(WIDE_GROUPS - 1),
  begin: range(16).flatMap((i) => [...loadInitial.slice(2 * i, 2 * i + 2), ...storeHalves(`x${i}`, `z${i}`, 32 * i)]),
  beginTurn: halves((x, at) => `${x} = v128.load(scratch, WORKING + ${at});`),
  endTurn: range(16).flatMap((i) => storeHalves(`x${i}`, `z${i}`, 32 * exchangedPlace(i))),
  end: [],
  output: outputByHalves,
};

/** The twenty rounds (section 2.3), with the statements of `polyOfTurn` woven in and those of `polyAfterTurn` behind each turn. */
function wideRounds(name, state, polyOfTurn, polyAfterTurn) {
  const quarterRoundOfHalves = (indices) =>
    inTurn(["x", "z"].map((half) => quarterRound(wordsNamed(half, indices), rotateByShifts)));
  // Two quarter rounds at a time: the processor looks only so far ahead for work that can be done at once, half as far while its core has
  // another thread. More at a time do not fit into the registers.
  const round = (i) => {
    const [a, b, c, d] = (i % 2 === 0 ? columns : diagonals).map(quarterRoundOfHalves);
    return [...staggered(a, b, 2, 2), ...staggered(c, d, 2, 2)];
  };
  const rounds = weave(range(WIDE_ROUNDS).flatMap(round), polyOfTurn);
  return `function ${name}(scratch: u32): void {
${lines(2, [...countOn([0, 16]), ...state.begin, ...(polyOfTurn.length > 0 ? polyConstantsLoaded : [])])}
  let job = scratch;
  const end = scratch + ${4 * WIDE_GROUPS * WIDE_TURNS};
  do {
${lines(4, [...state.beginTurn, ...rounds, ...state.endTurn, ...polyAfterTurn])}
    job += ${4 * WIDE_GROUPS};
  } while (job != end);
${lines(2, state.end)}
}`;
}

/** Eight lanes, and eight groups of Poly1305. */
function wideLaneKernel(state) {
  return `/** The rounds of all lanes, from INITIAL to WORKING, and the groups of Poly1305. */
${wideRounds("laneRounds", state, state.poly, state.polyAfter)}

/** The rounds alone. */
${wideRounds("plainRounds", state, [], [])}

${state.output()}

${laneKernelComment}
export function laneKernel(scratch: u32): void {
  laneRounds(scratch);
  output(scratch);
}

${plainKernelComment}
export function plainKernel(scratch: u32): void {
  plainRounds(scratch);
  output(scratch);
}
`;
}

/**
 * Two blocks, horizontally: a vector holds a row of a block's four times four words, and between column and diagonal rounds
 * the rows are turned. For short packets: it takes less time than the lane kernel, though more for each block.
 */
function pairKernel() {
  const blocks = [0, 1];
  const rows = ["a", "b", "c", "d"];
  const rowsOf = (block) => rows.map((row) => row + block);
  const all = (statement) => blocks.flatMap((block) => rowsOf(block).map((name, i) => statement(name, block, i)));
  const initial = (block, i) =>
    i < 3 ? `v128.load(scratch, STATE + ${16 * i})` : `v128.load(scratch, PAIR_WORDS + ${16 * block})`;
  const turn = (row, by) =>
    blocks.map((block) => {
      const order = range(4).map((i) => (i + by) & 3);
      return `${row}${block} = i32x4.shuffle(${row}${block}, ${row}${block}, ${order.join(", ")});`;
    });
  const round = () => inTurn(blocks.map((block) => quarterRound(rowsOf(block), rotateByBytes)));
  const horizontalDoubleRound = () => [
    ...round(),
    ...turn("a", 3),
    ...turn("c", 1),
    ...turn("d", 2),
    ...round(),
    ...turn("a", 1),
    ...turn("c", 3),
    ...turn("d", 2),
  ];
  return `/** ChaCha20 of two blocks: lanes 0 and 1 of SOURCES and DESTINATIONS, with STATE and PAIR_WORDS. */
export function pairKernel(scratch: u32): void {
${lines(2, rotationMasks)}
${lines(
  2,
  all((name, block, i) => `let ${name} = ${initial(block, i)};`),
)}
  for (let i = 0; i < 5; i++) {
${lines(4, [...horizontalDoubleRound(), ...horizontalDoubleRound()])}
  }
${lines(
  2,
  blocks.flatMap((block) => [
    `const source${block} = load<u32>(scratch, SOURCES + ${4 * block});`,
    `const destination${block} = load<u32>(scratch, DESTINATIONS + ${4 * block});`,
  ]),
)}
${lines(
  2,
  all((name, block, i) => {
    const keystream = `i32x4.add(${name}, ${initial(block, i)})`;
    const text = `v128.load(source${block}, ${16 * i})`;
    return `v128.store(destination${block}, v128.xor(${keystream}, ${text}), ${16 * i});`;
  }),
)}
}
`;
}

// --- Output -----------------------------------------------------------------------------------------------------------

const kernelsFile = (laneKernel) => `// Generated by scripts/generate-aead.mjs.

import { HIGH_BIT, MASK34 } from "../../assembly/aead/poly1305";
import {
  COUNTER_STEPS, COUNTERS, DESTINATIONS, INITIAL, PAIR_WORDS, POLY_CONSTANTS, POLY_TARGETS, POLY_TEXTS, SOURCES, STATE, WORKING,
} from "../../assembly/aead/scratch";

${laneKernel}
${pairKernel()}
${polyKernels()}`;

const lanesFile = (lanes) => `// Generated by scripts/generate-aead.mjs.

/** Lanes of the lane kernel. */
export const LANES: u32 = ${lanes};
`;

const directory = fileURLToPath(new URL("../build/generated/", import.meta.url));
mkdirSync(directory, { recursive: true });
for (const [name, content] of [
  ["aead-kernels.ts", kernelsFile(narrowLaneKernel())],
  ["aead-lanes.ts", lanesFile(4)],
  ["aead-kernels-wide.ts", kernelsFile(wideLaneKernel(inLocals))],
  ["aead-lanes-wide.ts", lanesFile(8)],
  ["aead-kernels-wide-stored.ts", kernelsFile(wideLaneKernel(inMemory))],
  ["aead-lanes-wide-stored.ts", lanesFile(8)],
]) {
  const path = directory + name;
  if (!existsSync(path) || readFileSync(path, "utf8") !== content) writeFileSync(path, content);
}
