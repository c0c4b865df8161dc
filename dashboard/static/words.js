// How values are said: times, event types, and what a field was and became.

const relative = new Intl.RelativeTimeFormat("en", { numeric: "auto" });
const steps = [
  [60, 1, "second"],
  [3600, 60, "minute"],
  [86400, 3600, "hour"],
  [30 * 86400, 86400, "day"],
  [365 * 86400, 30 * 86400, "month"],
  [Infinity, 365 * 86400, "year"],
];
const clock = new Intl.DateTimeFormat("en-GB", {
  day: "numeric", month: "short", year: "numeric", hour: "2-digit", minute: "2-digit", second: "2-digit",
});
const short = new Intl.DateTimeFormat("en-GB", { hour: "2-digit", minute: "2-digit" });
const day = new Intl.DateTimeFormat("en-GB", { day: "numeric", month: "short" });

/** "3 minutes ago" */
export function ago(moment, now = new Date()) {
  const seconds = (moment - now) / 1000;
  if (Math.abs(seconds) < 5) return "just now";
  const [, unit, name] = steps.find(([limit]) => Math.abs(seconds) < limit);
  return relative.format(Math.trunc(seconds / unit), name);
}

/** The whole date and time, in the reader's zone. */
export const absolute = (moment) => clock.format(moment);

/** The time, with the day where that is not today. */
export function brief(moment, now = new Date()) {
  const time = short.format(moment);
  return moment.toDateString() === now.toDateString() ? time : `${day.format(moment)}, ${time}`;
}

/** "kommo.lead.status_changed" as "status changed"; of another noun than the entity's as "call logged" */
export function deed(type, entity) {
  const [, noun = type, ...rest] = type.split(".");
  const verb = rest.join(" ");
  return (noun === entity && verb ? verb : `${noun} ${verb}`).trim().replaceAll("_", " ");
}

/** What a command asks for: "add note on lead 7"; what it makes has no number yet. */
export function asked(row) {
  const deed = row.action.replaceAll("_", " ");
  const known = row.entity_type !== "command" && !row.entity_id.startsWith("new:");
  return known ? `${deed} on ${row.entity_type} ${row.entity_id}` : deed;
}

/** Whose a row is; of a dead letter that may not be known. */
export const accountName = (row) => (row.account_id === null ? "no account" : `account ${row.account_id}`);

/** Where the original of a dead letter lies: topic, partition and offset, and which part of it */
export function origin(row) {
  const place = [row.topic, row.original_partition, row.original_offset].filter((part) => part !== null).join("/");
  return row.item ? `${place} ${row.item}` : place;
}

/** "next probe in 20 s" */
export function probe(until, now = new Date()) {
  const seconds = Math.ceil((until - now) / 1000);
  if (seconds <= 0) return "a probe is due";
  return seconds < 120 ? `next probe in ${seconds} s` : `next probe in ${Math.ceil(seconds / 60)} min`;
}

/** A class for the chip of an event type, or "". */
export function tone(type) {
  if (/\.(deleted|command\.failed)$/.test(type)) return "gone";
  if (type === "kommo.command.unknown") return "doubt";
  return /\.(added|restored|completed|command\.succeeded)$/.test(type) ? "made" : "";
}

/** A class for the chip of an outcome, or "". */
export function outcomeTone(outcome) {
  if (/fail|error|dead|refused|unknown/i.test(outcome)) return "failed";
  return /^(success|succeeded|ok|done|conversation)$/i.test(outcome) ? "success" : "";
}

/** A field's name as words: "status_id" as "status", a custom field as it is called */
export function fieldName(name) {
  return name.startsWith("custom_fields.") ? name.slice(14) : name.replace(/_id$/, "").replaceAll("_", " ");
}

/** A JSON value for a person; long ones are cut. */
export function plain(value) {
  if (value === undefined || value === null || value === "") return "—";
  const flat = Array.isArray(value) && value.every((item) => typeof item !== "object");
  const text = flat ? value.join(", ") || "—" : typeof value === "object" ? JSON.stringify(value) : String(value);
  return text.length > 160 ? `${text.slice(0, 157)}…` : text;
}

/** Milliseconds as "850 ms", "2.4 s" or "3 min 20 s" */
export function duration(ms) {
  if (ms === 0) return "0 s";
  if (ms < 1000) return `${ms} ms`;
  if (ms < 60000) return `${(ms / 1000).toFixed(ms < 10000 ? 1 : 0)} s`;
  return `${Math.floor(ms / 60000)} min ${Math.round((ms % 60000) / 1000)} s`;
}

/** The address if it is a web address over TLS, else null: an event's text must never become a script. */
export function safeLink(text) {
  if (typeof text !== "string" || !URL.canParse(text)) return null;
  const url = new URL(text);
  return url.protocol === "https:" ? url.href : null;
}
