// Rows as elements. Everything from the server becomes text, never markup.

import { absolute, accountName, ago, asked, brief, deed, duration, fieldName, origin, outcomeTone, plain, safeLink, tone } from "./words.js";

const SVG = "http://www.w3.org/2000/svg";
const ICONS = {
  lead: "M4 5h16l-6 8v6l-4-2v-4z",
  contact: "M12 12a4 4 0 1 0 0-8 4 4 0 0 0 0 8zM4.5 20a7.5 7.5 0 0 1 15 0",
  company: "M5 20V5l8-2v17M13 9h6v11M3 20h18M8.5 8.5h1M8.5 12h1M8.5 15.5h1",
  customer: "M12 4l2.4 5 5.6.8-4 3.9.9 5.5-4.9-2.6-4.9 2.6.9-5.5-4-3.9 5.6-.8z",
  task: "M5 4h14v16H5zM8.5 12l2.5 2.5 4.5-5",
  unsorted: "M4 13l3-8h10l3 8v6H4zM4 13h5l1 3h4l1-3h5",
  catalog_element: "M12 3l8 4.5v9L12 21l-8-4.5v-9zM4 7.5l8 4.5 8-4.5M12 12v9",
  talk: "M4 5h16v11H10l-5 4v-4H4z",
  call: "M6 3l4 5-2.5 2.5a13 13 0 0 0 6 6L16 14l5 4-3 3C10 21 3 14 3 6z",
  command: "M4 12h11M11 7l5 5-5 5M19.5 5v14",
  letter: "M4 6h16v12H4zM4 7l8 6 8-6",
  other: "M12 4v16M4 12h16",
};
const KINDS = new Set(Object.keys(ICONS));
const kindOf = (type) => (KINDS.has(type) ? type : "other");

export function element(name, className, ...children) {
  const made = document.createElement(name);
  if (className) made.className = className;
  made.append(...children.filter((child) => child !== null));
  return made;
}

function icon(type) {
  const picture = document.createElementNS(SVG, "svg");
  picture.setAttribute("viewBox", "0 0 24 24");
  const path = document.createElementNS(SVG, "path");
  path.setAttribute("d", ICONS[kindOf(type)]);
  picture.append(path);
  const box = element("span", "icon", picture);
  box.setAttribute("role", "img");
  box.setAttribute("aria-label", type);
  return box;
}

export function time(text) {
  const moment = new Date(text);
  const made = element("time", "");
  made.dateTime = text;
  made.title = absolute(moment);
  return said(made, moment);
}

function said(made, moment) {
  made.textContent = `${ago(moment)} · ${brief(moment)}`;
  return made;
}

/** Say all relative times again. */
export function refreshTimes() {
  for (const made of document.querySelectorAll("time")) said(made, new Date(made.dateTime));
}

const account = (row, several) => (several ? element("span", "tag", accountName(row)) : null);
const chip = (type, entity) => element("span", `chip ${tone(type)}`, deed(type, entity));

/** A card of the recent updates. */
export function card(row, several) {
  const name = row.title || `${row.entity_type} ${row.entity_id}`;
  const link = safeLink(row.url);
  let title = name;
  if (link) {
    title = element("a", "", name);
    title.href = link;
    title.target = "_blank";
    title.rel = "noopener noreferrer";
    title.title = "Open in Kommo";
  }
  const meta = element(
    "p", "meta",
    row.deleted ? element("span", "chip gone", "deleted") : chip(row.event_type, row.entity_type),
    element("span", "tag", `${row.entity_type} ${row.entity_id}`),
    row.responsible_user_id ? element("span", "tag", `user ${row.responsible_user_id}`) : null,
    account(row, several),
  );
  return element(
    "li", `card ${kindOf(row.entity_type)}${row.deleted ? " deleted" : ""}`,
    icon(row.entity_type),
    element("h3", "title", title),
    time(row.occurred_at),
    element("p", "summary", row.summary),
    meta,
  );
}

/** A card of the tasks. */
export function task(row, several) {
  const late = row.overdue ? "overdue" : row.state;
  const tones = { completed: "made", deleted: "gone", overdue: "failed" };
  const meta = element(
    "p", "meta",
    element("span", `chip ${tones[late] ?? ""}`, late),
    row.deadline && row.state === "open" ? element("span", "tag", "due ", time(row.deadline)) : null,
    row.entity_type ? element("span", "tag", `${row.entity_type} ${row.entity_id}`) : null,
    row.responsible_user_id ? element("span", "tag", `user ${row.responsible_user_id}`) : null,
    account(row, several),
  );
  return element(
    "li", `card task${row.state === "deleted" ? " deleted" : ""}`,
    icon("task"),
    element("h3", "title", row.text || `Task ${row.task_id}`),
    time(row.occurred_at),
    row.result ? element("p", "summary", `Result: ${row.result}`) : null,
    meta,
  );
}

/** A card of the calls. */
export function call(row, several) {
  const way = row.direction === "in" ? "from" : "to";
  const link = safeLink(row.recording_url);
  let recording = null;
  if (link) {
    recording = element("a", "tag", "Recording");
    recording.href = link;
    recording.target = "_blank";
    recording.rel = "noopener noreferrer";
  }
  const meta = element(
    "p", "meta",
    row.outcome ? element("span", `chip plain ${outcomeTone(row.outcome)}`, row.outcome) : null,
    row.duration_seconds === null ? null : element("span", "tag", duration(row.duration_seconds * 1000)),
    element("span", "tag", `${row.entity_type} ${row.entity_id}`),
    row.responsible_user_id ? element("span", "tag", `user ${row.responsible_user_id}`) : null,
    recording,
    account(row, several),
  );
  return element(
    "li", "card call",
    icon("call"),
    element("h3", "title", `Call ${way} ${row.phone || "an unknown number"}`),
    time(row.occurred_at),
    row.result ? element("p", "summary", row.result) : null,
    meta,
  );
}

/** A link that shows a command. */
export function commandLink(id, words, className = "tag") {
  const made = element("a", className, words);
  made.href = `#command=${encodeURIComponent(id)}`;
  made.title = id;
  return made;
}

const shortened = (id) => id.slice(0, 8);
const STATES = { succeeded: "made", failed: "gone", unknown: "doubt" };

/** The chip of a command's state. */
export const commandState = (row) => element("span", `chip ${STATES[row.state] ?? ""}`, row.state);

/** How to decide about a command whose outcome nobody can find out; null for others. */
export function deciding(row) {
  if (row.state !== "unknown") return null;
  return element(
    "p", "decide",
    "A person must decide: look at Kommo, then type ",
    element("code", "", `kommo-streams command decide ${row.command_id} --done`),
    " if it was carried out, or with ",
    element("code", "", "--repeat"),
    " to do it again, ",
    element("code", "", "--drop"),
    " to leave it.",
  );
}

/** A card of the commands. */
export function command(row, several) {
  const meta = element(
    "p", "meta",
    commandState(row),
    row.attempts > 1 ? element("span", "tag", `${row.attempts} attempts`) : null,
    row.duration_ms === null ? null : element("span", "tag", duration(row.duration_ms)),
    row.next_attempt_at ? element("span", "tag", "again ", time(row.next_attempt_at)) : null,
    account(row, several),
  );
  return element(
    "li", `card command${row.state === "unknown" ? " doubtful" : ""}`,
    icon("command"),
    element("h3", "title", commandLink(row.command_id, asked(row), "")),
    time(row.occurred_at),
    row.error ? element("p", "summary", row.error_class ? `${row.error_class}: ${row.error}` : row.error) : null,
    deciding(row),
    meta,
  );
}

/** A card of the dead letters. */
export function letter(row, several) {
  const link = element("a", "", row.reason);
  link.href = `#letter=${encodeURIComponent(row.letter_id)}`;
  const meta = element(
    "p", "meta",
    element("span", "chip failed", row.error_class),
    element("span", "tag", `by ${row.reader || "an unknown reader"}`),
    row.attempts > 1 ? element("span", "tag", `${row.attempts} attempts`) : null,
    row.topic ? element("span", "tag", origin(row)) : null,
    account(row, several),
  );
  return element("li", "card letter", icon("letter"), element("h3", "title", link), time(row.occurred_at), meta);
}

function changes(found) {
  const list = element("dl", "changes");
  for (const [name, change] of Object.entries(found)) {
    const arrow = element("span", "arrow", "→");
    arrow.setAttribute("aria-label", "became");
    list.append(
      element("dt", "", fieldName(name)),
      element("dd", "", element("del", "", plain(change?.from)), arrow, element("ins", "", plain(change?.to))),
    );
  }
  return list;
}

/** A line of the activity log. */
export function event(row, several) {
  const line = element(
    "div", "line",
    chip(row.event_type, row.entity_type),
    row.entity_type === "command"
      ? commandLink(row.entity_id, `command ${shortened(row.entity_id)}`, "entity")
      : element("span", "entity", `${row.entity_type} ${row.entity_id}`),
    row.caused_by ? commandLink(row.caused_by, `by command ${shortened(row.caused_by)}`, "entity") : null,
    row.outcome && row.entity_type !== "command" // whose event says how it ended
      ? element("span", `chip plain ${outcomeTone(row.outcome)}`, row.outcome)
      : null,
    row.duration_ms === null ? null : element("span", "entity", duration(row.duration_ms)),
    account(row, several),
    time(row.occurred_at),
  );
  const some = row.changes && Object.keys(row.changes).length > 0;
  return element(
    "li", `event ${kindOf(row.entity_type)}`,
    line,
    element("p", "what", row.summary),
    some ? changes(row.changes) : null,
  );
}

function emptiness(title, text) {
  return element("li", "empty", element("strong", "", title), text);
}

/** A list that is told all its rows again and again, and touches only what is new or different. */
export class Rows {
  #list; #make; #key; #empty; #made = new Map(); #first = true;

  constructor(list, make, key, empty) {
    this.#list = list;
    this.#make = make;
    this.#key = key;
    this.#empty = empty;
  }

  /** Show these rows; returns how many are new. */
  show(rows, several) {
    const made = new Map();
    let fresh = 0;
    for (const row of rows) {
      const key = this.#key(row);
      const text = JSON.stringify([row, several]);
      const before = this.#made.get(key);
      if (before?.text === text) {
        made.set(key, before);
        continue;
      }
      const node = this.#make(row, several);
      if (!this.#first) {
        node.classList.add("fresh");
        fresh += 1;
      }
      made.set(key, { text, node });
    }
    this.#made = made;
    this.#first = false;
    this.#place([...made.values()].map((entry) => entry.node));
    return fresh;
  }

  /** Forget everything: what comes next is not news. */
  reset() {
    this.#made = new Map();
    this.#first = true;
    this.#list.replaceChildren();
  }

  #place(nodes) {
    const wanted = nodes.length > 0 ? nodes : [emptiness(...this.#empty)];
    const keep = new Set(wanted);
    for (const child of [...this.#list.children]) if (!keep.has(child)) child.remove();
    // A node that is where it belongs is not moved: moving would end its animation and a reader's selection.
    let at = this.#list.firstElementChild;
    for (const node of wanted) {
      if (node === at) at = at.nextElementSibling;
      else this.#list.insertBefore(node, at);
    }
  }
}
