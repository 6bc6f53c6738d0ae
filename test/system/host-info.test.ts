import assert from "node:assert/strict";
import { hostname, release } from "node:os";
import { test } from "node:test";
import { hostInfo, parseOsRelease, userAgent } from "../../src/system/linux/host-info.js";

test("os-release is read as os-release(5) defines it", () => {
  assert.deepEqual(parseOsRelease('NAME="Ubuntu"\nVERSION_ID="22.04"\nVERSION="22.04.4 LTS"\n'), {
    system: "Ubuntu",
    systemVersion: "22.4.0",
  });
  assert.deepEqual(parseOsRelease("# comment\n\nNAME='Debian GNU/Linux'\nVERSION_ID=12\n"), {
    system: "Debian",
    systemVersion: "12.0.0",
  });
  assert.deepEqual(parseOsRelease('NAME="Alpine Linux"\nVERSION_ID=3.20.3'), {
    system: "Alpine Linux",
    systemVersion: "3.20.3",
  });
  assert.deepEqual(parseOsRelease('NAME="Arch Linux"\nBUILD_ID=rolling'), { system: "Arch Linux" });
  assert.deepEqual(parseOsRelease('NAME="A \\"quoted\\" one/two"\nVERSION_ID=sid'), { system: 'A "quoted" one two' });
  assert.deepEqual(parseOsRelease(""), { system: "Linux" });
});

test("spec 05, 1.4: the user agent names system, component, processor and kernel, in ASCII", () => {
  const info = { system: "Ubuntu", systemVersion: "22.4.0", architecture: "x86_64", kernel: "6.5.0-1025-azure" };
  assert.equal(userAgent(info, "connlib", "1.2.1"), "Ubuntu/22.4.0 connlib/1.2.1 (x86_64; 6.5.0-1025-azure)");
  const { systemVersion: _, ...rolling } = { ...info, system: "Ünïx\r\n" };
  assert.equal(userAgent(rolling, "connlib", "1.2.1"), "nx/unknown connlib/1.2.1 (x86_64; 6.5.0-1025-azure)");
});

test("this host is known", () => {
  const info = hostInfo();
  assert.equal(info.hostname, hostname());
  assert.equal(info.kernel, release());
  assert.match(userAgent(info, "connlib", "1.3.0"), /^\S[^/]*\/\S+ connlib\/1\.3\.0 \(\w+; \S+\)$/);
  assert.equal(hostInfo(["/nonexistent/os-release"]).system, "Linux");
});
