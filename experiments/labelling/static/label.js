// Keys press the page's own buttons; nothing is sent from here. Without scripts the buttons do the same.
"use strict";

const form = document.getElementById("answer");
const keys = document.getElementById("keys");
let sent = false;

if (keys) {
  keys.closest("[hidden]").hidden = false;
  keys.checked = localStorage.getItem("keys") !== "off";
  document.body.classList.toggle("no-keys", !keys.checked);
  keys.addEventListener("change", () => {
    localStorage.setItem("keys", keys.checked ? "on" : "off");
    document.body.classList.toggle("no-keys", !keys.checked);
  });
}

if (form) {
  // One page sends once: the second press of a double click would meet the next pair, unread.
  form.addEventListener("submit", (event) => {
    if (sent) event.preventDefault();
    sent = true;
  });
  document.addEventListener("keydown", (event) => {
    const typing = event.target.closest("input:not([type=checkbox]), textarea, select");
    if (event.repeat || event.ctrlKey || event.altKey || event.metaKey || event.isComposing || typing) return;
    if (sent || !keys.checked) return;
    const key = event.key.length === 1 ? event.key.toLowerCase() : event.key;
    const button = [...form.querySelectorAll("button[data-key]")].find(
      (one) => one.dataset.key === key || one.dataset.also === key,
    );
    if (!button || button.disabled) return;
    event.preventDefault();
    button.click();
  });
  if (form.dataset.look) {
    setInterval(async () => {
      if (sent || document.hidden) return;
      try {
        const answer = await fetch(form.dataset.look);
        if (answer.ok && (await answer.json()).open && !sent) location.assign("/");
      } catch {
        // The page is closed for now; the next look may find it.
      }
    }, 2000);
  }
}

// A page that comes out of the browser's memory would show a pair that is answered.
window.addEventListener("pageshow", (event) => {
  if (event.persisted) location.reload();
});

// A live region speaks when it changes, and not for what it was loaded with.
const message = document.getElementById("message");
if (message && message.textContent) {
  const words = message.textContent;
  message.textContent = "";
  setTimeout(() => (message.textContent = words), 50);
}
