// Sources and sites, one against the other: how each stands there, and how fast it may send.

import { count, pace, span } from "./format.js";
import { address, link, toneOf } from "./parts.js";
import { h } from "./tree.js";

const MOST = 12; // sites side by side; those with trouble or most mail
const SIGNS = {
  quarantined: "quarantine",
  probing: "probing",
  suspended: "suspended",
  silent: "silent",
  resting: "rests",
};

/** Draw the cells of /standing. */
export function heat({ sources, sites, queued, cells }) {
  const found = new Map(cells.map((cell) => [key(cell.source, cell.site), cell]));
  const rank = (site) => [
    cells.some((cell) => cell.site === site && ["bad", "stop"].includes(toneOf(cell.state))) ? 1 : 0,
    queued[site] ?? 0,
  ];
  const names = [...sites].sort((a, b) => compare(rank(b), rank(a)));
  const shown = names.slice(0, MOST);
  if (shown.length === 0 || sources.length === 0)
    return h("p", { class: "empty small" }, "No mail has gone anywhere yet.");
  return [
    h(
      "div",
      { class: "scroll", tabindex: 0, role: "region", "aria-label": "Standing of sources at sites" },
      h(
        "table",
        { class: "heat" },
        h(
          "thead",
          null,
          h(
            "tr",
            null,
            h("td", null),
            shown.map((site) =>
              h("th", { scope: "col", key: site, title: site }, link(["site", site], site)),
            ),
          ),
        ),
        h(
          "tbody",
          null,
          sources.map((source) =>
            h(
              "tr",
              { key: source },
              h("th", { scope: "row" }, link(["source", source], source)),
              shown.map((site) => h("td", { key: site }, draw(found.get(key(source, site)), source, site))),
            ),
          ),
        ),
      ),
    ),
    legend(names.length - shown.length),
  ];
}

function draw(cell, source, site) {
  const where = address(["standing", source, site]);
  if (!cell)
    return h(
      "a",
      { class: "cell none", href: where, "aria-label": `${source} at ${site}: nothing known` },
      "·",
    );
  const score = cell.known ? cell.score.toFixed(2) : "new";
  const sign = SIGNS[cell.state];
  return h(
    "a",
    {
      class: `cell ${look(cell)}`,
      href: where,
      title: describe(cell),
      "aria-label": `${source} at ${site}: ${describe(cell)}`,
      vars: { "--score": cell.known ? String(Math.round(cell.score * 100)) : "50" },
    },
    h("b", null, score),
    h("span", null, sign ?? tellPace(cell)),
    cell.warmup ? h("i", { class: "warm", vars: { "--used": `${used(cell.warmup)}%` } }) : null,
  );
}

/** How fast it may send there, as far as answers have told. */
function tellPace(cell) {
  if (cell.pace !== null) return `≤ ${pace(cell.pace)}`;
  return cell.state === "warming" ? "warm-up" : "not slowed";
}

function look(cell) {
  if (["bad", "stop"].includes(toneOf(cell.state))) return toneOf(cell.state);
  const waits = ["silent", "resting", "probing"].includes(cell.state) ? " waits" : "";
  return (cell.known ? "scored" : "unscored") + waits;
}

function describe(cell) {
  const words = [`score ${cell.known ? cell.score.toFixed(2) : "not known yet"}`];
  words.push(cell.pace === null || cell.pace === undefined ? "no pace" : `pace ${pace(cell.pace)}`);
  words.push(`${count(cell.connections ?? 0)} connections`);
  if (cell.warmup) words.push(tellWarmup(cell.warmup));
  if (cell.text && cell.state !== "ok") words.push(cell.text);
  return words.join("; ");
}

/** "warm-up day 4 of 20: 120 of 170 used; next day in 3 h". `next`: seconds since 1970. */
export function tellWarmup({ day, days, allowance, used: taken, next }) {
  const then = next ? `; next day in ${span(Math.max(0, next - Date.now() / 1000))}` : "";
  return `warm-up day ${day} of ${days}: ${count(taken)} of ${count(allowance)} used${then}`;
}

function used({ used: taken, allowance }) {
  return allowance > 0 ? Math.min(100, Math.round((taken / allowance) * 100)) : 0;
}

function legend(left) {
  return h(
    "p",
    { class: "legend" },
    h("span", { class: "ramp", "aria-hidden": "true" }),
    "score 0 to 1; below it, what a source may send there per second",
    left > 0 ? [" · ", link(["sources"], `${count(left)} sites more`)] : null,
  );
}

function key(source, site) {
  return `${source} ${site}`;
}

function compare(left, right) {
  return left[0] - right[0] || left[1] - right[1];
}
