// What scripts/clients.py has Vercel's AI SDK do: `node clients_cases.mjs BASE_URL MODEL`, from a folder that has it.
// The key is in API_KEY. Prints one JSON object, as clients_cases.py does.

import { createRequire } from "node:module";
import { pathToFileURL } from "node:url";

const require = createRequire(pathToFileURL(`${process.cwd()}/`));
const load = (name) => import(pathToFileURL(require.resolve(name)).href);
const { generateText, isStepCount, Output, streamText, tool } = await load("ai");
const { createOpenAICompatible } = await load("@ai-sdk/openai-compatible");
const { z } = await load("zod");

const [baseURL, name] = process.argv.slice(2);
const provider = createOpenAICompatible({
  name: "proxy",
  baseURL,
  apiKey: process.env.API_KEY,
  supportsStructuredOutputs: true,
});
const common = { model: provider(name), prompt: "Where is the Eiffel Tower?", maxRetries: 0 };
const place = z.object({ city: z.string() });
const weather = tool({
  description: "Tells the weather of a city.",
  inputSchema: place,
  execute: async ({ city }) => `sunny in ${city}`,
});

const scenarios = {
  chat: async () => (await generateText(common)).text,
  stream: async () => {
    let said = "";
    for await (const piece of streamText(common).textStream) said += piece;
    return said;
  },
  tools: async () => (await generateText({ ...common, tools: { weather }, stopWhen: isStepCount(3) })).text,
  structured: async () => JSON.stringify((await generateText({ ...common, output: Output.object({ schema: place }) })).output),
  error: async () => (await generateText({ ...common, prompt: "refuse this" })).text,
};

const found = {};
for (const [what, ask] of Object.entries(scenarios)) {
  await fetch(`${process.env.BEGIN_URL}/ai-sdk/${what}`);
  try {
    found[what] = String(await ask());
  } catch (error) {
    found[what] = `${error.name} ${error.statusCode ?? ""}`.trim();
  }
}
process.stdout.write(JSON.stringify({ "ai-sdk": found }));
