// What the demo does inside the client's namespace: each call is a process of its own, prints one line of JSON and exits 0;
// anything that fails exits 1 with the reason on stderr.
//
//   probe ping ADDRESS TIMEOUT_MS [COUNT]   one request after the other, each answered or timed out before the next
//   probe download URL                      {bytes, sha256, seconds, firstByteMs}
//   probe upload URL BYTES                  {bytes, seconds}
//   probe connect ADDRESS PORT TIMEOUT_MS   {connected, error?}: a TCP connection, no data

import { createHash } from "node:crypto";
import { get, request } from "node:http";
import { connect } from "node:net";
import { IpAddress } from "../../src/base/address.js";
import { monotonicNow } from "../../src/system/clock.js";
import { ping } from "./ping.js";

const [command, ...args] = process.argv.slice(2);

function argument(index: number): string {
  const value = args[index];
  if (value === undefined) throw new Error(`${command}: argument ${index + 1} is missing`);
  return value;
}

function pings(): unknown {
  const address = IpAddress.parse(argument(0));
  if (address === undefined) throw new Error(`${argument(0)} is not an IP address`);
  const roundTrips: (number | null)[] = [];
  for (let i = 1; i <= Number(args[2] ?? 1); i++) roundTrips.push(ping(address, Number(argument(1)), i) ?? null);
  return { roundTrips };
}

function download(): Promise<unknown> {
  return new Promise((resolve, reject) => {
    const start = monotonicNow();
    const download = get(argument(0), { timeout: 30_000 }, (response) => {
      if (response.statusCode !== 200) {
        reject(new Error(`${argument(0)}: HTTP ${response.statusCode}`));
        return;
      }
      const hash = createHash("sha256");
      let bytes = 0;
      let firstByte: number | undefined;
      response.on("data", (chunk: Buffer) => {
        firstByte ??= monotonicNow();
        bytes += chunk.length;
        hash.update(chunk);
      });
      response.on("error", reject);
      response.on("end", () => {
        const seconds = (monotonicNow() - start) / 1000;
        resolve({ bytes, sha256: hash.digest("hex"), seconds, firstByteMs: (firstByte ?? Number.NaN) - start });
      });
    });
    download.on("timeout", () => download.destroy(new Error(`${argument(0)}: no data for 30 s`)));
    download.on("error", reject);
  });
}

function upload(): Promise<unknown> {
  return new Promise((resolve, reject) => {
    const block = Buffer.alloc(1 << 20, 0x5a);
    let left = Number(argument(1));
    const start = monotonicNow();
    const sink = request(
      argument(0),
      { method: "POST", timeout: 30_000, headers: { "content-length": left } },
      (response) => {
        const parts: Buffer[] = [];
        response.on("data", (part: Buffer) => parts.push(part));
        response.on("end", () => {
          const { bytes } = JSON.parse(Buffer.concat(parts).toString()) as { bytes: number };
          resolve({ bytes, seconds: (monotonicNow() - start) / 1000 });
        });
      },
    );
    sink.on("timeout", () => sink.destroy(new Error(`${argument(0)}: no progress for 30 s`)));
    sink.on("error", reject);
    const pump = () => {
      while (left > 0) {
        const part = left >= block.length ? block : block.subarray(0, left);
        left -= part.length;
        if (!sink.write(part)) {
          sink.once("drain", pump);
          return;
        }
      }
      sink.end();
    };
    pump();
  });
}

function tryConnect(): Promise<unknown> {
  return new Promise((resolve) => {
    const socket = connect({ host: argument(0), port: Number(argument(1)) });
    const finish = (result: unknown) => {
      socket.destroy();
      resolve(result);
    };
    socket.setTimeout(Number(argument(2)), () => finish({ connected: false, error: "timed out" }));
    socket.on("connect", () => finish({ connected: true }));
    socket.on("error", (error) => finish({ connected: false, error: error.message }));
  });
}

async function run(): Promise<unknown> {
  switch (command) {
    case "ping":
      return pings();
    case "download":
      return download();
    case "upload":
      return upload();
    case "connect":
      return tryConnect();
    default:
      throw new Error(`unknown command ${command}`);
  }
}

run().then(
  (result) => {
    process.stdout.write(`${JSON.stringify(result)}\n`);
  },
  (error: unknown) => {
    process.stderr.write(`${error instanceof Error ? error.message : String(error)}\n`);
    process.exitCode = 1;
  },
);
