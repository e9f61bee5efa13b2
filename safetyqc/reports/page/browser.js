// The conversation browser: filters, search, a virtual list, one conversation in full. Everything of a conversation
// becomes a text node; no string ever becomes markup.
"use strict";

const ROW = 58; // height of a row in pixels, as in page.css
const state = { query: "", selected: null, matched: [], filters: {} };
let data = { judges: [], groups: [], conversations: [] };
let byId = new Map();
const texts = new WeakMap(); // conversation -> its text in lower case, made at the first search

const $ = (id) => document.getElementById(id);

function make(tag, properties = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (value === null || value === undefined || value === false) continue;
    if (name === "class") element.className = value;
    else if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else element.setAttribute(name, value);
  }
  element.append(...children.filter((child) => child !== null && child !== undefined));
  return element;
}

const label = (name) => (name === "overall" ? "whole conversation" : String(name).replaceAll("_", " "));

// ---- filters ---------------------------------------------------------------------------------------------------

const outcomeOf = (passed) => (passed === null ? "unscored" : passed ? "pass" : "fail");

function scoresOf(conversation) {
  const judge = state.filters.judge;
  return conversation.verdicts.flatMap((verdict, i) => {
    if (!verdict || (judge ? data.judges[i].name !== judge : !data.judges[i].deciding)) return [];
    return [{ criterion: "overall", outcome: outcomeOf(verdict.passed) }, ...verdict.scores];
  });
}

const FILTERS = [
  { key: "category", test: (c, value) => c.category === value, values: (c) => [c.category] },
  { key: "intent", test: (c, value) => c.intent === value, values: (c) => [c.intent] },
  { key: "language", test: (c, value) => c.language === value, values: (c) => [c.language] },
  { key: "stage", test: (c, value) => c.status === value, values: (c) => [c.status] },
  { key: "origin", test: (c, value) => c.origin === value, values: (c) => [c.origin] },
  { key: "judge", test: (c, value) => c.verdicts.some((v, i) => v && data.judges[i].name === value), values: () => data.judges.map((j) => j.name) },
  { key: "criterion", test: null, values: (c) => ["overall", ...c.verdicts.flatMap((v) => (v ? v.scores.map((s) => s.criterion) : []))] },
  { key: "outcome", test: null, values: () => ["pass", "fail", "unscored", "na"] },
];

function matchesVerdict(conversation) {
  const { criterion, outcome } = state.filters;
  if (!criterion && !outcome) return true;
  const wanted = criterion || (outcome === "na" ? null : "overall");
  return scoresOf(conversation).some((s) => (!wanted || s.criterion === wanted) && (!outcome || s.outcome === outcome));
}

function textOf(conversation) {
  let text = texts.get(conversation);
  if (text === undefined) {
    const reasons = conversation.verdicts.flatMap((v) => (v ? v.scores.map((s) => s.reason || "") : []));
    text = [conversation.id, ...conversation.turns.map(([, content]) => content), conversation.reason, ...reasons].join("\n").toLowerCase();
    texts.set(conversation, text);
  }
  return text;
}

function matches(conversation) {
  for (const { key, test } of FILTERS) {
    if (test && state.filters[key] && !test(conversation, state.filters[key])) return false;
  }
  if (!matchesVerdict(conversation)) return false;
  return state.query.split(/\s+/).every((word) => !word || textOf(conversation).includes(word));
}

function makeSelects() {
  for (const { key, values } of FILTERS) {
    const counts = new Map();
    for (const c of data.conversations) for (const value of new Set(values(c))) counts.set(value, (counts.get(value) || 0) + 1);
    const names = [...counts.keys()].filter((name) => name !== null && name !== undefined);
    if (!["outcome", "criterion"].includes(key)) names.sort((a, b) => counts.get(b) - counts.get(a));
    const select = make("select", { id: `filter-${key}`, onchange: () => { state.filters[key] = select.value; changed(); } },
      make("option", { value: "" }, "all"), ...names.map((name) => make("option", { value: name }, label(name))));
    $("selects").append(make("label", {}, key, select));
  }
}

// ---- the list: only the rows in view exist ---------------------------------------------------------------------

function refresh() {
  state.matched = data.conversations.filter(matches);
  $("matched").textContent = `${state.matched.length.toLocaleString("en")} of ${data.conversations.length.toLocaleString("en")} conversations`;
  $("rows").style.height = `${state.matched.length * ROW}px`;
  $("list").scrollTop = 0;
  if (!state.matched.includes(state.selected)) select(state.matched[0] || null);
  drawRows();
}

function drawRows() {
  const list = $("list");
  const first = Math.max(0, Math.floor(list.scrollTop / ROW) - 4);
  const last = Math.min(state.matched.length, Math.ceil((list.scrollTop + list.clientHeight) / ROW) + 4);
  const rows = [];
  for (let i = first; i < last; i++) rows.push(makeRow(state.matched[i], i));
  $("rows").replaceChildren(...rows);
  const chosen = state.matched.indexOf(state.selected);
  if (chosen >= first && chosen < last) list.setAttribute("aria-activedescendant", `row-${chosen}`);
  else list.removeAttribute("aria-activedescendant");
}

function makeRow(conversation, index) {
  const row = make("div", { class: "row", role: "option", id: `row-${index}`, "aria-selected": String(conversation === state.selected),
    "aria-setsize": state.matched.length, "aria-posinset": index + 1, onclick: () => { select(conversation); drawRows(); } },
    make("p", { class: "hostile", dir: "auto" }, (conversation.turns[0] || ["", ""])[1].slice(0, 140)),
    make("p", { class: "meta" }, make("span", { class: `status status-${conversation.status}` }, conversation.status), ` · ${label(conversation.category)} · ${conversation.id}`));
  row.style.top = `${index * ROW}px`;
  hush(row);
  return row;
}

function moveTo(index) {
  const to = Math.max(0, Math.min(state.matched.length - 1, index));
  if (!state.matched.length) return;
  select(state.matched[to]);
  const list = $("list");
  if (to * ROW < list.scrollTop) list.scrollTop = to * ROW;
  if ((to + 1) * ROW > list.scrollTop + list.clientHeight) list.scrollTop = (to + 1) * ROW - list.clientHeight;
  drawRows();
}

function onListKey(event) {
  const at = state.matched.indexOf(state.selected);
  const page = Math.max(1, Math.floor($("list").clientHeight / ROW) - 1);
  const to = { ArrowDown: at + 1, ArrowUp: at - 1, PageDown: at + page, PageUp: at - page, Home: 0, End: state.matched.length - 1 }[event.key];
  if (to !== undefined) { moveTo(to); event.preventDefault(); }
  else if (event.key === "Enter") { $("detail").focus(); event.preventDefault(); }
}

// ---- one conversation ------------------------------------------------------------------------------------------

function link(id) {
  if (!byId.has(id)) return make("span", {}, id);
  return make("a", { href: `#browse?id=${encodeURIComponent(id)}` }, id);
}

function select(conversation) {
  state.selected = conversation;
  const detail = $("detail");
  if (!conversation) { detail.replaceChildren(make("p", {}, "No conversation matches.")); return; }
  detail.replaceChildren(...heading(conversation), ...turns(conversation), ...verdicts(conversation), ...lineage(conversation), ...duplicates(conversation));
  detail.scrollTop = 0;
  hush(detail);
}

function heading(c) {
  const facts = [label(c.category), c.intent, c.language, c.origin, c.author, c.source].filter(Boolean).join(" · ");
  const why = make("p", {}, make("span", { class: `status status-${c.status}` }, c.status), " ", make("span", { class: "note" }, ...reasoned(c.reason)));
  const command = make("p", { class: "note" }, "label it: ", make("code", { class: "command" }, `${data.review} ${typed(c.id)}`));
  return [make("h3", {}, c.id), make("p", { class: "note" }, facts), why, command];
}

// An id as a shell takes it for one word.
const typed = (word) => (/^[\w@%+=:,./-]+$/.test(word) ? word : `'${word.replaceAll("'", `'"'"'`)}'`);

function turns(c) {
  const quotes = c.verdicts.flatMap((v, i) => (v ? v.scores.filter((s) => s.quote).map((s) => ({ ...s, judge: data.judges[i].name })) : []));
  return c.turns.map(([role, content], index) => {
    const here = quotes.filter((q) => q.turn === undefined || q.turn === index);
    const body = make("span", { class: "hostile", dir: "auto" }, ...marked(content, here));
    return make("div", { class: `turn ${role}` }, make("span", { class: "who" }, `message ${index + 1}, ${role}`), body);
  });
}

// A quote stands in its turn up to white space, quote marks and case: find it so.
function find(content, quote) {
  const pattern = quote.trim().slice(0, 2000).replace(/[.*+?^${}()|[\]\\\/-]/g, "\\$&")
    .replace(/['‘’‚‛`´]/g, "['‘’‚‛`´]").replace(/["“”„«»]/g, "[\"“”„«»]").replace(/\s+/g, "\\s+");
  if (!pattern) return null;
  try {
    const found = new RegExp(pattern, "i").exec(content);
    return found && [found.index, found.index + found[0].length];
  } catch { return null; }
}

function marked(content, quotes) {
  const spans = quotes.map((q) => ({ at: find(content, q.quote), title: `${q.judge}: ${label(q.criterion)} ${q.outcome}` })).filter((s) => s.at);
  spans.sort((a, b) => a.at[0] - b.at[0]);
  const parts = [];
  let end = 0;
  for (const { at: [from, to], title } of spans) {
    if (to <= end) continue;
    const start = Math.max(from, end);
    parts.push(content.slice(end, start), make("mark", { title }, content.slice(start, to)));
    end = to;
  }
  return [...parts, content.slice(end)];
}

function verdicts(c) {
  return c.verdicts.flatMap((verdict, i) => {
    if (!verdict) return [];
    const judge = data.judges[i];
    const rows = verdict.scores.map((s) => make("tr", {},
      make("th", { scope: "row" }, label(s.criterion)),
      make("td", { class: s.outcome }, s.outcome),
      make("td", { class: "n" }, s.probability === undefined ? "" : s.probability.toFixed(2)),
      make("td", { dir: "auto" }, ...reasoned(s.reason || ""), ...labelsOn(c, s.criterion))));
    const head = make("tr", {}, ...["criterion", "outcome", "P(pass)", "reason"].map((name) => make("th", { scope: "col", class: name === "P(pass)" ? "n" : null }, name)));
    const outcome = outcomeOf(verdict.passed);
    return [make("h3", {}, judge.name, " ", make("span", { class: outcome }, outcome), judge.deciding ? make("span", { class: "note" }, "  decides") : null),
      make("table", { class: "scores" }, make("thead", {}, head), make("tbody", {}, ...rows))];
  });
}

// What a judge or filter says: only what it quotes is blurred (as split_quotes in wording.py).
function reasoned(text) {
  const parts = text.split(/("[^"]+"|“[^”]+”|「[^」]+」|(?<![\p{L}\p{N}_])'[^']+'(?![\p{L}\p{N}_])|`[^`]+`)/u);
  return parts.map((part, i) => (i % 2 ? make("span", { class: "hostile" }, part) : part));
}

function labelsOn(c, criterion) {
  return c.labels.filter(([name]) => name === criterion).map(([, outcome, annotator]) => make("span", { class: "chip" }, `${annotator}: ${outcome}`));
}

function lineage(c) {
  const parts = [];
  if (c.parent) parts.push(make("p", {}, "rewritten from ", link(c.parent)));
  for (const child of c.children) parts.push(make("p", {}, "rewritten as ", link(child), " ", make("span", { class: "note" }, (byId.get(child) || { status: "" }).status)));
  if (c.diff) parts.push(...c.diff.map((segments, index) => make("div", { class: `turn ${(c.turns[index] || ["user"])[0]}` },
    make("span", { class: "who" }, `message ${index + 1}, ${(c.turns[index] || ["user"])[0]}`), make("span", { class: "hostile", dir: "auto" }, ...segments.map(segment)))));
  return parts.length ? [make("h3", {}, c.diff ? "What the rewrite changed" : "Lineage"), ...parts] : [];
}

function segment([what, text]) {
  if (what === "new") return make("ins", {}, text);
  if (what === "gone") return make("del", {}, text);
  return document.createTextNode(text);
}

function duplicates(c) {
  const group = c.group === null ? null : data.groups[c.group];
  if (!group) return [];
  const items = group.dropped.map(([id, similarity, exact]) => make("li", {}, link(id), exact ? " same text" : ` ${similarity.toFixed(2)}`));
  return [make("h3", {}, "Duplicates"), make("p", {}, "kept ", link(group.kept), ", similarity to it:"), make("ul", {}, ...items)];
}

// ---- harmful text: blurred, and silent for screen readers, until asked for --------------------------------------

const masked = () => document.body.classList.contains("masked");

function hush(root) {
  for (const element of root.querySelectorAll(".hostile")) {
    if (masked() && !element.classList.contains("shown")) element.setAttribute("aria-hidden", "true");
    else element.removeAttribute("aria-hidden");
  }
}

function switchTexts() {
  document.body.classList.toggle("masked");
  $("texts-switch").setAttribute("aria-pressed", String(!masked()));
  $("texts-switch").textContent = masked() ? "Show harmful text" : "Hide harmful text";
  for (const element of document.querySelectorAll(".hostile.shown")) element.classList.remove("shown");
  hush(document);
}

function switchTheme() {
  const order = ["auto", "light", "dark"];
  const root = document.documentElement;
  const next = order[(order.indexOf(root.dataset.theme || "auto") + 1) % order.length];
  if (next === "auto") delete root.dataset.theme;
  else root.dataset.theme = next;
  $("theme-switch").textContent = `Theme: ${next}`;
}

// ---- address: #browse?category=...&id=... ----------------------------------------------------------------------

function changed() {
  const address = new URLSearchParams(Object.entries(state.filters).filter(([, value]) => value));
  const text = address.toString();
  if (!location.hash.startsWith("#browse?") || location.hash !== `#browse?${text}`) history.replaceState(null, "", text ? `#browse?${text}` : "#browse");
  refresh();
}

function readAddress() {
  const [name, rest] = location.hash.split("?");
  if (name !== "#browse") return;
  if (rest !== undefined) applyAddress(rest);
  // charts above take their height only after they were drawn
  requestAnimationFrame(() => setTimeout(() => $("browse").scrollIntoView(), 60));
}

function applyAddress(rest) {
  const wanted = new URLSearchParams(rest);
  state.query = "";
  $("query").value = "";
  for (const { key } of FILTERS) {
    const choice = $(`filter-${key}`);
    const value = wanted.get(key) || "";
    choice.value = [...choice.options].some((option) => option.value === value) ? value : "";
    state.filters[key] = choice.value;
  }
  const chosen = byId.get(wanted.get("id"));
  if (chosen) state.selected = chosen;
  refresh();
  if (chosen) { select(chosen); moveTo(state.matched.indexOf(chosen)); }
}

function listen() {
  let timer = 0;
  $("query").addEventListener("input", () => {
    clearTimeout(timer);
    timer = setTimeout(() => { state.query = $("query").value.toLowerCase().trim(); refresh(); }, 120);
  });
  $("filters").addEventListener("submit", (event) => event.preventDefault());
  $("filters").addEventListener("reset", () => setTimeout(() => { state.query = ""; state.filters = {}; changed(); }));
  $("list").addEventListener("scroll", () => requestAnimationFrame(drawRows));
  $("list").addEventListener("keydown", onListKey);
  $("detail").addEventListener("keydown", (event) => { if (event.key === "Escape") $("list").focus(); });
  document.addEventListener("keydown", (event) => {
    if (event.key !== "/" || event.ctrlKey || event.metaKey || /^(INPUT|SELECT|TEXTAREA)$/.test(event.target.tagName)) return;
    event.preventDefault();
    $("query").focus();
  });
  document.addEventListener("click", (event) => {
    const text = event.target.closest(".hostile");
    if (text && masked() && !text.closest(".row")) { text.classList.toggle("shown"); hush(text.parentElement); }
  });
  addEventListener("hashchange", readAddress);
  addEventListener("beforeprint", () => { for (const details of document.querySelectorAll("details")) details.open = true; });
}

async function start() {
  $("texts-switch").addEventListener("click", switchTexts);
  $("theme-switch").addEventListener("click", switchTheme);
  hush(document);
  if (typeof DecompressionStream === "undefined") {
    $("matched").textContent = "This browser is too old to unpack the conversations; the figures above are complete.";
    return;
  }
  await drawSummary();
  data = await unpack("conversation-data");
  byId = new Map(data.conversations.map((c) => [c.id, c]));
  makeSelects();
  listen();
  refresh();
  drawShapes(data.conversations);
  readAddress();
  document.documentElement.dataset.ready = "true";
}

start();
