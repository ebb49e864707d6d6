// OpenAI's own Node client.
import assert from 'node:assert/strict';
import OpenAI from 'openai';
import { zodFunction, zodResponseFormat, zodTextFormat } from 'openai/helpers/zod';
import {
  closer, EMBEDDER, HELLO, HELLO_TOKENS, KEY, MISSING, MODEL, Order, raises, run, TEXTS, TOO_LONG, TOO_MANY, URL, WRONG_KEY,
} from './checks.mjs';

const client = new OpenAI({ baseURL: URL, apiKey: KEY, maxRetries: 0 });
const user = [{ role: 'user', content: HELLO }];

await run({
  async chat() {
    const answer = await client.chat.completions.create({ model: MODEL, messages: user, max_tokens: 8 });
    assert.ok(answer.choices[0].message.content);
    assert.equal(answer.usage.prompt_tokens, HELLO_TOKENS);
    assert.equal(answer.usage.completion_tokens, 8);
  },

  async stream() {
    const asked = { model: MODEL, messages: user, max_tokens: 20, temperature: 0 };
    const whole = await client.chat.completions.create(asked);
    const chunks = [];
    const stream = await client.chat.completions.create({ ...asked, stream: true, stream_options: { include_usage: true } });
    for await (const chunk of stream) chunks.push(chunk);
    assert.equal(chunks.map((c) => c.choices[0]?.delta.content ?? '').join(''), whole.choices[0].message.content);
    assert.deepEqual(chunks.at(-1).usage, whole.usage);
  },

  async tools() {
    const placed = [];
    const tool = zodFunction({ name: 'order', parameters: Order, function: (order) => `order ${placed.push(order)}` });
    const runner = client.chat.completions.runTools({
      model: MODEL, messages: user, tools: [tool], tool_choice: { type: 'function', function: { name: 'order' } },
    });
    await runner.done();  // a function by name: called once, its result the runner's last message
    assert.equal(Order.parse(placed[0]).kind, placed[0].kind);
    assert.equal(runner.messages.at(-1).role, 'tool');
    const answer = await client.chat.completions.create({
      model: MODEL, messages: runner.messages, tools: [{ type: 'function', function: tool.function }], max_tokens: 8,
    });
    assert.ok(answer.choices[0].message.content);
    const stream = client.chat.completions.stream({ model: MODEL, messages: user, tools: [tool], tool_choice: 'required' });
    const [call] = (await stream.finalChatCompletion()).choices[0].message.tool_calls;
    Order.parse(JSON.parse(call.function.arguments));
  },

  async structured() {
    const answer = await client.chat.completions.parse({
      model: MODEL, messages: user, response_format: zodResponseFormat(Order, 'order'),
    });
    Order.parse(answer.choices[0].message.parsed);
  },

  async responses() {
    const answer = await client.responses.create({ model: MODEL, input: HELLO, max_output_tokens: 8 });
    assert.ok(answer.output_text);
    assert.equal(answer.usage.input_tokens, HELLO_TOKENS);
    const parsed = await client.responses.parse({ model: MODEL, input: HELLO, text: { format: zodTextFormat(Order, 'order') } });
    Order.parse(parsed.output_parsed);
    const stream = client.responses.stream({ model: MODEL, input: HELLO, max_output_tokens: 20, temperature: 0 });
    let text = '';
    for await (const event of stream) if (event.type === 'response.output_text.delta') text += event.delta;
    assert.equal(text, (await stream.finalResponse()).output_text);
  },

  async embeddings() {
    const answer = await client.embeddings.create({ model: EMBEDDER, input: TEXTS });
    closer(answer.data.map((each) => each.embedding));
  },

  async errors() {
    const ask = (more) => client.chat.completions.create({ model: MODEL, messages: user, ...more });
    const stranger = new OpenAI({ baseURL: URL, apiKey: WRONG_KEY, maxRetries: 0 });
    await raises(OpenAI.AuthenticationError, () => stranger.chat.completions.create({ model: MODEL, messages: user }));
    await raises(OpenAI.NotFoundError, () => ask({ model: MISSING }));
    const long = await raises(OpenAI.BadRequestError, () => ask({ messages: [{ role: 'user', content: TOO_LONG }] }));
    assert.equal(long.code, 'context_length_exceeded');
    await raises(OpenAI.RateLimitError, () => ask({ n: TOO_MANY }));
  },
});
