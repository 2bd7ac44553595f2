"use strict";
document.documentElement.classList.add("scripted");

// Tables: a press on a head sorts by its column, another one turns the order. Lines without a value stay last.
for (const table of document.querySelectorAll("table.sortable")) {
  const body = table.tBodies[0];
  [...table.tHead.rows[0].cells].forEach((head, column) => {
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = head.textContent;
    head.replaceChildren(button);
    button.addEventListener("click", () => {
      const up = head.getAttribute("aria-sort") !== "ascending";
      for (const other of table.tHead.rows[0].cells) other.removeAttribute("aria-sort");
      head.setAttribute("aria-sort", up ? "ascending" : "descending");
      const key = (row) => row.cells[column].dataset.value;
      const text = (row) => row.cells[column].textContent.trim();
      const numbers = [...body.rows].some((row) => key(row) !== undefined);
      const rows = [...body.rows].sort((a, b) => {
        if (!numbers) return (up ? 1 : -1) * text(a).localeCompare(text(b), undefined, { numeric: true });
        if (key(a) === undefined || key(b) === undefined) return (key(a) === undefined) - (key(b) === undefined);
        return (up ? 1 : -1) * (key(a) - key(b));
      });
      body.append(...rows);
    });
  });
}

// Duels: filters, and so many at a time.
for (const browser of document.querySelectorAll(".browser")) {
  const form = browser.querySelector("form");
  const more = browser.querySelector(".more");
  const output = browser.querySelector("output");
  const duels = [...browser.querySelectorAll("li")];
  const words = new Map();
  const page = 20;
  let limit = page;

  const said = (duel) => {
    if (!words.has(duel)) words.set(duel, [...duel.querySelectorAll(".text")].map((one) => one.textContent).join("\n").toLowerCase());
    return words.get(duel);
  };
  const value = (name) => (form.elements[name] ? form.elements[name].value.trim() : "");
  const within = (number, low, high) => (low === "" || number >= Number(low)) && (high === "" || number <= Number(high));
  const wanted = (duel) => {
    const { agent, seed, step, won, p, odd } = duel.dataset;
    const asked = value("won");
    return (value("agent") === "" || agent === value("agent"))
      && (value("seed") === "" || seed === value("seed"))
      && (asked === "" || (asked === "odd" ? odd !== undefined : won === asked))
      && within(Number(step), value("from"), value("to"))
      && ((value("low") === "" && value("high") === "") || (p !== undefined && within(Number(p), value("low"), value("high"))))
      && said(duel).includes(value("text").toLowerCase());
  };
  const show = () => {
    const found = duels.filter(wanted);
    const seen = new Set(found.slice(0, limit));
    for (const duel of duels) duel.hidden = !seen.has(duel);
    output.textContent = `${seen.size.toLocaleString("en")} shown of ${found.length.toLocaleString("en")} that match`;
    more.hidden = seen.size === found.length;
  };
  form.addEventListener("input", () => { limit = page; show(); });
  form.addEventListener("reset", () => setTimeout(() => { limit = page; show(); }));
  form.addEventListener("submit", (event) => event.preventDefault());
  more.addEventListener("click", () => { limit += page; show(); });
  form.hidden = false;
  show();
}

// On paper everything is open.
addEventListener("beforeprint", () => {
  for (const details of document.querySelectorAll("details:not([open])")) {
    details.open = true;
    details.dataset.printed = "";
  }
});
addEventListener("afterprint", () => {
  for (const details of document.querySelectorAll("details[data-printed]")) {
    details.open = false;
    delete details.dataset.printed;
  }
});
