// Figures over time, from the books; charts by uPlot.
import { ask, dollars, make, number, percent, table } from "./server.js";

const byId = (id) => document.getElementById(id);
const charts = new Map();
const color = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

function draw(id, x, series, options = {}) {
  charts.get(id)?.destroy();
  const host = byId(id);
  host.replaceChildren();
  if (!x.length) { host.append(make("p", { className: "empty" }, "Nothing yet: send a request.")); return; }
  const axis = { stroke: color("--dim"), grid: { stroke: color("--line"), width: 1 }, ticks: { stroke: color("--line") } };
  const width = Math.max(260, host.clientWidth);
  const chart = new uPlot({
    width, height: 220,
    scales: { x: { time: options.time ?? true } },
    axes: [axis, { ...axis, size: 72, values: (_, ticks) => ticks.map(options.show ?? number) }],
    series: [{}, ...series.map((s, i) => ({ label: s.label, stroke: s.color, fill: s.fill, width: 2, points: { show: x.length < 40 } }))],
  }, [x, ...series.map((s) => s.values)], host);
  host.setAttribute("role", "img");
  host.setAttribute("aria-label", series.map((s) => `${s.label}: latest ${s.values.at(-1)}`).join("; "));
  charts.set(id, chart);
}

function tiles(total) {
  const saved = total.saved_usd ?? 0;
  const rows = [
    ["Requests", number(total.requests)],
    ["Saved, net", dollars(saved), saved < 0],
    ["Billed", dollars(total.cost_usd)],
    ["Without Terse", dollars(total.counterfactual_usd)],
    ["Input tokens saved", number(total.tokens_before - total.tokens_after)],
    ["Of the input", percent(total.tokens_before ? 1 - total.tokens_after / total.tokens_before : 0)],
  ];
  byId("tiles").replaceChildren(...rows.map(([name, value, loss]) => {
    const tile = make("div", { className: "tile" });
    tile.append(make("dt", {}, name), make("dd", { className: loss ? "loss" : "" }, value));
    return tile;
  }));
}

function bars(id, counts, empty) {
  const all = Object.values(counts).reduce((a, b) => a + b, 0);
  const rows = Object.entries(counts).sort((a, b) => b[1] - a[1]).map(([name, count]) => make("div", {},
    make("span", {}, name), Object.assign(make("progress", { max: all, value: count }), { ariaLabel: name }), make("span", {}, `${number(count)}`)));
  byId(id).replaceChildren(...(rows.length ? rows : [make("p", { className: "empty" }, empty)]));
}

function budgets(rows) {
  const gauges = rows.map((row) => make("div", { className: "gauge" },
    make("span", {}, row.account), Object.assign(make("progress", { max: 1, value: Math.min(1, row.share) }), { ariaLabel: `${row.account}: ${percent(row.share)} spent` }),
    make("span", { className: row.share >= 0.95 ? "loss" : "" }, percent(row.share))));
  byId("budgets").replaceChildren(...(gauges.length ? gauges : [make("p", { className: "empty" }, "No team has a budget.")]));
}

// The days that are shown, with zeros where the books have nothing: a line over two points would lie.
function everyDay(rows, count) {
  if (!rows.length) return [[], []];
  const byDay = new Map(rows.map((row) => [row.day, row]));
  const today = Date.parse(`${new Date().toISOString().slice(0, 10)}T00:00:00Z`) / 1000;
  const days = Array.from({ length: Math.max(2, count) }, (_, i) => today - 86400 * (Math.max(2, count) - 1 - i));
  return [days, days.map((day) => byDay.get(new Date(day * 1000).toISOString().slice(0, 10)) ?? {})];
}

function choices(id, names) {
  const select = byId(id), chosen = select.value;
  select.replaceChildren(make("option", { value: "" }, "all"), ...names.map((name) => make("option", { value: name }, name)));
  if (names.includes(chosen)) select.value = chosen;
}

export async function loadOverview() {
  const query = new URLSearchParams({ days: byId("days").value, team: byId("team").value, model: byId("model").value, route: byId("route").value });
  const data = await ask(`/dashboard/data/summary?${query}`);
  choices("team", data.teams); choices("model", data.models); choices("route", data.routes);
  tiles(data.total);
  const [days, rows] = everyDay(data.days, Number(byId("days").value));
  draw("chart-money", days, [
    { label: "billed", color: color("--dim"), values: rows.map((d) => d.cost_usd ?? 0) },
    { label: "saved", color: color("--accent"), fill: color("--kept"), values: rows.map((d) => d.saved_usd ?? 0) },
  ], { show: dollars });
  draw("chart-tokens", days, [
    { label: "before", color: color("--dim"), values: rows.map((d) => d.tokens_before ?? 0) },
    { label: "after", color: color("--accent"), values: rows.map((d) => d.tokens_after ?? 0) },
  ]);
  draw("chart-latency", data.latency.map((_, i) => i), [
    { label: "ours", color: color("--accent"), values: data.latency.map((r) => r.overhead_ms) },
    { label: "upstream", color: color("--dim"), values: data.latency.map((r) => r.upstream_ms) },
  ], { time: false });
  const split = Object.entries(data.latency_split).map(([name, ms]) => `${name}: median ${number(ms.p50)} ms, 95th percentile ${number(ms.p95)} ms`);
  byId("latency-split").textContent = split.join("; ");
  bars("cache-bars", data.cache, "Nothing yet.");
  bars("skips", data.skips, "Nothing was skipped.");
  byId("table-by").replaceChildren(table([
    { title: "Team", left: true, text: (r) => r.team }, { title: "Route", left: true, text: (r) => r.route }, { title: "Model", left: true, text: (r) => r.model },
    { title: "Requests", text: (r) => number(r.requests) }, { title: "Before", text: (r) => number(r.tokens_before) },
    { title: "After", text: (r) => number(r.tokens_after) }, { title: "Billed", text: (r) => dollars(r.cost_usd) }, { title: "Saved", text: (r) => dollars(r.saved_usd) },
  ], data.groups, "Nothing yet."));
  const around = (r) => `${dollars(r.output_change_usd)} (${dollars(r.output_change_usd_low)} – ${dollars(r.output_change_usd_high)})`;
  byId("answers").replaceChildren(table([
    { title: "Team", left: true, text: (r) => r.team }, { title: "Route", left: true, text: (r) => r.route }, { title: "Model", left: true, text: (r) => r.model },
    { title: "Requests", text: (r) => `${number(r.compared_requests)} / ${number(r.holdout_requests)} held out` },
    { title: "Tokens held out", text: (r) => number(r.holdout_output_tokens_mean) }, { title: "Tokens shortened", text: (r) => number(r.output_tokens_mean) },
    { title: "Longer answers cost, 95 %", text: around }, { title: "Saved less that", text: (r) => dollars(r.net_saved_usd) },
  ], data.answers, "Too few answers of a policy with a holdout yet: ten in either arm."));
  budgets(data.budgets);
  const interval = (one) => (one ? `${percent(one.mean)} (${percent(one.low)} – ${percent(one.high)})` : "–");
  byId("quality").replaceChildren(table([
    { title: "Policy", left: true, text: (r) => r.policy }, { title: "Quality, 95 % interval", text: (r) => interval(r.quality) },
    { title: "Pairs", text: (r) => number(r.quality?.n) }, { title: "Requests", text: (r) => `${number(r.requests.treated)} / ${number(r.requests.holdout)} held out` },
    { title: "State", left: true, text: (r) => r.state },
  ], data.quality, "No policy has a holdout or a shadow share."));
}
byId("filters").addEventListener("change", () => loadOverview());
