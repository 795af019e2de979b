// A prompt word by word: kept, dropped, protected, and why.
import { KeyNeeded, ask, make, number, percent } from "./server.js";

const byId = (id) => document.getElementById(id);
const SAMPLE = `Minutes of the platform team, 14 March 2026. Dana opened the meeting and thanked everybody for coming in spite of the rain. She said that the migration of the billing service to the new cluster is finished, and that the error rate fell from 2.4 % to 0.3 % since Tuesday. Omar asked whether the old nodes can be switched off now. Dana answered that they must not be switched off before 1 April, because the audit at https://audit.example.com/run/7781 still reads from db-legacy-02. Everyone agreed that this is fine. Priya then showed the cost report: the cluster costs $14,220 a month, which is $3,100 less than before, mostly because of smaller machines at night. There was some talk about lunch. The team decided that Priya orders the reserved instances by Friday, that Omar writes the run book, and that Dana tells the finance department. The next meeting is on 21 March at 10:00 in room 4.`;
let words = [];
let at = -1;
let running = 0;

function point(index) {
  if (!words.length) return;
  byId("play-words").querySelector(".at")?.classList.remove("at");
  at = Math.max(0, Math.min(words.length - 1, index));
  const word = words[at];
  word.element.classList.add("at");
  word.element.scrollIntoView({ block: "nearest" });
  byId("play-reason").textContent = `“${word.text}”: ${word.kept ? "kept" : "dropped"}, score ${word.score.toFixed(2)}${word.reason === "score" ? "" : `, ${word.reason}`}`;
}

function render(text, list) {
  const pieces = [];
  let end = 0;
  words = [];
  for (const word of list) {
    if (word.start > end) pieces.push(document.createTextNode(text.slice(end, word.start)));
    const guarded = word.reason.startsWith("protected");
    const element = make("span", { className: `word ${guarded ? "protected" : word.kept ? "kept" : "dropped"}` }, text.slice(word.start, word.end));
    const index = words.length;
    element.addEventListener("pointerenter", () => point(index));
    words.push({ ...word, text: text.slice(word.start, word.end), element });
    pieces.push(element);
    end = word.end;
  }
  pieces.push(document.createTextNode(text.slice(end)));
  byId("play-words").replaceChildren(...pieces);
  at = -1;
}

// The server counts characters, JavaScript UTF-16 units: an emoji is one of the first and two of the second.
function toUnits(text, list) {
  const place = [0];
  for (const character of text) place.push(place.at(-1) + character.length);
  return list.map((word) => ({ ...word, start: place[word.start], end: place[word.end] }));
}

async function shorten() {
  const turn = ++running;
  const text = byId("play-text").value;
  byId("play-state").textContent = "…";
  try {
    const answer = await ask("/v1/compress/preview", { text, keep: Number(byId("play-keep").value) / 100, model: byId("play-model").value, question: byId("play-question").value || null });
    if (turn !== running) return;
    render(text, toUnits(text, answer.words));
    byId("play-short").textContent = answer.text;
    const share = answer.tokens_before ? answer.tokens_after / answer.tokens_before : 1;
    byId("play-state").textContent = `${number(answer.tokens_before)} → ${number(answer.tokens_after)} tokens of ${answer.tokenizer} (${percent(share)})`;
  } catch (trouble) {
    if (trouble instanceof KeyNeeded) throw trouble;
    byId("play-state").textContent = trouble.message;
  }
}

let waiting = 0;
export async function openPlayground() {
  if (!byId("play-text").value) byId("play-text").value = SAMPLE;
  await shorten();
}
byId("play").addEventListener("submit", (event) => { event.preventDefault(); shorten(); });
byId("play-keep").addEventListener("input", () => {
  byId("play-keep-out").textContent = `${byId("play-keep").value} %`;
  clearTimeout(waiting);
  waiting = setTimeout(shorten, 150);
});
byId("play-words").addEventListener("keydown", (event) => {
  const step = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[event.key];
  if (!step) return;
  event.preventDefault();
  point(at + step);
});
