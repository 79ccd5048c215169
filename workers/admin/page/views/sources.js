// Who sends: all sources, one of them, one site, and how the one stands at the other.

import { act } from "../acting.js";
import { path } from "../api.js";
import { Chart } from "../chart.js";
import { count, digits, pace, span, when } from "../format.js";
import { tellWarmup } from "../heat.js";
import { address, choice, facts, link, panel, pending, pill, table } from "../parts.js";
import { drawTable } from "./queues.js";
import { h } from "../tree.js";

const WINDOWS = [
  ["1h", "1 h"],
  ["6h", "6 h"],
  ["1d", "1 d"],
  ["7d", "7 d"],
];

/** All sources. */
export function sources() {
  return {
    title: "Sources",
    wanted: [
      { name: "sources", path: path(["sources"]), every: 4 },
      { name: "sites", path: path(["sites"]), every: 4 },
    ],
    draw(poll) {
      const { sources: found, sites } = poll.data;
      return [
        h("h1", null, "Sources and sites"),
        panel("Sources", null, found ? drawSources(found) : pending(poll.troubles.sources)),
        panel(
          "Standings that say something",
          null,
          found
            ? drawStandings(
                found.sources.flatMap((row) => row.standings.map((one) => ({ ...one, source: row.name }))),
              )
            : null,
        ),
        panel("Sites", null, sites ? drawSites(sites) : pending(poll.troubles.sites)),
      ];
    },
  };
}

function drawSources(found) {
  return table(
    "Sources",
    [
      { name: "source", main: true },
      { name: "address" },
      { name: "EHLO" },
      { name: "pools" },
      { name: "connections", number: true },
      { name: "rests", number: true },
      { name: "state", wide: true },
      { name: "", end: true },
    ],
    found.sources.map((row) => ({
      key: row.name,
      cells: [
        link(["source", row.name], row.name),
        h("code", null, row.address),
        row.ehlo,
        tellPools(row.pools),
        count(row.connections),
        count(row.rests),
        drawState(row),
        act(row.suspended ? "resume" : "suspend", { source: row.name }),
      ],
    })),
    "No sources are configured.",
  );
}

function tellPools(pools) {
  return (
    Object.entries(pools)
      .map(([pool, weight]) => `${pool} ${weight}`)
      .join(", ") || "–"
  );
}

function drawState(row) {
  if (!row.alive) return [pill("away", { tone: "bad" }), " no worker that is alive has it"];
  if (row.suspended) return [pill("suspended"), " ", row.suspended];
  const at = row.suspended_at.length > 0 ? `; suspended at ${row.suspended_at.join(", ")}` : "";
  return [pill("alive", { tone: "good" }), ` heard ${span(row.heard)} ago${at}`];
}

/** Standings as a table; each has its `source` and `site`. */
function drawStandings(rows) {
  return table(
    "Standings",
    [
      { name: "source", main: true },
      { name: "site" },
      { name: "score", number: true },
      { name: "pace", number: true },
      { name: "evidence", number: true },
      { name: "standing", wide: true },
    ],
    rows.map((one) => ({
      key: `${one.source} ${one.site}`,
      cells: [
        link(["standing", one.source, one.site], one.source),
        link(["site", one.site], one.site),
        one.score.toFixed(2),
        pace(one.pace),
        digits(one.evidence),
        [
          pill(one.state),
          one.text !== one.state ? ` ${one.text}` : "",
          one.warmup ? ` ${sayWarmup(one.warmup)}` : "",
        ],
      ],
    })),
    "Nothing but good is known of them.",
  );
}

/** Words for a warm-up, of /sources and of /standing. */
function sayWarmup(day) {
  if (day.allowance === null) return "warm";
  return tellWarmup("next_day" in day ? { ...day, next: day.next_day } : day);
}

function drawSites(found) {
  return table(
    "Sites",
    [
      { name: "site", main: true },
      { name: "queued", number: true },
      { name: "queues", number: true },
      { name: "connections", number: true },
      { name: "TLS" },
      { name: "rate", wide: true },
      { name: "", end: true },
    ],
    found.sites.map((row) => ({
      key: row.name,
      cells: [
        link(["site", row.name], row.name),
        count(row.queued),
        count(row.queues),
        tellConnections(row),
        row.tls,
        tellRates(row),
        act(row.suspended ? "resume" : "suspend", { site: row.name }),
      ],
    })),
    "Nothing is queued, and no [[site]] is configured.",
  );
}

function tellConnections(row) {
  return row.connection_limit
    ? `${count(row.connections)} of ${count(row.connection_limit)}`
    : count(row.connections);
}

function tellRates(row) {
  const left = row.rate_left === null ? "" : `${count(row.rate_left)} left of `;
  return row.rates.length > 0 ? left + row.rates.join(", ") : "–";
}

/** One source. */
export function source([name]) {
  return {
    title: `Source ${name}`,
    wanted: [{ name: "sources", path: path(["sources"]), every: 4 }],
    draw(poll) {
      const row = poll.data.sources?.sources.find((one) => one.name === name);
      if (!row)
        return [
          h("h1", null, `Source ${name}`),
          poll.data.sources ? h("p", { class: "empty" }, "No such source.") : pending(poll.troubles.sources),
        ];
      return [
        h(
          "div",
          { class: "title" },
          h("h1", null, `Source ${name}`),
          h("div", { class: "actions" }, act("suspend", { source: name }), act("resume", { source: name })),
        ),
        panel(
          "Now",
          null,
          h("p", { class: "why" }, drawState(row)),
          facts(
            ["address", h("code", null, row.address)],
            ["EHLO", row.ehlo],
            ["egress", row.egress],
            ["pools and weights", tellPools(row.pools)],
            ["connections", count(row.connections)],
            ["sites that it has connections to", row.sites === undefined ? null : count(row.sites)],
            ["sites not reached, resting", count(row.rests)],
          ),
        ),
        panel("At sites", null, drawStandings(row.standings.map((one) => ({ ...one, source: name })))),
      ];
    },
  };
}

/** One site. */
export function site([name]) {
  return {
    title: name,
    wanted: [
      { name: "sites", path: path(["sites"]), every: 3 },
      { name: "queues", path: path(["queues"], { site: name, limit: 50 }), every: 4 },
    ],
    draw(poll) {
      const row = poll.data.sites?.sites.find((one) => one.name === name);
      return [
        h(
          "div",
          { class: "title" },
          h("h1", null, name),
          h(
            "div",
            { class: "actions" },
            ["suspend", "resume", "retry", "hold", "bounce"].map((verb) => act(verb, { site: name })),
          ),
        ),
        row
          ? drawSite(row)
          : panel(
              "Now",
              null,
              poll.data.sites
                ? h(
                    "p",
                    { class: "empty" },
                    "It is none of the hundred sites with most mail: little waits for it, or nothing.",
                  )
                : pending(poll.troubles.sites),
            ),
        panel(
          "Queues",
          null,
          poll.data.queues ? drawTable(poll.data.queues.queues) : pending(poll.troubles.queues),
        ),
      ];
    },
  };
}

function drawSite(row) {
  return [
    panel(
      "Now",
      null,
      row.suspended ? h("p", { class: "why" }, pill("suspended"), " ", row.suspended) : null,
      facts(
        ["queued", count(row.queued)],
        ["queues", count(row.queues)],
        ["connections", tellConnections(row)],
        ["TLS", row.tls],
        ["rate", tellRates(row)],
      ),
      Object.entries(row.put_off).map(([tenant, one]) =>
        h(
          "p",
          { class: "why" },
          pill("put off"),
          ` tenant ${tenant}, until `,
          when(one.until),
          `: ${one.why}`,
        ),
      ),
    ),
    panel(
      "Sources there",
      null,
      table(
        "Sources there",
        [
          { name: "source", main: true },
          { name: "score", number: true },
          { name: "pace", number: true },
          { name: "connections", number: true },
          { name: "standing", wide: true },
          { name: "", end: true },
        ],
        Object.entries(row.sources).map(([name, one]) => ({
          key: name,
          cells: [
            link(["standing", name, row.name], name),
            one.standing ? one.standing.score.toFixed(2) : "–",
            pace(one.standing?.pace),
            tellConnections(one),
            drawThere(one),
            act(one.suspended ? "resume" : "suspend", { source: name, site: row.name }),
          ],
        })),
        "None.",
      ),
    ),
  ];
}

function drawThere(one) {
  const words = [];
  if (one.rest !== null)
    words.push(
      `not reached, rests ${span(one.rest)}${one.failures > 1 ? ` (failed ${one.failures} times)` : ""}`,
    );
  if (one.turn_waits !== null) words.push(`its turn waits ${span(one.turn_waits)}`);
  if (one.standing?.warmup) words.push(sayWarmup(one.standing.warmup));
  if (one.suspended) return [pill("suspended"), " ", one.suspended];
  const state = one.rest !== null ? "resting" : (one.standing?.state ?? "new");
  const text = one.standing && one.standing.text !== one.standing.state ? one.standing.text : "";
  return [pill(state), " ", [text, ...words].filter(Boolean).join("; ")];
}

/** One source at one site, over time. */
export function standing([source, site], query, go) {
  const window = WINDOWS.some(([value]) => value === query.window) ? query.window : "1h";
  return {
    title: `${source} at ${site}`,
    wanted: [
      { name: "standing", path: path(["standing"]), every: 4 },
      { name: "sites", path: path(["sites"]), every: 4 },
      { name: "history", path: path(["history", "standing"], { source, site, window }), every: 20 },
    ],
    draw(poll) {
      const cell = poll.data.standing?.cells.find((one) => one.source === source && one.site === site);
      const there = poll.data.sites?.sites.find((one) => one.name === site)?.sources[source];
      return [
        h(
          "div",
          { class: "title" },
          h("h1", null, link(["source", source], source), " at ", link(["site", site], site)),
          h("div", { class: "actions" }, act("suspend", { source, site }), act("resume", { source, site })),
        ),
        panel("Now", null, poll.data.standing ? drawCell(cell, there) : pending(poll.troubles.standing)),
        panel(
          "Over time",
          choice("Time shown", WINDOWS, window, (value) => go(["standing", source, site], { window: value })),
          drawHistory(poll),
        ),
        h(
          "p",
          { class: "foot" },
          h("a", { href: address(["events"], { site }) }, "events of this site, as they happen"),
        ),
      ];
    },
  };
}

function drawCell(cell, there) {
  if (!cell)
    return h("p", { class: "empty" }, "Nothing is known of it yet: it has sent nothing there lately.");
  const quarantine = there?.standing?.quarantine;
  return [
    h("p", { class: "why" }, pill(cell.state), " ", cell.text === cell.state ? null : cell.text),
    facts(
      ["score", cell.known ? cell.score.toFixed(2) : "not known yet"],
      ["pace", cell.pace === null ? "none: as fast as its rates allow" : pace(cell.pace)],
      ["connections", tellConnections(cell)],
      ["warm-up", cell.warmup ? sayWarmup(cell.warmup) : null],
      ["quarantined until", quarantine ? when(quarantine.until) : null],
      ["why", quarantine?.why ?? null],
    ),
  ];
}

function drawHistory(poll) {
  const { history } = poll.data;
  if (!history) return pending(poll.troubles.history);
  const chart = (label, values, rest) => [
    h("p", { class: "caption" }, label),
    h("div", {
      class: "plot",
      widget: Chart,
      data: {
        label,
        unit: "",
        start: history.start,
        step: history.step,
        height: 120,
        series: [{ name: label, tone: "accent", values, area: true }],
        ...rest,
      },
    }),
  ];
  return [
    chart("score", history.score, { max: 1 }),
    chart("pace, deliveries per second", history.pace, { unit: "/s" }),
    history.queued ? chart("queued for the site", history.queued, {}) : null,
  ];
}
