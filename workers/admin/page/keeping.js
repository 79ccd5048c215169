// What this browser remembers for its user: colours, a name. One that keeps nothing asks again.

/** Remember a text; "": forget it. */
export function keep(name, text) {
  try {
    if (text) localStorage.setItem(name, text);
    else localStorage.removeItem(name);
  } catch {
    // Forbidden, or full.
  }
}

/** Return what was remembered, or "". */
export function recall(name) {
  try {
    return localStorage.getItem(name) ?? "";
  } catch {
    return "";
  }
}
