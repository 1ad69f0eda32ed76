"""The style and the script inside a report's page."""

__all__ = ["SCRIPT", "STYLE"]

STYLE = """
:root { color-scheme: light dark; --ink: #1d2126; --soft: #5c6570; --line: #dfe3e8;
  --paper: #fff; --card: #f6f7f9; --accent: #b8430f; }
@media (prefers-color-scheme: dark) { :root { --ink: #e6e9ed; --soft: #9aa4b0; --line: #343a42;
  --paper: #15181c; --card: #1e2227; --accent: #ff9a66; } }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 82rem; padding: 2.2rem 1.4rem 5rem; background: var(--paper);
  color: var(--ink); font: 16px/1.55 system-ui, -apple-system, "Segoe UI", sans-serif; }
h1 { font-size: 1.75rem; line-height: 1.2; margin: 0 0 .3rem; overflow-wrap: anywhere; }
h2 { font-size: 1.2rem; margin: 2.8rem 0 .2rem; }
h3 { font-size: 1rem; margin: 1.6rem 0 .2rem; overflow-wrap: anywhere; }
p { margin: .2rem 0 .9rem; max-width: 62rem; }
.soft { color: var(--soft); }
nav { display: flex; flex-wrap: wrap; gap: .2rem 1.2rem; margin: 1rem 0 0; padding: .6rem 0;
  border-block: 1px solid var(--line); }
a { color: var(--accent); text-decoration: none; } a:hover { text-decoration: underline; }
.best { display: grid; grid-template-columns: repeat(auto-fill, minmax(15rem, 1fr)); gap: .9rem;
  margin: 1.4rem 0 0; }
.best div { background: var(--card); border: 1px solid var(--line); border-radius: 8px;
  padding: .8rem 1rem; overflow-wrap: anywhere; }
.best b { display: block; font-size: 1.55rem; font-variant-numeric: tabular-nums; }
.best small { display: block; color: var(--soft); }
.panels { display: grid; gap: .8rem; margin: .6rem 0 1rem;
  grid-template-columns: repeat(auto-fill, minmax(min(100%, 23rem), 1fr)); }
.panels.alone { grid-template-columns: minmax(0, 42rem); }
.panels img { display: block; width: 100%; height: auto; }
.legend { display: flex; flex-wrap: wrap; gap: .2rem 1.4rem; margin: 0 0 1rem; padding: 0;
  list-style: none; font-size: .9rem; }
.legend li { overflow-wrap: anywhere; }
.legend img { height: 1em; margin-right: .45rem; vertical-align: -.12em; }
.scroll { overflow-x: auto; border: 1px solid var(--line); border-radius: 8px; }
table { border-collapse: collapse; width: 100%; font-size: .9rem;
  font-variant-numeric: tabular-nums; }
th, td { padding: .38rem .75rem; text-align: left; white-space: nowrap; }
th { background: var(--card); position: sticky; top: 0; }
td { border-top: 1px solid var(--line); }
.number { text-align: right; }
th button { all: unset; cursor: pointer; font-weight: 600; }
th button:hover, th button:focus-visible { color: var(--accent); text-decoration: underline; }
th[aria-sort=ascending] button::after { content: " \\2191"; }
th[aria-sort=descending] button::after { content: " \\2193"; }
tbody tr:hover { background: var(--card); }
pre { background: var(--card); border: 1px solid var(--line); border-radius: 8px;
  padding: .8rem 1rem; overflow-x: auto; font-size: .85rem; line-height: 1.45; }
code { font-family: ui-monospace, "SF Mono", Menlo, Consolas, monospace; }
dl { display: grid; grid-template-columns: max-content 1fr; gap: .15rem 1.2rem; margin: .5rem 0; }
dt { color: var(--soft); } dd { margin: 0; overflow-wrap: anywhere; }
@media (max-width: 40rem) { body { padding: 1.2rem .9rem 3rem; } h1 { font-size: 1.4rem; }
  dl { grid-template-columns: 1fr; gap: 0; } dd { margin-bottom: .5rem; } }
@media print { nav { display: none; } body { max-width: none; } }
"""

SCRIPT = """
"use strict";
function value(row, column) {
  const cell = row.cells[column], number = cell.dataset.value;
  return number === undefined ? cell.textContent : Number(number);
}
function compare(a, b) {
  if (typeof a === "number" && typeof b === "number") return a - b;
  if (typeof a === "number") return -1;
  if (typeof b === "number") return 1;
  return a.localeCompare(b, "en", { numeric: true });
}
function sort(table, column, descending) {
  const rows = Array.from(table.tBodies[0].rows), sign = descending ? -1 : 1;
  rows.sort((a, b) => sign * compare(value(a, column), value(b, column)));
  table.tBodies[0].append(...rows);
  Array.from(table.tHead.rows[0].cells).forEach((head, i) => {
    if (i === column) head.setAttribute("aria-sort", descending ? "descending" : "ascending");
    else head.removeAttribute("aria-sort");
  });
}
function headers(table) { return Array.from(table.tHead.rows[0].cells); }
function sortAsAddressed() {
  let match = null;
  try { match = /^#sort=([^.]+)\\.(-?)(.+)$/.exec(decodeURIComponent(location.hash)); }
  catch (error) { return; }
  const table = match && document.getElementById("table-" + match[1]);
  if (!table) return;
  const column = headers(table).findIndex((head) => head.textContent === match[3]);
  if (column >= 0) sort(table, column, match[2] === "-");
}
for (const table of document.querySelectorAll("table")) {
  headers(table).forEach((head, column) => {
    head.firstElementChild.addEventListener("click", () => {
      const before = head.getAttribute("aria-sort");
      const numbers = head.classList.contains("number");
      const descending = before ? before === "ascending" : numbers;
      sort(table, column, descending);
      const name = (descending ? "-" : "") + head.textContent;
      history.replaceState(null, "", "#sort=" + table.id.slice(6) + "." + encodeURIComponent(name));
    });
  });
}
sortAsAddressed();
addEventListener("hashchange", sortAsAddressed);
"""
