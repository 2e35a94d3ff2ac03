"use strict";
// A row of tokens coloured by v.
function background(v) {
  const palette = DATA.palettes[dark.matches ? "dark" : "light"];
  const share = typeof v === "number" ? Math.min(Math.abs(v) / DATA.full, 1) : 0;
  const end = palette[v > 0 ? "more" : "less"];
  return `rgb(${palette.none.map((n, i) => Math.round(n + (end[i] - n) * share)).join(" ")})`;
}

// One answer's tokens, and the line that reads one of them out. One stop of the Tab key; the arrow
// keys, Home and End go from token to token.
function tokenRow(answer) {
  const reading = make("div", { class: "reading", "aria-live": "polite" });
  const row = make("div", {
    class: "text tokens", tabindex: "0", role: "group",
    "aria-label": `${answer.tokens.length} tokens; arrow keys move between them`,
  });
  const given = answer.token_logps || [], alone = answer.token_logps_standalone || [];
  const spans = answer.tokens.map((piece, i) => {
    const span = make("span", { class: "tok" }, visible(piece));
    span.dataset.i = i;
    span.style.background = background(answer.token_values[i]);
    return span;
  });
  let at = -1;
  function show(i) {
    if (spans[at]) spans[at].classList.remove("here");
    at = i;
    if (!spans[at]) { reading.textContent = ""; return; }
    spans[at].classList.add("here");
    const parts = [`${at + 1}: \u201c${visible(answer.tokens[at]).slice(0, 80)}\u201d`,
      `v ${number(answer.token_values[at])} nats`];
    if (given.length) parts.push(`log P with the question ${number(given[at])}`);
    if (alone.length) parts.push(`without ${number(alone[at])}`);
    reading.textContent = parts.join("  \u00b7  ");
  }
  row.addEventListener("pointerover", (e) => {
    const i = e.target.dataset && e.target.dataset.i;
    if (i !== undefined) show(Number(i));
  });
  row.addEventListener("focus", () => { if (at < 0) show(0); });
  row.addEventListener("keydown", (e) => {
    const last = spans.length - 1;
    const to = { ArrowRight: at + 1, ArrowDown: at + 1, ArrowLeft: at - 1, ArrowUp: at - 1,
      Home: 0, End: last }[e.key];
    if (to === undefined) return;
    e.preventDefault();
    show(Math.max(0, Math.min(last, to)));
    spans[at].scrollIntoView({ block: "nearest" });
  });
  row.append(...spans);
  return [row, reading];
}

function legend() {
  const mark = (v, text) => {
    const span = make("span", {}, text);
    span.style.background = background(v);
    return span;
  };
  return make("div", { class: "legend" },
    mark(DATA.full, `v \u2265 ${DATA.full} nats: the question explains the token`),
    mark(0, "v = 0: it makes no difference"),
    mark(-DATA.full, `v \u2264 \u2212${DATA.full}: it makes the token less probable`));
}
