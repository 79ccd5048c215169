// Events in words: what `outgate explain` says of each.

import { counted, span } from "./format.js";

/** Say what an event is about. */
export function tell(event) {
  const teller = TELLERS[event.event];
  if (teller) return teller(event);
  if ("who" in event) return tellDecision(event);
  if ("host" in event) return tellAttempt(event);
  return [place(event), event.reason ?? event.text ?? event.why].filter(Boolean).join(": ");
}

const TELLERS = {
  accepted: tellAccepted,
  refused: tellRefused,
  postponed: tellRefused,
  limited: tellRefused,
  feedback: tellFeedback,
};

function tellAccepted(event) {
  const people = event.recipients ?? [];
  const to =
    people.length > 3 ? `${people.slice(0, 3).join(", ")} and ${people.length - 3} more` : people.join(", ");
  const origin = event.client ? `from ${event.client} (${event.tls || "in clear"})` : "written by outgate";
  const rule = event.rule
    ? `; rule ${event.rule} (${event.reason})`
    : event.reason
      ? `; ${event.reason}`
      : "";
  const changed = event.changed?.length ? `; changed: ${event.changed.join(", ")}` : "";
  return `${counted(event.size ?? 0, "octet")} ${event.sender || "<>"} → ${to}, ${origin}${rule}${changed}${event.archived ? "; archived" : ""}`;
}

function tellRefused(event) {
  const about = event.sender === undefined ? "" : `${event.sender || "<>"}: `;
  return `${about}${event.reason ?? event.text ?? ""}${event.client ? ` (from ${event.client})` : ""}`;
}

function tellAttempt(event) {
  const via = `${event.domain}, attempt ${event.attempt}, from source ${event.source || "–"}`;
  const host = event.host ? ` to ${event.host} ${event.address ?? ""}` : "";
  const tls = event.address ? ` (${tellTls(event)})` : "";
  return `${via}${host}${tls}${event.wait === undefined ? "" : `; next try in ${span(event.wait)}`}`;
}

function tellTls(event) {
  const why = event.tls_problem ?? "";
  if (!event.tls) return why ? `in clear: ${why}` : "in clear";
  return event.tls_verified
    ? `${event.tls}, verified by ${event.tls_verified}`
    : `${event.tls}, not verified${why ? `: ${why}` : ""}`;
}

function tellDecision(event) {
  const about = place(event);
  const many = event.deliveries === undefined ? "" : `, ${counted(event.deliveries, "delivery")}`;
  return `${about}${many}${about || many ? " " : ""}by ${event.who}${event.why ? `: ${event.why}` : ""}`;
}

function tellFeedback(event) {
  const what = event.kind === "complaint" ? "complaint" : "late bounce";
  return `${what} (${event.type}) about ${event.recipient || "somebody"}${event.text ? `: ${event.text}` : ""}`;
}

function place(event) {
  return ["source", "site", "tenant", "domain", "set", "name", "check"]
    .filter((name) => event[name])
    .map((name) => `${name} ${event[name]}`)
    .join(", ");
}
