// Check and explain a configuration. The file itself stays where it is: Terse reloads it when it changes.
import { KeyNeeded, ask } from "./server.js";

const byId = (id) => document.getElementById(id);
let loaded = false;

export async function openPolicy() {
  if (loaded) return;
  const current = await ask("/dashboard/data/policy");
  byId("policy-text").value = current.text;
  byId("policy-file").textContent = current.file ? `In force: ${current.file}` : "In force: the built-in defaults (no terse.yaml was found)";
  loaded = true;
}

async function run(path, body) {
  const result = byId("policy-result");
  try {
    const answer = await ask(path, { text: byId("policy-text").value, ...body });
    result.textContent = answer.lines.join("\n");
    result.classList.toggle("loss", !answer.ok);
  } catch (trouble) {
    if (trouble instanceof KeyNeeded) throw trouble;
    result.textContent = trouble.message;
  }
}
byId("policy-check").addEventListener("click", () => run("/dashboard/data/policy/check", {}));
byId("policy-form").addEventListener("submit", (event) => {
  event.preventDefault();
  run("/dashboard/data/policy/explain", { model: byId("explain-model").value, team: byId("explain-team").value, tokens: Number(byId("explain-tokens").value) });
});
