// Durations: asked for as a number and a unit, and shown in words.

import { field, h, plural } from "./dom.js";

const UNITS = { day: 86_400, hour: 3_600, minute: 60, second: 1 };
const ASKED = ["day", "hour", "minute"];
const LONGEST = 36_500 * UNITS.day; // the server's limit

// Seconds in the largest unit that shows them without a fraction, such as 90 minutes.
export function duration(seconds) {
  const units = Object.entries(UNITS);
  const [name, size] = units.find(([, size]) => seconds % size === 0) ?? units.find(([, size]) => seconds >= size) ?? units.at(-1);
  return plural(seconds / size, name);
}

export function durationField(label, name, hint) {
  const unit = h("select", { name: `${name}_unit`, "aria-label": `Unit of: ${label}` }, ASKED.map((value) => h("option", { value }, `${value}s`)));
  return field(label, h("input", { type: "number", name, min: "0", step: "any" }), hint, unit);
}

// The seconds in the values of a form; null if the field is empty.
export function secondsIn(given, name) {
  if (given[name] === "") return null;
  const unit = given[`${name}_unit`];
  const seconds = Number(given[name]) * UNITS[unit];
  if (seconds > 0 && seconds <= LONGEST) return seconds;
  throw new Error(`A time is more than 0 and at most 100 years, not ${plural(Number(given[name]), unit)}.`);
}
