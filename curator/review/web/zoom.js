// ---- a picture at its own resolution: wheel, + and - zoom, dragging and arrows move it.

async function openZoom(card, back) {
  const img = make("img", { class: "cr-whole", src: card.image, alt: `row ${card.row}`, draggable: "false" });
  const stage = make("div", { class: "cr-stage", tabindex: 0, role: "group", "aria-label": "picture: + and - zoom, arrows move" }, img);
  const said = make("span", { class: "cr-small", role: "status" });
  let at = { x: 0, y: 0, scale: 1 }, full = [0, 0];
  const draw = () => {
    img.style.transform = `translate(${at.x}px, ${at.y}px) scale(${at.scale})`;
    img.classList.toggle("cr-pixels", at.scale >= 4);
    said.textContent = full[0] ? `${full[0]} × ${full[1]} pixels · ${Math.round(100 * at.scale)} %` : "loading the whole picture …";
  };
  const fit = () => {
    const [w, h] = [img.naturalWidth || 1, img.naturalHeight || 1];
    const scale = Math.min(stage.clientWidth / w, stage.clientHeight / h, Math.max(w, h) < 200 ? 16 : 1);
    at = { scale, x: (stage.clientWidth - w * scale) / 2, y: (stage.clientHeight - h * scale) / 2 };
    draw();
  };
  const zoom = (by, x = stage.clientWidth / 2, y = stage.clientHeight / 2) => {
    const scale = Math.max(0.02, Math.min(32, at.scale * by));
    at = { scale, x: x - ((x - at.x) * scale) / at.scale, y: y - ((y - at.y) * scale) / at.scale };
    draw();
  };
  const pan = (x, y) => {
    at = { ...at, x: at.x + x, y: at.y + y };
    draw();
  };
  stage.addEventListener("wheel", (event) => {
    event.preventDefault();
    const { left, top } = stage.getBoundingClientRect();
    zoom(Math.exp(-event.deltaY / 400), event.clientX - left, event.clientY - top);
  }, { passive: false });
  stage.addEventListener("pointerdown", (event) => stage.setPointerCapture(event.pointerId));
  stage.addEventListener("pointermove", (event) => stage.hasPointerCapture(event.pointerId) && pan(event.movementX, event.movementY));
  const moves = {
    "+": () => zoom(1.5), "=": () => zoom(1.5), "-": () => zoom(1 / 1.5), 0: fit, 1: () => zoom(1 / at.scale),
    ArrowLeft: () => pan(80, 0), ArrowRight: () => pan(-80, 0), ArrowUp: () => pan(0, 80), ArrowDown: () => pan(0, -80),
  };
  const key = (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return false;
    if (event.key === "z" || event.key === " ") back();
    else if (moves[event.key]) moves[event.key]();
    else return false;
    return true;
  };
  const button = (text, label, onclick) => make("button", { text, "aria-label": label, title: label, onclick });
  openPanel(
    { name: "zoom", title: `Row ${card.row}, the whole picture`, key, close: back },
    make("div", { class: "cr-head" }, make("h2", { text: `Row ${card.row}` }), said, button("−", "smaller (-)", moves["-"]), button("+", "larger (+)", moves["+"]), button("1:1", "a pixel of it is one of the screen (1)", moves[1]), button("fit", "all of it (0)", fit), button("Back", "back to the row (Z)", back)),
    stage,
  );
  img.addEventListener("load", fit);
  fit();
  const answer = await newest(ask("whole", { row: card.row }));
  if (!answer?.image) return;
  await new Promise((done) => {
    img.addEventListener("load", done, { once: true });
    img.src = answer.image;
  });
  full = [img.naturalWidth, img.naturalHeight];
  fit();
}
