// ---- what opens over the page. Only the newest panel opens: an answer that comes late is dropped.

let panel = null; // {name, key(event) -> whether it was handled}, and more of its own
let tickets = 0;

function openPanel(made, ...content) {
  tickets += 1;
  panel = made;
  const node = $(".cr-panel");
  const inside = node.contains(document.activeElement) && document.activeElement !== node;
  node.replaceChildren(...content);
  node.setAttribute("aria-label", made.title ?? made.name);
  $(".cr-over").hidden = false;
  const covered = made.name !== "large"; // in the large view the buttons of a row serve its row
  $(".cr").classList.toggle("cr-covered", covered);
  behind().forEach((one) => (one.inert = true));
  $(".cr-acts").inert = covered;
  node.scrollTop = 0;
  if (inside || !node.contains(document.activeElement)) node.focus({ preventScroll: true });
}

function closePanel() {
  tickets += 1;
  panel = null;
  $(".cr-over").hidden = true;
  $(".cr-panel").replaceChildren();
  $(".cr").classList.remove("cr-covered");
  [...behind(), $(".cr-acts")].forEach((one) => (one.inert = false));
  (nodeAt(focus) ?? $(".cr")).focus({ preventScroll: true });
}

const behind = () => $$(".cr-title, .cr-filters, .cr-rest, .cr-grid, .cr > footer"); // what a panel covers

async function newest(promise) {
  // the answer, or null where another panel was opened, or this one closed, meanwhile
  const ticket = ++tickets;
  const answer = await promise;
  return ticket === tickets ? answer : null;
}

const heading = (text, ...more) =>
  make("div", { class: "cr-head" }, make("h2", { text, dir: "auto" }), ...more, make("button", { text: "✕", title: "Esc", "aria-label": "close", onclick: closePanel }));

// ---- search of a label: `choose` gets it; `back` brings back what was there before

function openSearch(choose, back, none = null) {
  // none(text): what to do where no class is meant
  let found = [], on = 0;
  const list = make("ul", { role: "listbox", "aria-label": "classes", tabindex: 0 });
  const other = make("button", { onclick: () => { const text = oneLine(input.value, 40); back(); none(input.value.trim() ? text : ""); } });
  const input = make("input", { placeholder: "label …", "aria-label": "label", autocomplete: "off" });
  const take = (label) => {
    back();
    choose(label);
  };
  const show = () => {
    const text = input.value.trim().toLowerCase();
    const all = facts.classes.map((name, label) => [name.toLowerCase(), label]).filter(([name]) => name.includes(text));
    all.sort((a, b) => b[0].startsWith(text) - a[0].startsWith(text));
    found = all.slice(0, 50).map(([, label]) => label);
    on = Math.max(0, Math.min(on, found.length - 1));
    list.replaceChildren(...found.map((label, i) => make("li", { role: "option", "aria-selected": String(i === on), class: i === on ? "cr-on" : "", onclick: () => take(label) }, name(label))));
    other.textContent = text ? `A new class “${oneLine(input.value, 40)}”: drop the row, with this tag` : "None of these: drop the row, with this tag";
    list.children[on]?.scrollIntoView({ block: "nearest" });
  };
  input.addEventListener("input", () => {
    on = 0;
    show();
  });
  input.addEventListener("keydown", (event) => {
    if (event.key === "Escape") back();
    else if (event.key === "Enter" && found.length) take(found[on]);
    else if (event.key === "ArrowDown" || event.key === "ArrowUp") {
      on = Math.max(0, Math.min(found.length - 1, on + (event.key === "ArrowDown" ? 1 : -1)));
      show();
    } else return;
    event.preventDefault();
    event.stopPropagation();
  });
  openPanel({ name: "search", key: () => false }, make("div", { class: "cr-find" }, input, list, none && other));
  show();
  input.focus();
}

function labelSearch() {
  if (panel && panel.name !== "large") return;
  const large = panel; // the row it shows is meant, whatever has the focus
  openSearch(
    (label) => (large ? decide([large.card], labelled(label)) && large.step(1) : act(labelled(label))),
    () => (large ? showLarge(large.card, cards.findIndex((card) => card.row === large.card.row)) : closePanel()),
    (text) => {
      const tag = text ? `new class: ${text}` : "none of these";
      targets().forEach((card) => tagged(card, tag));
      act(plainly("drop"));
    },
  );
}

// ---- reviewers, and help

const labelOrDrop = (label) => (label === null ? "(drop)" : label);

function qualityCells(who, quality) {
  const found = quality[who];
  if (!found) return ["–", "–"];
  const { rows, right, low, high, worst } = found;
  const share = `${percent(right / rows)} of ${count(rows)} (${percent(low, 0)} to ${percent(high, 0)})`;
  return [share, worst ? `${labelOrDrop(worst.label)}: ${worst.wrong} of ${worst.rows}` : "–"];
}

async function openPeople() {
  const answer = await newest(ask("people"));
  if (!answer) return;
  const { reviewers, agreement, verified, quality, owed } = answer;
  const status = make("p", { class: "cr-status" });
  const save = guarded(async () => {
    const { files } = await ask("export");
    status.textContent = `written: ${files.join(", ")}`;
  });
  const conflicts = () => {
    closePanel();
    guarded(openView)({ decided: "any", show: "conflicts", given: null, suggested: null });
  };
  const kappa = (of) => (of === null ? "–" : of.toFixed(2));
  const agreed = agreement.map((a) => [a.reviewers.join(" / "), count(a.rows), percent(a.agreement), kappa(a.kappa)]);
  const by_class = answer.by_class.map((c) => [labelOrDrop(c.label), count(c.rows), kappa(c.kappa)]);
  const names = [...new Set([...Object.keys(reviewers), ...Object.keys(owed)])];
  const people = names.map((who) => [who, count(reviewers[who] ?? 0), who in owed ? count(owed[who]) : "–", ...qualityCells(who, quality)]);
  const said =
    `${count(verified.keep + verified.both + verified.relabel)} rows are verified (${count(verified.keep)} kept, ` +
    `${count(verified.both)} with a second right label, ${count(verified.relabel)} relabelled); ` +
    `not used: ${count(verified.drop)} dropped, ${count(verified.unsure)} unsure, ${count(verified.conflict)} in conflict. ` +
    `An adjudicator has settled ${count(answer.rulings)}.`;
  openPanel(
    { name: "people", key: () => false },
    heading("Reviewers"),
    table(["reviewer", "rows decided", "flagged rows owed", "as the consensus (95 % interval)", "least right on"], people),
    make("p", { text: "The consensus weighs the reviewers and the run's own probabilities (CROWDLAB), on rows that two decided; where somebody has settled a conflict, that holds." }),
    make("h3", { text: "Agreement" }),
    ...(agreed.length
      ? [
          table(["reviewers", "rows by both", "agree", "Cohen's kappa"], agreed),
          make("p", { text: `All reviewers together: Fleiss' kappa ${kappa(answer.kappa)} (0: as chance would have it, 1: they always agree).` }),
          make("details", {}, make("summary", { text: "By class, the least agreed on first" }), table(["class", "rows", "Fleiss' kappa"], by_class)),
        ]
      : [make("p", { text: "No row was decided by two reviewers yet." })]),
    make("h3", { text: "As verified rows" }),
    make("p", { text: said }),
    make("div", { class: "cr-row" }, make("button", { text: "Show conflicts", disabled: !verified.conflict, onclick: conflicts }), facts.space ? null : make("button", { text: "Export decisions", onclick: save })),
    status,
  );
}

async function downloadFixed() {
  if (waiting.length) throw new Error("the fixed list would lack what is not saved yet: try again when all is saved");
  const { csv, rows } = await ask("fixed");
  if (!rows) throw new Error("the fixed list is empty: nobody has relabelled a row yet");
  const link = make("a", { href: URL.createObjectURL(new Blob([csv], { type: "text/csv" })), download: "fixed.csv" });
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
}

function openHelp() {
  const keys = [
    ["← → ↑ ↓", "move"], ["Enter", "accept the suggestion; among junk: drop the row"], [shownKey("k"), "keep the given label"],
    [SUGGESTING.map((_, place) => suggestingKey(place)).join(", "), "give the row's 1st, 2nd, … suggestion: the key stands before it"],
    ...(ofClass.size ? [["a class's name", "give that class; what the key does elsewhere it does with ⇧ (Shift)"]] : []),
    ["/", "search a label by typing"], [shownKey("d"), "drop the row"], [shownKey("u"), "unsure"],
    [shownKey("b"), "both: the given label is right, and so is the suggested one"], ["Ctrl+Z, Ctrl+Shift+Z", "undo, redo"],
    [`${shownKey("x")}, Shift+arrows`, "choose rows: the keys above then act on all of them"],
    ["Shift+Enter", "accept the rest of the page"], [`${shownKey("n")}, ${shownKey("p")}`, "next, previous page"], ["Space", "large view"],
    [shownKey("g"), "by cluster: choose the group of the row"], [shownKey("l"), "more like the row, or like the chosen ones"],
    [shownKey("c"), "note and tags"], [shownKey("z"), "zoom, in the large view"], [shownKey("m"), "matrix"], ["?", "this help"], ["Esc", "close, choose none"],
  ];
  const keyNodes = (text) => text.split(", ").flatMap((part, i) => [i ? " " : "", make("kbd", { text: part })]);
  const rows = keys.map(([key, what]) => make("tr", {}, make("td", {}, ...keyNodes(key)), make("td", { text: what })));
  const words = [
    "A decision shows at once and is saved in the background; “all saved” means that it is on the server's disk. It survives a reload and a restart of the server.",
    "A row's bars are the method's soft label; the given label is underlined. Decided rows can be used as verified rows in the next run:",
  ];
  openPanel({ name: "help", key: () => false }, heading("Keys"), make("table", {}, make("tbody", {}, ...rows)), ...words.map((text) => make("p", { text })), make("p", {}, make("code", { text: facts.again })));
}
