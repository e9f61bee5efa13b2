// The labelling page. What is on it was stored before it was drawn: a key goes to the server, and the answer is drawn.
// Keys wait for each other, so fast typing lands where it was meant. Everything of a conversation becomes a text node.
"use strict";

const $ = (id) => document.getElementById(id);
const words = (name) => String(name).replaceAll("_", " ");
const state = { rubric: new Map(), decides: false, item: null, progress: null, active: 0, base: 0, shown: false, always: false, noting: null, spent: 0, since: performance.now() };
let waiting = Promise.resolve();

function make(tag, properties = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (value === null || value === undefined || value === false) continue;
    if (name === "class") element.className = value;
    else if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children.filter((child) => child !== null && child !== undefined));
  return element;
}

// ---- the server ------------------------------------------------------------------------------------------------

class Refused extends Error {}

async function ask(path, body) {
  const options = body === undefined ? {} : { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(body) };
  let answer;
  try {
    answer = await fetch(path, options);
  } catch {
    throw new Refused("Not stored: the server does not answer. It has stopped, or nobody used the page for long.\nStart `safetyqc review` again and open the address that it prints; what you see here is stored.");
  }
  const told = answer.headers.get("Content-Type")?.startsWith("application/json") ? await answer.json() : { error: await answer.text() };
  if (!answer.ok) throw new Refused(told.error);
  $("trouble").hidden = true;
  return told;
}

function complain(error) {
  for (const level of document.querySelectorAll(".storing")) level.classList.remove("storing");
  $("trouble").textContent = error instanceof Refused ? error.message : `The page itself failed: ${error}. Reload it; everything that you saw is stored.`;
  $("trouble").hidden = false;
}

function tell(text) { $("told").textContent = text; }

// Time in which the page could be seen; what passed while it was hidden is nobody's work.
function mark() { state.spent = 0; state.since = performance.now(); }
function seconds() { return (state.spent + (document.hidden ? 0 : performance.now() - state.since)) / 1000; }
document.addEventListener("visibilitychange", () => {
  if (document.hidden) state.spent += performance.now() - state.since;
  else state.since = performance.now();
});

// ---- drawing ---------------------------------------------------------------------------------------------------

function take(told) {
  state.progress = told.progress;
  state.item = told.item;
  state.shown = false;
  state.noting = null;
  $("judges").hidden = true;
  if (state.item) {
    if (!state.item.again) state.base = state.item.at;
    const open = state.item.criteria.findIndex((c) => !isAnswered(c));
    const wanted = state.item.criteria.findIndex((c) => c.id === told.criterion);
    state.active = wanted >= 0 ? wanted : Math.max(open, 0);
  }
  mark();
  drawProgress();
  drawTalk();
  drawCriteria();
  $("talk").scrollTop = 0;
  $("asked").scrollTop = 0;
  if (matchMedia("(max-width: 800px)").matches) scrollTo(0, 0);
  if (!$("dialog").open) $("title").focus({ preventScroll: true });
  tell(state.item ? `${$("place").textContent}. ${state.item.again ? "Once more." : ""}` : "Nothing is left in this queue.");
}

const isAnswered = (criterion) => criterion.said !== null && !criterion.older;

function drawProgress() {
  const { of, done, others, deferred } = state.progress;
  const number = (n) => n.toLocaleString("en");
  $("place").textContent = state.item ? (state.item.again ? "once more, for your own consistency" : `${number(state.item.at + 1)} of ${number(of)}`) : "nothing left";
  $("counts").textContent = [`${number(done)} labelled`, others ? `${number(others)} by others` : "", deferred ? `${number(deferred)} deferred` : ""].filter(Boolean).join(" · ");
  $("done").setAttribute("width", `${(100 * (done + others)) / of}%`);
  for (const [name, value] of [["max", of], ["now", done + others]]) $("bar").setAttribute(`aria-value${name}`, value);
  document.title = `${done} of ${of} labelled · safetyqc review`;
}

function drawTalk() {
  const item = state.item;
  if (!item) {
    $("title").textContent = "Nothing is left to label in this queue.";
    $("facts").textContent = "";
    $("messages").replaceChildren(make("p", { class: "end" }, "What you said is stored. Stop the server with Ctrl-C: it says what to type next. ", make("kbd", {}, "u"), " takes your last answer back."));
    return;
  }
  const veiled = item.hidden && !state.shown && !state.always;
  $("title").textContent = `Conversation ${item.id}`;
  $("facts").textContent = [...Object.entries(item.facts).map(([name, word]) => `${name}: ${words(word)}`), item.deferred ? "put off before" : ""].filter(Boolean).join(" · ");
  const turns = [...(item.system ? [{ role: "system", content: item.system }] : []), ...item.messages];
  $("messages").className = veiled ? "blurred" : "";
  $("messages").replaceChildren(
    ...(veiled ? [make("p", { class: "veil" }, "The text may be harmful and is blurred: ", make("kbd", {}, "b"), " shows it, ", make("kbd", {}, "Shift"), " ", make("kbd", {}, "B"), " shows all from now on.")] : []),
    ...turns.map((turn, i) => make("div", { class: `message ${turn.role}` },
      make("p", { class: "role" }, item.system ? (i ? `${i}. ${turn.role}` : turn.role) : `${i + 1}. ${turn.role}`),
      make("p", { class: "text", dir: "auto", "aria-hidden": veiled ? "true" : null }, turn.content))));
  $("unblur").setAttribute("aria-pressed", String(!veiled));
}

function drawCriteria() {
  const hadFocus = $("criteria").contains(document.activeElement);
  $("criteria").replaceChildren(...(state.item ? state.item.criteria.map(drawCriterion) : []));
  $("criteria").querySelector(".active")?.scrollIntoView({ block: "nearest" });
  if (state.noting) $("note").focus();
  else if (hadFocus) $("criteria").querySelector(".active .level")?.focus({ preventScroll: true });
}

function drawCriterion(criterion, index) {
  const told = state.rubric.get(criterion.id);
  const active = index === state.active;
  const level = told.levels.find((x) => x.name === criterion.said);
  const kind = level ? (level.passes ? "pass" : "fail") : "";
  const answer = criterion.said === null ? "open" : criterion.said === "na" ? "does not apply" : words(criterion.said);
  const heading = make("h2", {}, make("button", { type: "button", "aria-expanded": String(active), onclick: () => { state.active = index; drawCriteria(); } },
    told.title, make("span", { class: `answer ${kind}` }, criterion.older ? `${answer} (older wording)` : answer)));
  if (!active) return make("div", { class: "criterion" }, heading, noteOf(criterion));
  const keys = [...told.levels.map((x, i) => [String(i + 1), x.name, x.meaning]), ["0", "na", criterion.condition ? `not so: ${criterion.condition}` : "the question has no answer here"]];
  return make("div", { class: "criterion active" }, heading,
    make("p", { class: "question" }, told.question),
    criterion.condition ? make("p", { class: "condition" }, `Asked only where: ${criterion.condition}`) : null,
    criterion.others ? othersOf(criterion) : null,
    make("div", { class: "levels", role: "group", "aria-label": told.title },
      ...keys.map(([key, name, meaning]) => make("button", { type: "button", class: "level", "data-key": key, "aria-keyshortcuts": key, "aria-pressed": String(criterion.said === name) },
        make("kbd", {}, key), make("span", {}, name === "na" ? "does not apply" : words(name)), make("span", { class: "meaning" }, meaning)))),
    told.guidance.length ? make("details", { class: "guidance" }, make("summary", {}, "Guidance"), make("ul", {}, ...told.guidance.map((line) => make("li", {}, line)))) : null,
    state.noting ? noting(criterion) : noteOf(criterion));
}

function othersOf(criterion) {
  return make("div", { class: "others" }, "Two or more of you differ:",
    make("ul", {}, ...criterion.others.map((x) => make("li", {}, x.said === "na" ? "does not apply" : words(x.said), x.note ? `: ${x.note}` : ""))));
}

const noteOf = (criterion) => (criterion.note ? make("p", { class: "note" }, `Note: ${criterion.note}`) : null);

function noting(criterion) {
  const text = make("textarea", { id: "note", maxlength: 10000 });
  text.value = state.noting.text ?? criterion.note;
  text.addEventListener("input", () => { state.noting.text = text.value; });
  const why = state.noting.level ? `Why ${words(state.noting.level)}?` : "Note";
  return make("p", { class: "note" }, make("label", { for: "note" }, `${why} (Enter stores it, Shift+Enter is a new line, Esc leaves it)`), text);
}

// ---- what keys do ----------------------------------------------------------------------------------------------

const current = () => state.item?.criteria[state.active];

async function choose(key) {
  const criterion = current();
  if (!criterion) return;
  const level = key === "0" ? "na" : state.rubric.get(criterion.id).levels[Number(key) - 1]?.name;
  if (!level) { tell(`No level ${key} here.`); return; }
  $("criteria").querySelector(`.active [data-key="${key}"]`)?.classList.add("storing"); // seen at once, stored in a moment
  if (state.decides) { state.noting = { level }; drawCriteria(); return; }
  await store(criterion, level);
}

async function store(criterion, level, note) {
  const { id, again } = state.item;
  const told = await ask("label", { id, criterion: criterion.id, level, seconds: seconds(), again, ...(note === undefined ? {} : { note }) });
  if (told.next) { take(told.next); return; }
  update(told);
  mark();
  const open = [...told.item.criteria.keys()].map((i) => (state.active + 1 + i) % told.item.criteria.length).find((i) => !isAnswered(told.item.criteria[i]));
  if (open !== undefined) state.active = open;
  drawCriteria();
  tell(`${words(level)}, stored. Next: ${state.rubric.get(current().id).title}`);
}

function update(told) {
  state.item = told.item;
  state.progress = told.progress;
  drawProgress();
}

async function saveNote() {
  const { level, text } = state.noting;
  const criterion = current();
  const note = (text ?? criterion.note).trim();
  if (level) {
    if (!note) { tell("A decision needs its reason."); return; }
    state.noting = null;
    await store(criterion, level, note);
  } else {
    state.noting = null;
    update(await ask("note", { id: state.item.id, criterion: criterion.id, note }));
    drawCriteria();
    tell("Note stored.");
  }
}

async function go(to) {
  if (to < 0 || to >= state.progress.of) { tell(to < 0 ? "This is the first." : "This is the last."); return; }
  take(await ask(`item?at=${to}`));
}

async function leave() {
  if (state.item && !state.item.criteria.some((c) => c.said !== null)) {
    tell("Nothing is answered here yet; d puts it off.");
    return;
  }
  take(await ask("next", { id: state.item?.id ?? "" }));
}

function step(by) {
  if (!state.item) return;
  state.active = Math.max(0, Math.min(state.item.criteria.length - 1, state.active + by));
  state.noting = null;
  drawCriteria();
  tell(`${state.rubric.get(current().id).title}: ${current().said === null ? "open" : words(current().said)}`);
}

function unveil(always) {
  if (always) {
    state.always = !state.always;
    sessionStorage.setItem("always", state.always ? "yes" : "");
  } else state.shown = !state.shown;
  drawTalk();
}

async function showJudges() {
  if (!$("judges").hidden || !state.item) { $("judges").hidden = true; return; }
  const judges = await ask(`verdicts?id=${encodeURIComponent(state.item.id)}`);
  const name = (id) => state.rubric.get(id)?.title ?? words(id);
  const lines = (scores) => scores.map((s) => make("li", {}, make("strong", {}, `${name(s.criterion)}: ${s.level ? words(s.level) : s.outcome}`), s.level ? ` (${s.outcome})` : "", s.reason ? ` ${s.reason}` : "", s.quote ? ` “${s.quote}”` : ""));
  $("judges").replaceChildren(make("h2", {}, "What judges said"), ...judges.flatMap((x) => [make("h3", {}, `${x.judge}: ${x.passed === null ? "open" : x.passed ? "passes" : "fails"}`), make("ul", {}, ...lines(x.scores))]),
    make("p", { class: "condition" }, judges.length ? "That you have seen this is stored with what you change here from now on." : "No judge has said anything."));
  $("judges").hidden = false;
  $("judges").scrollIntoView({ block: "nearest" });
}

const KEYS = {
  ArrowLeft: ["the one before", () => go(state.item ? (state.item.again ? state.base : state.item.at - 1) : state.base)],
  ArrowRight: ["the one after", () => go(state.item?.again ? state.base + 1 : (state.item?.at ?? state.base) + 1)],
  ArrowUp: ["criterion before", () => step(-1)],
  ArrowDown: ["criterion after", () => step(1)],
  Enter: ["done with this one: the next open one", leave],
  u: ["undo: take back what you did last, also after a restart", async () => { take(await ask("undo", {})); tell("Taken back."); }],
  d: ["defer: put it off until the others are done", async () => { if (state.item) take(await ask("defer", { id: state.item.id, again: state.item.again })); }],
  n: ["note on this criterion", () => { if (state.item) { state.noting = {}; drawCriteria(); } }],
  b: ["show or blur the text", () => unveil(false)],
  B: ["show the text of all from now on", () => unveil(true)],
  j: ["what judges said, once you have answered", showJudges],
  g: ["how far people agree, and you with yourself", showAgreement],
  "/": ["search by words or id", showSearch],
  "?": ["these keys", showKeys],
};

function press(key) {
  waiting = waiting.then(() => (/^[0-9]$/.test(key) ? choose(key) : KEYS[key][1]())).catch(complain);
}

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || event.isComposing || $("dialog").open) return;
  if (event.target.id === "note") { onNoteKey(event); return; }
  if (event.key === "Escape") { $("judges").hidden = true; return; }
  if ((event.key === "Enter" || event.key === " ") && event.target.closest("button, a, summary")) return;
  if (!(/^[0-9]$/.test(event.key) || event.key in KEYS)) return;
  if (event.repeat && !event.key.startsWith("Arrow")) return;
  event.preventDefault();
  press(event.key);
});

function onNoteKey(event) {
  if (event.key === "Enter" && !event.shiftKey) waiting = waiting.then(saveNote).catch(complain);
  else if (event.key === "Escape") { state.noting = null; drawCriteria(); }
  else return;
  event.preventDefault();
}

document.addEventListener("click", (event) => {
  const button = event.target.closest("button[data-key]");
  if (button) press(button.dataset.key);
});

// ---- dialogs ---------------------------------------------------------------------------------------------------

function open(title, ...content) {
  $("dialog-title").textContent = title;
  $("dialog-body").replaceChildren(...content);
  if (!$("dialog").open) $("dialog").showModal();
}
$("close").addEventListener("click", () => $("dialog").close());

function showKeys() {
  const shown = { ArrowLeft: "←", ArrowRight: "→", ArrowUp: "↑", ArrowDown: "↓", B: "Shift B" };
  const rows = [["1 … 9", "choose a level; the next open criterion or conversation comes by itself"], ["0", "the criterion does not apply"], ...Object.entries(KEYS).map(([key, [what]]) => [shown[key] ?? key, what])];
  open("Keys", make("dl", {}, ...rows.flatMap(([key, what]) => [make("dt", {}, make("kbd", {}, key)), make("dd", {}, what)])));
}

function showSearch() {
  const hits = make("ul", { class: "hits" });
  const count = make("p", { class: "tell", role: "status" });
  const input = make("input", { type: "search", id: "words", "aria-label": "words or id", autocomplete: "off" });
  let asked = 0;
  let timer = 0;
  input.addEventListener("input", () => { clearTimeout(timer); timer = setTimeout(find, 200); });
  input.addEventListener("keydown", (event) => { if (event.key === "Enter") { event.preventDefault(); const first = hits.querySelector("button"); if (first) first.click(); else find(); } });
  async function find() {
    const number = ++asked;
    try {
      const told = await ask(`search?text=${encodeURIComponent(input.value)}`);
      if (number !== asked) return;
      hits.replaceChildren(...told.hits.map((hit) => make("li", {}, make("button", { type: "button", onclick: () => { $("dialog").close(); waiting = waiting.then(() => go(hit.at)).catch(complain); } }, `${hit.at + 1}. ${hit.text}`))));
      count.textContent = input.value.trim() ? `${told.hits.length + told.more} found${told.more ? `, the first ${told.hits.length} shown` : ""}${told.elsewhere ? `; ${told.elsewhere} more that are not in this queue` : ""}` : "";
    } catch (error) { complain(error); }
  }
  open("Search", input, count, hits);
  input.focus();
}

async function showAgreement() {
  const told = await ask("agreement");
  const share = (x) => (x === null ? "–" : `${(100 * x).toFixed(0)}%`);
  const figure = (x) => (x === null ? "–" : x.toFixed(2));
  const name = (id) => state.rubric.get(id)?.title ?? words(id);
  const lines = [
    ...told.criteria.map((x) => `${name(x.criterion)}: ${x.cells} labelled by ${x.annotators} of you, the same on ${share(x.same)} (kappa ${figure(x.kappa)}, alpha ${figure(x.alpha)})`),
    ...told.again.map((x) => `You, asked again: ${x.cells} answers, the same on ${share(x.same)} (kappa ${figure(x.kappa)})`),
    ...told.confusions.map((x) => `${name(x.criterion)}: ${x.times} of ${x.differences} differences are ${x.levels.map(words).join(" against ")}. The rubric's wording may be the cause.`),
  ];
  open("Agreement", ...(lines.length ? lines : ["Nothing has been labelled twice yet."]).map((line) => make("p", { class: "tell" }, line)));
}

// ---- beginning -------------------------------------------------------------------------------------------------

async function start() {
  const told = await ask("start");
  state.rubric = new Map(told.rubric.map((criterion) => [criterion.id, criterion]));
  state.decides = told.decides;
  state.always = sessionStorage.getItem("always") === "yes";
  $("queue").textContent = `queue: ${told.queue}`;
  take(told);
}
waiting = waiting.then(start).catch(complain);
