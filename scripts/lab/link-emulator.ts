// A cable with bad properties between two hosts: a namespace in its middle in which a process forwards the frames, because not every
// kernel has netem.
//
//    host ══ veth ══ [ a   link-emulator-main   b ] ══ veth ══ host
//
// Frames are segments of the MTU's size at most (the hosts' interfaces are told not to send larger ones), so that a lost frame is one
// lost packet as on a real link.

import type { ChildProcess } from "node:child_process";
import { fileURLToPath } from "node:url";
import { createVeth } from "../../src/system/linux/rtnetlink/links.js";
import type { LabHost } from "./host.js";
import type { Impairment } from "./impairment.js";
import type { Cable, Lab } from "./lab.js";
import type { LinkStatistics } from "./link-emulator-main.js";

export type { LinkStatistics } from "./link-emulator-main.js";

/** Properties of both directions: from the first host, from the second; one alone counts for both. */
export type LinkProperties = Impairment | readonly [Impairment, Impairment];

/** How to make an emulated cable. */
export interface EmulatedCable extends Cable {
  /** Decides which packets suffer. Default 1. */
  readonly seed?: number;
  /** Default: a perfect link. */
  readonly link?: LinkProperties;
}

const MAIN = fileURLToPath(new URL("./link-emulator-main.js", import.meta.url));

/** Time for the process to start and to answer, milliseconds. */
const ANSWER_TIMEOUT = 15_000;

/** An emulated cable. */
export class LinkEmulator {
  readonly #host: LabHost;
  readonly #process: ChildProcess;
  /** Answers that are awaited, oldest first. */
  readonly #awaited: { readonly resolve: (line: string) => void; readonly reject: (error: Error) => void }[] = [];
  #errors = "";

  private constructor(host: LabHost, process: ChildProcess) {
    this.#host = host;
    this.#process = process;
    let rest = "";
    process.stdout?.setEncoding("utf8").on("data", (text: string) => {
      const lines = (rest + text).split("\n");
      rest = lines.pop() ?? "";
      for (const line of lines) this.#awaited.shift()?.resolve(line);
    });
    process.stderr?.setEncoding("utf8").on("data", (text: string) => {
      this.#errors = (this.#errors + text).slice(-4096);
    });
    const fail = () => {
      for (const { reject } of this.#awaited.splice(0)) reject(new Error(`${host.name} ended: ${this.#errors}`));
    };
    process.once("close", fail);
    process.once("error", fail);
    // Ends with the laboratory, and not before: what it still had to say does not matter then.
    process.stdin?.on("error", fail);
  }

  /** Connects two hosts, as `Lab.connect` does, by a cable that is emulated. It carries frames when the promise resolves. */
  static async connect(lab: Lab, one: LabHost, other: LabHost, cable: EmulatedCable): Promise<LinkEmulator> {
    const middle = lab.host(`link ${one.name}–${other.name}`);
    const names = cable.names ?? [one.nextInterfaceName(), other.nextInterfaceName()];
    const mtu = cable.mtu === undefined ? {} : { mtu: cable.mtu };
    for (const [end, host] of [one, other].entries()) {
      const [inner = "", outer = ""] = [["a", "b"][end], names[end]];
      createVeth(middle.netlink, { name: inner }, { name: outer, namespace: { fd: host.namespace.fd } });
      // No address, not even the kernel's own: what the middle would say itself is not part of the link.
      middle.changeLink(inner, { up: true, addressGeneration: "none", ...mtu });
      host.changeLink(outer, { gsoMaxSegments: 1 });
      const addresses = [cable.ipv4?.[end], cable.ipv6?.[end]].filter((text) => text !== undefined);
      host.configure(outer, { addresses, ...mtu });
    }
    const args = [MAIN, "a", "b", String(cable.seed ?? 1)];
    const emulator = new LinkEmulator(
      middle,
      middle.spawn(process.execPath, args, { stdio: ["pipe", "pipe", "pipe"] }),
    );
    await emulator.#answer();
    if (cable.link !== undefined) await emulator.change(cable.link);
    return emulator;
  }

  /** Changes the properties; packets that are under way keep theirs. */
  async change(link: LinkProperties): Promise<void> {
    const isPair = (value: LinkProperties): value is readonly [Impairment, Impairment] => Array.isArray(value);
    await this.#ask({ impairments: isPair(link) ? link : [link, link] });
  }

  /** What happened so far to the packets from the first host and to those from the second. */
  async statistics(): Promise<readonly [LinkStatistics, LinkStatistics]> {
    const answer = await this.#ask({ statistics: true });
    return (JSON.parse(answer) as { statistics: [LinkStatistics, LinkStatistics] }).statistics;
  }

  /** Lets nothing through any more. The interfaces stay up, as with a break in the middle of a long line. */
  cut(): Promise<void> {
    return this.change({ loss: 1 });
  }

  /** Ends the process: the cable is dead for good. */
  async close(): Promise<void> {
    await this.#host.stop(this.#process);
  }

  #ask(command: object): Promise<string> {
    const answer = this.#answer();
    this.#process.stdin?.write(`${JSON.stringify(command)}\n`);
    return answer;
  }

  #answer(): Promise<string> {
    return new Promise((resolve, reject) => {
      if (this.#process.exitCode !== null || this.#process.signalCode !== null)
        throw new Error(`${this.#host.name} has ended: ${this.#errors}`);
      const timer = setTimeout(
        () => reject(new Error(`${this.#host.name}: no answer within ${ANSWER_TIMEOUT} ms: ${this.#errors}`)),
        ANSWER_TIMEOUT,
      );
      this.#awaited.push({
        resolve: (line) => {
          clearTimeout(timer);
          resolve(line);
        },
        reject: (error) => {
          clearTimeout(timer);
          reject(error);
        },
      });
    });
  }
}
