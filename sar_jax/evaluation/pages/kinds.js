"use strict";
// What each kind of answer earns: two tables, and v along the answer.
(() => {
  const kinds = DATA.kinds;
  const main = document.getElementById("main");
  const percent = (x) => `${(100 * x).toFixed(1)} %`;
  const mean = ([value, low, high]) => `${number(value)} (${number(low)} to ${number(high)})`;
  const signed = (x) => (x < 0 ? "\u2212" : "+") + number(Math.abs(x));
  const designs = Object.keys(kinds[0].advantages);
  const x = kinds[0].profile.map((_, i) => Math.round(100 * (i + 0.5) / kinds[0].profile.length));
  main.append(
    make("h2", {}, "What each kind of answer earns"),
    make("p", { class: "dim" }, "Means over questions, with 95 % intervals. A copied token is in a run of 8 or more "
      + "that its prompt has too; without copies, v is 0 there."),
    table(["kind", "right", "tokens", "copied", "R_SA", "R_SA without copies"], kinds.map((k) =>
      [k.name, percent(k.right), number(k.tokens, 1), percent(k.copied), mean(k.reward), mean(k.without_copies)])),
    make("h2", {}, "The advantage that each design of the rewards gives it"),
    make("p", { class: "dim" }, "All kinds of a question are one group; the reward minus the group's mean."),
    table(["design", ...kinds.map((k) => k.name)], designs.map((d) => [d, ...kinds.map((k) => signed(k.advantages[d]))])),
    make("h2", {}, "Along the answer"),
    make("div", { class: "charts" }, chart({ title: "Mean v by relative position (nats)", xName: "% of the answer",
      series: kinds.map((k) => ({ name: k.name, x, y: k.profile })) })),
    make("h2", {}, "The answers"));
})();
