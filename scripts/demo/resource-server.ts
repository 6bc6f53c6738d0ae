// The private resource of the demo: an HTTP server with a file of pseudo-random bytes, and a sink for uploads.
// Prints one JSON line {"port", "sha256"} when it listens.
//
//   node resource-server.js PORT
//   GET /file?bytes=N     N bytes, the same for every request; the header X-Sha256 of a HEAD request is not needed: see the line printed
//   GET /file?bytes=N&rate=R   the same, at most R bytes per second on average since the start
//   POST /sink            reads the body, answers {"bytes": N}

import { createHash } from "node:crypto";
import { createServer } from "node:http";

/** Size of the file that the demo downloads, bytes. */
const FILE_BYTES = 100_000_000;

/** Bytes that are written at once where the rate is limited: a divisor of the block's length. */
const SMALL_BLOCK = 1 << 15;

/** The file repeats this block: fast to serve, and no two packets of a window are alike by accident. */
const BLOCK = fillBlock(1 << 20);

function fillBlock(length: number): Buffer {
  const block = Buffer.alloc(length);
  let state = 0x2545f491;
  for (let offset = 0; offset < length; offset += 4) {
    // xorshift32 (Marsaglia 2003): cheap, and not compressible by anything on the way.
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    block.writeInt32LE(state, offset);
  }
  return block;
}

function* blocks(bytes: number, size = BLOCK.length): Generator<Buffer> {
  for (let done = 0; done < bytes; done += size) {
    const start = done % BLOCK.length;
    yield BLOCK.subarray(start, start + Math.min(size, bytes - done));
  }
}

const hash = createHash("sha256");
for (const block of blocks(FILE_BYTES)) hash.update(block);
const sha256 = hash.digest("hex");

const server = createServer((request, response) => {
  const url = new URL(request.url ?? "/", "http://resource");
  if (request.method === "GET" && url.pathname === "/file") {
    const bytes = Number(url.searchParams.get("bytes") ?? FILE_BYTES);
    if (!Number.isSafeInteger(bytes) || bytes < 0) {
      response.writeHead(400).end("bytes must be a whole number\n");
      return;
    }
    response.writeHead(200, { "content-length": bytes, "content-type": "application/octet-stream" });
    const rate = Number(url.searchParams.get("rate") ?? Number.POSITIVE_INFINITY);
    const source = blocks(bytes, rate === Number.POSITIVE_INFINITY ? BLOCK.length : SMALL_BLOCK);
    const start = performance.now();
    let written = 0;
    const pump = () => {
      for (;;) {
        const early = (1000 * written) / rate - (performance.now() - start);
        if (early > 0) {
          setTimeout(pump, early);
          return;
        }
        const next = source.next();
        if (next.done) {
          response.end();
          return;
        }
        written += next.value.length;
        if (!response.write(next.value)) {
          response.once("drain", pump);
          return;
        }
      }
    };
    pump();
    return;
  }
  if (request.method === "POST" && url.pathname === "/sink") {
    let bytes = 0;
    request.on("data", (chunk: Buffer) => {
      bytes += chunk.length;
    });
    request.on("end", () => response.end(JSON.stringify({ bytes })));
    return;
  }
  response.writeHead(404).end();
});

server.listen({ host: "::", port: Number(process.argv[2] ?? 80) }, () => {
  process.stdout.write(`${JSON.stringify({ port: process.argv[2] ?? 80, bytes: FILE_BYTES, sha256 })}\n`);
});
