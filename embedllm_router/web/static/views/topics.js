// What requests are about, and which LLM gets them: how right by prediction and by feedback, at what cost. Then the LLMs.

import { shared } from "../address.js";
import { ask } from "../api.js";
import { fill, h, say } from "../dom.js";
import { count, percent, probability, usd } from "../format.js";
import { badge, facts, named, noRecords, nothing, panel, table } from "../parts.js";

export const title = () => "Topics";
export const lead = "What requests are about, which LLM gets them, how right it is and what it costs.";
export const filtered = true;

export async function load(params, signal) {
  const [topics, llms] = await Promise.all([ask("topics", shared(params), signal), ask("llms", shared(params), signal)]);
  return { topics, ...llms };
}

export function draw(data, params) {
  return [data.topics.length ? byTopic(data.topics) : noRecords(params), ...learned(data)];
}

function byTopic(topics) {
  const columns = [
    { name: "Topic" },
    { name: "LLM" },
    ...["requests", "share", "predicted right", "judged right, 95 %", "judged", "cost of 1,000"].map((name) => ({
      name,
      number: true,
    })),
  ];
  const rows = topics.flatMap(({ topic, all, llms }) => [
    line(h("b", {}, topic), h("b", {}, "all"), all),
    ...llms.map((one) => line(h("span", { class: "again" }, topic), named(one.llm), one)),
  ]);
  return panel(
    "By topic and LLM",
    {
      wide: true,
      id: "topics",
      note: "Requests, predictions and cost: of the LLM that was chosen; cost by the bill where it is known, else by forecast. Judged: answers of the LLM that gave them, with a 95 % interval.",
    },
    table("By topic and LLM", columns, rows, { cards: true, id: "topics" }),
  );
}

function line(topic, llm, one) {
  return [
    topic,
    llm,
    count(one.n),
    percent(one.share),
    probability(one.p_correct),
    judged(one),
    count(one.judged),
    usd(one.usd_per_request === null ? null : one.usd_per_request * 1000),
  ];
}

const ENOUGH = 30;

function judged({ score, judged: n, p_correct: p }) {
  if (!score) return "–";
  const text = `${probability(score.value)} [${probability(score.low)}, ${probability(score.high)}]`;
  if (n < ENOUGH || p === null || (p >= score.low && p <= score.high)) return text;
  return h("span", {}, text, " ", badge(p > score.high ? "predicted too high" : "predicted too low", "warn"));
}

function learned(data) {
  if (!data.artifact) return [nothing("No weights are loaded", "The defaults answer. Health says what is wrong.")];
  const shown = { llms: data.llms, text: "", picked: null };
  const detail = h("div", { id: "llm-detail", "aria-live": "polite" });
  const list = h("div");
  const refresh = () => {
    fill(list, listOf(shown, pick));
    fill(detail, details(shown, pick));
  };
  const pick = (id) => {
    shown.picked = id;
    refresh();
    if (id) say(`${id} selected`);
  };
  const search = h("input", {
    id: "llm-search",
    type: "search",
    placeholder: "name or vendor",
    oninput: (e) => {
      shown.text = e.target.value.trim().toLowerCase();
      refresh();
    },
  });
  refresh();
  const find = h("label", { class: "field grow" }, h("span", {}, "Find an LLM of the weights"), search);
  return [h("div", { class: "filters inner" }, find), h("div", { class: "beside" }, list, detail)];
}

const found = ({ text }, llm) =>
  !text || llm.id.toLowerCase().includes(text) || llm.vendor.toLowerCase().includes(text);

const price = (llm) =>
  llm.input_usd_per_mtok === null ? "–" : `${llm.input_usd_per_mtok} / ${llm.output_usd_per_mtok}`;

function details({ llms, picked }, pick) {
  const llm = llms.find((one) => one.id === picked);
  if (!llm) return h("p", { class: "panel note" }, "Choose an LLM in the list to see the most similar ones.");
  const columns = [
    { name: "LLM" },
    ...["similarity", "right", "USD in / out per M", "chosen"].map((name) => ({ name, number: true })),
  ];
  const rows = llm.nearest.map(([id, cosine]) => {
    const other = llms.find((one) => one.id === id);
    const name = h("button", { type: "button", class: "link", onclick: () => pick(id) }, id);
    return [name, cosine.toFixed(2), probability(other.mean_correctness), price(other), count(other.chosen)];
  });
  return panel(
    llm.id,
    { wide: true, id: "llm", note: "Similar LLMs get the same prompts right: 1 is alike, 0 is unrelated." },
    facts([
      ["Vendor", llm.vendor],
      ["Thinks before it answers", llm.thinking ? "yes" : "no"],
      ["Graded answers", `${count(llm.labels)}, ${percent(llm.mean_correctness)} right`],
    ]),
    h("h3", {}, "Most similar LLMs"),
    table(`Most similar to ${llm.id}`, columns, rows, { id: "similar" }),
    h("button", { type: "button", onclick: () => pick(null) }, "Close"),
  );
}

function listOf(shown, pick) {
  const rows = shown.llms
    .filter((llm) => found(shown, llm))
    .sort((a, b) => b.chosen - a.chosen || b.mean_correctness - a.mean_correctness);
  const columns = [
    { name: "LLM" },
    { name: "Vendor" },
    { name: "Graded answers", number: true },
    { name: "Right", number: true },
    { name: "USD in / out per M", number: true },
    { name: "Chosen", number: true },
  ];
  const name = (llm) =>
    h(
      "span",
      {},
      h("button", { type: "button", class: "link", onclick: () => pick(llm.id) }, llm.id),
      llm.thinking && badge("thinks"),
    );
  return panel(
    `${count(rows.length)} LLMs`,
    { wide: true, id: "llm-list" },
    table(
      "LLMs",
      columns,
      rows.map((llm) => [
        name(llm),
        llm.vendor,
        count(llm.labels),
        probability(llm.mean_correctness),
        price(llm),
        count(llm.chosen),
      ]),
      { id: "llm-list" },
    ),
  );
}
