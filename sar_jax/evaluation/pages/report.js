"use strict";
// The sections of a report.
(() => {
  const main = document.getElementById("main");
  const runs = DATA.runs;
  const section = (title, ...children) => {
    if (children.some(Boolean)) main.append(make("h2", {}, title), ...children.filter(Boolean));
  };
  const percent = (x) => (typeof x === "number" ? `${(100 * x).toFixed(1)} %` : "");
  const last = (run, name) => (run.metrics[name] || []).filter((x) => x !== null).slice(-1)[0];
  const first = (run, name) => (run.metrics[name] || []).filter((x) => x !== null)[0];

  // What was trained
  const differing = DATA.config.filter((row) => row.differs), same = DATA.config.filter((row) => !row.differs);
  const facts = [...new Set(runs.flatMap((r) => Object.keys(r.facts)))];
  if (runs.length) {
    section("What was trained",
      table(["setting", ...runs.map((r) => r.name)], [
        ...facts.map((f) => [f, ...runs.map((r) => r.facts[f] || "")]),
        ["steps", ...runs.map((r) => String(r.steps[r.steps.length - 1] ?? ""))],
        ...differing.map((row) => [row.name, ...row.values])]),
      make("details", {}, make("summary", {}, `${same.length} settings that ${runs.length > 1 ? "are the same" : "were used"}`),
        table(["setting", "value"], same.map((row) => [row.name, row.values[0]]))));
  }

  // What came of it
  const evaluated = runs.filter((r) => first(r, "eval/accuracy") !== undefined);
  if (evaluated.length) {
    const change = (a, b, show) => `${show(a)} \u2192 ${show(b)}`;
    const tokens = (x) => (typeof x === "number" ? x.toFixed(1) : "");
    section("Before and after", table(["greedy evaluation", ...evaluated.map((r) => r.name)], [
      ["questions", ...evaluated.map((r) => String(last(r, "eval/questions")))],
      ["accuracy", ...evaluated.map((r) => change(first(r, "eval/accuracy"), last(r, "eval/accuracy"), percent))],
      ["tokens an answer", ...evaluated.map((r) => change(first(r, "eval/length"), last(r, "eval/length"), tokens))],
      ["cut off", ...evaluated.map((r) => change(first(r, "eval/clipped"), last(r, "eval/clipped"), percent))]]));
  }
  for (const found of DATA.results) {
    section(`Evaluation ${found.name}`, make("p", { class: "dim" }, found.model),
      table(["benchmark", "accuracy", "95 % interval", "tokens", "cut off", "questions", "AES"],
        found.rows.map((row) => [row.name, percent(row.accuracy), row.interval.map(percent).join(" to "),
          row.length.toFixed(1), percent(row.clipped), String(row.questions),
          typeof row.aes === "number" ? row.aes.toFixed(3) : ""])));
  }
  const shown = [
    ...runs.filter((r) => Object.keys(r.behaviours[1]).length).map((r) => [r.name, r.behaviours[1], r.behaviours[0]]),
    ...DATA.results.flatMap((found) => found.rows.filter((row) => Object.keys(row.behaviours).length)
      .map((row) => [`${found.name}, ${row.name}`, row.behaviours, null]))];
  const any = shown.some(([, now, before]) => [now, before || {}].some((found) => Object.values(found).some((x) => x > 0)));
  if (any) {
    const names = Object.keys(shown[0][1]);
    section("Reasoning behaviours", make("p", { class: "dim" }, "Share of answers with words of each; of a run's "
      + "evaluations the first and the last. A phrase counts where it is written, in English."),
      table(["answers", ...names], shown.map(([name, now, before]) => [name, ...names.map((n) =>
        (before ? `${percent(before[n])} \u2192 ` : "") + percent(now[n]))])));
  }
  const evaluations = (run) => run.steps.map((step, i) => ({ name: `step ${step}`,
    x: run.metrics["eval/length"][i], y: run.metrics["eval/accuracy"][i] }))
    .filter((p) => typeof p.x === "number" && typeof p.y === "number");
  const groups = [...evaluated.map((r) => ({ name: r.name, points: evaluations(r) })),
    ...DATA.results.map((found) => ({ name: found.name,
      points: found.rows.map((row) => ({ name: row.name, x: row.length, y: row.accuracy })) }))];
  if (groups.some((g) => g.points.length)) {
    section("Accuracy against length", plane({ title: "Each evaluation; ringed: no other one is both shorter and better",
      groups, xName: "tokens an answer", yName: "accuracy" }));
  }

  // Alarms
  const rung = runs.flatMap((r) => r.alarms.map((a) => [`${r.name}: ${a.name}`,
    `${a.steps.length} step${a.steps.length > 1 ? "s" : ""}, first ${a.steps[0]}, last ${a.steps[a.steps.length - 1]}`]));
  if (rung.length) section("Alarms", table(["alarm", "when"], rung));

  // Curves
  const marks = runs.flatMap((r) => r.alarms.flatMap((a) => a.steps.slice(0, 1).map((step) =>
    ({ name: runs.length > 1 ? `${a.name} (${r.name})` : a.name, step }))));
  const label = (run, name) => (runs.length > 1 ? `${run.name}: ${name}` : name);
  const curves = (title, names) => {
    const series = runs.flatMap((run) => names.filter((n) => run.metrics[n]).map((n) =>
      ({ name: label(run, n), x: run.steps, y: run.metrics[n] })));
    return series.some((s) => s.y.some((y) => y !== null)) ? chart({ title, series, alarms: marks }) : null;
  };
  const having = (prefix) => [...new Set(runs.flatMap((r) => Object.keys(r.metrics)))].filter((n) => n.startsWith(prefix));
  const wanted = [
    ["Accuracy (share right)", ["accuracy", "eval/accuracy"]],
    ["Length of answers (tokens)", ["completions/mean_length", "eval/length"]],
    ["Rewards, without their weights", having("reward/").filter((n) => n.endsWith("/mean"))],
    ["Share of the advantage that each reward carries", having("advantage_share/")],
    ["Perplexity of answers", ["perplexity/conditional", "perplexity/standalone"]],
    ["Answers cut off, and echoes of the question (share)", ["completions/clipped_ratio", "completions/question_overlap"]],
    ["KL to the initial policy (nats a token)", ["kl"]],
    ["Entropy (nats a token)", ["entropy"]],
    ["Share of tokens that the clip cut", ["clip_ratio"]],
    ["Norm of the gradient", ["grad_norm"]],
    ["Seconds of a step, by phase", having("time/")],
    ["Tokens a second", ["tokens_per_second", "rollout/tokens_per_second"]],
    ["Memory of a device (GiB)", having("memory/")],
  ];
  const charts = wanted.map(([title, names]) => curves(title, names)).filter(Boolean);
  if (charts.length) {
    const grid = make("div", { class: "charts" }, ...charts);
    const names = having("").sort();
    const select = make("select", { onchange: () => {
      if (select.value) grid.append(curves(select.value, [select.value]) || "");
      select.value = "";
    } }, make("option", { value: "" }, "choose\u2026"), ...names.map((n) => make("option", {}, n)));
    section("Curves", make("p", { class: "dim" }, "Drag over a stretch to zoom; a name below a chart hides its curve. "
      + "Vertical lines are where an alarm began."), grid,
      make("form", { class: "controls", onsubmit: (e) => e.preventDefault() }, make("label", {}, "another metric", select)));
  }

  // Answers
  const verdict = (a) => a.correct ? make("span", { class: "right" }, "\u2713 right") : make("span", { class: "wrong" }, "\u2717 wrong");
  // An answer as its heat map where it has one, else as text: a list of elements.
  const words = (a) => {
    if (!a.tokens || !a.tokens.length) {
      return [make("div", { class: "text", tabindex: "0", role: "group", "aria-label": "answer" }, visible(a.answer || ""))];
    }
    const more = a.answer && a.tokens.length < a.length ? [make("p", { class: "dim" }, "the beginning")] : [];
    return [...tokenRow(a), ...more];
  };
  const numbers = (a) => {
    const told = [`${a.length} tokens`];
    if (typeof a.reward === "number") told.push(`reward ${number(a.reward)}`);
    if (typeof a["reward/self_aligned"] === "number") told.push(`R_SA ${number(a["reward/self_aligned"])}`);
    if (a.clipped) told.push("cut off");
    return make("div", { class: "numbers" }, verdict(a), ...told.map((t) => make("span", {}, t)));
  };
  const question = (a) => make("div", { class: "text question", tabindex: "0", role: "group", "aria-label": "question" },
    visible(a.question), a.truth === undefined ? "" : make("span", { class: "truth" }, `  \u2192 ${visible(String(a.truth))}`));
  const answers = (list) => make("div", { class: "cards" }, ...list.map((a) =>
    make("article", { class: "card" }, question(a), numbers(a), ...words(a))));
  const mapped = (run) => [...run.pairs.flatMap((p) => [p.before, p.after]), ...run.most].some((a) => a.tokens);
  for (const run of runs) {
    const of = runs.length > 1 ? ` (${run.name})` : "";
    if (run.pairs.length) section(`The same question before and after${of}`, mapped(run) ? legend() : null,
      make("div", { class: "cards" }, ...run.pairs.map(({ before, after }) => make("article", { class: "card" },
        question(before), make("strong", {}, "before"), numbers(before), ...words(before),
        make("strong", {}, "after"), numbers(after), ...words(after)))));
    if (run.most.length) section(`The most rewarded answers of the last samples${of}`, answers(run.most));
    if (run.least.length) section(`The least rewarded${of}`, answers(run.least));
    if (run.unjudged.length) section(`What the verifier could not judge${of}`, answers(run.unjudged));
  }
})();
