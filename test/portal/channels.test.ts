// Who is signed in, by role and by device.

import assert from "node:assert/strict";
import { test } from "node:test";
import { Channels } from "../../src/portal/server/channels.js";
import type { Session } from "../../src/portal/server/session.js";

function session(role: Session["role"], id: string, owner = "office"): Session {
  return {
    role,
    id,
    owner,
    tokenDigest: new Uint8Array(),
    addresses: undefined,
    relayAddresses: [],
    publicKey: "",
    remoteIp: "192.0.2.1",
    location: undefined,
    version: undefined,
    expiresAt: undefined,
    joined: true,
  };
}

test("sessions are found by role and by device while they are signed in; two of a device are both found", () => {
  const channels = new Channels();
  const [client, gateway, twin, other] = [
    session("client", "a"),
    session("gateway", "b"),
    session("gateway", "b"),
    session("gateway", "c"),
  ];
  for (const each of [client, gateway, twin, other]) channels.add(each);
  assert.deepEqual([...channels.joined("gateway")], [gateway, twin, other]);
  assert.deepEqual([...channels.joined("relay")], []);
  assert.deepEqual([...channels.ofDevice("gateway", "b")], [gateway, twin]);
  assert.deepEqual([...channels.ofDevice("client", "b")], [], "an id of the other role");

  twin.joined = false;
  channels.pushToDevice("gateway", "b", "event", {});
  assert.equal(channels.pollOutput()?.session, gateway);
  assert.equal(channels.pollOutput(), undefined, "who has not joined hears nothing");

  channels.remove(gateway);
  assert.deepEqual([...channels.ofDevice("gateway", "b")], [twin]);
  channels.remove(twin);
  channels.remove(twin);
  assert.deepEqual([...channels.ofDevice("gateway", "b")], []);
  assert.deepEqual([...channels.sessions], [client, other]);
  assert.deepEqual([...channels.joined("gateway")], [other]);
});
