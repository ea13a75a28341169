// Keeps an open page up to date: when the server says that something has changed, the page's content
// is fetched again. Without this script, reload the page.
"use strict";

const main = document.querySelector("main[data-live]");
const state = document.querySelector("#live");

// Whether somebody is filling in a form, or has filled it in, which must not be taken away.
function isFilledIn() {
  return document.activeElement?.matches("input, select, textarea")
    || [...main.querySelectorAll("input")].some((field) => field.value !== field.defaultValue);
}

async function refresh() {
  if (document.hidden || isFilledIn()) return;
  const answer = await fetch(location.href);
  if (!answer.ok) return;
  const next = new DOMParser().parseFromString(await answer.text(), "text/html").querySelector("main");
  // That took time.
  if (isFilledIn()) return;
  const focused = document.activeElement?.id;
  main.replaceChildren(...next.childNodes);
  if (focused) document.getElementById(focused)?.focus();
  state.textContent = `live, as of ${new Date().toLocaleTimeString()}`;
}

if (main) {
  const changes = new EventSource(main.dataset.live);
  changes.addEventListener("changed", () => refresh().catch(() => {}));
  changes.addEventListener("error", () => { state.textContent = "not live: connecting again"; });
  document.addEventListener("visibilitychange", () => refresh().catch(() => {}));
}
