// ---- steps and how they are saved. What a key does shows at once and waits in `waiting`, kept in
// localStorage too, until the server has it on its disk. A step that is sent twice counts once.

const PAUSE = 60; // seconds without a decision that do not count as work
const tab = newKey(); // a new one at every load: what others left on the shelf is taken over
const shelf = () => `curator ${JSON.stringify([facts.journal, facts.reviewer])} `;
let undoable = []; // steps that can be undone, the next one last: {key, before, after}, or {key} of an earlier visit
let redoable = [];
let times = []; // [milliseconds, rows] of the latest decisions
let sending = false;
let retry = null; // the timer of the next try
let refused = 0; // steps that the server will never take
let kept = true; // whether `waiting` would survive a reload

function remember() {
  try {
    kept = true;
    if (waiting.length) localStorage.setItem(shelf() + tab, JSON.stringify(waiting));
    else localStorage.removeItem(shelf() + tab);
  } catch {
    kept = false; // no storage (a private window, or it is full): the steps are still sent
  }
}

function recall() {
  try {
    const found = Object.keys(localStorage).filter((key) => key.startsWith(shelf()));
    for (const key of found) {
      try {
        waiting.push(...JSON.parse(localStorage.getItem(key)));
      } catch {
        // not ours, or broken: it stays where it is
      }
    }
    undoable.push(...waiting.filter((step) => step.kind === "do").map(({ key }) => ({ key })));
    remember();
    if (!kept) return; // or the only copy would go
    for (const key of found) if (key !== shelf() + tab) localStorage.removeItem(key);
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
  clearTimeout(retry);
  let again = 0;
  try {
    const steps = waiting.slice(0, 200);
    const answer = await ask("save", { steps: steps.map(({ effects, ...step }) => step), ...ofPage() });
    const done = new Set([...answer.saved, ...answer.refused]);
    waiting = waiting.filter((step) => !done.has(step.key));
    refused += answer.refused.length;
    answer.taken.forEach(rename);
    problem = "";
    settle(answer, steps);
    remember();
  } catch (error) {
    again = 1000;
    problem = `not saved, trying again: ${oneLine(error.message, 200)}`;
  }
  sending = false;
  showState();
  if (again) retry = setTimeout(send, again);
  else send();
}

function rename(key) {
  // the key is another step's, so that this one was not saved: it is sent again with another
  const to = newKey();
  for (const step of [...waiting, ...undoable, ...redoable]) {
    if (step.key === key) step.key = to;
    if (step.target === key) step.target = to;
  }
}

function settle(answer, steps) {
  facts.counts = answer.counts;
  for (const [row, mine] of Object.entries(answer.rows)) learn(Number(row), mine, answer.at);
  if (!waiting.length) {
    // the server's word on what can be turned: other tabs, or a refused undo
    const mine = new Map([...undoable, ...redoable].map((step) => [step.key, step]));
    [undoable, redoable] = answer.history.map((keys) => keys.map((key) => mine.get(key) ?? { key }));
  }
  for (const row of new Set([...Object.keys(answer.rows).map(Number), ...steps.flatMap((step) => (step.effects ?? []).map(([row]) => row))])) paint(row);
  showProgress();
}

function showState() {
  const node = $(".cr-state");
  const trouble = problem !== "";
  node.classList.toggle("cr-saving", waiting.length > 0 && !trouble);
  node.classList.toggle("cr-failing", trouble);
  const ahead = waiting.length ? `${waiting.length} ` : "";
  const done = refused ? `${refused} decisions do not fit this run and were not saved` : "all saved";
  node.textContent = trouble ? ahead + problem : waiting.length ? `saving ${waiting.length} …` : done;
}

window.addEventListener("beforeunload", (event) => {
  if (waiting.length && !kept) event.preventDefault();
});

// ---- deciding

const accepted = (card) => ({ action: "relabel", label: card.suggested });
const plainly = (action) => () => ({ action, label: null });
const both = (card) => {
  // the given label and the suggested one, or the likeliest other one where the given is suggested
  const second = card.suggested !== card.given ? card.suggested : card.top.find(([label]) => label !== card.given)?.[0];
  return second === undefined ? null : { action: "both", label: second };
};
const labelled = (label) => () => ({ action: "relabel", label });
const drawn = (card) => card.top.filter(([, share]) => share >= 0.005); // those that would be 0 % are none
const suggestion = (place) => (card) => (drawn(card)[place] ? { action: "relabel", label: drawn(card)[place][0] } : null);

// Whether a step settles its rows, for good and for all: in the queue of conflicts, by who may.
const settles = (acts) =>
  view.show === "conflicts" && facts.rules && acts.every(([row]) => cards.some((card) => card.row === row));

function decide(targets, choose) {
  // choose(card) -> decision or null; one step, one undo; whether anything was decided
  if (facts.decides === false) return complain(new Error("you may look, but not decide: the owner of this Space names its reviewers"));
  const before = [], after = [];
  for (const card of targets) {
    const made = choose(card);
    if (!made) continue;
    if (made.action === "relabel" && made.label === card.given) made.action = "keep";
    if (made.action === "keep") made.label = card.given;
    before.push([card.row, decided(card.row).mine]);
    after.push([card.row, made]);
  }
  if (!after.length) return false;
  const ruling = settles(after);
  if (ruling) after.forEach(([, made]) => (made.ruling = true));
  const key = newKey();
  undoable.push({ key, before, after });
  redoable = [];
  times = [...times, [Date.now(), after.length]].slice(-200);
  post({ key, kind: "do", ruling, rows: after.map(([row, made]) => [row, made.action, made.label]), effects: after });
  after.forEach(([row]) => paint(row));
  showProgress();
  return true;
}

function turn(kind) {
  const [from, to] = kind === "undo" ? [undoable, redoable] : [redoable, undoable];
  const step = from.pop();
  if (!step) return;
  to.push(step);
  const effects = kind === "undo" ? step.before : step.after; // not known of an earlier visit: the server tells
  post({ key: newKey(), kind, target: step.key, effects });
  for (const [row] of effects ?? []) paint(row);
  showProgress();
  const [row] = effects?.[0] ?? [];
  const place = cards.findIndex((card) => card.row === row);
  if (place >= 0) setFocus(place);
  if (panel?.name === "large" && row !== undefined && known.has(row)) openLarge(row);
  else if (panel?.name === "large") closePanel();
}

function showProgress() {
  const { flagged, mine, anybody } = facts.counts;
  $(".cr-progress div").style.width = `${flagged ? (100 * mine) / flagged : 0}%`;
  $(".cr-progress").setAttribute("aria-valuenow", flagged ? Math.round((100 * mine) / flagged) : 0);
  let text = `${count(mine)} of ${count(flagged)} flagged rows decided by ${oneLine(facts.reviewer, 30)}`;
  if (anybody > mine) text += ` (${count(anybody)} by anybody)`;
  const { owed } = facts.counts;
  if (owed !== undefined) text += ` · ${count(owed)} still owed by you, each is decided by ${facts.overlap} people`;
  if (view.show === "conflicts") text += facts.rules ? " · what you decide here settles the row" : " · an adjudicator settles these rows";
  if (opened.grouped && facts.counts.groups) text += ` · ${groupsLeft()}`;
  const left = remaining(owed ?? flagged - mine);
  if (left) text += ` · about ${left} left at this pace`;
  if (flagged && mine === flagged) text += " · all are decided: Audit tells how many labels are wrong now, Publish makes a version";
  else text += hint();
  $(".cr-pace").textContent = text;
  $("[data-do=next]").classList.toggle("cr-main", pageIsDone());
  $("[data-do=undo]").disabled = !undoable.length;
  $("[data-do=redo]").disabled = !redoable.length;
}

const pageIsDone = () => cards.length > 0 && number + 1 < opened.pages && cards.every((card) => decided(card.row).mine);

function hint() {
  // what to do, for who has not done it yet; on a phone the buttons say it
  if (matchMedia("(max-width: 640px)").matches) return "";
  if (pageIsDone()) return ` · this page is decided: ${shownKey("n")} shows the next one`;
  if (opened.grouped) return " · a click takes a row out of its group";
  if (undoable.length || !cards.length || toDrop()) return "";
  return ` · is the label after the arrow right? Enter accepts it, ${shownKey("k")} keeps the one before it, ? shows all keys`;
}

function remaining(rows) {
  let seconds = 0, done = 0;
  for (let i = 1; i < times.length; i++) {
    const gap = (times[i][0] - times[i - 1][0]) / 1000;
    if (gap < PAUSE) [seconds, done] = [seconds + gap, done + times[i][1]];
  }
  if (done < 5 || rows <= 0) return "";
  const left = (seconds / done) * rows;
  if (left < 90) return `${Math.ceil(left)} s`;
  return left < 5400 ? `${Math.round(left / 60)} min` : `${(left / 3600).toFixed(1)} h`;
}
