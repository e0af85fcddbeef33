// A relay for the tests: the one that RELAY_URL or OBSCURA_URL names, else one started for them.
import { spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { accessSync, chmodSync, constants, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

export interface TestRelay {
  url: string;
  stop(): Promise<void>;
}

const binary = fileURLToPath(new URL('../../../../bin/obscura', import.meta.url)); // from dist/test
const patience = 60_000; // milliseconds, to start (with a new database) and to stop

export async function testRelay(): Promise<TestRelay> {
  const url = process.env['RELAY_URL'] ?? process.env['OBSCURA_URL'];
  if (url) return { url, stop: async () => {} };
  try {
    accessSync(binary, constants.X_OK);
  } catch {
    throw new Error('bin/obscura is missing: run `make build` in the root of the repository, or name a relay with RELAY_URL');
  }
  const folder = mkdtempSync(join(tmpdir(), 'obscura-signal-chat-'));
  chmodSync(folder, 0o755); // PostgreSQL drops root's rights and must still get in
  const relay = spawn(binary, ['serve'], { env: environment(folder), stdio: ['ignore', 'pipe', 'pipe'] });
  // Should the tests be cut short, the relay goes too.
  process.once('exit', () => relay.kill('SIGTERM'));
  for (const signal of ['SIGINT', 'SIGTERM'] as const) process.once(signal, () => process.exit(1));
  const stop = () => terminate(relay).finally(() => rmSync(folder, { recursive: true, force: true }));
  try {
    return { url: await address(relay), stop };
  } catch (failure) {
    await stop().catch(() => {}); // the first failure is the one to report
    throw failure;
  }
}

/** The relay refuses variables that it does not know, and must not get at anybody's database. */
function environment(folder: string): NodeJS.ProcessEnv {
  const kept = Object.entries(process.env).filter(([name]) => !name.startsWith('OBSCURA_') && name !== 'DATABASE_URL');
  return {
    ...Object.fromEntries(kept),
    OBSCURA_LISTEN: '127.0.0.1:0',
    OBSCURA_MANAGEMENT_LISTEN: '127.0.0.1:0',
    OBSCURA_DATA_DIR: join(folder, 'data'),
  };
}

/** The relay says in its log where it listens. */
function address(relay: ChildProcess): Promise<string> {
  return new Promise((resolve, reject) => {
    let log = '';
    const give = (sentence: string) => reject(new Error(`${sentence}; its log:\n${log || '(empty)'}`));
    const timer = setTimeout(() => give(`the relay did not say in ${patience / 1000} s where it listens`), patience);
    const read = (chunk: Buffer) => {
      log += chunk.toString();
      const found = log
        .split('\n')
        .find((line) => line.includes('listening') && api.test(line))
        ?.match(api)?.[1];
      if (!found) return;
      clearTimeout(timer);
      resolve(found);
    };
    relay.stdout?.on('data', read);
    relay.stderr?.on('data', read);
    relay.once('error', (failure) => give(`could not start bin/obscura (${failure.message})`));
    relay.once('exit', (code, signal) => {
      clearTimeout(timer);
      give(`the relay ended with ${signal ?? `status ${code}`} instead of serving`);
    });
  });
}

const api = /api["=:\s]+"?(http:\/\/[^\s",}]+)/;

async function terminate(relay: ChildProcess): Promise<void> {
  if (relay.exitCode !== null || relay.signalCode !== null || relay.pid === undefined) return;
  const exit = once(relay, 'exit') as Promise<[number | null, string | null]>;
  relay.kill('SIGTERM');
  const late = setTimeout(() => relay.kill('SIGKILL'), patience);
  const [code, signal] = await exit;
  clearTimeout(late);
  if (code !== 0) throw new Error(`the relay, asked to stop, ended with ${signal ?? `status ${code}`}`);
}
