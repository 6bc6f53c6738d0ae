import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { test } from "node:test";
import { namespaceSkip } from "../support/network-namespace.js";

/** Evaluates an expression with `openTun` and `bindUdp` in a process without privileges; an error becomes its message. */
function withoutPrivileges(expression: string): unknown {
  const system = new URL("../../src/system/linux/", import.meta.url).href;
  const program = `
    import { openTun } from "${system}tun.js";
    import { bindUdp } from "${system}udp.js";
    process.setgroups([]); process.setgid(65534); process.setuid(65534);
    let result;
    try { result = ${expression}; } catch (error) { result = error.message; }
    console.log(JSON.stringify(result ?? null));`;
  return JSON.parse(execFileSync(process.execPath, ["--input-type=module", "-e", program], { encoding: "utf8" }));
}

test("without privileges a device is refused with advice", { skip: namespaceSkip }, () => {
  assert.match(
    String(withoutPrivileges(`openTun({ name: "wltun" }).name`)),
    /(TUNSETIFF wltun: EPERM.*needs CAP_NET_ADMIN|open \/dev\/net\/tun: EACCES.*no access)/,
  );
});

test("spec 05, 3.4: without privileges a mark is an error", { skip: namespaceSkip }, () => {
  assert.match(
    String(withoutPrivileges("bindUdp({ port: 0, mark: 1 }).missing")),
    /setsockopt SO_MARK: EPERM.*needs CAP_NET_ADMIN/,
  );
});

test("without privileges buffers are as large as the system allows", { skip: namespaceSkip }, () => {
  const limit = (name: string) => Number(execFileSync("cat", [`/proc/sys/net/core/${name}`], { encoding: "utf8" }));
  assert.deepEqual(
    withoutPrivileges("(({ receiveBuffer, sendBuffer }) => [receiveBuffer, sendBuffer])(bindUdp({ port: 0 }).ipv4)"),
    [Math.min(limit("rmem_max"), 16 * 1024 * 1024), Math.min(limit("wmem_max"), 4 * 1024 * 1024)],
  );
});
