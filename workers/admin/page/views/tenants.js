// Whose mail it is: each tenant, what it has queued, and what its mail does to the sources' reputation.

import { act } from "../acting.js";
import { path } from "../api.js";
import { count, digits } from "../format.js";
import { address, bar, panel, pending, pill, table } from "../parts.js";
import { h } from "../tree.js";

export function tenants() {
  return {
    title: "Tenants",
    wanted: [{ name: "tenants", path: path(["tenants"]), every: 3 }],
    draw(poll) {
      const { tenants: rows } = poll.data;
      return [h("h1", null, "Tenants"), panel("All tenants", null, rows ? drawRows(rows) : pending(poll.troubles.tenants))];
    },
  };
}

function drawRows(rows) {
  const most = Math.max(...rows.map((row) => row.queued));
  return table("Tenants", [
    { name: "tenant", main: true }, { name: "queued", number: true }, { name: "" }, { name: "state" }, { name: "what hosts said lately" },
    { name: "domains", wide: true }, { name: "", end: true },
  ], rows.map((row) => ({ key: row.name, cells: [
    row.name, h("a", { href: address(["queues"], { tenant: row.name }) }, count(row.queued)), bar(row.queued, most),
    row.state ? [pill(row.state), " ", row.reason] : pill("ok"), tellShares(row.shares), row.domains.join(", "),
    h("span", { class: "actions" }, act("suspend", { tenant: row.name }), act("resume", { tenant: row.name })),
  ] })), "No tenants are configured.");
}

function tellShares(shares) {
  const found = Object.entries(shares ?? {}).filter(([, value]) => typeof value === "number" && value > 0);
  return found.length > 0 ? found.map(([name, value]) => `${name} ${Number.isInteger(value) ? count(value) : digits(value)}`).join(", ") : "–";
}
