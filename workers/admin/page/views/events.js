// Events as they happen: what `outgate tail` prints.

import { path } from "../api.js";
import { count, stamp } from "../format.js";
import { Stream } from "../live.js";
import { link, panel, pill } from "../parts.js";
import { h } from "../tree.js";
import { tell } from "../words.js";

const SHOWN = 200;
const FIELDS = ["event", "tenant", "domain", "site", "id"];
const COMMON = [
  "accepted",
  "refused",
  "delivered",
  "deferred",
  "bounced",
  "suspended",
  "resumed",
  "slowed",
  "quarantined",
  "released",
];

export function events(query, go, redraw) {
  const chosen = Object.fromEntries(FIELDS.map((name) => [name, query[name] ?? ""]));
  const heard = { rows: [], state: "opening", missed: 0, total: 0, paused: false };
  let number = 0;
  const stream = new Stream(
    path(["events"], chosen),
    (found) => {
      heard.total += found.length;
      if (heard.paused) return;
      for (const event of found) heard.rows.unshift({ key: (number += 1), event });
      heard.rows.length = Math.min(SHOWN, heard.rows.length);
      redraw();
    },
    (state, many) => {
      if (state === "missed") heard.missed += many;
      else heard.state = state;
      redraw();
    },
  );
  return {
    title: "Events",
    wanted: [{ name: "status", path: path(["status"]), every: 5 }], // whether all is well
    stop: () => stream.stop(),
    draw() {
      return [
        h("h1", null, "Events"),
        drawFilter(chosen, go),
        panel(
          "As they happen",
          drawSide(heard, redraw),
          heard.rows.length === 0
            ? h(
                "p",
                { class: "empty" },
                heard.state === "open"
                  ? "Nothing has happened since."
                  : heard.state === "lost"
                    ? "The stream broke off; it is asked for again every 3 s."
                    : "Opening …",
              )
            : h("ol", { class: "story tail", "aria-live": "off" }, heard.rows.map(drawRow)),
        ),
      ];
    },
  };
}

function drawFilter(chosen, go) {
  const send = (event) => {
    event.preventDefault();
    go(
      ["events"],
      Object.fromEntries([...new FormData(event.target)].map(([name, value]) => [name, value.trim()])),
    );
  };
  return h(
    "form",
    { class: "filter", role: "search", onsubmit: send },
    FIELDS.map((name) =>
      h(
        "label",
        null,
        h("span", null, name),
        h("input", {
          name,
          type: "search",
          value: chosen[name],
          list: name === "event" ? "names" : null,
          autocomplete: "off",
          spellcheck: "false",
        }),
      ),
    ),
    h(
      "datalist",
      { id: "names" },
      COMMON.map((name) => h("option", { value: name })),
    ),
    h("button", { type: "submit" }, "Filter"),
  );
}

function drawSide(heard, redraw) {
  const pause = () => {
    heard.paused = !heard.paused;
    redraw();
  };
  return [
    h(
      "span",
      { class: "dim" },
      `${count(heard.total)} heard${heard.missed > 0 ? `, ${count(heard.missed)} missed` : ""} `,
    ),
    h(
      "button",
      { type: "button", "aria-pressed": String(heard.paused), onclick: pause },
      heard.paused ? "Go on" : "Pause",
    ),
  ];
}

function drawRow({ key, event }) {
  return h(
    "li",
    { key, class: "event" },
    h(
      "time",
      { datetime: new Date(event.time * 1000).toISOString(), title: stamp(event.time) },
      stamp(event.time).slice(11),
    ),
    h(
      "div",
      null,
      h(
        "p",
        null,
        pill(event.event),
        " ",
        event.id ? [link(["message", event.id], h("code", null, event.id)), " "] : null,
        tell(event),
        said(event),
      ),
    ),
  );
}

/** What the host said, of the first recipient. */
function said(event) {
  const first = (event.recipients ?? []).find((one) => typeof one === "object");
  return first?.text ? [" ", h("q", null, `${first.code ? `${first.code} ` : ""}${first.text}`)] : null;
}
