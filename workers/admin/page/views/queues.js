// What waits: all queues, and one of them with its deliveries.

import { act } from "../acting.js";
import { path } from "../api.js";
import { count, counted, octets, span, when } from "../format.js";
import { Pages } from "../pages.js";
import { age, bar, facts, freshness, link, panel, pending, pill, table } from "../parts.js";
import { h } from "../tree.js";

const PAGE = 100;

/** All queues, the largest first; `query`: tenant, domain, site. */
export function queues(query, go) {
  const chosen = { tenant: query.tenant ?? "", domain: query.domain ?? "", site: query.site ?? "" };
  const spell = (after) => path(["queues"], { ...chosen, limit: PAGE, after });
  const pages = new Pages(
    spell,
    (found) => found.queues,
    (row) => `${row.tenant} ${row.domain}`,
  );
  return {
    title: "Queues",
    wanted: [{ name: "queues", path: spell(""), every: 2 }],
    draw(poll, redraw) {
      const { queues: found } = poll.data;
      return [
        h("div", { class: "title" }, h("h1", null, "Queues"), drawActions(chosen)),
        drawFilter(chosen, go),
        panel(
          "What waits",
          found ? freshness(found.at) : null,
          found
            ? [drawTable(pages.join(found)), drawRest(found, pages, redraw)]
            : pending(poll.troubles.queues),
        ),
      ];
    },
  };
}

function drawActions(chosen) {
  const target = Object.fromEntries(Object.entries(chosen).filter(([, value]) => value));
  if (Object.keys(target).length === 0) return null;
  return h(
    "div",
    { class: "actions" },
    ["retry", "hold", "bounce"].map((verb) => act(verb, target)),
  );
}

function drawFilter(chosen, go) {
  const send = (event) => {
    event.preventDefault();
    go(
      ["queues"],
      Object.fromEntries([...new FormData(event.target)].map(([name, value]) => [name, value.trim()])),
    );
  };
  return h(
    "form",
    { class: "filter", role: "search", onsubmit: send },
    ["tenant", "domain", "site"].map((name) =>
      h(
        "label",
        null,
        h("span", null, name),
        h("input", { name, type: "search", value: chosen[name], autocomplete: "off", spellcheck: "false" }),
      ),
    ),
    h("button", { type: "submit" }, "Show"),
  );
}

/** The rows of /queues, as a table. */
export function drawTable(rows) {
  const sum = (row) => row.ready + row.due + row.claimed;
  const most = Math.max(...rows.map(sum));
  return table(
    "Queues",
    [
      { name: "domain", main: true },
      { name: "tenant" },
      { name: "queued", number: true },
      { name: "" },
      { name: "ready", number: true },
      { name: "later", number: true },
      { name: "in hand", number: true },
      { name: "oldest", number: true },
      { name: "site" },
      { name: "why it waits", wide: true },
    ],
    rows.map((row) => ({
      key: `${row.tenant} ${row.domain}`,
      cells: [
        link(["queue", row.tenant, row.domain], row.domain),
        row.tenant,
        count(sum(row)),
        bar(sum(row), most),
        count(row.ready),
        count(row.due),
        count(row.claimed),
        age(row.oldest),
        row.site ? link(["site", row.site], row.site) : "?",
        [pill(row.why), " ", row.text, drawOdd(row)],
      ],
    })),
    "Nothing waits.",
  );
}

function drawOdd(row) {
  const odd = row.priorities.filter((name) => name !== "normal");
  return [
    row.pinned.length > 0 ? h("span", { class: "dim" }, ` (some pinned to ${row.pinned.join(", ")})`) : null,
    odd.length > 0 ? h("span", { class: "dim" }, ` [${odd.join(", ")}]`) : null,
  ];
}

function drawRest(found, pages, redraw) {
  const { total } = found;
  const left = total.queues - pages.join(found).length;
  return h(
    "p",
    { class: "foot" },
    `${counted(total.queues, "queue")}: ${count(total.ready)} ready, ${count(total.due)} later, ${count(total.claimed)} in hand `,
    pages.drawMore(found, redraw, count(left)),
    found.complete === false
      ? "There are more queues than are counted here: filter by tenant, domain or site."
      : null,
  );
}

/** One queue. */
export function queue([tenant, domain]) {
  const spell = (after) => path(["queues", tenant, domain], { limit: PAGE, after });
  const pages = new Pages(
    spell,
    (found) => found.deliveries,
    (one) => one.id,
  );
  return {
    title: domain,
    wanted: [
      { name: "queues", path: path(["queues"], { tenant, domain, limit: 1 }), every: 2 },
      { name: "deliveries", path: spell(""), every: 4 },
    ],
    draw(poll, redraw) {
      const row = poll.data.queues?.queues[0];
      return [
        h(
          "div",
          { class: "title" },
          h("h1", null, domain),
          h(
            "div",
            { class: "actions" },
            ["retry", "hold", "suspend", "resume", "bounce"].map((verb) => act(verb, { tenant, domain })),
          ),
        ),
        panel(
          "Queue",
          freshness(poll.data.queues?.at),
          row
            ? drawRow(row)
            : poll.data.queues
              ? h("p", { class: "empty" }, "Nothing waits in it.")
              : pending(poll.troubles.queues),
        ),
        panel("Deliveries", null, drawDeliveries(poll, pages, redraw)),
      ];
    },
  };
}

function drawRow(row) {
  return [
    h("p", { class: "why" }, pill(row.why), " ", row.text, drawOdd(row)),
    facts(
      ["tenant", link(["tenants"], row.tenant)],
      ["site", row.site ? link(["site", row.site], row.site) : "being looked up"],
      ["ready", count(row.ready)],
      ["later", count(row.due)],
      ["in workers' hands", count(row.claimed)],
      ["oldest", age(row.oldest)],
      ["next due", row.next_due === null ? null : `in ${span(row.next_due)}`],
      ["opens", row.opens === null ? null : `in ${span(row.opens)}`],
      ["pools", row.pools.join(", ")],
    ),
  ];
}

function drawDeliveries(poll, pages, redraw) {
  const first = poll.data.deliveries;
  if (!first) return pending(poll.troubles.deliveries);
  return [
    table(
      "Deliveries",
      [
        { name: "message", main: true },
        { name: "state" },
        { name: "accepted" },
        { name: "attempts", number: true },
        { name: "until" },
        { name: "size", number: true },
        { name: "sender" },
        { name: "recipients", wide: true },
      ],
      pages.join(first).map((one) => ({
        key: one.id,
        cells: [
          link(["message", one.message], h("code", { class: "whole" }, one.id)),
          pill(one.state),
          when(one.accepted),
          count(one.attempts),
          one.until ? when(one.until) : "–",
          octets(one.size),
          one.sender || "<>",
          drawPeople(one),
        ],
      })),
      "None.",
    ),
    h("p", { class: "foot" }, pages.drawMore(first, redraw)),
  ];
}

function drawPeople({ recipients, recipient_count: all }) {
  const shown = recipients.slice(0, 3);
  return shown.join(", ") + (all > shown.length ? ` and ${count(all - shown.length)} more` : "");
}
