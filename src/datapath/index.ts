// The datapath as programs see it.

export { Statistic } from "./control-block.js";
export {
  Datapath,
  type DatapathOptions,
  type DatapathStatistics,
  type DatapathTunOptions,
  type DatapathUdpOptions,
  type LocalPorts,
  type SocketReport,
} from "./datapath.js";
export type { ExceptionHandler } from "./exception-pump.js";
export type { MainPortCounters } from "./main-port.js";
export { WorkerFailure } from "./pool.js";
export { INTERFACE_REMOVED } from "./tun-port.js";
