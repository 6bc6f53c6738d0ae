// Properties whose counterexamples are megabytes: the report names seed, path and cause instead of printing them.

import fc from "fast-check";

/**
 * Checks a property with a fixed seed.
 *
 * @throws the error of the first failing run, with its number and path in front.
 */
export function assertProperty<T>(
  property: fc.IProperty<T>,
  options: { readonly seed: number; readonly numRuns: number },
): void {
  const result = fc.check(property, { ...options, endOnFailure: true });
  if (!result.failed) return;
  const cause = result.errorInstance;
  const message = cause instanceof Error ? cause.message : String(cause);
  throw new Error(`run ${result.numRuns}, seed ${result.seed}, path ${result.counterexamplePath ?? "?"}: ${message}`, {
    cause,
  });
}
