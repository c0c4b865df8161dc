// The page: trades the code in its address for a session, then shows what the live stream tells.

import { anyOpen, showCircuits } from "./circuits.js";
import { closeCommand, showCommand } from "./command.js";
import { readyToGive } from "./give.js";
import { closeLetter, showLetter } from "./letter.js";
import { Rows, call, card, command, event, letter, refreshTimes, task } from "./rows.js";

const find = (id) => document.getElementById(id);
const HOW = ["Nothing has happened yet.", "Let Kommo post its webhooks to the gateway, or post one yourself: the first event shows here by itself."];

const recent = new Rows(find("recent"), card, (row) => `${row.account_id}/${row.entity_type}/${row.entity_id}`, HOW);
const activity = new Rows(find("activity"), event, (row) => `${row.account_id}/${row.event_id}`, HOW);

const tasks = new Rows(find("tasks"), task, (row) => `${row.account_id}/${row.task_id}`, ["No tasks yet.", "A task that is made in Kommo shows here."]);
const calls = new Rows(find("calls"), call, (row) => `${row.account_id}/${row.entity_type}/${row.entity_id}/${row.call_id}`, ["No calls yet.", "A call that is logged on a lead, contact or company shows here."]);
const commands = new Rows(find("commands"), command, (row) => `${row.account_id}/${row.command_id}`, ["No commands yet.", "What Kommo is asked to do, by a program or from here, shows here with what became of it."]);
const letters = new Rows(find("letters"), letter, (row) => row.letter_id, ["No dead letters.", "What cannot become an event or a row, or cannot be carried out, is set aside whole and shows here."]);
const LISTS = [["tasks", tasks], ["calls", calls], ["commands", commands], ["deadletters", letters]];
const ALL = [recent, activity, tasks, calls, commands, letters];

let looking = null;
let stream = null;
let retry = 0;
let several = false;

function state(name, text) {
  find("state").dataset.state = name;
  if (find("state-text").textContent !== text) find("state-text").textContent = text;
}

const post = (path, body) =>
  fetch(path, { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(body) });

async function detail(answer) {
  try {
    return (await answer.json()).detail ?? "";
  } catch {
    return "";
  }
}

/** Trade the code in the fragment; returns why that failed, or "". */
async function useCode() {
  const found = /^#code=([\w-]+)$/.exec(location.hash);
  if (!found) return "";
  history.replaceState(null, "", location.pathname);
  const answer = await post("/session", { code: found[1] });
  return answer.ok ? "" : (await detail(answer)) || `The server answered ${answer.status}.`;
}

function showEntry(reason) {
  stream?.close();
  closeCommand();
  closeLetter();
  forget();
  // The next session may see other accounts.
  find("account").replaceChildren();
  several = false;
  find("tools").hidden = find("board").hidden = true;
  find("entry").hidden = false;
  if (reason) find("entry-reason").textContent = reason;
}

function forget() {
  for (const rows of ALL) rows.reset();
  showCircuits([]);
}

function showBoard(session) {
  find("entry").hidden = true;
  find("tools").hidden = find("board").hidden = false;
  several = session.accounts === null ? session.seen.length > 1 : session.accounts.length > 1;
  offerAccounts(session.seen);
  readyToGive(session);
  follow();
}

/** Show the command or the dead letter that the address names, if it names one. */
function follow() {
  const [, kind, id] = /^#(command|letter)=([\w-]+)$/.exec(location.hash) ?? [];
  if (kind !== "command") closeCommand();
  if (kind !== "letter") closeLetter();
  if (kind === "command") showCommand(id);
  if (kind === "letter") showLetter(id);
}

function offerAccounts(accounts) {
  const select = find("account");
  const known = new Set([...select.options].map((option) => option.value));
  if (!known.has("")) select.add(new Option("All", ""));
  for (const number of accounts) if (!known.has(String(number))) select.add(new Option(String(number), String(number)));
  several = several || select.options.length > 2;
  find("filter").hidden = !several;
}

function show(rows, page) {
  offerAccounts(new Set(page.items.map((row) => row.account_id).filter((account) => account !== null)));
  return rows.show(page.items, several && find("account").value === "");
}

/** Ask for a list of the chosen account; null where that failed, or is no longer wanted. */
async function ask(name, query = {}) {
  const account = find("account").value;
  const parameters = new URLSearchParams(account ? { ...query, account } : query);
  const answer = await fetch(`/api/v1/${name}?${parameters}`).catch(() => null);
  const told = answer?.ok ? await answer.json().catch(() => null) : null;
  // What was asked for another account, or before signing out, is no longer wanted.
  return account === find("account").value && !find("board").hidden ? told : null;
}

/** Ask for the lists that the stream does not carry. */
async function look() {
  looking = null;
  for (const [name, rows] of LISTS) {
    const told = await ask(name, { limit: 30 });
    if (told) show(rows, told);
  }
  await lookAtCircuits();
}

async function lookAtCircuits() {
  const told = await ask("circuits");
  if (told) showCircuits(told.items);
}

/** Look again once what the stream told of is in every list, and a first page that was kept before it is a second old. */
function lookSoon() {
  looking ??= setTimeout(look, 1200);
}

function connect() {
  stream?.close();
  const account = find("account").value;
  const opened = new EventSource(account ? `/api/v1/live?account=${encodeURIComponent(account)}` : "/api/v1/live");
  stream = opened;
  opened.addEventListener("open", () => {
    retry = 0;
    state("connecting", "Connecting");
  });
  opened.addEventListener("status", ({ data }) => {
    const { reading, reason } = JSON.parse(data);
    if (reading) state("live", "Live");
    else state("down", `Waiting: ${reason}`);
  });
  opened.addEventListener("recent_updates", ({ data }) => {
    show(recent, JSON.parse(data));
    lookSoon();
  });
  opened.addEventListener("activity", ({ data }) => {
    const fresh = show(activity, JSON.parse(data));
    lookSoon();
    if (fresh > 0) find("news").textContent = fresh === 1 ? "1 new event" : `${fresh} new events`;
  });
  opened.addEventListener("error", () => {
    state("down", "Connection lost, trying again");
    // The browser tries again by itself, except after an answer that is no stream.
    if (opened.readyState === EventSource.CLOSED && opened === stream) again();
  });
}

function again() {
  retry = Math.min(retry + 1, 5);
  setTimeout(() => begin(""), 1000 * retry);
}

/** See who we are, then open the stream or say how to get in. */
async function begin(reason) {
  try {
    const answer = await fetch("/session");
    if (answer.status === 401) return showEntry(reason || "");
    find("tools").hidden = find("entry").hidden ? false : find("tools").hidden;
    if (!answer.ok) {
      state("down", (await detail(answer)) || `The server answered ${answer.status}`);
      return again();
    }
    showBoard(await answer.json());
    connect();
  } catch {
    state("down", "Connection lost, trying again");
    again();
  }
}

async function start() {
  let reason = "";
  try {
    reason = await useCode();
  } catch {
    reason = "The server could not be reached. Ask for a new address and try again.";
  }
  await begin(reason);
}

find("account").addEventListener("change", () => {
  forget();
  connect();
});
find("leave").addEventListener("click", async () => {
  await post("/session/end", {}).catch(() => null);
  showEntry("You are signed out.");
});
// An address with a code that is opened in this tab changes only the fragment.
addEventListener("hashchange", () => (location.hash.startsWith("#code=") ? start() : find("board").hidden || follow()));
setInterval(refreshTimes, 10000);
setInterval(() => find("board").hidden || lookSoon(), 15000); // a task becomes overdue by itself
setInterval(() => anyOpen() && lookAtCircuits(), 5000); // a probe closes one, or puts the next off
start();
