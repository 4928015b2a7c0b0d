/* The Vercel AI SDK, with its packages for OpenAI, for what is compatible, and for Anthropic.

```js
import { createOpenAICompatible } from "@ai-sdk/openai-compatible";
import { generateText } from "ai";

const helexa = createOpenAICompatible({
  name: "helexa",
  baseURL: "http://127.0.0.1:8080/v1",
  apiKey: "KEY",
});
const { text } = await generateText({ model: helexa("helexa-demo"), prompt: "What is helexa?" });
console.log(text);
```
*/
import assert from "node:assert/strict";
import { createAnthropic } from "@ai-sdk/anthropic";
import { createOpenAI } from "@ai-sdk/openai";
import { createOpenAICompatible } from "@ai-sdk/openai-compatible";
import {
  APICallError, embedMany, generateText, Output, stepCountIs, streamText, tool,
} from "ai";
import { z } from "zod";
import {
  ANSWER, BASE_URL, CITY, CITY_QUESTION, EMBEDDER, KEY, MODEL, PICTURE, QUESTION, SEEN, TOOL_ABOUT,
  VISION, WEATHER, check, refused, run,
} from "./checks.mjs";

const compatible = createOpenAICompatible({
  name: "helexa",
  baseURL: BASE_URL,
  apiKey: KEY,
  includeUsage: true,
  supportsStructuredOutputs: true,
});
const openai = createOpenAI({ baseURL: BASE_URL, apiKey: KEY });
const anthropic = createAnthropic({ baseURL: BASE_URL, apiKey: KEY });
const models = [
  ["chat", "compatible: ", (name) => compatible(name)],
  ["chat", "openai: ", (name) => openai.chat(name)],
  ["responses", "openai responses: ", (name) => openai.responses(name)],
  ["messages", "anthropic: ", (name) => anthropic(name)],
];
const settings = { temperature: 0, maxOutputTokens: 200, maxRetries: 0 };
const shape = z.object({ kind: z.enum(["neuron", "cortex"]), ok: z.boolean() });

for (const [surface, before, model] of models) {
  check(surface, ["text", "usage"], `${before}a whole answer`, async () => {
    const answer = await generateText({ model: model(MODEL), prompt: QUESTION, ...settings });
    assert.equal(answer.text, ANSWER);
    assert.equal(answer.finishReason, "stop");
    assert.ok(answer.usage.outputTokens > 3);
  });

  check(surface, ["streaming", "usage"], `${before}a stream`, async () => {
    const stream = streamText({ model: model(MODEL), prompt: QUESTION, ...settings });
    const pieces = [];
    for await (const piece of stream.textStream) pieces.push(piece);
    assert.equal(pieces.join(""), ANSWER);
    assert.ok(pieces.length > 3);
    assert.ok((await stream.usage).outputTokens > 3);
  });

  check(surface, ["tools"], `${before}tools until there is an answer`, async () => {
    const heard = [];
    const answer = await generateText({
      model: model(MODEL),
      prompt: CITY_QUESTION,
      stopWhen: stepCountIs(3),
      tools: {
        get_weather: tool({
          description: TOOL_ABOUT,
          inputSchema: z.object({ city: z.string() }),
          execute: async ({ city }) => {
            heard.push(city);
            return WEATHER;
          },
        }),
      },
      ...settings,
    });
    assert.deepEqual(heard, [CITY]);
    assert.match(answer.text, /17/);
  });

  check(surface, ["structured output"], `${before}an object`, async () => {
    const output = Output.object({ schema: shape });
    const answer = await generateText({ model: model(MODEL), prompt: QUESTION, output, ...settings });
    shape.parse(answer.output);
  });

  check(surface, ["vision"], `${before}a picture`, async () => {
    const content = [
      { type: "text", text: "What is in this picture?" },
      { type: "file", mediaType: "image/png", data: PICTURE },
    ];
    const messages = [{ role: "user", content }];
    const answer = await generateText({ model: model(VISION), messages, ...settings });
    assert.equal(answer.text, SEEN);
  });

  check(surface, ["errors"], `${before}refusals`, async () => {
    const unknown = generateText({ model: model("nobody-has-this"), prompt: QUESTION, ...settings });
    await refused(APICallError, 404, unknown);
  });
}

check("chat", ["errors"], "a wrong key", async () => {
  const stranger = createOpenAI({ baseURL: BASE_URL, apiKey: "hx_live_nobody" });
  const asked = generateText({ model: stranger.chat(MODEL), prompt: QUESTION, ...settings });
  await refused(APICallError, 401, asked);
});

check("embeddings", ["embeddings", "usage"], "vectors", async () => {
  const model = openai.embedding(EMBEDDER);
  const { embeddings, usage } = await embedMany({ model, values: ["one", "two"] });
  assert.equal(embeddings.length, 2);
  assert.ok(embeddings[0].length > 8);
  assert.ok(usage.tokens > 0);
});

await run(["ai", "@ai-sdk/openai", "@ai-sdk/openai-compatible", "@ai-sdk/anthropic"]);
