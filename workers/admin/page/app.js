// The page: which view the address names, what is around it, and what is said when nobody answers.

import { toast, whenDone } from "./acting.js";
import { Trouble, login, post } from "./api.js";
import { clock } from "./format.js";
import { keep, recall } from "./keeping.js";
import { Poll } from "./live.js";
import { address } from "./parts.js";
import { h, render } from "./tree.js";
import { events } from "./views/events.js";
import { guess, message, messages } from "./views/messages.js";
import { overview } from "./views/overview.js";
import { queue, queues } from "./views/queues.js";
import { site, source, sources, standing } from "./views/sources.js";
import { tenants } from "./views/tenants.js";

/** Views by the first segment of the address, with how many follow. */
const VIEWS = {
  "": [0, (parts, query) => overview(query, go)],
  queues: [0, (parts, query) => queues(query, go)],
  queue: [2, queue],
  sources: [0, () => sources()],
  source: [1, source],
  site: [1, site],
  standing: [2, (parts, query) => standing(parts, query, go)],
  messages: [0, (parts, query) => messages(query, go)],
  message: [1, message],
  events: [0, (parts, query) => events(query, go, redraw)],
  tenants: [0, () => tenants()],
};
const TABS = [
  ["", "Overview"],
  ["queues", "Queues"],
  ["sources", "Sources"],
  ["messages", "Messages"],
  ["events", "Events"],
  ["tenants", "Tenants"],
];
const UNDER = {
  queue: "queues",
  source: "sources",
  site: "sources",
  standing: "sources",
  message: "messages",
};
const STATES = {
  live: ["good", "live"],
  waiting: ["plain", "asking"],
  store: ["bad", "store away"],
  away: ["bad", "service away"],
  token: ["warn", "log in"],
};

let view = null;
let poll = null;
let place = { name: "", parts: [], query: {} };
let drawing = 0;

/** Go to a view: what the address says is what is shown. */
function go(parts, query = {}) {
  const wanted = address(parts, query);
  if (location.hash === wanted) show();
  else location.hash = wanted;
}

function readAddress() {
  const [route, search = ""] = location.hash.replace(/^#\/?/, "").split("?");
  const [name, ...parts] = route.split("/").map(decode);
  return { name, parts, query: Object.fromEntries(new URLSearchParams(search)) };
}

function decode(text) {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}

function show() {
  poll?.stop();
  view?.stop?.();
  place = readAddress();
  const [many, make] = VIEWS[place.name] ?? [];
  const isKnown = make !== undefined && place.parts.length === many;
  view = isKnown ? make(place.parts, place.query) : lost();
  document.title = `${view.title} · outgate`;
  poll = new Poll(view.wanted, redraw);
  redraw();
}

/** An address that names nothing. */
function lost() {
  return {
    title: "Not here",
    wanted: [],
    draw: () => h("p", { class: "empty" }, "There is no such page. ", h("a", { href: "#/" }, "Overview")),
  };
}

/** Draw everything, once, soon. */
function redraw() {
  if (drawing) return;
  drawing = setTimeout(() => {
    drawing = 0;
    draw();
  }, 16);
}

function draw() {
  const state = findState();
  render(document.getElementById("top"), drawTop(state));
  render(document.getElementById("notices"), drawNotice(state));
  const main = document.getElementById("main");
  main.classList.toggle("stale", state === "store" || state === "away");
  if (state === "token") render(main, drawLogin());
  else render(main, h("div", { key: location.hash.split("?")[0], class: "view" }, view.draw(poll, redraw)));
}

// -- whether somebody answers ----------------------------------------------------------------------

function findState() {
  const kinds = Object.values(poll.troubles).map((trouble) => trouble.kind);
  for (const kind of ["token", "store"]) if (kinds.includes(kind)) return kind;
  // Another question that took too long is no sign that nobody is there.
  const [leading] = poll.wanted.keys();
  if (poll.troubles[leading]?.kind === "away") return "away";
  return Object.keys(poll.times).length > 0 ? "live" : "waiting";
}

function drawNotice(state) {
  if (state !== "store" && state !== "away") return null;
  const trouble = Object.values(poll.troubles).find((one) => one.kind === state);
  const last = Math.max(...Object.values(poll.times), 0);
  const text = state === "store" ? "The store does not answer" : "The admin service does not answer";
  const detail = state === "store" ? `: ${trouble.message}` : "";
  const figures = last > 0 ? `What is shown is from ${clock(last / 1000)}. ` : "";
  const mail =
    state === "store"
      ? "Until it is back, senders are told to try again later; nothing that was accepted is lost. "
      : "Mail flows without it. ";
  return h(
    "div",
    { class: "notice bad" },
    h("strong", null, text),
    `${detail}. ${figures}${mail}It is asked again every few seconds.`,
  );
}

function drawLogin() {
  const send = async (event) => {
    event.preventDefault();
    const form = event.target;
    try {
      await login(form.elements.token.value.trim());
      keep("outgate-token", "shown");
      form.reset();
      show();
    } catch (trouble) {
      if (!(trouble instanceof Trouble)) throw trouble;
      toast(trouble.kind === "token" ? "That token is not one of admin.token_file." : trouble.message);
    }
  };
  return h(
    "form",
    { class: "panel login", key: "login", onsubmit: send },
    h("h1", null, "Who is there?"),
    h("p", null, "This gateway wants a token: a line of the file that admin.token_file names."),
    h(
      "label",
      null,
      h("span", null, "Token"),
      h("input", { name: "token", type: "password", required: true, autocomplete: "current-password" }),
    ),
    h("button", { type: "submit", class: "confirm" }, "Log in"),
  );
}

// -- what is around --------------------------------------------------------------------------------

function drawTop(state) {
  const current = UNDER[place.name] ?? place.name;
  const [tone, word] = STATES[state];
  const find = (event) => {
    event.preventDefault();
    const input = event.target.elements.text;
    const wanted = guess(input.value);
    input.value = "";
    input.blur();
    go(wanted.id ? ["message", wanted.id] : ["messages"], wanted.id ? {} : wanted);
  };
  return [
    h("a", { class: "brand", href: "#/" }, "outgate"),
    h(
      "nav",
      { "aria-label": "Views" },
      TABS.map(([name, text]) =>
        h(
          "a",
          { key: name, href: address(name ? [name] : []), "aria-current": name === current ? "page" : null },
          text,
        ),
      ),
    ),
    h(
      "form",
      { class: "find", role: "search", onsubmit: find },
      h("input", {
        name: "text",
        type: "search",
        required: true,
        placeholder: "id, recipient, domain …",
        "aria-label": "Find a message",
        autocomplete: "off",
        autocapitalize: "off",
        spellcheck: "false",
      }),
    ),
    h(
      "span",
      { class: `state ${tone}`, title: "whether the gateway answers" },
      h("i", { class: `dot ${tone}` }),
      word,
    ),
    recall("outgate-token") && state !== "token"
      ? h("button", { type: "button", onclick: leave }, "Log out")
      : null,
    h(
      "button",
      {
        type: "button",
        class: "theme",
        onclick: turnTheme,
        "aria-label": `Colours: ${theme}. Change`,
        title: `colours: ${theme}`,
      },
      { system: "◐", light: "☀", dark: "☾" }[theme],
    ),
  ];
}

async function leave() {
  keep("outgate-token", "");
  await post("logout", {}).catch((trouble) => toast(trouble.message));
  show();
}

let theme = "system";

function turnTheme() {
  setTheme({ system: "light", light: "dark", dark: "system" }[theme]);
  redraw();
}

function setTheme(name) {
  theme = ["light", "dark"].includes(name) ? name : "system";
  if (theme === "system") delete document.documentElement.dataset.theme;
  else document.documentElement.dataset.theme = theme;
  keep("outgate-theme", theme);
}

setTheme(recall("outgate-theme"));
whenDone(() => poll.askAll());
addEventListener("hashchange", () => {
  show();
  scrollTo(0, 0);
});
addEventListener("keydown", (event) => {
  if (
    event.key !== "/" ||
    event.target.closest("input, select, textarea, dialog") ||
    event.ctrlKey ||
    event.metaKey
  )
    return;
  event.preventDefault();
  document.querySelector(".find input").focus();
});
// Relative times grow older without news.
setInterval(() => {
  if (!document.hidden) redraw();
}, 5000);
show();
