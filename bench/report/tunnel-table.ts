// The tunnel suite's results as text: one table per load.

import { LOADS, type Load, type LoadName } from "../tunnel/loads.js";
import type { LoadResult, TunnelSuiteResult } from "../tunnel/suite.js";

/** The tables, with a heading and the contenders that are missing. */
export function formatTunnel(result: TunnelSuiteResult): string {
  const { mtu, rounds, seconds, loads } = result.options;
  const heading = `Tunnel, MTU ${mtu}, medians of ${rounds} alternating rounds of ${seconds} s\n`;
  const tables = loads.map((load) => formatLoad(result, load));
  const missing = result.missing.map(({ name, advice }) => `not on this machine: ${name} (${advice})\n`);
  return [heading, ...tables, ...missing].join("\n");
}

function formatLoad(result: TunnelSuiteResult, name: LoadName): string {
  const { type, title } = LOADS[name];
  const columns = COLUMNS[type];
  const rows = result.contenders.flatMap(({ name: contender, loads }) => {
    const figures = loads[name];
    return figures === undefined ? [] : [[contender, ...columns.map(([, format]) => format(figures))]];
  });
  const table = [[title, ...columns.map(([heading]) => heading)], ...rows];
  const widths = table[0]?.map((_, i) => Math.max(...table.map((row) => row[i]?.length ?? 0))) ?? [];
  const pad = (cell: string, i: number) => (i === 0 ? cell.padEnd(widths[0] ?? 0) : cell.padStart(widths[i] ?? 0));
  return table.map((row) => `${row.map(pad).join("  ")}\n`).join("");
}

type Column = readonly [heading: string, format: (figures: LoadResult) => string];

const decimals = (value: number | undefined, digits: number) => value?.toFixed(digits) ?? "";
const percent = (share: number | undefined) => (share === undefined ? "" : `${(100 * share).toFixed(2)} %`);

const transferColumns: readonly Column[] = [
  ["Gbit/s", ({ figure }) => decimals(figure / 1e9, 2)],
  ["CPU-s/GB", ({ cpuSecondsPerGigabyte }) => decimals(cpuSecondsPerGigabyte?.machine, 2)],
  ["client", ({ cpuSecondsPerGigabyte }) => decimals(cpuSecondsPerGigabyte?.client, 2)],
  ["server", ({ cpuSecondsPerGigabyte }) => decimals(cpuSecondsPerGigabyte?.server, 2)],
  ["lost", ({ lost }) => percent(lost)],
  ["wirelane wg: times its speed", ({ wirelaneRatio }) => decimals(wirelaneRatio, 2)],
  ["times its CPU time", ({ wirelaneCpuRatio }) => decimals(wirelaneCpuRatio, 2)],
];

const pingColumns: readonly Column[] = [
  ["median ms", ({ figure }) => decimals(figure * 1e3, 3)],
  ["lost", ({ lost }) => percent(lost)],
  ["wirelane wg: times its delay", ({ wirelaneRatio }) => decimals(wirelaneRatio, 2)],
];

const idleColumns: readonly Column[] = [
  ["CPU-s/min", ({ figure }) => decimals(figure, 3)],
  ["MB", ({ residentBytes = 0 }) => decimals(residentBytes / 1e6, 0)],
  ["wirelane wg: times its CPU time", ({ wirelaneRatio }) => decimals(wirelaneRatio, 2)],
];

const COLUMNS: Record<Load["type"], readonly Column[]> = {
  transfer: transferColumns,
  ping: pingColumns,
  idle: idleColumns,
};
