// The datapath as programs see it.

export { Statistic } from "./control-block.js";
export {
  Datapath,
  type DatapathOptions,
  type DatapathStatistics,
  type DatapathTunOptions,
  type DatapathUdpOptions,
  type ExceptionHandler,
  type LocalPorts,
  type SocketReport,
} from "./datapath.js";
export type { MainPortCounters } from "./main-port.js";
export { WorkerFailure } from "./pool.js";
