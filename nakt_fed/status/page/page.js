"use strict";

const SYMBOLS = { connected: "●", local: "●", away: "○", not_seen: "○", waiting: "◐", set_aside: "✕", over: "" };
const TONES = { connected: "good", away: "warn", not_seen: "warn", waiting: "warn", set_aside: "bad" };
const MARKS = { done: "✓", now: "▸", cut: "✕", todo: "" };
const STATES = { done: "done", now: "now", cut: "not finished", todo: "to come" };
const find = id => document.getElementById(id);

/* Names and messages only ever become text, never markup. */
function make(tag, text, className) {
  const element = document.createElement(tag);
  if (text !== undefined) element.textContent = text;
  if (className) element.className = className;
  return element;
}

function say(id, text, className) {
  const element = find(id);
  element.hidden = !text;
  if (element.textContent !== text) element.textContent = text;
  if (className !== undefined) element.className = className;
}

function bar(done, total, label) {
  const element = make("progress");
  element.max = total;
  element.value = done;
  element.setAttribute("aria-label", label);
  return element;
}

function cell(label, ...parts) {
  const element = make("td");
  element.dataset.label = label;
  element.append(...parts);
  return element;
}

function stage(item) {
  const element = make("li", undefined, item.state);
  if (item.state === "now") element.setAttribute("aria-current", "step");
  const mark = make("span", MARKS[item.state], "mark");
  mark.setAttribute("aria-hidden", "true");
  const state = item.words.seconds || STATES[item.state];
  element.append(mark, make("span", item.words.name, "name"), make("span", state, "state"));
  return element;
}

function connection(site) {
  const symbol = make("span", SYMBOLS[site.connection] + " ");
  symbol.setAttribute("aria-hidden", "true");
  const element = make("span", undefined, TONES[site.connection] || "plain");
  element.append(symbol, site.words.connection);
  return element;
}

function answered(site) {
  if (!site.of) return [make("span", site.words.activity || "not yet", "muted")];
  const percent = `${Math.floor(100 * site.chunks / site.of)} %`;
  const parts = [bar(site.chunks, site.of, `${site.name}: answered`), make("span", `${percent}, ${site.chunks} of ${site.of} parts`, "small")];
  return site.words.activity ? [...parts, make("span", site.words.activity, "small")] : parts;
}

function rows(site) {
  const row = make("tr");
  const name = make("th", site.name);
  name.scope = "row";
  const rate = site.pictures_per_second === null ? "–" : site.pictures_per_second.toFixed(1);
  row.append(name, cell("Connection", connection(site)), cell("Asked to take part", site.words.offer), cell("Answered", ...answered(site)),
    cell("Pictures a second", rate), cell("Time left", site.words.left || "–"));
  for (const place of [4, 5]) row.children[place].classList.add("num");
  if (!site.words.hints.length) return [row];
  const hints = make("td");
  hints.colSpan = 6;
  for (const text of site.words.hints) hints.append(make("p", text));
  const below = make("tr", undefined, "hints");
  below.append(hints);
  row.classList.add("hinted");
  return [row, below];
}

function student([who, told], words) {
  const element = make("div", undefined, "student");
  element.append(make("p", words[who]), bar(told.epoch, told.epochs, words[who]));
  return element;
}

function warning(told) {
  return make("li", told.message);
}

const TITLES = { starting: "starting: ", running: "", done: "finished: ", failed: "failed: ", stopped: "stopped: " };
const BOXES = { failed: "lead bad", stopped: "lead warn", done: "lead good" };

function show(status) {
  say("headline", status.words.headline, BOXES[status.state] || "lead");
  say("remedy", status.words.remedy);
  find("stages").replaceChildren(...status.stages.map(stage));
  find("sites").tBodies[0].replaceChildren(...status.sites.flatMap(rows));
  const students = Object.entries(status.students);
  find("students").replaceChildren(...students.map(item => student(item, status.words.students)));
  find("training").hidden = !students.length;
  find("warnings").replaceChildren(...status.warnings.map(warning));
  find("warned").hidden = !status.warnings.length;
  document.title = `${TITLES[status.state]}${document.body.dataset.study}: status of nakt-fed`;
}

let last = "";
let seen = "";

async function ask() {
  try {
    const answer = await fetch("status.json", { cache: "no-store" });
    if (!answer.ok) throw new Error((await answer.json()).error);
    const text = await answer.text();
    if (text !== last) show(JSON.parse(text));
    last = text;
    seen = new Date().toLocaleTimeString();
    say("lost", "");
    say("seen", `As of ${seen}, refreshed every ${document.body.dataset.refresh} seconds.`);
  } catch (error) {
    say("lost", `No news: nakt status, which serves this page, does not answer or cannot read the run. ${seen ? `What you see is from ${seen}.` : ""}`);
  }
  setTimeout(ask, 1000 * document.body.dataset.refresh);
}

ask();
