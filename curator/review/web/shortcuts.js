// ---- which key means what on this run. Where classes are named by single letters or digits, a key that
// is the name of a class gives that class and nothing else: suggestions have the keys Q W E R T, and what a key did
// before (drop, keep, ...) it does with Shift.

let ofClass = new Map(); // key -> label; empty where no class is named by one letter or digit
let SUGGESTING = [..."123456789"]; // keys of the first, second, ... suggestion

function learnKeys() {
  const single = facts.classes.map((text, label) => [text.trim(), label]).filter(([text]) => /^[\p{L}\p{N}]$/u.test(text));
  ofClass = new Map(single);
  for (const [text, label] of single)
    for (const other of [text.toLowerCase(), text.toUpperCase()]) if (!ofClass.has(other)) ofClass.set(other, label);
  if (single.length) SUGGESTING = [..."qwert"];
  for (const node of $$("[data-key]")) {
    node.title = [shownKey(node.dataset.key), node.dataset.says].filter(Boolean).join(": ");
    node.setAttribute("aria-keyshortcuts", (taken(node.dataset.key) ? "Shift+" : "") + node.dataset.key);
  }
}

const taken = (key) => ofClass.has(key.toLowerCase());
const shownKey = (key) => (taken(key) ? "⇧" : "") + (key.length === 1 ? key.toUpperCase() : key);
const suggestingKey = (place) => (place in SUGGESTING ? shownKey(SUGGESTING[place]) : "");
const classOfKey = (event) => (event.shiftKey ? undefined : ofClass.get(event.key)); // its label
const placeOfKey = (event) => SUGGESTING.indexOf(event.key.toLowerCase()); // of a suggestion; -1 for none

// The key of a class where nothing is suggested, in the audit: its name, else its place among the first ten.
const auditKey = (label) => {
  const text = facts.classes[label].trim();
  return ofClass.size ? (ofClass.get(text) === label ? text : "") : label < 10 ? String((label + 1) % 10) : "";
};
