// Tabs, key, theme. Each view is a module of its own; text goes into the page as text nodes only.
import { loadOverview } from "./overview.js";
import { startRequests, stopRequests } from "./requests.js";
import { openPlayground } from "./playground.js";
import { openPolicy } from "./policy.js";
import { KeyNeeded, forgetKey, hasKey, setKey } from "./server.js";

const byId = (id) => document.getElementById(id);
const tabs = [...document.querySelectorAll("[role=tab]")];
const opened = { overview: loadOverview, requests: startRequests, playground: openPlayground, policy: openPolicy };
let current = "overview";

async function show(name) {
  current = name;
  stopRequests();
  for (const tab of tabs) {
    const selected = tab.id === `tab-${name}`;
    tab.setAttribute("aria-selected", selected);
    tab.tabIndex = selected ? 0 : -1;
    byId(tab.id.slice(4)).hidden = !selected;
  }
  try {
    await opened[name]();
    byId("sign-in").hidden = true;
    byId("sign-out").hidden = !hasKey();
  } catch (trouble) {
    if (!(trouble instanceof KeyNeeded)) throw trouble;
    byId(name).hidden = true;
    byId("sign-in").hidden = false;
    byId("sign-in-error").textContent = hasKey() ? "This key does not open the dashboard." : "";
    byId("key").focus();
  }
}

for (const [index, tab] of tabs.entries()) {
  tab.addEventListener("click", () => { location.hash = tab.id.slice(4); });
  tab.addEventListener("keydown", (event) => {
    const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    if (!step) return;
    const next = tabs[(index + step + tabs.length) % tabs.length];
    next.focus();
    next.click();
  });
}
byId("sign-in").addEventListener("submit", (event) => {
  event.preventDefault();
  setKey(byId("key").value.trim());
  byId("key").value = "";
  show(current);
});
byId("sign-out").addEventListener("click", () => { forgetKey(); show(current); });
byId("theme").addEventListener("click", () => {
  const root = document.documentElement;
  const dark = root.dataset.theme ? root.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
  root.dataset.theme = dark ? "light" : "dark";
  localStorage.setItem("terse-theme", root.dataset.theme);
  if (current === "overview") show("overview");
});
if (localStorage.getItem("terse-theme")) document.documentElement.dataset.theme = localStorage.getItem("terse-theme");
const fromHash = () => (opened[location.hash.slice(1)] ? location.hash.slice(1) : "overview");
addEventListener("hashchange", () => show(fromHash()));
show(fromHash());
