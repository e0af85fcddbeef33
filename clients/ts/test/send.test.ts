// Calls while the network and the relay fail: repeated when that is safe, and then with the same key and bytes.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { NetworkError, newBatch, Relay, RelayError } from '@obscura-relay/client';
import { credentials, noAnswer, person, refusal, relayUrl, scripted, waiting } from './people.js';

const messages = '/v1/messages';
const isRelayError = (status: number) => (f: unknown) => f instanceof RelayError && f.status === status;

test('a batch arrives once, whatever happens on the way', async () => {
  const bob = await person();
  const faults = [() => 'lose the answer' as const, noAnswer, () => refusal(503, 'unavailable', 0), () => refusal(500, 'internal'), () => refusal(429, 'too_many_requests', 0)];
  const { fetch, calls } = scripted({ [messages]: faults });
  const alice = await person({ fetch });
  const batch = newBatch(...['one', 'two'].map((t) => ({ deviceId: bob.deviceId!, message: Buffer.from(t) })));
  assert.deepEqual(await alice.send(batch), []);
  assert.deepEqual(await waiting(bob), ['one', 'two']);
  const tries = calls.filter((c) => c.path === messages);
  assert.equal(tries.length, 6);
  assert.equal(new Set(tries.map((c) => c.headers.get('Idempotency-Key'))).size, 1);
  assert.equal(new Set(tries.map((c) => c.body.toString('hex'))).size, 1);

  assert.deepEqual([tries[0]?.headers.get('Idempotency-Key')], [batch.key]);
});

test('a batch that is sent again is stored once, also by another program', async () => {
  const [alice, bob] = [await person(), await person()];
  const to = (text: string) => newBatch({ deviceId: bob.deviceId!, message: Buffer.from(text) });
  const batch = to('once');
  assert.notEqual(batch.key, to('once').key);
  await alice.send(batch);
  await new Relay(relayUrl).resume(alice.tokens).send(batch);
  assert.deepEqual(await waiting(bob), ['once']);
  await assert.rejects(alice.send({ ...to('other'), key: batch.key }), isRelayError(409));
});

test('Retry-After is waited for, and a little longer', async () => {
  const { fetch, calls } = scripted({ [messages]: [() => refusal(503, 'unavailable', 1)] });
  const alice = await person({ fetch });
  const began = performance.now();
  await alice.send(newBatch({ deviceId: alice.deviceId!, message: Buffer.from('to myself') }));
  const took = performance.now() - began;
  assert.ok(took >= 990, `${took} ms`);
  assert.equal(calls.filter((c) => c.path === messages).length, 2);
});

test('patience ends: with the last answer, and at once when the wait would be too long', async () => {
  const busy = () => refusal(503, 'unavailable', 3600);
  const alice = await person({ ...scripted({ [messages]: [busy], '/v1/devices': [busy, () => refusal(500, 'internal')] }), patience: 5000 });
  const began = performance.now();
  await assert.rejects(alice.send(newBatch({ deviceId: alice.deviceId!, message: Buffer.from('x') })), (f: unknown) => {
    assert.ok(f instanceof RelayError);
    assert.deepEqual([f.status, f.code, f.retryAfter, f.message, f.requestId], [503, 'unavailable', 3600, 'A sentence.', 'r']);
    return true;
  });
  assert.ok(performance.now() - began < 4000);
  const impatient = new Relay(relayUrl, { ...scripted({ '/v1/devices': [() => refusal(500, 'internal')] }), patience: 0 }).resume(alice.tokens);
  await assert.rejects(impatient.devices(), isRelayError(500));
});

test('a relay that keeps failing is left alone after the third 500', async () => {
  const { fetch, calls } = scripted({ '/v1/devices': Array.from({ length: 9 }, () => () => refusal(500, 'internal', 0)) });
  const alice = await person({ fetch });
  await assert.rejects(alice.devices(), isRelayError(500));
  assert.equal(calls.length, 3);
});

test('what might be done twice is not repeated, but after a 429', async () => {
  const alice = credentials();
  const lost = scripted({ '/v1/users': [() => 'lose the answer'] });
  await assert.rejects(new Relay(relayUrl, lost).register(alice), (f: unknown) => f instanceof NetworkError && f.cause instanceof TypeError);
  assert.equal(lost.calls.length, 1);
  const bob = await new Relay(relayUrl).logIn(alice); // as docs/protocol.md says
  const busy = scripted({ [`/v1/users/${bob.userId}`]: [() => refusal(503, 'unavailable', 0)], '/v1/users': [() => refusal(429, 'too_many_requests', 0)] });
  const carol = await person(busy);
  await assert.rejects(carol.bundles(bob.userId), isRelayError(503));
  await new Relay(relayUrl, busy).register(credentials());
  assert.equal(busy.calls.filter((c) => c.path === '/v1/users').length, 2);
});

test('a signal ends a call at once, and so does the time that a try may take', async () => {
  const never = () => new Promise<Response>(() => {});
  const { fetch, calls } = scripted({ '/v1/devices': [() => refusal(503, 'unavailable', 30), never] });
  const alice = await person({ fetch });
  const reason = new Error('the user left');
  const leave = new AbortController();
  setTimeout(() => leave.abort(reason), 100);
  await assert.rejects(alice.devices({ signal: leave.signal }), reason);
  await assert.rejects(alice.devices({ signal: AbortSignal.abort(reason) }), reason);
  assert.equal(calls.length, 1);

  // A server that accepts and never answers.
  const { createServer } = await import('node:net');
  const silent = createServer((socket) => socket.on('error', () => {})).listen(0, '127.0.0.1');
  await new Promise((resolve) => silent.once('listening', resolve));
  const { port } = silent.address() as { port: number };
  const relay = new Relay(`http://127.0.0.1:${port}`, { timeout: 100, patience: 0 });
  await assert.rejects(relay.register(credentials()), (f: unknown) => f instanceof NetworkError && (f.cause as Error).name === 'TimeoutError');
  silent.close();
});

test('a page of somebody else is no answer of the relay', async () => {
  const page = () => new Response('<html>log in to the hotel</html>', { status: 200, headers: { 'Content-Type': 'text/html' } });
  const bad = () => new Response('<html>bad gateway</html>', { status: 502, headers: { 'Content-Type': 'text/html' } });
  const { fetch, calls } = scripted({ '/v1/devices': [page, bad] });
  const alice = await person({ fetch });
  assert.equal((await alice.devices()).length, 1);
  assert.equal(calls.length, 3);
  const impatient = new Relay(relayUrl, { ...scripted({ '/v1/devices': [bad] }), patience: 0 }).resume(alice.tokens);
  await assert.rejects(impatient.devices(), (f: unknown) => f instanceof RelayError && f.status === 502 && f.code === 'unknown');
});

test('an empty answer of somebody else stores nothing', async () => {
  const empty = [200, 204, 302].map((code) => () => new Response(null, { status: code }));
  const alice = await person({ ...scripted({ [messages]: empty }), patience: 0 });
  const batch = newBatch({ deviceId: alice.deviceId!, message: Buffer.from('hello') });
  for (const _ of empty) await assert.rejects(alice.send(batch), (f: unknown) => f instanceof NetworkError || isRelayError(302)(f));
});
