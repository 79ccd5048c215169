// Parts that several views are made of.

import { count, span, when } from "./format.js";
import { h } from "./tree.js";

/** What a state means, for its colour: of queues' reasons, standings, cells, outcomes, checks. */
const TONES = {
  bad: [
    "quarantined",
    "quarantine",
    "bounced",
    "bounced-by-operator",
    "lost",
    "refused",
    "unserved",
    "hold",
    "nowhere",
    "all-quarantined",
    "tenant held",
    "tenant-held",
    "error",
    "certificate-expired",
    "certificate-refused",
  ],
  warn: [
    "probing",
    "probe",
    "silent",
    "slowed",
    "narrowed",
    "poor",
    "throttled",
    "pace",
    "rest",
    "deferred",
    "slow",
    "tenant put off",
    "put-off",
    "tenant-slowed",
    "resting",
    "postponed",
    "limited",
    "unknown",
    "warning",
    "put off",
    "site rate",
    "source rate",
    "tenant rate",
    "certificate-expiring",
    "tls-downgraded",
    "scanner-down",
  ],
  stop: ["suspended", "held", "resuming"],
  good: ["ok", "good", "delivered", "released", "resumed", "lifted", "tenant-released", "scanner-up"],
  info: ["warming", "warm-up", "accepted", "retried", "feedback"],
};
const TONE = new Map(Object.entries(TONES).flatMap(([tone, words]) => words.map((word) => [word, tone])));

export function toneOf(word) {
  return TONE.get(word) ?? "plain";
}

/** A word on a ground of its colour. */
export function pill(word, { tone = toneOf(word), title = null } = {}) {
  return h("span", { class: `pill ${tone}`, title }, word);
}

/** Return the address of a view. `parts` may be anything: each is one segment. */
export function address(parts, query = {}) {
  const given = Object.entries(query).filter(([, value]) => value !== "" && value != null);
  const search = new URLSearchParams(given).toString();
  return `#/${parts.map(encodeURIComponent).join("/")}${search ? `?${search}` : ""}`;
}

export function link(parts, ...text) {
  return h("a", { href: address(parts) }, ...text);
}

/** A box with a heading; `side` stands beside that. */
export function panel(title, side, ...body) {
  return h(
    "section",
    { class: "panel", key: `panel ${title}`, "aria-label": title },
    h("div", { class: "head" }, h("h2", null, title), h("div", { class: "side" }, side ?? null)),
    ...body,
  );
}

/**
 * A table that becomes a list of cards where there is no room for it.
 *
 * `columns`: [{ name, number (true: to the right), main (true: the card's heading), wide, end }], `rows`:
 * [{ key, cells }]; `empty`: what stands there without rows.
 */
export function table(label, columns, rows, empty = "nothing") {
  if (rows.length === 0) return h("p", { class: "empty" }, empty);
  const head = columns.map((one) =>
    h("th", { role: "columnheader", scope: "col", class: lookOf(one) }, one.name),
  );
  // What is no table any more to the eye (as cards) stays one to who listens: that is what the roles do.
  return h(
    "table",
    { role: "table", "aria-label": label },
    h("thead", { role: "rowgroup" }, h("tr", { role: "row" }, head)),
    h(
      "tbody",
      { role: "rowgroup" },
      rows.map(({ key, cells }) =>
        h(
          "tr",
          { key, role: "row" },
          cells.map((cell, at) => drawCell(columns[at], cell)),
        ),
      ),
    ),
  );
}

function drawCell(column, cell) {
  const props = { class: lookOf(column), "data-name": column.name || null };
  if (column.main) return h("th", { role: "rowheader", scope: "row", ...props }, cell);
  return h("td", { role: "cell", ...props }, cell);
}

function lookOf({ number, main, wide, end }) {
  return [number && "number", main && "main", wide && "wide", end && "end"].filter(Boolean).join(" ");
}

/** Names and values, one beside the other. Pairs whose value is null are left out. */
export function facts(...pairs) {
  return h(
    "dl",
    { class: "facts" },
    pairs
      .filter(([, value]) => value !== null && value !== undefined && value !== "")
      .map(([name, value]) => h("div", null, h("dt", null, name), h("dd", null, value))),
  );
}

/** A bar of shares with a legend. `parts`: [{ name, amount, tone }]. */
export function shares(label, parts) {
  const whole = parts.reduce((sum, one) => sum + one.amount, 0);
  if (!whole) return h("p", { class: "empty small" }, `${label}: no sessions yet`);
  const share = (one) => Math.round((one.amount / whole) * 1000) / 10;
  return h(
    "div",
    { class: "shares" },
    h(
      "div",
      {
        class: "strip",
        role: "img",
        "aria-label": `${label}: ${parts.map((one) => `${one.name} ${share(one)} %`).join(", ")}`,
      },
      parts.map((one) => h("span", { class: one.tone, vars: { "--share": `${share(one)}%` } })),
    ),
    h(
      "ul",
      null,
      parts.map((one) =>
        h(
          "li",
          { title: `${count(one.amount)} of ${count(whole)}` },
          h("i", { class: `dot ${one.tone}` }),
          `${one.name} `,
          h("b", null, `${share(one)} %`),
        ),
      ),
    ),
  );
}

/** A length beside a number, of the largest in its column. */
export function bar(amount, most, tone = "accent") {
  const width = most > 0 ? Math.max(amount > 0 ? 1 : 0, (amount / most) * 100) : 0;
  return h("span", { class: `bar ${tone}`, "aria-hidden": "true", vars: { "--width": `${width}%` } });
}

/** "oldest 4 min", with the time when it was accepted. */
export function age(seconds) {
  if (seconds === null || seconds === undefined) return "–";
  const title = new Date(Date.now() - seconds * 1000).toLocaleString("en-GB");
  return h("span", { title: `since ${title}` }, span(seconds));
}

/** What a view shows while it has nothing to show. */
export function pending(trouble) {
  if (!trouble) return h("p", { class: "empty", "aria-busy": "true" }, "Asking …");
  if (trouble.status === 404) return h("p", { class: "empty" }, trouble.message);
  return h("p", { class: "empty" }, `Not known now: ${trouble.message}.`);
}

/** How fresh something is that is taken now and then. */
export function freshness(at) {
  return at ? h("span", { class: "dim" }, "as of ", when(at)) : null;
}

/** One of several, as buttons beside each other. `options`: [[value, text]]. */
export function choice(label, options, chosen, choose) {
  return h(
    "div",
    { class: "choice", role: "group", "aria-label": label },
    options.map(([value, text]) =>
      h(
        "button",
        {
          type: "button",
          "aria-pressed": String(value === chosen),
          onclick: () => choose(value),
        },
        text,
      ),
    ),
  );
}
