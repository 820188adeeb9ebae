"use strict";
// Sorts, filters and compares the rows of the table. Texts of the data reach the page as text nodes only.
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const text = (i) => data.texts[i];
  const by = (id) => document.getElementById(id);
  const body = by("runs").tBodies[0];
  const words = new Intl.Collator("en", { numeric: true, sensitivity: "base" }).compare;
  const order = { fail: 0, "cannot tell": 1, pass: 2 };
  const FILTERS = ["q", "verdict", "factor", "encoder", "source", "from", "to"];
  const FIRST_DOWN = new Set(["made"]); // the newest first; everything else from A to Z, from the worst verdict
  const state = { sort: "made", down: true, chosen: [] };

  const policyName = (run) => (data.policies[run.policy].find(([key]) => key === "name") || ["", ""])[1];
  const runs = data.runs.map((run, i) => ({
    ...run,
    row: body.rows[i],
    path: text(run.path),
    made: text(run.made),
    verdict: text(run.verdict),
    factors: run.factors.map(text),
    keys: { title: text(run.title), encoder: text(run.encoder), data: `${text(run.kind)} ${text(run.data)}`, policy: policyName(run) },
    haystack: [run.title, run.headline, run.path, run.encoder, run.source, run.kind, run.data, run.graph, run.size, run.made]
      .map(text).concat(run.factors.map(text), policyName(run)).join("\n").toLowerCase(),
  }));

  const make = (tag, attributes = {}, ...children) => {
    const element = document.createElement(tag);
    for (const [name, value] of Object.entries(attributes)) if (value !== null) element.setAttribute(name, value);
    element.append(...children); // strings become text nodes
    return element;
  };

  // --- choosing two -------------------------------------------------------------------------------------------------
  for (const run of runs) {
    run.box = make("input", { type: "checkbox", "aria-label": `Compare ${text(run.title)}, ${run.made}, ${run.path}` });
    run.box.addEventListener("change", () => {
      state.chosen = state.chosen.filter((other) => other !== run);
      if (run.box.checked) state.chosen = [...state.chosen.slice(-1), run]; // a third one takes the place of the first
      show();
    });
    run.row.append(make("td", { role: "cell", "data-label": "Compare" }, run.box));
  }
  by("runs").tHead.rows[0].append(make("th", { role: "columnheader", scope: "col" }, "Compare"));

  // --- sorting ------------------------------------------------------------------------------------------------------
  const heads = [...by("runs").querySelectorAll("th[data-sort]")];
  for (const head of heads) {
    const button = make("button", { type: "button" }, head.textContent);
    button.addEventListener("click", () => {
      const key = head.dataset.sort;
      state.down = state.sort === key ? !state.down : FIRST_DOWN.has(key);
      state.sort = key;
      show();
    });
    head.replaceChildren(button);
  }
  const sorted = () => {
    const compare = {
      made: (a, b) => words(a.made, b.made),
      verdict: (a, b) => order[a.verdict] - order[b.verdict],
      data: (a, b) => (a.keys.data < b.keys.data ? -1 : Number(a.keys.data > b.keys.data)), // hashes: no numbers in them
    }[state.sort] || ((a, b) => words(a.keys[state.sort], b.keys[state.sort]));
    const sign = state.down ? -1 : 1;
    return [...runs].sort((a, b) => sign * compare(a, b) || words(b.made, a.made) || words(a.path, b.path));
  };

  // --- filtering ----------------------------------------------------------------------------------------------------
  const wanted = () => {
    const at = Object.fromEntries(FILTERS.map((id) => [id, by(id).value]));
    const parts = at.q.toLowerCase().split(/\s+/).filter(Boolean);
    const dated = (run) => /^\d{4}-\d\d-\d\d/.test(run.made) ? run.made.slice(0, 10) : "";
    return (run) =>
      parts.every((part) => run.haystack.includes(part)) &&
      (!at.verdict || run.verdict === at.verdict) &&
      (!at.factor || run.factors.includes(at.factor)) &&
      (!at.encoder || run.keys.encoder === at.encoder) &&
      (!at.source || text(run.source) === at.source) &&
      (!at.from || (dated(run) && dated(run) >= at.from)) &&
      (!at.to || (dated(run) && dated(run) <= at.to)) &&
      (!by("flagged").checked || run.flagged);
  };

  // --- comparing ----------------------------------------------------------------------------------------------------
  const table = (label, heads, rows) => make(
    "div", { class: "scroll", tabindex: "0", role: "group", "aria-label": label },
    make("table", { class: "pairs" }, make("caption", {}, label),
      make("thead", {}, make("tr", {}, ...heads.map((head) => make("th", { scope: "col" }, head)))),
      make("tbody", {}, ...rows.map(([changed, first, ...cells]) => make("tr", { class: changed ? "differs" : null },
        make("th", { scope: "row" }, first), ...cells.map((cell) => make("td", {}, cell)))))));

  const link = (run) => text(run.page) ? make("a", { href: text(run.page) }, text(run.title)) : text(run.title);
  const same = (a, b) => (a === b ? "same" : "differs");
  const facts = (a, b) => {
    const row = (name, key, told) => [a[key] !== b[key], name, text(a[key]) || "–", text(b[key]) || "–", told];
    const plain = (name, key) => row(name, key, same(a[key], b[key]));
    const policies = keysThatDiffer(a, b).length;
    return [
      [false, "Audit", link(a), link(b), ""],
      [false, "File", a.path, b.path, ""],
      [a.verdict !== b.verdict, "Verdict", a.verdict, b.verdict, same(a.verdict, b.verdict)],
      [false, "Made", a.made, b.made, ""],
      plain("Encoder", "encoder"), plain("Source", "source"), plain("Size", "size"),
      row("Data fingerprint", "data", text(a.data) ? same(a.data, b.data) : "not known"),
      plain("Declared graph", "graph"),
      [policies > 0, "Policy", policyName(a), policyName(b), policies ? `differs in ${policies} ${policies === 1 ? "key" : "keys"}` : "same values"],
      plain("Versions", "versions"), plain("Seed", "seed"),
    ];
  };

  const keysThatDiffer = (a, b) => {
    const [first, second] = [a, b].map((run) => new Map(data.policies[run.policy].map(([key, shown, value]) => [key, { shown, value }])));
    const keys = new Set([...first.keys(), ...second.keys()]);
    keys.delete("name"); // of the file: no margin
    keys.delete("sha256");
    return [...keys].map((key) => [key, first.get(key), second.get(key)])
      .filter(([, old, now]) => JSON.stringify(old?.value) !== JSON.stringify(now?.value))
      .map(([key, old, now]) => [key, old?.shown ?? "no such key", now?.shown ?? "no such key", direction(key, old, now)]);
  };
  const direction = (key, old, now) => {
    const sign = data.looser[key];
    if (!sign || typeof old?.value !== "number" || typeof now?.value !== "number") return "differs";
    return (now.value - old.value) * sign > 0 ? "looser" : "stricter";
  };

  const answers = (run) => {
    const found = new Map();
    for (const [question, factor, title, quantity, verdict, number, chance, margin, want, value] of run.answers) {
      let key = JSON.stringify([question, factor]);
      while (found.has(key)) key += "+"; // the same question twice: the second is held against the second
      found.set(key, { factor: text(factor), title: text(title), quantity: text(quantity), verdict: text(verdict), number: text(number),
        chance: text(chance), margin: text(margin), want: text(want), value });
    }
    return found;
  };
  const findings = (a, b) => {
    const [first, second] = [answers(a), answers(b)];
    return [...new Set([...first.keys(), ...second.keys()])].map((key) => {
      const [old, now] = [first.get(key), second.get(key)];
      const cell = (one) => (one ? [one.verdict.toUpperCase(), one.number, one.margin] : ["not asked", "–", "–"]);
      const told = [];
      if (!old || !now) told.push("asked once");
      else {
        if (old.verdict !== now.verdict) told.push("verdict");
        if (old.number !== now.number) told.push("number");
        if (old.quantity !== now.quantity) told.push("measure");
        if (old.chance !== now.chance) told.push("chance");
        if (old.value !== now.value || old.want !== now.want) told.push(`margin${looser(old, now)}`);
      }
      const { title, factor, quantity } = now || old;
      const head = make("span", {}, `${title} (${factor})`, make("span", { class: "small" }, quantity));
      return [told.length, head, ...cell(old), ...cell(now), told.join(", ") || "same"];
    });
  };
  const looser = (old, now) => {
    if (old.want !== now.want || old.value === null || now.value === null || !old.want) return "";
    return (now.value - old.value) * (now.want === "below" ? 1 : -1) > 0 ? " looser" : " stricter";
  };

  const compared = () => {
    by("comparison").hidden = state.chosen.length < 2;
    if (state.chosen.length < 2) return by("tables").replaceChildren();
    const [a, b] = [...state.chosen].sort((x, y) => words(x.made, y.made) || words(x.path, y.path)); // the earlier first
    const keys = keysThatDiffer(a, b);
    by("tables").replaceChildren(
      table("The two runs", ["What", "First", "Second", "Beside each other"], facts(a, b)),
      table("Findings, with interval and margin", ["Question", "First", "Number", "Margin", "Second", "Number", "Margin", "Differs in"], findings(a, b)),
      keys.length
        ? table("Keys of the policy that differ", ["Key", "First", "Second", "The second is"], keys.map((row) => [true, ...row]))
        : make("p", {}, "Both policies have the same values."));
  };

  // --- state in the address -----------------------------------------------------------------------------------------
  let waiting = 0;
  let own = ""; // the address that this script wrote last: its event must not undo what was done since
  const remember = () => {
    const params = new URLSearchParams({ sort: state.sort, down: state.down ? "1" : "0" });
    for (const id of FILTERS) if (by(id).value) params.set(id, by(id).value);
    if (by("flagged").checked) params.set("flagged", "1");
    for (const run of state.chosen) params.append("run", run.path);
    clearTimeout(waiting); // browsers refuse an address that changes with every key
    waiting = setTimeout(() => {
      own = new URL(`#${params}`, location.href).hash;
      if (location.hash !== own) location.replace(own);
    }, 150);
  };
  const recall = () => {
    if (!location.hash.startsWith("#sort=")) return; // a link to a part of the page, no state
    const params = new URLSearchParams(location.hash.slice(1));
    const known = heads.map((head) => head.dataset.sort);
    state.sort = known.includes(params.get("sort")) ? params.get("sort") : "made";
    state.down = params.get("down") === "1";
    for (const id of FILTERS) {
      const value = params.get(id) || "";
      by(id).value = by(id).type === "date" && !/^\d{4}-\d\d-\d\d$/.test(value) ? "" : value;
    }
    by("flagged").checked = params.get("flagged") === "1";
    state.chosen = params.getAll("run").map((path) => runs.find((run) => run.path === path)).filter(Boolean).slice(0, 2);
  };

  const show = () => {
    const keep = wanted();
    const focused = document.activeElement;
    const rows = sorted();
    rows.forEach((run) => { run.row.hidden = !keep(run); run.box.checked = state.chosen.includes(run); });
    if (rows.some((run, i) => body.rows[i] !== run.row)) body.append(...rows.map((run) => run.row));
    if (document.activeElement !== focused) focused.focus({ preventScroll: true });
    for (const head of heads) {
      if (head.dataset.sort === state.sort) head.setAttribute("aria-sort", state.down ? "descending" : "ascending");
      else head.removeAttribute("aria-sort");
    }
    const count = rows.filter((run) => !run.row.hidden).length;
    by("count").textContent = `${count} of ${runs.length} shown.`;
    by("chosen").textContent = ["Tick two audits to compare them.", "One audit chosen: tick another.", "Two audits compared, above the table."][state.chosen.length];
    by("clear").hidden = !state.chosen.length;
    by("go").hidden = state.chosen.length < 2;
    compared();
    remember();
  };

  by("controls").addEventListener("input", show);
  by("controls").addEventListener("submit", (event) => event.preventDefault());
  by("controls").addEventListener("reset", () => setTimeout(show));
  by("clear").addEventListener("click", () => { state.chosen = []; show(); by("q").focus(); });
  by("go").addEventListener("click", () => by("compared").focus());
  window.addEventListener("hashchange", () => { if (location.hash !== own) { recall(); show(); } });
  by("runs").caption.textContent = "Every audit found. A heading sorts by its column.";
  for (const id of ["controls", "status"]) by(id).hidden = false;
  recall();
  show();
})();
