import assert from "node:assert/strict";
import { test } from "node:test";
import { LoginUrlError, loginUrl, portalUrl } from "../../src/portal/login-url.js";

const LOGIN = {
  role: "client" as const,
  token: "secret+token/with=signs",
  publicKey: new Uint8Array(32).fill(0xfb),
  externalId: "ab".repeat(32),
  name: "Ada's laptop",
};

test("spec 01, 15.1.1: the path is that of the role behind the base path, and an existing query is discarded", () => {
  assert.equal(portalUrl("wss://api.example.com", "client").href, "wss://api.example.com/client/websocket");
  assert.equal(portalUrl("wss://api.example.com/x/", "client").href, "wss://api.example.com/x/client/websocket");
  assert.equal(portalUrl("wss://api.example.com/x", "gateway").href, "wss://api.example.com/x/gateway/websocket");
  const url = loginUrl("wss://api.example.com/?token=other&a=b", LOGIN);
  assert.equal(url.searchParams.get("a"), null);
  assert.equal(url.searchParams.getAll("token").length, 1);
});

test("spec 01, 15.1.2: http means ws and https wss; other schemes and URLs without host are refused", () => {
  assert.equal(portalUrl("http://192.0.2.1:8080", "relay").href, "ws://192.0.2.1:8080/relay/websocket");
  assert.equal(portalUrl("https://[2001:db8::1]", "client").href, "wss://[2001:db8::1]/client/websocket");
  for (const url of ["ftp://api.example.com", "file:///tmp", "ws://", "api.example.com", ""])
    assert.throws(() => portalUrl(url, "client"), LoginUrlError, url);
});

test("spec 01, 15.1.3: parameters come in order, and Base64 characters are percent-encoded", () => {
  const { search } = loginUrl("ws://192.0.2.1", LOGIN);
  assert.deepEqual(Array.from(new URLSearchParams(search).keys()), ["token", "public_key", "external_id", "name"]);
  assert.match(search, /^\?token=secret%2Btoken%2Fwith%3Dsigns&public_key=[A-Za-z0-9%]+%3D&external_id=(ab){32}&name=/);
  assert.doesNotMatch(search.replace(/&name=.*/, ""), /[+/]/);
});

test("spec 01, 15.1.6: the host keeps its port only where it is not the scheme's own", () => {
  assert.equal(portalUrl("ws://api.example.com:80", "client").host, "api.example.com");
  assert.equal(portalUrl("wss://api.example.com:443", "client").host, "api.example.com");
  assert.equal(portalUrl("wss://api.example.com:8443", "client").host, "api.example.com:8443");
});
