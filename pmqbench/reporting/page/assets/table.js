// The table, and the form above it.

const $ = (id) => document.getElementById(id);

// A document element; `children` are elements or texts, which are never read as HTML. What "data-tip" shows is told to a screen reader.
function element(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) made.addEventListener(name.slice(2), value);
    else if (value !== false && value !== null) made.setAttribute(name, value === true ? "" : value);
  }
  if (made.dataset.tip && !made.hasAttribute("aria-describedby")) made.setAttribute("aria-description", made.dataset.tip);
  made.append(...children);
  return made;
}

function definitionOf(name) {
  if (name === DIFFERENCE) return "Paired difference of the averages to the reference that was picked, in points; in grey its 95 % interval.";
  return columns[place[name]].definition;
}

// The other direction where a column decides already; else its best first.
function sortBy(name) {
  if (state.sort === name) state.ascending = !state.ascending;
  else Object.assign(state, { sort: name, ascending: name !== DIFFERENCE && name !== "" && (columns[place[name]].ascending || !isNumeric(name)) });
  render();
}

// A name that may wrap after its underscores.
function breakable(name) {
  return name.split(/(?<=_)/).flatMap((part) => [part, element("wbr")]);
}

function headCell(name) {
  const sorted = state.sort === name ? (state.ascending ? "ascending" : "descending") : "none";
  const arrow = { ascending: " ↑", descending: " ↓", none: "" }[sorted];
  const meaning = name === DIFFERENCE ? "difference-note" : definitionOf(name) ? `meaning-${place[name]}` : null;
  const label = element("button", { type: "button", "aria-label": name, "data-tip": definitionOf(name) || null, "aria-describedby": meaning, onclick: () => sortBy(name) }, ...breakable(name), arrow);
  return element("th", { scope: "col", role: "columnheader", "aria-sort": sorted, class: isNumeric(name) ? null : "text", "data-column": name }, label);
}

function bodyCell(number, name, corrected) {
  const [text, interval] = cellParts(number, name);
  const attributes = { class: isNumeric(name) ? null : "text", role: "cell", "data-label": name };
  if (interval || name === DIFFERENCE) attributes.class = "spread";
  if (name === "quantizer") {
    const open = element("button", { type: "button", class: "row", onclick: () => openDrawer(number), "data-tip": "What stands behind this row" }, text);
    return element("th", { ...attributes, class: "text spread", scope: "row", role: "rowheader" }, open);
  }
  const told = name === DIFFERENCE && difference(number) ? { class: isClear(number, corrected) ? "clear" : null, "data-tip": pText(number, corrected) } : {};
  const shown = element("span", told, text);
  return element("td", attributes, interval ? element("span", {}, shown, element("span", { class: "interval" }, interval)) : shown);
}

// The p-value of a row's difference; references are not part of the correction.
function pText(number, corrected) {
  const told = corrected.has(number) ? `${significant(corrected.get(number))} corrected by Holm` : "not corrected";
  return `p = ${significant(difference(number)[3])}, ${told}`;
}

function renderTable() {
  const names = shownColumns();
  const focused = document.activeElement?.closest("th[data-column]")?.dataset.column;
  $("table").tHead.replaceChildren(element("tr", { role: "row" }, ...names.map(headCell)));
  const corrected = correctedPs();
  const lines = shownRows().map((number) => {
    const kind = referenceRows.has(number) ? "reference" : state.reference === number ? "chosen" : null;
    return element("tr", { role: "row", class: kind, "data-row": number }, ...names.map((name) => bodyCell(number, name, corrected)));
  });
  $("table").tBodies[0].replaceChildren(...lines);
  $("table").tHead.querySelector(`th[data-column="${CSS.escape(focused ?? "")}"] button`)?.focus();
  $("count").textContent = `${lines.length} of ${rows.length} rows`;
}

function renderForm() {
  const options = [["", "the leaderboard's order"], ...shownColumns().map((name) => [name, name])];
  $("sort").replaceChildren(...options.map(([value, text]) => element("option", { value }, text)));
  $("sort").value = state.sort;
  $("direction").textContent = state.ascending ? "↑" : "↓";
  $("direction").disabled = !state.sort;
  for (const chip of $("chips").querySelectorAll("button")) {
    chip.setAttribute("aria-pressed", Boolean(state.chips[chip.dataset.name]?.includes(chip.dataset.value)));
  }
  for (const { dataset, firstElementChild } of $("chips").querySelectorAll("details")) firstElementChild.textContent = chosenText(dataset.name);
  if ($("reference")) $("reference").value = state.reference ?? "";
  if ($("difference-note")) $("difference-note").hidden = state.reference === null;
}

function toggleChip(name, value) {
  const chosen = state.chips[name] ?? [];
  const next = chosen.includes(value) ? chosen.filter((one) => one !== value) : [...chosen, value];
  if (next.length) state.chips[name] = next;
  else delete state.chips[name];
  render();
}

// The values that a column has among the ranked models, in alphabetical order, numbers by size.
function valuesOf(name) {
  const values = new Set(rows.filter((_, number) => !referenceRows.has(number)).map((row) => row[place[name]]));
  return [...values].sort((a, b) => a.localeCompare(b, "en", { numeric: true }));
}

function chosenText(name) {
  return `${name}: ${state.chips[name]?.join(", ") ?? `any of ${valuesOf(name).length}`}`;
}

function buildChips() {
  for (const name of CHIPS.filter((one) => one in place)) {
    const values = valuesOf(name);
    if (values.length < 2) continue;
    const chips = values.map((value) => {
      const attributes = { type: "button", class: "chip", "aria-pressed": "false", "data-name": name, "data-value": value };
      return element("button", { ...attributes, onclick: () => toggleChip(name, value) }, value);
    });
    const many = values.length > MANY_CHIPS;
    const fields = element("fieldset", {}, element("legend", { class: many ? "hidden" : null }, name), ...chips);
    $("chips").append(many ? element("details", { "data-name": name }, element("summary", {}), fields) : fields);
  }
}

function buildPicker() {
  const narrow = matchMedia("(max-width: 640px)").matches;
  const tasks = columns.filter((column) => column.task).length;
  for (const { name, brief, extra, task, definition } of columns.filter((column) => !INTERVAL.includes(column.name))) {
    if (brief || (!narrow && !extra && !(task && tasks > MANY_TASKS))) state.shown.add(name);
    const toggle = (event) => {
      if (event.target.checked) state.shown.add(name);
      else state.shown.delete(name);
      render();
    };
    const box = element("input", { type: "checkbox", checked: state.shown.has(name), "data-column": name, onchange: toggle });
    $("columns").append(element("label", { "data-tip": definition || null }, box, name));
  }
}

const MANY_TASKS = 8; // of which a table begins without their columns
const MANY_CHIPS = 10; // which are folded
