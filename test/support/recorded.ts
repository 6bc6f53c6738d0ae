// The recorded exchanges of ../shared/vectors/recorded-2024: what tests need to understand them.

import { concatBytes } from "../../src/base/bytes.js";
import { parseChannelData } from "../../src/stun/channel-data.js";
import { type CapturedDatagram, readCapture } from "./pcap.js";
import { readJsonLines, vectorPath, vectorSkip } from "./vectors.js";

/** The two recorded runs. */
export const RECORDINGS = ["direct", "relayed"] as const;

/** Name of a recorded run. */
export type Recording = (typeof RECORDINGS)[number];

/** Why tests of the recordings cannot run; `false` when they can. */
export const recordingSkip = vectorSkip(
  ...RECORDINGS.flatMap((name) => [`recorded-2024/${name}.jsonl`, `recorded-2024/${name}.pcap`]),
);

/** The relay's port: TURN control and channel data go to and from it. */
const RELAY_PORT = 3478;

/** All objects anywhere in the control plane messages of a run. */
export function* recordedObjects(name: Recording): IterableIterator<Record<string, unknown>> {
  const pending: unknown[] = readJsonLines(`recorded-2024/${name}.jsonl`);
  for (let value = pending.shift(); value !== undefined; value = pending.shift()) {
    if (typeof value !== "object" || value === null) continue;
    pending.push(...Object.values(value).filter((child) => child !== undefined));
    if (!Array.isArray(value)) yield value as Record<string, unknown>;
  }
}

/** User names (or ICE user fragments) and their passwords: TURN's, and ICE's. */
export function recordedPasswords(name: Recording): Map<string, string> {
  const passwords = new Map<string, string>();
  for (const object of recordedObjects(name)) {
    const { username, password } = object;
    if (typeof username === "string" && typeof password === "string") passwords.set(username, password);
  }
  return passwords;
}

/** All candidate strings that were signalled, with repetitions. */
export function recordedCandidates(name: Recording): string[] {
  const strings: string[] = [];
  for (const object of recordedObjects(name)) {
    const { candidates } = object;
    if (Array.isArray(candidates)) strings.push(...candidates.map(String));
  }
  return strings;
}

/** The datagrams of a run; channel data is unwrapped and marked as relayed. Copies, not views of shared memory. */
export function recordedDatagrams(name: Recording): (CapturedDatagram & { readonly relayed: boolean })[] {
  return readCapture(vectorPath(`recorded-2024/${name}.pcap`)).map((datagram) => {
    const withRelay = datagram.source.port === RELAY_PORT || datagram.destination.port === RELAY_PORT;
    const channelData = withRelay ? parseChannelData(datagram.payload) : "too-short";
    if (typeof channelData === "string") return { ...datagram, relayed: false };
    return { ...datagram, payload: concatBytes(channelData.data), relayed: true };
  });
}
