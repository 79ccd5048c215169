// Curves over time, with axes, units, and the values at the place that is pointed at.

import { clock, digits, isNumber, stamp } from "./format.js";
import { h, render } from "./tree.js";

const LEFT = 46;
const RIGHT = 8;
const TOP = 8;
const BOTTOM = 20;

/**
 * A chart that is as wide as its element. `data`:
 *   { label, unit, start, step (s), series: [{ name, tone, values, area }], height, max, format, whole }
 * `max`: the scale's end, if it has one; `whole`: there are no halves of it. Where a value is null
 * nothing is drawn. `tone`: a class that gives the colour.
 */
export class Chart {
  constructor(element) {
    this.element = element;
    this.width = 0;
    this.at = null; // the sample that is pointed at
    this.observer = new ResizeObserver(() => {
      if (element.clientWidth !== this.width) this.draw();
    });
    this.observer.observe(element);
  }

  show(data) {
    this.data = data;
    this.draw();
  }

  end() {
    this.observer.disconnect();
  }

  draw() {
    this.width = this.element.clientWidth;
    if (!this.data || this.width < 60) return;
    const { label, start, step, series, height = 170 } = this.data;
    const size = Math.max(2, ...series.map((one) => one.values.length));
    const frame = makeFrame(this.width, height, size, findTop(this.data));
    const format = this.data.format ?? digits;
    if (this.at !== null && this.at >= size) this.at = null;
    const inner = [
      ...frame.ticks.map((value) => drawTick(frame, value, format)),
      ...listMoments(start, step, size, this.width).map((at) => drawMoment(frame, start, step, at)),
      ...series.flatMap((one) => drawCurve(frame, one)),
      this.at === null ? null : this.drawPointer(frame),
    ];
    render(
      this.element,
      h(
        "svg",
        {
          class: "chart",
          width: this.width,
          height,
          role: "img",
          tabindex: 0,
          "aria-label": describe(this.data, format),
          onpointermove: (event) => this.point(event, frame),
          onpointerdown: (event) => this.point(event, frame),
          onpointerleave: () => this.move(null),
          onblur: () => this.move(null),
          onkeydown: (event) => this.step(event, size),
        },
        inner,
      ),
      this.at === null ? null : this.drawReading(frame, format),
      series.some((one) => one.values.some(isNumber))
        ? null
        : h("p", { class: "nothing" }, `${label}: nothing is known yet`),
    );
  }

  point(event, frame) {
    const box = this.element.getBoundingClientRect();
    const at = Math.round(((event.clientX - box.left - LEFT) / frame.inner) * (frame.size - 1));
    this.move(Math.min(frame.size - 1, Math.max(0, at)));
  }

  step(event, size) {
    const by = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    if (by === undefined) return;
    event.preventDefault();
    this.move(Math.min(size - 1, Math.max(0, (this.at ?? size - 1 - Math.min(by, 0)) + by)));
  }

  move(at) {
    if (at === this.at) return;
    this.at = at;
    this.draw();
  }

  drawPointer(frame) {
    const x = frame.x(this.at);
    return h(
      "g",
      { class: "pointer" },
      h("line", { x1: x, x2: x, y1: TOP, y2: frame.bottom }),
      this.data.series
        .filter((one) => isNumber(one.values[this.at]))
        .map((one) => h("circle", { class: one.tone, cx: x, cy: frame.y(one.values[this.at]), r: 3 })),
    );
  }

  drawReading(frame, format) {
    const { start, step, series, unit } = this.data;
    const x = frame.x(this.at);
    const side = x > this.width / 2 ? "left" : "right";
    const place = side === "left" ? this.width - x + 10 : x + 10;
    return h(
      "div",
      { class: `reading ${side}`, vars: { "--place": `${place}px` }, "aria-live": "polite" },
      h("strong", null, stamp(start + this.at * step)),
      series.map((one) =>
        h(
          "span",
          null,
          h("i", { class: `dot ${one.tone}` }),
          `${one.name} `,
          h("b", null, `${isNumber(one.values[this.at]) ? format(one.values[this.at]) : "–"}${unit}`),
        ),
      ),
    );
  }
}

/** A curve without axes, for a tile. `data`: { values, tone }. */
export class Spark {
  constructor(element) {
    this.element = element;
  }

  show({ values, tone }) {
    const frame = makeFrame(
      120,
      28,
      Math.max(2, values.length),
      { top: findMost([values]), ticks: [] },
      true,
    );
    render(
      this.element,
      h(
        "svg",
        { class: "spark", viewBox: "0 0 120 28", preserveAspectRatio: "none", "aria-hidden": "true" },
        drawCurve(frame, { tone, values }),
      ),
    );
  }
}

function makeFrame(width, height, size, { top, ticks }, bare = false) {
  const [left, right, above, below] = bare ? [0, 0, 2, 1] : [LEFT, RIGHT, TOP, BOTTOM];
  const inner = width - left - right;
  const bottom = height - below;
  return {
    size,
    inner,
    bottom,
    ticks,
    left,
    right: left + inner,
    x: (at) => round(left + (at / (size - 1)) * inner),
    y: (value) => round(bottom - (Math.min(value, top) / top) * (bottom - above)),
  };
}

function findMost(lists) {
  return lists.flat().reduce((most, value) => (isNumber(value) && value > most ? value : most), 0) || 1;
}

/** Return the top of the scale, and the values that get a line: 1, 2 or 5 times a power of ten apart. */
function findTop({ series, max, whole }) {
  const most = max ?? findMost(series.map((one) => one.values));
  const rough = most / 4;
  const power = 10 ** Math.floor(Math.log10(rough));
  const fitting = [1, 2, 5, 10].map((one) => one * power).find((one) => one >= rough);
  const step = whole ? Math.max(1, fitting) : fitting;
  const top = max ?? Math.ceil(most / step) * step;
  const ticks = [];
  for (let at = 0; at * step <= top * 1.001; at += 1) ticks.push(Number((at * step).toPrecision(12)));
  return { top, ticks };
}

function drawTick(frame, value, format) {
  const y = frame.y(value);
  return h(
    "g",
    { class: "tick" },
    h("line", { x1: frame.left, x2: frame.right, y1: y, y2: y }),
    h("text", { x: frame.left - 6, y: y + 4, "text-anchor": "end" }, format(value)),
  );
}

const APART = [10, 30, 60, 300, 600, 900, 1800, 3600, 7200, 10800, 21600, 43200, 86400, 172800];

/** Return the times that are written under the chart: round ones, with room between them. */
function listMoments(start, step, size, width) {
  const length = (size - 1) * step;
  const most = Math.max(2, Math.floor((width - LEFT) / 90));
  const apart = APART.find((one) => length / one <= most) ?? 604800;
  const shift = new Date(start * 1000).getTimezoneOffset() * 60;
  const found = [];
  for (let at = Math.ceil((start - shift) / apart) * apart + shift; at <= start + length; at += apart)
    found.push(at);
  return found;
}

function drawMoment(frame, start, step, at) {
  const x = frame.x((at - start) / step);
  const anchor = x > frame.right - 24 ? "end" : x < frame.left + 16 ? "start" : "middle";
  const local = new Date(at * 1000);
  const isDay = local.getHours() === 0 && local.getMinutes() === 0;
  const text = isDay
    ? stamp(at).slice(5, 10)
    : clock(at, step * frame.size <= 120)
        .split(" ")
        .pop();
  return h("text", { class: "moment", x, y: frame.bottom + 15, "text-anchor": anchor }, text);
}

/** Draw what is known in pieces, with the area under the first of several curves left clear. */
function drawCurve(frame, { tone, values, area }) {
  const pieces = [];
  let piece = [];
  values.forEach((value, at) => {
    if (isNumber(value)) piece.push([frame.x(at), frame.y(value)]);
    if ((!isNumber(value) || at === values.length - 1) && piece.length > 0) {
      pieces.push(piece);
      piece = [];
    }
  });
  return pieces.flatMap((points) => {
    if (points.length === 1)
      return [h("circle", { class: tone, cx: points[0][0], cy: points[0][1], r: 1.5 })];
    const line = points.map(([x, y]) => `${x},${y}`).join(" ");
    const under = `${points[0][0]},${frame.bottom} ${line} ${points.at(-1)[0]},${frame.bottom}`;
    return [
      area ? h("polygon", { class: `area ${tone}`, points: under }) : null,
      h("polyline", { class: `curve ${tone}`, points: line }),
    ];
  });
}

function describe({ label, series, unit }, format) {
  const last = series.map((one) => {
    const value = one.values.findLast(isNumber);
    return `${one.name} ${value === undefined ? "unknown" : format(value) + unit}`;
  });
  return `${label}: ${last.join(", ")}. Arrow keys read the values.`;
}

function round(number) {
  return Math.round(number * 10) / 10;
}
