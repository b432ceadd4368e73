// ---- a row, large: at once with what the grid knows of it, then with all that is known of it.

async function openLarge(row, noting = false) {
  const place = cards.findIndex((card) => card.row === row);
  if (place >= 0) setFocus(place);
  if (known.has(row)) showLarge(known.get(row), place);
  const answer = await newest(ask("detail", { row }));
  if (!answer) return;
  learn(row, answer.mine, answer.at);
  if (!known.has(row)) known.set(row, answer);
  showLarge(answer, place);
  if (noting) $(".cr-remark textarea").focus();
}

function showLarge(card, place) {
  const step = (by) => {
    const to = cards[place + by];
    if (place >= 0 && to) guarded(openLarge)(to.row);
    else if (by > 0) closePanel();
  };
  const zoom = guarded(() => openZoom(card, () => showLarge(card, place)));
  const frame = make("div", { class: "cr-large-picture", "data-row": card.row }, picture(card.image, card.row, card.text));
  const shown = $("img", frame);
  $(".cr-text", frame)?.setAttribute("tabindex", 0); // a long one scrolls
  if (shown) frame.append(make("button", { class: "cr-zoom", text: "Zoom", title: shownKey("z"), onclick: zoom }));
  shown?.addEventListener("click", zoom);
  const button = (text, title, onclick, label = text) => make("button", { text, title, "aria-label": label, onclick });
  const buttons = make(
    "div",
    { class: "cr-row" },
    button("Accept", "Enter", () => act(accepted)),
    ...["keep", "drop", "unsure"].map((action) => button(action[0].toUpperCase() + action.slice(1), shownKey(action[0]), () => act(plainly(action)))),
    button("Both", shownKey("b"), () => act(both)),
    button("More like this", shownKey("l"), guarded(moreAlike)),
  );
  const arrows = place < 0 ? [] : [button("◀", "left arrow", () => step(-1), "previous row"), button("▶", "right arrow", () => step(1), "next row")];
  const key = (event) => {
    const plain = !(event.ctrlKey || event.metaKey || event.altKey);
    const by = plain ? { ArrowLeft: -1, ArrowUp: -1, ArrowRight: 1, ArrowDown: 1 }[event.key] : 0;
    if (by) step(by);
    const word = plain && classOfKey(event) === undefined ? event.key.toLowerCase() : "";
    if (word === "z" && shown) zoom();
    if (word === "c") $(".cr-remark textarea")?.focus();
    return Boolean(by) || word === "z" || word === "c";
  };
  const file = card.file ? make("p", { class: "cr-small", dir: "auto", text: oneLine(card.file, 120) }) : null;
  const few = facts.classes.length - drawn(card).length;
  const left = few > 0 ? make("p", { class: "cr-small", text: `${count(few)} other class${few > 1 ? "es" : ""} at 0 %: search with /` }) : null;
  openPanel(
    { name: "large", title: `Row ${card.row}`, card, step, key },
    heading(`Row ${card.row}`, ...arrows),
    make(
      "div",
      { class: "cr-large" },
      frame,
      make("div", {}, ...captions(card), file, make("div", { class: "cr-all-bars", tabindex: 0, role: "group", "aria-label": "suggestions" }, bars(card, Infinity)), left, buttons, compare(card), ...remarksOf(card), ...valuesOf(card), ...storyOf(card)),
    ),
  );
  paint(card.row);
}

function compare(card) {
  // rows of the given class beside rows of the suggested one
  const near = card.near ?? [];
  const kind = facts.features ? "nearest rows labelled" : "cleanest rows labelled";
  return make(
    "div",
    { class: "cr-compare" },
    ...near.map(({ label, cards: rows }) =>
      make(
        "div",
        {},
        make("h3", {}, `${kind} `, name(label)),
        rows.length ? make("div", { class: `cr-strip${facts.texts ? " cr-texts" : ""}` }, ...rows.map(neighbour)) : make("p", { class: "cr-small", text: "none" }),
      ),
    ),
  );
}

const neighbour = ({ row, image, text }) =>
  make("button", { class: "cr-example", title: `row ${row}`, onclick: guarded(() => openLarge(row)) }, picture(image, row, text), make("span", { text: `row ${row}` }));

function remarksOf(card) {
  const mine = myRemark(card);
  const note = make("textarea", { rows: 2, maxlength: 2000, "aria-label": "note", placeholder: "a note …", title: "Esc or Ctrl+Enter: save, and back to the keys" });
  note.value = mine.note;
  const tags = make("input", { "aria-label": "tags, with commas between them", placeholder: "tags, with commas", list: "cr-tags", autocomplete: "off" });
  tags.value = mine.tags.join(", ");
  const save = () => {
    const list = [...new Set(tags.value.split(",").map((tag) => tag.replace(/\s+/g, " ").trim().slice(0, 60)).filter(Boolean))].slice(0, 20);
    const { note: old, tags: before } = myRemark(card);
    if (note.value !== old || list.join() !== before.join()) remark(card, note.value, list);
  };
  for (const node of [note, tags]) {
    node.addEventListener("change", save);
    node.addEventListener("keydown", (event) => {
      if (event.key !== "Escape" && !(event.key === "Enter" && (node === tags || event.ctrlKey))) return;
      event.preventDefault();
      event.stopPropagation();
      save();
      $(".cr-panel").focus({ preventScroll: true });
    });
  }
  const others = (card.remarks ?? []).filter(({ reviewer }) => reviewer !== facts.reviewer.slice(0, 300));
  return [
    make("h3", { text: "Note and tags" }),
    make("div", { class: "cr-remark" }, note, tags),
    ...others.map((of) => make("p", { class: "cr-others", dir: "auto", text: `${oneLine(of.reviewer, 20)}: ${[of.note, of.tags.map((tag) => `#${tag}`).join(" ")].filter(Boolean).join(" ")}` })),
  ];
}

const valuesOf = (card) =>
  card.values?.length ? [make("h3", { text: "Columns" }), table(["column", "value"], card.values.map(([column, value]) => [column, value || "–"]))] : [];

function storyOf(card) {
  if (!card.story?.length) return [];
  const when = (time) => new Date(time).toLocaleString("en-GB", { dateStyle: "medium", timeStyle: "short" });
  const what = ({ action, label, kind }) =>
    (kind === "do" ? "" : `${kind}: `) + (action === "clear" ? "no decision" : action === "relabel" ? `→ ${className(label)}` : action);
  return [make("h3", { text: "History" }), table(["when", "who", "what"], card.story.map((of) => [when(of.time), of.reviewer, what(of)]))];
}
