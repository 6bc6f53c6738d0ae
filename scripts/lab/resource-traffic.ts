// Traffic from the client of a world to the resource behind its gateway: pings, small files, downloads that go on while something happens.

import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import { IpAddress } from "../../src/base/address.js";
import { SystemCallError } from "../../src/system/linux/errno.js";
import { ping } from "../demo/ping.js";
import type { LabHost } from "./host.js";
import { type PingStreamResult, startPingStream } from "./ping-stream.js";
import { LabProgram } from "./program.js";
import { RESOURCE_PORT, RESOURCES } from "./world.js";

/** A download that goes on. */
export interface RunningDownload {
  /** What has arrived so far: bytes in total, by time (milliseconds since 1970; four times a second). */
  readonly arrivals: readonly { readonly at: number; readonly bytes: number }[];
  /** Resolves at its end; rejects when it failed. */
  readonly done: Promise<{ readonly bytes: number; readonly seconds: number; readonly sha256: string | undefined }>;
}

/** The resource behind the gateway. */
export const RESOURCE = RESOURCES.intranet;

/** Time for what should be done soon, milliseconds: two cores may be busy with other things. */
const SOON = 20_000;

const PROBE = fileURLToPath(new URL("../demo/probe.js", import.meta.url));

/** See the head of this file. */
export class ResourceTraffic {
  readonly #parts: { readonly clientHost: LabHost; readonly gatewayHost: LabHost; readonly directory: string };
  #sequence = 0;

  /** @param parts where it comes from, who is beside the resource, and where logs go. */
  constructor(parts: { readonly clientHost: LabHost; readonly gatewayHost: LabHost; readonly directory: string }) {
    this.#parts = parts;
  }

  /** Sends one ping from the client to the resource. @returns its round trip in milliseconds; `undefined` without a reply. */
  ping(timeout: number, address: string = RESOURCE.ipv4): number | undefined {
    const ip = IpAddress.parse(address);
    if (ip === undefined) throw new RangeError(`"${address}" is not an address`);
    this.#sequence = (this.#sequence + 1) & 0xffff;
    return this.#parts.clientHost.enter(() => {
      try {
        return ping(ip, timeout, this.#sequence);
      } catch (error) {
        if (error instanceof SystemCallError) return undefined;
        throw error;
      }
    });
  }

  /** Pings until a reply comes. @returns the milliseconds that it took. @throws Error when none comes. */
  async reach(timeout = SOON, address: string = RESOURCE.ipv4): Promise<number> {
    const start = performance.now();
    while (this.ping(300, address) === undefined) {
      if (performance.now() - start > timeout) throw new Error(`no reply of ${address} within ${timeout} ms`);
      await sleep(5);
    }
    return performance.now() - start;
  }

  /** Fetches a small file from the resource (spec 05, section 13.5, `client_curl`: at most 30 s). @returns milliseconds. */
  async curl(timeout = 30_000, address: string = RESOURCE.ipv4): Promise<number> {
    const start = performance.now();
    const result = await this.#probe("curl", ["download", fileUrl(address, 1000)]).waitFor(
      ({ fields }) => "sha256" in fields,
      { timeout },
    );
    if (result.fields["bytes"] !== 1000) throw new Error(`1000 bytes were asked for: ${JSON.stringify(result.fields)}`);
    return performance.now() - start;
  }

  /** Starts a download over one TCP connection at full speed, for so long. */
  download(seconds: number, address: string = RESOURCE.ipv4): RunningDownload {
    // A transfer without any progress gives up by itself after 30 s.
    return this.#transfer(["drain", fileUrl(address, 1e13), String(seconds)], (seconds + 60) * 1000);
  }

  /**
   * Starts the download of a file over one TCP connection; the server sends at most so many bytes per second on average. It fails after `timeout`
   * milliseconds.
   */
  downloadFile(bytes: number, rate: number, timeout: number): RunningDownload {
    return this.#transfer(["download", `${fileUrl(RESOURCE.ipv4, bytes)}&rate=${rate}`], timeout);
  }

  /** What the file of this size has for a checksum, as the gateway's host gets it without a tunnel. */
  async checksum(bytes: number): Promise<string> {
    const args = ["download", fileUrl(RESOURCE.ipv4, bytes)];
    const { fields } = await this.#probe("checksum", args, this.#parts.gatewayHost).waitFor(
      (record) => "sha256" in record.fields,
      { timeout: SOON },
    );
    return String(fields["sha256"]);
  }

  /** Pings the resource every 20 ms, from the first reply on until the returned function is called. */
  pingStream(address: string = RESOURCE.ipv4): Promise<() => Promise<PingStreamResult>> {
    return startPingStream(this.#parts.clientHost, address, join(this.#parts.directory, "probe.log"));
  }

  #transfer(args: readonly string[], timeout: number): RunningDownload {
    const arrivals: { readonly at: number; readonly bytes: number }[] = [];
    const program = this.#probe("download", args);
    const isResult = ({ fields }: { readonly fields: Readonly<Record<string, unknown>> }) => {
      if (!("progress" in fields)) return true;
      arrivals.push({ at: Date.now(), bytes: Number(fields["progress"]) });
      return false;
    };
    const done = program.waitFor(isResult, { timeout }).then(({ fields }) => ({
      bytes: Number(fields["bytes"]),
      seconds: Number(fields["seconds"]),
      sha256: fields["sha256"] === undefined ? undefined : String(fields["sha256"]),
    }));
    // Whoever waits for the end hears of a failure; nobody has to.
    done.catch(() => undefined);
    return { arrivals, done };
  }

  #probe(name: string, args: readonly string[], host = this.#parts.clientHost): LabProgram {
    return LabProgram.start(host, {
      name,
      script: PROBE,
      args,
      env: process.env,
      logFile: join(this.#parts.directory, "probe.log"),
    });
  }
}

/** A file of the resource (its HTTP server is in scripts/demo/resource-server.ts). */
function fileUrl(address: string, bytes: number): string {
  const host = address.includes(":") ? `[${address}]` : address;
  return `http://${host}:${RESOURCE_PORT}/file?bytes=${bytes}`;
}
