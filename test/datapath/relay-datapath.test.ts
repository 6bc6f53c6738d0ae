// A relay's datapath on loopback: channel data both ways and between IP versions, trains of datagrams, what goes to the main thread,
// and sockets that come and go while the worker runs.

import assert from "node:assert/strict";
import { createSocket, type Socket } from "node:dgram";
import { once } from "node:events";
import { after, afterEach, before, test } from "node:test";
import { type AddressFamily, IpAddress, SocketAddress } from "../../src/base/address.js";
import { RelayDatapath } from "../../src/datapath/relay-datapath.js";
import { bindUdp } from "../../src/system/linux/udp.js";

/** Time for datagrams on loopback, in milliseconds. */
const PATIENCE = 5_000;

const LOOPBACK = { 4: "127.0.0.1", 6: "::1" } as const;

/** Where peers see allocations. It is no address of this host's (RFC 5737): a relay behind a NAT is in the same situation. */
const PUBLIC_IP = IpAddress.fromBytes(Uint8Array.of(192, 0, 2, 77));

/** An end: a socket, and what it has received. */
class End {
  readonly socket: Socket;
  readonly received: { readonly from: number; readonly data: Buffer }[] = [];

  private constructor(socket: Socket) {
    this.socket = socket;
    socket.on("message", (data, { port }) => this.received.push({ from: port, data }));
  }

  static async open(family: AddressFamily): Promise<End> {
    const socket = createSocket({ type: family === 4 ? "udp4" : "udp6", recvBufferSize: 4 << 20 });
    socket.bind(0, LOOPBACK[family]);
    await once(socket, "listening");
    ends.push(new End(socket));
    return ends.at(-1) as End;
  }

  get address(): SocketAddress {
    const { address, port } = this.socket.address();
    return socketAddress(address, port);
  }

  send(family: AddressFamily, port: number, data: Uint8Array): void {
    this.socket.send(data, port, LOOPBACK[family]);
  }

  /** The next `count` datagrams. */
  async take(count: number): Promise<readonly { readonly from: number; readonly data: Buffer }[]> {
    await until(() => this.received.length >= count);
    return this.received.splice(0, count);
  }
}

function socketAddress(address: string, port: number): SocketAddress {
  const ip = IpAddress.parse(address);
  assert.ok(ip !== undefined);
  return new SocketAddress(ip, port);
}

async function until(condition: () => boolean): Promise<void> {
  for (const end = performance.now() + PATIENCE; !condition(); ) {
    assert.ok(performance.now() < end, "nothing came");
    await new Promise((resolve) => setTimeout(resolve, 2));
  }
}

/** Ports that nobody uses. */
function freePort(): number {
  const binding = bindUdp({ port: 0 });
  const port = binding.ipv4?.port ?? 0;
  binding.close();
  return port;
}

function channelData(channel: number, data: Uint8Array, padding = 0): Uint8Array {
  const message = Buffer.alloc(4 + data.length + padding);
  message.writeUInt16BE(channel, 0);
  message.writeUInt16BE(data.length, 2);
  message.set(data, 4);
  return message;
}

/** The socket that a client writes to. */
function listening({ address }: End): SocketAddress {
  return new SocketAddress(IpAddress.unspecified(address.family), listenPort);
}

const ends: End[] = [];
const toMain: string[] = [];
let relay: RelayDatapath;
let listenPort: number;

before(async () => {
  relay = await RelayDatapath.start({
    config: { sockets: 8, channels: 4 },
    // Nothing that is sent there by way of the kernel arrives.
    relayedIps: [PUBLIC_IP],
    handler: {
      fromClient: (client, _, data) => toMain.push(`client ${client.port} ${Buffer.from(data).toString("hex")}`),
      fromPeer: (port, peer, data) => toMain.push(`peer ${port} ${peer.port} ${Buffer.from(data).toString("latin1")}`),
    },
    onFailure: (error) => {
      throw error;
    },
  });
  listenPort = freePort();
  relay.listen(4, listenPort);
  relay.listen(6, listenPort);
});

afterEach(() => {
  for (const { socket } of ends.splice(0)) socket.close();
  toMain.length = 0;
});

after(() => relay.stop());

for (const clientFamily of [4, 6] as const) {
  for (const peerFamily of [4, 6] as const) {
    test(`channel data between a client of IPv${clientFamily} and a peer of IPv${peerFamily}, of every length`, async () => {
      const client = await End.open(clientFamily);
      const peer = await End.open(peerFamily);
      const port = freePort();
      relay.openPort(port, [4, 6]);
      const channel = {
        client: client.address,
        local: listening(client),
        channel: 0x4123,
        peer: peer.address,
        allocationPort: port,
      };
      assert.equal(relay.bindChannel(channel), true);
      const before = relay.relayedBytes;
      let bytes = 0;
      for (const length of [0, 1, 3, 4, 100, 1200, 1400]) {
        const data = Buffer.alloc(length, `payload of ${length} `);
        client.send(clientFamily, listenPort, channelData(0x4123, data, length % 4 === 0 ? 0 : 4 - (length % 4)));
        assert.deepEqual(await peer.take(1), [{ from: port, data }]);
        peer.send(peerFamily, port, data);
        assert.deepEqual(await client.take(1), [{ from: listenPort, data: channelData(0x4123, data) }]);
        bytes += 2 * length;
      }
      assert.equal(relay.relayedBytes - before, bytes);
      relay.closePort(port);
      assert.deepEqual(toMain, []);
    });
  }
}

test("a burst of datagrams arrives complete and in order, both ways", async () => {
  const client = await End.open(4);
  const peer = await End.open(4);
  const port = freePort();
  relay.openPort(port, [4]);
  relay.bindChannel({
    client: client.address,
    local: listening(client),
    channel: 0x4000,
    peer: peer.address,
    allocationPort: port,
  });
  // As much as the smallest receive buffers hold.
  const burst = Array.from({ length: 60 }, (_, i) => Buffer.alloc(i % 7 === 0 ? 800 : 1200, `datagram ${i} `));
  for (const data of burst) client.send(4, listenPort, channelData(0x4000, data));
  assert.deepEqual(
    (await peer.take(burst.length)).map(({ data }) => data),
    burst,
  );
  for (const data of burst) peer.send(4, port, data);
  assert.deepEqual(
    (await client.take(burst.length)).map(({ data }) => data),
    burst.map((data) => channelData(0x4000, data)),
  );
  relay.closePort(port);
});

test("clients whose allocations are each other's peers: data does not leave the relay, in bursts and in order", async () => {
  const ports = [freePort(), freePort()] as const;
  const clients = [await End.open(4), await End.open(4)] as const;
  const channels = ports.map((port, i) => {
    relay.openPort(port, [4]);
    return {
      client: clients[i === 0 ? 0 : 1].address,
      local: listening(clients[0]),
      channel: 0x4000 + i,
      peer: new SocketAddress(PUBLIC_IP, ports[i === 0 ? 1 : 0]),
      allocationPort: port,
    };
  });
  const start = relay.relayedBytes;
  const [first, second] = channels;
  assert.ok(first !== undefined && second !== undefined);
  assert.equal(relay.bindChannel(first), true);
  // The other allocation has no channel to this one: its client is told by an indication, or not at all. That is for the kernel to deliver.
  clients[0].send(4, listenPort, channelData(0x4000, Buffer.from("too early")));
  await until(() => relay.relayedBytes > start);
  assert.equal(relay.bindChannel(second), true);
  const before = relay.relayedBytes;
  const burst = Array.from({ length: 40 }, (_, i) => Buffer.alloc(i % 7 === 0 ? 800 : 1200, `datagram ${i} `));
  for (const data of burst) {
    clients[0].send(4, listenPort, channelData(0x4000, data));
    clients[1].send(4, listenPort, channelData(0x4001, data));
  }
  for (const [i, client] of clients.entries()) {
    const received = await client.take(burst.length);
    assert.deepEqual(
      received.map(({ data }) => data),
      burst.map((data) => channelData(0x4000 + i, data)),
    );
    assert.ok(received.every(({ from }) => from === listenPort));
  }
  // Each allocation relays it, as it would by way of the kernel.
  assert.equal(relay.relayedBytes - before, 4 * burst.reduce((sum, { length }) => sum + length, 0));
  relay.unbindChannel(second);
  clients[0].send(4, listenPort, channelData(0x4000, Buffer.from("too late")));
  await new Promise((resolve) => setTimeout(resolve, 50));
  assert.deepEqual(clients[1].received, []);
  for (const port of ports) relay.closePort(port);
});

test("binding requests are answered by the worker; other requests and data that no channel explains go to the main thread", async () => {
  const client = await End.open(4);
  const peer = await End.open(4);
  const port = freePort();
  relay.openPort(port, [4]);
  const transaction = "0102030405060708090a0b0c";
  client.send(4, listenPort, Buffer.from(`000100002112a442${transaction}`, "hex"));
  const [answer] = await client.take(1);
  const xorPort = (client.address.port ^ 0x2112).toString(16).padStart(4, "0");
  // 127.0.0.1 ^ 2112a442
  assert.equal(answer?.data.toString("hex"), `0101000c2112a442${transaction}002000080001${xorPort}5e12a443`);
  assert.deepEqual(toMain, []);
  // With an attribute that must be understood, an Allocate request, channel data without channel.
  for (const message of [
    `000100082112a442${transaction}0006000161000000`,
    `000300002112a442${transaction}`,
    "40000001aa",
  ]) {
    client.send(4, listenPort, Buffer.from(message, "hex"));
    await until(() => toMain.length > 0);
    assert.deepEqual(toMain.splice(0), [`client ${client.address.port} ${message}`]);
  }
  peer.send(4, port, Buffer.from("hello"));
  await until(() => toMain.length > 0);
  assert.deepEqual(toMain.splice(0), [`peer ${port} ${peer.address.port} hello`]);
  // What is too short, lies about its length, or is of no protocol, is dropped.
  for (const message of ["", "40", "4000", "40000005aabbccdd", "80000000", "ffffffffffff"])
    client.send(4, listenPort, Buffer.from(message, "hex"));
  client.send(4, listenPort, Buffer.from(`000300002112a442${transaction}`, "hex"));
  await until(() => toMain.length > 0);
  assert.equal(toMain.length, 1);
  relay.closePort(port);
});

test("strangers' requests are limited together, those of clients with an allocation one by one", async () => {
  const request = Buffer.from("000300002112a4420102030405060708090a0b0c", "hex");
  const [stranger, client, greedy] = [await End.open(4), await End.open(4), await End.open(4)];
  /** How many of so many messages reach the main thread. */
  const heard = async (from: End, count: number, message = request) => {
    for (let i = 0; i < count; i++) from.send(4, listenPort, message);
    await new Promise((resolve) => setTimeout(resolve, 50));
    return toMain.splice(0).length;
  };
  for (let sent = 0; (await heard(stranger, 500)) > 400; sent += 500) assert.ok(sent < 40_000, "no limit");
  const ports = [freePort(), freePort()] as const;
  for (const port of ports) relay.openPort(port, [4]);
  assert.equal(relay.admitClient(ports[0], client.address), true);
  assert.equal(relay.admitClient(ports[1], greedy.address), true);
  assert.equal(await heard(client, 1), 1);
  const ofGreedy = await heard(greedy, 1000);
  assert.ok(ofGreedy >= 300 && ofGreedy < 600, `${ofGreedy} of one client`);
  assert.equal(await heard(client, 1), 1);
  // Data that a client sends without a channel is data, and nothing to answer. Strangers have nobody to send it to.
  const send = Buffer.from("001600002112a4420102030405060708090a0b0c", "hex");
  assert.equal(await heard(client, 1000, send), 1000);
  assert.equal(await heard(stranger, 10, send), 0);
  const bindingIndication = Buffer.from("001100002112a4420102030405060708090a0b0c", "hex");
  assert.equal(await heard(client, 10, bindingIndication), 0);
  // Without its allocation it is a stranger again.
  relay.closePort(ports[0]);
  await heard(stranger, 500);
  assert.ok((await heard(client, 500)) < 400);
  // Allocations pay back what it took to get them, besides what is due with time.
  const start = performance.now();
  const clients = 100;
  for (let i = 0; i < clients; i++) {
    relay.openPort(ports[0], [4]);
    await until(() => relay.admitClient(ports[0], client.address));
    relay.closePort(ports[0]);
  }
  const after = await heard(stranger, 2000);
  const due = performance.now() - start;
  assert.ok(after > due + clients, `${after} of 2000 in ${due.toFixed(0)} ms`);
  relay.closePort(ports[1]);
});

test("a channel that is unbound forwards no more, and full tables say so", async () => {
  const client = await End.open(4);
  const peer = await End.open(4);
  const port = freePort();
  relay.openPort(port, [4]);
  const channel = {
    client: client.address,
    local: listening(client),
    channel: 0x4001,
    peer: peer.address,
    allocationPort: port,
  };
  assert.equal(relay.bindChannel(channel), true);
  // Again: nothing changes.
  assert.equal(relay.bindChannel(channel), true);
  client.send(4, listenPort, channelData(0x4001, Buffer.from("a")));
  assert.equal((await peer.take(1))[0]?.data.toString(), "a");
  relay.unbindChannel(channel);
  client.send(4, listenPort, channelData(0x4001, Buffer.from("b")));
  await until(() => toMain.length > 0);
  peer.send(4, port, Buffer.from("c"));
  await until(() => toMain.length > 1);
  assert.equal(peer.received.length + client.received.length, 0);
  // The one that was removed is free when the worker has moved on.
  for (let i = 0; i < 4; i++) {
    const next = { ...channel, channel: 0x4100 + i, peer: socketAddress("127.0.0.1", 9 + i) };
    await until(() => relay.bindChannel(next));
  }
  assert.equal(relay.bindChannel({ ...channel, channel: 0x4200, peer: socketAddress("127.0.0.1", 99) }), false);
  relay.closePort(port);
  // What was removed is free again when the worker has moved on.
  const other = freePort();
  relay.openPort(other, [4]);
  await until(() => relay.bindChannel({ ...channel, allocationPort: other }));
  relay.closePort(other);
});

test("ports are opened and closed a thousand times while the worker runs", async () => {
  const client = await End.open(4);
  const peer = await End.open(4);
  for (let i = 0; i < 1000; i++) {
    const port = 20_000 + i;
    try {
      relay.openPort(port, [4]);
    } catch {
      // Somebody else's port, or the last ones are not closed yet.
      await new Promise((resolve) => setTimeout(resolve, 5));
      continue;
    }
    relay.bindChannel({
      client: client.address,
      local: listening(client),
      channel: 0x4000,
      peer: peer.address,
      allocationPort: port,
    });
    client.send(4, listenPort, channelData(0x4000, Buffer.from([i & 255])));
    if (i % 50 === 0) await peer.take(1);
    relay.closePort(port);
  }
  const port = freePort();
  await until(() => {
    try {
      relay.openPort(port, [4]);
      return true;
    } catch {
      return false;
    }
  });
  assert.equal(
    relay.bindChannel({
      client: client.address,
      local: listening(client),
      channel: 0x4fff,
      peer: peer.address,
      allocationPort: port,
    }),
    true,
  );
  await new Promise((resolve) => setTimeout(resolve, 50));
  peer.received.length = 0;
  client.send(4, listenPort, channelData(0x4fff, Buffer.from("last")));
  assert.equal((await peer.take(1))[0]?.data.toString(), "last");
});
