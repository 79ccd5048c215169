// Messages: a search, and one message's whole story.

import { act } from "../acting.js";
import { path } from "../api.js";
import { count, counted, octets, span, stamp, when } from "../format.js";
import { Pages } from "../pages.js";
import { facts, link, panel, pending, pill, table } from "../parts.js";
import { h } from "../tree.js";
import { tell } from "../words.js";

const FIELDS = [
  ["recipient", "recipient"],
  ["sender", "sender"],
  ["domain", "recipient domain"],
  ["message_id", "Message-ID"],
  ["id", "id"],
];
const OUTCOMES = [
  ["", "any outcome"],
  ["queued", "queued"],
  ["delivered", "delivered"],
  ["bounced", "bounced"],
];
const PAGE = 50;
const ID = /^[0-9A-HJKMNP-TV-Z]{24}(\.[0-9]+)?$/i;

/** Tell what somebody may mean who typed this: the fields of a search. */
export function guess(text) {
  const wanted = text.trim();
  if (ID.test(wanted)) return { id: wanted.toUpperCase().split(".")[0] };
  if (/^<.*>$/.test(wanted)) return { message_id: wanted };
  return { [wanted.includes("@") ? "recipient" : "domain"]: wanted };
}

/** The search; what is searched for stands in the address. */
export function messages(query, go) {
  const given = Object.fromEntries(
    ["recipient", "sender", "domain", "message_id", "id", "tenant", "outcome"].map((name) => [
      name,
      query[name] ?? "",
    ]),
  );
  const spell = (after) => path(["messages"], { ...given, limit: PAGE, after });
  const pages = new Pages(
    spell,
    (found) => found.messages,
    (one) => one.id,
  );
  return {
    title: "Messages",
    wanted: [{ name: "messages", path: spell(""), every: 5 }],
    draw(poll, redraw) {
      return [
        h("h1", null, "Messages"),
        drawForm(given, go),
        panel("Found", drawSince(poll.data.messages), drawFound(poll, pages, redraw)),
      ];
    },
  };
}

function drawForm(given, go) {
  const field = FIELDS.find(([name]) => given[name])?.[0] ?? "recipient";
  const send = (event) => {
    event.preventDefault();
    const form = new FormData(event.target);
    go(["messages"], {
      [form.get("field")]: form.get("text").trim(),
      outcome: form.get("outcome"),
      tenant: form.get("tenant").trim(),
    });
  };
  return h(
    "form",
    { class: "filter", role: "search", onsubmit: send },
    h(
      "label",
      null,
      h("span", null, "by"),
      h(
        "select",
        { name: "field", value: field },
        FIELDS.map(([value, text]) => h("option", { value }, text)),
      ),
    ),
    h(
      "label",
      { class: "grow" },
      h("span", null, "is (@example.com: whole domain)"),
      h("input", {
        name: "text",
        type: "search",
        value: given[field],
        autocomplete: "off",
        autocapitalize: "off",
        spellcheck: "false",
      }),
    ),
    h(
      "label",
      null,
      h("span", null, "outcome"),
      h(
        "select",
        { name: "outcome", value: given.outcome },
        OUTCOMES.map(([value, text]) => h("option", { value }, text)),
      ),
    ),
    h(
      "label",
      null,
      h("span", null, "tenant"),
      h("input", { name: "tenant", type: "search", value: given.tenant, autocomplete: "off" }),
    ),
    h("button", { type: "submit" }, "Search"),
  );
}

/** What was searched: from when on, and when nobody listened. */
function drawSince(found) {
  if (!found?.since) return null;
  const gaps = found.gaps ?? [];
  const title = gaps.map((gap) => `${stamp(gap.from)} to ${stamp(gap.to)}`).join("\n");
  return h(
    "span",
    { class: "dim" },
    "of all since ",
    when(found.since),
    gaps.length > 0 ? h("span", { title }, ` but for ${counted(gaps.length, "gap")}`) : null,
  );
}

function drawFound(poll, pages, redraw) {
  const first = poll.data.messages;
  if (!first) return pending(poll.troubles.messages);
  return [
    table(
      "Messages",
      [
        { name: "id", main: true },
        { name: "accepted" },
        { name: "tenant" },
        { name: "sender" },
        { name: "to" },
        { name: "size", number: true },
        { name: "outcome" },
        { name: "Message-ID" },
      ],
      pages.join(first).map((one) => ({
        key: one.id,
        cells: [
          link(["message", one.id], h("code", { class: "whole" }, one.id)),
          when(one.time),
          one.tenant,
          tellSender(one.sender),
          `${counted(one.recipients, "recipient")}${one.domains?.length ? ` at ${one.domains.slice(0, 3).join(", ")}${one.domains.length > 3 ? " …" : ""}` : ""}`,
          octets(one.size),
          pill(one.outcome),
          h("span", { class: "break" }, one.message_id ?? ""),
        ],
      })),
      "No message like that is known.",
    ),
    h("p", { class: "foot" }, pages.drawMore(first, redraw)),
  ];
}

/** Return a sender; null: what is known of the message does not say. */
function tellSender(sender) {
  return sender === null ? "?" : sender || "<>";
}

/** One message. */
export function message([id]) {
  return {
    title: `Message ${id}`,
    wanted: [{ name: "story", path: path(["messages", id]), every: 2 }],
    draw(poll) {
      const { story } = poll.data;
      const title = h("h1", null, "Message ", h("code", null, id));
      if (!story) return [title, pending(poll.troubles.story)];
      const isQueued = story.now.length > 0;
      return [
        h(
          "div",
          { class: "title" },
          title,
          isQueued
            ? h(
                "div",
                { class: "actions" },
                ["retry", "hold", "bounce"].map((verb) => act(verb, { ids: [id] })),
              )
            : null,
        ),
        drawAbout(story),
        panel(
          "Now",
          null,
          isQueued
            ? story.now.map(drawPlace)
            : h("p", { class: "why" }, pill("ended", { tone: "good" }), " nothing of it is queued"),
        ),
        panel(
          "Story",
          h("span", { class: "dim" }, counted(story.events.length, "event")),
          h("ol", { class: "story" }, story.events.map(drawEvent)),
        ),
      ];
    },
  };
}

function drawAbout(story) {
  const accepted = story.events.find((event) => event.event === "accepted");
  if (!accepted) return null;
  return panel(
    "Message",
    null,
    facts(
      ["accepted", [stamp(accepted.time), ", ", when(accepted.time)]],
      ["tenant", accepted.tenant],
      ["sender", accepted.sender || "<>"],
      ["recipients", drawPeople(accepted.recipients)],
      ["size", octets(accepted.size)],
      ["Message-ID", accepted.message_id ? h("span", { class: "break" }, accepted.message_id) : null],
      [
        "from",
        accepted.client
          ? `${accepted.client}${accepted.hello ? ` (${accepted.hello})` : ""}`
          : "written by outgate",
      ],
      ["TLS", accepted.client ? accepted.tls || "in clear" : null],
      ["proof", accepted.proof ?? null],
    ),
  );
}

function drawPeople(people) {
  return (
    people.slice(0, 10).join(", ") + (people.length > 10 ? ` and ${count(people.length - 10)} more` : "")
  );
}

function drawPlace(place) {
  const ahead =
    place.state !== "ready"
      ? ""
      : place.before == null
        ? "; many before it"
        : `; ${count(place.before)} before it`;
  const tried = `; ${counted(place.attempts, "attempt")} so far`;
  return h(
    "p",
    { class: "why", key: place.delivery },
    pill(place.why),
    " ",
    place.domain,
    place.site && place.site !== place.domain
      ? [" (site ", link(["site", place.site], place.site), ")"]
      : null,
    `: ${place.text}${ahead}${place.source ? `; source ${place.source} must send it` : ""}${tried}`,
    place.wait === null ? null : h("span", { class: "dim" }, `; waits ${span(place.wait)}`),
  );
}

function drawEvent(event, at) {
  const people = (event.recipients ?? []).filter((one) => typeof one === "object");
  return h(
    "li",
    { key: at, class: "event" },
    h(
      "time",
      { datetime: new Date(event.time * 1000).toISOString(), title: stamp(event.time) },
      stamp(event.time).slice(5),
    ),
    h(
      "div",
      null,
      h("p", null, pill(event.event), " ", tell(event)),
      people.length > 0
        ? h(
            "ul",
            { class: "replies" },
            people.map((one) =>
              h(
                "li",
                null,
                pill(one.outcome),
                ` ${one.address} `,
                one.command ? h("span", { class: "dim" }, `to ${one.command}: `) : null,
                h("q", null, `${one.code ? `${one.code} ` : ""}${one.text ?? ""}`),
                one.label ? h("span", { class: "dim" }, ` read as ${one.label}`) : null,
              ),
            ),
          )
        : null,
      h("details", null, h("summary", null, "all of it"), h("pre", null, JSON.stringify(event, null, 2))),
    ),
  );
}
