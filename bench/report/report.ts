// What `npm run bench` writes: the results of the suites that ran, and what they ran on.

import type { SuiteResult as CryptoSuiteResult } from "../crypto/main.js";
import type { EngineSuiteResult } from "../engine/main.js";
import type { RelaySuiteResult } from "../relay/suite.js";
import type { TunnelSuiteResult } from "../tunnel/suite.js";

/** The results of a suite. */
export type AnySuiteResult = CryptoSuiteResult | EngineSuiteResult | TunnelSuiteResult | RelaySuiteResult;

/** The JSON file. */
export interface BenchReport {
  /** ISO 8601. */
  readonly time: string;
  /** Node version that ran wirelane in the suites named; crypto and engine suites run in the benchmark's own process. */
  readonly node: { readonly process: string; readonly tunnel: string };
  readonly kernel: string;
  readonly cpu: string;
  readonly results: readonly AnySuiteResult[];
}
