// ---- the grid, its pages and filters.

let ahead = null; // {token, number, promise} of the page that was asked for early
let opening = 0; // counts views: an answer to an older one comes too late

function badge(row) {
  const { mine, saved } = decided(row);
  if (!mine) return null;
  const signs = { relabel: "→", both: "also" };
  const word = signs[mine.action] ? `${signs[mine.action]} ${className(mine.label)}` : mine.action;
  const text = mine.ruling ? `settled: ${word}` : word;
  return make("span", { class: `cr-badge${saved ? "" : " cr-unsaved"}`, "data-action": mine.action, dir: "auto", text });
}

function paint(row) {
  const places = [...$$(`.cr-card[data-row="${row}"]`), ...$$(`.cr-large-picture[data-row="${row}"]`)];
  for (const node of places) {
    $(".cr-badge", node)?.remove();
    node.append(...[badge(row)].filter(Boolean));
  }
}

function bars(card, most) {
  const items = drawn(card).slice(0, most).map(([label, share], place) =>
    make(
      "li",
      {
        title: [suggestingKey(place), className(label, 300)].filter(Boolean).join(": "),
        ondblclick: (event) => event.stopPropagation(),
        onclick: (event) => {
          event.stopPropagation();
          if (event.detail < 2) decide([card], labelled(label)); // the second click of a double click is none
        },
      },
      make("i", { style: `width:${(100 * share).toFixed(1)}%` }),
      make("kbd", { text: suggestingKey(place) }),
      name(label, label === card.given ? "cr-is-given" : ""),
      make("span", { text: percent(share, 0) }),
    ),
  );
  return make("ol", { class: "cr-bars", "aria-label": "suggestions" }, ...items);
}

function captions(card) {
  const small = (...content) => make("p", { class: "cr-small" }, ...content);
  return [
    make("p", { class: "cr-labels" }, name(card.given), " ", name(card.suggested, "cr-suggested")),
    make("p", { class: "cr-small", text: `row ${card.row} · clean ${card.score.toFixed(3)}`, title: card.file }),
    ...card.said.map((text) => make("p", { class: "cr-small cr-said", dir: "auto", text: oneLine(text, 80) })),
    ...card.runs.map((run, i) => small(`${oneLine(facts.runs[i + 1], 20)}: `, name(run.suggested), ` ${run.score.toFixed(2)}`)),
    ...tagNodes(card),
    ...card.others.map(({ reviewer, action, label, ruling }) =>
      make("p", { class: "cr-others", dir: "auto", text: `${oneLine(reviewer, 20)}${ruling ? " settled" : ""}: ${label === null ? action : (action === "both" ? "also " : "") + className(label)}` }),
    ),
  ];
}

function cardNode(card, place) {
  const click = (event) => {
    if (opened.grouped && chosen.size && !event.shiftKey) toggle(place); // takes a row out of its group
    else if (event.shiftKey && !chosen.has(card.row)) {
      for (let i = Math.min(focus, place); i <= Math.max(focus, place); i++) if (!chosen.has(cards[i].row)) toggle(i);
    } else if (event.ctrlKey || event.metaKey || event.shiftKey) toggle(place);
    setFocus(place);
  };
  const open = guarded(() => openLarge(card.row));
  const says = `row ${card.row}: given ${className(card.given)}, suggested ${className(card.suggested)}, clean ${card.score.toFixed(2)}`;
  return make(
    "div",
    { class: "cr-card", role: "option", tabindex: -1, "aria-selected": "false", "aria-label": says, "data-row": card.row, onclick: click, ondblclick: open },
    picture(card.image, card.row, card.text),
    ...captions(card),
    bars(card, 5),
  );
}

function showCards(answer) {
  chooseNone();
  cards = answer.cards;
  for (const card of cards) {
    known.delete(card.row); // the newest last
    known.set(card.row, card);
    learn(card.row, card.mine, answer.at);
  }
  for (const row of [...known.keys()].slice(0, Math.max(0, known.size - 2000))) known.delete(row);
  const nodes = cards.map(cardNode);
  $(".cr-grid").replaceChildren(...(opened.grouped ? inGroups(nodes) : nodes));
  cards.forEach((card) => paint(card.row));
  if (!cards.length) $(".cr-grid").append(nothingHere());
  $(".cr-grid").setAttribute("role", cards.length && !opened.grouped ? "listbox" : "group");
  $(".cr-grid").setAttribute("aria-label", cards.length ? "rows, several can be chosen" : "rows");
  setFocus(0, false);
  if (opened.grouped) nextGroup(0, false);
  showProgress(); // it says what a decision means in this queue
}

const nodeAt = (place) => $$(".cr-card")[place];

function setFocus(place, scroll = true) {
  const before = $(".cr-focus");
  before?.classList.remove("cr-focus");
  before?.setAttribute("tabindex", -1);
  focus = Math.max(0, Math.min(cards.length - 1, place));
  const node = nodeAt(focus);
  node?.classList.add("cr-focus");
  node?.setAttribute("tabindex", 0);
  if (scroll) node?.scrollIntoView({ block: "nearest" });
  if (scroll && !panel) node?.focus({ preventScroll: true });
  showNames(node, cards[focus]);
  showScope();
}

const move = (by) => setFocus(focus + by);

function columns() {
  const nodes = $$(".cr-card");
  const second = nodes.findIndex((node) => node.offsetTop !== nodes[0].offsetTop);
  return second < 0 ? Math.max(1, nodes.length) : second;
}

function toggle(place) {
  const card = cards[place];
  if (!card) return;
  if (!chosen.delete(card.row)) chosen.add(card.row);
  nodeAt(place).classList.toggle("cr-chosen", chosen.has(card.row));
  nodeAt(place).setAttribute("aria-selected", String(chosen.has(card.row)));
  showScope();
}

function chooseNone() {
  chosen.clear();
  for (const node of $$(".cr-chosen")) {
    node.classList.remove("cr-chosen");
    node.setAttribute("aria-selected", "false");
  }
  showScope();
}

function act(choose) {
  // on the row of the large view, the chosen rows, or the row with the focus; then on to the next
  if (panel?.name === "large") return decide([panel.card], choose) && panel.step(1);
  if (panel) return;
  const several = chosen.size > 0;
  const from = several ? cards.findIndex((card) => chosen.has(card.row)) : focus;
  if (!decide(targets(), choose)) return;
  if (several) chooseNone();
  if (opened.grouped) nextGroup(from);
  else if (!several) move(1);
}

function targets() {
  // cards that a key acts on
  if (panel) return panel.name === "large" ? [panel.card] : [];
  return chosen.size ? cards.filter((card) => chosen.has(card.row)) : cards.slice(focus, focus + 1);
}

function rest(choose) {
  if (decide(cards.filter((card) => !decided(card.row).mine), choose)) chooseNone(); // or the next key would act on them
}

// ---- views and pages

async function openView(changes = {}) {
  Object.assign(view, changes);
  showFilters();
  const mine = ++opening;
  busy(1);
  try {
    const answer = await ask("open", { ...view, size: perPage() });
    if (mine !== opening) return;
    [opened, ahead, problem] = [answer, null, ""];
    if (answer.counts) facts.counts = answer.counts;
    await turnTo(0);
    history.replaceState(null, "", addressOf());
  } finally {
    busy(-1);
    showState();
  }
}

async function turnTo(to) {
  to = Math.max(0, Math.min(opened.pages - 1, to));
  const { token } = opened;
  const fetchPage = (n) => ask("page", { token, number: n });
  busy(1);
  try {
    const early = ahead?.token === token && ahead.number === to ? await ahead.promise.catch(() => null) : null;
    const answer = early ?? (await fetchPage(to));
    if (token !== opened.token) return; // another view was opened meanwhile
    if (answer.gone) {
      // the server was started anew: rows that were decided since may have left the view
      opened = await ask("open", { ...view, size: perPage() });
      return await turnTo(view.decided === "any" ? to : 0);
    }
    number = to;
    showCards(answer);
    window.scrollTo(0, 0);
    $(".cr-pages").textContent = `page ${count(number + 1)} of ${count(opened.pages)} · ${rowsOf(opened.total)}`;
    $("[data-do=previous]").disabled = number === 0;
    $("[data-do=next]").disabled = number + 1 >= opened.pages;
    ahead = to + 1 < opened.pages ? { token, number: to + 1, promise: fetchPage(to + 1) } : null;
    ahead?.promise.catch(() => null);
  } finally {
    busy(-1);
  }
}

const turnPage = (by) => !loading && number + by >= 0 && number + by < opened.pages && guarded(turnTo)(number + by);

function busy(by) {
  loading += by;
  $(".cr-grid").classList.toggle("cr-loading", loading > 0);
}

function showScope() {
  const card = cards[focus];
  $(".cr-scope").textContent = chosen.size ? `${chosen.size} chosen:` : card ? `row ${card.row}:` : "";
}

const toDrop = () => view.show === "junk"; // rows that are like nothing: Enter drops them
const first = (card) => (toDrop() ? plainly("drop")(card) : accepted(card)); // what Enter does

function showFilters() {
  $(".cr-bulk").classList.toggle("cr-to-drop", toDrop());
  $(".cr-bulk [data-do=drop]").title = toDrop() ? `Enter or ${shownKey("d")}` : shownKey("d");
  $(".cr-bulk [data-do=accept]").title = toDrop() ? "" : "Enter";
  for (const node of $$("[data-view]")) node.value = view[node.dataset.view] ?? "";
  showMore();
  showWhere();
}

function fillFilters() {
  const words = {
    column: "a column", undecided: "undecided by me", open: "undecided by all", mine: "decided by me", owed: "still owed by me",
    pair: "largest pair", row: "row id", ambiguous: "two right labels?", cluster: "by cluster",
  };
  const plain = (values) => values.map((value) => make("option", { value, text: words[value] ?? value }));
  const classes = () => [
    make("option", { value: "", text: "all classes" }),
    ...facts.classes.map((_, label) => make("option", { value: label, text: className(label, 40) })),
  ];
  const named = (none, values) => [make("option", { value: "", text: none }), ...values.map((value) => make("option", { value, text: oneLine(value, 40) }))];
  const options = {
    by: named("anybody", facts.reviewers), column: named("none", facts.columns), split: named("any split", facts.splits),
    order: plain(facts.orders), show: plain(facts.show), decided: plain(facts.decided), given: classes(), suggested: classes(),
  };
  for (const node of $$("[data-view]")) {
    const field = node.dataset.view;
    if (options[field]) node.replaceChildren(...options[field]);
    node.addEventListener("change", () => {
      const value = node.value === "" ? null : NUMBERS.includes(field) ? Number(node.value) : node.value;
      node.blur();
      guarded(chooseView)(field, value);
    });
  }
}

function recallView() {
  // the view in the address, as far as this run has it
  try {
    const there = JSON.parse(decodeURIComponent(location.hash.slice(1)));
    const allowed = { order: facts.orders, show: facts.show, decided: facts.decided };
    for (const [field, values] of Object.entries(allowed)) if (values.includes(there[field])) view[field] = there[field];
    Object.assign(view, whereOf(there));
    for (const field of ["given", "suggested"]) if (facts.classes[there[field]] !== undefined) view[field] = there[field];
    if (facts.columns.includes(there.column)) [view.column, view.has] = [there.column, String(there.has ?? "")];
    if (view.order === "column" && view.column === null) view.order = "least clean";
    if (facts.splits.includes(there.split)) view.split = there.split;
    if (facts.reviewers.includes(there.by)) view.by = there.by;
    if (typeof there.tag === "string") view.tag = there.tag;
    for (const field of ["low", "high"]) if (there[field] >= 0 && there[field] <= 1) view[field] = Number(there[field]);
    return Number.isInteger(there.row) ? there.row : null;
  } catch {
    // no view in the address
  }
  return null;
}
