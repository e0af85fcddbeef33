// Users of the running relay, and fetches and proxies that fail on demand.
import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import type { TestContext } from 'node:test';
import { newBatch, Relay, type Credentials, type Gateway, type GatewayEvent, type GatewayOptions, type RelayOptions, type Session } from '@obscura-relay/client';
import { newKeys } from './keys.js';

export const relayUrl = process.env['RELAY_URL'] ?? missing();

function missing(): never {
  throw new Error('RELAY_URL names no relay: run `make test-ts` in the root of the repository');
}

export const credentials = (): Credentials => ({
  username: `ts_${randomBytes(8).toString('hex')}`,
  password: randomBytes(18).toString('base64url'),
});

/** A new user's session, for a new device of theirs. */
export async function person(options?: RelayOptions, url = relayUrl): Promise<Session> {
  const account = await new Relay(url).register(credentials());
  const device = await account.addDevice(newKeys());
  return new Relay(url, options).resume(device.tokens);
}

export const text = (message: Uint8Array): string => Buffer.from(message).toString();

export async function write(from: Session, to: Session, ...texts: string[]): Promise<void> {
  const submissions = texts.map((t) => ({ deviceId: to.deviceId!, message: Buffer.from(t) }));
  assert.deepEqual(await from.send(newBatch(...submissions)), []);
}

/** A gateway that is closed when the test is over. */
export function connect(t: TestContext, session: Session, options?: GatewayOptions): Gateway {
  const gateway = session.connect(options);
  t.after(() => gateway.close());
  return gateway;
}

/** Takes events until there are so many texts, and acknowledges them. */
export async function read(gateway: Gateway, count: number): Promise<string[]> {
  const texts: string[] = [];
  while (texts.length < count) {
    const { envelope } = await until(gateway, 'envelope');
    texts.push(text(envelope.message));
    gateway.acknowledge(envelope.id);
  }
  return texts;
}

/** Takes events until there is one of the kind. */
export async function until<K extends GatewayEvent['kind']>(gateway: Gateway, kind: K): Promise<Extract<GatewayEvent, { kind: K }>> {
  for (;;) {
    const { value, done } = await within(gateway.next(), kind);
    if (done) throw new Error(`the gateway ended before ${kind}`);
    if (value.kind === kind) return value as Extract<GatewayEvent, { kind: K }>;
  }
}

/** The texts that still wait for the device: everything up to the end of the backlog of a gateway of its own. Nothing is acknowledged. */
export async function waiting(session: Session): Promise<string[]> {
  const gateway = session.connect();
  const texts: string[] = [];
  for await (const event of gateway) {
    if (event.kind === 'envelope') texts.push(text(event.envelope.message));
    if (event.kind === 'drained') break;
  }
  return texts;
}

/** Acknowledgements are worked off behind the sockets, so what was acknowledged a moment ago may come once more. */
export async function nothingWaits(session: Session): Promise<void> {
  for (let texts = await waiting(session), tries = 1; texts.length > 0; texts = await waiting(session), tries++) {
    assert.ok(tries < 20, `still waiting: ${texts.join(', ')}`);
    await new Promise((resolve) => setTimeout(resolve, 100));
  }
}

/** The promise, or a failure that says what was waited for. */
export function within<T>(promise: Promise<T>, what: string, milliseconds = 20_000): Promise<T> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<never>((_, reject) => {
    timer = setTimeout(() => reject(new Error(`waited ${milliseconds / 1000} s for ${what}`)), milliseconds);
  });
  return Promise.race([promise, late]).finally(() => clearTimeout(timer));
}

type Fetch = typeof globalThis.fetch;
export interface Call {
  method: string;
  path: string;
  headers: Headers;
  body: Buffer;
}

/** A fetch that keeps what it was asked, and answers by the script where that has something for the path; else the relay does. */
export function scripted(script: Record<string, (() => Response | Promise<Response> | 'lose the answer')[]>): { fetch: Fetch; calls: Call[] } {
  const calls: Call[] = [];
  const fetch: Fetch = async (url, init = {}) => {
    const path = new URL(String(url)).pathname;
    const body = Buffer.from((init.body as ArrayBuffer | null) ?? new ArrayBuffer(0));
    calls.push({ method: init.method ?? 'GET', path, headers: new Headers(init.headers), body });
    const act = script[path]?.shift();
    const outcome = act ? await act() : undefined;
    if (outcome instanceof Response) return outcome;
    const answer = await globalThis.fetch(url, init);
    if (outcome === undefined) return answer;
    await answer.arrayBuffer(); // failed, but applied
    throw new TypeError('fetch failed');
  };
  return { fetch, calls };
}

export const refusal = (status: number, code: string, retryAfter?: number): Response =>
  new Response(JSON.stringify({ error: 'A sentence.', code }), {
    status,
    headers: { 'Content-Type': 'application/json', 'x-request-id': 'r', ...(retryAfter === undefined ? {} : { 'Retry-After': String(retryAfter) }) },
  });

export const noAnswer = (): never => {
  throw new TypeError('fetch failed', { cause: new Error('connect ECONNREFUSED') }); // failed, not applied
};
