// ---- the map: all rows as points on one canvas, drawn by hand: 100,000 of them are a few milliseconds' work.
// An area that is drawn on it, or what is in view, is a selection that keys act on, and that opens as a queue.

const GRID = 65535; // the map's sides
const DRAWN = [0x9a, 0x9a, 0x9a]; // what stands back
const DECIDED = { keep: [21, 128, 61], relabel: [29, 78, 216], drop: [185, 28, 28], unsure: [161, 98, 7] };
let atlas = null; // the map, kept while the page is open: {row, x, y, given, suggested, score, marks, decided, ...}
let sight = null; // what is shown of it: {canvas, scale, left, top, ...}

const WIDTHS = { u1: Uint8Array, u2: Uint16Array, u4: Uint32Array };
function unpacked(text, kind) {
  const bytes = Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
  return new WIDTHS[kind](bytes.buffer);
}

async function openMap() {
  const mine = openMap.turn = (openMap.turn ?? 0) + 1; // the newest time that it was opened
  const note = make("p", { role: "status", text: "Opening the map …" });
  openPanel({ name: "map", key: () => false }, heading("Map"), note);
  const here = panel;
  for (;;) {
    const answer = await ask("map", { known: atlas ? 1 : 0 });
    if (panel !== here || openMap.turn !== mine) return;
    if (answer.state === "done") {
      takeMap(answer);
      return showMap();
    }
    if (answer.state === "none") {
      note.textContent = `There is no map: ${answer.why}.`;
      return;
    }
    note.textContent =
      `The map is being made, once for this run: ${Math.round(answer.seconds)} s so far ` +
      "(about a minute for 50,000 rows on two cores). You can go on and come back.";
    await new Promise((done) => setTimeout(done, 700));
    if (panel !== here) return;
  }
}

function takeMap(answer) {
  if (answer.row) {
    const kinds = { row: "u4", x: "u2", y: "u2", given: "u2", suggested: "u2", score: "u1", marks: "u1" };
    atlas = { clusters: answer.clusters, all: answer.rows };
    for (const [field, kind] of Object.entries(kinds)) atlas[field] = unpacked(answer[field], kind);
    atlas.place = new Map([...atlas.row].map((row, i) => [row, i]));
  }
  atlas.actions = answer.actions;
  atlas.decided = unpacked(answer.decided, "u1");
  for (const step of waiting) for (const [row, made] of step.effects ?? []) mark(row, made); // on their way
}

function mark(row, made) {
  const i = atlas?.place.get(row);
  if (i !== undefined) atlas.decided[i] = made ? 1 + atlas.actions.indexOf(made.action) : 0;
}

function hue(i) {
  // ten that are told apart, then round the circle by the golden angle
  const ten = ["#4269d0", "#efb118", "#ff725c", "#6cc5b0", "#3ca951", "#ff8ab7", "#a463f2", "#97bbf5", "#9c6b4e", "#7f8c00"];
  if (i < 10) return [1, 3, 5].map((at) => parseInt(ten[i].slice(at, at + 2), 16));
  const [h, l] = [(i * 137.508) % 360, 45 + 20 * (i % 2)];
  const part = (n) => {
    const k = (n + h / 30) % 12;
    return Math.round(255 * (l / 100 - 0.6 * Math.min(l / 100, 1 - l / 100) * Math.max(-1, Math.min(k - 3, 9 - k, 1))));
  };
  return [part(0), part(8), part(4)];
}

function colours() {
  // of every point, as the canvas takes them
  const { by, only, flagged } = sight;
  const n = atlas.row.length, out = new Uint32Array(n);
  const packed = ([r, g, b], alpha = 255) => ((alpha << 24) | (b << 16) | (g << 8) | r) >>> 0;
  const back = packed(DRAWN, 70);
  const classes = facts.classes.map((_, label) => packed(hue(label)));
  const scores = Array.from({ length: 256 }, (_, s) => packed([220 - (180 * s) / 255, 60 + (70 * s) / 255, 50 + (150 * s) / 255].map(Math.round)));
  const said = [back, ...atlas.actions.map((action) => packed(DECIDED[action] ?? [120, 60, 160]))];
  for (let i = 0; i < n; i++) {
    const label = by === "suggested" ? atlas.suggested[i] : atlas.given[i];
    const hidden = (flagged && !(atlas.marks[i] & 1)) || (only !== null && label !== only);
    out[i] = hidden ? 0 : by === "score" ? scores[atlas.score[i]] : by === "decision" ? said[atlas.decided[i]] : classes[label];
  }
  return out;
}

function showMap() {
  const canvas = make("canvas", {
    class: "cr-map", tabindex: "0", role: "application",
    "aria-label": "map of the rows. Arrows move, plus and minus zoom, 0 shows all, S selects what is in view; the table below has the same rows by parts",
  });
  const option = (value, text) => make("option", { value, text });
  const by = make("select", { "aria-label": "colour" }, ...[["given", "given label"], ["suggested", "suggested label"], ["score", "clean score"], ["decision", "my decision"]].map(([v, t]) => option(v, t)));
  const only = make("select", { "aria-label": "only this class" }, option("", "all classes"), ...facts.classes.map((_, label) => option(label, className(label, 40))));
  const flagged = make("input", { type: "checkbox" });
  const tool = make("select", { "aria-label": "what dragging does" }, ...[["move", "move"], ["box", "select a rectangle"], ["lasso", "select by lasso"]].map(([v, t]) => option(v, t)));
  const button = (text, title, work) => make("button", { text, title, onclick: () => (work(), canvas.focus()) });
  const tools = make(
    "div", { class: "cr-row" },
    make("label", {}, "colour ", by), make("label", {}, "only ", only), make("label", {}, flagged, " flagged rows"),
    make("label", {}, "drag to ", tool),
    button("+", "zoom in (+)", () => zoom(1.4)), button("−", "zoom out (-)", () => zoom(1 / 1.4)),
    button("All", "show all (0)", fit), button("Select what is in view", "S", selectView),
  );
  const chosenHere = make("div", { class: "cr-row cr-area" });
  const hover = make("div", { class: "cr-hover", hidden: true });
  const legend = make("div", { class: "cr-legend" });
  sight = {
    canvas, legend, hover, chosenHere, scale: 1, left: 0, top: 0, by: "given", only: null, flagged: false, tool: "move",
    picked: null, act: "flagged", path: null, near: -1, colour: null, marked: null, frames: 0, spent: 0,
  };
  const change = () => {
    Object.assign(sight, { by: by.value, only: only.value === "" ? null : Number(only.value), flagged: flagged.checked, tool: tool.value, colour: null });
    canvas.classList.toggle("cr-selecting", tool.value !== "move");
    showLegend();
    draw();
  };
  for (const node of [by, only, flagged, tool]) node.addEventListener("change", change);
  sight.tools = { by, only, flagged, tool, change };
  const n = atlas.row.length;
  const said = n < atlas.all ? `${count(n)} of ${count(atlas.all)} rows: the flagged ones and a sample of the others.` : `All ${count(n)} rows.`;
  openPanel(
    { name: "map", key: mapKey },
    heading("Map"),
    make("p", { class: "cr-status", text: `${said} Near points have features alike: what lies in a part of another colour is often wrong.` }),
    tools, chosenHere,
    make("div", { class: "cr-mapped" }, canvas, hover, legend),
    clusterTable(),
  );
  canvas.addEventListener("pointerdown", pointerDown);
  canvas.addEventListener("pointermove", pointerMove);
  canvas.addEventListener("pointerup", pointerUp);
  canvas.addEventListener("pointerleave", () => hoverOn(-1));
  canvas.addEventListener("wheel", (event) => {
    event.preventDefault();
    const [x, y] = spot(event);
    zoom(Math.exp(-event.deltaY / 400), x, y);
  }, { passive: false });
  canvas.addEventListener("dblclick", () => sight.near >= 0 && guarded(openLarge)(atlas.row[sight.near]));
  new ResizeObserver(() => sight?.canvas === canvas && canvas.isConnected && resize()).observe(canvas);
  resize();
  showLegend();
  showSelection();
  canvas.focus({ preventScroll: true });
}

function resize() {
  const { canvas } = sight;
  const sharp = window.devicePixelRatio || 1;
  const [width, height] = [Math.round(canvas.clientWidth * sharp), Math.round(canvas.clientHeight * sharp)];
  if (!width || !height) return;
  const first = !sight.image;
  [canvas.width, canvas.height] = [width, height];
  sight.sharp = sharp;
  sight.image = canvas.getContext("2d").createImageData(width, height);
  sight.pixels = new Uint32Array(sight.image.data.buffer);
  if (first) fit();
  else draw();
}

function fit() {
  const { width, height } = sight.canvas;
  sight.scale = Math.min(width, height) / GRID;
  sight.left = (GRID - width / sight.scale) / 2;
  sight.top = (GRID - height / sight.scale) / 2;
  draw();
}

function zoom(by, x = sight.canvas.width / 2, y = sight.canvas.height / 2) {
  const scale = Math.max(0.5 * Math.min(sight.canvas.width, sight.canvas.height) / GRID, Math.min(1, sight.scale * by));
  sight.left += x / sight.scale - x / scale;
  sight.top += y / sight.scale - y / scale;
  sight.scale = scale;
  draw();
}

function draw() {
  // at the next frame, once
  if (sight.due) return;
  sight.due = true;
  requestAnimationFrame(() => {
    if (!sight) return;
    sight.due = false;
    if (sight.canvas.isConnected && sight.pixels) paintMap();
  });
}

function paintMap() {
  const began = performance.now();
  const { canvas, pixels, image, scale, left, top, marked } = sight;
  const { width, height } = canvas, { x, y } = atlas;
  const colour = (sight.colour ??= colours());
  const n = x.length, few = n < 1000 ? 3 : n < 10_000 ? 1.5 : 1;
  const size = Math.max(2, Math.min(9, Math.round(few * (sight.sharp + 1) * Math.sqrt((scale * GRID) / 900))));
  pixels.fill(0);
  for (let i = 0; i < n; i++) {
    const c = colour[i];
    if (c === 0) continue;
    const px = ((x[i] - left) * scale) | 0, py = ((y[i] - top) * scale) | 0;
    if (px < 0 || py < 0 || px + size > width || py + size > height) continue;
    for (let r = 0, at = py * width + px; r < size; r++, at += width) for (let q = 0; q < size; q++) pixels[at + q] = c;
  }
  const context = canvas.getContext("2d");
  context.putImageData(image, 0, 0);
  context.lineWidth = 2 * sight.sharp;
  context.strokeStyle = getComputedStyle(canvas).color;
  const corner = (at) => [(marked[at] - left) * scale, (marked[at + 1] - top) * scale];
  if (marked?.length >= 4) {
    context.setLineDash([6, 4]);
    context.beginPath();
    for (let at = 0; at < marked.length; at += 2) context.lineTo(...corner(at));
    if (!sight.path || sight.tool === "box") context.closePath();
    context.stroke();
    context.setLineDash([]);
  }
  if (sight.near >= 0) context.strokeRect((x[sight.near] - left) * scale - 3, (y[sight.near] - top) * scale - 3, size + 6, size + 6);
  canvas.dataset.frames = sight.frames += 1; // for bench/maps.py
  canvas.dataset.spent = sight.spent += performance.now() - began;
}

// ---- pointing and selecting

const spot = (event) => {
  const box = sight.canvas.getBoundingClientRect();
  return [(event.clientX - box.left) * sight.sharp, (event.clientY - box.top) * sight.sharp];
};
const onGrid = (value) => Math.max(0, Math.min(GRID, Math.round(value)));
const placeOf = ([x, y]) => [onGrid(x / sight.scale + sight.left), onGrid(y / sight.scale + sight.top)];

function pointerDown(event) {
  if (event.button) return;
  sight.canvas.setPointerCapture(event.pointerId);
  sight.path = [spot(event)];
  sight.from = [sight.left, sight.top];
  if (sight.tool !== "move") sight.marked = null;
}

function pointerMove(event) {
  const at = spot(event);
  if (!sight.path) return hoverOn(nearest(at), event);
  const [x0, y0] = sight.path[0];
  if (sight.tool === "move") {
    [sight.left, sight.top] = [sight.from[0] - (at[0] - x0) / sight.scale, sight.from[1] - (at[1] - y0) / sight.scale];
  } else {
    if (sight.tool === "box") sight.path = [[x0, y0], at];
    else sight.path.push(at);
    const corners = sight.tool === "box" ? [[x0, y0], [at[0], y0], at, [x0, at[1]]] : sight.path;
    sight.marked = corners.flatMap(placeOf);
  }
  draw();
}

function pointerUp() {
  const path = sight.path;
  sight.path = null;
  if (sight.tool === "move" || !path) return;
  const every = Math.ceil((sight.marked?.length ?? 0) / 2 / 300); // corners of an area: enough for a hand
  const area = (sight.marked ?? []).filter((_, at) => every < 2 || Math.floor(at / 2) % every === 0);
  if (area.length >= 6) guarded(selectArea)(area);
  else clearSelection();
}

function nearest([px, py]) {
  const reach = 8 * sight.sharp, { x, y } = atlas, colour = sight.colour ?? [];
  let best = reach * reach, found = -1;
  for (let i = 0; i < x.length; i++) {
    const dx = (x[i] - sight.left) * sight.scale - px, dy = (y[i] - sight.top) * sight.scale - py;
    const d = dx * dx + dy * dy;
    if (d < best && colour[i] !== 0) [best, found] = [d, i];
  }
  return found;
}

function hoverOn(i, event) {
  if (i === sight.near && i < 0) return;
  const moved = i !== sight.near;
  sight.near = i;
  const { hover } = sight;
  hover.hidden = i < 0;
  if (moved) draw();
  if (i < 0) return;
  if (event) {
    const box = sight.canvas.getBoundingClientRect();
    const [x, y] = [event.clientX - box.left, event.clientY - box.top];
    hover.style.left = `${x > box.width - 190 ? x - 180 : x + 14}px`;
    hover.style.top = `${y > box.height - 230 ? y - 220 : y + 14}px`;
  }
  if (!moved) return;
  const row = atlas.row[i];
  const show = (card) =>
    hover.replaceChildren(
      ...(card ? [picture(card.image, row, card.text)] : []),
      make("p", { class: "cr-labels" }, name(atlas.given[i]), " → ", name(atlas.suggested[i], "cr-suggested")),
      make("p", { class: "cr-small", text: `row ${row} · clean ${(atlas.score[i] / 255).toFixed(2)}` }),
    );
  show(known.get(row));
  clearTimeout(sight.wait);
  if (!known.has(row)) {
    sight.wait = setTimeout(guarded(async () => {
      const { cards: [card], at } = await ask("look", { rows: [row] });
      if (!card) return;
      learn(row, card.mine, at);
      known.set(row, card);
      if (sight?.near === i) show(card);
    }), 60);
  }
}

async function selectArea(area) {
  sight.marked = area;
  draw();
  const here = sight;
  const { rows } = await ask("area", { area });
  if (sight !== here) return;
  sight.picked = { area, rows: rows.map(([row, given, suggested, flagged]) => ({ row, given, suggested, flagged, top: [] })) };
  sight.act = rows.some(([, , , flagged]) => flagged) ? "flagged" : "all";
  showSelection();
}

function selectView() {
  const { width, height } = sight.canvas;
  guarded(selectArea)([[0, 0], [width, 0], [width, height], [0, height]].flatMap(placeOf));
}

function clearSelection() {
  Object.assign(sight, { picked: null, marked: null });
  showSelection();
  draw();
}

const marked = () => (sight.picked?.rows ?? []).filter((card) => sight.act === "all" || card.flagged);

function showSelection() {
  const { chosenHere, picked } = sight;
  if (!picked) {
    chosenHere.replaceChildren(make("span", { class: "cr-status", role: "status", text: "Nothing selected: choose what dragging does, or press S for what is in view." }));
    return;
  }
  const flagged = picked.rows.filter((card) => card.flagged).length;
  const which = make(
    "select", { "aria-label": "act on" },
    make("option", { value: "flagged", text: `${count(flagged)} flagged`, disabled: !flagged }),
    make("option", { value: "all", text: `all ${count(picked.rows.length)}` }),
  );
  which.value = sight.act;
  which.addEventListener("change", () => {
    sight.act = which.value;
    sight.canvas.focus();
  });
  const button = (text, title, work) => make("button", { text, title, onclick: () => (work(), sight?.canvas.focus()) });
  chosenHere.replaceChildren(
    make("b", { role: "status", text: `${count(picked.rows.length)} rows here: ${count(flagged)} flagged` }),
    make("button", { class: "cr-main", text: "Open as queue", title: "O", onclick: openArea, disabled: !picked.rows.length }),
    make("label", {}, "keys act on ", which),
    button("Accept", "Enter", () => actOnArea(accepted)),
    button("Keep", "K", () => actOnArea(plainly("keep"))),
    button("Drop", "D", () => actOnArea(plainly("drop"))),
    button("Unsure", "U", () => actOnArea(plainly("unsure"))),
    button("Undo", "Ctrl+Z", () => turnOnMap("undo")),
    button("Clear", "select nothing", clearSelection),
  );
}

function actOnArea(choose) {
  const cards = marked();
  if (!cards.length) return;
  decide(cards, choose);
  problem = "";
  const { after } = undoable.at(-1);
  for (const [row, made] of after) mark(row, made);
  sight.colour = null;
  $("[role=status]", sight.chosenHere).textContent = `${count(after.length)} rows decided at once; Ctrl+Z undoes it`;
  draw();
}

function turnOnMap(kind) {
  turn(kind);
  const effects = waiting.at(-1)?.effects ?? [];
  for (const [row, made] of effects) mark(row, made);
  sight.colour = null;
  if (sight.picked) showSelection();
  draw();
}

function openArea() {
  const { area, rows } = sight.picked;
  const show = rows.some((card) => card.flagged) ? "flagged" : "all";
  closePanel();
  guarded(openView)({ ...NOWHERE, area, show, given: null, suggested: null, decided: "any" });
}

function mapKey(event) {
  const control = event.ctrlKey || event.metaKey;
  if (event.altKey || event.target.closest?.("select, button, summary")) return false;
  if (control) return event.key.toLowerCase() === "z" && (turnOnMap(event.shiftKey ? "redo" : "undo"), true);
  const far = 60 * sight.sharp / sight.scale;
  const shift = (x, y) => () => {
    sight.left += x * far;
    sight.top += y * far;
    draw();
  };
  const keys = {
    ArrowLeft: shift(-1, 0), ArrowRight: shift(1, 0), ArrowUp: shift(0, -1), ArrowDown: shift(0, 1),
    "+": () => zoom(1.4), "=": () => zoom(1.4), "-": () => zoom(1 / 1.4), 0: fit, s: selectView,
    ...(sight.picked && {
      Enter: () => actOnArea(accepted), k: () => actOnArea(plainly("keep")), d: () => actOnArea(plainly("drop")),
      u: () => actOnArea(plainly("unsure")), o: openArea,
    }),
  };
  const work = keys[event.key.length === 1 ? event.key.toLowerCase() : event.key];
  if (work) work();
  return Boolean(work);
}

// ---- the same without pointing

function showLegend() {
  const { legend, by, tools } = sight;
  const swatch = (rgb) => make("i", { style: `background:rgb(${rgb.join(",")})` });
  if (by === "score") return legend.replaceChildren(make("p", {}, swatch([220, 60, 50]), "0, surely wrong"), make("p", {}, swatch([40, 130, 200]), "1, surely right"));
  if (by === "decision") return legend.replaceChildren(...Object.entries(DECIDED).map(([action, rgb]) => make("p", {}, swatch(rgb), action)));
  const counts = new Map();
  const flaggedOnly = sight.flagged;
  atlas[by].forEach((label, i) => (!flaggedOnly || atlas.marks[i] & 1) && counts.set(label, (counts.get(label) ?? 0) + 1));
  const most = [...counts].sort((a, b) => b[1] - a[1]).slice(0, 24);
  const pick = (label) => {
    tools.only.value = String(sight.only === label ? "" : label);
    tools.change();
  };
  legend.replaceChildren(
    ...most.map(([label, n]) =>
      make("button", { "aria-pressed": String(sight.only === label), title: `only ${className(label, 300)}`, onclick: () => pick(label) }, swatch(hue(label)), name(label), make("span", { text: count(n) })),
    ),
    ...(counts.size > most.length ? [make("p", { text: `and ${count(counts.size - most.length)} more` })] : []),
  );
}

function clusterTable() {
  const rows = atlas.clusters.map(({ area, rows: n, flagged, labels }, i) => {
    const open = () => {
      guarded(selectArea)(area);
      sight.canvas.focus();
    };
    const names = labels.map(([label, of]) => `${className(label, 30)} ${percent(of / n, 0)}`).join(", ");
    return make(
      "tr", {}, make("td", { text: i + 1 }), make("td", { text: count(n) }), make("td", { text: count(flagged) }),
      make("td", { dir: "auto", text: names }), make("td", {}, make("button", { text: "Select", "aria-label": `select part ${i + 1}`, onclick: open })),
    );
  });
  const head = ["part", "rows", "flagged", "given labels", "select"].map((text) => make("th", { text, scope: "col" }));
  return make(
    "details", { class: "cr-parts" },
    make("summary", { text: `The ${rows.length} parts of the map as a table, those with the most flagged rows first` }),
    make("table", {}, make("thead", {}, make("tr", {}, ...head)), make("tbody", {}, ...rows)),
  );
}
