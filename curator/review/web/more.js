// ---- what stands around the grid: further filters, the size of the pictures, the link to a view, names in full, and
// what an empty queue means.

const NUMBERS = ["given", "suggested", "low", "high"]; // fields of a view
const SMALLEST = 110; // pixels a cell below which only pictures and labels are drawn, and more rows make a page

function chooseView(field, value) {
  const changes = { [field]: field === "has" ? value ?? "" : value };
  if (field === "order" && value === "column" && view.column === null) changes.column = facts.columns[0];
  if (field === "column" && value === null) Object.assign(changes, { has: "", ...(view.order === "column" && { order: "least clean" }) });
  return openView(changes);
}

const isFiltered = () => Object.entries(EVERYTHING).some(([field, none]) => view[field] !== none);

function showMore() {
  const more = ["by", "tag", "column", "split", "low", "high"].some((field) => view[field] !== null);
  if (more) $(".cr-more").hidden = false;
  for (const node of $$("[data-do=filters]")) node.setAttribute("aria-expanded", String(!$(".cr-more").hidden));
  $("[data-do=clear]").hidden = !isFiltered();
  $("#cr-tags").replaceChildren(...facts.tags.map((value) => make("option", { value })));
}

function openFilters() {
  const hidden = !$(".cr-more").hidden;
  $(".cr-more").hidden = hidden;
  $(".cr").classList.toggle("cr-filtering", !hidden);
  for (const node of $$("[data-do=filters]")) node.setAttribute("aria-expanded", String(!hidden));
}

// ---- an empty queue

function nothingHere() {
  const { order, show, ...filters } = view;
  const only = (...fields) => Object.entries(EVERYTHING).every(([field, none]) => fields.includes(field) || filters[field] === none);
  const words =
    view.decided === "conflicts" ? "No conflicts: reviewers agree on every row that two of them have decided."
    : !only("decided") ? "No row fits these filters."
    : view.decided === "mine" ? "You have not decided any of these rows yet."
    : view.decided !== "any" && facts.counts.flagged && show === "flagged" ? `No suspicious labels left: all ${count(facts.counts.flagged)} flagged rows are decided. Next: Audit (how many labels are wrong now?) or Publish.`
    : view.decided !== "any" ? "Nothing left here: all of these rows are decided."
    : show === "flagged" ? "No suspicious labels: the method flagged no row. “borderline” shows the least clean rows that it did not flag."
    : show === "duplicates" ? "No duplicates: no image or text stands there twice with different labels."
    : "No rows here.";
  return make(
    "div",
    { class: "cr-nothing" },
    make("p", { text: words }),
    isFiltered() ? make("button", { text: "Clear filters", onclick: guarded(() => openView(EVERYTHING)) }) : null,
    show === "flagged" ? make("button", { text: "Show borderline rows", onclick: guarded(() => openView({ ...EVERYTHING, show: "borderline" })) }) : null,
  );
}

// ---- size

const cell = () => Number($("input[name=size]").value);
const perPage = () => (cell() < SMALLEST ? 192 : 64);

function begunSize() {
  const slider = $("input[name=size]");
  const fit = () => {
    $(".cr-grid").style.setProperty("--cell", `${cell()}px`);
    $(".cr-grid").classList.toggle("cr-tiny", cell() < SMALLEST);
  };
  if (facts.texts) slider.min = 140; // less shows two words
  slider.value = (facts.texts ? 240 : 150);
  try {
    slider.value = localStorage.getItem("curator-size") ?? slider.value;
  } catch {
    // no storage
  }
  slider.addEventListener("input", fit);
  slider.addEventListener("change", () => {
    try {
      localStorage.setItem("curator-size", slider.value);
    } catch {
      // it holds for this visit
    }
    slider.blur();
    if (opened.size !== perPage()) guarded(openView)();
  });
  fit();
}

// ---- the address of a view

function addressOf(row = null) {
  const there = Object.fromEntries(Object.entries(view).filter(([field, value]) => !(field in EVERYTHING) || value !== EVERYTHING[field]));
  return "#" + encodeURIComponent(JSON.stringify(row === null ? there : { ...there, row }));
}

async function copyLink() {
  const row = panel?.name === "large" ? panel.card.row : null;
  const link = location.origin + location.pathname + addressOf(row);
  const copied = await (navigator.clipboard?.writeText(link) ?? Promise.reject()).then(() => true, () => false);
  const input = make("input", { class: "cr-link", value: link, readonly: true, "aria-label": "address of this view" });
  openPanel(
    { name: "link", title: "Link to this view", key: () => false },
    heading("Link to this view"),
    make("p", { text: copied ? "Copied." : "Copy the address:" }),
    input,
    make("p", { text: facts.accounts ? "It shows the same filters and order to whoever logs in." : "It shows the same filters and order in a browser in which the printed address, with its token, was opened before." }),
  );
  if (!copied) input.select();
}

// ---- names in full: on hover by their title; of the row with the focus, and after a long press, below the card

function showNames(node, card) {
  $$(".cr-tip").forEach((tip) => tip.remove());
  if (!node || !$$(".cr-labels .cr-name", node).some((one) => one.scrollHeight > one.clientHeight + 1 || one.scrollWidth > one.clientWidth + 1)) return;
  tip(node, `${className(card.given, 300)} → ${className(card.suggested, 300)}`);
}

function tip(node, text) {
  $(".cr-tip", node)?.remove();
  node.append(make("p", { class: "cr-tip", dir: "auto", text }));
}

let pressed = null;
element.addEventListener("pointerdown", ({ target, pointerType }) => {
  const node = target.closest(".cr-name");
  const frame = node?.closest(".cr-card, .cr-bars li, .cr-panel p, .cr-panel h3");
  if (pointerType === "mouse" || !frame) return;
  pressed = setTimeout(() => tip(frame.closest(".cr-card") ?? frame, node.title), 500);
});
for (const kind of ["pointerup", "pointercancel", "pointerleave"]) element.addEventListener(kind, () => clearTimeout(pressed));

// ---- notes and tags

const tagsOf = (card) => [...new Set((card.remarks ?? []).flatMap(({ tags }) => tags))];
const myRemark = (card) => (card.remarks ?? []).find(({ reviewer }) => reviewer === facts.reviewer.slice(0, 300)) ?? { note: "", tags: [] };

function remark(card, note, tags) {
  const mine = { reviewer: facts.reviewer.slice(0, 300), note, tags, time: new Date().toISOString() };
  for (const one of new Set([card, known.get(card.row), cards.find(({ row }) => row === card.row)]))
    if (one) one.remarks = [...(one.remarks ?? []).filter(({ reviewer }) => reviewer !== mine.reviewer), ...(note || tags.length ? [mine] : [])];
  facts.tags = [...new Set([...facts.tags, ...tags])];
  post({ key: newKey(), kind: "remark", row: card.row, note, tags });
  const place = cards.findIndex(({ row }) => row === card.row);
  if (place < 0) return;
  const node = nodeAt(place);
  $$(".cr-tag", node).forEach((one) => one.remove());
  $(".cr-labels", node).after(...tagNodes(card));
}

function tagNodes(card) {
  const notes = (card.remarks ?? []).filter(({ note }) => note).map(({ reviewer, note }) => `${oneLine(reviewer, 20)}: ${note}`);
  const said = notes.length ? [make("span", { class: "cr-tag", text: "note", title: notes.join("\n") })] : [];
  return [...said, ...tagsOf(card).map((tag) => make("span", { class: "cr-tag", dir: "auto", text: oneLine(tag, 60) }))];
}

function tagged(card, tag) {
  const { note, tags } = myRemark(card);
  if (!tags.includes(tag)) remark(card, note, [...tags, tag.slice(0, 60)].slice(-20));
}
