// What the AEAD's lane kernels do in the scalar units while ChaCha20 of their lanes runs in the vector units. A companion is five lists
// of statements: what comes before the turns of a kernel's loop, what is woven into the rounds of a turn, what follows the rounds,
// what is woven into the end of the lanes after all turns, and what follows that.
//
//    groups    Poly1305 of 64 bytes for each lane, each into a state of its own
//    text      Poly1305 of as many bytes that follow each other, into one state: h and what it is multiplied with stay where they are
//    key       ChaCha20 of block 0 of STATE and PAIR_WORDS, whose start is the one-time key, to KEY_BLOCK of lane area 0
//    nothing
//
// Each takes a shape, see generate-aead.mjs: the `rounds` of a turn, and what is absorbed in it; whether values are `carried` from one
// turn to the next in locals, or through memory. `constants` are what Poly1305 takes for constants.

import {
  exchange,
  exchangedPlace,
  polyBlocks,
  polyEnd,
  polyKey,
  polyLoadH,
  polyLoadKey,
  range,
  scalarRounds,
  words,
} from "./aead-statements.mjs";

export const companions = { groups, text, key, nothing: () => nothing };

const nothing = { begin: [], turn: [], afterTurn: [], meanwhile: [], end: [] };

/**
 * `shape.groups` of them in a turn. In memory, the stores of the last one come behind the rounds, for compilers that order a turn by a walk
 * backwards from its stores, and the loads of all keys come first.
 */
function groups(shape, constants) {
  const last = shape.groups - 1;
  const load = (g) => [...polyLoadH(g), ...polyBlocks(g, 4, true)];
  const all = range(shape.groups);
  return {
    ...nothing,
    begin: [...constants, "let job = scratch;"],
    turn: shape.carried
      ? all.flatMap((g) => [...polyKey(g), ...load(g), ...polyEnd(g)])
      : [...all.flatMap(polyKey), ...all.flatMap((g) => [...load(g), ...(g < last ? polyEnd(g) : [])])],
    afterTurn: [...(shape.carried ? [] : polyEnd(last)), `job += ${4 * shape.groups};`],
  };
}

/** `shape.blocks` in a turn, and `shape.rest` after all turns. */
function text({ carried, blocks, rest }, constants) {
  const state = [...polyLoadKey(0), ...polyLoadH(0)];
  const absorb = (count) => (carried ? polyBlocks(0, count, false) : [...state, ...polyBlocks(0, count, true)]);
  return {
    begin: [
      ...constants,
      "let text0 = load<u32>(scratch, POLY_TEXTS);",
      "const state0 = load<u32>(scratch, POLY_TARGETS);",
      ...(carried ? [...state, "let carry_0: u64 = 0;"] : []),
    ],
    turn: absorb(blocks),
    afterTurn: [...(carried ? [] : polyEnd(0)), `text0 += ${16 * blocks};`],
    meanwhile: rest > 0 ? absorb(rest) : [],
    end: carried || rest > 0 ? polyEnd(0) : [],
  };
}

function key({ carried, rounds }) {
  const place = (i) => `LANE_AREAS + KEY_BLOCK + ${4 * i}`;
  const initial = (i) => `load<u32>(scratch, ${i < 12 ? `STATE + ${4 * i}` : `PAIR_WORDS + ${4 * (i - 12)}`})`;
  const store = (i, value) => `store<u32>(scratch, ${value}, ${place(i)});`;
  const current = (i) => (carried ? `k${i}` : `load<u32>(scratch, ${place(i)})`);
  const after = (i) => (rounds % 2 === 0 ? i : exchangedPlace(i));
  const load = words.map((i) => `let k${i} = ${carried ? initial(i) : current(i)};`);
  return {
    ...nothing,
    begin: carried ? load : words.map((i) => store(i, initial(i))),
    turn: [...(carried ? [] : load), ...scalarRounds("k", rounds)],
    afterTurn: carried ? exchange("k", after) : words.map((i) => store(after(i), `k${i}`)),
    // The one-time key has 32 bytes.
    end: range(8).map((i) => store(i, `${current(i)} + ${initial(i)}`)),
  };
}
