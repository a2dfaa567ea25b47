// Copies and hides the password. Without this script it stays on the page until the page is left.
"use strict";
(() => {
  const groups = document.getElementById("groups");
  const state = document.getElementById("state");
  const hide = document.getElementById("hide");
  const copy = document.getElementById("copy");
  const VISIBLE = 60000; // milliseconds until it hides itself
  const KEPT = 600000; // until it is removed from the page
  let password = groups.textContent;
  let timer;

  const hidden = () => groups.classList.contains("hidden");
  const setHidden = (on) => {
    if (!password) return;
    groups.classList.toggle("hidden", on);
    groups.setAttribute("aria-hidden", String(on));
    hide.textContent = on ? hide.dataset.show : hide.dataset.hide;
    state.textContent = on ? state.dataset.hidden : "";
    clearTimeout(timer);
    if (!on) timer = setTimeout(() => setHidden(true), VISIBLE);
  };
  const remove = () => {
    clearTimeout(timer);
    password = "";
    groups.textContent = "";
    document.getElementById("tools").hidden = true;
    state.textContent = state.dataset.gone;
  };

  document.getElementById("tools").hidden = false;
  copy.addEventListener("click", async () => {
    try {
      await navigator.clipboard.writeText(password);
      state.textContent = state.dataset.copied;
    } catch {
      getSelection().selectAllChildren(groups); // the person copies the selection
    }
  });
  hide.addEventListener("click", () => setHidden(!hidden()));
  addEventListener("blur", () => setHidden(true));
  document.addEventListener("visibilitychange", () => document.hidden && setHidden(true));
  addEventListener("pagehide", remove); // a page that the browser keeps for "back" has no password
  setTimeout(remove, KEPT);
  setHidden(false);
})();
