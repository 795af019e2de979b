// Talks to the gateway. The key lives in this tab's session storage and goes nowhere but to this origin.
export class KeyNeeded extends Error {}
const SLOT = "terse-key";
export const hasKey = () => Boolean(sessionStorage.getItem(SLOT));
export const setKey = (key) => sessionStorage.setItem(SLOT, key);
export const forgetKey = () => sessionStorage.removeItem(SLOT);

export async function ask(path, body) {
  const headers = { accept: "application/json" };
  if (hasKey()) headers.authorization = `Bearer ${sessionStorage.getItem(SLOT)}`;
  if (body !== undefined) headers["content-type"] = "application/json";
  const reply = await fetch(path, { method: body === undefined ? "GET" : "POST", headers, body: body === undefined ? undefined : JSON.stringify(body) });
  if (reply.status === 401 || reply.status === 403) throw new KeyNeeded();
  const answer = await reply.json();
  if (!reply.ok) throw new Error(answer.error?.message ?? `HTTP ${reply.status}`);
  return answer;
}

export function make(tag, properties = {}, ...children) {
  const element = Object.assign(document.createElement(tag), properties);
  element.append(...children);
  return element;
}

export function table(columns, rows, empty) {
  if (!rows.length) return make("p", { className: "empty" }, empty);
  const head = make("tr", {}, ...columns.map((c) => make("th", { scope: "col", className: c.left ? "left" : "" }, c.title)));
  const body = rows.map((row) => make("tr", {}, ...columns.map((c) => make("td", { className: c.left ? "left" : "" }, String(c.text(row))))));
  return make("table", {}, make("thead", {}, head), make("tbody", {}, ...body));
}

export const number = (value) => Math.round(value ?? 0).toLocaleString("en");
export const percent = (value) => `${(100 * (value ?? 0)).toFixed(1)} %`;
export function dollars(value) {
  const size = Math.abs(value ?? 0);
  const digits = size === 0 || size >= 10 ? 2 : size >= 0.01 ? 4 : 6;
  return `${value < 0 ? "−" : ""}$${size.toFixed(digits)}`;
}
