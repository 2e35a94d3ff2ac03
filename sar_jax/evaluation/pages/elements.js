"use strict";
// Shared by pages: the data, and small makers of elements.
const DATA = JSON.parse(document.getElementById("data").textContent);
const dark = matchMedia("(prefers-color-scheme: dark)");

// An element with text, never markup.
function make(tag, attributes, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes || {})) {
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else if (value !== null && value !== undefined) node.setAttribute(name, value);
  }
  node.append(...children);
  return node;
}

// A table that scrolls by itself; the first cell of a row names it.
function table(head, rows) {
  return make("div", { class: "scroll", tabindex: "0", role: "group", "aria-label": head.join(", ") },
    make("table", {},
      make("thead", {}, make("tr", {}, ...head.map((h) => make("th", { scope: "col" }, h)))),
      make("tbody", {}, ...rows.map((row) => make("tr", {}, ...row.map((cell, i) =>
        i ? make("td", {}, cell) : make("th", { scope: "row" }, cell)))))));
}

const number = (x, digits = 3) => (typeof x === "number" ? x.toFixed(digits) : "not finite");

// Characters without a shape, or that change the order of others, are spelled.
const HIDDEN = /[\p{Cc}\p{Cf}\p{Cs}\p{Co}\p{Zl}\p{Zp}]/gu;
function visible(text) {
  return text.replace(HIDDEN, (c) => {
    if (c === "\n") return "\u23ce\n";
    if (c === "\t") return "\u21e5";
    return "\u27e8U+" + c.codePointAt(0).toString(16).toUpperCase().padStart(4, "0") + "\u27e9";
  });
}

dark.addEventListener("change", () => location.reload());
