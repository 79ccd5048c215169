// The admin service, over HTTP: what it answers, and what it means when it does not.

const PATIENCE = 10_000; // ms, for an answer
const ACTING = 120_000; // ms, for what an operator wants done: bouncing many takes a while

/**
 * Why there is no answer. `kind`: "away" (the service cannot be reached), "store" (it can, the store
 * cannot), "token" (it wants to know who asks), "refused" (it said no: `message` says why).
 */
export class Trouble extends Error {
  constructor(kind, message, status = 0) {
    super(message);
    this.kind = kind;
    this.status = status;
  }
}

/** Spell the path of an API call. `parts` are single segments, `query` leaves out what is empty. */
export function path(parts, query = {}) {
  const given = Object.entries(query).filter(([, value]) => value !== "" && value != null);
  const search = new URLSearchParams(given).toString();
  return `api/v1/${parts.map(encodeURIComponent).join("/")}${search ? `?${search}` : ""}`;
}

/** Return what GET answers. Raises Trouble, and AbortError when `signal` says so. */
export function get(where, signal) {
  return call(where, {
    signal: AbortSignal.any([AbortSignal.timeout(PATIENCE), ...(signal ? [signal] : [])]),
  });
}

/** Return what POST answers. A form of another site cannot send this header. Raises Trouble. */
export function post(where, body) {
  return call(where, {
    method: "POST",
    headers: { "Content-Type": "application/json", "X-Outgate": "1" },
    body: JSON.stringify(body),
    signal: AbortSignal.timeout(ACTING),
  });
}

/** Show the token once; the service sets a cookie that no script can read. Raises Trouble. */
export function login(token) {
  return post("login", { token });
}

async function call(where, options) {
  const target = new URL(where, document.baseURI);
  let response;
  try {
    response = await fetch(target, { cache: "no-store", credentials: "same-origin", ...options });
  } catch (error) {
    if (options.signal?.aborted && options.signal.reason?.name === "AbortError") throw error;
    throw new Trouble("away", "the admin service does not answer");
  }
  const answer = await read(response);
  if (response.ok) return answer;
  const text = answer?.error ?? `the admin service answered ${response.status}`;
  throw new Trouble(name(response.status), text, response.status);
}

async function read(response) {
  try {
    const text = await response.text();
    return text === "" ? null : JSON.parse(text);
  } catch {
    if (response.ok) throw new Trouble("away", "the admin service's answer broke off");
    return null;
  }
}

function name(status) {
  if (status === 401) return "token";
  return status === 503 ? "store" : status >= 500 ? "away" : "refused";
}
