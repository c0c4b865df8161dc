// The form that gives a command, for sessions that may.

import { EXAMPLES } from "./examples.js";

const find = (id) => document.getElementById(id);
const action = find("give-action");
const data = find("give-data");

let key = "";
let sent = "";

function example() {
  data.value = JSON.stringify(EXAMPLES[action.value](), null, 2);
}

/** A new key; crypto.randomUUID is not there without TLS. */
function newKey() {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  return `page-${[...bytes].map((byte) => byte.toString(16).padStart(2, "0")).join("")}`;
}

function isObject(text) {
  const value = JSON.parse(text);
  return value !== null && typeof value === "object" && !Array.isArray(value);
}

/** The request's body; the fields go as they are written: a number with many digits would lose some here. */
function body() {
  if (!isObject(data.value)) throw new SyntaxError("it must be one object, { … }");
  return `{"action":${JSON.stringify(action.value)},"account":${find("give-account").value},"data":${data.value}}`;
}

async function why(answer) {
  try {
    return (await answer.json()).detail ?? "";
  } catch {
    return `The server answered ${answer.status}.`;
  }
}

async function send() {
  const wrong = find("give-error");
  wrong.textContent = "";
  let asked;
  try {
    asked = body();
  } catch (error) {
    wrong.textContent = `The fields are no JSON: ${error.message}`;
    data.focus();
    return;
  }
  // The same content that was not answered is the same command, however often it is sent.
  if (asked !== sent) [key, sent] = [newKey(), asked];
  find("give-send").disabled = true;
  try {
    const headers = { "Content-Type": "application/json", "Idempotency-Key": key };
    const answer = await fetch("/api/v1/commands", { method: "POST", headers, body: asked });
    if (answer.ok) {
      sent = "";
      location.hash = `command=${(await answer.json()).id}`;
    } else {
      wrong.textContent = await why(answer);
    }
  } catch {
    wrong.textContent = "The server could not be reached. Send it again: it will be the same command.";
  } finally {
    find("give-send").disabled = false;
  }
}

/** Offer the form where this session may give commands. */
export function readyToGive(session) {
  find("give").hidden = !session.commands;
  const account = find("give-account");
  if (!account.value && session.seen.length > 0) account.value = String(session.seen[0]);
}

for (const name of Object.keys(EXAMPLES)) action.add(new Option(name.replaceAll("_", " "), name));
example();
action.addEventListener("change", example);
find("give-form").addEventListener("submit", (submitted) => {
  submitted.preventDefault();
  send();
});
