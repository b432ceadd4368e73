// The review page: what all parts share. The parts are one script (page.py joins them).
// `element` is Gradio's: the component.
// Text of strangers is only ever put in by textContent.

const $ = (selector, within = element) => within.querySelector(selector);
const $$ = (selector, within = element) => [...within.querySelectorAll(selector)];

let facts; // what hello() gave
const NOWHERE = { area: [], like: [], words: "" }; // a view of no area of the map, and of no search
const EVERYTHING = {
  given: null, suggested: null, decided: "any", by: null, tag: null, column: null, has: "", split: null, low: null, high: null, ...NOWHERE,
};
let view = { order: "least clean", show: "flagged", ...EVERYTHING };
let opened = { token: null, total: 0, pages: 1 };
let number = 0; // of the page
let cards = []; // of the page, as the server gave them
let focus = 0; // place of the card that keys act on
const chosen = new Set(); // row ids that keys act on instead
const known = new Map(); // row id -> card, of rows that were shown
let loading = 0; // views and pages on their way
let problem = ""; // what the user should read in place of "all saved"

function make(tag, attributes = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name === "text") node.textContent = value;
    else if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else if (value === true) node.setAttribute(name, "");
    else if (value !== null && value !== undefined && value !== false) node.setAttribute(name, value);
  }
  node.append(...children.filter((child) => child !== null));
  return node;
}

const oneLine = (text, most = 80) => {
  const flat = String(text).replace(/\s+/g, " ").trim() || "(no name)";
  return flat.length > most ? flat.slice(0, most - 1) + "…" : flat;
};
const className = (label, most) => oneLine(facts.classes[label] ?? "?", most);
const name = (label, extra = "") =>
  make("span", { class: `cr-name ${extra}`, dir: "auto", text: className(label), title: className(label, 300) });
const count = (n) => n.toLocaleString("en");
const rowsOf = (n) => (n === 1 ? "1 row" : `${count(n)} rows`);
const percent = (x, digits = 1) => `${(100 * x).toFixed(digits)} %`;
const asPixels = ({ target }) => target.classList.toggle("cr-pixels", Math.max(target.naturalWidth, target.naturalHeight) < 40);
const picture = (address, row, text = "") =>
  facts.texts
    ? make("div", { class: "cr-picture cr-text", dir: "auto", text: text || "no text" })
    : address
    ? make("img", { class: "cr-picture", src: address, alt: `row ${row}`, loading: "lazy", draggable: "false", onload: asPixels })
    : make("div", { class: "cr-picture cr-none", text: "no picture" });
const table = (head, rows) =>
  make(
    "table",
    {},
    make("thead", {}, make("tr", {}, ...head.map((text) => make("th", { text })))),
    make("tbody", {}, ...rows.map((row) => make("tr", {}, ...row.map((text) => make("td", { dir: "auto", text: oneLine(text, 40) }))))),
  );
const newKey = () => [...crypto.getRandomValues(new Uint8Array(12))].map((b) => b.toString(16).padStart(2, "0")).join("");

const ofPage = () => ({ reviewer: facts.reviewer, journal: facts.journal, run: facts.run }); // what this page shows

async function ask(what, data = {}) {
  const silent = new Error("the server does not answer");
  const request = { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify({ ...data, what }) };
  const response = await fetch("ask", request).catch(() => Promise.reject(silent));
  const answer = await response.json().catch(() => null);
  if (answer === null || typeof answer !== "object") throw silent;
  if (answer.error || !response.ok) throw new Error(answer.error || silent.message);
  return answer;
}

function complain(error) {
  problem = oneLine(error.message || "the server does not answer", 200);
  showState();
}

const guarded = (work) => (...words) => Promise.resolve(work(...words)).catch(complain);

// ---- what is decided: the server's word, under the steps that it does not have yet

const truth = new Map(); // row id -> {mine, at}; of two words the one with the larger `at` is the newer
let waiting = []; // steps that the server does not have yet, oldest first; `effects`: [[row, decision or null]]

function learn(row, mine, at) {
  if (at >= (truth.get(row)?.at ?? -1)) truth.set(row, { mine, at });
}

function decided(row) {
  for (let i = waiting.length - 1; i >= 0; i--) {
    const effect = waiting[i].effects?.find(([touched]) => touched === row);
    if (effect) return { mine: effect[1], saved: false };
  }
  return { mine: truth.get(row)?.mine ?? null, saved: true };
}
