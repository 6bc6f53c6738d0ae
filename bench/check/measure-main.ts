// One measurement for the regression check, as a program: prints a JSON object of ratios, in which more is better. Each is the speed
// of something of ours relative to a yardstick that is not ours, sodium-native's sealing of 1280 bytes, measured in the same moments.
//
// Machines have moods that last for seconds: a neighbour on the same core, a lower clock. So yardstick and contenders take turns in
// windows below a millisecond, and only the rounds count in which the yardstick was fastest.

import { createRequire } from "node:module";
import { chooseBuild, enableRevectorization } from "../../src/engine/builds.js";
import { ENGINE_BUILDS } from "../../src/engine/module.js";
import { LOADS, Pair } from "../engine/pair.js";
import { median } from "../statistics.js";
import { type Contender, sealAndOpen } from "./contenders.js";

/** Rounds, how many of them count, and how many warm up. */
const ROUNDS = 400;
const COUNTED = 100;
const WARM_UP = 60;
/** Length of a window in nanoseconds. */
const WINDOW = 300_000;

const revectorizes = enableRevectorization();
const contenders: Contender[] = [];
for (const build of ENGINE_BUILDS) {
  if (build === "wide" && !revectorizes) continue;
  contenders.push(...(await sealAndOpen(build)));
}
const { build } = await chooseBuild();
const pair = await Pair.create(1000, build);
const yardstick = sodiumSeal();

const yardsticks: number[] = [];
const rates = contenders.map((): number[] => []);
const engine = { outbound: [] as number[], inbound: [] as number[] };
const [load] = LOADS;
if (load === undefined) throw new Error("the engine suite has no loads");
for (let round = -WARM_UP; round < ROUNDS; round++) {
  const base = rate(yardstick);
  const ratios = contenders.map((contender) => rate(contender) / base);
  const { outbound, inbound } = pair.measure(load, WINDOW / 1e6);
  if (round < 0) continue;
  yardsticks.push(base);
  for (const [i, ratio] of ratios.entries()) rates[i]?.push(ratio);
  engine.outbound.push(1e9 / outbound / base);
  engine.inbound.push(1e9 / inbound / base);
}

const results: Record<string, number> = {};
for (const [i, { name }] of contenders.entries()) results[name] = best(rates[i] ?? []);
results["engine: outbound, trains"] = best(engine.outbound);
results["engine: inbound, trains"] = best(engine.inbound);
process.stdout.write(`${JSON.stringify(results)}\n`);

/** The median of the rounds in which the yardstick was fastest. */
function best(ratios: readonly number[]): number {
  const order = [...yardsticks.keys()].sort((i, j) => (yardsticks[j] ?? 0) - (yardsticks[i] ?? 0));
  return median(order.slice(0, COUNTED).map((i) => ratios[i] ?? 0));
}

/** Messages per second in one window. */
function rate({ messages, run }: Omit<Contender, "name">): number {
  const start = process.hrtime.bigint();
  let calls = 0;
  let elapsed = 0;
  do {
    for (let i = 0; i < 8; i++) run();
    calls += 8;
    elapsed = Number(process.hrtime.bigint() - start);
  } while (elapsed < WINDOW);
  return (1e9 * calls * messages) / elapsed;
}

function sodiumSeal(): Omit<Contender, "name"> {
  interface Sodium {
    crypto_aead_chacha20poly1305_ietf_encrypt(
      ciphertext: Buffer,
      plaintext: Buffer,
      additionalData: null,
      secretNonce: null,
      nonce: Buffer,
      key: Buffer,
    ): number;
  }
  const sodium = createRequire(import.meta.url)("sodium-native") as Sodium;
  const [key, nonce, plaintext, ciphertext] = [32, 12, 1280, 1296].map((length) => Buffer.alloc(length)) as [
    Buffer,
    Buffer,
    Buffer,
    Buffer,
  ];
  const run = () => {
    sodium.crypto_aead_chacha20poly1305_ietf_encrypt(ciphertext, plaintext, null, null, nonce, key);
  };
  return { messages: 1, run };
}
