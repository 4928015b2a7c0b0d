/* Anthropic's official SDK for Node.

```js
import Anthropic from "@anthropic-ai/sdk";

const client = new Anthropic({ baseURL: "http://127.0.0.1:8080", apiKey: "KEY" });
const answer = await client.messages.create({
  model: "helexa-demo",
  max_tokens: 200,
  messages: [{ role: "user", content: "What is helexa?" }],
});
console.log(answer.content[0].text);
```
*/
import assert from "node:assert/strict";
import Anthropic from "@anthropic-ai/sdk";
import { zodOutputFormat } from "@anthropic-ai/sdk/helpers/zod";
import { z } from "zod";
import {
  ANSWER, CITY, CITY_QUESTION, KEY, MODEL, PARAMETERS, PICTURE, QUESTION, SEEN, TOOL_ABOUT, URL_ROOT,
  VISION, WEATHER, check, refused, run,
} from "./checks.mjs";

const client = new Anthropic({ baseURL: URL_ROOT, apiKey: KEY });
const asked = {
  model: MODEL,
  max_tokens: 200,
  temperature: 0,
  messages: [{ role: "user", content: QUESTION }],
};
const inCity = { ...asked, messages: [{ role: "user", content: CITY_QUESTION }] };
const tools = [{ name: "get_weather", description: TOOL_ABOUT, input_schema: PARAMETERS }];

check("messages", ["text", "usage"], "a whole answer", async () => {
  const answer = await client.messages.create(asked);
  assert.equal(answer.content[0].text, ANSWER);
  assert.equal(answer.stop_reason, "end_turn");
  assert.ok(answer.usage.output_tokens > 3);
});

check("messages", ["streaming", "usage"], "a stream", async () => {
  const stream = client.messages.stream(asked);
  const pieces = [];
  stream.on("text", (piece) => pieces.push(piece));
  const final = await stream.finalMessage();
  assert.equal(pieces.join(""), ANSWER);
  assert.ok(pieces.length > 3);
  assert.ok(final.usage.output_tokens > 3);
});

check("messages", ["tools"], "a tool and its result", async () => {
  const first = await client.messages.create({ ...inCity, tools });
  const call = first.content.at(-1);
  assert.equal(first.stop_reason, "tool_use");
  assert.deepEqual(call.input, { city: CITY });
  const result = { type: "tool_result", tool_use_id: call.id, content: WEATHER };
  const messages = [
    ...inCity.messages,
    { role: "assistant", content: first.content },
    { role: "user", content: [result] },
  ];
  const second = await client.messages.create({ ...asked, messages, tools });
  assert.match(second.content[0].text, /17/);
});

check("messages", ["tools", "streaming"], "a streamed tool call", async () => {
  const stream = client.messages.stream({ ...inCity, tools, tool_choice: { type: "any" } });
  assert.deepEqual((await stream.finalMessage()).content.at(-1).input, { city: CITY });
});

check("messages", ["structured output"], "an answer that is parsed", async () => {
  const shape = z.object({ kind: z.enum(["neuron", "cortex"]), ok: z.boolean() });
  const answer = await client.messages.parse({
    ...asked,
    output_config: { format: zodOutputFormat(shape) },
  });
  shape.parse(answer.parsed_output);
});

check("messages", ["vision"], "a picture", async () => {
  const content = [
    { type: "image", source: { type: "base64", media_type: "image/png", data: PICTURE } },
    { type: "text", text: "What is in this picture?" },
  ];
  const messages = [{ role: "user", content }];
  const answer = await client.messages.create({ ...asked, model: VISION, messages });
  assert.equal(answer.content[0].text, SEEN);
});

check("messages", ["usage"], "the tokens of a prompt", async () => {
  const { model, messages } = asked;
  const counted = await client.messages.countTokens({ model, messages });
  const { usage } = await client.messages.create(asked);
  // Anthropic counts what was cached beside the input.
  assert.equal(counted.input_tokens, usage.input_tokens + usage.cache_read_input_tokens);
});

check("messages", ["errors"], "refusals are the classes of the SDK", async () => {
  const stranger = new Anthropic({ baseURL: URL_ROOT, apiKey: "hx_live_nobody" });
  await refused(Anthropic.AuthenticationError, 401, stranger.messages.create(asked));
  const unknown = client.messages.create({ ...asked, model: "nobody-has-this" });
  await refused(Anthropic.NotFoundError, 404, unknown);
  const wrong = client.messages.create({ ...asked, temperature: 9 });
  await refused(Anthropic.BadRequestError, 400, wrong);
});

check("models", ["models"], "the list of models", async () => {
  const names = [];
  for await (const one of client.models.list({ limit: 1 })) names.push(one.id);
  assert.ok(names.includes(MODEL) && names.includes(VISION), String(names));
});

await run(["@anthropic-ai/sdk"]);
