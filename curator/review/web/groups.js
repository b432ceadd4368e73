// ---- groups that one decision settles, rows that are like others, and where in the run the view is.

const ofGroup = (place) => cards.filter((card) => card.group === cards[place]?.group && card.group >= 0);
const openOf = (place) => ofGroup(place).filter((card) => !decided(card.row).mine);

function inGroups(nodes) {
  // the groups of a page, each a list of its own under its head: a list for screen readers holds rows alone
  const shown = [];
  nodes.forEach((node, place) => {
    const { group, given, suggested } = cards[place];
    if (!place || group < 0 || group !== cards[place - 1].group) {
      const says = `${className(given)}, suggested ${className(suggested)}: several can be chosen`;
      if (group >= 0) shown.push(groupHead(place));
      shown.push(make("div", { class: "cr-group-rows", role: "listbox", "aria-label": says }));
    }
    shown.at(-1).append(node);
  });
  return shown;
}

function groupHead(place) {
  const card = cards[place], n = ofGroup(place).length;
  const choose = make("button", { text: "Choose", title: "G", onclick: () => chooseGroup(place) });
  const words = [name(card.given), " → ", name(card.suggested, "cr-suggested"), ` · ${rowsOf(n)} `];
  return make("h2", { class: "cr-group" }, ...words, ...(n > 1 ? [choose] : []));
}

function chooseGroup(place) {
  chooseNone();
  for (const card of openOf(place)) toggle(cards.indexOf(card));
}

function nextGroup(place, scroll = true) {
  // what is left of this group one by one, since it was taken out of it; then the next group, chosen as a whole
  const whole = (card) => openOf(cards.indexOf(card)).length === ofGroup(cards.indexOf(card)).length;
  const left = openOf(place);
  const next = left.length && !whole(left[0]) ? left[0] : cards.slice(place).find((card) => !decided(card.row).mine);
  if (!next) return setFocus(cards.length - 1, scroll);
  setFocus(cards.indexOf(next), scroll);
  if (whole(next)) chooseGroup(cards.indexOf(next));
}

function groupsLeft() {
  const { groups, rows } = facts.counts.groups;
  if (!groups) return "no group is left";
  return `${count(groups)} ${groups === 1 ? "group is" : "groups are"} left: one decision each settles ${count(rows)} labels`;
}

// ---- search

async function moreAlike() {
  if (panel && panel.name !== "large") return;
  const rows = panel?.name === "large" ? [panel.card.row] : chosen.size ? [...chosen] : cards[focus] ? [cards[focus].row] : [];
  if (!facts.features) throw new Error("this run has no features.npy, by which rows are found");
  if (!rows.length) return;
  if (panel) closePanel();
  await openView({ ...NOWHERE, like: rows.slice(0, 1000), show: "all", given: null, suggested: null, decided: "any" });
}

function beginSearch() {
  $(".cr-words").hidden = !facts.words;
  $("[data-do=alike]").disabled = $("[data-do=map]").disabled = !facts.features;
  const words = $("input[name=words]");
  words.addEventListener("keydown", (event) => {
    if (event.key !== "Enter") return;
    words.blur();
    const text = words.value.trim();
    guarded(openView)(text ? { ...NOWHERE, words: text, show: "all", given: null, suggested: null, decided: "any" } : { words: "" });
  });
}

// ---- an area of the map, rows or words that the view is about

function whereOf(there) {
  const list = (value, most) =>
    Array.isArray(value) && value.length <= most && value.every((n) => Number.isInteger(n) && n >= 0) ? value : [];
  return { area: list(there.area, 800), like: list(there.like, 1000), words: typeof there.words === "string" ? there.words.slice(0, 300) : "" };
}

function showWhere() {
  const node = $(".cr-where"), { area, like, words } = view;
  const some = like.slice(0, 5).join(", ") + (like.length > 5 ? ", …" : "");
  const said = [
    area.length ? "an area of the map" : "",
    words ? `most like the words “${oneLine(words, 60)}” first` : like.length ? `most like ${like.length === 1 ? "row" : "rows"} ${some} first` : "",
  ].filter(Boolean);
  node.hidden = !said.length;
  $("input[name=words]").value = words;
  const leave = () => guarded(openView)({ ...NOWHERE });
  node.replaceChildren(said.join(" · "), " ", make("button", { text: "✕ all rows", onclick: leave }));
}
