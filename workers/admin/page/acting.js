// What an operator does: a button, a dialog that says what will happen and asks why, and the outcome.

import { Trouble, path, post } from "./api.js";
import { count, counted, stamp } from "./format.js";
import { keep, recall } from "./keeping.js";
import { h, render } from "./tree.js";

const SPANS = [
  ["", "until it is resumed"],
  ["30m", "30 minutes"],
  ["1h", "1 hour"],
  ["4h", "4 hours"],
  ["1d", "1 day"],
  ["7d", "7 days"],
];

/** `text`: what is about to happen; `preview`: what would be meant can be counted first. */
const VERBS = {
  suspend: {
    name: "Suspend",
    danger: true,
    text: "Nothing of it is sent until then. Mail is still accepted, and waits. What a worker has begun is finished.",
  },
  resume: { name: "Resume", text: "What waits for it may go at once." },
  retry: {
    name: "Retry now",
    preview: true,
    text: "What waits for its next attempt, or is held, is tried now.",
  },
  hold: {
    name: "Hold",
    preview: true,
    danger: true,
    text: "It waits until it is retried, or until its time is over; then it bounces.",
  },
  bounce: {
    name: "Bounce",
    preview: true,
    danger: true,
    text: "Its delivery ends now, and its senders are told. This cannot be undone.",
  },
};

let done = () => {};

/** Say what is to be called when something was changed. */
export function whenDone(listener) {
  done = listener;
}

/** A button that asks for one of VERBS. `target`: tenant, domain, site, source, ids, or all. */
export function act(verb, target, label = VERBS[verb].name) {
  return h(
    "button",
    {
      type: "button",
      class: `act ${verb}`,
      "aria-haspopup": "dialog",
      "aria-label": `${label}: ${spell(target)}`,
      onclick: () => ask(verb, target),
    },
    label,
  );
}

/** Say what is meant, as the command line does: "source a, site google". */
export function spell(target) {
  if (target.all && Object.keys(target).length === 1) return "everything";
  const places = ["tenant", "domain", "site", "source"].filter((name) => target[name]);
  const ids = (target.ids ?? []).map((id) => `message ${id}`);
  return [...places.map((name) => `${name} ${target[name]}`), ...ids].join(", ");
}

/** Read the name of a suspension ("site=google source=a") as a target. */
export function readTarget(name) {
  const found = {};
  for (const part of name.split(" ")) {
    const [key, ...value] = part.split("=");
    if (["tenant", "domain", "site", "source"].includes(key)) found[key] = value.join("=");
  }
  return Object.keys(found).length > 0 ? found : { all: true };
}

/** Open the dialog. */
export function ask(verb, target) {
  new Asking(verb, target).open();
}

class Asking {
  constructor(verb, target) {
    this.verb = verb;
    this.target = target;
    this.place = document.getElementById("asking");
    this.preview = "";
    this.trouble = "";
    this.busy = false;
    this.before = document.activeElement;
  }

  open() {
    render(this.place); // a dialog that was there before has its own listeners
    this.draw();
    this.place.firstChild.showModal();
    this.place.querySelector("[name=why]").focus();
    if (VERBS[this.verb].preview) this.look();
  }

  close() {
    this.place.querySelector("dialog")?.close();
    render(this.place);
    this.before?.focus?.();
  }

  /** Ask what would be meant. */
  async look() {
    this.preview = "Counting what is meant …";
    this.draw();
    try {
      const found = await post(path([this.verb]), { ...this.target, dry_run: true });
      const claimed = found.claimed
        ? `; ${counted(found.claimed, "delivery")} in workers' hands stay as they are`
        : "";
      this.preview = `${counted(found.deliveries, "delivery")} would be meant${claimed}.`;
    } catch (trouble) {
      this.preview = trouble.message;
    }
    this.draw();
  }

  draw() {
    const { name, text, danger } = VERBS[this.verb];
    render(
      this.place,
      h(
        "dialog",
        {
          "aria-labelledby": "asked",
          oncancel: (event) => {
            event.preventDefault();
            this.close();
          },
        },
        h(
          "form",
          { method: "dialog", onsubmit: (event) => this.send(event) },
          h("h2", { id: "asked" }, `${name}: ${spell(this.target)}?`),
          h("p", null, text),
          this.preview ? h("p", { class: "preview", "aria-live": "polite" }, this.preview) : null,
          this.verb === "suspend"
            ? field(
                "For how long",
                h(
                  "select",
                  { name: "for" },
                  SPANS.map(([value, label]) => h("option", { value }, label)),
                ),
              )
            : null,
          this.verb === "bounce"
            ? [
                field(
                  "What senders read (empty: the usual words)",
                  h("input", { name: "text", maxlength: 500, autocomplete: "off" }),
                ),
                h(
                  "label",
                  { class: "check" },
                  h("input", { type: "checkbox", name: "silent" }),
                  "tell senders nothing",
                ),
              ]
            : null,
          field(
            "Why (it goes on the record)",
            h("input", { name: "why", required: true, maxlength: 500, autocomplete: "off" }),
          ),
          field(
            "Who you are",
            h("input", {
              name: "who",
              maxlength: 100,
              autocomplete: "username",
              placeholder: "name, if you like",
              value: recall("outgate-who"),
            }),
          ),
          this.trouble ? h("p", { class: "trouble", role: "alert" }, this.trouble) : null,
          h(
            "div",
            { class: "buttons" },
            h("button", { type: "button", onclick: () => this.close() }, "Cancel"),
            h(
              "button",
              { type: "submit", class: danger ? "confirm danger" : "confirm", disabled: this.busy },
              this.busy ? "Asking …" : name,
            ),
          ),
        ),
      ),
    );
  }

  async send(event) {
    event.preventDefault();
    const form = new FormData(event.target);
    const body = { ...this.target, why: form.get("why").trim(), ...this.read(form) };
    const who = form.get("who").trim();
    if (who) body.who = who;
    keep("outgate-who", who);
    this.busy = true;
    this.draw();
    try {
      const outcome = await post(path([this.verb]), body);
      this.close();
      toast(tell(this.verb, outcome));
      done();
    } catch (trouble) {
      if (!(trouble instanceof Trouble)) throw trouble;
      this.busy = false;
      this.trouble = trouble.message;
      this.draw();
    }
  }

  read(form) {
    if (this.verb === "suspend") return { for: form.get("for") || null };
    if (this.verb !== "bounce") return {};
    const text = form.get("text").trim();
    return { silent: form.get("silent") !== null, ...(text ? { text } : {}) };
  }
}

function field(label, input) {
  return h("label", null, h("span", null, label), input);
}

function tell(verb, outcome) {
  if (verb === "suspend") {
    const ends = outcome.until === null ? "until it is resumed" : `until ${stamp(outcome.until)}`;
    return `Suspended: ${outcome.suspended}, ${ends}`;
  }
  if (verb === "resume") {
    return outcome.resumed?.length
      ? `Resumed: ${outcome.resumed.join("; ")}`
      : "Nothing of that name was suspended";
  }
  const words = { retry: "tried now", hold: "held", bounce: "ended" };
  const claimed = outcome.claimed ? `; ${count(outcome.claimed)} in workers' hands` : "";
  return `${counted(outcome.deliveries, "delivery")} ${words[verb]}${claimed}`;
}

let toasts = [];

/** Say something for a while. */
export function toast(text) {
  const one = { text };
  const place = document.getElementById("toasts");
  const draw = () =>
    render(
      place,
      toasts.map((each, at) => h("p", { key: at, class: "toast" }, each.text)),
    );
  toasts = [...toasts, one];
  draw();
  setTimeout(() => {
    toasts = toasts.filter((each) => each !== one);
    draw();
  }, 8000);
}
