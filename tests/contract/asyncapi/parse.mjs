// Reads an AsyncAPI document from standard input, prints its diagnostics as JSON; severity 0 is an error.
import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { join } from 'node:path';

const require = createRequire(join(process.argv[2], 'package.json'));
const { Parser } = require('@asyncapi/parser');
const { document, diagnostics } = await new Parser().parse(readFileSync(0, 'utf8'));
const channels = document ? document.allChannels().all().length : 0;
console.log(JSON.stringify({ valid: Boolean(document), channels, diagnostics }));
