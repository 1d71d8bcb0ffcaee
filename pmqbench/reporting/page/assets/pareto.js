// Averages against what models cost, of the rows shown.

const COSTS = ["size_mb", "calibration_seconds"].filter((name) => name in place);
const FEW = 25; // points that all have their whiskers
const NARROW = 600; // pixels of a drawing with smaller marks and numbers in the place of names
const [RADIUS, ASIDE] = [5.5, 2]; // pixels of a mark, and how many of them may stand on either side of one
const [LETTER, LINE] = [6.3, 16]; // pixels of a label
const FEW_BITS = 4; // below which marks are smaller

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

// Scales of a drawing: cost -> x, logarithmic, right of `left`, and average -> y.
function scales(found, width, height, margin, left) {
  const costs = found.map((point) => point.cost);
  const room = (Math.max(...costs) / Math.min(...costs)) ** 0.04 * 1.02;
  const [low, high] = [Math.min(...costs) / room, Math.max(...costs) * room];
  const [bottom, top] = [Math.min(...found.map((point) => point.figures[1])), Math.max(...found.map((point) => point.figures[2]))];
  const pad = 0.03 * (top - bottom) || 1;
  const x = (cost) => left + ((width - left - margin.right) * Math.log(cost / low)) / Math.log(high / low);
  const y = (value) => height - margin.bottom - ((height - margin.top - margin.bottom) * (value - bottom + pad)) / (top - bottom + 2 * pad);
  return { x, y, xTicks: logTicks(low, high), yTicks: niceTicks(bottom - pad, top + pad, 6) };
}

// x of every point: its own, or a place beside it where it covers no other point, nor the whisker of one that has its whisker. The
// front has its own; where there is no place nearby, points cover each other.
function besideEachOther(found, front, { x, y }, radius, hasWhisker) {
  const steps = Array.from({ length: 2 * ASIDE + 1 }, (_, index) => (index % 2 ? 1 : -1) * Math.ceil(index / 2) * 2 * radius);
  const rest = found.filter((point) => !front.includes(point)).sort((a, b) => a.figures[0] - b.figures[0]);
  const placed = new Map();
  const done = [];
  for (const point of [...front, ...rest]) {
    const [average, low, high] = point.figures.map(y);
    const [top, bottom] = hasWhisker(point) ? [high, low] : [average - radius, average + radius];
    const level = done.filter((other) => other.bottom > top && other.top < bottom);
    const free = (step) => level.every(({ place }) => Math.abs(place - x(point.cost) - step) >= 2 * radius - 0.01);
    const place = x(point.cost) + (front.includes(point) ? 0 : (steps.find(free) ?? 0));
    placed.set(point, place);
    done.push({ place, top, bottom });
  }
  return placed;
}

function pointShape({ number, figures: [average, low, high] }, x, y, radius, hasWhisker) {
  const scale = (radius / RADIUS) * (Number(cell(number, "bits")) < FEW_BITS ? 0.65 : 1);
  const mark = quantizerMark(cell(number, "quantizer"), { class: "point", transform: `translate(${x} ${y(average)}) scale(${scale})` });
  const whisker = svgElement("line", { class: "whisker", x1: x, x2: x, y1: y(low), y2: y(high) });
  const [text, interval] = cellParts(number, "average");
  const said = `${rowName(number)}: ${text} (${interval}), ${state.cost} ${cell(number, state.cost)}`;
  const shape = svgElement("g", { class: hasWhisker ? "model" : "model bare", "data-row": number, "data-tip": said }, whisker, mark);
  shape.addEventListener("click", () => openDrawer(number));
  return shape;
}

// Rising heights near rising `wanted`, `gap` apart and none above `top`.
function spread(wanted, gap, top) {
  const placed = [];
  for (const height of wanted) placed.push(placed.length ? Math.max(height, placed.at(-1) + gap) : height);
  let limit = top;
  for (let index = placed.length - 1; index >= 0; index -= 1) {
    placed[index] = Math.min(placed[index], limit);
    limit = placed[index] - gap;
  }
  return placed;
}

// The front's labels in a column on the left, each joined to its point: above and left of the front nothing else is drawn.
function frontLabels(front, texts, placed, y, left) {
  const points = front.map((point) => [placed.get(point), y(point.figures[0])]);
  const heights = spread(points.map(([, height]) => -height), LINE, -LINE);
  return points.flatMap(([x, height], index) => {
    const end = left + LETTER * texts[index].length + 4;
    const level = -heights[index];
    return [
      svgElement("line", { class: "leader", x1: end, y1: level, x2: x - RADIUS - 1, y2: height }),
      svgElement("text", { class: "label", x: left, y: level + 4 }, texts[index]),
    ];
  });
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

function nothing(said) {
  $("pareto").replaceChildren(element("p", { class: "note" }, said));
  $("legend").replaceChildren();
}

function renderPareto() {
  const found = cloud();
  if (!found.length) return nothing("No row shown has this cost.");
  if (new Set(found.map(({ number }) => ("suite" in place ? cell(number, "suite") : ""))).size > 1) {
    return nothing("Rows of several suites are shown, whose averages are of other tasks: choose one suite above.");
  }
  const width = Math.max(320, Math.min(1100, $("pareto").clientWidth));
  const narrow = width < NARROW;
  const [height, radius] = narrow ? [360, 0.7 * RADIUS] : [460, RADIUS];
  const front = paretoFront(found);
  const margin = { top: 26, bottom: 44, right: 14, left: 44 };
  const texts = front.map(({ number }, index) => (narrow ? `${index + 1}` : rowName(number)));
  const left = margin.left + 6;
  const scale = scales(found, width, height, margin, left + LETTER * Math.max(...texts.map((text) => text.length)));
  const hasWhisker = (point) => found.length <= FEW || front.includes(point);
  const placed = besideEachOther(found, front, scale, radius, hasWhisker);
  const steps = front.map((point, index) => `${index ? `H${placed.get(point)}V` : `M${placed.get(point)},`}${scale.y(point.figures[0])}`);
  const line = svgElement("path", { class: "front", d: `${steps.join("")}H${width - margin.right}` });
  const shapes = found.map((point) => pointShape(point, placed.get(point), scale.y, radius, hasWhisker(point)));
  const title = `Average against ${state.cost} of ${found.length} models; the Pareto front is listed below`;
  const drawing = { viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": title };
  const labels = frontLabels(front, texts, placed, scale.y, left);
  $("pareto").replaceChildren(svgElement("svg", drawing, ...axes(scale, width, height, margin), line, ...labels, ...shapes));
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
  const items = names.map((name) => element("li", {}, svgElement("svg", { viewBox: "-7 -7 14 14", "aria-hidden": "true" }, quantizerMark(name)), name));
  $("legend").replaceChildren(...items);
}
