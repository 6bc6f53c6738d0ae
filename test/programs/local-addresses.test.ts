// In which order a host's addresses are offered: those that it has towards the internet first. In a laboratory's hosts.

import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { Lab } from "../../scripts/lab/lab.js";
import { localAddresses } from "../../src/programs/common/local-addresses.js";
import { RouteProtocol } from "../../src/system/linux/rtnetlink/routes.js";
import { addRule } from "../../src/system/linux/rtnetlink/rules.js";
import { internetSource } from "../../src/system/linux/source-address.js";
import { labSkip } from "../support/lab-skip.js";

const MARK = 0x1234;

describe("local addresses", { skip: labSkip }, () => {
  test("those from which datagrams to the internet leave come first, whatever the order of the interfaces", async () => {
    const lab = Lab.create();
    try {
      const [host, router, bridge] = [lab.host("host"), lab.host("router"), lab.host("bridge")];
      lab.connect(host, bridge, {
        ipv4: ["172.20.0.1/24", "172.20.0.2/24"],
        ipv6: ["fd20::1/64", "fd20::2/64"],
      });
      lab.connect(host, router, {
        ipv4: ["10.1.0.2/24", "10.1.0.1/24"],
        ipv6: ["2001:db8:7::2/64", "2001:db8:7::1/64"],
      });
      const addresses = () => host.enter(() => localAddresses("tun", MARK)).map(String);
      assert.equal(
        host.enter(() => internetSource(4, MARK)),
        undefined,
        "there is no way to the internet yet",
      );
      const all = ["172.20.0.1", "fd20::1", "10.1.0.2", "2001:db8:7::2"];
      assert.deepEqual(addresses(), all);
      host.route("default", { via: "10.1.0.1", dev: "eth1" });
      host.route("default6", { via: "2001:db8:7::1", dev: "eth1" });
      assert.deepEqual(addresses(), ["10.1.0.2", "2001:db8:7::2", "172.20.0.1", "fd20::1"]);
      assert.deepEqual(
        host.enter(() => localAddresses("eth1", MARK)).map(String),
        ["172.20.0.1", "fd20::1"],
        "without the tunnel's",
      );
    } finally {
      await lab.destroy();
    }
  });

  test("the mark of the sockets decides where a tunnel has taken everything else", async () => {
    const lab = Lab.create();
    try {
      const [host, router, tunnel] = [lab.host("host"), lab.host("router"), lab.host("tunnel")];
      lab.connect(host, tunnel, { ipv4: ["100.64.0.1/24", "100.64.0.2/24"] });
      lab.connect(host, router, { ipv4: ["10.1.0.2/24", "10.1.0.1/24"] });
      host.route("default", { via: "100.64.0.2", dev: "eth0" });
      host.route("default", { via: "10.1.0.1", dev: "eth1", table: 77 });
      addRule(host.netlink, {
        family: 4,
        priority: 100,
        table: 77,
        mark: MARK,
        invert: false,
        protocol: RouteProtocol.static,
      });
      const source = (mark?: number) => String(host.enter(() => internetSource(4, mark)));
      assert.equal(source(), "100.64.0.1");
      assert.equal(source(MARK), "10.1.0.2");
    } finally {
      await lab.destroy();
    }
  });
});
