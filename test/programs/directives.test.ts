import assert from "node:assert/strict";
import { test } from "node:test";
import { DirectiveError, LogFilter } from "../../src/programs/common/directives.js";

test("spec 05, 2.1: without directives everything logs from info on, except what the programs hush", () => {
  for (const absent of [undefined, "", "  "]) {
    const filter = LogFilter.parse(absent);
    assert.equal(filter.levelOf("firezone_gateway"), "info");
    assert.equal(filter.levelOf("rustls::conn"), "warn");
  }
});

test("spec 05, 2.1: the longest target that is a prefix decides; of equals the later one", () => {
  const filter = LogFilter.parse("debug, wire::api=info,wire=TRACE ,snownet=off,snownet=warn,str0m,firezone=error");
  assert.equal(filter.levelOf("anything"), "debug");
  assert.equal(filter.levelOf("wire::net::send"), "trace");
  assert.equal(filter.levelOf("wire::api::send"), "info");
  assert.equal(filter.levelOf("snownet::node"), "warn");
  assert.equal(filter.levelOf("str0m"), "trace");
  assert.equal(filter.levelOf("firezone_tunnel"), "error");
});

test("spec 05, 2.1: directives for some targets leave the others silent, and override what is prepended", () => {
  const filter = LogFilter.parse("rustls=debug");
  assert.equal(filter.levelOf("rustls"), "debug");
  assert.equal(filter.levelOf("firezone_tunnel"), "off");
});

test("spec 05, 2.1: directives for spans are accepted, and match nothing because there are no spans", () => {
  const filter = LogFilter.parse("info,snownet[handle{id=1,peer=2}]=trace,[span]=trace,wire[x]");
  assert.equal(filter.levelOf("snownet"), "info");
  assert.equal(filter.levelOf("wire::api::recv"), "info");
});

test("spec 05, 2.1: a part that is no directive is an error that names it", () => {
  for (const text of ["=", "info,a=loud", "a=b=c", "two words=info", "x[=info", "a=", "=info"])
    assert.throws(
      () => LogFilter.parse(text),
      (error) => error instanceof DirectiveError && error.message.includes(`"${text.split(",").at(-1)}"`),
      text,
    );
});
