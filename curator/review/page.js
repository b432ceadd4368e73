// The review page. `element` and `server` are Gradio's: the component, and the Python functions of session.py.
// What a key does shows at once; it waits in a queue (kept in localStorage) until the server has it on its disk.
// Text of strangers is only ever put in by textContent.

const $ = (selector, within = element) => within.querySelector(selector);
const $$ = (selector, within = element) => [...within.querySelectorAll(selector)];
const ACTIONS = { keep: "keep", drop: "drop", unsure: "unsure" };
const PAUSE = 60; // seconds without a decision that do not count as work

let facts; // what hello() gave
let view = { order: "least clean", show: "flagged", given: null, suggested: null, decided: "any" };
let opened = { token: null, total: 0, pages: 1 };
let number = 0; // of the page
let cards = []; // of the page, as the server gave them
let ahead = null; // {token, number, promise} of the page that was asked for early
let focus = 0;
const chosen = new Set(); // row ids
const known = new Map(); // row id -> card, of everything that was shown
let undoable = []; // steps made here: {key, before: [[row, decision]], after: [[row, decision]]}
let redoable = [];
let times = []; // [milliseconds, rows] of the latest decisions
let panel = null; // what is open over the page: {name, key(event) -> handled, close()}
let loading = 0;

// ---- small helpers

function make(tag, attributes = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name === "text") node.textContent = value;
    else if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else if (value !== null && value !== undefined && value !== false) node.setAttribute(name, value);
  }
  node.append(...children.filter((child) => child !== null));
  return node;
}

const oneLine = (text, most = 80) => {
  const flat = String(text).replace(/\s+/g, " ").trim() || "(no name)";
  return flat.length > most ? flat.slice(0, most - 1) + "…" : flat;
};
const className = (label) => oneLine(facts.classes[label] ?? "?");
const name = (label, extra = "") =>
  make("span", { class: `cr-name ${extra}`, dir: "auto", text: className(label), title: oneLine(facts.classes[label] ?? "?", 300) });
const count = (n) => n.toLocaleString("en");
const percent = (x, digits = 1) => `${(100 * x).toFixed(digits)} %`;
const picture = (address, row, extra = "") =>
  address
    ? make("img", { class: `cr-picture ${extra}`, src: address, alt: `row ${row}`, loading: "lazy", draggable: "false" })
    : make("div", { class: `cr-picture cr-none ${extra}`, text: "no picture" });
const newKey = () => [...crypto.getRandomValues(new Uint8Array(12))].map((b) => b.toString(16).padStart(2, "0")).join("");
const same = (a, b) => (a && b ? a.action === b.action && a.label === b.label : !a && !b);

async function ask(what, data = {}) {
  const answer = await server.ask_session({ ...data, what });
  if (answer === null || typeof answer !== "object") throw new Error("no answer");
  return answer;
}

// ---- saving

const shelf = () => `curator:${facts.journal}:${facts.reviewer}:`;
const tab = sessionStorage.getItem("curator-tab") || newKey();
sessionStorage.setItem("curator-tab", tab);
let waiting = []; // steps that the server does not have yet, oldest first
let sending = false;
let failures = 0;
let problem = "";
let kept = true; // whether `waiting` would survive a reload

function remember() {
  try {
    kept = true;
    if (waiting.length) localStorage.setItem(shelf() + tab, JSON.stringify(waiting));
    else localStorage.removeItem(shelf() + tab);
  } catch {
    kept = false; // no storage (a private window): the steps are still sent
  }
}

function recall() {
  // Steps of this tab before a reload, and of tabs that were closed: sent twice, a step counts once.
  try {
    const found = Object.keys(localStorage).filter((key) => key.startsWith(shelf()));
    for (const key of found) {
      waiting.push(...JSON.parse(localStorage.getItem(key)));
      if (key !== shelf() + tab) localStorage.removeItem(key);
    }
    remember();
  } catch {
    // nothing was kept
  }
}

function post(step) {
  waiting.push(step);
  remember();
  showState();
  send();
}

async function send() {
  if (sending || !waiting.length) return;
  sending = true;
  try {
    const batch = waiting.slice(0, 200);
    const answer = await ask("save", { steps: batch });
    if (answer.error) throw new Error(answer.error);
    const done = new Set([...answer.saved, ...answer.refused]);
    waiting = waiting.filter((step) => !done.has(step.key));
    failures = 0;
    remember();
    if (answer.refused.length) problem = `${answer.refused.length} decisions do not fit this run and were not saved`;
    settle(answer);
  } catch (error) {
    failures += 1;
    setTimeout(send, Math.min(5000, 300 * 2 ** failures));
  } finally {
    sending = false;
    showState();
    if (!failures) send();
  }
}

function settle(answer) {
  // The server's word on rows, but for those with newer steps on their way; undo may touch any row.
  facts.counts = answer.counts;
  const busy = new Set(waiting.flatMap((step) => (step.rows ?? []).map(([row]) => row)));
  const undoing = waiting.some((step) => step.kind === "undo" || step.kind === "redo");
  for (const [row, state] of Object.entries(answer.rows)) {
    const card = known.get(Number(row));
    if (!card || undoing || busy.has(Number(row))) continue;
    card.mine = state;
    card.unsaved = false;
    paint(card);
  }
  showProgress();
}

function showState() {
  const node = $(".cr-state");
  node.classList.toggle("cr-saving", waiting.length > 0 && failures === 0);
  node.classList.toggle("cr-failing", failures > 0 || problem !== "");
  node.textContent = failures
    ? `${waiting.length} not saved: the server does not answer, trying again`
    : problem || (waiting.length ? `saving ${waiting.length} …` : "all saved");
  node.dataset.waiting = waiting.length;
}

window.addEventListener("beforeunload", (event) => {
  if (waiting.length && !kept) event.preventDefault();
});

// ---- deciding

function decide(targets, choose) {
  // choose(card) -> decision or null; one step, one undo
  const rows = [], before = [], after = [];
  for (const card of targets) {
    const made = choose(card);
    if (!made) continue;
    if (made.action === "relabel" && made.label === card.given) made.action = "keep";
    if (made.action === "keep") made.label = card.given;
    rows.push([card.row, made.action, made.label]);
    before.push([card.row, card.mine]);
    after.push([card.row, made]);
    card.mine = made;
    card.unsaved = true;
    paint(card);
  }
  if (!rows.length) return;
  problem = "";
  const step = { key: newKey(), kind: "do", rows };
  undoable.push({ key: step.key, before, after });
  redoable = [];
  times.push([Date.now(), rows.length]);
  times = times.slice(-200);
  post(step);
  showProgress();
}

const accepted = (card) => ({ action: "relabel", label: card.suggested });
const plainly = (action) => () => ({ action, label: null });
const labelled = (label) => () => ({ action: "relabel", label });
const suggestion = (place) => (card) => (card.top[place] ? { action: "relabel", label: card.top[place][0] } : null);
const targets = () => (chosen.size ? cards.filter((card) => chosen.has(card.row)) : current() ? [current()] : []);
const current = () => (panel?.name === "large" ? panel.card : cards[focus]);

function act(choose) {
  const several = panel?.name !== "large" && chosen.size > 0;
  decide(several ? targets() : current() ? [current()] : [], choose);
  if (several) choose_none();
  else if (panel?.name === "large") panel.next();
  else move(1);
}

function rest(choose) {
  decide(cards.filter((card) => !card.mine), choose);
}

function turn(kind) {
  const [from, to] = kind === "undo" ? [undoable, redoable] : [redoable, undoable];
  const step = from.pop();
  if (step) {
    for (const [row, state] of kind === "undo" ? step.before : step.after) {
      const card = known.get(row);
      if (!card) continue;
      card.mine = state;
      card.unsaved = true;
      paint(card);
    }
    to.push(step);
    const place = cards.findIndex((card) => card.row === step.before[0][0]);
    if (place >= 0 && !panel) setFocus(place);
  }
  post({ key: newKey(), kind });
  showProgress();
}

function choose_none() {
  chosen.clear();
  $$(".cr-chosen").forEach((node) => node.classList.remove("cr-chosen"));
  showScope();
}

function toggle(place) {
  const card = cards[place];
  if (!card) return;
  if (!chosen.delete(card.row)) chosen.add(card.row);
  card.node.classList.toggle("cr-chosen", chosen.has(card.row));
  showScope();
}

// ---- the grid

function badge(card) {
  const { mine } = card;
  if (!mine) return null;
  const text = { keep: "keep", drop: "drop", unsure: "unsure", relabel: `→ ${className(mine.label)}` }[mine.action];
  return make("span", { class: `cr-badge${card.unsaved ? " cr-unsaved" : ""}`, "data-action": mine.action, dir: "auto", text });
}

function bars(card, most) {
  const items = card.top.slice(0, most).map(([label, share], place) =>
    make(
      "li",
      {
        title: `${place + 1}: ${oneLine(facts.classes[label], 300)}`,
        onclick: (event) => {
          event.stopPropagation();
          decide([card], labelled(label));
        },
      },
      make("i", { style: `width:${(100 * share).toFixed(1)}%` }),
      make("b", { text: place + 1 }),
      name(label, label === card.given ? "cr-is-given" : ""),
      make("span", { text: percent(share, 0) }),
    ),
  );
  return make("ol", { class: "cr-bars" }, ...items);
}

function captions(card) {
  const labels = make("p", { class: "cr-labels" }, name(card.given), " → ", name(card.suggested, "cr-suggested"));
  const small = make("p", { class: "cr-small", text: `row ${card.row} · clean ${card.score.toFixed(3)}`, title: card.file });
  const runs = card.runs.map((run, i) =>
    make("p", { class: "cr-small" }, `${oneLine(facts.runs[i + 1], 20)}: `, name(run.suggested), ` ${run.score.toFixed(2)}`),
  );
  const others = card.others.map((other) =>
    make("p", { class: "cr-others", dir: "auto", text: `${oneLine(other.reviewer, 20)}: ${other.label === null ? other.action : className(other.label)}` }),
  );
  return [labels, small, ...runs, ...others];
}

function cardNode(card, place) {
  return make(
    "figure",
    {
      class: "cr-card",
      "data-row": card.row,
      onclick: (event) => {
        if (event.shiftKey && !chosen.has(card.row)) {
          for (let i = Math.min(focus, place); i <= Math.max(focus, place); i++) if (!chosen.has(cards[i].row)) toggle(i);
        } else if (event.ctrlKey || event.metaKey || event.shiftKey) toggle(place);
        setFocus(place);
      },
      ondblclick: () => openLarge(card.row),
    },
    picture(card.image, card.row),
    ...captions(card),
    bars(card, 5),
  );
}

function paint(card) {
  for (const node of [card.node, panel?.name === "large" && panel.card === card ? $(".cr-large-picture") : null]) {
    if (!node) continue;
    $(".cr-badge", node)?.remove();
    const mark = badge(card);
    if (mark) node.append(mark);
  }
}

function showCards(found) {
  choose_none();
  cards = found.map((card) => {
    const seen = known.get(card.row);
    if (seen?.unsaved) Object.assign(card, { mine: seen.mine, unsaved: true });
    known.set(card.row, card);
    return card;
  });
  if (known.size > 4000) for (const row of [...known.keys()].slice(0, 2000)) if (!cards.some((c) => c.row === row)) known.delete(row);
  const grid = $(".cr-grid");
  grid.replaceChildren(
    ...cards.map((card, place) => {
      card.node = cardNode(card, place);
      paint(card);
      return card.node;
    }),
  );
  if (!cards.length) grid.append(make("p", { text: "No rows here: choose another filter." }));
  setFocus(0, false);
}

function setFocus(place, scroll = true) {
  cards[focus]?.node?.classList.remove("cr-focus");
  focus = Math.max(0, Math.min(cards.length - 1, place));
  const node = cards[focus]?.node;
  node?.classList.add("cr-focus");
  if (scroll) node?.scrollIntoView({ block: "nearest" });
  showScope();
}

const move = (by) => setFocus(focus + by);
const columns = () => {
  const top = cards[0]?.node.offsetTop;
  return Math.max(1, cards.findIndex((card) => card.node.offsetTop !== top) === -1 ? cards.length : cards.findIndex((card) => card.node.offsetTop !== top));
};

// ---- views and pages

async function openView(changes = {}) {
  Object.assign(view, changes);
  busy(1);
  try {
    const answer = await ask("open", view);
    if (answer.error) throw new Error(answer.error);
    opened = answer;
    ahead = null;
    await turnTo(0);
    history.replaceState(null, "", "#" + encodeURIComponent(JSON.stringify(view)));
  } catch (error) {
    problem = `the view could not be opened: ${oneLine(error.message || error)}`;
    showState();
  } finally {
    busy(-1);
    showFilters();
  }
}

async function turnTo(to, again = true) {
  to = Math.max(0, Math.min(opened.pages - 1, to));
  const { token } = opened;
  const early = ahead && ahead.token === token && ahead.number === to ? ahead.promise : null;
  busy(1);
  try {
    let answer = early ? await early.catch(() => null) : null;
    answer = answer ?? (await ask("page", { token, number: to }));
    if (token !== opened.token) return; // another view was opened meanwhile
    if (answer.gone && again) {
      // the server was started anew
      opened = await ask("open", view);
      return await turnTo(to, false);
    }
    number = to;
    showCards(answer.cards);
    window.scrollTo(0, 0);
    showPages();
    if (to + 1 < opened.pages) ahead = { token, number: to + 1, promise: ask("page", { token, number: to + 1 }) };
    ahead?.promise.catch(() => null);
  } catch (error) {
    problem = "the page could not be read: the server does not answer";
    showState();
  } finally {
    busy(-1);
  }
}

function busy(by) {
  loading += by;
  $(".cr-grid").classList.toggle("cr-loading", loading > 0);
}

function showPages() {
  $(".cr-pages").textContent = `page ${count(number + 1)} of ${count(opened.pages)} · ${count(opened.total)} rows`;
  $("[data-do=previous]").disabled = number === 0;
  $("[data-do=next]").disabled = number + 1 >= opened.pages;
}

function showScope() {
  const card = cards[focus];
  $(".cr-scope").textContent = chosen.size ? `${chosen.size} chosen:` : card ? `row ${card.row}:` : "";
}

function showProgress() {
  const { flagged, mine, anybody, undo, redo } = facts.counts;
  const here = mine; // saved ones; those on their way are in the state beside it
  $(".cr-progress div").style.width = `${flagged ? (100 * here) / flagged : 0}%`;
  let text = `${count(here)} of ${count(flagged)} flagged rows decided by ${oneLine(facts.reviewer, 30)}`;
  if (anybody > mine) text += ` (${count(anybody)} by anybody)`;
  const left = remaining(flagged - here);
  if (left) text += ` · about ${left} left at this pace`;
  $(".cr-pace").textContent = text;
  $("[data-do=undo]").disabled = !(undo || undoable.length || waiting.length);
  $("[data-do=redo]").disabled = !(redo || redoable.length);
}

function remaining(rows) {
  let seconds = 0, decided = 0;
  for (let i = 1; i < times.length; i++) {
    const gap = (times[i][0] - times[i - 1][0]) / 1000;
    if (gap < PAUSE) [seconds, decided] = [seconds + gap, decided + times[i][1]];
  }
  if (decided < 5 || rows <= 0) return "";
  const left = (seconds / decided) * rows;
  if (left < 90) return `${Math.ceil(left)} s`;
  return left < 5400 ? `${Math.round(left / 60)} min` : `${(left / 3600).toFixed(1)} h`;
}

function showFilters() {
  for (const node of $$("[data-view]")) {
    const value = view[node.dataset.view];
    node.value = value === null ? "" : String(value);
  }
}

function fillFilters() {
  const words = {
    any: "any", undecided: "undecided by me", open: "undecided by all", mine: "decided by me", conflicts: "conflicts",
    flagged: "flagged", all: "all", row: "row id", "given class": "given class", pair: "largest pair",
  };
  const plain = (values) => values.map((value) => make("option", { value, text: words[value] ?? value }));
  const classes = () => [make("option", { value: "", text: "all classes" }), ...facts.classes.map((text, i) => make("option", { value: i, text: oneLine(text, 40) }))];
  const options = { order: plain(facts.orders), show: plain(facts.show), decided: plain(facts.decided), given: classes(), suggested: classes() };
  for (const node of $$("[data-view]")) {
    node.replaceChildren(...options[node.dataset.view]);
    node.addEventListener("change", () => {
      const field = node.dataset.view;
      const value = field === "given" || field === "suggested" ? (node.value === "" ? null : Number(node.value)) : node.value;
      node.blur();
      openView({ [field]: value });
    });
  }
}

// ---- panels over the page

function open_panel(made, ...content) {
  panel = made;
  const node = $(".cr-panel");
  node.replaceChildren(...content);
  $(".cr-over").hidden = false;
  node.scrollTop = 0;
}

function close_panel() {
  panel = null;
  $(".cr-over").hidden = true;
  $(".cr-panel").replaceChildren();
  $(".cr").focus({ preventScroll: true });
}

const heading = (text, ...more) =>
  make("div", { class: "cr-head" }, make("h2", { text, dir: "auto" }), ...more, make("button", { text: "✕", title: "Esc", onclick: close_panel }));

async function openLarge(row) {
  const card = await ask("detail", { row }).catch(() => ({ error: "the server does not answer" }));
  if (card.error) {
    problem = card.error;
    return showState();
  }
  problem = "";
  showState();
  const seen = known.get(card.row);
  const shared = seen ?? card; // one object a row, so that decisions show in both places
  if (!seen) known.set(card.row, shared);
  const place = cards.findIndex((c) => c.row === row);
  if (place >= 0) setFocus(place);
  const step = (by) => {
    const to = cards[place + by];
    if (place >= 0 && to) openLarge(to.row);
    else if (by > 0 && place < 0) close_panel();
  };
  const frame = make("div", { class: "cr-large-picture" }, picture(card.image, row));
  const strips = card.near.flatMap(({ label, cards: near }) => [
    make("h3", {}, "nearest rows held to be ", name(label)),
    near.length
      ? make("div", { class: "cr-strip" }, ...near.map((n) => make("figure", { onclick: () => openLarge(n.row) }, picture(n.image, n.row), make("figcaption", { text: `row ${n.row}` }))))
      : make("p", { class: "cr-small", text: facts.features ? "none" : "this run has no features.npy" }),
  ]);
  const buttons = make(
    "div",
    { class: "cr-bulk-large", style: "display:flex;gap:6px;flex-wrap:wrap;margin-top:10px" },
    ...[["Accept", accepted], ["Keep", plainly("keep")], ["Drop", plainly("drop")], ["Unsure", plainly("unsure")]].map(([text, choose]) =>
      make("button", { text, onclick: () => act(choose) }),
    ),
    make("button", { text: "◀", title: "left arrow", onclick: () => step(-1) }),
    make("button", { text: "▶", title: "right arrow", onclick: () => step(1) }),
  );
  const file = card.file ? [make("p", { class: "cr-small", dir: "auto", text: oneLine(card.file, 120) })] : [];
  open_panel(
    { name: "large", card: shared, next: () => step(1), key: (event) => {
      const by = { ArrowLeft: -1, ArrowUp: -1, ArrowRight: 1, ArrowDown: 1 }[event.key];
      if (by) step(by);
      return Boolean(by);
    } },
    heading(`Row ${row}`),
    make("div", { class: "cr-large" }, frame, make("div", {}, ...captions(card), ...file, bars(shared, 9), buttons, ...strips)),
  );
  paint(shared);
}

const patiently = (open) => () =>
  open().catch(() => {
    problem = "the server does not answer: try again";
    showState();
  });

async function openMatrix() {
  const { pairs } = await ask("matrix", { show: view.show });
  const pick = (given, suggested) => {
    close_panel();
    openView({ given, suggested });
  };
  const k = facts.classes.length;
  const body = k <= 30 ? matrixTable(pairs, k, pick) : pairsTable(pairs, pick);
  const all = make("button", { text: "all pairs", onclick: () => pick(null, null) });
  open_panel({ name: "matrix", key: () => false }, heading(`Given (down) → suggested (across), ${view.show} rows`, all), body);
}

function matrixTable(pairs, k, pick) {
  const cells = new Map(pairs.map(([a, b, n]) => [a * k + b, n]));
  const most = Math.max(1, ...pairs.filter(([a, b]) => a !== b).map(([, , n]) => n));
  const head = make("tr", {}, make("th"), ...facts.classes.map((_, b) => make("th", {}, name(b))));
  const rows = facts.classes.map((_, a) =>
    make(
      "tr",
      {},
      make("th", {}, name(a)),
      ...facts.classes.map((_, b) => {
        const n = cells.get(a * k + b);
        if (!n) return make("td");
        const shade = a === b ? 0 : Math.sqrt(n / most);
        return make("td", {
          "data-given": a, "data-suggested": b, text: count(n), onclick: () => pick(a, b),
          style: `background:color-mix(in srgb, var(--color-accent) ${Math.round(60 * shade)}%, transparent)`,
        });
      }),
    ),
  );
  return make("table", { class: "cr-matrix" }, make("thead", {}, head), make("tbody", {}, ...rows));
}

function pairsTable(pairs, pick) {
  const rows = pairs.slice(0, 200).map(([a, b, n]) =>
    make("tr", { "data-given": a, "data-suggested": b, style: "cursor:pointer", onclick: () => pick(a, b) },
      make("td", {}, name(a)), make("td", {}, name(b)), make("td", { text: count(n) })),
  );
  return make("table", {}, make("thead", {}, make("tr", {}, ...["given", "suggested", "rows"].map((text) => make("th", { text })))), make("tbody", {}, ...rows));
}

function openSearch(choose, back = close_panel) {
  let found = [], on = 0;
  const list = make("ul");
  const input = make("input", { placeholder: "label …", "aria-label": "label", autocomplete: "off" });
  const show = () => {
    const text = input.value.trim().toLowerCase();
    const all = facts.classes.map((name, label) => [name.toLowerCase(), label]).filter(([name]) => name.includes(text));
    all.sort((a, b) => b[0].startsWith(text) - a[0].startsWith(text));
    found = all.slice(0, 50).map(([, label]) => label);
    on = Math.max(0, Math.min(on, found.length - 1));
    list.replaceChildren(...found.map((label, i) => make("li", { class: i === on ? "cr-on" : "", onclick: () => take(label) }, name(label))));
    list.children[on]?.scrollIntoView({ block: "nearest" });
  };
  const take = (label) => {
    back();
    choose(label);
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
  open_panel({ name: "search", key: () => false }, make("div", { class: "cr-find" }, input, list));
  show();
  input.focus();
}

function labelSearch() {
  const large = panel?.name === "large" ? panel.card : null;
  openSearch((label) => act(labelled(label)), () => {
    close_panel();
    if (large) openLarge(large.row);
  });
}

async function openPeople() {
  const { reviewers, agreement, verified } = await ask("people");
  const table = (head, rows) => make("table", {}, make("thead", {}, make("tr", {}, ...head.map((text) => make("th", { text })))), make("tbody", {}, ...rows.map((row) => make("tr", {}, ...row.map((text) => make("td", { dir: "auto", text: oneLine(text, 40) }))))));
  const status = make("p", { class: "cr-small", style: "white-space:normal" });
  const save = make("button", { text: "Export decisions", onclick: async () => {
    const answer = await ask("export").catch(() => ({ error: "the server does not answer" }));
    status.textContent = answer.error ?? `written: ${answer.files.join(", ")}`;
  } });
  open_panel(
    { name: "people", key: () => false },
    heading("Reviewers"),
    table(["reviewer", "rows decided"], Object.entries(reviewers).map(([who, n]) => [who, count(n)])),
    make("h3", { text: "Agreement" }),
    agreement.length
      ? table(["reviewers", "rows by both", "agree", "Cohen's kappa"], agreement.map((a) => [a.reviewers.join(" / "), count(a.rows), percent(a.agreement), a.kappa === null ? "–" : a.kappa.toFixed(2)]))
      : make("p", { text: "No row was decided by two reviewers yet." }),
    make("h3", { text: "As trusted rows" }),
    make("p", { text: `${count(verified.keep + verified.relabel)} rows are verified (${count(verified.keep)} kept, ${count(verified.relabel)} relabelled); not used: ${count(verified.drop)} dropped, ${count(verified.unsure)} unsure, ${count(verified.conflict)} in conflict.` }),
    make("div", { style: "display:flex;gap:8px" },
      make("button", { text: "Show conflicts", disabled: verified.conflict ? null : "", onclick: () => { close_panel(); openView({ decided: "conflicts", show: "all", given: null, suggested: null }); } }),
      save),
    status,
  );
}

function openHelp() {
  const keys = [
    ["← → ↑ ↓", "move"], ["Enter", "accept the suggestion"], ["K", "keep the given label"], ["1 … 9", "give the row's 1st … 9th suggestion"],
    ["/", "search a label by typing"], ["D", "drop the row"], ["U", "unsure"], ["Ctrl+Z, Ctrl+Shift+Z", "undo, redo"],
    ["X, Shift+arrows", "choose rows: the keys above then act on all of them"], ["Shift+Enter", "accept the rest of the page"],
    ["N, P", "next, previous page"], ["Space", "large view"], ["M", "matrix"], ["?", "this help"], ["Esc", "close, choose none"],
  ];
  const rows = keys.map(([key, what]) => make("tr", {}, make("td", {}, ...key.split(", ").flatMap((part, i) => [i ? " " : "", make("kbd", { text: part })])), make("td", { text: what })));
  open_panel(
    { name: "help", key: () => false },
    heading("Keys"),
    make("table", {}, make("tbody", {}, ...rows)),
    make("p", { style: "margin-top:10px", text: "A decision shows at once and is saved in the background; “all saved” means that it is on the server's disk. It survives a reload and a restart of the server." }),
    make("p", { text: "A row's bars are the method's soft label; the given label is underlined. Decided rows come back as trusted rows: clean.py --trusted review.sqlite." }),
  );
}

// ---- the audit

async function openAudit(size = null) {
  const answer = await ask("audit", size ? { size, seed: crypto.getRandomValues(new Uint32Array(1))[0] } : {});
  if (answer.error) return auditStart(answer.error);
  if (!answer.rows.length) return auditStart();
  const labels = new Map(Object.entries(answer.labels ?? {}).map(([row, label]) => [Number(row), label]));
  for (const step of waiting) if (step.kind === "audit" && step.audit === answer.audit) labels.set(step.row, step.label);
  const sample = { ...answer, labels, images: new Map() };
  const first = sample.rows.findIndex((row) => !labels.has(row));
  if (first < 0) return auditResult(sample);
  auditRow(sample, first);
}

function auditStart(error = "") {
  const input = make("input", { type: "number", min: 1, max: 10000, value: 100, "aria-label": "rows" });
  const start = () => openAudit(Number(input.value));
  input.addEventListener("keydown", (event) => event.key === "Enter" && start());
  open_panel(
    { name: "audit", key: () => false },
    heading("Audit"),
    make("p", { text: "How many labels are wrong, before and after? Label a random sample without seeing any label: half of it rows that the method selected, half rows that it flagged. The answer comes with a 95 % interval." }),
    make("p", { text: "The labels of an audit measure and are not decisions: they are not used as trusted rows." }),
    make("div", { style: "display:flex;gap:8px;align-items:center" }, make("label", {}, "rows ", input), make("button", { text: "Start", onclick: start })),
    make("p", { text: error }),
  );
}

async function auditRow(sample, place) {
  if (place >= sample.rows.length) return auditResult(sample);
  const row = sample.rows[place];
  const fetchAhead = async () => {
    const wanted = sample.rows.slice(place, place + 16).filter((r) => !sample.images.has(r));
    if (!wanted.length) return;
    const { images } = await ask("pictures", { rows: wanted });
    for (const r of wanted) sample.images.set(r, images[r] ?? null);
  };
  if (!sample.images.has(row)) await fetchAhead();
  else if (place % 8 === 0) fetchAhead().catch(() => null);
  const label = (code) => {
    sample.labels.set(row, code);
    post({ key: newKey(), kind: "audit", audit: sample.audit, row, label: code });
    auditRow(sample, place + 1);
  };
  const back = () => place > 0 && auditRow(sample, place - 1);
  const search = () => openSearch(label, () => auditRow(sample, place));
  const before = sample.labels.get(row);
  const few = facts.classes.length <= 30;
  const digits = facts.classes.every((text) => /^[0-9]$/.test(text)); // then a class's key is its name
  const key = (i) => (digits ? facts.classes[i] : i < 10 ? String((i + 1) % 10) : "");
  const buttons = few
    ? facts.classes.map((_, code) => make("button", { class: sample.labels.has(row) && before === code ? "cr-on" : "", onclick: () => label(code) }, ...(key(code) ? [make("kbd", { text: key(code) })] : []), name(code)))
    : [];
  open_panel(
    { name: "audit", key: (event) => {
      const code = few && /^[0-9]$/.test(event.key) ? facts.classes.findIndex((_, i) => key(i) === event.key) : -1;
      if (code >= 0) label(code);
      else if (event.key === "/") search();
      else if (event.key.toLowerCase() === "u") label(null);
      else if (event.key === "ArrowLeft" || (event.key.toLowerCase() === "z" && (event.ctrlKey || event.metaKey))) back();
      else if (event.key === "ArrowRight" && sample.labels.has(row)) auditRow(sample, place + 1);
      else return false;
      return true;
    } },
    heading(`Audit: ${place + 1} of ${sample.rows.length}`, make("button", { text: "Result so far", onclick: () => auditResult(sample) })),
    make("div", { class: "cr-audit" }, picture(sample.images.get(row), row),
      make("div", { class: "cr-classes" }, ...buttons, make("button", { text: "Search… (/)", onclick: search }), make("button", { class: sample.labels.has(row) && before === null ? "cr-on" : "", text: "Cannot tell (U)", onclick: () => label(null) }), make("button", { text: "Back", disabled: place ? null : "", onclick: back })),
      make("p", { class: "cr-small", text: "What is it? The given and the suggested label are hidden on purpose." })),
  );
}

async function auditResult(sample) {
  while (waiting.length && !failures) await new Promise((done) => setTimeout(done, 50));
  const answer = await ask("audit_result").catch(() => ({ error: "the server does not answer" }));
  if (answer.error) return auditStart(answer.error);
  const most = Math.max(0.05, ...[answer.before, answer.after].map((rate) => rate.high ?? 0)) * 1.1;
  const shown = (title, rate) =>
    rate.estimate === null
      ? [make("h3", { text: `${title}: nothing labelled yet` })]
      : [
          make("h3", { text: `${title}: ${percent(rate.estimate)} of the labels are wrong (95 % interval ${percent(rate.low)} to ${percent(rate.high)})` }),
          make("div", { class: "cr-rate" },
            make("i", { style: `left:${(100 * rate.low) / most}%;width:${(100 * (rate.high - rate.low)) / most}%` }),
            make("b", { style: `left:${(100 * rate.estimate) / most}%` })),
        ];
  const rows = answer.before.strata.map((s, i) => [s.name, count(s.size), count(s.labelled), count(s.wrong), count(answer.after.strata[i].wrong)]);
  const done = [...sample.labels.keys()].length;
  open_panel(
    { name: "audit-result", key: () => false },
    heading("Audit: result"),
    make("div", { class: "cr-audit" },
      make("p", { text: `${done} of ${sample.rows.length} rows labelled blind by ${oneLine(facts.reviewer, 30)}, ${[...sample.labels.values()].filter((l) => l === null).length} of them “cannot tell”.` }),
      ...shown("Before", answer.before),
      ...shown("After", answer.after),
      make("table", {}, make("thead", {}, make("tr", {}, ...["rows", "in all", "labelled", "wrong before", "wrong after"].map((text) => make("th", { text })))),
        make("tbody", {}, ...rows.map((row) => make("tr", {}, ...row.map((text) => make("td", { text })))))),
      make("p", { style: "margin-top:10px", text: "After: the corrected labels, with what reviewers verified put in and the rows they dropped left out." }),
      make("div", { style: "display:flex;gap:8px" },
        make("button", { text: "Go on", disabled: done < sample.rows.length ? null : "", onclick: () => openAudit() }),
        make("button", { text: "Look again", onclick: () => auditRow(sample, 0) }),
        make("button", { text: "New sample", onclick: () => auditStart() }))),
  );
}

// ---- keys and buttons

const typing = (target) => target instanceof Element && target.closest("input, textarea, select, [contenteditable=true]");
const turnPage = (by) => !loading && number + by >= 0 && number + by < opened.pages && turnTo(number + by);

function onKey(event) {
  if (!element.isConnected) return document.removeEventListener("keydown", onKey);
  if (!facts || typing(event.target)) return;
  const control = event.ctrlKey || event.metaKey;
  if (panel && event.key === "Escape") close_panel();
  else if (panel?.key(event)) ;
  else if (control && !event.altKey && event.key.toLowerCase() === "z") turn(event.shiftKey ? "redo" : "undo");
  else if (control || event.altKey) return;
  else if (panel && panel.name !== "large") return;
  else if (!pageKey(event)) return;
  event.preventDefault();
}

function pageKey(event) {
  const { key } = event;
  if (loading && panel === null) return /^[a-z0-9/ ]$|Enter|Arrow/i.test(key); // nobody has seen the rows to come
  const arrows = { ArrowLeft: -1, ArrowRight: 1, ArrowUp: -columns(), ArrowDown: columns() };
  if (key in arrows) {
    if (event.shiftKey) {
      if (!chosen.has(cards[focus]?.row)) toggle(focus);
      move(arrows[key]);
      if (!chosen.has(cards[focus]?.row)) toggle(focus);
    } else move(arrows[key]);
    return true;
  }
  const once = {
    Enter: () => (event.shiftKey && !panel ? rest(accepted) : act(accepted)),
    k: () => act(plainly("keep")), d: () => act(plainly("drop")), u: () => act(plainly("unsure")),
    x: () => !panel && toggle(focus), n: () => !panel && turnPage(1), p: () => !panel && turnPage(-1),
    m: patiently(openMatrix), "?": openHelp, "/": labelSearch, Escape: choose_none,
    " ": () => (panel ? close_panel() : cards[focus] && openLarge(cards[focus].row)),
  };
  const work = /^[1-9]$/.test(key) ? () => act(suggestion(Number(key) - 1)) : once[key.length === 1 ? key.toLowerCase() : key];
  if (!work) return false;
  if (!event.repeat) work();
  return true;
}

const BUTTONS = {
  matrix: patiently(openMatrix), audit: patiently(openAudit), people: patiently(openPeople), help: openHelp, label: labelSearch,
  undo: () => turn("undo"), redo: () => turn("redo"), previous: () => turnPage(-1), next: () => turnPage(1),
  "accept-page": () => rest(accepted), "keep-page": () => rest(plainly("keep")), "drop-page": () => rest(plainly("drop")),
  theme: () => setTheme(document.body.classList.contains("dark") ? "light" : "dark"),
};

function setTheme(theme) {
  if (!theme) return;
  document.body.classList.toggle("dark", theme === "dark");
  try {
    localStorage.setItem("curator-theme", theme);
  } catch {
    // it holds for this visit
  }
}

function onClick(event) {
  const button = event.target.closest("button[data-do], button[data-act]");
  if (!button || !facts) return;
  if (button.dataset.act) act({ accept: accepted }[button.dataset.act] ?? plainly(ACTIONS[button.dataset.act]));
  else BUTTONS[button.dataset.do]?.();
  button.blur();
}

async function begin() {
  for (let pause = 300; !facts; pause = Math.min(5000, 2 * pause)) {
    try {
      facts = await ask("hello");
    } catch {
      $(".cr-state").textContent = "the server does not answer, trying again";
      await new Promise((done) => setTimeout(done, pause));
    }
  }
  $("h1").textContent = oneLine(facts.runs.join(" + "), 120);
  fillFilters();
  recall();
  try {
    const kept = JSON.parse(decodeURIComponent(location.hash.slice(1)));
    for (const field of Object.keys(view)) if (field in kept) view[field] = kept[field];
  } catch {
    // no view in the address
  }
  showState();
  showProgress();
  const go = $("input[data-do=row]");
  go.addEventListener("keydown", (event) => {
    if (event.key !== "Enter" || !/^\s*\d+\s*$/.test(go.value)) return;
    go.blur();
    openLarge(Number(go.value));
  });
  element.addEventListener("click", onClick);
  $(".cr-over").addEventListener("click", (event) => event.target === $(".cr-over") && close_panel());
  document.addEventListener("keydown", onKey);
  send();
  await openView();
  element.dataset.ready = "yes";
}

try {
  setTheme(localStorage.getItem("curator-theme"));
} catch {
  // no storage
}
begin();
