// A relay that goes away and comes back: a process of its own, killed and started again on the same data.
import assert from 'node:assert/strict';
import { spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { createServer, type AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { root } from './keys.js';
import { connect, person, read, until, within, write } from './people.js';

async function freePort(): Promise<number> {
  const server = createServer().listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address() as AddressInfo;
  server.close();
  await once(server, 'close');
  return port;
}

class OwnRelay {
  readonly #data = mkdtempSync(join(tmpdir(), 'obscura-ts-'));
  #process: ChildProcess | undefined;

  private constructor(
    readonly port: number,
    readonly management: number,
  ) {}

  static make = async () => new OwnRelay(await freePort(), await freePort());

  get url(): string {
    return `http://127.0.0.1:${this.port}`;
  }

  async start(): Promise<void> {
    const kept = Object.entries(process.env).filter(([name]) => !name.startsWith('OBSCURA_') && name !== 'DATABASE_URL');
    const env = {
      ...Object.fromEntries(kept),
      OBSCURA_LISTEN: `127.0.0.1:${this.port}`,
      OBSCURA_MANAGEMENT_LISTEN: `127.0.0.1:${this.management}`,
      OBSCURA_DATA_DIR: join(this.#data, 'data'),
    };
    const relay = spawn(join(root, 'bin/obscura'), ['serve'], { env, stdio: ['ignore', 'ignore', 'pipe'] });
    this.#process = relay;
    let log = '';
    relay.stderr.on('data', (chunk: Buffer) => (log += chunk.toString()));
    const until = Date.now() + 60_000;
    for (;;) {
      const up = await fetch(`http://127.0.0.1:${this.management}/readyz`).then((r) => r.ok, () => false);
      if (up) return;
      if (relay.exitCode !== null || Date.now() > until) throw new Error(`the relay did not start:\n${log}`);
      await new Promise((resolve) => setTimeout(resolve, 100));
    }
  }

  async stop(signal: NodeJS.Signals): Promise<void> {
    const relay = this.#process;
    if (!relay || relay.exitCode !== null || relay.signalCode !== null) return;
    const exit = once(relay, 'exit');
    relay.kill(signal);
    await within(exit, 'the relay to stop', 60_000);
  }

  async remove(): Promise<void> {
    await this.stop('SIGTERM');
    rmSync(this.#data, { recursive: true, force: true });
  }
}

test('a relay that is stopped, or killed, and started again loses nothing', async (t) => {
  const relay = await OwnRelay.make();
  t.after(() => relay.remove());
  await relay.start();
  const [alice, bob] = [await person({}, relay.url), await person({}, relay.url)];
  const gateway = connect(t, bob);
  await until(gateway, 'drained');
  await write(alice, bob, 'before');
  assert.deepEqual(await read(gateway, 1), ['before']);

  for (const signal of ['SIGTERM', 'SIGKILL'] as const) {
    await write(alice, bob, `not taken before ${signal}`);
    await relay.stop(signal);
    const sent = write(alice, bob, `sent after ${signal}`); // while nobody is there
    await relay.start();
    await within(sent, 'the message to be sent', 60_000);
    const expected = [`not taken before ${signal}`, `sent after ${signal}`];
    assert.deepEqual(await within(read(gateway, 2), 'both messages', 60_000), expected);
  }
  await gateway.close();
});
