// What keeps a view up to date: figures are asked for again and again, events come by themselves.

import { get } from "./api.js";

const SLOWEST = 10_000; // ms between questions to a service that does not answer
const AGAIN = 3000; // ms, until a stream that broke off is asked for again
const SILENT = 40_000; // ms without a word, not even a ping: the stream is dead
const MOST = 1000; // events between two looks; more nobody can read
const SHARE = 4; // an answer that took a second is asked for again after so many

/**
 * Asks for several things, each at its own interval, as long as the page is looked at. The first of them
 * says whether anybody is there.
 *
 * `wanted`: [{ name, path, every (s) }]. `data`, `troubles` and `times` hold, by name, the last answer,
 * why there is none, and when the last one came (ms).
 */
export class Poll {
  constructor(wanted, onchange) {
    this.wanted = new Map(wanted.map((one) => [one.name, one]));
    this.data = {};
    this.troubles = {};
    this.times = {};
    this.onchange = onchange;
    this.timers = new Map();
    this.turns = new Map(); // how often each was asked for
    this.stopping = new AbortController();
    this.seen = () => {
      if (!document.hidden) this.askAll();
    };
    document.addEventListener("visibilitychange", this.seen);
    this.askAll();
  }

  /** Ask for everything at once. */
  askAll() {
    for (const name of this.wanted.keys()) this.ask(name);
  }

  /** Somebody answers again: the others need not wait for their time. */
  recover(name) {
    delete this.troubles[name];
    for (const other of Object.keys(this.troubles)) this.ask(other);
  }

  stop() {
    this.stopping.abort();
    document.removeEventListener("visibilitychange", this.seen);
    for (const timer of this.timers.values()) clearTimeout(timer);
  }

  async ask(name) {
    clearTimeout(this.timers.get(name));
    const { path, every } = this.wanted.get(name);
    if (document.hidden || this.stopping.signal.aborted) return;
    // Who asks anew meanwhile has the last word: there is one chain of questions for each name.
    const turn = (this.turns.get(name) ?? 0) + 1;
    this.turns.set(name, turn);
    const isOver = () => this.stopping.signal.aborted || this.turns.get(name) !== turn;
    const began = performance.now();
    try {
      const answer = await get(path, this.stopping.signal);
      if (isOver()) return;
      this.data[name] = answer;
      this.times[name] = Date.now();
      if (this.troubles[name]) this.recover(name);
    } catch (trouble) {
      if (isOver()) return;
      this.troubles[name] = trouble;
    }
    const took = performance.now() - began;
    const failed = Math.min(SLOWEST, every * 1500);
    const pause = Math.max(every * 1000, this.troubles[name] ? failed : took * SHARE);
    this.timers.set(
      name,
      setTimeout(() => this.ask(name), pause),
    );
    this.onchange(name);
  }
}

/**
 * Hears events as they happen (text/event-stream), whatever their names are: an EventSource hears only
 * those that it was told. `onevents` gets several at a time, twice a second at most; `onstate` "open",
 * "lost" (it tries again), and "missed" with the number of events that were.
 */
export class Stream {
  constructor(path, onevents, onstate) {
    this.path = path;
    this.onevents = onevents;
    this.onstate = onstate;
    this.waiting = [];
    this.timer = setInterval(() => this.hand(), 500);
    this.seen = () => (document.hidden ? this.close() : this.open());
    document.addEventListener("visibilitychange", this.seen);
    this.open();
  }

  stop() {
    document.removeEventListener("visibilitychange", this.seen);
    clearInterval(this.timer);
    this.close();
  }

  open() {
    if (this.hearing || document.hidden) return;
    this.hearing = new AbortController();
    this.keepHearing(this.hearing.signal);
  }

  close() {
    this.hearing?.abort();
    this.hearing = null;
  }

  async keepHearing(stopped) {
    while (!stopped.aborted) {
      const silence = new AbortController();
      try {
        await this.hear(AbortSignal.any([stopped, silence.signal]), silence);
      } catch {
        // Whatever it was: below, it is tried again.
      }
      clearTimeout(this.watch);
      if (stopped.aborted) return;
      this.onstate("lost", 0);
      await new Promise((resolve) => setTimeout(resolve, AGAIN));
    }
  }

  async hear(signal, silence) {
    const options = { headers: { Accept: "text/event-stream" }, cache: "no-store", signal };
    const response = await fetch(new URL(this.path, document.baseURI), options);
    if (!response.ok) return;
    this.onstate("open", 0);
    let rest = "";
    for await (const text of readText(response.body)) {
      // The service says something every 15 s, and be it a ping.
      clearTimeout(this.watch);
      this.watch = setTimeout(() => silence.abort(), SILENT);
      const blocks = (rest + text).replaceAll("\r", "").split("\n\n");
      rest = blocks.pop();
      for (const block of blocks) this.take(block);
    }
  }

  take(block) {
    let name = "message";
    const data = [];
    for (const line of block.split("\n")) {
      if (line.startsWith("event:")) name = line.slice(6).trim();
      else if (line.startsWith("data:")) data.push(line.slice(5).trimStart());
    }
    if (data.length === 0) return;
    const event = readJson(data.join("\n"));
    if (name === "missed") this.onstate("missed", event?.count ?? 0);
    else if (event !== null) this.waiting.push(event);
    if (this.waiting.length > MOST) this.waiting.shift();
  }

  hand() {
    if (this.waiting.length === 0) return;
    const events = this.waiting;
    this.waiting = [];
    this.onevents(events);
  }
}

async function* readText(body) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  while (true) {
    const { value, done } = await reader.read();
    if (done) return;
    yield value;
  }
}

function readJson(text) {
  try {
    return JSON.parse(text);
  } catch {
    return null; // no event of ours
  }
}
