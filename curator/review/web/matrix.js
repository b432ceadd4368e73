// ---- the matrix: given against suggested classes, all of them or those that are searched, at any size.

const MANY = 100; // classes that are drawn at once

async function openMatrix() {
  const answer = await newest(ask("matrix", { show: view.show }));
  if (!answer) return;
  const pick = (given, suggested) => {
    closePanel();
    guarded(openView)({ given, suggested });
  };
  const all = make("button", { text: "all pairs", onclick: () => pick(null, null) });
  const search = make("input", { placeholder: "classes …", "aria-label": "search classes", autocomplete: "off" });
  const size = make("input", { type: "range", min: 10, max: 40, value: facts.classes.length > 30 ? 18 : 28, "aria-label": "size of the cells" });
  const said = make("p", { class: "cr-small" });
  const place = make("div", { class: "cr-scroll", tabindex: 0, role: "group", "aria-label": "matrix" });
  const fit = () => place.style.setProperty("--side", `${size.value}px`);
  const show = () => {
    const text = search.value.trim().toLowerCase();
    const labels = labelsOf(answer.pairs, text);
    const inside = new Set(labels);
    const pairs = answer.pairs.filter(([a, b]) => inside.has(a) && inside.has(b));
    place.replaceChildren(matrixTable(pairs, labels, pick), make("h3", { text: "Largest pairs" }), pairsTable(pairs.filter(([a, b]) => a !== b), pick));
    const of = text ? "that fit, and those they are confused with" : "with most flagged rows";
    said.textContent = labels.length < facts.classes.length ? `${count(labels.length)} of ${count(facts.classes.length)} classes: those ${of}` : "";
  };
  search.addEventListener("input", show);
  size.addEventListener("input", fit);
  openPanel(
    { name: "matrix", title: "Matrix", key: () => false },
    heading(`Given (down) → suggested (across), ${view.show} rows`, all),
    make("div", { class: "cr-row" }, make("label", {}, "search ", search), make("label", {}, "size ", size), said),
    place,
  );
  fit();
  show();
}

function labelsOf(pairs, text) {
  // classes to draw: all; or those that fit the text and those they are confused with; at most MANY, the most confused first
  const weight = new Map();
  const add = (label, n) => weight.set(label, (weight.get(label) ?? 0) + n);
  const fits = facts.classes.map((one) => one.toLowerCase().includes(text));
  for (const [a, b, n] of pairs) {
    if (text && !fits[a] && !fits[b]) continue;
    add(a, a === b ? 0 : n);
    add(b, a === b ? 0 : n);
  }
  if (text) facts.classes.forEach((_, label) => fits[label] && add(label, 1e9)); // those that were asked for come first
  else facts.classes.forEach((_, label) => add(label, 0));
  const found = [...weight].sort((a, b) => b[1] - a[1] || a[0] - b[0]).map(([label]) => label);
  return found.length > MANY ? found.slice(0, MANY) : found.sort((a, b) => a - b);
}

function matrixTable(pairs, labels, pick) {
  const cells = new Map(pairs.map(([a, b, n]) => [`${a} ${b}`, n]));
  const most = Math.max(1, ...pairs.filter(([a, b]) => a !== b).map(([, , n]) => n));
  const cell = (a, b) => {
    const n = cells.get(`${a} ${b}`);
    if (!n) return make("td");
    const shade = a === b ? 0 : Math.round(60 * Math.sqrt(n / most));
    const style = `background:color-mix(in srgb, var(--color-accent) ${shade}%, transparent)`;
    const says = `${count(n)} rows: ${className(a, 300)} → ${className(b, 300)}`;
    return make("td", { "data-given": a, "data-suggested": b, style, title: says, onclick: () => pick(a, b) }, make("span", { text: count(n) }));
  };
  const head = make("tr", {}, make("td"), ...labels.map((b) => make("th", { scope: "col" }, name(b))));
  const rows = labels.map((a) => make("tr", {}, make("th", { scope: "row" }, name(a)), ...labels.map((b) => cell(a, b))));
  return make("table", { class: "cr-matrix" }, make("thead", {}, head), make("tbody", {}, ...rows));
}

function pairsTable(pairs, pick) {
  // the same for who uses no mouse
  const rows = pairs.slice(0, 200).map(([a, b, n]) =>
    make(
      "tr",
      { "data-given": a, "data-suggested": b },
      make("td", {}, make("button", { class: "cr-plain", onclick: () => pick(a, b) }, name(a), " → ", name(b))),
      make("td", { text: count(n) }),
    ),
  );
  const head = make("tr", {}, make("th", { text: "given → suggested" }), make("th", { text: "rows" }));
  return make("table", { class: "cr-pairs" }, make("thead", {}, head), make("tbody", {}, ...rows));
}
