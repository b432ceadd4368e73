// ---- the clean scores: how they lie, and a threshold to drag; rows below it and the errors expected there follow.

async function openScores() {
  const { rows, flagged, expected } = (await newest(ask("scores"))) ?? {};
  if (!rows) return;
  const bins = rows.length;
  const most = Math.sqrt(Math.max(1, ...rows));
  const bars = rows.map((n, i) =>
    make("i", { style: `height:${(100 * Math.sqrt(n)) / most}%`, title: `${(i / bins).toFixed(3)} to ${((i + 1) / bins).toFixed(3)}: ${count(n)} rows, ${count(flagged[i])} flagged` }, make("b", { style: `height:${n ? (100 * flagged[i]) / n : 0}%` })),
  );
  const slider = make("input", { type: "range", min: 0, max: bins, value: Math.round(bins * (view.high ?? 0.5)), "aria-label": "threshold of the clean score" });
  const said = make("p", { role: "status" });
  const go = (changes) => {
    closePanel();
    guarded(openView)({ ...EVERYTHING, order: "least clean", ...changes });
  };
  const sum = (values, end) => values.slice(0, end).reduce((a, b) => a + b, 0);
  const follow = () => {
    const end = Number(slider.value);
    bars.forEach((bar, i) => bar.classList.toggle("cr-below", i < end));
    const [n, f, e] = [rows, flagged, expected].map((values) => sum(values, end));
    const part = sum(expected, bins) ? e / sum(expected, bins) : 0;
    said.textContent =
      `Clean score below ${(end / bins).toFixed(3)}: ${count(n)} rows (${count(f)} flagged, ${count(n - f)} not), ` +
      `about ${count(Math.round(e))} errors expected among them, ${percent(part, 0)} of all.`;
  };
  slider.addEventListener("input", follow);
  openPanel(
    { name: "scores", title: "Clean scores", key: () => false },
    heading("Clean scores: 0 surely wrong, 1 surely right"),
    make("div", { class: "cr-scores", role: "img", "aria-label": "histogram of the clean scores" }, ...bars),
    slider,
    said,
    make("p", { class: "cr-small", text: "Heights are square roots of the rows; the dark part is flagged. Errors expected: the sum of 1 - clean score, as sure as the scores are." }),
    make(
      "div",
      { class: "cr-row" },
      make("button", { class: "cr-main", text: "Show these rows", onclick: () => go({ show: "all", high: Number(slider.value) / bins }) }),
      make("button", { text: "Borderline rows", title: "the least clean rows that were not flagged", onclick: () => go({ show: "borderline" }) }),
    ),
  );
  follow();
}
