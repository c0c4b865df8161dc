// Where Kommo does not answer: a line for each open circuit, which counts down to its next probe.

import { element } from "./rows.js";
import { brief, probe } from "./words.js";

const list = document.getElementById("circuits");
const MOST_LINES = 10;

let lines = []; // of each: its key, its node, where the countdown stands, and until when

const keyOf = (row) => `${row.account_id}/${row.kind}/${row.since}`;

function made(row) {
  const next = element("span", "");
  const words = `Kommo of account ${row.account_id} does not answer at ${row.kind} since ${brief(new Date(row.since))}; `;
  return { key: keyOf(row), node: element("li", "", words, next), next };
}

function count() {
  for (const { next, until } of lines) {
    const words = probe(until);
    if (next.textContent !== words) next.textContent = words;
  }
}

/** Whether any is shown. */
export const anyOpen = () => !list.hidden;

/** Show these and no others. */
export function showCircuits(rows) {
  const before = new Map(lines.map((line) => [line.key, line]));
  lines = rows.slice(0, MOST_LINES).map((row) => ({ ...(before.get(keyOf(row)) ?? made(row)), until: new Date(row.until) }));
  count();
  const more = rows.length > MOST_LINES ? [element("li", "", `and ${rows.length - MOST_LINES} more`)] : [];
  list.replaceChildren(...lines.map((line) => line.node), ...more);
  list.hidden = rows.length === 0;
}

setInterval(count, 1000);
