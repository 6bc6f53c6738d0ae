// What the demo does inside the client's namespace: each call is a process of its own, prints its result as one line of JSON and
// exits 0; anything that fails exits 1 with the reason on stderr. Transfers print {"progress": BYTES} four times a second before.
//
//   probe ping ADDRESS TIMEOUT_MS [COUNT]   {roundTrips}: one request after the other, each answered or timed out before the next
//   probe download URL                      {bytes, sha256, seconds, firstByteMs}
//   probe drain URL SECONDS                 {bytes, seconds}: downloads until the time is up, without looking at the data
//   probe upload URL SECONDS                {bytes, seconds}: sends until the time is up; `bytes` is what the server got
//   probe connect ADDRESS PORT TIMEOUT_MS   {connected, error?}: a TCP connection, no data

import { createHash } from "node:crypto";
import { get, type IncomingMessage, request } from "node:http";
import { connect } from "node:net";
import { IpAddress } from "../../src/base/address.js";
import { monotonicNow } from "../../src/system/clock.js";
import { ping } from "./ping.js";

const [command, ...args] = process.argv.slice(2);

/** Time between two reports of progress, and time without any progress after which a transfer has failed: milliseconds. */
const PROGRESS_INTERVAL = 250;
const STALL_TIMEOUT = 30_000;

/** Bytes that an upload writes at once. */
const UPLOAD_BLOCK = 1 << 20;

function argument(index: number): string {
  const value = args[index];
  if (value === undefined) throw new Error(`${command}: argument ${index + 1} is missing`);
  return value;
}

/** Reports how far a transfer is, until the returned function is called. */
function reportProgress(carried: () => number): () => void {
  const timer = setInterval(() => {
    process.stdout.write(`${JSON.stringify({ progress: carried() })}\n`);
  }, PROGRESS_INTERVAL);
  return () => clearInterval(timer);
}

function pings(): unknown {
  const address = IpAddress.parse(argument(0));
  if (address === undefined) throw new Error(`${argument(0)} is not an IP address`);
  const roundTrips: (number | null)[] = [];
  for (let i = 1; i <= Number(args[2] ?? 1); i++) roundTrips.push(ping(address, Number(argument(1)), i) ?? null);
  return { roundTrips };
}

/** The response to a GET request, once its head is there. */
function open(url: string): Promise<IncomingMessage> {
  return new Promise((resolve, reject) => {
    const request = get(url, { timeout: STALL_TIMEOUT }, (response) => {
      if (response.statusCode === 200) resolve(response);
      else reject(new Error(`${url}: HTTP ${response.statusCode}`));
    });
    request.on("timeout", () => request.destroy(new Error(`${url}: no data for ${STALL_TIMEOUT / 1000} s`)));
    request.on("error", reject);
  });
}

async function download(): Promise<unknown> {
  const start = monotonicNow();
  const response = await open(argument(0));
  const hash = createHash("sha256");
  let bytes = 0;
  let firstByte: number | undefined;
  const stopReporting = reportProgress(() => bytes);
  try {
    for await (const chunk of response as AsyncIterable<Buffer>) {
      firstByte ??= monotonicNow();
      bytes += chunk.length;
      hash.update(chunk);
    }
  } finally {
    stopReporting();
  }
  const seconds = (monotonicNow() - start) / 1000;
  return { bytes, sha256: hash.digest("hex"), seconds, firstByteMs: (firstByte ?? Number.NaN) - start };
}

async function drain(): Promise<unknown> {
  const response = await open(argument(0));
  const duration = Number(argument(1)) * 1000;
  const start = monotonicNow();
  let bytes = 0;
  const stopReporting = reportProgress(() => bytes);
  await new Promise<void>((resolve, reject) => {
    response.on("error", reject);
    response.on("end", resolve);
    response.on("data", (chunk: Buffer) => {
      bytes += chunk.length;
      if (monotonicNow() - start >= duration) resolve();
    });
  });
  stopReporting();
  const seconds = (monotonicNow() - start) / 1000;
  response.destroy();
  return { bytes, seconds };
}

function upload(): Promise<unknown> {
  return new Promise((resolve, reject) => {
    const block = Buffer.alloc(UPLOAD_BLOCK, 0x5a);
    const duration = Number(argument(1)) * 1000;
    const start = monotonicNow();
    let sent = 0;
    const stopReporting = reportProgress(() => sent);
    const sink = request(argument(0), { method: "POST", timeout: STALL_TIMEOUT }, (response) => {
      const parts: Buffer[] = [];
      response.on("data", (part: Buffer) => parts.push(part));
      response.on("end", () => {
        stopReporting();
        const { bytes } = JSON.parse(Buffer.concat(parts).toString()) as { bytes: number };
        resolve({ bytes, seconds: (monotonicNow() - start) / 1000 });
      });
    });
    sink.on("timeout", () => sink.destroy(new Error(`${argument(0)}: no progress for ${STALL_TIMEOUT / 1000} s`)));
    sink.on("error", (error) => {
      stopReporting();
      reject(error);
    });
    const pump = () => {
      while (monotonicNow() - start < duration) {
        sent += block.length;
        if (!sink.write(block)) {
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
    case "drain":
      return drain();
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
    // Connections that are still open do not matter any more.
    process.exit(1);
  },
);
