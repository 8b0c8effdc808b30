// The page: data from the script element "data", shown in the parts of page.html.

const DATA = JSON.parse(document.getElementById("data").textContent);
const byId = (id) => document.getElementById(id);
const plural = (unit) => ["year", "week", "day", "hour", "minute", "second"].includes(unit) ? `${unit}s` : unit;
const percent = (share) => `${(100 * share).toFixed(1)}%`;
const count = (n, one, many) => `${n.toLocaleString("en")} ${n === 1 ? one : many}`;

function unpack(packed) {
  if (packed === null) return null;
  const bytes = Uint8Array.from(atob(packed.base64), (letter) => letter.charCodeAt(0));
  return packed.type === "i4" ? new Int32Array(bytes.buffer) : new Float32Array(bytes.buffer);
}

function bandNote() {
  return DATA.members > 1
    ? `Bands are one standard deviation over ${DATA.members} members: how refits differ, and no confidence interval.`
    : "There is one model, and so no band.";
}

const between = (low, high) => known(low) ? ` (${told(low)} to ${told(high)})` : "";

function importanceFigure({ term, title, importance, low, high, share }) {
  return figure({
    title: "Importance", note: `The mean absolute contribution of each term to ${DATA.scale}.`,
    draw: barChart({ bars: term.map((_, n) => ({ label: title[n], value: importance[n], low: low[n], high: high[n] })), xLabel: `contribution to ${DATA.scale}`, oneSided: true }),
    says: (n) => `${title[n]}: ${told(importance[n])}${between(low[n], high[n])}, ${percent(share[n])} of all`,
    columns: ["term", "importance", "low", "high", "share"],
    rows: () => term.map((name, n) => [name, importance[n], low[n], high[n], share[n]]),
  });
}

function calibrationFigure({ predicted, observed, n, bias, slope, classes, labels }) {
  const what = classes ? "rate" : "mean", line = known(slope) ? ` The slope is ${told(slope)}; below 1 predictions are too far apart, above it too close together.` : "";
  return figure({
    title: "Calibration",
    note: `${count(labels, "label", "labels")} in groups of similar predictions. On the dashed line the ${what} that was observed is the one that was predicted. ` +
      `Predictions are ${told(Math.abs(bias))} too ${bias < 0 ? "low" : "high"} on the whole.${line}`,
    draw: lineChart({ series: [{ x: predicted, y: observed, kind: 0, points: true }], xLabel: `predicted ${classes ? "probability" : DATA.output}`, yLabel: `observed ${what}`, diagonal: true, zero: false }),
    says: (at) => `predicted ${told(predicted[at])}, observed ${told(observed[at])}, ${count(n[at], "label", "labels")}`,
    columns: ["predicted", "observed", "n"], rows: () => predicted.map((p, at) => [p, observed[at], n[at]]),
  });
}

function memoryFigure({ term, title, timescale, change, gain, low, high, unit, loss }) {
  const gains = gain.some(known), value = gains ? gain : change;
  const says = (n) => `${title[n]}: ` + (gains ? `without its history the loss changes by ${told(gain[n])}${between(low[n], high[n])}; ` : "") +
    `contributions change by ${told(change[n])}; states last ${told(timescale[n][0])} to ${told(timescale[n][2])} ${plural(unit)}, the median ${told(timescale[n][1])}`;
  return figure({
    title: "Memory",
    note: gains ? `By how much the loss, which is ${told(loss)}, rises where a term sees its last value alone.` : "By how much contributions change when a term sees its last value alone.",
    draw: barChart({ bars: term.map((_, n) => ({ label: title[n], value: value[n], low: gains ? low[n] : null, high: gains ? high[n] : null })), xLabel: gains ? "rise of the loss" : `change of ${DATA.scale}` }),
    says, columns: ["term", "timescale 10%", "timescale 50%", "timescale 90%", "change", "gain", "low", "high"],
    rows: () => term.map((name, n) => [name, ...timescale[n], change[n], gain[n], low[n], high[n]]),
  });
}

function missingFigure({ term, title, effect, low, high, never, held, n_never: count_ }) {
  return figure({
    title: "Missing values", note: "What a term contributes where its column was never observed, over what it does on the mean.",
    draw: barChart({ bars: term.map((_, n) => ({ label: title[n], value: effect[n], low: low[n], high: high[n] })), xLabel: `effect on ${DATA.scale}` }),
    says: (n) => `${title[n]}: ${told(effect[n])}${between(low[n], high[n])}; never observed at ${percent(never[n])} of the predictions` + (count_[n] ? "" : ", so that nothing here shows it"),
    columns: ["term", "effect", "low", "high", "never", "held", "n never"],
    rows: () => term.map((name, n) => [name, effect[n], low[n], high[n], never[n], held[n], count_[n]]),
  });
}

function trustFigure({ term, title, worst, observed, estimate, agreement, identified }) {
  const value = agreement || observed;
  return figure({
    title: "Trust",
    note: (agreement ? "The agreement of the members on each term: 1 where all say the same; below 0.5 the term is not identified. " : "The concurvity of each term: ") +
      "Concurvity, in the table, is how much of a term the others could say: 0 none, 1 all.",
    draw: barChart({ bars: term.map((_, n) => ({ label: title[n], value: value[n], low: null, high: null })), xLabel: agreement ? "agreement of members" : "observed concurvity" }),
    says: (n) => `${title[n]}: ` + (agreement ? `agreement ${told(agreement[n])}${identified[n] ? "" : ", not identified"}; ` : "") + `concurvity ${told(observed[n])} observed, ${told(worst[n])} at worst`,
    columns: ["term", "concurvity worst", "concurvity observed", "concurvity estimate", ...(agreement ? ["agreement", "identified"] : [])],
    rows: () => term.map((name, n) => [name, worst[n], observed[n], estimate[n], ...(agreement ? [agreement[n], identified[n]] : [])]),
  });
}

function showOverview() {
  const { scores, calibration, why, importance, memory, missing, trust } = DATA.overview;
  const background = DATA.background ? ` Contributions are centred on ${count(DATA.background[0], "other id", "other ids")}.` : "";
  byId("about").textContent = `${DATA.model}, explained on ${count(DATA.ids, "id", "ids")} and ${count(DATA.visits, "visit", "visits")}. ` +
    `Contributions are to ${DATA.scale}; of each term they have the mean 0.${background} ${bandNote()}`;
  byId("scores").append(...scores.map(({ name, value, told: how }) =>
    node("div", { "data-score": name }, node("dt", {}, name), node("dd", {}, told(value), node("small", {}, how)))));
  if (why) byId("scores").after(node("p", { class: "note" }, why));
  const figures = [importanceFigure(importance)];
  if (calibration) figures.push(calibrationFigure(calibration));
  if (memory) figures.push(memoryFigure(memory));
  figures.push(missingFigure(missing));
  if (trust) figures.push(trustFigure(trust));
  byId("overview-figures").append(...figures);
}

const KINDS = { recurrent: "reads the history", memoryless: "reads each visit by itself", static: "reads what an id has once", timing: "reads when visits are" };

function settledNote(shape, kind) {
  if (kind !== "recurrent") return "";
  return known(shape.settled) ? `A value is held for ${count(shape.settled, "visit", "visits")}, after which the contribution has settled.`
    : "A value is held; the contribution has not settled after the visits that were tried.";
}

function shapeFigure(term) {
  const s = term.shape, yLabel = `contribution to ${DATA.scale}`, each = [...s.x.keys()];
  const missing = s.n_missing ? `Where it is missing (${count(s.n_missing, "value", "values")}) the term contributes ${told(s.missing)}.` : "It is never missing in the background.";
  const at = (n) => s.level.length ? s.level[n] : told(s.x[n]);
  const columns = [term.name, "contribution", "low", "high", "n", "outside", ...s.after.map((_, n) => `after ${n + 1}`)];
  const rows = () => [...each.map((n) => [s.level.length ? s.level[n] : s.x[n], s.contribution[n], s.low[n], s.high[n], s.n[n], s.outside[n], ...s.after.map((line) => line[n])]),
    ...(s.n_missing ? [["missing", s.missing, null, null, s.n_missing, false, ...s.after.map(() => null)]] : [])];
  const says = (n) => `${at(n)}: ${told(s.contribution[n])}${between(s.low[n], s.high[n])}, ${count(s.n[n], "value", "values")}${s.outside[n] ? ", outside of what occurred" : ""}`;
  const note = `${settledNote(s, term.kind)} ${missing}`.trim();
  const title = `${term.title}: shape`;
  if (s.level.length) {
    const bars = each.map((n) => ({ label: s.level[n], value: s.contribution[n], low: s.low[n], high: s.high[n] }));
    return figure({ title, note, draw: barChart({ bars, xLabel: yLabel }), says, columns, rows });
  }
  const series = [{ x: s.x, y: s.contribution, low: s.low, high: s.high, kind: 0, outside: s.outside },
    ...s.after.map((y, n) => ({ x: s.x, y, kind: n + 1, dash: true }))];
  const legend = s.after.length ? key([{ name: "held until it settles", kind: 0 }, ...s.after_told.map((name, n) => ({ name, kind: n + 1, dash: true }))]) : null;
  const outside = s.outside.some(Boolean) ? " Rings mark what never occurred." : "";
  const draw = lineChart({ series, xLabel: withUnit(term.title, term.unit), yLabel, density: { x: s.x, n: s.n } });
  return figure({ title, note: `${note} Bars below: how many values there are.${outside}`, draw, says, columns, rows, legend });
}

function pairFigure(term) {
  const s = term.shape, names = (level, x) => level.length ? level : x.map(told), xs = names(s.x_level, s.x), ys = names(s.y_level, s.y);
  const cells = ys.flatMap((_, row) => xs.map((_, column) => [column, row]));
  const says = (n) => { const [i, j] = cells[n]; return `${xs[i]}, ${ys[j]}: ${told(s.interaction[i][j])}${between(s.low[i][j], s.high[i][j])}, ${count(s.n[i][j], "value", "values")}`; };
  return figure({
    title: `${term.title}: interaction`,
    note: `${settledNote(s, term.kind)} What the pair says beyond its two columns; what it says of one is in the shape of that one. Dots: no data.`.trim(),
    draw: heatMap({ xs, ys, z: s.interaction, n: s.n, xLabel: withUnit(s.column[0], s.unit[0]), yLabel: withUnit(s.column[1], s.unit[1]) }), says,
    columns: [...s.column, "interaction", "low", "high", "n"],
    rows: () => cells.map(([i, j]) => [s.x_level.length ? s.x_level[i] : s.x[i], s.y_level.length ? s.y_level[j] : s.y[j], s.interaction[i][j], s.low[i][j], s.high[i][j], s.n[i][j]]),
  });
}

function lagFigure(term) {
  const r = term.lag, size = `${r.size < 0 ? "" : "+"}${told(r.size)}${term.unit ? " " + term.unit : ""}`;
  const others = r.terms.length > 1 ? ` It is the sum over ${r.terms.join(", ")}.` : "";
  const rings = r.outside.some((share) => share > 0.5) ? " Rings: most changed histories never occurred." : "";
  return figure({
    title: `${term.title}: response over lags`,
    note: `The change of the prediction after ${size} at one visit, the mean over ${count(r.histories, "history", "histories")} that occurred.${others}${rings}`,
    draw: lineChart({ series: [{ x: r.lag, y: r.change, low: r.low, high: r.high, kind: 0, points: true, outside: r.outside.map((share) => share > 0.5) }], xLabel: "lag (visits)", yLabel: `change of ${DATA.scale}` }),
    says: (n) => `lag ${r.lag[n]}: ${told(r.change[n])}${between(r.low[n], r.high[n])}, ${told(r.cumulative[n])} so far`,
    columns: ["lag", "time", "change", "low", "high", "cumulative", "outside"],
    rows: () => r.lag.map((lag, n) => [lag, r.time[n], r.change[n], r.low[n], r.high[n], r.cumulative[n], r.outside[n]]),
  });
}

// memory and missing values of one term in words
function termWords(name) {
  const { memory, missing } = DATA.overview, words = [];
  const at = memory ? memory.term.indexOf(name) : -1, absent = missing.term.indexOf(name);
  if (at >= 0) {
    words.push(`Its states last ${told(memory.timescale[at][0])} to ${told(memory.timescale[at][2])} ${plural(memory.unit)}, the median ${told(memory.timescale[at][1])}.`);
    if (known(memory.gain[at])) words.push(`Without its history the loss would change by ${told(memory.gain[at])}${between(memory.low[at], memory.high[at])}, from ${told(memory.loss)}.`);
  }
  words.push(missing.n_never[absent] ? `It was never observed at ${percent(missing.never[absent])} of the predictions, where it contributes ${told(missing.effect[absent])}${between(missing.low[absent], missing.high[absent])}.`
    : "It was observed before each prediction.");
  if (missing.held[absent] > 0) words.push(`At ${percent(missing.held[absent])} it is missing then, and says what it said before.`);
  return words.join(" ");
}

function fillPanel(term, host) {
  host.append(node("p", { class: "note" }, `The term ${KINDS[term.kind]}. ${termWords(term.name)}${term.why ? " " + term.why : ""}`));
  const figures = node("div", { class: "two" });
  if (term.shape) figures.append(term.shape.pair ? pairFigure(term) : shapeFigure(term));
  if (term.lag && term.lag.why) host.append(node("p", { class: "note" }, term.lag.why));
  else if (term.lag) figures.append(lagFigure(term));
  host.append(figures);
}

function showTerms() {
  const panels = DATA.terms.map((term, n) => {
    const summary = node("summary", {}, node("h3", {}, withUnit(term.title, term.unit)), ` ${percent(term.share)} of the importance`);
    const host = node("div"), made = node("details", { class: "panel", "data-term": term.name }, summary, host);
    made.addEventListener("toggle", () => { if (made.open && !host.childNodes.length) fillPanel(term, host); });
    made.open = n === 0;
    return made;
  });
  byId("panels").append(...panels);
  byId("open-all").addEventListener("click", () => panels.forEach((panel) => { panel.open = true; }));
  byId("close-all").addEventListener("click", () => panels.forEach((panel) => { panel.open = false; }));
}

const PEOPLE = DATA.people;
for (const name of ["times", "contribution", "total", "predicted", "low", "high", "total_low", "total_high"]) PEOPLE[name] = unpack(PEOPLE[name]);
for (const column of PEOPLE.columns) column.values = unpack(column.values);
const TERMS = PEOPLE.term.length;
const HAS_PREDICTION = DATA.link === "logit" || DATA.link === "log";

// visits of the person as rows of the ragged arrays
function rowsOf(person) {
  return Array.from({ length: PEOPLE.offsets[person + 1] - PEOPLE.offsets[person] }, (_, n) => PEOPLE.offsets[person] + n);
}

const part = (row, term) => PEOPLE.contribution[row * TERMS + term];
const side = (name, row, term) => PEOPLE[name] ? PEOPLE[name][row * TERMS + term] : null;
const totalSide = (name, row) => PEOPLE[name] ? PEOPLE[name][row] : null;

function valueOf(person, row, term) {
  const parts = PEOPLE.features[term].map((name) => {
    const column = PEOPLE.columns.find((own) => own.name === name);
    const value = column.values[column.static ? person : row];
    if (column.levels) return value < 0 ? "missing" : column.levels[value];
    return Number.isNaN(value) ? "missing" : told(value) + (column.unit ? ` ${column.unit}` : "");
  });
  return parts.join(", ");
}

let chosenTerms = null;

function timeline(person) {
  const rows = rowsOf(person), x = rows.map((row) => PEOPLE.times[row]);
  const range = (term) => { const all = rows.map((row) => part(row, term)); return Math.max(...all.map(Math.abs)); };
  if (!chosenTerms) chosenTerms = [...Array(TERMS).keys()].sort((a, b) => range(b) - range(a)).slice(0, 3);
  const column = (get) => rows.map(get);
  const series = [{ name: "total", x, y: column((row) => PEOPLE.total[row]), low: PEOPLE.total_low && column((row) => PEOPLE.total_low[row]), high: PEOPLE.total_high && column((row) => PEOPLE.total_high[row]), kind: "total", points: rows.length < 60 },
    ...chosenTerms.map((term, n) => ({ x, y: column((row) => part(row, term)), low: PEOPLE.low && column((row) => side("low", row, term)), high: PEOPLE.high && column((row) => side("high", row, term)), kind: n % 6, points: rows.length < 60 }))];
  const legend = node("fieldset", { class: "legend" }, node("legend", {}, "Shown"), node("label", {}, node("span", { class: "key ktotal" }), "total"));
  PEOPLE.title.forEach((title, term) => {
    const at = chosenTerms.indexOf(term), box = node("input", { type: "checkbox", "data-shown": PEOPLE.term[term] });
    box.checked = at >= 0;
    box.addEventListener("change", () => {
      chosenTerms = box.checked ? [...chosenTerms, term] : chosenTerms.filter((own) => own !== term);
      timeline(person);
      byId("timeline").querySelector(`[data-shown="${CSS.escape(PEOPLE.term[term])}"]`).focus();
    });
    legend.append(node("label", {}, box, ...(at < 0 ? [] : [node("span", { class: `key k${at % 6}` })]), title));
  });
  const clock = DATA.clock, unit = clock.unit ? `${plural(clock.unit)} since ${PEOPLE.stamps[rows[0]]}` : `since ${PEOPLE.stamps[rows[0]]}`;
  const predicted = HAS_PREDICTION ? ["prediction"] : [];
  byId("timeline").replaceChildren(figure({
    title: `${DATA.id_name} ${PEOPLE.ids[person]}`,
    note: `${DATA.scale[0].toUpperCase()}${DATA.scale.slice(1)} at each visit, and the contributions of terms.` + (DATA.at === "id" ? " At an earlier visit it is what would be predicted if that were the last one." : ""),
    draw: lineChart({ series, xLabel: `${clock.name} (${unit})`, yLabel: DATA.scale, height: 340 }), legend,
    says: (n) => `${PEOPLE.stamps[rows[n]]}: total ${told(PEOPLE.total[rows[n]])}${between(totalSide("total_low", rows[n]), totalSide("total_high", rows[n]))}` + (HAS_PREDICTION ? `, prediction ${told(PEOPLE.predicted[rows[n]])}` : ""),
    columns: [clock.name, "total", ...predicted, ...PEOPLE.term],
    rows: () => rows.map((row) => [PEOPLE.stamps[row], PEOPLE.total[row], ...(HAS_PREDICTION ? [PEOPLE.predicted[row]] : []), ...Array.from({ length: TERMS }, (_, term) => part(row, term))]),
  }));
}

function changeWords(person, row, first) {
  const scaleOf = DATA.scale, now = PEOPLE.total[row], all = [...Array(TERMS).keys()];
  const signed = (x) => (x < 0 ? "" : "+") + told(x);
  if (first) {
    const largest = all.sort((a, b) => Math.abs(part(row, b)) - Math.abs(part(row, a))).slice(0, 5);
    return `First visit, ${PEOPLE.stamps[row]}: ${scaleOf} is ${told(now)}. Largest parts: ${largest.map((t) => `${PEOPLE.title[t]} ${signed(part(row, t))} (${valueOf(person, row, t)})`).join("; ")}.`;
  }
  const before = PEOPLE.total[row - 1], change = (t) => part(row, t) - part(row - 1, t);
  const most = Math.max(...all.map((t) => Math.abs(change(t))));
  const largest = all.filter((t) => Math.abs(change(t)) > most / 1000).sort((a, b) => Math.abs(change(b)) - Math.abs(change(a))).slice(0, 5);
  const way = now > before ? `rose by ${told(now - before)}` : now < before ? `fell by ${told(before - now)}` : "did not change";
  const moved = (t) => {
    const [from, to] = [valueOf(person, row - 1, t), valueOf(person, row, t)];
    return `${PEOPLE.title[t]} ${signed(change(t))}` + (from === to ? ` (${to}, by its history)` : ` (${from} to ${to})`);
  };
  return `Since ${PEOPLE.stamps[row - 1]} ${scaleOf} ${way}, from ${told(before)} to ${told(now)}. ` + (largest.length && most > 0 ? `Of this: ${largest.map(moved).join("; ")}.` : "No term changed.");
}

function visit(person, row) {
  const first = row === PEOPLE.offsets[person], all = [...Array(TERMS).keys()];
  byId("changed").textContent = changeWords(person, row, first);
  const change = (t) => first ? null : part(row, t) - part(row - 1, t);
  const ranked = [...all].sort((a, b) => Math.abs(part(row, b)) - Math.abs(part(row, a)));
  const columns = ["term", "value", "contribution", "low", "high", "change"];
  const lines = (order) => () => order.map((t) => [PEOPLE.term[t], valueOf(person, row, t), part(row, t), side("low", row, t), side("high", row, t), change(t)]);
  const figures = [figure({
    title: `Contributions at ${PEOPLE.stamps[row]}`, note: "The largest first.",
    draw: barChart({ bars: ranked.map((t) => ({ label: PEOPLE.title[t], value: part(row, t), low: side("low", row, t), high: side("high", row, t) })), xLabel: `contribution to ${DATA.scale}` }),
    says: (n) => `${PEOPLE.title[ranked[n]]} (${valueOf(person, row, ranked[n])}): ${told(part(row, ranked[n]))}${between(side("low", row, ranked[n]), side("high", row, ranked[n]))}`,
    columns, rows: lines(ranked),
  })];
  if (!first) {
    const moved = [...all].sort((a, b) => Math.abs(change(b)) - Math.abs(change(a)));
    figures.push(figure({
      title: `Changes since ${PEOPLE.stamps[row - 1]}`, note: "The largest first.",
      draw: barChart({ bars: moved.map((t) => ({ label: PEOPLE.title[t], value: change(t), low: null, high: null })), xLabel: `change of ${DATA.scale}` }),
      says: (n) => `${PEOPLE.title[moved[n]]}: ${told(change(moved[n]))}, ${valueOf(person, row - 1, moved[n])} to ${valueOf(person, row, moved[n])}`,
      columns, rows: lines(moved),
    }));
  }
  byId("visit-figures").replaceChildren(...figures);
}

function showPeople() {
  const select = byId("person"), visits = byId("visit"), find = byId("find");
  byId("person-label").textContent = DATA.id_name;
  const some = PEOPLE.ids.length < PEOPLE.all ? `The page has ${PEOPLE.ids.length.toLocaleString("en")} of ${count(PEOPLE.all, "id", "ids")}. ` : "";
  const cutWords = PEOPLE.shortened ? `Of ${count(PEOPLE.shortened, "id", "ids")} it has the last ${PEOPLE.longest.toLocaleString("en")} visits alone.` : "";
  byId("people-note").textContent = some + cutWords;
  const show = () => {
    const person = Number(select.value), rows = rowsOf(person);
    visits.replaceChildren(...rows.map((row) => node("option", { value: row }, PEOPLE.stamps[row])));
    visits.value = rows[rows.length - 1];
    timeline(person);
    visit(person, rows[rows.length - 1]);
  };
  const list = () => {
    const wanted = find.value.trim().toLowerCase(), kept = [...PEOPLE.ids.keys()].filter((n) => PEOPLE.ids[n].toLowerCase().includes(wanted));
    const before = select.value;
    select.replaceChildren(...kept.map((n) => node("option", { value: n }, PEOPLE.ids[n])));
    byId("found").textContent = `${kept.length.toLocaleString("en")} of ${PEOPLE.ids.length.toLocaleString("en")}`;
    if (!kept.length) return;
    select.value = kept.includes(Number(before)) && before !== "" ? before : kept[0];
    if (select.value !== before) show();
  };
  const move = (by) => {
    const to = select.selectedIndex + by;
    if (to < 0 || to >= select.options.length) return;
    select.selectedIndex = to;
    show();
  };
  select.addEventListener("change", show);
  find.addEventListener("input", list);
  byId("before").addEventListener("click", () => move(-1));
  byId("after").addEventListener("click", () => move(1));
  visits.addEventListener("change", () => visit(Number(select.value), Number(visits.value)));
  list();
}

function theme() {
  const button = byId("theme"), prefers = matchMedia("(prefers-color-scheme: dark)"), root = document.documentElement;
  const dark = () => root.dataset.theme ? root.dataset.theme === "dark" : prefers.matches;
  const show = () => button.setAttribute("aria-pressed", dark());
  button.addEventListener("click", () => { root.dataset.theme = dark() ? "light" : "dark"; show(); });
  prefers.addEventListener("change", show);
  show();
}

theme();
showOverview();
showTerms();
showPeople();
byId("made").textContent = `Made by rnam ${DATA.version}. The page loads nothing and sends nothing.`;
