// The configuration protocol as text: requests parsed, answers encoded. https://www.wireguard.com/xplatform/

import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { IpPrefix, SocketAddress } from "../../src/base/address.js";
import { encodeConfiguration, encodeResult } from "../../src/uapi/encoder.js";
import { ERRNO } from "../../src/uapi/errno.js";
import { MAX_LINE_LENGTH, MAX_REQUEST_LENGTH, type Request, RequestParser } from "../../src/uapi/parser.js";
import { repeated } from "../support/hex.js";

const key = (byte: number) => byte.toString(16).padStart(2, "0").repeat(32);

function prefix(text: string): IpPrefix {
  const parsed = IpPrefix.parse(text);
  assert.ok(parsed);
  return parsed;
}

function parse(text: string): Request[] {
  return [...new RequestParser().push(text)];
}

const EXAMPLE = `set=1
private_key=${key(1)}
fwmark=0
listen_port=12912
replace_peers=true
public_key=${key(2)}
preshared_key=${key(3)}
replace_allowed_ips=true
allowed_ip=192.168.4.4/32
endpoint=[2001:db8::123]:51820
public_key=${key(4)}
protocol_version=1
update_only=true
allowed_ip=192.168.4.6/24
allowed_ip=-2001:db8::/32
persistent_keepalive_interval=111
endpoint=192.0.2.7:51
public_key=${key(5)}
remove=true

`;

test("a set request with every key", () => {
  const [request, ...others] = parse(EXAMPLE);
  assert.deepEqual(others, []);
  assert.deepEqual(request, {
    type: "set",
    change: {
      privateKey: repeated(1, 32),
      fwmark: 0,
      listenPort: 12912,
      replacePeers: true,
      peers: [
        {
          publicKey: repeated(2, 32),
          presharedKey: repeated(3, 32),
          replaceAllowedIps: true,
          allowedIps: [{ prefix: prefix("192.168.4.4/32"), remove: false }],
          endpoint: SocketAddress.parse("[2001:db8::123]:51820"),
        },
        {
          publicKey: repeated(4, 32),
          updateOnly: true,
          persistentKeepaliveInterval: 111,
          endpoint: SocketAddress.parse("192.0.2.7:51"),
          allowedIps: [
            { prefix: prefix("192.168.4.0/24"), remove: false },
            { prefix: prefix("2001:db8::/32"), remove: true },
          ],
        },
        { publicKey: repeated(5, 32), remove: true, allowedIps: [] },
      ],
    },
  });
});

test("a request means the same however the stream is cut, and several may follow each other", () => {
  const stream = `get=1\n\n${EXAMPLE}get=1\n\n`;
  const expected = parse(stream);
  assert.deepEqual(
    expected.map(({ type }) => type),
    ["get", "set", "get"],
  );
  fc.assert(
    fc.property(fc.array(fc.nat(stream.length), { maxLength: 20 }), (cuts) => {
      const parser = new RequestParser();
      const requests: Request[] = [];
      let from = 0;
      for (const to of [...cuts.sort((a, b) => a - b), stream.length]) {
        requests.push(...parser.push(stream.slice(from, to)));
        from = to;
      }
      assert.deepEqual(requests, expected);
    }),
    { numRuns: 100 },
  );
});

test("mistakes in a set request give an error number, and the next request is understood", () => {
  const peer = `public_key=${key(2)}`;
  for (const [lines, errno] of [
    ["unknown_key=1", ERRNO.EINVAL],
    ["no equals sign", ERRNO.EPROTO],
    [`private_key=${key(1).slice(2)}`, ERRNO.EINVAL],
    [`private_key=${key(1).replace("0", "g")}`, ERRNO.EINVAL],
    ["listen_port=65536", ERRNO.EINVAL],
    ["listen_port=-1", ERRNO.EINVAL],
    ["listen_port=", ERRNO.EINVAL],
    ["listen_port=0x10", ERRNO.EINVAL],
    ["fwmark=4294967296", ERRNO.EINVAL],
    ["replace_peers=false", ERRNO.EINVAL],
    // Keys of peers before there is one, keys of the device after.
    ["endpoint=192.0.2.1:1", ERRNO.EINVAL],
    [`${peer}\nlisten_port=1`, ERRNO.EINVAL],
    ["public_key=00", ERRNO.EINVAL],
    [`${peer}\nendpoint=example.org:51820`, ERRNO.EINVAL],
    [`${peer}\nendpoint=2001:db8::1:51820`, ERRNO.EINVAL],
    [`${peer}\nendpoint=192.0.2.1`, ERRNO.EINVAL],
    [`${peer}\nallowed_ip=10.0.0.0/33`, ERRNO.EINVAL],
    [`${peer}\nallowed_ip=10.0.0.0/`, ERRNO.EINVAL],
    [`${peer}\nallowed_ip=--10.0.0.0/8`, ERRNO.EINVAL],
    [`${peer}\nallowed_ip=10.0.0.0/8/8`, ERRNO.EINVAL],
    [`${peer}\nprotocol_version=2`, ERRNO.EINVAL],
    [`${peer}\nremove=1`, ERRNO.EINVAL],
    [`${peer}\npersistent_keepalive_interval=65536`, ERRNO.EINVAL],
    [`${peer}\npersistent_keepalive_interval=off`, ERRNO.EINVAL],
    // The first mistake counts.
    ["nonsense\nlisten_port=x", ERRNO.EPROTO],
  ] as const) {
    assert.deepEqual(
      parse(`set=1\n${lines}\n\nget=1\n\n`),
      [{ type: "invalid", errno, fatal: false }, { type: "get" }],
      lines,
    );
  }
  assert.deepEqual(parse("get=1\nlisten_port=1\n\n"), [{ type: "invalid", errno: ERRNO.EINVAL, fatal: false }]);
});

test("what is no request of this protocol ends the connection", () => {
  const broken = [{ type: "invalid", errno: ERRNO.EPROTO, fatal: true }];
  for (const text of ["get=2\n\n", "\n", "GET / HTTP/1.1\r\n\r\n", `set=1\n${"a".repeat(MAX_LINE_LENGTH + 1)}`]) {
    assert.deepEqual(parse(`${text}\nget=1\n\n`), broken, text.slice(0, 20));
  }
  const parser = new RequestParser();
  assert.deepEqual([...parser.push("x".repeat(MAX_LINE_LENGTH + 1))], broken, "a line that never ends");
  assert.deepEqual([...parser.push("\nget=1\n\n")], []);

  const endless = new RequestParser();
  const lines = `allowed_ip=10.0.0.0/8\n`.repeat(1000);
  const requests: Request[] = [...endless.push(`set=1\npublic_key=${key(1)}\n`)];
  for (let length = 0; length <= MAX_REQUEST_LENGTH; length += lines.length) requests.push(...endless.push(lines));
  assert.deepEqual(requests, broken, "a request that never ends");
});

test("any text is parsed without an exception", () => {
  const word = fc.constantFrom(
    "set=1",
    "get=1",
    "public_key=",
    "endpoint=",
    "allowed_ip=",
    key(7),
    "10.0.0.0/8",
    "\n",
    "=",
  );
  fc.assert(
    fc.property(fc.array(fc.oneof(word, fc.string())), (words) => {
      parse(words.join(""));
    }),
    { numRuns: 500 },
  );
});

test("the answer to get", () => {
  const text = encodeConfiguration({
    privateKey: repeated(1, 32),
    listenPort: 12912,
    fwmark: 0,
    peers: [
      {
        publicKey: repeated(2, 32),
        presharedKey: new Uint8Array(32),
        rxBytes: 2224,
        txBytes: 38333,
        persistentKeepaliveInterval: 111,
        allowedIps: [prefix("192.168.4.4/32"), prefix("2001:db8::/48")],
      },
      {
        publicKey: repeated(3, 32),
        presharedKey: repeated(4, 32),
        endpoint: SocketAddress.parse("[2001:db8::1]:51820") ?? assert.fail(),
        lastHandshakeAt: 1_724_716_800_500.25,
        rxBytes: 0,
        txBytes: 0,
        persistentKeepaliveInterval: 0,
        allowedIps: [],
      },
    ],
  });
  assert.equal(
    text,
    `private_key=${key(1)}
listen_port=12912
public_key=${key(2)}
preshared_key=${key(0)}
protocol_version=1
last_handshake_time_sec=0
last_handshake_time_nsec=0
tx_bytes=38333
rx_bytes=2224
persistent_keepalive_interval=111
allowed_ip=192.168.4.4/32
allowed_ip=2001:db8::/48
public_key=${key(3)}
preshared_key=${key(4)}
protocol_version=1
endpoint=[2001:db8::1]:51820
last_handshake_time_sec=1724716800
last_handshake_time_nsec=500250000
tx_bytes=0
rx_bytes=0
persistent_keepalive_interval=0
errno=0

`,
  );
  assert.equal(encodeConfiguration({ listenPort: 0, fwmark: 0, peers: [] }), "errno=0\n\n");
  assert.equal(encodeResult(ERRNO.EINVAL), "errno=-22\n\n", "negative, as wg(8) expects");
});
