// Whose mail it is: each tenant, what it has queued, and what its mail does to the sources' reputation.

import { act } from "../acting.js";
import { path } from "../api.js";
import { count, digits, when } from "../format.js";
import { address, bar, panel, pending, pill, table } from "../parts.js";
import { h } from "../tree.js";

export function tenants() {
  return {
    title: "Tenants",
    wanted: [{ name: "tenants", path: path(["tenants"]), every: 3 }],
    draw(poll) {
      const { tenants: rows } = poll.data;
      return [
        h("h1", null, "Tenants"),
        panel("All tenants", null, rows ? drawRows(rows) : pending(poll.troubles.tenants)),
      ];
    },
  };
}

function drawRows(rows) {
  const most = Math.max(...rows.map((row) => row.queued));
  return table(
    "Tenants",
    [
      { name: "tenant", main: true },
      { name: "queued", number: true },
      { name: "" },
      { name: "state", wide: true },
      { name: "what hosts said lately" },
      { name: "domains" },
      { name: "", end: true },
    ],
    rows.map((row) => ({
      key: row.name,
      cells: [
        row.name,
        h("a", { href: address(["queues"], { tenant: row.name }) }, count(row.queued)),
        bar(row.queued, most),
        drawState(row),
        tellShares(row.shares),
        row.domains.join(", "),
        h(
          "span",
          { class: "actions" },
          act("suspend", { tenant: row.name }),
          act("resume", { tenant: row.name }),
        ),
      ],
    })),
    "No tenants are configured.",
  );
}

/** Whether a tenant's mail is sent as it may be. */
export function drawState(row) {
  if (row.suspended) return [pill("suspended"), " ", row.suspended];
  return row.state
    ? [pill(row.state), " ", row.reason, row.since ? [", since ", when(row.since)] : null]
    : pill("ok");
}

/** What receivers hold against it: parts of the recipients that were tried. */
function tellShares({ tried, ...parts }) {
  const found = Object.entries(parts).filter(([, part]) => part > 0);
  const words = found.map(([name, part]) => `${name} ${digits(part * 100)} %`);
  return tried > 0 ? [`${count(tried)} tried`, ...words].join(", ") : "–";
}
