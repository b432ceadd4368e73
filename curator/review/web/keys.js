// ---- keys and buttons, and how it all begins.

const typing = (target) => target instanceof Element && target.closest("input, textarea, select, [contenteditable=true]");

function onKey(event) {
  if (!element.isConnected) return document.removeEventListener("keydown", onKey);
  if (!facts) return;
  if (typing(event.target)) {
    if (event.key !== "Escape") return;
    if (panel) (panel.close ?? closePanel)();
    else event.target.blur();
    return event.preventDefault();
  }
  const control = event.ctrlKey || event.metaKey;
  if (panel && event.key === "Escape") (panel.close ?? closePanel)();
  else if (panel?.key(event)) ;
  else if (panel && panel.name !== "large") return;
  else if (control && !event.altKey && event.key.toLowerCase() === "z") turn(event.shiftKey ? "redo" : "undo");
  else if (control || event.altKey || !pageKey(event)) return;
  event.preventDefault();
}

function pageKey(event) {
  const { key } = event;
  if (loading && !panel) return classOfKey(event) !== undefined || /^[a-z0-9/ ]$|Enter|Arrow/i.test(key); // nobody has seen the rows to come
  const arrows = { ArrowLeft: -1, ArrowRight: 1, ArrowUp: -columns(), ArrowDown: columns() };
  if (key in arrows) {
    if (event.shiftKey && !chosen.has(cards[focus]?.row)) toggle(focus);
    move(arrows[key]);
    if (event.shiftKey && !chosen.has(cards[focus]?.row)) toggle(focus);
    return true;
  }
  const inGrid = {
    x: () => toggle(focus), n: () => turnPage(1), p: () => turnPage(-1), m: guarded(openMatrix), "?": openHelp,
    c: () => cards[focus] && guarded(openLarge)(cards[focus].row, true),
    g: () => opened.grouped && chooseGroup(focus),
    Escape: forget, " ": () => cards[focus] && guarded(openLarge)(cards[focus].row),
  };
  const anywhere = {
    Enter: () => (event.shiftKey && !panel ? rest(first) : act(first)), k: () => act(plainly("keep")),
    d: () => act(plainly("drop")), u: () => act(plainly("unsure")), b: () => act(both), "/": labelSearch,
    l: guarded(moreAlike),
  };
  const word = key.length === 1 ? key.toLowerCase() : key;
  const [label, place] = [classOfKey(event), placeOfKey(event)];
  const work =
    label !== undefined ? () => act(labelled(label))
    : place >= 0 ? () => act(suggestion(place))
    : (anywhere[word] ?? (panel ? { " ": closePanel } : inGrid)[word]);
  if (work && !event.repeat) work();
  return Boolean(work);
}

function forget() {
  tickets += 1; // a panel that is on its way does not open
  chooseNone();
}

const BUTTONS = {
  accept: () => act(accepted), keep: () => act(plainly("keep")), drop: () => act(plainly("drop")),
  unsure: () => act(plainly("unsure")), both: () => act(both), label: labelSearch, undo: () => turn("undo"), redo: () => turn("redo"),
  "accept-page": () => rest(accepted), "keep-page": () => rest(plainly("keep")), "drop-page": () => rest(plainly("drop")),
  previous: () => turnPage(-1), next: () => turnPage(1), map: guarded(openMap), matrix: guarded(openMatrix), alike: guarded(moreAlike),
  audit: guarded(() => openAudit()), people: guarded(openPeople), scores: guarded(openScores), classes: guarded(openClasses),
  link: guarded(copyLink), filters: openFilters, clear: guarded(() => openView(EVERYTHING)), fixed: guarded(downloadFixed),
  publish: openPublish, help: openHelp,
  theme: () => setTheme(document.body.classList.contains("dark") ? "light" : "dark"),
};

function onClick(event) {
  const button = event.target.closest("button[data-do]");
  if (!button || (loading && !panel)) return;
  BUTTONS[button.dataset.do]();
  button.blur();
}

function setTheme(theme) {
  document.body.classList.toggle("dark", theme === "dark");
  try {
    localStorage.setItem("curator-theme", theme);
  } catch {
    // it holds for this visit
  }
}

async function begin() {
  for (let pause = 300; !facts; pause = Math.min(5000, 2 * pause)) {
    try {
      facts = await ask("hello");
    } catch (error) {
      complain(error);
      await new Promise((done) => setTimeout(done, pause));
    }
  }
  const title = oneLine(facts.runs.join(" + "), 120);
  document.title = `Curator: ${title}`;
  $("h1").textContent = title;
  problem = "";
  [undoable, redoable] = facts.history.map((keys) => keys.map((key) => ({ key })));
  $("[data-do=audit]").disabled = !facts.images && !facts.texts;
  $(".cr-grid").classList.toggle("cr-texts", facts.texts);
  $("[data-do=publish]").hidden = !facts.publishes;
  $("form[action=logout]").hidden = !facts.accounts;
  $("[data-split]").hidden = facts.splits.length < 2; // with one other split the queue of leaks says it all
  learnKeys();
  fillFilters();
  recall();
  if (facts.overlap > 1) view.decided = "owed";
  const row = recallView();
  begunSize();
  showState();
  showProgress();
  const go = $("input[name=row]");
  go.addEventListener("keydown", (event) => {
    if (event.key !== "Enter" || !/^\s*\d+\s*$/.test(go.value)) return;
    go.blur();
    problem = "";
    guarded(openLarge)(Number(go.value));
  });
  beginSearch();
  element.addEventListener("click", onClick);
  $(".cr-over").addEventListener("click", (event) => event.target === $(".cr-over") && closePanel());
  document.addEventListener("keydown", onKey);
  send();
  await openView();
  if (row !== null) await openLarge(row);
}

try {
  const theme = localStorage.getItem("curator-theme");
  if (theme) setTheme(theme);
} catch {
  // no storage
}
begin().catch(complain);
