// What waits: all queues, and one of them with its deliveries.

import { act } from "../acting.js";
import { get, path } from "../api.js";
import { count, counted, span, when } from "../format.js";
import { age, bar, facts, freshness, link, panel, pending, pill, table } from "../parts.js";
import { h } from "../tree.js";

const PAGE = 100;

/** All queues, the largest first; `query`: tenant, domain, site. */
export function queues(query, go) {
  const chosen = { tenant: query.tenant ?? "", domain: query.domain ?? "", site: query.site ?? "" };
  let limit = PAGE;
  return {
    title: "Queues",
    wanted: [{ name: "queues", path: path(["queues"], { ...chosen, limit }), every: 2 }],
    draw(poll) {
      const { queues: found } = poll.data;
      const more = () => { limit += PAGE; poll.turn("queues", path(["queues"], { ...chosen, limit })); };
      return [
        h("div", { class: "title" }, h("h1", null, "Queues"), drawActions(chosen)),
        drawFilter(chosen, go),
        panel("What waits", found ? freshness(found.at) : null,
          found ? [drawTable(found), drawRest(found, more)] : pending(poll.troubles.queues)),
      ];
    },
  };
}

function drawActions(chosen) {
  const target = Object.fromEntries(Object.entries(chosen).filter(([, value]) => value));
  if (Object.keys(target).length === 0) return null;
  return h("div", { class: "actions" }, ["retry", "hold", "bounce"].map((verb) => act(verb, target)));
}

function drawFilter(chosen, go) {
  const send = (event) => {
    event.preventDefault();
    go(["queues"], Object.fromEntries([...new FormData(event.target)].map(([name, value]) => [name, value.trim()])));
  };
  return h("form", { class: "filter", role: "search", onsubmit: send },
    ["tenant", "domain", "site"].map((name) => h("label", null, h("span", null, name),
      h("input", { name, type: "search", value: chosen[name], autocomplete: "off", spellcheck: "false" }))),
    h("button", { type: "submit" }, "Show"));
}

/** The rows of /queues, as a table. */
export function drawTable(found) {
  const sum = (row) => row.ready + row.due + row.claimed;
  const most = Math.max(...found.queues.map(sum));
  return table("Queues", [
    { name: "domain", main: true }, { name: "tenant" }, { name: "queued", number: true }, { name: "" }, { name: "ready", number: true },
    { name: "later", number: true }, { name: "in hand", number: true }, { name: "oldest", number: true }, { name: "site" },
    { name: "why it waits", wide: true },
  ], found.queues.map((row) => ({ key: `${row.tenant} ${row.domain}`, cells: [
    link(["queue", row.tenant, row.domain], row.domain), row.tenant, count(sum(row)), bar(sum(row), most),
    count(row.ready), count(row.due), count(row.claimed),
    age(row.oldest), row.site ? link(["site", row.site], row.site) : "?", [pill(row.why), " ", row.text, drawOdd(row)],
  ] })), "Nothing waits.");
}

function drawOdd(row) {
  const odd = row.priorities.filter((name) => name !== "normal");
  return [
    row.pinned.length > 0 ? h("span", { class: "dim" }, ` (some pinned to ${row.pinned.join(", ")})`) : null,
    odd.length > 0 ? h("span", { class: "dim" }, ` [${odd.join(", ")}]`) : null,
  ];
}

function drawRest(found, more) {
  const { total } = found;
  return h("p", { class: "foot" },
    `${counted(total.queues, "queue")}: ${count(total.ready)} ready, ${count(total.due)} later, ${count(total.claimed)} in hand `,
    found.next || found.not_shown > 0 ? h("button", { type: "button", onclick: more }, `Show more (${count(found.not_shown)} left)`) : null,
    found.complete === false ? "There are more queues than are counted here: filter by tenant, domain or site." : null);
}

/** One queue. */
export function queue([tenant, domain]) {
  const place = new Pages(["queues", tenant, domain]);
  return {
    title: domain,
    wanted: [
      { name: "queues", path: path(["queues"], { tenant, domain, limit: 1 }), every: 2 },
      { name: "deliveries", path: path(["queues", tenant, domain], { limit: PAGE }), every: 4 },
    ],
    draw(poll, redraw) {
      const row = poll.data.queues?.queues[0];
      return [
        h("div", { class: "title" }, h("h1", null, domain),
          h("div", { class: "actions" }, ["retry", "hold", "suspend", "resume", "bounce"].map((verb) => act(verb, { tenant, domain })))),
        panel("Queue", freshness(poll.data.queues?.at), row ? drawRow(row) : poll.data.queues
          ? h("p", { class: "empty" }, "Nothing waits in it.") : pending(poll.troubles.queues)),
        panel("Deliveries", null, drawDeliveries(poll, place, redraw)),
      ];
    },
  };
}

function drawRow(row) {
  return [
    h("p", { class: "why" }, pill(row.why), " ", row.text, drawOdd(row)),
    facts(["tenant", link(["tenants"], row.tenant)], ["site", row.site ? link(["site", row.site], row.site) : "being looked up"],
      ["ready", count(row.ready)], ["later", count(row.due)], ["in workers' hands", count(row.claimed)], ["oldest", age(row.oldest)],
      ["next due", row.next_due === null ? null : `in ${span(row.next_due)}`], ["opens", row.opens === null ? null : `in ${span(row.opens)}`],
      ["pools", row.pools.join(", ")]),
  ];
}

/** Pages behind the first, which is kept fresh by itself; they are asked for when somebody wants them. */
class Pages {
  constructor(parts) {
    this.parts = parts;
    this.rows = [];
    this.next = undefined;
    this.trouble = "";
  }

  async turn(first, redraw) {
    const after = this.next === undefined ? first : this.next;
    try {
      const found = await get(path(this.parts, { limit: PAGE, after }));
      this.rows.push(...found.deliveries);
      this.next = found.next;
      this.trouble = "";
    } catch (trouble) {
      this.trouble = trouble.message;
    }
    redraw();
  }
}

function drawDeliveries(poll, place, redraw) {
  const first = poll.data.deliveries;
  if (!first) return pending(poll.troubles.deliveries);
  const seen = new Set();
  const rows = [...first.deliveries, ...place.rows].filter((one) => !seen.has(one.id) && seen.add(one.id));
  const next = place.next === undefined ? first.next : place.next;
  return [
    table("Deliveries", [
      { name: "message", main: true }, { name: "state" }, { name: "accepted" }, { name: "attempts", number: true }, { name: "until" },
      { name: "recipients", wide: true },
    ], rows.map((one) => ({ key: one.id, cells: [
      link(["message", one.message], h("code", { class: "whole" }, one.id)), pill(one.state), when(one.accepted), count(one.attempts),
      one.until ? when(one.until) : "–", drawPeople(one.recipients),
    ] })), "None."),
    place.trouble ? h("p", { class: "trouble", role: "alert" }, place.trouble) : null,
    next ? h("p", { class: "foot" }, h("button", { type: "button", onclick: () => place.turn(first.next, redraw) }, "Show more")) : null,
  ];
}

function drawPeople(people) {
  if (Array.isArray(people)) return people.slice(0, 3).join(", ") + (people.length > 3 ? ` and ${count(people.length - 3)} more` : "");
  return people === undefined || people === null ? "–" : count(people);
}
