// The AI SDK with its provider for OpenAI-compatible servers, and with OpenAI's own on chat completions and responses.
import assert from 'node:assert/strict';
import { createOpenAI } from '@ai-sdk/openai';
import { createOpenAICompatible } from '@ai-sdk/openai-compatible';
import { APICallError, embedMany, generateText, isStepCount, Output, streamText, tool } from 'ai';
import {
  closer, EMBEDDER, HELLO, HELLO_TOKENS, KEY, MISSING, MODEL, Order, raises, run, TEXTS, TOO_LONG, TOO_MANY, URL, WRONG_KEY,
} from './checks.mjs';

const provider = (apiKey) =>
  createOpenAICompatible({ name: 'noria', baseURL: URL, apiKey, supportsStructuredOutputs: true, includeUsage: true });
const compatible = provider(KEY);
const openai = createOpenAI({ baseURL: URL, apiKey: KEY });
const models = [compatible(MODEL), openai.chat(MODEL)];
const ask = (model, more) => generateText({ model, prompt: HELLO, maxRetries: 0, ...more });

async function callAndAnswer(model) {
  const placed = [];
  const order = tool({ description: 'Orders.', inputSchema: Order, execute: async (o) => `order ${placed.push(o)}` });
  const asked = {
    tools: { order },
    stopWhen: isStepCount(2),
    prepareStep: ({ stepNumber }) => ({ toolChoice: stepNumber === 0 ? 'required' : 'none' }),
  };
  const { steps, text } = await ask(model, asked);
  Order.parse(placed[0]);
  assert.equal(steps.length, 2);
  assert.ok(text);
  const streamed = streamText({ model, prompt: HELLO, maxRetries: 0, ...asked });
  await streamed.consumeStream();
  assert.ok(await streamed.text);
  assert.equal(placed.length, 2);
}

async function typed(model) {
  Order.parse((await ask(model, { output: Output.object({ schema: Order }) })).output);
  const streamed = streamText({ model, prompt: HELLO, maxRetries: 0, output: Output.object({ schema: Order }) });
  await streamed.consumeStream();
  Order.parse(await streamed.output);
}

await run({
  async chat() {
    for (const model of models) {
      const { text, usage } = await ask(model, { maxOutputTokens: 8 });
      assert.ok(text);
      assert.equal(usage.inputTokens, HELLO_TOKENS);
      assert.equal(usage.outputTokens, 8);
    }
  },

  async stream() {
    for (const model of models) {
      const asked = { model, prompt: HELLO, maxOutputTokens: 20, temperature: 0, maxRetries: 0 };
      const pieces = [];
      const streamed = streamText(asked);
      for await (const piece of streamed.textStream) pieces.push(piece);
      assert.ok(pieces.length > 1);
      assert.equal(pieces.join(''), (await generateText(asked)).text);
      assert.equal((await streamed.usage).outputTokens, 20);
    }
  },

  async tools() {
    for (const model of models) await callAndAnswer(model);
  },

  async structured() {
    for (const model of models) await typed(model);
  },

  async responses() {
    const model = openai(MODEL);  // what this provider takes where nothing else is said
    assert.equal((await ask(model, { maxOutputTokens: 8 })).usage.inputTokens, HELLO_TOKENS);
    await callAndAnswer(model);
    await typed(model);
  },

  async embeddings() {
    for (const model of [compatible.embeddingModel(EMBEDDER), openai.embedding(EMBEDDER)]) {
      closer((await embedMany({ model, values: TEXTS, maxRetries: 0 })).embeddings);
    }
  },

  async errors() {
    const status = async (model, more) => (await raises(APICallError, () => ask(model, more))).statusCode;
    assert.equal(await status(provider(WRONG_KEY)(MODEL)), 401);
    assert.equal(await status(compatible(MISSING)), 404);
    assert.equal(await status(compatible(MODEL), { prompt: TOO_LONG }), 400);
    assert.equal(await status(compatible(MODEL), { providerOptions: { noria: { n: TOO_MANY } } }), 429);
  },
});
