// The packet engine as the rest of the program sees it.

export { Drop, Exception, NONE, RouteTarget } from "../../assembly/abi.js";
export type { Activity } from "./activity.js";
export { Engine, type EngineOptions, type TunOffloads, type WorkerEngine } from "./engine.js";
export { ExceptionReader, type ExceptionRecord } from "./exceptions.js";
export { createLayout, createMemory, DEFAULT_ENGINE_CONFIG, type EngineConfig, type Layout } from "./layout.js";
export type { Path } from "./path.js";
export type { Filter, FilterRule } from "./rules.js";
export type { SessionKeys } from "./session.js";
export { type ConnectionOptions, Tables } from "./tables.js";
export type { SharedMemory } from "./webassembly.js";
