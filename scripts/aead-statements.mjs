// Statements of the AEAD's kernels, from which generate-aead.mjs puts them together: a quarter round of ChaCha20 and a block of
// Poly1305 (RFC 8439, sections 2.1 and 2.5), each as a list of lines of AssemblyScript, and what arranges such lists.

export const range = (count) => Array.from({ length: count }, (_, i) => i);

// --- ChaCha20 ---------------------------------------------------------------------------------------------------------

/** Rotation of every 32-bit lane. */
export const rotateByShifts = (x, bits) => `v128.or(i32x4.shl(${x}, ${bits}), i32x4.shr_u(${x}, ${32 - bits}))`;

/** Rotation by whole bytes is a permutation. The constant lane numbers stay in a register. */
export const rotateByBytes = (x, bits) =>
  bits % 8 === 0 ? `i8x16.swizzle(${x}, rotate${bits})` : rotateByShifts(x, bits);

export const rotationMasks = [
  "const rotate16 = i8x16(2, 3, 0, 1, 6, 7, 4, 5, 10, 11, 8, 9, 14, 15, 12, 13);",
  "const rotate8 = i8x16(3, 0, 1, 2, 7, 4, 5, 6, 11, 8, 9, 10, 15, 12, 13, 14);",
];

/** One line of the quarter round (RFC 8439, section 2.1): sum += addend; target ^= sum; target <<<= bits. */
const quarterRoundLine = (sum, addend, target, bits, rotate) => [
  `${sum} = i32x4.add(${sum}, ${addend});`,
  `${target} = v128.xor(${target}, ${sum});`,
  `${target} = ${rotate(target, bits)};`,
];

export const quarterRound = ([a, b, c, d], rotate) => [
  ...quarterRoundLine(a, b, d, 16, rotate),
  ...quarterRoundLine(c, d, b, 12, rotate),
  ...quarterRoundLine(a, b, d, 8, rotate),
  ...quarterRoundLine(c, d, b, 7, rotate),
];

/** The statements of two lists in turn, `size` at a time, those of the second `lag` such turns behind. Both are of one length. */
export function staggered(first, second, size, lag) {
  const turns = range(first.length / size + lag);
  const part = (list, turn) => (turn < 0 ? [] : list.slice(size * turn, size * (turn + 1)));
  return turns.flatMap((turn) => [...part(first, turn), ...part(second, turn - lag)]);
}

/** One line of the quarter round for a block alone, in scalars. */
const scalarLine = (sum, addend, target, bits) => [
  `${sum} += ${addend};`,
  `${target} = rotl<u32>(${target} ^ ${sum}, ${bits});`,
];

/** The first `count` rounds of a block whose words are scalars, four quarter rounds at a time. */
export const scalarRounds = (name, count) =>
  range(count).flatMap((i) =>
    inTurn(
      (i % 2 === 0 ? columns : diagonals).map((indices) => {
        const [a, b, c, d] = indices.map((word) => name + word);
        return [
          ...scalarLine(a, b, d, 16),
          ...scalarLine(c, d, b, 12),
          ...scalarLine(a, b, d, 8),
          ...scalarLine(c, d, b, 7),
        ];
      }),
    ),
  );

/** Takes one statement of each list in turn. */
export const inTurn = (lists) => lists[0].flatMap((_, i) => lists.map((list) => list[i]));

/** The quarter rounds of a double round (section 2.3), as indices of state words: four columns, then four diagonals. */
export const columns = range(4).map((i) => [i, i + 4, i + 8, i + 12]);
export const diagonals = range(4).map((i) => [i, 4 + ((i + 1) & 3), 8 + ((i + 2) & 3), 12 + ((i + 3) & 3)]);

/** The indices of all words. */
export const words = range(16);

/**
 * After an odd number of rounds words change places such that column rounds become diagonal rounds and the other way round: word c
 * of row r goes to r - c; the four words of a column (r - c with one c) are then those of a diagonal.
 */
export const exchangedPlace = (word) => (word & ~3) + (((word >> 2) - word) & 3);

/** Word i of a state in locals becomes what word `place(i)` was, and the other way round. */
export function exchange(name, place) {
  return words.flatMap((word) => {
    const other = place(word);
    if (other <= word) return [];
    const [a, b] = [`${name}${word}`, `${name}${other}`];
    return [`const kept_${a} = ${a};`, `${a} = ${b};`, `${b} = kept_${a};`];
  });
}

// --- Poly1305 ---------------------------------------------------------------------------------------------------------

/** Offsets in a Poly1305 state: assembly/aead/poly1305.ts explains it and the arithmetic. */
const polyPlaces = { middle: 0, upper: 24, lower: 48 };
const polyH = (i) => 96 + 8 * i;

/** What a group `g` multiplies with; */
export const polyLoadKey = (g) =>
  Object.entries(polyPlaces).flatMap(([block, at]) =>
    range(3).map((i) => `const ${block}${i}_${g} = load<u64>(state${g}, ${at + 8 * i});`),
  );
/** and the limbs of h. */
export const polyLoadH = (g) => range(4).map((i) => `let h${i}_${g} = load<u64>(state${g}, ${polyH(i)});`);

/** Group `g` of the kernel's descriptor: what it absorbs, into which state, and the state's key; */
export const polyKey = (g) => [
  `const text${g} = load<u32>(job, POLY_TEXTS + ${4 * g});`,
  `const state${g} = load<u32>(job, POLY_TARGETS + ${4 * g});`,
  ...polyLoadKey(g),
];
/**
 * `count` blocks. `isFresh` when h has just been loaded, so that there is no carry of a block before. The group before may have the
 * same state, so its h must have been stored.
 */
export const polyBlocks = (g, count, isFresh) =>
  range(count).flatMap((block) => polyBlock(g, 16 * block, isFresh && block === 0));

/**
 * h = (h + block) * r, for the block at `offset` of the group's text. A limb of the result is cut off a sum before the sum's
 * upper half is carried on: that half may then be made in the sum's own register. What is known last (t0, from the carry of the
 * block before; the carry) comes last.
 */
function polyBlock(g, offset, isFirst = false) {
  const id = `${g}_${offset}`;
  const t = (i) => `t${i}_${id}`;
  const named = (name) => `${name}_${id}`;
  const key = (name) => `${name}_${g}`;
  const limb = (i) => `h${i}_${g} = ${named(`d${i}`)} & 0xffffffff;`;
  const carry = (i) => `(${named(`d${i}`)} >> 32)`;
  const define = (name, value) => `const ${named(name)} = ${value};`;
  return [
    ...range(4).map((i) => {
      const word = `<u64>load<u32>(text${g}, ${offset + 4 * i})`;
      return `let ${t(i)} = h${i}_${g} + ${i === 3 ? `(${word} | highBit)` : word};`;
    }),
    ...(isFirst ? [] : [`${t(0)} += carry_${g};`]),
    define("sum1", `${t(1)} + ${t(3)}`),
    define("sum0", `${t(0)} + ${t(2)}`),
    define("upper", `(${t(2)} + ${t(3)}) * ${key("upper0")}`),
    define("upper0", `${t(3)} * ${key("upper1")} + ${named("upper")}`),
    define("upper1", `${t(2)} * ${key("upper2")} + ${named("upper")}`),
    define("middle", `(${named("sum0")} + ${named("sum1")}) * ${key("middle0")}`),
    define("middle0", `${named("sum1")} * ${key("middle1")} + ${named("middle")}`),
    define("d0", `${named("upper0")} + ${named("middle0")}`),
    limb(0),
    define("middle1", `${named("sum0")} * ${key("middle2")} + ${named("middle")}`),
    define("d1", `${named("upper1")} + ${named("middle1")} + ${carry(0)}`),
    limb(1),
    define("lower", `(${t(0)} + ${t(1)}) * ${key("lower0")}`),
    define("lower0", `${t(1)} * ${key("lower1")} + ${named("lower")}`),
    define("d2", `${named("lower0")} + ${named("middle0")} + ${carry(1)}`),
    limb(2),
    define("lower1", `${t(0)} * ${key("lower2")} + ${named("lower")}`),
    define("d3", `${named("lower1")} + ${named("middle1")} + ${carry(2)}`),
    `h3_${g} = ${named("d3")} & mask34;`,
    `${isFirst ? "let " : ""}carry_${g} = 5 * (${named("d3")} >> 34);`,
  ];
}

/** What polyBlock takes for constants. */
export const polyConstants = ["const highBit: u64 = HIGH_BIT;", "const mask34: u64 = MASK34;"];

/** The same, unknown to the compiler: it would load a register with each constant at each use. */
export const polyConstantsLoaded = [
  "const highBit = load<u64>(scratch, POLY_CONSTANTS);",
  "const mask34 = load<u64>(scratch, POLY_CONSTANTS + 8);",
];

/** Stores h. */
export const polyEnd = (g) => [
  `h0_${g} += carry_${g};`,
  ...range(4).map((i) => `store<u64>(state${g}, h${i}_${g}, ${polyH(i)});`),
];

/** Poly1305 alone, of one text and of two at a time: one waits for its own results, so that two take little longer. */
export const polyKernels = () => `/** Absorbs \`blocks\` blocks of 16 bytes at \`text0\` into \`state0\`. */
export function absorb(state0: u32, text0: u32, blocks: u32): void {
${lines(2, [...polyConstants, ...polyLoadKey(0), ...polyLoadH(0), "let carry_0: u64 = 0;"])}
  for (const end = text0 + (blocks << 4); text0 != end; text0 += 16) {
${lines(4, polyBlock(0, 0))}
  }
${lines(2, polyEnd(0))}
}

/** The same, and as many blocks at \`text1\` into another state, \`state1\`. */
export function absorbPair(state0: u32, text0: u32, state1: u32, text1: u32, blocks: u32): void {
${lines(2, [...polyConstants, ...[0, 1].flatMap((g) => [...polyLoadKey(g), ...polyLoadH(g)]), "let carry_0: u64 = 0;", "let carry_1: u64 = 0;"])}
  for (const end = text0 + (blocks << 4); text0 != end; text0 += 16) {
${lines(4, inTurn([polyBlock(0, 0), polyBlock(1, 0)]))}
    text1 += 16;
  }
${lines(2, [...polyEnd(0), ...polyEnd(1)])}
}
`;

// --- Arrangement -------------------------------------------------------------------------------------------------------

/** Spreads `minor` evenly between the statements of `major`. */
export function weave(major, minor) {
  const woven = [];
  let taken = 0;
  major.forEach((statement, i) => {
    woven.push(statement);
    for (const due = Math.round(((i + 1) * minor.length) / major.length); taken < due; taken++)
      woven.push(minor[taken]);
  });
  return [...woven, ...minor.slice(taken)];
}

export const lines = (indent, statements) => statements.map((statement) => " ".repeat(indent) + statement).join("\n");

/**
 * From words of four blocks to blocks: the transposition of four vectors of four 32-bit words. In this form because V8 from version
 * 13 on merges pairs of these very permutations to 256 bits.
 */
export const transpose = (a, b, c, d, name) => [
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
