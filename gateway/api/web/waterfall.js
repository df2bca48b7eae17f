// The latency waterfall of a turn, as SVG.

const SVG = "http://www.w3.org/2000/svg";
const WIDTH = 320;
const START = 92; // right edge of the column of starts
const LEFT = 104; // the bars' zero
const ROW = 20;
const BAR = 8;
const TICKS_MS = [50, 100, 200, 250, 500, 1000, 2000, 2500, 5000, 10000, 20000, 30000, 60000];

/**
 * @param {{name: string, kind: string, span: {start: number, end: number}}[]} rows milliseconds since the user's last word
 * @returns {SVGElement}
 */
export function waterfall(rows) {
  const end = Math.max(...rows.map((row) => row.span.end), 200);
  const scale = (WIDTH - LEFT - 8) / end;
  const height = rows.length * ROW + 22;
  const picture = element("svg", { viewBox: `0 0 ${WIDTH} ${height}`, class: "waterfall", role: "img" });
  picture.setAttribute("aria-label", describe(rows));
  const step = TICKS_MS.find((tick) => end / tick <= 4) ?? TICKS_MS.at(-1);
  for (let tick = 0; tick <= end; tick += step) {
    const x = LEFT + tick * scale;
    picture.append(element("line", { class: "tick", x1: x, x2: x, y1: 0, y2: height - 18 }));
    const label = element("text", { class: "axis", x, y: height - 5, "text-anchor": tick ? "middle" : "start" });
    label.textContent = time(tick, step);
    picture.append(label);
  }
  rows.forEach(({ name, kind, span }, i) => {
    const middle = i * ROW + ROW / 2;
    const label = element("text", { class: "label", x: 0, y: middle + 3.5 });
    label.textContent = name;
    const start = element("text", { class: "start", x: START, y: middle + 3.5, "text-anchor": "end" });
    start.textContent = inWords(kind === "heard" || kind === "silence" ? span.end : span.start);
    const x = LEFT + span.start * scale;
    const width = Math.max(2.5, (span.end - span.start) * scale);
    picture.append(
      label,
      start,
      element("line", { class: "wait", x1: LEFT, x2: x, y1: middle, y2: middle }),
      element("rect", { class: `bar ${kind}`, x, y: middle - BAR / 2, width, height: BAR, rx: BAR / 2 }),
    );
  });
  return picture;
}

/** The same in words, for screen readers. */
export function describe(rows) {
  return rows.map(({ name, span }) => `${name}: ${inWords(span.start)} to ${inWords(span.end)}`).join("; ");
}

function inWords(ms) {
  return ms < 10_000 ? `${Math.round(ms)} ms` : `${(ms / 1000).toFixed(1)} s`;
}

function time(ms, step) {
  if (ms === 0) return "0";
  return step < 1000 ? `${ms} ms` : `${ms / 1000} s`;
}

function element(name, attributes) {
  const made = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  return made;
}
