// ---- every class, and a page of each: examples, how many labels are wrong, what it is confused with.

async function openClasses() {
  const answer = await newest(ask("classes"));
  if (!answer) return;
  const search = make("input", { placeholder: "classes …", "aria-label": "search classes", autocomplete: "off" });
  const body = make("tbody");
  const share = ([rows, flagged]) => (rows ? flagged / rows : 0);
  const sorted = answer.classes.map((of, label) => [label, of]).sort((a, b) => share(b[1]) - share(a[1]) || b[1][0] - a[1][0]);
  const show = () => {
    const text = search.value.trim().toLowerCase();
    const found = sorted.filter(([label]) => facts.classes[label].toLowerCase().includes(text)).slice(0, 300);
    body.replaceChildren(
      ...found.map(([label, [rows, flagged, expected]]) =>
        make("tr", {}, make("td", {}, make("button", { class: "cr-plain", onclick: guarded(() => openClass(label)) }, name(label))), ...[count(rows), count(flagged), percent(share([rows, flagged])), count(Math.round(expected))].map((text) => make("td", { text }))),
      ),
    );
  };
  search.addEventListener("input", show);
  const head = ["class", "rows", "flagged", "share", "errors expected"].map((text) => make("th", { text }));
  openPanel(
    { name: "classes", title: "Classes", key: () => false },
    heading("Classes, the most flagged first"),
    make("div", { class: "cr-row" }, make("label", {}, "search ", search)),
    make("table", { class: "cr-pairs" }, make("thead", {}, make("tr", {}, ...head)), body),
    make("p", { class: "cr-small", text: "Errors expected: the sum of 1 - clean score over the rows of the class, as sure as the scores are." }),
  );
  show();
}

async function openClass(label) {
  const of = await newest(ask("of_class", { label }));
  if (!of) return;
  const go = (changes) => {
    closePanel();
    guarded(openView)({ ...EVERYTHING, show: "flagged", ...changes });
  };
  const said = of.wrong
    ? `${percent(of.wrong.estimate)} of its labels are wrong (95 % interval ${percent(of.wrong.low)} to ${percent(of.wrong.high)}), from the ${count(of.decided.flagged)} flagged and ${count(of.decided.selected)} other rows that people decided; flagged and other rows count by their number.`
    : "How many of its labels are wrong is not known yet: nobody has decided a row of it.";
  const doubt = of.wrong && !of.decided.selected ? " No row that the method selected was decided, so the interval is wide: decide some of them, too." : "";
  const confused = (title, pairs, view) => [
    make("h3", { text: title }),
    pairs.length
      ? make("ul", { class: "cr-confused" }, ...pairs.map(([other, n]) => make("li", {}, make("button", { class: "cr-plain", onclick: () => go(view(other)) }, name(other), ` · ${rowsOf(n)}`))))
      : make("p", { class: "cr-small", text: "none" }),
  ];
  const strip = (title, rows) => [
    make("h3", { text: title }),
    rows.length ? make("div", { class: `cr-strip${facts.texts ? " cr-texts" : ""}` }, ...rows.map(neighbour)) : make("p", { class: "cr-small", text: "none" }),
  ];
  openPanel(
    { name: "class", title: `Class ${className(label)}`, key: () => false },
    heading(className(label, 300), make("button", { text: "All classes", onclick: guarded(openClasses) })),
    make("p", { text: `${rowsOf(of.rows)}, ${count(of.flagged)} of them flagged; ${count(Math.round(of.expected))} errors expected from the scores.` }),
    make("p", { text: said + doubt }),
    make("div", { class: "cr-row" }, make("button", { text: "Review its flagged rows", disabled: !of.flagged, onclick: () => go({ given: label }) })),
    make(
      "div",
      { class: "cr-compare cr-of-class" },
      make("div", {}, ...strip("Surest rows", of.good), ...confused("Flagged rows of it look like", of.becomes, (other) => ({ given: label, suggested: other }))),
      make("div", {}, ...strip("Most suspicious rows", of.suspicious), ...confused("Flagged rows that look like it are labelled", of.comes_from, (other) => ({ given: other, suggested: label }))),
    ),
  );
}
