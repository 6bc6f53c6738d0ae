// The AEAD of a build, brought to the shape that the regression check measures.

import {
  OPEN_COUNTER,
  OPEN_DESCRIPTOR_SIZE,
  OPEN_DESTINATION,
  OPEN_LENGTH,
  OPEN_SOURCE,
  SEAL_DESCRIPTOR_SIZE,
  SEAL_LENGTH,
  SEAL_TEXT,
  TAG_SIZE,
} from "../../assembly/aead/abi.js";
import { type EngineBuild, instantiateAead } from "../../src/engine/module.js";
import { webAssembly } from "../../src/engine/webassembly.js";

/** Something whose speed is measured. */
export interface Contender {
  readonly name: string;
  /** Messages that one run handles. */
  readonly messages: number;
  readonly run: () => void;
}

const CASES = [
  { size: 1280, batch: 8 },
  { size: 1280, batch: 1 },
  { size: 64, batch: 8 },
] as const;

const SCRATCH = 0x10000;
const KEY = 0x12000;
const SEAL = 0x13000;
const OPEN = 0x14000;
const TEXTS = 0x20000;
/** Pages of 64 KiB: everything above and three times eight messages. */
const PAGES = 4;

/** Sealing and opening: eight messages of 1280 bytes together, one, and eight of 64 bytes. */
export async function sealAndOpen(build: EngineBuild): Promise<Contender[]> {
  const contenders: Contender[] = [];
  for (const { size, batch } of CASES) {
    const memory = new webAssembly.Memory({ initial: PAGES, maximum: 65535, shared: true });
    const { sealPackets, openPackets } = await instantiateAead(memory, build);
    const view = new DataView(memory.buffer);
    const stride = size + 2 * TAG_SIZE;
    const setSeal = (i: number, text: number) => {
      view.setUint32(SEAL + i * SEAL_DESCRIPTOR_SIZE + SEAL_TEXT, text, true);
      view.setUint32(SEAL + i * SEAL_DESCRIPTOR_SIZE + SEAL_LENGTH, size, true);
    };
    for (let i = 0; i < batch; i++) {
      const descriptor = OPEN + i * OPEN_DESCRIPTOR_SIZE;
      setSeal(i, TEXTS + i * stride);
      view.setUint32(descriptor + OPEN_SOURCE, TEXTS + i * stride, true);
      view.setUint32(descriptor + OPEN_DESTINATION, TEXTS + (batch + i) * stride, true);
      view.setUint32(descriptor + OPEN_LENGTH, size, true);
      view.setBigUint64(descriptor + OPEN_COUNTER, BigInt(i), true);
    }
    sealPackets(batch, KEY, 0n, SEAL, SCRATCH);
    // Opening needs those ciphertexts: from here on, sealing works on other memory.
    for (let i = 0; i < batch; i++) setSeal(i, TEXTS + (2 * batch + i) * stride);
    const name = (operation: string) => `${build}: ${operation}, ${batch} x ${size} bytes`;
    contenders.push(
      { name: name("seal"), messages: batch, run: () => sealPackets(batch, KEY, 0n, SEAL, SCRATCH) },
      { name: name("open"), messages: batch, run: () => openPackets(batch, KEY, OPEN, SCRATCH) },
    );
  }
  return contenders;
}
