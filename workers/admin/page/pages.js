// Lists that are longer than a page: the first is kept fresh, those behind it are asked for by a button.

import { get } from "./api.js";
import { h } from "./tree.js";

export class Pages {
  /** `spell`: makes the path of the page behind a cursor; `list`: takes the rows out of an answer. */
  constructor(spell, list, keyOf) {
    Object.assign(this, { spell, list, keyOf, rows: [], next: undefined, trouble: "", busy: false });
  }

  /** Return all rows that are there, each once: the first page is newer than what was behind it. */
  join(first) {
    const seen = new Set();
    return [...this.list(first), ...this.rows].filter((row) => {
      const key = this.keyOf(row);
      return !seen.has(key) && seen.add(key);
    });
  }

  /** Draw the button for the next page, if there is one; `left`: how many rows there are behind. */
  drawMore(first, redraw, left = null) {
    const next = this.next === undefined ? first.next : this.next;
    const turn = () => this.turn(next, redraw);
    return [
      this.trouble ? h("p", { class: "trouble", role: "alert" }, this.trouble) : null,
      next
        ? h(
            "button",
            { type: "button", class: "more", disabled: this.busy, onclick: turn },
            "Show more",
            left === null ? null : ` (${left} left)`,
          )
        : null,
    ];
  }

  async turn(next, redraw) {
    this.busy = true;
    redraw();
    try {
      const found = await get(this.spell(next));
      this.rows.push(...this.list(found));
      this.next = found.next;
      this.trouble = "";
    } catch (trouble) {
      this.trouble = trouble.message;
    }
    this.busy = false;
    redraw();
  }
}
