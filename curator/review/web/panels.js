// ---- part 4 of 7: what opens over the page. Only the newest panel opens: an answer that comes late is dropped.

let panel = null; // {name, key(event) -> whether it was handled}, and more of its own
let tickets = 0;

function openPanel(made, ...content) {
  tickets += 1;
  panel = made;
  $(".cr-panel").replaceChildren(...content);
  $(".cr-over").hidden = false;
  $(".cr-panel").scrollTop = 0;
}

function closePanel() {
  tickets += 1;
  panel = null;
  $(".cr-over").hidden = true;
  $(".cr-panel").replaceChildren();
  $(".cr").focus({ preventScroll: true });
}

async function newest(promise) {
  // the answer, or null where another panel was opened, or this one closed, meanwhile
  const ticket = ++tickets;
  const answer = await promise;
  return ticket === tickets ? answer : null;
}

const heading = (text, ...more) =>
  make("div", { class: "cr-head" }, make("h2", { text, dir: "auto" }), ...more, make("button", { text: "✕", title: "Esc", onclick: closePanel }));

// ---- a row, large: at once with what the grid knows of it, then with its neighbours

async function openLarge(row) {
  const place = cards.findIndex((card) => card.row === row);
  if (place >= 0) setFocus(place);
  if (known.has(row)) showLarge(known.get(row), place);
  const answer = await newest(ask("detail", { row }));
  if (!answer) return;
  learn(row, answer.mine, answer.at);
  if (!known.has(row)) known.set(row, answer);
  showLarge(answer, place);
}

function showLarge(card, place) {
  const step = (by) => {
    const to = cards[place + by];
    if (place >= 0 && to) guarded(openLarge)(to.row);
    else if (by > 0) closePanel();
  };
  const frame = make("div", { class: "cr-large-picture", "data-row": card.row }, picture(card.image, card.row, card.text));
  const near = (card.near ?? []).flatMap(({ label, cards: rows }) => [
    make("h3", {}, "nearest rows labelled ", name(label)),
    rows.length
      ? make("div", { class: `cr-strip${facts.texts ? " cr-texts" : ""}` }, ...rows.map(neighbour))
      : make("p", { class: "cr-small", text: facts.features ? "none" : "this run has no features.npy" }),
  ]);
  const button = (text, title, onclick) => make("button", { text, title, onclick });
  const buttons = make(
    "div",
    { class: "cr-row" },
    button("Accept", "Enter", () => act(accepted)),
    button("Both", "B", () => act(both)),
    ...["keep", "drop", "unsure"].map((action) => button(action[0].toUpperCase() + action.slice(1), action[0].toUpperCase(), () => act(plainly(action)))),
    button("◀", "left arrow", () => step(-1)),
    button("▶", "right arrow", () => step(1)),
  );
  const key = (event) => {
    const by = event.ctrlKey || event.metaKey || event.altKey ? 0 : { ArrowLeft: -1, ArrowUp: -1, ArrowRight: 1, ArrowDown: 1 }[event.key];
    if (by) step(by);
    return Boolean(by);
  };
  const file = card.file ? make("p", { class: "cr-small", dir: "auto", text: oneLine(card.file, 120) }) : null;
  openPanel(
    { name: "large", card, step, key },
    heading(`Row ${card.row}`),
    make("div", { class: "cr-large" }, frame, make("div", {}, ...captions(card), file, bars(card, 9), buttons, ...near)),
  );
  paint(card.row);
}

const neighbour = ({ row, image, text }) =>
  make("figure", { onclick: guarded(() => openLarge(row)) }, picture(image, row, text), make("figcaption", { text: `row ${row}` }));

// ---- the matrix

async function openMatrix() {
  const answer = await newest(ask("matrix", { show: view.show }));
  if (!answer) return;
  const pick = (given, suggested) => {
    closePanel();
    guarded(openView)({ given, suggested });
  };
  const all = make("button", { text: "all pairs", onclick: () => pick(null, null) });
  const body = facts.classes.length <= 30 ? matrixTable(answer.pairs, pick) : pairsTable(answer.pairs, pick);
  openPanel({ name: "matrix", key: () => false }, heading(`Given (down) → suggested (across), ${view.show} rows`, all), body);
}

function matrixTable(pairs, pick) {
  const cells = new Map(pairs.map(([a, b, n]) => [`${a} ${b}`, n]));
  const most = Math.max(1, ...pairs.filter(([a, b]) => a !== b).map(([, , n]) => n));
  const cell = (a, b) => {
    const n = cells.get(`${a} ${b}`);
    if (!n) return make("td");
    const shade = a === b ? 0 : Math.round(60 * Math.sqrt(n / most));
    const style = `background:color-mix(in srgb, var(--color-accent) ${shade}%, transparent)`;
    return make("td", { "data-given": a, "data-suggested": b, text: count(n), style, onclick: () => pick(a, b) });
  };
  const labels = facts.classes.map((_, label) => label);
  const head = make("tr", {}, make("th"), ...labels.map((b) => make("th", {}, name(b))));
  const rows = labels.map((a) => make("tr", {}, make("th", {}, name(a)), ...labels.map((b) => cell(a, b))));
  return make("table", { class: "cr-matrix" }, make("thead", {}, head), make("tbody", {}, ...rows));
}

function pairsTable(pairs, pick) {
  const node = table(["given", "suggested", "rows"], pairs.slice(0, 200).map(([a, b, n]) => [className(a), className(b), count(n)]));
  $$("tbody tr", node).forEach((row, i) => {
    const [a, b] = pairs[i];
    Object.assign(row.dataset, { given: a, suggested: b });
    row.addEventListener("click", () => pick(a, b));
  });
  return node;
}

// ---- search of a label: `choose` gets it; `back` brings back what was there before

function openSearch(choose, back) {
  let found = [], on = 0;
  const list = make("ul");
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
    list.replaceChildren(...found.map((label, i) => make("li", { class: i === on ? "cr-on" : "", onclick: () => take(label) }, name(label))));
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
  openPanel({ name: "search", key: () => false }, make("div", { class: "cr-find" }, input, list));
  show();
  input.focus();
}

function labelSearch() {
  if (panel && panel.name !== "large") return;
  const large = panel; // the row it shows is meant, whatever has the focus
  openSearch(
    (label) => (large ? decide([large.card], labelled(label)) && large.step(1) : act(labelled(label))),
    () => (large ? showLarge(large.card, cards.findIndex((card) => card.row === large.card.row)) : closePanel()),
  );
}

// ---- reviewers, and help

async function openPeople() {
  const answer = await newest(ask("people"));
  if (!answer) return;
  const { reviewers, agreement, verified } = answer;
  const status = make("p", { class: "cr-status" });
  const save = guarded(async () => {
    const { files } = await ask("export");
    status.textContent = `written: ${files.join(", ")}`;
  });
  const conflicts = () => {
    closePanel();
    guarded(openView)({ decided: "conflicts", show: "all", given: null, suggested: null });
  };
  const agreed = agreement.map((a) => [a.reviewers.join(" / "), count(a.rows), percent(a.agreement), a.kappa === null ? "–" : a.kappa.toFixed(2)]);
  const said =
    `${count(verified.keep + verified.both + verified.relabel)} rows are verified (${count(verified.keep)} kept, ` +
    `${count(verified.both)} with a second right label, ${count(verified.relabel)} relabelled); ` +
    `not used: ${count(verified.drop)} dropped, ${count(verified.unsure)} unsure, ${count(verified.conflict)} in conflict.`;
  openPanel(
    { name: "people", key: () => false },
    heading("Reviewers"),
    table(["reviewer", "rows decided"], Object.entries(reviewers).map(([who, n]) => [who, count(n)])),
    make("h3", { text: "Agreement" }),
    agreed.length
      ? table(["reviewers", "rows by both", "agree", "Cohen's kappa"], agreed)
      : make("p", { text: "No row was decided by two reviewers yet." }),
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
    ["← → ↑ ↓", "move"], ["Enter", "accept the suggestion; among junk: drop the row"], ["K", "keep the given label"],
    ["1 … 9", "give the row's 1st … 9th suggestion"], ["/", "search a label by typing"], ["D", "drop the row"],
    ["U", "unsure"],
    ["B", "both: the given label is right, and so is the suggested one"], ["Ctrl+Z, Ctrl+Shift+Z", "undo, redo"],
    ["X, Shift+arrows", "choose rows: the keys above then act on all of them"],
    ["Shift+Enter", "accept the rest of the page"], ["N, P", "next, previous page"], ["Space", "large view"],
    ["M", "matrix"], ["?", "this help"], ["Esc", "close, choose none"],
  ];
  const keyNodes = (text) => text.split(", ").flatMap((part, i) => [i ? " " : "", make("kbd", { text: part })]);
  const rows = keys.map(([key, what]) => make("tr", {}, make("td", {}, ...keyNodes(key)), make("td", { text: what })));
  const words = [
    "A decision shows at once and is saved in the background; “all saved” means that it is on the server's disk. It survives a reload and a restart of the server.",
    "A row's bars are the method's soft label; the given label is underlined. Decided rows can be used as verified rows in the next run:",
  ];
  openPanel({ name: "help", key: () => false }, heading("Keys"), make("table", {}, make("tbody", {}, ...rows)), ...words.map((text) => make("p", { text })), make("p", {}, make("code", { text: facts.again })));
}
