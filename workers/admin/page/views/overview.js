// The first page: what flows, what waits and why, how sources stand, who sends, what is wrong.

import { act, readTarget } from "../acting.js";
import { path } from "../api.js";
import { Chart, Spark } from "../chart.js";
import { count, counted, digits, isNumber, octets, pace, when } from "../format.js";
import { heat } from "../heat.js";
import {
  address,
  age,
  bar,
  choice,
  facts,
  freshness,
  link,
  panel,
  pending,
  pill,
  shares,
  table,
} from "../parts.js";
import { h } from "../tree.js";
import { drawState as drawTenantState } from "./tenants.js";

const WINDOWS = [
  ["15m", "15 min"],
  ["1h", "1 h"],
  ["6h", "6 h"],
  ["1d", "1 d"],
  ["7d", "7 d"],
];
export const TONES = {
  accepted: "accent",
  delivered: "good",
  deferred: "warn",
  bounced: "bad",
  refused: "plain",
};
const KEPT = 8; // looks at the ledger, for what flows just now: 16 s

export function overview(query, go) {
  const window = WINDOWS.some(([value]) => value === query.window) ? query.window : "15m";
  const speed = new Speed();
  return {
    title: "Overview",
    wanted: [
      { name: "status", path: path(["status"]), every: 2 },
      { name: "queues", path: path(["queues"], { limit: 100 }), every: 4 },
      { name: "sites", path: path(["sites"]), every: 4 },
      { name: "standing", path: path(["standing"]), every: 4 },
      { name: "tenants", path: path(["tenants"]), every: 4 },
      { name: "bounced", path: path(["messages"], { outcome: "bounced", limit: 6 }), every: 10 },
      { name: "flow", path: path(["flow"], { window }), every: window === "15m" ? 4 : 20 },
    ],
    draw(poll) {
      const { status, flow } = poll.data;
      if (!status) return pending(poll.troubles.status);
      speed.look(status, poll.times.status);
      const isNew = status.ledger.accepted === 0 && status.notices.accepted === 0;
      return [
        h("h1", { class: "unseen" }, "Overview"),
        drawWrong(status),
        isNew ? drawWelcome(poll.data) : null,
        h("div", { class: "tiles" }, drawTiles(status, flow, speed, poll.data.queues)),
        h(
          "div",
          { class: "columns" },
          panel(
            "Flow",
            choice("Time shown", WINDOWS, window, (value) => go([], { window: value })),
            drawFlow(poll),
          ),
          h("div", { class: "stack" }, panel("TLS", null, drawTls(poll)), drawBounced(poll)),
        ),
        panel("What waits, by site", link(["queues"], "all queues"), drawBacklog(poll)),
        panel("Sources × sites", link(["sources"], "all sources"), drawHeat(poll)),
        panel("Tenants", link(["tenants"], "all tenants"), drawTenants(poll)),
      ];
    },
  };
}

/** What flows just now, from the ledger's own figures, which are exact, over some seconds. */
class Speed {
  constructor() {
    this.looks = [];
  }

  look({ ledger }, at) {
    if (this.looks.at(-1)?.at === at) return;
    this.looks.push({ at, accepted: ledger.accepted, delivered: ledger.delivered, bounced: ledger.bounced });
    if (this.looks.length > KEPT) this.looks.shift();
  }

  read(name) {
    const [first, last] = [this.looks[0], this.looks.at(-1)];
    if (this.looks.length < 2 || last[name] < first[name]) return null;
    return ((last[name] - first[name]) * 1000) / (last.at - first.at);
  }
}

// -- figures ---------------------------------------------------------------------------------------

function drawTiles(status, flow, speed, queues) {
  const { ledger, notices, deliveries } = status;
  const latest = (name) => flow?.series[name]?.findLast(isNumber) ?? null;
  const rate = (name) => speed.read(name) ?? latest(name);
  const spark = (name) =>
    h("div", { widget: Spark, data: { values: flow?.series[name] ?? [], tone: TONES[name] } });
  const told = notices.accepted > 0 ? `; ${counted(notices.accepted, "notice")} to senders` : "";
  const bounced = `${count(ledger.bounced)} in all${told}`;
  const twice = ledger.unknown > 0 ? `; ${count(ledger.unknown)} may have arrived twice` : "";
  const front = queues?.queues.filter((row) => row.oldest !== null).sort((a, b) => b.oldest - a.oldest)[0];
  return [
    tile(
      "accepted",
      "Accepted",
      pace(rate("accepted")),
      `${counted(ledger.accepted, "recipient")} in all`,
      spark("accepted"),
    ),
    tile(
      "delivered",
      "Delivered",
      pace(rate("delivered")),
      `${count(ledger.delivered)} in all`,
      spark("delivered"),
    ),
    tile(
      "deferred",
      "Deferred",
      pace(latest("deferred")),
      "put off by receivers, tried again",
      spark("deferred"),
    ),
    tile("bounced", "Bounced", pace(rate("bounced")), bounced, spark("bounced")),
    tile(
      "queued",
      "Queued",
      count(ledger.queued),
      `${count(deliveries.ready)} ready, ${count(deliveries.due)} later, ${count(deliveries.claimed)} in hand`,
      h("div", { widget: Spark, data: { values: flow?.queued ?? [], tone: "accent" } }),
    ),
    tile(
      "oldest",
      "Oldest",
      deliveries.oldest === null ? "–" : age(deliveries.oldest),
      front ? ["in ", link(["queue", front.tenant, front.domain], front.domain)] : "nothing waits",
    ),
    tile(
      "ledger",
      "Ledger",
      status.adds_up
        ? h("span", { class: "good" }, "adds up")
        : h("span", { class: "bad" }, "does not add up"),
      `accepted = delivered + bounced + queued${twice}`,
    ),
  ];
}

function tile(id, name, value, text, drawing = null) {
  return h(
    "div",
    { class: `tile ${id}`, key: id },
    h("h2", null, name),
    h("p", { class: "value" }, value),
    h("p", { class: "text" }, text),
    drawing,
  );
}

function drawFlow(poll) {
  const { flow } = poll.data;
  if (!flow) return pending(poll.troubles.flow);
  const series = Object.entries(TONES)
    .filter(([name]) => name !== "refused" || flow.series.refused?.some((value) => value > 0))
    .map(([name, tone]) => ({ name, tone, values: flow.series[name] ?? [] }));
  return [
    h(
      "ul",
      { class: "key" },
      series.map((one) => h("li", null, h("i", { class: `dot ${one.tone}` }), one.name)),
      h("li", { class: "dim" }, "recipients per second"),
    ),
    h("div", {
      class: "plot",
      widget: Chart,
      data: { label: "Flow", unit: "/s", start: flow.start, step: flow.step, series, height: 190 },
    }),
    h("p", { class: "caption" }, "queued"),
    h("div", {
      class: "plot",
      widget: Chart,
      data: {
        label: "Queued",
        unit: "",
        start: flow.start,
        step: flow.step,
        height: 96,
        format: compact,
        whole: true,
        series: [{ name: "queued", tone: "accent", values: flow.queued, area: true }],
      },
    }),
  ];
}

function compact(number) {
  if (number >= 1e6) return `${digits(Math.round(number / 1e4) / 100)} M`;
  return number >= 1e4 ? `${digits(Math.round(number / 100) / 10)} k` : count(number);
}

const LEVELS = { verified: "good", opportunistic: "warn", clear: "bad" };
const VERSIONS = { "TLSv1.3": "good", "TLSv1.2": "accent", clear: "bad", none: "bad" };

function drawTls(poll) {
  const { flow } = poll.data;
  if (!flow) return pending(poll.troubles.flow);
  const list = (found, tones) =>
    Object.entries(found ?? {}).map(([name, amount]) => ({ name, amount, tone: tones[name] ?? "plain" }));
  return [
    h("h3", null, "to receivers"),
    shares("To receivers", list(flow.tls.out, LEVELS)),
    h("h3", null, "from senders"),
    shares("From senders", list(flow.tls.in, VERSIONS)),
  ];
}

/** What came back last; without an index of messages there is no such list. */
function drawBounced(poll) {
  const { bounced } = poll.data;
  if (!bounced) return null;
  const all = h("a", { href: address(["messages"], { outcome: "bounced" }) }, "all of them");
  return panel(
    "Bounced lately",
    bounced.messages.length > 0 ? all : null,
    bounced.messages.length === 0
      ? h("p", { class: "empty small" }, "Nothing.")
      : h(
          "ul",
          { class: "lately" },
          bounced.messages.map((one) =>
            h(
              "li",
              { key: one.id },
              link(["message", one.id], one.domains.join(", ") || one.id),
              when(one.time),
            ),
          ),
        ),
  );
}

// -- what waits ------------------------------------------------------------------------------------

function drawBacklog(poll) {
  const { sites, queues } = poll.data;
  if (!sites || !queues) return pending(poll.troubles.sites ?? poll.troubles.queues);
  const rows = sites.sites.filter((site) => site.queued > 0).slice(0, 12);
  const homeless = queues.queues.filter((row) => !row.site);
  if (homeless.length > 0) {
    rows.push({
      name: "",
      queued: homeless.reduce((sum, row) => sum + row.ready + row.due + row.claimed, 0),
      queues: homeless.length,
    });
  }
  const most = Math.max(...rows.map((row) => row.queued));
  return [
    table(
      "What waits, by site",
      [
        { name: "site", main: true },
        { name: "queued", number: true },
        { name: "" },
        { name: "oldest", number: true },
        { name: "queues", number: true },
        { name: "why it waits", wide: true },
      ],
      rows.map((site) => {
        const there = queues.queues.filter((row) => row.site === site.name);
        const oldest = Math.max(-1, ...there.map((row) => row.oldest ?? -1));
        return {
          key: site.name,
          cells: [
            site.name
              ? link(["site", site.name], site.name)
              : h("span", { class: "dim" }, "site not known yet"),
            count(site.queued),
            bar(site.queued, most),
            oldest < 0 ? "–" : age(oldest),
            count(site.queues),
            drawWhy(there, site),
          ],
        };
      }),
      "Nothing waits.",
    ),
    queues.at ? h("p", { class: "foot" }, freshness(queues.at)) : null,
  ];
}

/** The reasons of a site's queues, that of most mail first; one says it in full. */
function drawWhy(rows, site) {
  if (site.suspended) return [pill("suspended"), " ", site.suspended];
  const reasons = new Map();
  for (const row of rows) {
    const one = reasons.get(row.why) ?? { why: row.why, text: row.text, amount: 0 };
    one.amount += row.ready + row.due + row.claimed;
    reasons.set(row.why, one);
  }
  const [first, ...rest] = [...reasons.values()].sort((a, b) => b.amount - a.amount);
  if (!first) return h("span", { class: "dim" }, "small queues, not looked at");
  return [
    pill(first.why),
    " ",
    first.text,
    rest.length > 0
      ? h(
          "span",
          { class: "dim" },
          `; also ${rest.map((one) => `${one.why} (${count(one.amount)})`).join(", ")}`,
        )
      : null,
  ];
}

function drawHeat(poll) {
  const { standing } = poll.data;
  return standing ? heat(standing) : pending(poll.troubles.standing);
}

function drawTenants(poll) {
  const { tenants } = poll.data;
  if (!tenants) return pending(poll.troubles.tenants);
  const rows = [...tenants].sort((a, b) => b.queued - a.queued).slice(0, 8);
  const most = Math.max(...rows.map((row) => row.queued));
  return table(
    "Tenants",
    [
      { name: "tenant", main: true },
      { name: "queued", number: true },
      { name: "" },
      { name: "state" },
      { name: "domains", wide: true },
    ],
    rows.map((row) => ({
      key: row.name,
      cells: [
        h("a", { href: address(["queues"], { tenant: row.name }) }, row.name),
        count(row.queued),
        bar(row.queued, most),
        drawTenantState(row),
        row.domains.join(", "),
      ],
    })),
    "No tenants are configured.",
  );
}

// -- what is wrong, and what to begin with ---------------------------------------------------------

function drawWrong(status) {
  const gone = Object.entries(status.sources)
    .filter(([, alive]) => !alive)
    .map(([name]) => name);
  const { memory, memory_limit: limit } = status.store;
  const found = [
    ...status.store.weaknesses.map((text) => problem("bad", `The store can lose acknowledged mail: ${text}`)),
    ...status.ready.why.map((text) => problem("bad", `Not ready: ${text}`)),
    status.workers === 0
      ? problem("bad", "No worker is alive: nothing is sent. Start one: outgate worker")
      : null,
    gone.length > 0 && status.workers > 0
      ? problem("bad", [
          "No worker that is alive has ",
          gone.map((name, at) => [at > 0 ? ", " : "", link(["source", name], name)]),
        ])
      : null,
    limit && memory > 0.9 * limit
      ? problem("bad", `The store is nearly full: ${octets(memory)} of ${octets(limit)}`)
      : null,
    ...status.suspensions.map((one) =>
      problem("stop", one.text, act("resume", readTarget(one.what === "everything" ? "" : one.what))),
    ),
    ...Object.entries(status.tenants)
      .filter(([, one]) => one.state)
      .map(([name, one]) =>
        problem(
          "warn",
          [`Tenant ${name} is ${one.state === "hold" ? "held" : "slowed"}: ${one.reason}`],
          act("resume", { tenant: name }),
        ),
      ),
    ...status.certificates
      .filter((one) => one.days < 14 && !status.ready.why.some((why) => why.includes(one.text)))
      .map((one) => problem("warn", `${one.text}: renew it`)),
  ].filter(Boolean);
  return found.length > 0 ? h("ul", { class: "wrong", "aria-label": "What needs a look" }, found) : null;
}

function problem(tone, text, side = null) {
  return h("li", { class: tone }, h("span", null, text), side);
}

/** No mail yet: say how to send the first. */
function drawWelcome({ tenants, status }) {
  const domain = tenants?.[0]?.domains?.[0] ?? "your.example";
  const listen = status.listen?.[0] ?? "127.0.0.1:2525";
  return panel(
    "No mail yet",
    null,
    h("p", null, "Everything is up, and nothing has been sent. Send a first message through the gateway:"),
    h("pre", null, `swaks --server ${listen} --from you@${domain} --to somebody@example.com`),
    h(
      "p",
      null,
      "It shows up here within seconds, whatever becomes of it; ",
      link(["events"], "the events"),
      " tell each step. The address must be one of a tenant's: its network and the sender's domain. ",
      "If the answer is 550, the event says why.",
    ),
    facts(
      ["sources", Object.keys(status.sources).join(", ")],
      ["tenants", (tenants ?? []).map((one) => one.name).join(", ")],
      ["workers", count(status.workers)],
    ),
  );
}
