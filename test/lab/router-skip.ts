// Whether the laboratory can have routers here.

import { Lab } from "../../scripts/lab/lab.js";
import { whyNoRouters } from "../../scripts/lab/nat-router.js";
import { labSkip } from "../support/lab-skip.js";

/** Why tests with routers cannot run here; `false` when they can. */
export const routerSkip: string | false = labSkip === false ? tryRouter() : labSkip;

function tryRouter(): string | false {
  const lab = Lab.create();
  try {
    return whyNoRouters(lab.host("trial")) ?? false;
  } finally {
    lab.destroySoon();
  }
}
