// A switch of a lab: a bridge in a namespace of its own, to which hosts are attached. It has no address; it only forwards frames.

import { NetworkNamespace } from "../../src/system/linux/namespace.js";
import { changeLink, createBridge, createVeth, getLink } from "../../src/system/linux/rtnetlink/links.js";
import type { NetlinkSocket } from "../../src/system/linux/rtnetlink/netlink.js";
import type { InterfaceConfiguration, LabHost } from "./host.js";

/** How to attach a host to a switch. */
export interface Attachment extends InterfaceConfiguration {
  /** Name of the host's interface. Default: `eth0`, `eth1`, … in order of connection. */
  readonly name?: string;
}

const BRIDGE = "bridge";

/** A switch. Made by `Lab.switch`. */
export class LabSwitch {
  readonly name: string;
  readonly #namespace: NetworkNamespace;
  readonly #netlink: NetlinkSocket;
  #ports = 0;

  constructor(name: string) {
    this.name = name;
    this.#namespace = NetworkNamespace.create();
    this.#netlink = this.#namespace.netlink();
    createBridge(this.#netlink, BRIDGE);
    changeLink(this.#netlink, getLink(this.#netlink, BRIDGE).index, { up: true, addressGeneration: "none" });
  }

  /** Attaches a host; its interface is up and its addresses usable at once. @returns the interface's name. */
  attach(host: LabHost, attachment: Attachment): string {
    const port = `port${this.#ports++}`;
    const name = attachment.name ?? host.nextInterfaceName();
    createVeth(this.#netlink, { name: port }, { name, namespace: { fd: host.namespace.fd } });
    const master = getLink(this.#netlink, BRIDGE).index;
    const { mtu } = attachment;
    changeLink(this.#netlink, getLink(this.#netlink, port).index, {
      master,
      up: true,
      ...(mtu === undefined ? {} : { mtu }),
    });
    host.configure(name, attachment);
    return name;
  }

  /** Lets go of the namespace. `Lab.destroy` does it. */
  close(): void {
    this.#netlink.close();
    this.#namespace.close();
  }
}
