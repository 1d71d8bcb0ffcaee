// Averages against what models cost, of the rows shown.

const COSTS = ["size_mb", "calibration_seconds"].filter((name) => name in place);
const FULL_PRECISION = "full precision";
const [CLOSE, APART, WIDEST] = [4, 9, 110]; // pixels: what is one cost, the distance of its points, and of all of them
const STAR = "M0-7L1.8-2.2 6.7-2.2 2.7.8 4.1 5.7 0 2.8-4.1 5.7-2.7.8-6.7-2.2-1.8-2.2Z";

function svgElement(tag, attributes, ...children) {
  const made = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  made.append(...children);
  return made;
}

function cloud() {
  const known = shownRows().filter((number) => !referenceRows.has(number) && Number(cell(number, state.cost)) > 0);
  const figures = (number) => ["average", ...INTERVAL].map((name) => Number(cell(number, name)));
  return known.map((number) => ({ number, cost: Number(cell(number, state.cost)), figures: figures(number) }));
}

// What is better than all that costs less, by cost.
function paretoFront(found) {
  const byCost = [...found].sort((a, b) => a.cost - b.cost || b.figures[0] - a.figures[0]);
  let best = -Infinity;
  return byCost.filter(({ figures: [average] }) => average > best && ((best = average), true));
}

function niceTicks(low, high, count) {
  const raw = (high - low) / count;
  const power = 10 ** Math.floor(Math.log10(raw));
  const step = power * [1, 2, 5, 10].find((factor) => factor * power >= raw);
  const first = Math.ceil(low / step);
  return Array.from({ length: Math.floor(high / step) - first + 1 }, (_, index) => Number(((first + index) * step).toPrecision(12)));
}

function logTicks(low, high) {
  const factors = high / low < 20 ? [1, 1.5, 2, 3, 5, 7] : high / low < 300 ? [1, 2, 5] : [1];
  const decades = Array.from({ length: 25 }, (_, index) => 10 ** (index - 12));
  return decades.flatMap((decade) => factors.map((factor) => Number((factor * decade).toPrecision(6)))).filter((tick) => tick >= low && tick <= high);
}

// Scales of a drawing: cost -> x, logarithmic, and average -> y.
function scales(found, width, height, margin) {
  const costs = found.map((point) => point.cost);
  const room = (Math.max(...costs) / Math.min(...costs)) ** 0.08 * 1.02;
  const [low, high] = [Math.min(...costs) / room, Math.max(...costs) * room];
  const [bottom, top] = [Math.min(...found.map((point) => point.figures[1])), Math.max(...found.map((point) => point.figures[2]))];
  const pad = 0.03 * (top - bottom) || 1;
  const x = (cost) => margin.left + ((width - margin.left - margin.right) * Math.log(cost / low)) / Math.log(high / low);
  const y = (value) => height - margin.bottom - ((height - margin.top - margin.bottom) * (value - bottom + pad)) / (top - bottom + 2 * pad);
  return { x, y, xTicks: logTicks(low, high), yTicks: niceTicks(bottom - pad, top + pad, 6) };
}

// x of every point: those that would cover each other stand beside each other, in their order by average.
function besideEachOther(found, x) {
  const order = [...found].sort((a, b) => x(a.cost) - x(b.cost) || a.figures[0] - b.figures[0]);
  const groups = [];
  for (const point of order) {
    const group = groups.at(-1);
    if (group && x(point.cost) - x(group[0].cost) < CLOSE) group.push(point);
    else groups.push([point]);
  }
  const placed = new Map();
  for (const group of groups) {
    const [gap, middle] = [Math.min(APART, WIDEST / group.length), (group.length - 1) / 2];
    const centre = group.reduce((sum, point) => sum + x(point.cost), 0) / group.length;
    group.sort((a, b) => a.figures[0] - b.figures[0]).forEach((point, index) => placed.set(point, group.length > 1 ? centre + (index - middle) * gap : x(point.cost)));
  }
  return placed;
}

function pointShape({ number }, x, y) {
  const attributes = { class: "point", transform: `translate(${x} ${y})`, "data-row": number };
  const colour = contents.colours[cell(number, "quantizer")];
  const full = cell(number, "quantizer") === FULL_PRECISION;
  const shape = full
    ? svgElement("path", { d: STAR, ...attributes, fill: "currentColor" })
    : svgElement("circle", { r: Number(cell(number, "bits")) >= 4 ? 5.5 : 3.5, ...attributes, fill: colour });
  const [average, low, high] = ["average", ...INTERVAL].map((name) => cell(number, name));
  shape.append(svgElement("title", {}, `${rowName(number)}: ${average} (${low} … ${high}), ${state.cost} ${cell(number, state.cost)}`));
  shape.addEventListener("click", () => openDrawer(number));
  return shape;
}

function axes({ x, y, xTicks, yTicks }, width, height, margin) {
  const right = width - margin.right;
  const floor = height - margin.bottom;
  const lines = yTicks.flatMap((tick) => [
    svgElement("line", { class: "grid", x1: margin.left, x2: right, y1: y(tick), y2: y(tick) }),
    svgElement("text", { x: margin.left - 6, y: y(tick) + 4, "text-anchor": "end" }, String(tick)),
  ]);
  let last = -Infinity;
  const labels = xTicks.filter((tick) => x(tick) - last > 34 && ((last = x(tick)), true)).flatMap((tick) => [
    svgElement("line", { class: "axis", x1: x(tick), x2: x(tick), y1: floor, y2: floor + 4 }),
    svgElement("text", { x: x(tick), y: floor + 18, "text-anchor": "middle" }, String(tick)),
  ]);
  return [
    ...lines,
    ...labels,
    svgElement("line", { class: "axis", x1: margin.left, x2: right, y1: floor, y2: floor }),
    svgElement("text", { x: (margin.left + right) / 2, y: height - 6, "text-anchor": "middle" }, `${state.cost}, logarithmic`),
    svgElement("text", { x: 4, y: 14 }, "average (%)"),
  ];
}

function renderPareto() {
  const found = cloud();
  if (!found.length) {
    $("pareto").replaceChildren(element("p", { class: "note" }, "No row shown has this cost."));
    $("legend").replaceChildren();
    return;
  }
  const width = Math.max(320, Math.min(1100, $("pareto").clientWidth));
  const height = width < 600 ? 340 : 440;
  const front = paretoFront(found);
  const margin = { top: 26, bottom: 44, right: 14, left: 44 };
  const scale = scales(found, width, height, margin);
  const placed = besideEachOther(found, scale.x);
  const whiskers = found.map((point) => {
    const [, low, high] = point.figures;
    return svgElement("line", { class: "whisker", x1: placed.get(point), x2: placed.get(point), y1: scale.y(low), y2: scale.y(high) });
  });
  const steps = front.map((point, index) => `${index ? `H${placed.get(point)}V` : `M${placed.get(point)},`}${scale.y(point.figures[0])}`);
  const line = svgElement("path", { class: "front", d: `${steps.join("")}H${width - margin.right}` });
  const shapes = found.map((point) => pointShape(point, placed.get(point), scale.y(point.figures[0])));
  const title = svgElement("title", {}, `Average against ${state.cost}, with the Pareto front`);
  const drawing = { viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": `Average against ${state.cost} of ${found.length} models; the Pareto front is listed below` };
  $("pareto").replaceChildren(svgElement("svg", drawing, title, ...axes(scale, width, height, margin), line, ...whiskers, ...shapes));
  renderFront(front);
  renderLegend(found);
}

function renderFront(front) {
  const items = front.map(({ number, cost, figures: [average] }) =>
    element("li", {}, element("button", { type: "button", class: "row", onclick: () => openDrawer(number) }, rowName(number)), `: ${average.toFixed(2)} at ${cost}`));
  $("pareto").append(element("details", { open: true }, element("summary", {}, "On the Pareto front"), element("ol", { id: "front" }, ...items)));
}

function renderLegend(found) {
  const names = [...new Set(found.map(({ number }) => cell(number, "quantizer")))];
  const items = names.map((name) => {
    const mark = name === FULL_PRECISION ? svgElement("path", { d: STAR, fill: "currentColor" }) : svgElement("circle", { r: 5.5, fill: contents.colours[name] });
    return element("li", {}, svgElement("svg", { viewBox: "-7 -7 14 14", "aria-hidden": "true" }, mark), name);
  });
  $("legend").replaceChildren(...items);
}
