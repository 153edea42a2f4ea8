// Has CompatCanary probe what scripts/clients.py compares: `node clients_canary.mjs BASE_URL MODEL`, from a folder that
// has it. The key is in API_KEY. Prints one JSON object: by probe, its finding, with the evidence that names no LLM.

import { createRequire } from "node:module";
import { dirname, join } from "node:path";
import { pathToFileURL } from "node:url";

const [baseUrl, model] = process.argv.slice(2);
const main = createRequire(pathToFileURL(`${process.cwd()}/`)).resolve("compatcanary");
const load = (file) => import(pathToFileURL(join(dirname(main), file)).href);
const { scanEndpoint } = await load("index.js");
const { probes } = await load("probes.js");

const announced = probes.map((probe) => ({
  ...probe,
  run: async (config) => {
    await fetch(`${process.env.BEGIN_URL}/compatcanary/${probe.id}`);
    return probe.run(config);
  },
}));
const report = await scanEndpoint({ baseUrl, model, apiKey: process.env.API_KEY, timeoutMs: 20_000 }, announced);
const found = {};
for (const { id, status, summary, evidence } of report.results) {
  found[id] = `${status}: ${summary} ${JSON.stringify(evidence ?? {})}`;
}
process.stdout.write(JSON.stringify({ compatcanary: found }));
