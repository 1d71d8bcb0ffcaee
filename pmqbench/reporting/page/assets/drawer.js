// What stands behind a row.

function drawer() {
  return $("drawer");
}

function openDrawer(number) {
  const close = element("button", { type: "button", class: "close" }, "Close");
  const title = element("h2", { id: "drawer-title", tabindex: "-1" }, rowName(number));
  drawer().replaceChildren(element("div", { class: "top" }, title, close), ...(contents.details ? behind(number) : aboveAll(number)));
  drawer().scrollTop = 0;
  close.addEventListener("click", () => drawer().close());
  if (!drawer().open) drawer().showModal();
  history.replaceState(null, "", `#row=${encodeURIComponent(rowName(number))}`);
}

// The row's own figures, with what they mean.
function figures(number) {
  const known = columns.filter(({ name, task }) => !task && !INTERVAL.includes(name) && cell(number, name) !== "");
  const pairs = known.map(({ name, definition }) => {
    const [text, interval] = cellParts(number, name);
    const told = interval ? `${text} (${interval})` : /^https?:/.test(text) ? element("a", { href: text, rel: "noreferrer" }, text) : text;
    return element("div", {}, element("dt", { "data-tip": definition || null }, name), element("dd", {}, told));
  });
  return element("dl", { class: "figures" }, ...pairs);
}

// Makes the row the reference, or says how it differs from the one that was picked.
function compared(number) {
  if (!contents.pairs) return [];
  if (state.reference === number) return [element("p", {}, "Differences are to this row.")];
  const found = difference(number);
  const told = found && `${points(found[0])} points (${points(found[1])} … ${points(found[2])}) to ${rowName(state.reference)}, ${pText(number, correctedPs())}. `;
  const pick = () => {
    compareWith(number);
    openDrawer(number);
  };
  return [element("p", {}, told ?? "", element("button", { type: "button", id: "compare", onclick: pick }, "Compare all rows with this one"))];
}

// A row that was sent in is not on its suite's page.
function aboveAll(number) {
  const page = ["here", "confirmed"].includes(cell(number, "origin")) && contents.pages[cell(number, "suite")];
  const named = rowName(number).split(", ").slice(1).join(", ");
  const address = `${page}#row=${encodeURIComponent(named)}`;
  const link = page ? [element("p", {}, element("a", { href: address }, "Tasks, recipe, layers, provenance and files: its suite's page"))] : [];
  return [figures(number), ...link];
}

function behind(number) {
  const detail = contents.details[number];
  return [
    figures(number),
    ...compared(number),
    heading("Tasks"),
    taskTable(detail.tasks),
    ...(detail.layers.length ? [heading("Layers"), ...layerViews(detail.layers)] : []),
    heading("Recipe"),
    definitionList(detail.recipe),
    heading("Files"),
    fileTable(detail.files),
    heading("Make it again"),
    element("p", { class: "note" }, "In the folder that has results/. Computes what is missing or outdated of this row, and nothing else:"),
    element("pre", { id: "command", tabindex: "0" }, commandOf(detail.files)),
    copyButton(() => commandOf(detail.files)),
    heading("Provenance"),
    definitionList(contents.provenances[detail.provenance]),
  ];
}

// Names of records need no quotes: what is not a plain name is refused by the config's check.
function commandOf(files) {
  return [contents.command, ...new Set(files.flatMap(({ records }) => records))].join(" \\\n  ");
}

function heading(text) {
  return element("h3", {}, text);
}

// A value of a recipe in words: experts and data by id and task, nothing as "none".
function shown(value) {
  if (value === null) return "none";
  if (Array.isArray(value)) return value.map(shown).join(", ");
  if (typeof value === "object") return "id" in value ? `${value.id} (${value.task})` : JSON.stringify(value);
  return String(value);
}

function definitionList(entries) {
  return element("dl", {}, ...Object.entries(entries).flatMap(([name, value]) => [element("dt", {}, name), element("dd", {}, shown(value))]));
}

// A table of texts; the first column heads its rows.
function plainTable(id, head, lines) {
  const body = lines.map(([first, ...rest]) =>
    element("tr", {}, element("th", { scope: "row", class: "text" }, first), ...rest.map((text) => element("td", {}, text))));
  const top = element("tr", {}, ...head.map((text, index) => element("th", { scope: "col", class: index ? null : "text" }, text)));
  return element("div", { class: "wide", tabindex: 0, role: "region", "aria-label": id }, element("table", { id }, element("thead", {}, top), element("tbody", {}, ...body)));
}

function taskTable(tasks) {
  const seeds = Object.keys(tasks[0].seeds);
  const several = seeds.length > 1;
  const head = ["task", "metric", "examples", "%", "95 % interval", ...(several ? seeds.map((seed) => `seed ${seed}`) : [])];
  const lines = tasks.map(({ task, metric, n, value, low, high, seeds: values }) => {
    const own = several ? seeds.map((seed) => values[seed].toFixed(2)) : [];
    return [task, metric, String(n), value.toFixed(2), `${low.toFixed(2)} … ${high.toFixed(2)}`, ...own];
  });
  return plainTable("tasks", head, lines);
}

function layerViews(pairs) {
  const kinds = ["rounding, E|Qx − W*x|² / E|Wx|²", "distance to the experts, E|Qx − W_t x|² / E|Wx|², mean over tasks"];
  const drawn = kinds.map((kind, index) => sparkline(kind, pairs.map((pair) => pair[index]))).filter(Boolean);
  const text = (value) => (value === null ? "" : value.toPrecision(3));
  const lines = pairs.map(([rounding, merging], index) => [contents.layers[index], text(rounding), text(merging)]);
  const table = plainTable("layers", ["layer", "rounding", "distance to the experts"], lines);
  return [...drawn, element("details", {}, element("summary", {}, `${pairs.length} layers, means over seeds`), table)];
}

// Values of the layers in forward order, logarithmic; null where no layer has one.
function sparkline(label, values) {
  const known = values.filter((value) => value > 0);
  if (!known.length) return null;
  const [low, high] = [Math.min(...known), Math.max(...known)];
  const x = (index) => 4 + (592 * index) / Math.max(1, values.length - 1);
  const y = (value) => 56 - (52 * Math.log(value / low)) / (Math.log(high / low) || 1);
  const line = values.map((value, index) => (value > 0 ? `${x(index)},${y(value)}` : "")).filter(Boolean).join(" ");
  const said = `${label}: ${low.toPrecision(3)} to ${high.toPrecision(3)}, logarithmic, layers in forward order`;
  const drawing = svgElement("svg", { viewBox: "0 0 600 60", role: "img", "aria-label": said },
    svgElement("polyline", { points: line, fill: "none", stroke: "currentColor", "stroke-width": 1.5 }));
  return element("figure", {}, drawing, element("figcaption", { class: "note" }, said));
}

// A report is a folder of results/suites/, and paths begin with results/.
function fileLink(path) {
  return element("a", { href: `../../${path.replace(/^results\//, "")}` }, path);
}

function fileTable(files) {
  const lines = files.flatMap(({ seed, folder, records, exported }) => [
    [seed === null ? "model" : `model, seed ${seed}`, [fileLink(`${folder}/`)]],
    ["records", records.map(fileLink)],
    ...(exported ? [["snakemake export writes", [exported]]] : []),
  ]);
  const described = ([name, paths]) => [element("dt", {}, name), element("dd", {}, ...paths.map((path) => element("div", {}, path)))];
  return element("dl", { id: "files" }, ...lines.flatMap(described));
}
