"use strict";
// Many scored answers beside each other, sorted and filtered.
(() => {
  const PART = 60;  // answers that are shown at a time
  const all = DATA.answers.map((answer, i) => ({ ...answer, place: i }));
  const judged = all.some((a) => typeof a.correct === "boolean");
  const named = [...new Set(all.map((a) => a.kind).filter((k) => typeof k === "string"))];
  const ORDERS = {
    "as in the file": (a, b) => a.place - b.place,
    "highest R_SA first": (a, b) => b.self_aligned - a.self_aligned,
    "lowest R_SA first": (a, b) => a.self_aligned - b.self_aligned,
    "longest first": (a, b) => b.tokens.length - a.tokens.length,
    "shortest first": (a, b) => a.tokens.length - b.tokens.length,
  };
  const choice = (label, names, change) => {
    const select = make("select", { onchange: change }, ...names.map((n) => make("option", {}, n)));
    return [make("label", {}, label, select), select];
  };
  const field = (label, type, change, more) => {
    const input = make("input", { type, oninput: change, ...more });
    return [make("label", {}, label, input), input];
  };
  let found = all, shown = 0;
  const cards = make("div", { class: "cards" });
  const count = make("p", { class: "dim", "aria-live": "polite" });
  const more = make("button", { type: "button", onclick: () => add() }, "show more");
  const again = () => {
    const words = wanted.value.toLowerCase(), low = Number(least.value);
    found = all.filter((a) => a.self_aligned >= low &&
      (!words || (a.question + "\n" + (a.answer || "")).toLowerCase().includes(words)) &&
      (named.length < 2 || kind.value === "all" || a.kind === kind.value) &&
      (!judged || verdict.value === "all" || (verdict.value === "right") === (a.correct === true)));
    found.sort(ORDERS[order.value]);
    shown = 0;
    cards.replaceChildren();
    add();
  };
  const [orderLabel, order] = choice("order", Object.keys(ORDERS), again);
  const [verdictLabel, verdict] = choice("verdict", ["all", "right", "wrong"], again);
  const [kindLabel, kind] = choice("kind", ["all", ...named], again);
  const [wantedLabel, wanted] = field("contains", "search", again);
  const [leastLabel, least] =
    field("R_SA at least", "number", again, { value: "-1", min: "-1", max: "1", step: "0.1" });

  function card(a) {
    const right = typeof a.correct === "boolean"
      ? make("span", { class: a.correct ? "right" : "wrong" }, a.correct ? "\u2713 right" : "\u2717 wrong")
      : "";
    const [row, reading] = tokenRow(a);
    return make("article", { class: "card" },
      make("h2", {}, `${a.place + 1}${a.id !== undefined ? " \u00b7 " + visible(String(a.id)).slice(0, 80) : ""}`),
      make("div", { class: "numbers" },
        make("strong", {}, `R_SA ${number(a.self_aligned)}`),
        make("span", {}, `ppl(a) ${number(a.ppl_standalone)}`),
        make("span", {}, `ppl(a|q) ${number(a.ppl_conditional)}`),
        make("span", {}, `${a.tokens.length} tokens`), right),
      make("div", { class: "text question", tabindex: "0", role: "group", "aria-label": "question" },
        visible(a.question)),
      row, reading);
  }

  function add() {
    const next = found.slice(shown, shown + PART);
    cards.append(...next.map(card));
    shown += next.length;
    count.textContent = `${found.length} of ${all.length} answers` +
      (shown < found.length ? `, the first ${shown} are shown` : "");
    more.hidden = shown >= found.length;
  }

  document.getElementById("main").append(
    legend(),
    make("form", { class: "controls", onsubmit: (e) => e.preventDefault() },
      orderLabel, ...(judged ? [verdictLabel] : []),
      ...(named.length > 1 ? [kindLabel] : []), leastLabel, wantedLabel),
    count, cards, more);
  add();
})();
