import assert from "node:assert/strict";
import { connect } from "node:net";
import { test } from "node:test";
import { HealthEndpoint, HealthEndpointError } from "../../src/programs/common/health.js";

test("spec 05, 15.50: /healthz of a gateway is 200 and empty; other paths 404, other methods 405", async (t) => {
  const endpoint = await HealthEndpoint.listen("127.0.0.1:0");
  t.after(() => endpoint.close());
  const answer = async (path: string, method: string) => {
    const response = await fetch(`http://127.0.0.1:${endpoint.port}${path}`, { method });
    return [response.status, await response.text()];
  };
  assert.deepEqual(await answer("/healthz", "GET"), [200, ""]);
  assert.deepEqual(await answer("/healthz?verbose", "GET"), [200, ""]);
  assert.deepEqual(await answer("/healthz", "HEAD"), [200, ""]);
  assert.deepEqual(await answer("/healthz", "POST"), [405, ""]);
  assert.deepEqual(await answer("/", "GET"), [404, ""]);
  assert.deepEqual(await answer("/readyz", "POST"), [404, ""]);
});

test("spec 03, 8.3.32 with the later behaviour: /healthz is 200 in any case, /readyz 200 or 503 by the portal connection", async (t) => {
  let isReady = false;
  const endpoint = await HealthEndpoint.listen("127.0.0.1:0", () => isReady);
  t.after(() => endpoint.close());
  const statuses = () =>
    Promise.all(
      ["/healthz", "/readyz"].map(async (path) => (await fetch(`http://127.0.0.1:${endpoint.port}${path}`)).status),
    );
  assert.deepEqual(await statuses(), [200, 503]);
  isReady = true;
  assert.deepEqual(await statuses(), [200, 200]);
});

test("spec 05, 9.2: a port that is taken, or no address, is an error that says so", async (t) => {
  const endpoint = await HealthEndpoint.listen("127.0.0.1:0");
  t.after(() => endpoint.close());
  await assert.rejects(HealthEndpoint.listen(`127.0.0.1:${endpoint.port}`), (error) => {
    return error instanceof HealthEndpointError && error.message.includes("EADDRINUSE");
  });
  for (const text of ["", "localhost:8080", "127.0.0.1", "127.0.0.1:70000"])
    await assert.rejects(HealthEndpoint.listen(text), HealthEndpointError);
});

test("spec 05, 9.2: closing does not wait for probes that never end", async () => {
  const endpoint = await HealthEndpoint.listen("127.0.0.1:0");
  const probe = connect(endpoint.port, "127.0.0.1");
  const gone = new Promise<void>((resolve) => probe.once("close", () => resolve()));
  await new Promise<void>((resolve) => probe.once("connect", resolve));
  probe.on("error", () => probe.destroy());
  probe.write("GET /healthz HTTP/1.1\r\n");
  await endpoint.close();
  await gone;
});
