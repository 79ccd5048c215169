// How figures look: the words of the command line (workers/cli/page.py), so that both can be compared.

import { h } from "./tree.js";

const UNITS = [
  ["d", 86400],
  ["h", 3600],
  ["min", 60],
];
const WHOLE = new Intl.NumberFormat("en-US", { maximumFractionDigits: 0 });

/** "12,345", or "–" for what is not known. */
export function count(number) {
  return isNumber(number) ? WHOLE.format(number) : "–";
}

/** "1 queue", "2,000 queues", "3 deliveries". */
export function counted(number, word) {
  if (number === 1) return `1 ${word}`;
  if (word.endsWith("y") && !word.endsWith("ay")) return `${count(number)} ${word.slice(0, -1)}ies`;
  return `${count(number)} ${word}${word.endsWith("s") ? "es" : "s"}`;
}

/** About two digits of what is small, all of what is not: "0.04", "3.2", "1,234". */
export function digits(number) {
  if (!isNumber(number)) return "–";
  if (number === 0) return "0";
  const size = Math.abs(number);
  if (size >= 100) return count(number);
  if (size >= 10) return String(Math.round(number * 10) / 10);
  return String(Number(number.toPrecision(2)));
}

/** What happens per second, as "12.5/s", "3/min" or "6/h". */
export function pace(perSecond) {
  if (!isNumber(perSecond)) return "–";
  if (perSecond === 0 || perSecond >= 0.1) return `${digits(perSecond)}/s`;
  if (perSecond * 60 >= 0.1) return `${digits(perSecond * 60)}/min`;
  return `${digits(perSecond * 3600)}/h`;
}

/** "0.3 s", "3 s", "4 min", "2.5 h", "1.2 d". */
export function span(seconds) {
  if (!isNumber(seconds)) return "–";
  for (const [unit, length] of UNITS) {
    if (seconds >= length) return `${(seconds / length).toFixed(1).replace(/\.0$/, "")} ${unit}`;
  }
  return seconds >= 1 ? `${Math.round(seconds)} s` : `${Math.max(0.1, seconds).toFixed(1)} s`;
}

/** "1.5 MiB". */
export function octets(number) {
  if (!isNumber(number)) return "–";
  for (const [unit, size] of [
    ["GiB", 2 ** 30],
    ["MiB", 2 ** 20],
    ["KiB", 2 ** 10],
  ]) {
    if (number >= size) return `${digits(number / size)} ${unit}`;
  }
  return counted(number, "octet");
}

/** "12 %", and "< 1 %" for what is there but little. */
export function percent(part, whole) {
  if (!isNumber(part) || !whole) return "–";
  const share = (part / whole) * 100;
  if (share > 0 && share < 1) return "< 1 %";
  return share < 100 && share > 99 ? "> 99 %" : `${Math.round(share)} %`;
}

/** A time of day, with the date if it is not today's. `at`: seconds since 1970. */
export function clock(at, seconds = true) {
  const moment = new Date(at * 1000);
  const [date, time] = stamp(at).split(" ");
  const shown = seconds ? time : time.slice(0, 5);
  return moment.toDateString() === new Date().toDateString() ? shown : `${date} ${shown}`;
}

/** "2026-11-28 14:03:12", on this browser's clock face. */
export function stamp(at) {
  const moment = new Date(at * 1000);
  const two = (number) => String(number).padStart(2, "0");
  const date = [moment.getFullYear(), two(moment.getMonth() + 1), two(moment.getDate())].join("-");
  return `${date} ${[moment.getHours(), moment.getMinutes(), moment.getSeconds()].map(two).join(":")}`;
}

/** A <time> that says how long ago, or in how long, and at what time when it is pointed at. */
export function when(at) {
  if (!isNumber(at)) return "–";
  const away = at - Date.now() / 1000;
  const text = Math.abs(away) < 1 ? "now" : away < 0 ? `${span(-away)} ago` : `in ${span(away)}`;
  return h("time", { datetime: new Date(at * 1000).toISOString(), title: stamp(at) }, text);
}

export function isNumber(value) {
  return typeof value === "number" && Number.isFinite(value);
}
