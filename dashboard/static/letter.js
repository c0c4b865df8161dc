// One dead letter with the original record, shown over the page.

import { element, time } from "./rows.js";
import { accountName, origin } from "./words.js";

const find = (id) => document.getElementById(id);
const box = find("letter");
const MOST_CHARACTERS = 100000; // a browser is slow with more in one piece

let shown = null;
let asking = null;

function fact(list, name, ...values) {
  const there = values.filter((value) => value !== null && value !== "");
  if (there.length > 0) list.append(element("dt", "", name), element("dd", "", ...there));
}

function bytes(text, isBase64) {
  if (text === null || text === "") return [];
  return [isBase64 ? element("p", "note", "No UTF-8: shown in base64.") : null, element("pre", "", text)];
}

function original(row) {
  if (row.value === null) return [element("p", "note", "There is none here: the original has none, or one too large to be set aside.")];
  if (row.value === "") return [element("p", "note", "Empty.")];
  const cut = row.value.length > MOST_CHARACTERS;
  const whole = cut ? element("p", "note", `Only the beginning. Whole: kommo-streams deadletters show ${row.letter_id} --value`) : null;
  return [...bytes(cut ? row.value.slice(0, MOST_CHARACTERS) : row.value, row.value_is_base64), whole];
}

function tell(row) {
  const facts = element("dl", "facts");
  fact(facts, "Class", element("span", "chip failed", row.error_class));
  fact(facts, "Why", row.reason);
  fact(facts, "Set aside", time(row.occurred_at));
  fact(facts, "First tried", time(row.first_at));
  fact(facts, "Attempts", String(row.attempts));
  fact(facts, "By", row.reader);
  fact(facts, "Whose", accountName(row));
  fact(facts, "Original", row.topic ? origin(row) : "");
  fact(facts, "Correlation", row.correlation_id);
  fact(facts, "Id", row.letter_id);
  fact(facts, "Key", ...bytes(row.key, row.key_is_base64));
  fact(facts, "Headers", ...bytes(row.headers.map(({ name, value }) => `${name}: ${value ?? ""}`).join("\n"), false));
  fact(facts, "Value", ...original(row));
  find("letter-told").replaceChildren(facts);
}

const say = (words) => find("letter-told").replaceChildren(element("p", "", words));

/** Show a dead letter until it is closed. */
export async function showLetter(id) {
  if (shown === id && box.open) return;
  asking?.abort();
  shown = id;
  asking = new AbortController();
  const mine = asking;
  say("Looking …");
  if (!box.open) box.showModal();
  try {
    const answer = await fetch(`/api/v1/deadletters/${encodeURIComponent(id)}`, { signal: mine.signal });
    const told = await answer.json();
    if (mine.signal.aborted) return;
    if (answer.ok) tell(told);
    else say(told.detail ?? `The server answered ${answer.status}.`);
  } catch {
    if (!mine.signal.aborted) say("The server could not be reached. Close this and open it again.");
  }
}

/** Close what is shown. */
export function closeLetter() {
  if (box.open) box.close();
}

// The event comes a moment later: by then another may be shown.
box.addEventListener("close", () => {
  if (box.open) return;
  asking?.abort();
  shown = null;
  find("letter-told").replaceChildren();
  if (location.hash.startsWith("#letter=")) history.replaceState(null, "", location.pathname);
});
find("letter-close").addEventListener("click", closeLetter);
