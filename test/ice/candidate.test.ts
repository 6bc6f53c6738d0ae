// Candidates: strings, priorities, foundations, credentials: spec 02, sections 3.1, 4.1, 4.2 and 15.3.18.

import assert from "node:assert/strict";
import { test } from "node:test";
import { toHex, viewOf } from "../../src/base/bytes.js";
import { isCandidateAddress } from "../../src/ice/candidate.js";
import { formatCandidate, type ParsedCandidate, parseCandidate } from "../../src/ice/candidate-string.js";
import { areUsable, generateCredentials } from "../../src/ice/credentials.js";
import { hostCandidate, relayCandidate, serverReflexiveCandidate } from "../../src/ice/local-candidate.js";
import { sipHash13 } from "../../src/ice/siphash.js";
import { hex } from "../support/hex.js";
import { address } from "../support/ice-network.js";
import { seededRandom } from "../support/random.js";
import { RECORDINGS, recordedCandidates, recordingSkip } from "../support/recorded.js";
import { readWycheproof, vectorSkip } from "../support/vectors.js";

function parsed(text: string): ParsedCandidate {
  const result = parseCandidate(text);
  return typeof result === "string" ? assert.fail(`${result}: ${text}`) : result;
}

test("spec 02, 4.2: the exact strings of a host, a server-reflexive and a relayed candidate", () => {
  const base = address("10.0.0.5:40123");
  assert.equal(
    formatCandidate(hostCandidate(base)),
    "candidate:fffeff7eedd1c3d03373177f 1 udp 2130706175 10.0.0.5 40123 typ host",
  );
  assert.equal(
    formatCandidate(serverReflexiveCandidate(address("203.0.113.7:62001"), base)),
    "candidate:fffeff644032ceb464f6fdce 1 udp 1694498559 203.0.113.7 62001 typ srflx",
  );
  assert.equal(
    formatCandidate(relayCandidate(address("198.51.100.9:51200"))),
    "candidate:fffeff029aca3b20fce932ec 1 udp 50331391 198.51.100.9 51200 typ relay",
  );
  assert.equal(
    formatCandidate(hostCandidate(address("[2001:db8::5]:40124"))),
    "candidate:ffffff7e49786e63834772ea 1 udp 2130706431 2001:db8::5 40124 typ host",
  );
});

test("spec 02, 15.1.8: sorted strings have relay before srflx before host, and IPv4 before IPv6", () => {
  const strings = ["10.0.0.5:1", "[2001:db8::5]:1"].flatMap((text) =>
    [
      hostCandidate(address(text)),
      serverReflexiveCandidate(address(text), address(text)),
      relayCandidate(address(text)),
    ].map(formatCandidate),
  );
  const kinds = strings.sort().map((text) => {
    const { candidate } = parsed(text);
    return `${candidate.kind}${candidate.address.family}`;
  });
  assert.deepEqual(kinds, ["relay4", "srflx4", "host4", "relay6", "srflx6", "host6"]);
});

test("spec 02, 15.3.18: what is parsed and what is not", () => {
  const { candidate, username } = parsed(
    "candidate:1 1 UDP 99 2001:db8::1 9 typ srflx tcptype x raddr 192.0.2.1 rport 8 generation 0 network-id 1 ufrag ab1 network-cost 5",
  );
  assert.equal(candidate.kind, "srflx");
  assert.equal(candidate.priority, 99);
  assert.equal(String(candidate.address), "[2001:db8::1]:9");
  assert.equal(String(candidate.related), "192.0.2.1:8");
  assert.equal(username, "ab1");
  assert.equal(parsed("candidate:1 1 udp 1 192.0.2.1 9 typ host and more").username, undefined);

  for (const [text, error] of [
    ["candidate:12344 bad value", "syntax"],
    ["", "syntax"],
    ["a=candidate:1 1 udp 1 192.0.2.1 9 typ host", "syntax"],
    ["candidate:1  1 udp 1 192.0.2.1 9 typ host", "syntax"],
    ["candidate:1 1 udp 4294967296 192.0.2.1 9 typ host", "syntax"],
    ["candidate:1 1 udp 1 192.0.2.300 9 typ host", "syntax"],
    ["candidate:1 1 udp 1 192.0.2.1 65536 typ host", "syntax"],
    ["candidate:1 1 udp 1 192.0.2.1 9 typ hosts", "syntax"],
    ["candidate:1 2 udp 1 192.0.2.1 9 typ host", "component"],
    ["candidate:1 1 tcp 1 192.0.2.1 9 typ host", "protocol"],
    ["candidate:1 1 udp 1 192.0.2.1 0 typ host", "address"],
    ["candidate:1 1 udp 1 0.0.0.0 9 typ host", "address"],
    [`candidate:${"1".repeat(600)} 1 udp 1 192.0.2.1 9 typ host`, "syntax"],
  ] as const)
    assert.equal(parseCandidate(text), error, text);
});

test("spec 02, 4.1: addresses that nobody can be reached at are none of candidates", () => {
  for (const text of ["169.254.1.1:1", "255.255.255.255:1", "224.0.0.1:1", "0.0.0.0:1", "[ff02::1]:1", "[::]:1"])
    assert.equal(isCandidateAddress(address(text)), false, text);
  for (const text of ["10.0.0.1:1", "127.0.0.1:1", "[fe80::1]:1", "[::1]:1", "[2001:db8::1]:1"])
    assert.equal(isCandidateAddress(address(text)), true, text);
});

test("every recorded candidate parses, and ours differ from it in the hash only", { skip: recordingSkip }, () => {
  for (const recording of RECORDINGS) {
    const strings = recordedCandidates(recording);
    assert.ok(strings.length > 0);
    for (const text of strings) {
      const { candidate } = parsed(text);
      assert.equal(formatCandidate(candidate), text);
      const make = { host: hostCandidate, relay: relayCandidate, srflx: undefined, prflx: undefined }[candidate.kind];
      if (make === undefined) continue;
      // The foundation's first 8 digits are the priority; the hash depends on the build of the program that was recorded.
      const withoutHash = (line: string) => line.replace(/^(candidate:\w{8})\w+/, "$1");
      assert.equal(withoutHash(formatCandidate(make(candidate.address))), withoutHash(text));
    }
  }
});

const SIPHASH = "wycheproof-siphash-1-3.json";

test("Wycheproof SipHash-1-3", { skip: vectorSkip(SIPHASH) }, () => {
  let checked = 0;
  for (const { key, msg, tag, result } of readWycheproof(SIPHASH)) {
    const bytes = new Uint8Array(8);
    viewOf(bytes).setBigUint64(0, sipHash13(hex(String(key)), hex(String(msg))), true);
    assert.equal(toHex(bytes) === tag, result === "valid");
    checked++;
  }
  assert.ok(checked >= 40, String(checked));
});

test("spec 02, 3.1: own credentials have 4 and 22 characters; any printable ones of others will do", () => {
  const { username, password } = generateCredentials(seededRandom(5));
  assert.match(username, /^[A-VX-Za-vx-z0-9]{4}$/);
  assert.match(password, /^[A-VX-Za-vx-z0-9]{22}$/);
  assert.equal(areUsable({ username, password }), true);
  assert.equal(areUsable({ username: "0123456789abcdef", password: "0123456789abcdef0123456789abcdef" }), true);
  for (const bad of ["", "a:b", "a b", "ü", "x".repeat(64)])
    assert.equal(areUsable({ username: bad, password }), false);
  for (const bad of ["", "a b", "x".repeat(257)]) assert.equal(areUsable({ username, password: bad }), false);
});
