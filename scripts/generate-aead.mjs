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
//   loaded from and stored to adjacent addresses, and when there is no permutation in between (rotations are shifts,
//   the output is a function of its own). It keeps the order of the source, so no way through memory. Four turns of a loop of
//   five rounds each, so that the code fits well into the processor's cache of decoded instructions: a quarter faster on Zen 2.
// wide-stored (aead-kernels-wide-stored.ts, aead-lanes-wide-stored.ts): the same with the way through memory, for V8 12 (Node 22),
//   which merges no vectors that a loop carries in locals.

import { existsSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { fileURLToPath } from "node:url";

const range = (count) => Array.from({ length: count }, (_, i) => i);

// --- ChaCha20 ---------------------------------------------------------------------------------------------------------

/** Rotation of every 32-bit lane. */
const rotateByShifts = (x, bits) => `v128.or(i32x4.shl(${x}, ${bits}), i32x4.shr_u(${x}, ${32 - bits}))`;

/** Rotation by whole bytes is a permutation. The constant lane numbers stay in a register. */
const rotateByBytes = (x, bits) => (bits % 8 === 0 ? `i8x16.swizzle(${x}, rotate${bits})` : rotateByShifts(x, bits));

const rotationMasks = [
  "const rotate16 = i8x16(2, 3, 0, 1, 6, 7, 4, 5, 10, 11, 8, 9, 14, 15, 12, 13);",
  "const rotate8 = i8x16(3, 0, 1, 2, 7, 4, 5, 6, 11, 8, 9, 10, 15, 12, 13, 14);",
];

/** One line of the quarter round (RFC 8439, section 2.1): sum += addend; target ^= sum; target <<<= bits. */
const quarterRoundLine = (sum, addend, target, bits, rotate) => [
  `${sum} = i32x4.add(${sum}, ${addend});`,
  `${target} = v128.xor(${target}, ${sum});`,
  `${target} = ${rotate(target, bits)};`,
];

const quarterRound = ([a, b, c, d], rotate) => [
  ...quarterRoundLine(a, b, d, 16, rotate),
  ...quarterRoundLine(c, d, b, 12, rotate),
  ...quarterRoundLine(a, b, d, 8, rotate),
  ...quarterRoundLine(c, d, b, 7, rotate),
];

/** Takes one statement of each list in turn. */
const inTurn = (lists) => lists[0].flatMap((_, i) => lists.map((list) => list[i]));

/** The quarter rounds of a double round (section 2.3), as indices of state words: four columns, then four diagonals. */
const columns = range(4).map((i) => [i, i + 4, i + 8, i + 12]);
const diagonals = range(4).map((i) => [i, 4 + ((i + 1) & 3), 8 + ((i + 2) & 3), 12 + ((i + 3) & 3)]);

// --- Poly1305 ---------------------------------------------------------------------------------------------------------

/** Offsets in a Poly1305 state: assembly/aead/poly1305.ts explains it and the arithmetic. */
const polyR = (i) => 4 * i;
const polyS = (i) => 28 + 4 * i;
const polyH = (i) => 48 + 8 * i;

/** The limbs of r and of h, loaded from the state of group `g`. */
const polyLoad = (g) => [
  ...range(4).map((i) => `const r${i}_${g} = <u64>load<u32>(state${g}, ${polyR(i)});`),
  ...[1, 2, 3].map((i) => `const s${i}_${g} = <u64>load<u32>(state${g}, ${polyS(i)});`),
  ...range(4).map((i) => `let h${i}_${g} = load<u64>(state${g}, ${polyH(i)});`),
];

/** The same, of the state that group `g` of the kernel's descriptor names. */
const polyBegin = (g) => [
  `const text${g} = load<u32>(job, POLY_TEXTS + ${4 * g});`,
  `const state${g} = load<u32>(job, POLY_TARGETS + ${4 * g});`,
  ...polyLoad(g),
];

/**
 * h = (h + block) * r, for the block at `offset` of the group's text. A limb of the result is cut off a sum before the sum's
 * upper half is carried on: that half may then be made in the sum's own register.
 */
const polyBlock = (g, offset) => {
  const id = `${g}_${offset}`;
  const product = (i, factor) => `t${i}_${id} * ${factor}_${g}`;
  const sum = (name, terms) => [
    `let ${name}_${id} = ${terms[0]};`,
    ...terms.slice(1).map((term) => `${name}_${id} += ${term};`),
  ];
  const carry = (name) => `(${name}_${id} >> 32)`;
  const limb = (i) => `h${i}_${g} = d${i}_${id} & 0xffffffff;`;
  return [
    ...range(4).map((i) => {
      const bit = i === 3 ? " + highBit" : "";
      return `const t${i}_${id} = h${i}_${g} + <u64>load<u32>(text${g}, ${offset + 4 * i})${bit};`;
    }),
    // What is known last (t0, from the carry of the block before; the carry) comes last.
    ...sum("d0", [product(1, "s3"), product(2, "s2"), product(3, "s1"), product(0, "r0")]),
    limb(0),
    ...sum("d1", [product(1, "r0"), product(2, "s3"), product(3, "s2"), product(0, "r1"), carry("d0")]),
    limb(1),
    ...sum("d2", [product(2, "r0"), product(1, "r1"), product(3, "s3"), product(0, "r2"), carry("d1")]),
    limb(2),
    ...sum("d3", [product(2, "r1"), product(3, "r0"), product(1, "r2"), product(0, "r3"), carry("d2")]),
    `h3_${g} = d3_${id} & mask34;`,
    `h0_${g} += 5 * (d3_${id} >> 34);`,
  ];
};

/** What polyBlock takes for constants. */
const polyConstants = ["const highBit: u64 = HIGH_BIT;", "const mask34: u64 = MASK34;"];

/** The same, unknown to the compiler: it would load a register with each constant at each use. */
const polyConstantsLoaded = [
  "const highBit = load<u64>(scratch, POLY_CONSTANTS);",
  "const mask34 = load<u64>(scratch, POLY_CONSTANTS + 8);",
];

/** Four blocks. */
const polyGroup = (g) => [...polyBegin(g), ...range(4).flatMap((block) => polyBlock(g, 16 * block))];

const polyEnd = (g) => range(4).map((i) => `store<u64>(state${g}, h${i}_${g}, ${polyH(i)});`);

/** Poly1305 alone, of one text and of two at a time: one waits for its own results, so that two take little longer. */
const polyKernels = () => `/** Absorbs \`blocks\` blocks of 16 bytes at \`text0\` into \`state0\`. */
export function absorb(state0: u32, text0: u32, blocks: u32): void {
${lines(2, [...polyConstants, ...polyLoad(0)])}
  for (const end = text0 + (blocks << 4); text0 != end; text0 += 16) {
${lines(4, polyBlock(0, 0))}
  }
${lines(2, polyEnd(0))}
}

/** The same, and as many blocks at \`text1\` into another state, \`state1\`. */
export function absorbPair(state0: u32, text0: u32, state1: u32, text1: u32, blocks: u32): void {
${lines(2, [...polyConstants, ...polyLoad(0), ...polyLoad(1)])}
  for (const end = text0 + (blocks << 4); text0 != end; text0 += 16) {
${lines(4, inTurn([polyBlock(0, 0), polyBlock(1, 0)]))}
    text1 += 16;
  }
${lines(2, [...polyEnd(0), ...polyEnd(1)])}
}
`;

// --- Kernels ----------------------------------------------------------------------------------------------------------

/** Spreads `minor` evenly between the statements of `major`. */
function weave(major, minor) {
  const woven = [];
  let taken = 0;
  major.forEach((statement, i) => {
    woven.push(statement);
    for (const due = Math.round(((i + 1) * minor.length) / major.length); taken < due; taken++)
      woven.push(minor[taken]);
  });
  return woven;
}

const lines = (indent, statements) => statements.map((statement) => " ".repeat(indent) + statement).join("\n");

/**
 * From words of four blocks to blocks: the transposition of four vectors of four 32-bit words. In this form because V8 from version
 * 13 on merges pairs of these very permutations to 256 bits.
 */
const transpose = (a, b, c, d, name) => [
  `const ${name}ab0 = i32x4.shuffle(${a}, ${b}, 0, 4, 1, 5);`,
  `const ${name}ab1 = i32x4.shuffle(${a}, ${b}, 2, 6, 3, 7);`,
  `const ${name}cd0 = i32x4.shuffle(${c}, ${d}, 0, 4, 1, 5);`,
  `const ${name}cd1 = i32x4.shuffle(${c}, ${d}, 2, 6, 3, 7);`,
  ...range(4).map((lane) => {
    const half = lane >> 1;
    const from = lane & 1 ? "2, 3, 6, 7" : "0, 1, 4, 5";
    return `const ${name}${lane} = i32x4.shuffle(${name}ab${half}, ${name}cd${half}, ${from});`;
  }),
];

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
  begin: loadInitial,
  beginTurn: [],
  endTurn: exchangePlaces,
  end: keystream,
  output: xorKeystream,
};

/** A state in memory between turns, and no permutations in 256 bits: V8 12 aborts when it meets them. */
const inMemory = {
  begin: range(16).flatMap((i) => [...loadInitial.slice(2 * i, 2 * i + 2), ...storeHalves(`x${i}`, `z${i}`, 32 * i)]),
  beginTurn: halves((x, at) => `${x} = v128.load(scratch, WORKING + ${at});`),
  endTurn: range(16).flatMap((i) => storeHalves(`x${i}`, `z${i}`, 32 * exchangedPlace(i))),
  end: [],
  output: outputByHalves,
};

/** The twenty rounds (section 2.3), with the statements of `polyOfTurn` woven in. */
function wideRounds(name, state, polyOfTurn) {
  const quarterRoundOfHalves = (indices) =>
    inTurn(["x", "z"].map((half) => quarterRound(wordsNamed(half, indices), rotateByShifts)));
  const round = (i) => (i % 2 === 0 ? columns : diagonals).flatMap(quarterRoundOfHalves);
  const rounds = weave(range(WIDE_ROUNDS).flatMap(round), polyOfTurn);
  return `function ${name}(scratch: u32): void {
${lines(2, [...countOn([0, 16]), ...state.begin, ...(polyOfTurn.length > 0 ? polyConstantsLoaded : [])])}
  let job = scratch;
  const end = scratch + ${4 * WIDE_GROUPS * WIDE_TURNS};
  do {
${lines(4, [...state.beginTurn, ...rounds, ...state.endTurn])}
    job += ${4 * WIDE_GROUPS};
  } while (job != end);
${lines(2, state.end)}
}`;
}

/** Eight lanes, and eight groups of Poly1305. */
function wideLaneKernel(state) {
  const poly = range(WIDE_GROUPS).flatMap((g) => [...polyGroup(g), ...polyEnd(g)]);
  return `/** The rounds of all lanes, from INITIAL to WORKING, and the groups of Poly1305. */
${wideRounds("laneRounds", state, poly)}

/** The rounds alone. */
${wideRounds("plainRounds", state, [])}

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
    ...turn("b", 1),
    ...turn("c", 2),
    ...turn("d", 3),
    ...round(),
    ...turn("b", 3),
    ...turn("c", 2),
    ...turn("d", 1),
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
