// A line chart of values over time, with the limit.

import { h, svg, time } from "./dom.js";

const [WIDTH, HEIGHT] = [440, 160];
const [LEFT, RIGHT, TOP, BOTTOM] = [4, 6, 20, 4];
const DAY = 86_400_000;

// points: [{at, value}] in order of time (milliseconds). limit: a number or null. show(value) returns the text of a value.
export function plot({ title, points, limit, show }) {
  const values = points.map((point) => point.value);
  const most = Math.max(1, limit ?? 0, ...values) * 1.05;
  const [begin, end] = [points[0].at, points.at(-1).at];
  const x = (at) => LEFT + (end === begin ? 1 : (at - begin) / (end - begin)) * (WIDTH - LEFT - RIGHT);
  const y = (value) => HEIGHT - BOTTOM - (value / most) * (HEIGHT - TOP - BOTTOM);
  // A value holds until the next one.
  const steps = points.map(({ at, value }, index) => `${index ? `H${x(at).toFixed(1)}` : `M${x(at).toFixed(1)},${y(value).toFixed(1)}`}V${y(value).toFixed(1)}`);
  const line = steps.join("");
  const now = points.at(-1);
  const parts = [
    svg("line", { class: "axis", x1: LEFT, x2: WIDTH - RIGHT, y1: y(0), y2: y(0) }),
    svg("path", { class: "area", d: `${line}V${y(0)}H${x(begin).toFixed(1)}Z` }),
    svg("path", { class: "line", d: line }),
    svg("circle", { class: "dot", cx: x(now.at), cy: y(now.value), r: 3.5 }),
  ];
  if (limit != null) {
    parts.push(svg("line", { class: "limit", x1: LEFT, x2: WIDTH - RIGHT, y1: y(limit), y2: y(limit) }));
    parts.push(svg("text", { class: "limit-name", x: LEFT, y: y(limit) - 6 }, `limit ${show(limit)}`));
  }
  const summary = `${title}: ${show(now.value)} now${limit == null ? ", no limit" : ` of ${show(limit)}`}; between ${show(Math.min(...values))} and ${show(Math.max(...values))} in this period.`;
  const format = end - begin < DAY ? "clock" : "both";
  const picture = svg("svg", { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, role: "img", "aria-label": summary, class: "plot" }, parts);
  return h("figure", {}, picture, h("figcaption", { class: "row muted" }, time(begin, format), h("span", { class: "grow" }), end > begin && time(end, format)));
}
