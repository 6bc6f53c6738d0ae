import assert from "node:assert/strict";
import { chmodSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { afterEach, beforeEach, describe, test } from "node:test";
import { Forwarding } from "../../src/system/linux/forwarding.js";
import { NetworkNamespace } from "../../src/system/linux/namespace.js";
import { Sysctls } from "../../src/system/linux/sysctl.js";
import { labSkip } from "../support/lab-skip.js";

describe("kernel parameters", () => {
  let root: string;
  beforeEach(() => {
    root = mkdtempSync(join(tmpdir(), "wirelane-sysctl-"));
  });
  afterEach(() => rmSync(root, { recursive: true }));

  const write = (name: string, value: string) => {
    mkdirSync(dirname(join(root, name)), { recursive: true });
    writeFileSync(join(root, name), `${value}\n`);
  };
  const value = (name: string) => readFileSync(join(root, name), "utf8").trim();
  const writeAll = (values: Readonly<Record<string, string>>) => {
    for (const [name, text] of Object.entries(values)) write(name, text);
  };

  test("are set where they differ, and only what was changed is taken back, the last change first", () => {
    writeAll({ "net/a": "0", "net/b": "1" });
    const sysctls = new Sysctls(root);
    assert.deepEqual(sysctls.set("net/a", "1"), { type: "changed", before: "0" });
    assert.deepEqual(sysctls.set("net/b", "1"), { type: "unchanged" });
    assert.deepEqual(sysctls.set("net/a", "2"), { type: "changed", before: "1" });
    const missing = sysctls.set("net/c", "1");
    assert.ok(missing.type === "failed" && /ENOENT/.test(missing.error.message));
    assert.deepEqual(sysctls.restore(), []);
    assert.deepEqual([value("net/a"), value("net/b")], ["0", "1"]);
  });

  test("that somebody else has changed since are left alone", () => {
    write("net/a", "0");
    const sysctls = new Sysctls(root);
    sysctls.set("net/a", "1");
    write("net/a", "2");
    assert.deepEqual(sysctls.restore(), []);
    assert.equal(value("net/a"), "2");
  });

  test("forwarding: router advertisements stay accepted, single forwarders come back, problems are named", () => {
    writeAll({
      "net/ipv4/ip_forward": "0",
      "net/ipv4/conf/all/forwarding": "0",
      "net/ipv4/conf/eth0/forwarding": "0",
      "net/ipv4/conf/eth1/forwarding": "1",
      "net/ipv6/conf/all/forwarding": "0",
      "net/ipv6/conf/all/accept_ra": "1",
      "net/ipv6/conf/default/forwarding": "0",
      "net/ipv6/conf/eth0/accept_ra": "1",
      "net/ipv6/conf/eth1/accept_ra": "0",
    });
    const forwarding = Forwarding.enable(new Sysctls(root));
    const [problem, ...rest] = forwarding.problems;
    assert.match(problem ?? "", /cannot set net\/ipv4\/conf\/all\/src_valid_mark to 1: .*ENOENT/);
    assert.deepEqual(rest, []);
    assert.deepEqual(
      ["net/ipv4/ip_forward", "net/ipv6/conf/all/forwarding", "net/ipv6/conf/default/forwarding"].map(value),
      ["1", "1", "1"],
    );
    assert.deepEqual(
      ["eth0", "eth1"].map((name) => value(`net/ipv6/conf/${name}/accept_ra`)),
      ["2", "0"],
    );

    // Switching it off for the host switches it off for each interface.
    write("net/ipv4/conf/eth1/forwarding", "0");
    assert.deepEqual(forwarding.restore(), []);
    assert.deepEqual(
      ["net/ipv4/ip_forward", "net/ipv6/conf/all/forwarding", "net/ipv6/conf/eth0/accept_ra"].map(value),
      ["0", "0", "1"],
    );
    assert.equal(value("net/ipv4/conf/eth1/forwarding"), "1");
    assert.equal(value("net/ipv4/conf/eth0/forwarding"), "0");
  });

  test("forwarding that is on already is left alone, also in a container where nothing can be written", () => {
    writeAll({ "net/ipv4/ip_forward": "1", "net/ipv4/conf/all/src_valid_mark": "1" });
    chmodSync(join(root, "net/ipv4/ip_forward"), 0o400);
    const forwarding = Forwarding.enable(new Sysctls(root));
    assert.deepEqual(forwarding.problems, [], "a host without IPv6 is no problem");
    assert.deepEqual(forwarding.restore(), []);
    assert.equal(value("net/ipv4/ip_forward"), "1");
  });
});

test("spec 05, 11.1: forwarding is switched on in the gateway's namespace and off again", { skip: labSkip }, () => {
  const namespace = NetworkNamespace.create();
  const names = [
    "net/ipv4/ip_forward",
    "net/ipv4/conf/all/src_valid_mark",
    "net/ipv6/conf/all/forwarding",
    "net/ipv6/conf/default/forwarding",
  ];
  const values = () => names.map((name) => new Sysctls().get(name));
  try {
    const outside = values();
    namespace.enter(() => {
      const before = values();
      const forwarding = Forwarding.enable();
      assert.deepEqual(forwarding.problems, []);
      assert.deepEqual(values(), ["1", "1", "1", "1"]);
      assert.deepEqual(forwarding.restore(), []);
      assert.deepEqual(values(), before);
    });
    assert.deepEqual(values(), outside);
  } finally {
    namespace.close();
  }
});
