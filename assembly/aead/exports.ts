// The AEAD and the checksum as module exports, for tests, benchmarks and the choice of an engine at start.

export { fold as checksumFold, sum as checksumSum } from "../checksum";
export { openMessage, openMixed, openPackets, poly1305Tag, sealMessage, sealMixed, sealPackets } from "./index";

/** `memory.copy`, for the benchmark. */
export function copyBytes(destination: usize, source: usize, length: usize): void {
  memory.copy(destination, source, length);
}
