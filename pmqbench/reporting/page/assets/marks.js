// Drawing: elements of an SVG, and the marks of quantizers, which are those of the plots.

const FULL_PRECISION = "full precision";

// Outlines by matplotlib's name of a marker, around 0,0 in a circle of radius 5 or so.
const OUTLINES = {
  "*": "M0-7L1.8-2.2 6.7-2.2 2.7.8 4.1 5.7 0 2.8-4.1 5.7-2.7.8-6.7-2.2-1.8-2.2Z",
  o: "M5 0A5 5 0 1 1-5 0A5 5 0 1 1 5 0Z",
  s: "M-4.5-4.5H4.5V4.5H-4.5Z",
  D: "M0-5.8L5.8 0 0 5.8-5.8 0Z",
  d: "M0-6.5L3.9 0 0 6.5-3.9 0Z",
  "^": "M0-5.5L5.5 4.5H-5.5Z",
  v: "M0 5.5L5.5-4.5H-5.5Z",
  "<": "M-5.5 0L4.5-5.5V5.5Z",
  ">": "M5.5 0L-4.5-5.5V5.5Z",
  P: "M-1.8-5.4H1.8V-1.8H5.4V1.8H1.8V5.4H-1.8V1.8H-5.4V-1.8H-1.8Z",
  X: "M-5.2-2.6L-2.6-5.2 0-2.6 2.6-5.2 5.2-2.6 2.6 0 5.2 2.6 2.6 5.2 0 2.6-2.6 5.2-5.2 2.6-2.6 0Z",
  p: "M0-5.8L5.5-1.8 3.4 4.7H-3.4L-5.5-1.8Z",
  h: "M0-5.6L4.85-2.8V2.8L0 5.6-4.85 2.8V-2.8Z",
};

function svgElement(tag, attributes, ...children) {
  const made = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  made.append(...children);
  return made;
}

// The mark of a quantizer; that of a merge at full precision is a star in the colour of the text.
function quantizerMark(quantizer, attributes = {}) {
  const { colour, marker } = contents.styles[quantizer] ?? { colour: "currentColor", marker: "*" };
  return svgElement("path", { d: OUTLINES[marker], fill: colour, ...attributes });
}
