// The data, and everything about rows that needs no document: sorting, filters, CSV, Markdown, LaTeX.

const contents = JSON.parse(document.getElementById("contents").textContent);
const { columns, rows } = contents;
const place = Object.fromEntries(columns.map((column, index) => [column.name, index]));
const referenceRows = new Set(contents.references);
const CHIPS = ["suite", "merge", "quantizer", "bits", "origin"];
const INTERVAL = ["ci_low", "ci_high"];
const DIFFERENCE = "difference";
const LEVEL = 0.05;

for (const column of columns) {
  const cells = rows.map((row) => row[place[column.name]]);
  column.numeric = cells.some((cell) => cell !== "") && cells.every((cell) => cell === "" || Number.isFinite(Number(cell)));
}

const initial = { sort: "", ascending: true, words: [], reference: null, cost: "", chips: {} };
const state = { ...structuredClone(initial), shown: new Set() };

function cell(number, name) {
  return rows[number][place[name]];
}

function isNumeric(name) {
  return name === DIFFERENCE || columns[place[name]].numeric;
}

// What a row is called, here and in addresses.
function rowName(number) {
  const [quantizer, groups] = [cell(number, "quantizer"), cell(number, "group_size")];
  const model = [cell(number, "merge"), ...(referenceRows.has(number) ? [] : [quantizer])];
  const width = quantizer === FULL_PRECISION ? [] : [`${cell(number, "bits")} bits`, ...(groups === "channel" ? [] : [`groups of ${groups}`])];
  return [...("suite" in place ? [cell(number, "suite")] : []), ...model, ...width].join(", ");
}

// [difference, low, high, p-value] of a row to the reference that was picked; null for the reference itself.
function difference(number) {
  const other = state.reference;
  if (other === null || other === number) return null;
  if (other < number) return contents.pairs[number][other];
  const [middle, low, high, p] = contents.pairs[other][number];
  return [-middle, -high, -low, p];
}

// [[key, p-value], ...] -> key -> p-value corrected by Holm over all of them.
function holm(tested) {
  tested.sort(([, first], [, second]) => first - second);
  let least = 0;
  return new Map(tested.map(([key, p], index) => [key, (least = Math.min(1, Math.max(least, p * (tested.length - index))))]));
}

const pairKey = (one, other) => Math.max(one, other) * rows.length + Math.min(one, other);
let everyPair = null; // worked out once it is asked for

// Row -> p-value of its difference to the reference, of ranked models. It is corrected over all pairs of them, as a reader may pick a
// reference for its rank; to the experts or the base, over all models.
function correctedPs() {
  if (state.reference === null) return new Map();
  const ranked = rows.map((_, number) => number).filter((number) => !referenceRows.has(number));
  if (referenceRows.has(state.reference)) return holm(ranked.map((number) => [number, difference(number)[3]]));
  everyPair ??= holm(ranked.flatMap((one, index) => ranked.slice(0, index).map((other) => [pairKey(one, other), contents.pairs[one][other][3]])));
  const others = ranked.filter((number) => number !== state.reference);
  return new Map(others.map((number) => [number, everyPair.get(pairKey(number, state.reference))]));
}

function isClear(number, corrected) {
  return corrected.get(number) < LEVEL;
}

// A number with two decimals and its sign, never "-0.00".
function points(value) {
  const text = value.toFixed(2).replace(/^-0\.00$/, "0.00");
  return Number(text) > 0 ? `+${text}` : text;
}

function sortValue(number, name) {
  if (name === DIFFERENCE) return difference(number)?.[0] ?? 0;
  const text = cell(number, name);
  return isNumeric(name) ? (text === "" ? null : Number(text)) : text;
}

// Missing values stand last in either direction.
function compareRows(first, second) {
  const [a, b] = [sortValue(first, state.sort), sortValue(second, state.sort)];
  if (a === null || b === null) return (a === null) - (b === null);
  const sign = state.ascending ? 1 : -1;
  return sign * (typeof a === "string" ? a.localeCompare(b, "en", { numeric: true }) : a - b);
}

function passes(number) {
  const text = rows[number].join(" ").toLowerCase();
  if (!state.words.every((word) => text.includes(word))) return false;
  const asked = Object.entries(state.chips).filter(([name]) => name === "suite" || !referenceRows.has(number));
  return asked.every(([name, chosen]) => chosen.includes(cell(number, name)));
}

// Numbers of the rows that are shown, in order: models, then references.
function shownRows() {
  const order = rows.map((_, number) => number).filter(passes);
  if (!state.sort) return order;
  const models = order.filter((number) => !referenceRows.has(number)).sort(compareRows);
  return [...models, ...order.filter((number) => referenceRows.has(number))];
}

// Names of the columns that are shown: an interval stands in the column of its average.
function shownColumns() {
  const names = columns.map((column) => column.name).filter((name) => state.shown.has(name) && !INTERVAL.includes(name));
  if (state.reference === null) return names;
  const after = names.indexOf("average") + 1;
  return [...names.slice(0, after), DIFFERENCE, ...names.slice(after)];
}

// Models that could as well stand above the row above.
function isTied(number) {
  return "above_p" in place && cell(number, "above_p") !== "" && Number(cell(number, "above_p")) >= LEVEL;
}

// [text, interval or ""] of a cell.
function cellParts(number, name) {
  if (name === DIFFERENCE) {
    const found = difference(number);
    return found ? [points(found[0]), `${points(found[1])} … ${points(found[2])}`] : ["reference", ""];
  }
  if (name === "rank" && isTied(number)) return [`${cell(number, name)}=`, ""];
  const interval = name === "average" ? INTERVAL.map((end) => cell(number, end)).join(" … ") : "";
  return [cell(number, name), interval];
}

function csvCell(text) {
  return /[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
}

// The rows shown with every column of leaderboard.csv, and differences if a reference was picked.
function csvOfShown() {
  const compared = state.reference !== null;
  const corrected = correctedPs();
  const head = compared ? ["difference_to", "difference", "difference_low", "difference_high", "difference_p", "difference_p_holm"] : [];
  const tail = (number) => {
    if (!compared) return [];
    const found = difference(number);
    const [middle, low, high, p] = found ? [...found.slice(0, 3).map((value) => value.toFixed(2)), significant(found[3])] : ["", "", "", ""];
    return [rowName(state.reference), middle, low, high, p, corrected.has(number) ? significant(corrected.get(number)) : ""];
  };
  const lines = [[...columns.map((column) => column.name), ...head], ...shownRows().map((number) => [...rows[number], ...tail(number)])];
  return lines.map((line) => `${line.map(csvCell).join(",")}\n`).join("");
}

// A p-value with three significant figures, as tables have it.
function significant(p) {
  return String(Number(p.toPrecision(3)));
}

function markdownOfShown() {
  const names = shownColumns();
  const corrected = correctedPs();
  const escape = (text) => text.replaceAll("|", "\\|");
  const line = (cells) => `| ${cells.map(escape).join(" | ")} |`;
  const strong = (number, name, text) => (name === DIFFERENCE && isClear(number, corrected) ? `**${text}**` : text);
  const text = (number, name) => {
    const [shown, interval] = cellParts(number, name);
    return interval ? `${strong(number, name, shown)} (${interval})` : shown;
  };
  const body = shownRows().map((number) => line(names.map((name) => text(number, name))));
  return [line(names), `|${names.map((name) => (isNumeric(name) ? " --: " : " :-- ")).join("|")}|`, ...body].join("\n");
}

const LATEX = { "\\": "\\textbackslash{}", "~": "\\textasciitilde{}", "^": "\\textasciicircum{}" };

function latexText(text) {
  const escaped = text.replace(/[\\&%$#_{}~^]/g, (letter) => LATEX[letter] ?? `\\${letter}`);
  return escaped.replace(/(?<![\w.])-(?=\d)/g, "$-$");
}

function latexOfShown() {
  const names = shownColumns();
  const small = (range) => (range ? ` {\\scriptsize [${latexText(range.replace(" … ", ", "))}]}` : "");
  const corrected = correctedPs();
  const strong = (number, name, text) => (name === DIFFERENCE && isClear(number, corrected) ? `\\textbf{${text}}` : text);
  const cells = (number) => names.map((name) => {
    const [text, range] = cellParts(number, name);
    return strong(number, name, latexText(text)) + small(range);
  });
  const numbers = shownRows();
  const firstReference = numbers.find((number) => referenceRows.has(number));
  const lines = numbers.map((number) => (number === firstReference ? "\\midrule\n" : "") + `${cells(number).join(" & ")} \\\\`);
  const spec = names.map((name) => (isNumeric(name) ? "r" : "l")).join("");
  const head = `${names.map(latexText).join(" & ")} \\\\`;
  return [`\\begin{tabular}{${spec}}`, "\\toprule", head, "\\midrule", ...lines, "\\bottomrule", "\\end{tabular}"].join("\n");
}
