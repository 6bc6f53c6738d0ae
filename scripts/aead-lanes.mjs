// The vector half of the AEAD's lane kernels: ChaCha20 (RFC 8439, section 2.3) of four or eight blocks, word i of all of them in
// vector x_i or, with eight lanes, in the vectors x_i and z_i. `fourLanes` and `eightLanes` say how, generate-aead.mjs for whom.
//
// A state is 16 rows of one word of each lane, see assembly/aead/scratch.ts.

import {
  columns,
  diagonals,
  exchange,
  exchangedPlace,
  inTurn,
  lines,
  quarterRound,
  range,
  rotateByBytes,
  rotateByShifts,
  rotationMasks,
  staggered,
  transpose,
  words,
} from "./aead-statements.mjs";

/** Four lanes in vectors of 128 bits. Bytes are rotated by permutations; four quarter rounds at a time, for they do not depend on each other. */
export const fourLanes = {
  count: 4,
  halves: ["x"],
  begin: rotationMasks,
  round: (indices) => inTurn(indices.map((quarter) => quarterRound(named("x", quarter), rotateByBytes))),
};

/**
 * Eight lanes in pairs of vectors that V8 merges: each statement is written for one half and the other. Two quarter rounds at a
 * time: the processor looks only so far ahead for work that can be done at once, half as far while its core has another thread.
 * More at a time do not fit into the registers.
 */
export const eightLanes = {
  count: 8,
  halves: ["x", "z"],
  begin: [],
  round: (indices) => {
    const both = (quarter) => inTurn(["x", "z"].map((half) => quarterRound(named(half, quarter), rotateByShifts)));
    const [a, b, c, d] = indices.map(both);
    return [...staggered(a, b, 2, 2), ...staggered(c, d, 2, 2)];
  },
};

/** Bytes of a row. */
function row(lanes) {
  return 4 * lanes.count;
}

/** The first `count` rounds. */
export const laneRounds = (lanes, count) => range(count).flatMap((i) => lanes.round(i % 2 === 0 ? columns : diagonals));

// From one turn of a kernel's loop to the next the state is in locals, or in memory. After an odd number of rounds words change
// places.

export function stateInLocals(lanes, rounds) {
  const exchanged = rounds % 2 === 0 ? [] : lanes.halves.flatMap((half) => exchange(half, exchangedPlace));
  return { begin: loadState(lanes, "scratch", "INITIAL + "), beginTurn: [], endTurn: exchanged };
}

export function stateInMemory(lanes, rounds) {
  const store = storeState(lanes, rounds % 2 === 0 ? (i) => i : exchangedPlace);
  if (lanes.halves.length === 1) {
    const endTurn = ["state = scratch + WORKING;", ...store];
    return { begin: ["let state = scratch + INITIAL;"], beginTurn: loadState(lanes, "state", ""), endTurn };
  }
  // V8 merges only what it knows to be adjacent in one place.
  const begin = [...loadState(lanes, "scratch", "INITIAL + "), ...storeState(lanes, (i) => i)];
  return { begin, beginTurn: loadState(lanes, "scratch", "WORKING + "), endTurn: store };
}

function loadState(lanes, base, from) {
  return words.flatMap((i) =>
    lanes.halves.map((half, h) => `let ${half}${i} = v128.load(${base}, ${from}${row(lanes) * i + 16 * h});`),
  );
}

function storeState(lanes, place) {
  return words.flatMap((i) =>
    storePair(
      lanes.halves.map((half) => half + i),
      row(lanes) * place(i),
    ),
  );
}

/** The second half comes first: V8 merges the two stores then, and would write the first half twice otherwise. */
function storePair(halves, at) {
  return halves.map((half, h) => `v128.store(scratch, ${half}, WORKING + ${at + 16 * h});`).reverse();
}

/** The block counters of this kernel. */
export const countOn = (lanes) =>
  lanes.halves.map((_, h) => {
    const at = 16 * h;
    const counters = `i32x4.add(v128.load(scratch, COUNTERS + ${at}), v128.load(scratch, COUNTER_STEPS + ${at}))`;
    return `v128.store(scratch, ${counters}, COUNTERS + ${at});`;
  });

// What comes after the rounds: the initial state is added to the working state, words are turned into blocks, and the text is xored.
// Kernels end with the statements `begin`, if their state is in locals, and `end`; `functions` are what those call.

/** In 128 bits, four lanes at a time, from WORKING: as part of a kernel, */
export const outputInline = { begin: storeState(fourLanes, (i) => i), end: outputOfFour(fourLanes, 0), functions: "" };

/** or in functions. */
export const outputBy128 = {
  begin: storeState(eightLanes, (i) => i),
  end: ["outputOfFour0(scratch);", "outputOfFour1(scratch);"],
  functions: [0, 1].map((half) => functionOf(`outputOfFour${half}`, outputOfFour(eightLanes, 4 * half))).join("\n\n"),
};

/**
 * In 256 bits, for eight lanes: the keystream is made where the state is, quarter by quarter, each for lanes 0 and 4, 1 and 5, 2 and
 * 6, 3 and 7.
 */
export const outputBy256 = {
  begin: [
    ...words.flatMap((i) =>
      ["x", "z"].map(
        (half, h) => `${half}${i} = i32x4.add(${half}${i}, v128.load(scratch, INITIAL + ${32 * i + 16 * h}));`,
      ),
    ),
    ...range(4).flatMap((quarter) => {
      const four = range(4).map((i) => 4 * quarter + i);
      return [
        ...inTurn(["x", "z"].map((half) => transpose(...named(half, four), `${half}q${quarter}`))),
        ...range(4).flatMap((lane) =>
          storePair([`xq${quarter}${lane}`, `zq${quarter}${lane}`], keystreamPlace(quarter, lane)),
        ),
      ];
    }),
  ],
  end: ["xorTexts(scratch);"],
  functions: functionOf("xorTexts", range(8).flatMap(xorLane)),
};

function functionOf(name, statements) {
  return `function ${name}(scratch: u32): void {
${lines(2, statements)}
}`;
}

function keystreamPlace(quarter, lane) {
  return 128 * quarter + 32 * (lane & 3) + 4 * (lane & 4);
}

/** Xors the text of a lane, two quarters at a time: they are merged to 256 bits. */
function xorLane(lane) {
  return [
    ...addresses(lane, lane),
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
  ];
}

function outputOfFour(lanes, first) {
  const at = (word) => row(lanes) * word + 4 * first;
  const quarters = range(4).flatMap((quarter) => {
    const four = range(4).map((i) => 4 * quarter + i);
    const place = (word) => `v128.load(scratch, WORKING + ${at(word)}), v128.load(scratch, INITIAL + ${at(word)})`;
    return [
      ...four.map((word) => `const y${word} = i32x4.add(${place(word)});`),
      ...transpose(...named("y", four), `q${quarter}`),
      ...range(4).map((lane) => {
        const text = `v128.load(source${lane}, ${16 * quarter})`;
        return `v128.store(destination${lane}, v128.xor(q${quarter}${lane}, ${text}), ${16 * quarter});`;
      }),
    ];
  });
  return [...range(4).flatMap((lane) => addresses(lane, first + lane)), ...quarters];
}

function addresses(name, lane) {
  return [
    `const source${name} = load<u32>(scratch, SOURCES + ${4 * lane});`,
    `const destination${name} = load<u32>(scratch, DESTINATIONS + ${4 * lane});`,
  ];
}

function named(name, indices) {
  return indices.map((i) => `${name}${i}`);
}
