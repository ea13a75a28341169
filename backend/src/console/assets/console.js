// Keeps an open page up to date: when the server says that something has changed, the page's content
// is fetched again. Without this script, reload the page.
"use strict";

const main = document.querySelector("main[data-live]");
const state = document.querySelector("#live");

async function refresh() {
  // Never takes away what somebody is filling in, or has filled in.
  if (document.hidden || document.activeElement?.matches("input, select, textarea")) return;
  if ([...main.querySelectorAll("input")].some((field) => field.value !== field.defaultValue)) return;
  const answer = await fetch(location.href);
  if (!answer.ok) return;
  const next = new DOMParser().parseFromString(await answer.text(), "text/html").querySelector("main");
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
