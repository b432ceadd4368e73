// ---- publishing: what was decided becomes a version, in a folder or on the Hub.

const POLICIES = {
  relabel: "Verified labels, and corrected ones with enough confidence, replace the given ones, which are kept in original_label.",
  annotate: "The given labels are kept; columns with the findings are added.",
  filter: "Rows that are neither selected nor verified, and dropped rows, are removed; verified labels replace the given ones.",
};
const TOKENS = {
  own: "The Hub is accessed with the server's token (hf auth login, or HF_TOKEN).",
  owner: "It is pushed with the Space's token; a pull request is opened in your name.",
  guest: "It is a pull request in your name, to a dataset of this Space's owner or the source of these rows.",
};
let form = { target: "", policy: "relabel", min_confidence: 0.9, format: "parquet", public: false, create_pr: false, branch: "", tag: "", overwrite: false, drop_leaks: false };

function openPublish() {
  const field = (name, text, node) => {
    if (node.type === "checkbox") node.checked = form[name];
    else node.value = form[name];
    node.addEventListener("input", () => {
      form[name] = node.type === "checkbox" ? node.checked : node.type === "number" ? (node.value === "" ? null : Number(node.value)) : node.value;
      fit();
    });
    return make("label", { "data-field": name }, ...(node.type === "checkbox" ? [node, ` ${text}`] : [`${text} `, node]));
  };
  const input = (name, text, attributes = {}) => field(name, text, make("input", { name, autocomplete: "off", ...attributes }));
  const select = (name, text, options) => field(name, text, make("select", { name }, ...options.map((value) => make("option", { value, text: value }))));
  const said = make("p");
  const status = make("div", { class: "cr-status cr-lines", role: "status", "aria-live": "polite" });
  const buttons = [
    make("button", { text: "What would change", onclick: guarded(() => go(true)) }),
    make("button", { text: "Publish", class: "cr-main", onclick: guarded(() => go(false)) }),
  ];
  const fields = make(
    "div",
    { class: "cr-form" },
    input("target", "to", { placeholder: "owner/name on the Hub, or ./folder", size: 40 }),
    select("policy", "policy", Object.keys(POLICIES)),
    said,
    input("min_confidence", "minimum confidence for a label that nobody verified", { type: "number", min: 0, max: 1, step: 0.05 }),
    select("format", "format", ["parquet", "imagefolder"]),
    input("overwrite", "replace an earlier version in that folder", { type: "checkbox" }),
    input("drop_leaks", `leave out ${count(facts.leaks)} rows of other splits that stand in the training split`, { type: "checkbox" }),
    input("public", "make a new repository public", { type: "checkbox" }),
    input("create_pr", "open a pull request (no write access needed)", { type: "checkbox" }),
    input("branch", "branch", { placeholder: "main" }),
    input("tag", "tag", { placeholder: "v1, v2, …" }),
  );
  const fit = () => {
    const folder = !facts.space && /^[./~]/.test(form.target.trim());
    if (facts.space && !facts.space.owns) form.create_pr = $("[name=create_pr]", fields).checked = true;
    // A pull request to the dataset that the run was made of: labels that people verified, in its own files.
    const own = form.create_pr && form.policy === "relabel" && facts.source !== null && form.target.trim() === facts.source;
    const shown = { drop_leaks: facts.leaks > 0 && !own, min_confidence: form.policy === "relabel" && !own, format: folder, overwrite: folder };
    const free = !facts.space || facts.space.owns;
    for (const name of ["public", "create_pr", "branch", "tag"]) shown[name] = !folder && free && !(own && name !== "create_pr");
    for (const [name, on] of Object.entries(shown)) $(`[data-field=${name}]`, fields).hidden = !on;
    if (facts.space) buttons[1].textContent = form.create_pr ? "Open a pull request" : "Push";
    said.textContent = own
      ? "Only labels that people verified change, in the dataset's own files; the pull request shows the changed rows."
      : POLICIES[form.policy];
  };
  const wanted = () => {
    // what is hidden is not meant
    const hidden = $$("[data-field]", fields).filter((label) => label.hidden).map((label) => label.dataset.field);
    return Object.fromEntries(Object.entries(form).filter(([name]) => !hidden.includes(name)));
  };
  const show = (state) => {
    for (const button of buttons) button.disabled = state.running;
    const lines = state.lines.map((text) => make("p", { text: oneLine(text, 400) }));
    if (state.running) lines.push(make("p", { text: "working …" }));
    if (state.failed) lines.push(make("p", { class: "cr-error", text: oneLine(state.failed, 600) }));
    if (state.done) lines.push(make("p", { class: "cr-done" }, "published: ", place(state.done)));
    status.replaceChildren(...lines);
  };
  const follow = async (state) => {
    while (true) {
      show(state);
      if (!state.running) return;
      await new Promise((done) => setTimeout(done, 300));
      if (!status.isConnected) return; // closed; opening it again shows how far it is
      state = await ask("publishing");
    }
  };
  const go = async (dry_run) => {
    problem = "";
    for (const button of buttons) button.disabled = true;
    show({ running: true, lines: waiting.length ? ["saving the decisions"] : [] });
    while (waiting.length) await new Promise((done) => setTimeout(done, 50));
    if (!status.isConnected) return; // closed before anything began
    try {
      await follow(await ask("publish", { ...wanted(), dry_run, ...ofPage() }));
    } catch (error) {
      show({ running: false, lines: [], failed: error.message });
    }
  };
  openPanel(
    { name: "publish", key: () => false },
    heading("Publish"),
    make("p", { text: `A version of this run with all decisions. ${TOKENS[!facts.space ? "own" : facts.space.owns ? "owner" : "guest"]}` }),
    fields,
    make("div", { class: "cr-row" }, ...buttons),
    status,
  );
  fit();
  guarded(async () => follow(await ask("publishing")))();
}

function place(where) {
  if (/^https?:\/\//.test(where)) return make("a", { href: where, target: "_blank", rel: "noopener noreferrer", text: where });
  return make("span", {}, make("code", { text: where }), ", read by ", make("code", { text: `datasets.load_dataset(${JSON.stringify(where)})` }));
}
