// Draws the charts with Observable Plot. Colours are the page's own CSS variables, so dark mode and print need no redraw.
"use strict";

async function unpack(id) {
  const packed = Uint8Array.from(atob(document.getElementById(id).textContent), (c) => c.charCodeAt(0));
  const stream = new Blob([packed]).stream().pipeThrough(new DecompressionStream("gzip"));
  return JSON.parse(await new Response(stream).text());
}

const words = (name) => (name === "overall" ? "whole conversation" : name.replaceAll("_", " "));
const short = (text, width) => (text.length > width ? text.slice(0, width - 1) + "…" : text);
const shown = (share) => (share * 100).toFixed(1) + "%";

// Place a chart and draw it again when its column changes width.
function place(id, draw) {
  const box = document.getElementById(id);
  if (!box) return;
  let width = 0;
  new ResizeObserver(() => {
    const now = Math.floor(box.clientWidth);
    if (!now || now === width) return;
    width = now;
    const chart = draw(width);
    chart.setAttribute("role", "img");
    box.replaceChildren(chart);
  }).observe(box);
}

function intervalChart(rows, label, ticks) {
  const longest = Math.max(...rows.map((r) => r.name.length), 4);
  return (width) => {
    const left = Math.min(longest * 7 + 20, width * 0.45);
    const letters = Math.floor((left - 16) / 7);
    const least = Math.min(...rows.map((r) => Math.min(r.low, r.worst)), 0.9);
    return Plot.plot({
      className: "chart", width, marginLeft: left, marginRight: 24, height: rows.length * 26 + 46,
      ariaLabel: label,
      ariaDescription: rows.map((r) => `${r.name} ${shown(r.rate)}, 95% interval ${shown(r.low)} to ${shown(r.high)}`).join("; "),
      x: { domain: [Math.floor(least * 10) / 10, 1], tickFormat: (v) => Math.round(v * 100) + "%", ticks: width < 500 ? 4 : 8, grid: true, label: null },
      y: { domain: rows.map((r) => r.name), label: null, tickSize: 0, tickFormat: (name) => short(name, letters) },
      marks: [
        Plot.ruleY(rows, { y: "name", x1: "worst", x2: "best", stroke: "var(--fair)", strokeWidth: 1.5 }),
        Plot.ruleY(rows, { y: "name", x1: "low", x2: "high", stroke: "var(--plain)", strokeWidth: 6, strokeLinecap: "round" }),
        Plot.dot(rows, { y: "name", x: "rate", r: 5, fill: "var(--accent)", stroke: "var(--paper)" }),
        Plot.tickX(ticks, { y: "name", x: "bar", stroke: "var(--bad)", strokeWidth: 2.5, insetTop: -2, insetBottom: -2 }),
      ],
    });
  };
}

function barChart(rows, label, unit, what) {
  return (width) =>
    Plot.plot({
      className: "chart", width, height: 200, marginLeft: 46, marginBottom: 40, ariaLabel: label,
      ariaDescription: rows.map((r) => `${r.name}: ${r.count}`).join("; "),
      x: { domain: rows.map((r) => r.name), label: unit, labelOffset: 32, tickSize: 0, tickFormat: (v) => v },
      y: { grid: true, label: what, ticks: 4, tickFormat: (v) => (Number.isInteger(v) ? v.toLocaleString("en") : "") },
      marks: [Plot.barY(rows, { x: "name", y: "count", fill: "var(--plain)", insetLeft: 1, insetRight: 1 }), Plot.ruleY([0])],
    });
}

function rateRows(named) {
  return named
    .filter(([, rate]) => rate && rate.n)
    .map(([name, rate]) => ({ name, rate: rate.rate, low: rate.low, high: rate.high, worst: rate.worst, best: rate.best }));
}

async function drawSummary() {
  const data = await unpack("chart-data");
  const rates = rateRows(data.criteria.map((c) => [words(c.id), c.overall]));
  const goals = data.verdict.bars.filter((b) => b.of === "rate").map((b) => ({ name: words(b.name), bar: b.bar })).filter((g) => rates.some((r) => r.name === g.name));
  if (rates.length) place("chart-rates", intervalChart(rates, "Pass rate of each criterion", goals));
  const overall = data.criteria.find((c) => c.id === "overall");
  const categories = overall ? rateRows(Object.entries(overall.categories)).sort((a, b) => a.rate - b.rate) : [];
  if (categories.length) place("chart-categories", intervalChart(categories, "Pass rate of whole conversations by category", []));
}

// Histogram of answer lengths with round borders; the last bin takes everything above.
function lengthRows(lengths) {
  const sorted = Float64Array.from(lengths).sort();
  const nearlyAll = sorted[Math.floor(sorted.length * 0.97)] || 1;
  const step = [10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10000].find((s) => nearlyAll / s <= 10) || 20000;
  const bins = Math.max(1, Math.ceil(nearlyAll / step));
  const rows = Array.from({ length: bins }, (_, i) => ({ name: `${i * step}${i === bins - 1 ? "+" : ""}`, count: 0 }));
  for (const length of lengths) rows[Math.min(Math.floor(length / step), bins - 1)].count += 1;
  return rows;
}

function drawShapes(conversations) {
  const counted = conversations.filter((c) => ["kept", "failed", "unscored", "unjudged"].includes(c.status));
  if (!counted.length) return;
  const exchanges = new Map();
  for (const c of counted) {
    const n = Math.min(Math.floor(c.turns.length / 2), 12);
    exchanges.set(n, (exchanges.get(n) || 0) + 1);
  }
  const rows = [...exchanges].sort((a, b) => a[0] - b[0]).map(([n, count]) => ({ name: n === 12 ? "12+" : String(n), count }));
  place("chart-exchanges", barChart(rows, "Exchanges in a conversation", "exchanges", "conversations"));
  const lengths = counted.flatMap((c) => c.turns.filter(([role]) => role === "assistant").map(([, text]) => text.length));
  if (lengths.length) place("chart-lengths", barChart(lengthRows(lengths), "Characters of an answer", "characters, from", "answers"));
}
