import assert from "node:assert/strict";
import { constants } from "node:os";
import { test } from "node:test";
import { Errno, errnoName, errnoText, SystemCallError } from "../../src/system/linux/errno.js";
import { check, close, errno, O_RDONLY, open } from "../../src/system/linux/libc.js";

test("error numbers have their names, and agree with the platform's", () => {
  for (const [name, value] of Object.entries(Errno)) {
    assert.equal(errnoName(value), name);
    const platform = constants.errno as Readonly<Record<string, number>>;
    if (platform[name] !== undefined) assert.equal(platform[name], value, name);
  }
  assert.equal(errnoName(Errno.EAGAIN), "EAGAIN", "not EWOULDBLOCK");
  assert.equal(errnoName(constants.errno.EPIPE), "EPIPE");
  assert.equal(errnoName(4711), "errno 4711");
  assert.equal(errnoText(Errno.EACCES), "permission denied");
});

test("a failed call becomes an error that names call, error and advice", () => {
  assert.equal(close(-1), -1);
  assert.equal(errno(), Errno.EBADF);
  assert.throws(
    () => check(open("/nonexistent/file", O_RDONLY, 0), "open /nonexistent/file", "is it mounted?"),
    (error: unknown) => {
      assert.ok(error instanceof SystemCallError);
      assert.equal(error.errno, Errno.ENOENT);
      assert.equal(error.code, "ENOENT");
      assert.equal(error.call, "open /nonexistent/file");
      assert.equal(error.message, "open /nonexistent/file: ENOENT, no such file or directory (is it mounted?)");
      return true;
    },
  );
});
