// A program that owns a lab, for tests of what becomes of the lab when its owner ends. The first argument says which.

import { Lab } from "../../scripts/lab/lab.js";
import { rerunInUserNamespace } from "../../scripts/lab/user-namespace.js";

async function main(): Promise<void> {
  const [, , role, ...rest] = process.argv;
  switch (role) {
    case "lab":
    case "forgetful-lab": {
      const child = Lab.create().host("only").spawn("sleep", ["60"], { stdio: "ignore" });
      if (role === "forgetful-lab") child.unref();
      process.stdout.write(`${child.pid}\n`);
      return;
    }
    case "user-namespace": {
      const privilege = await rerunInUserNamespace();
      if (privilege.type === "finished") process.exit(privilege.exitCode);
      if (privilege.type === "denied") throw new Error(privilege.reason);
      const lab = Lab.create();
      const [a, b] = [lab.host("a"), lab.host("b")];
      lab.connect(a, b, { ipv4: ["192.0.2.1/24", "192.0.2.2/24"], ipv6: ["2001:db8::1/64", "2001:db8::2/64"] });
      b.enableForwarding();
      await lab.destroy();
      process.stdout.write(`granted to ${process.getuid?.()} with ${rest}, the lab works\n`);
      process.exit(7);
      break;
    }
    default:
      throw new Error(`unknown role ${role}`);
  }
}

await main();
