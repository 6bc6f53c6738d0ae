// The few statistics that the suites share. Figures are ratios to something measured in the same run; medians, not means.

/** The median of `values`; NaN for none. */
export function median(values: readonly number[]): number {
  const sorted = [...values].sort((a, b) => a - b);
  const middle = sorted.length >> 1;
  const upper = sorted[middle] ?? Number.NaN;
  return sorted.length % 2 === 1 ? upper : ((sorted[middle - 1] ?? Number.NaN) + upper) / 2;
}

/** The median of the ratios of two series measured in alternation: round by round, so that drift cancels out. */
export function medianRatio(numerators: readonly number[], denominators: readonly number[]): number {
  const rounds = Math.min(numerators.length, denominators.length);
  const ratios: number[] = [];
  for (let i = 0; i < rounds; i++) ratios.push((numerators[i] ?? Number.NaN) / (denominators[i] ?? Number.NaN));
  return median(ratios);
}
