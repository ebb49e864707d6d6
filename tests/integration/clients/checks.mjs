// What the scripts of the Node clients share, as checks.py does for those in Python: see there.
import assert from 'node:assert/strict';
import { z } from 'zod';

export const URL = process.env.NORIA_URL;
export const KEY = process.env.NORIA_KEY;
export const WRONG_KEY = 'noria_00000000_wrong';
export const MODEL = 'shop';
export const MISSING = 'nothing-of-this-name';
export const HELLO = 'hello';
export const HELLO_TOKENS = '[system] Be brief.\n[user] hello\n[assistant] '.length;
export const EMBEDDER = 'all-MiniLM-L6-v2';
export const TEXTS = ['A man eats food.', 'Somebody is having a meal.', 'The stock market fell.'];
export const TOO_LONG = 'x'.repeat(110_000);
export const TOO_MANY = 100;

export const Order = z.object({
  kind: z.enum(['tea', 'coffee']),
  cups: z.number().int().min(1).max(9),
  hot: z.boolean(),
});

export function closer([first, second, third]) {
  const product = (a, b) => a.reduce((sum, x, i) => sum + x * b[i], 0);
  assert.ok(Math.abs(product(first, first) - 1) < 1e-3);
  assert.ok(product(first, second) > product(first, third) + 0.2);
}

export async function raises(kind, call) {
  try {
    const value = await call();
    assert.fail(`no ${kind.name}, but ${JSON.stringify(value)}`);
  } catch (error) {
    if (error instanceof kind && !(error instanceof assert.AssertionError)) return error;
    throw error;
  }
}

export async function run(checks) {
  const named = process.argv.slice(2);
  const told = {};
  for (const [name, check] of Object.entries(checks)) {
    if (named.length && !named.includes(name)) continue;
    const began = Date.now();
    try {
      await check();
      told[name] = 'ok';
      console.error(`${name}: ${((Date.now() - began) / 1000).toFixed(1)} s`);
    } catch (error) {
      told[name] = String(error?.stack ?? error).slice(0, 4000);
    }
  }
  console.log(JSON.stringify(told));
}
