// One command with its story, shown over the page and kept up to date while it is open.

import { commandState, deciding, element, event, time } from "./rows.js";
import { asked, duration } from "./words.js";

const find = (id) => document.getElementById(id);
const box = find("command");
const SLOWLY = 3000; // after its end: webhooks that it caused, a person's decision

let shown = null;
let asking = null;
let text = "";

function fact(list, name, ...values) {
  const there = values.filter((value) => value !== null && value !== "");
  if (there.length > 0) list.append(element("dt", "", name), element("dd", "", ...there));
}

function tell(row) {
  const facts = element("dl", "facts");
  fact(facts, "State", commandState(row));
  fact(facts, "Why", row.error_class ?? "", row.error && row.error_class ? ": " : "", row.error ?? "");
  fact(facts, "Account", String(row.account_id));
  fact(facts, "Taken on", time(row.admitted_at));
  fact(facts, "Ended", row.ended_at ? time(row.ended_at) : null);
  fact(facts, "Again", row.next_attempt_at ? time(row.next_attempt_at) : null);
  fact(facts, "Attempts", row.attempts ? String(row.attempts) : "");
  fact(facts, "Last attempt", row.duration_ms === null ? null : duration(row.duration_ms));
  fact(facts, "In all", row.total_ms === null ? null : duration(row.total_ms));
  fact(facts, "Made or changed", Object.entries(row.entities ?? {}).map((entity) => entity.join(" ")).join(", "));
  fact(facts, "Decided", row.decision ?? "");
  fact(facts, "After", row.after ?? "");
  fact(facts, "Id", row.command_id);
  fact(facts, "Correlation", row.correlation_id === row.command_id ? "" : row.correlation_id);
  fact(facts, "Asked for", row.data ? element("pre", "", JSON.stringify(row.data, null, 2)) : null);
  find("command-title").textContent = asked(row);
  find("command-told").replaceChildren(...[deciding(row), facts].filter((part) => part !== null));
  find("command-story").replaceChildren(...row.story.map((line) => event(line, false)));
}

function say(words) {
  text = "";
  find("command-title").textContent = "Command";
  find("command-told").replaceChildren(element("p", "", words));
  find("command-story").replaceChildren();
}

async function ask(id, wait) {
  const answer = await fetch(`/api/v1/commands/${encodeURIComponent(id)}?wait=${wait}`, { signal: asking.signal });
  const told = await answer.json();
  if (shown !== id) return 0;
  if (answer.ok) {
    const now = JSON.stringify(told);
    if (now !== text) tell(told); // else a reader's selection would be lost for nothing
    text = now;
    return told.state === "waiting" ? 1 : SLOWLY;
  }
  if (answer.status === 404) {
    say(`Not taken on yet: ${id}`);
    return wait ? SLOWLY : 1; // one that is of another account, or none, is never taken on
  }
  say(told.detail ?? `The server answered ${answer.status}.`);
  return answer.status >= 500 ? SLOWLY : 0;
}

const pause = (milliseconds) => new Promise((done) => setTimeout(done, milliseconds));

/** Show a command until it is closed. */
export async function showCommand(id) {
  if (shown === id && box.open) return;
  asking?.abort();
  shown = id;
  asking = new AbortController();
  const mine = asking;
  say("Looking …");
  if (!box.open) box.showModal();
  let next = 0;
  do {
    try {
      next = await ask(id, next === 1 ? 2 : 0); // so that it shows soon that it was taken on, too
    } catch {
      if (mine.signal.aborted) return;
      next = SLOWLY; // the connection was lost
    }
    if (next > 1) await pause(next);
  } while (next > 0 && !mine.signal.aborted);
}

/** Close what is shown. */
export function closeCommand() {
  if (box.open) box.close();
}

// The event comes a moment later: by then another may be shown.
box.addEventListener("close", () => {
  if (box.open) return;
  asking?.abort();
  shown = null;
  if (location.hash.startsWith("#command=")) history.replaceState(null, "", location.pathname);
});
find("command-close").addEventListener("click", closeCommand);
