// The command line: runs the conversation on a relay and prints it.
import { parseArgs } from 'node:util';
import { chat } from './chat.js';
import { secretly } from './secret.js';
import { secretSummary, summary, transcript } from './transcript.js';

const usage = `npm start -- [--url http://127.0.0.1:3000]

Lets Alice and Bob talk through the relay at the URL, by name and then sealed. The URL may also come from RELAY_URL or OBSCURA_URL.`;

async function main(): Promise<void> {
  const { values } = parseArgs({ options: { url: { type: 'string' }, help: { type: 'boolean', short: 'h' } } });
  if (values.help) return console.log(usage);
  const url = values.url ?? process.env['RELAY_URL'] ?? process.env['OBSCURA_URL'] ?? 'http://127.0.0.1:3000';
  if (!/^https?:\/\/./.test(url)) throw new Error(`${url} is not the http:// or https:// address of a relay`);
  console.log(`Alice and Bob on the relay at ${url}`);
  console.log(`\n${summary(await chat(url, transcript(console.log)))}`);
  console.log('\nAnd now without telling the relay who writes');
  console.log(`\n${secretSummary(await secretly(url, transcript(console.log)))}`);
}

await main().catch((failure: unknown) => {
  console.error(`signal-chat: ${failure instanceof Error ? failure.message : String(failure)}`);
  process.exit(1); // at once: a socket may still be open
});
