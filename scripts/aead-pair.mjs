// The AEAD's kernel for short messages: ChaCha20 (RFC 8439, section 2.3) of two blocks, horizontally.

import { inTurn, lines, quarterRound, range, rotateByBytes, rotationMasks } from "./aead-statements.mjs";

/**
 * Two blocks, horizontally: a vector holds a row of a block's four times four words, and between column and diagonal rounds
 * the rows are turned. For short packets: it takes less time than the lane kernel, though more for each block.
 */
export function pairKernel() {
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
