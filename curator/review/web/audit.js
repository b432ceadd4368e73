// ---- the audit: a random sample, labelled without seeing any label.

async function openAudit(size = null) {
  const seed = crypto.getRandomValues(new Uint32Array(1))[0];
  const sample = await newest(ask("audit", size ? { size, seed } : {}));
  if (!sample) return;
  if (!sample.rows.length) return auditStart();
  [sample.images, sample.asked] = [new Map(), new Map()];
  sample.labels = new Map(Object.entries(sample.labels).map(([row, label]) => [Number(row), label]));
  for (const step of waiting) if (step.kind === "audit" && step.audit === sample.audit) sample.labels.set(step.row, step.label);
  const first = sample.rows.findIndex((row) => !sample.labels.has(row));
  return first < 0 ? auditResult(sample) : auditRow(sample, first);
}

function auditStart() {
  const input = make("input", { type: "number", min: 1, max: 10000, value: 100, "aria-label": "rows" });
  const start = guarded(() => openAudit(Number(input.value)));
  input.addEventListener("keydown", (event) => event.key === "Enter" && start());
  openPanel(
    { name: "audit", key: () => false },
    heading("Audit"),
    make("p", { text: "How many labels are wrong, before and after? Label a random sample without seeing any label: half of it rows that the method selected, half rows that it flagged. The answer comes with a 95 % interval." }),
    make("p", { text: "The labels of an audit are measurements, not decisions: they are not used as verified rows." }),
    make("div", { class: "cr-row" }, make("label", {}, "rows ", input), make("button", { text: "Start", onclick: start })),
  );
}

function auditPictures(sample, place) {
  // a promise that the picture at the place is there; it comes with those after it, each asked for once
  const rows = sample.rows.slice(place, place + 16).filter((row) => !sample.asked.has(row));
  if (rows.length) {
    const coming = ask("pictures", { rows }).then(({ images, texts }) => rows.forEach((row) => sample.images.set(row, [images[row] ?? null, texts?.[row] ?? ""])));
    coming.catch(() => rows.forEach((row) => sample.asked.delete(row)));
    rows.forEach((row) => sample.asked.set(row, coming));
  }
  return sample.asked.get(sample.rows[place]);
}

async function auditRow(sample, place) {
  if (place >= sample.rows.length) return auditResult(sample);
  const row = sample.rows[place];
  if (!sample.images.has(row)) {
    // nobody has seen the row: keys do nothing until it is there
    openPanel({ name: "audit", key: () => true }, heading(`Audit: loading row ${place + 1} of ${sample.rows.length}`));
    if ((await newest(auditPictures(sample, place).then(() => true))) === null) return;
  } else if (!sample.asked.has(sample.rows[place + 8])) guarded(auditPictures)(sample, place + 8);
  const go = (to) => guarded(auditRow)(sample, to);
  const label = (code) => {
    sample.labels.set(row, code);
    post({ key: newKey(), kind: "audit", audit: sample.audit, row, label: code });
    go(place + 1);
  };
  const search = () => openSearch(label, () => go(place));
  const few = facts.classes.length <= (ofClass.size ? 62 : 30);
  const is = (code) => (sample.labels.has(row) && sample.labels.get(row) === code ? "cr-on" : "");
  const classes = few
    ? facts.classes.map((_, code) => make("button", { class: is(code), onclick: () => label(code) }, auditKey(code) ? make("kbd", { text: auditKey(code) }) : null, name(code)))
    : [];
  const key = (event) => {
    const letter = event.key.toLowerCase();
    if (event.ctrlKey || event.metaKey || event.altKey) {
      if (letter !== "z" || event.altKey || event.shiftKey) return false;
      go(Math.max(0, place - 1));
      return true;
    }
    const code = classOfKey(event) ?? (few && /^[0-9]$/.test(event.key) ? facts.classes.findIndex((_, c) => auditKey(c) === event.key) : -1);
    const work =
      code >= 0 ? () => label(code)
      : letter === "u" ? () => label(null)
      : letter === "/" ? search
      : event.key === "ArrowLeft" ? () => go(Math.max(0, place - 1))
      : event.key === "ArrowRight" && sample.labels.has(row) ? () => go(place + 1)
      : null;
    if (work && !event.repeat) work();
    return work !== null;
  };
  openPanel(
    { name: "audit", key },
    heading(`Audit: ${place + 1} of ${sample.rows.length}`, make("button", { text: "Result so far", onclick: guarded(() => auditResult(sample)) })),
    make(
      "div",
      { class: "cr-audit" },
      picture(sample.images.get(row)[0], row, sample.images.get(row)[1]),
      make(
        "div",
        { class: "cr-classes" },
        ...classes,
        make("button", { text: "Search… (/)", onclick: search }),
        make("button", { class: is(null), text: `Cannot tell (${shownKey("u")})`, onclick: () => label(null) }),
        make("button", { text: "Back", disabled: place === 0, onclick: () => go(place - 1) }),
      ),
      make("p", { class: "cr-small", text: "What is it? The given and the suggested label are hidden on purpose." }),
    ),
  );
}

async function auditResult(sample) {
  openPanel({ name: "audit", key: () => false }, heading("Audit: saving the labels"));
  const ready = async () => {
    while (waiting.length) await new Promise((done) => setTimeout(done, 50));
    return ask("audit_result");
  };
  const answer = await newest(ready());
  if (!answer) return;
  const labels = [...sample.labels.values()];
  const most = 1.1 * Math.max(0.05, answer.before.high ?? 0, answer.after.high ?? 0);
  const at = (x) => `${(100 * x) / most}%`;
  const shown = (title, rate) =>
    rate.estimate === null
      ? [make("h3", { text: `${title}: not known, since no row has a label yet` })]
      : [
          make("h3", { text: `${title}: ${percent(rate.estimate)} of the labels are wrong (95 % interval ${percent(rate.low)} to ${percent(rate.high)})` }),
          make("div", { class: "cr-rate" }, make("i", { style: `left:${at(rate.low)};width:${at(rate.high - rate.low)}` }), make("b", { style: `left:${at(rate.estimate)}` })),
        ];
  const rows = answer.before.strata.map((s, i) => [s.name, count(s.size), count(s.labelled), count(s.wrong), count(answer.after.strata[i].wrong)]);
  const unsure = labels.filter((label) => label === null).length;
  openPanel(
    { name: "audit-result", key: () => false },
    heading("Audit: result"),
    make(
      "div",
      { class: "cr-audit" },
      make("p", { text: `${labels.length} of ${sample.rows.length} rows labelled blind by ${oneLine(facts.reviewer, 30)}, ${unsure} of them “cannot tell”.` }),
      ...shown("Before", answer.before),
      ...shown("After", answer.after),
      table(["rows", "in all", "labelled", "wrong before", "wrong after"], rows),
      make("p", { text: "After: the corrected labels, with what reviewers verified put in and the rows they dropped left out." }),
      make(
        "div",
        { class: "cr-row" },
        make("button", { text: "Continue", disabled: labels.length === sample.rows.length, onclick: guarded(() => openAudit()) }),
        make("button", { text: "Look again", onclick: guarded(() => auditRow(sample, 0)) }),
        make("button", { text: "New sample", onclick: auditStart }),
      ),
    ),
  );
}
