/* The official SDK for Node.

```js
import OpenAI from "openai";

const client = new OpenAI({ baseURL: "http://127.0.0.1:8080/v1", apiKey: "KEY" });
const answer = await client.chat.completions.create({
  model: "helexa-demo",
  messages: [{ role: "user", content: "What is helexa?" }],
});
console.log(answer.choices[0].message.content);
```
*/
import assert from "node:assert/strict";
import OpenAI from "openai";
import { zodResponseFormat, zodTextFormat } from "openai/helpers/zod";
import { z } from "zod";
import {
  ANSWER, BASE_URL, CITY, CITY_QUESTION, EMBEDDER, KEY, MODEL, PARAMETERS, PICTURE, QUESTION, SEEN,
  TOOL_ABOUT, VISION, WEATHER, check, refused, run,
} from "./checks.mjs";

const client = new OpenAI({ baseURL: BASE_URL, apiKey: KEY });
const asked = { model: MODEL, messages: [{ role: "user", content: QUESTION }], temperature: 0 };
const tools = [
  {
    type: "function",
    function: { name: "get_weather", description: TOOL_ABOUT, parameters: PARAMETERS },
  },
];

check("chat", ["text", "usage"], "a whole answer", async () => {
  const answer = await client.chat.completions.create(asked);
  assert.equal(answer.choices[0].message.content, ANSWER);
  assert.equal(answer.choices[0].finish_reason, "stop");
  const usage = answer.usage;
  assert.equal(usage.total_tokens, usage.prompt_tokens + usage.completion_tokens);
});

check("chat", ["streaming", "usage"], "a stream with usage", async () => {
  const options = { stream: true, stream_options: { include_usage: true } };
  let text = "";
  let usage = null;
  for await (const chunk of await client.chat.completions.create({ ...asked, ...options })) {
    text += chunk.choices[0]?.delta?.content ?? "";
    usage = chunk.usage ?? usage;
  }
  assert.equal(text, ANSWER);
  assert.ok(usage.completion_tokens > 3);
});

check("chat", ["streaming"], "a stream that is left early", async () => {
  const stream = await client.chat.completions.create({ ...asked, stream: true });
  for await (const chunk of stream) {
    if (chunk.choices[0]?.delta?.content) break;
  }
  const again = await client.chat.completions.create(asked);
  assert.equal(again.choices[0].message.content, ANSWER);
});

check("chat", ["tools"], "tools run by the SDK until there is an answer", async () => {
  const heard = [];
  const runner = client.chat.completions.runTools({
    model: MODEL,
    temperature: 0,
    messages: [{ role: "user", content: CITY_QUESTION }],
    tools: [
      {
        type: "function",
        function: {
          name: "get_weather",
          description: TOOL_ABOUT,
          parameters: PARAMETERS,
          parse: JSON.parse,
          function: ({ city }) => {
            heard.push(city);
            return WEATHER;
          },
        },
      },
    ],
  });
  assert.match(await runner.finalContent(), /17/);
  assert.deepEqual(heard, [CITY]);
});

check("chat", ["tools", "streaming"], "a streamed tool call", async () => {
  const stream = client.chat.completions.stream({
    model: MODEL,
    messages: [{ role: "user", content: CITY_QUESTION }],
    tools,
    tool_choice: "required",
  });
  const { message } = (await stream.finalChatCompletion()).choices[0];
  assert.deepEqual(JSON.parse(message.tool_calls[0].function.arguments), { city: CITY });
});

check("chat", ["structured output"], "an answer that is parsed", async () => {
  const shape = z.object({ kind: z.enum(["neuron", "cortex"]), ok: z.boolean() });
  const answer = await client.chat.completions.parse({
    ...asked,
    max_tokens: 128,
    response_format: zodResponseFormat(shape, "node"),
  });
  shape.parse(answer.choices[0].message.parsed);
});

check("chat", ["vision"], "a picture", async () => {
  const content = [
    { type: "text", text: "What is in this picture?" },
    { type: "image_url", image_url: { url: `data:image/png;base64,${PICTURE}` } },
  ];
  const answer = await client.chat.completions.create({
    model: VISION,
    messages: [{ role: "user", content }],
    temperature: 0,
    max_tokens: 60,
  });
  assert.equal(answer.choices[0].message.content, SEEN);
});

check("chat", ["errors"], "refusals are the classes of the SDK", async () => {
  const stranger = new OpenAI({ baseURL: BASE_URL, apiKey: "hx_live_nobody" });
  await refused(OpenAI.AuthenticationError, 401, stranger.chat.completions.create(asked));
  const unknown = client.chat.completions.create({ ...asked, model: "nobody-has-this" });
  await refused(OpenAI.NotFoundError, 404, unknown);
  const wrong = client.chat.completions.create({ ...asked, temperature: 9 });
  assert.equal((await refused(OpenAI.BadRequestError, 400, wrong)).param, "temperature");
});

check("responses", ["text", "usage"], "a response and the next one", async () => {
  const inquiry = { model: MODEL, input: QUESTION, temperature: 0 };
  const answer = await client.responses.create(inquiry);
  assert.equal(answer.output_text, ANSWER);
  const again = await client.responses.create({ ...inquiry, previous_response_id: answer.id });
  assert.ok(again.usage.input_tokens > answer.usage.input_tokens);
});

check("responses", ["streaming", "tools"], "a streamed response with a tool", async () => {
  const { name, description, parameters } = tools[0].function;
  const stream = client.responses.stream({
    model: MODEL,
    input: CITY_QUESTION,
    temperature: 0,
    tools: [{ type: "function", name, description, parameters, strict: false }],
  });
  const { output } = await stream.finalResponse();
  const call = output.find((one) => one.type === "function_call");
  assert.deepEqual(JSON.parse(call.arguments), { city: CITY });
});

check("responses", ["streaming"], "a streamed response", async () => {
  const inquiry = { model: MODEL, input: QUESTION, temperature: 0, stream: true };
  let text = "";
  let last = null;
  for await (const event of await client.responses.create(inquiry)) {
    if (event.type === "response.output_text.delta") text += event.delta;
    last = event;
  }
  assert.equal(text, ANSWER);
  assert.equal(last.type, "response.completed");
});

check("responses", ["structured output"], "a response that is parsed", async () => {
  const shape = z.object({ kind: z.enum(["neuron", "cortex"]), ok: z.boolean() });
  const answer = await client.responses.parse({
    model: MODEL,
    input: QUESTION,
    temperature: 0,
    max_output_tokens: 128,
    text: { format: zodTextFormat(shape, "node") },
  });
  shape.parse(answer.output_parsed);
});

check("embeddings", ["embeddings", "usage"], "vectors", async () => {
  const answer = await client.embeddings.create({ model: EMBEDDER, input: ["one", "two"] });
  assert.equal(answer.data.length, 2);
  assert.ok(answer.data[0].embedding.length > 8);
  assert.ok(answer.data[0].embedding.every(Number.isFinite));
  assert.ok(answer.usage.prompt_tokens > 0);
});

check("models", ["models"], "the list of models", async () => {
  const names = [];
  for await (const one of client.models.list()) names.push(one.id);
  assert.ok(names.includes(MODEL) && names.includes(VISION), String(names));
  assert.equal((await client.models.retrieve(MODEL)).id, MODEL);
});

await run(["openai"]);
