import { NONE, RouteTarget, Drop } from "./abi";
export function t(a: u32): bool { return a == NONE || a == RouteTarget.Drop || a < <u32>Drop.Count; }
