// A report as one HTML file without scripts, fonts or pictures of its own: bars, drawn in SVG, grouped as in the tables.

import { PATH_LOADS } from "../relay/path.js";
import { RELAY_LOADS, type RelaySuiteResult } from "../relay/suite.js";
import { LOADS, type Load } from "../tunnel/loads.js";
import type { TunnelSuiteResult } from "../tunnel/suite.js";
import type { AnySuiteResult, BenchReport } from "./report.js";

/** The page. */
export function renderHtml(report: BenchReport): string {
  const { time, node, kernel, cpu, results } = report;
  const facts = [time, `Node ${node.process} (tunnel: ${node.tunnel})`, `Linux ${kernel}`, cpu];
  return `<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>wirelane benchmarks, ${escapeHtml(time)}</title>
<style>${STYLE}</style>
<h1>wirelane benchmarks</h1>
<p>${facts.map(escapeHtml).join(" · ")}</p>
<p>Figures are medians of alternating runs on this machine. Compare bars with each other, not with those of other machines.</p>
${results.map(renderSuite).join("\n")}
</html>
`;
}

const STYLE = `
:root { color-scheme: light dark; --own: #2f7d5b; --other: #8a94a6; }
body { font: 15px/1.5 system-ui, sans-serif; max-width: 62rem; margin: 2rem auto; padding: 0 1rem; }
h2 { margin-top: 2.5rem; } h3 { font-size: 1rem; margin: 1.5rem 0 0.25rem; }
svg { width: 100%; height: auto; } text { font: 12px system-ui, sans-serif; fill: currentColor; }
.own { fill: var(--own); } .other { fill: var(--other); }
`;

/** One bar: its label, its length, and what is written behind it. */
interface Bar {
  readonly label: string;
  readonly value: number;
  readonly text: string;
}

interface Chart {
  readonly title: string;
  readonly bars: readonly Bar[];
}

function renderSuite(result: AnySuiteResult): string {
  const [heading, charts] = describeSuite(result);
  return `<h2>${escapeHtml(heading)}</h2>\n${charts.map(renderChart).join("\n")}`;
}

function describeSuite(result: AnySuiteResult): [heading: string, charts: Chart[]] {
  switch (result.suite) {
    case "crypto":
      return [
        "Crypto, million bytes per second",
        result.cases.map(({ name, size, results }) => ({
          title: `${name}, ${size} bytes`,
          bars: results.map(({ implementation, bytesPerSecond }) => {
            return { label: implementation, value: bytesPerSecond, text: (bytesPerSecond / 1e6).toFixed(0) };
          }),
        })),
      ];
    case "engine":
      return [
        "Engine in memory, million packets per second",
        ["outbound", "inbound"].map((direction) => ({
          title: direction,
          bars: result.figures
            .filter((figure) => figure.direction === direction)
            .map(({ load, connections, workers, packetsPerSecond }) => ({
              label: `wirelane: ${load.name}, ${connections} connection${connections === 1 ? "" : "s"}, ${workers} worker${workers === 1 ? "" : "s"}`,
              value: packetsPerSecond,
              text: (packetsPerSecond / 1e6).toFixed(2),
            })),
        })),
      ];
    case "relay":
      return ["Relay", [...datagramCharts(result), ...pathCharts(result)]];
    case "tunnel":
      return [`Tunnel, MTU ${result.options.mtu}`, tunnelCharts(result)];
  }
}

function datagramCharts({ figures }: RelaySuiteResult): Chart[] {
  return Object.entries(RELAY_LOADS).map(([name, { title }]) => ({
    title: `${title}, thousand datagrams per CPU-second`,
    bars: figures
      .filter(({ load }) => load === name)
      .map(({ server, packetsPerCpuSecond, lost }) => {
        const speed = (packetsPerCpuSecond / 1e3).toFixed(0);
        const text = lost > 0 ? `${speed}, ${(100 * lost).toFixed(1)} % lost` : speed;
        return { label: server, value: packetsPerCpuSecond, text };
      }),
  }));
}

function pathCharts({ paths }: RelaySuiteResult): Chart[] {
  return PATH_LOADS.map((name) => ({
    title: `Client and gateway through a relay, ${LOADS[name].title}, Gbit/s`,
    bars: paths
      .filter(({ load }) => load === name)
      .map(({ relay, bitsPerSecond, cpuSecondsPerGigabyte }) => ({
        label: relay,
        value: bitsPerSecond,
        text: `${(bitsPerSecond / 1e9).toFixed(2)}, relay: ${cpuSecondsPerGigabyte.toFixed(2)} CPU-s/GB`,
      })),
  }));
}

/** What a load's figure is shown in. */
const UNITS: Record<Load["type"], { readonly unit: string; readonly show: (figure: number) => string }> = {
  transfer: { unit: "Gbit/s", show: (figure) => (figure / 1e9).toFixed(2) },
  ping: { unit: "ms, less is better", show: (figure) => (figure * 1e3).toFixed(3) },
  idle: { unit: "CPU-seconds per minute, less is better", show: (figure) => figure.toFixed(3) },
};

function tunnelCharts({ options, contenders }: TunnelSuiteResult): Chart[] {
  return options.loads.map((load) => {
    const { type, title } = LOADS[load];
    const { unit, show } = UNITS[type];
    return {
      title: `${title}, ${unit}`,
      bars: contenders.flatMap(({ name, loads }) => {
        const figures = loads[load];
        if (figures === undefined) return [];
        const { figure, cpuSecondsPerGigabyte, lost = 0, residentBytes } = figures;
        const parts = [show(figure)];
        if (cpuSecondsPerGigabyte !== undefined) parts.push(`${cpuSecondsPerGigabyte.machine.toFixed(2)} CPU-s/GB`);
        if (residentBytes !== undefined) parts.push(`${(residentBytes / 1e6).toFixed(0)} MB`);
        if (lost > 0) parts.push(`${(100 * lost).toFixed(1)} % lost`);
        return [{ label: name, value: figure, text: parts.join(", ") }];
      }),
    };
  });
}

// In units of the SVG's own coordinates.
const ROW = 22;
const LABELS = 270;
const BARS = 420;
const WIDTH = 900;

function renderChart({ title, bars }: Chart): string {
  const largest = Math.max(...bars.map(({ value }) => value), Number.MIN_VALUE);
  const rows = bars.map(({ label, value, text }, i) => {
    const length = ((BARS * value) / largest).toFixed(1);
    const kind = label.startsWith("wirelane") ? "own" : "other";
    const baseline = i * ROW + 15;
    return `<text x="${LABELS - 8}" y="${baseline}" text-anchor="end">${escapeHtml(label)}</text>
<rect class="${kind}" x="${LABELS}" y="${i * ROW + 3}" width="${length}" height="${ROW - 6}"/>
<text x="${LABELS + Number(length) + 6}" y="${baseline}">${escapeHtml(text)}</text>`;
  });
  return `<h3>${escapeHtml(title)}</h3>
<svg viewBox="0 0 ${WIDTH} ${bars.length * ROW}" role="img" aria-label="${escapeHtml(title)}">
${rows.join("\n")}
</svg>`;
}

function escapeHtml(text: string): string {
  const entities: Readonly<Record<string, string>> = { "&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;" };
  return text.replace(/[&<>"]/g, (character) => entities[character] ?? character);
}
