// The live tail of receipts.
import { ask, dollars, number, table } from "./server.js";

const byId = (id) => document.getElementById(id);
const EVERY_MS = 2000;
let timer = 0;

async function refresh() {
  const data = await ask("/dashboard/data/recent?limit=100");
  byId("table-requests").replaceChildren(table([
    { title: "Time", left: true, text: (r) => r.at.slice(11, 19) }, { title: "Team", left: true, text: (r) => r.team },
    { title: "Model", left: true, text: (r) => r.model }, { title: "Status", text: (r) => r.status_code },
    { title: "Compression", left: true, text: (r) => (r.skip_reason ? `${r.compression}: ${r.skip_reason}` : r.compression) },
    { title: "Cache", left: true, text: (r) => r.cache }, { title: "Before", text: (r) => number(r.tokens_before) },
    { title: "After", text: (r) => number(r.tokens_after) }, { title: "Output", text: (r) => number(r.output_tokens) },
    { title: "Billed", text: (r) => dollars(r.cost_usd) }, { title: "Saved", text: (r) => dollars(r.saved_usd) },
    { title: "Ours ms", text: (r) => number(r.overhead_ms) }, { title: "Upstream ms", text: (r) => number(r.upstream_ms) },
  ], data.receipts, "No request yet."));
  byId("live-state").textContent = `${data.receipts.length} shown, ${new Date().toLocaleTimeString()}`;
}

export async function startRequests() {
  await refresh();
  timer = setInterval(() => {
    if (byId("live").checked && !document.hidden) refresh().catch((trouble) => { byId("live-state").textContent = trouble.message; });
  }, EVERY_MS);
}
export function stopRequests() { clearInterval(timer); }
