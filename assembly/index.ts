// The packet engine: what build/engine.wasm exports. The module keeps no state of its own: every function takes the address of
// the caller's region in the shared memory (assembly/regions.ts), or of a table in it (assembly/records.ts).

import { AEAD_SCRATCH_SIZE } from "./aead/abi";
import { initializeDoor } from "./handshake-door";
import { initializeJobs } from "./jobs";
import { initializeReceive } from "./receive";
import { FRAME_COUNT, HELD_COUNT, MEMO_FAMILY, PENDING_COUNT, RUN_COUNT, SCRATCH_SIZE } from "./regions";
import { initializeQueue } from "./transmit";

export * from "./aead/exports";
export { setMac1Key } from "./handshake-door";
export { inbound } from "./inbound";
export { help } from "./jobs";
export { holdFrame, outboundHeld, sealForPeer } from "./outbound";
export { prepareReceive } from "./receive";
export { relayDatagrams } from "./relay/forward";
export { beginRelayBatch, prepareRelayReceive, relayMessage, relayRun, splitRelayed } from "./relay/output";
export { insertChannel, insertClient, removeChannel, removeClient } from "./relay/table";
export { finishSealing } from "./seal";
export { insertPrefix, removePrefix, setPrefixLength } from "./tables/prefix";
export { lookupRoute } from "./tables/routes";
export { insertSession, lookupSession, removeSession } from "./tables/sessions";
export { transmitDone, transmitDropFirst, transmitMessages, transmitReady, transmitSplitFirst } from "./transmit";

/** Prepares a region whose pointers and switches are set. Counters and the exception ring keep their content. */
export function initialize(region: u32): void {
  if (AEAD_SCRATCH_SIZE > SCRATCH_SIZE) ERROR("the AEAD needs more scratch memory than a region has");
  store<u32>(region, 0, FRAME_COUNT);
  store<u32>(region, 0, RUN_COUNT);
  store<u32>(region, 0, PENDING_COUNT);
  store<u32>(region, 0, MEMO_FAMILY);
  store<u32>(region, 0, HELD_COUNT);
  initializeDoor(region);
  initializeJobs(region);
  for (let family: u32 = 4; family <= 6; family += 2) {
    initializeQueue(region, family);
    initializeReceive(region, family);
  }
}
