// The gateway: mail in order, acknowledged in batches, over as many sockets as it takes.
import assert from 'node:assert/strict';
import { test, type TestContext } from 'node:test';
import { GatewayEnded, Relay, RelayError, type GatewayEvent, type GatewayStatus, type OpenSocket, type SocketListener } from '@obscura-relay/client';
import { newKeys } from './keys.js';
import { connect, credentials, noAnswer, nothingWaits, person, read, refusal, relayUrl, scripted, text, until, within, write } from './people.js';
import { Proxy } from './proxy.js';

const ticket = '/v1/gateway/ticket';
const ended = (reason: string, code: number) => (f: unknown) => f instanceof GatewayEnded && f.reason === reason && f.closeCode === code;

async function proxied(t: TestContext): Promise<Proxy> {
  const proxy = await Proxy.before(relayUrl);
  t.after(() => proxy.close());
  return proxy;
}

test('what waited comes first, then the end of the backlog, then what is sent', async (t) => {
  const [alice, bob] = [await person(), await person()];
  const before = Date.now();
  await write(alice, bob, 'one', 'two');
  const gateway = connect(t, bob);
  const events: GatewayEvent[] = [];
  for await (const event of gateway) {
    events.push(event);
    if (event.kind === 'envelope') gateway.acknowledge(event.envelope.id);
    if (event.kind === 'drained') await write(alice, bob, 'three');
    if (event.kind === 'envelope' && text(event.envelope.message) === 'three') break;
  }
  assert.deepEqual(events[0], { kind: 'preKeyStatus', oneTime: 20, kyber: 20, threshold: 20 });
  const envelopes = events.flatMap((e) => (e.kind === 'envelope' ? [e.envelope] : []));
  assert.deepEqual(envelopes.map((e) => [e.sequence, text(e.message), e.senderId, e.senderDeviceId, e.senderDeviceNumber]), [
    [1, 'one', alice.userId, alice.deviceId, 1],
    [2, 'two', alice.userId, alice.deviceId, 1],
    [3, 'three', alice.userId, alice.deviceId, 1],
  ]);
  assert.ok(envelopes.every((e) => Math.abs(e.acceptedAt.getTime() - before) < 60_000));
  assert.deepEqual(events[3], { kind: 'drained', sequence: 2 });
  assert.deepEqual(await gateway.next(), { value: undefined, done: true });
  await nothingWaits(bob); // leaving the loop sends what was acknowledged in it
});

test('after a cut the next socket brings what was not acknowledged, and nothing else', async (t) => {
  const proxy = await proxied(t);
  const alice = await person();
  const bob = await person({}, proxy.url);
  const states: GatewayStatus['state'][] = [];
  const gateway = connect(t, bob, { onStatus: ({ state }) => states.push(state) });
  await until(gateway, 'drained');
  await write(alice, bob, 'one', 'two', 'three');
  assert.deepEqual(await read(gateway, 1), ['one']);
  for (let i = 0; i < 2; i++) await until(gateway, 'envelope'); // taken, and not acknowledged
  proxy.cut();
  assert.deepEqual(await read(gateway, 2), ['two', 'three']);
  await write(alice, bob, 'four');
  assert.deepEqual(await read(gateway, 1), ['four']);
  await gateway.close();
  assert.deepEqual(states, ['open', 'waiting', 'open']);
  await nothingWaits(bob);
});

test('an acknowledgement that was lost is made again, and the envelope not handed out again', async (t) => {
  const proxy = await proxied(t);
  const alice = await person();
  const bob = await person({}, proxy.url);
  const gateway = connect(t, bob);
  await until(gateway, 'drained');
  await write(alice, bob, 'one');
  proxy.swallow();
  assert.deepEqual(await read(gateway, 1), ['one']);
  await new Promise((resolve) => setTimeout(resolve, 200)); // until the acknowledgement is on its way to nowhere
  proxy.cut();
  assert.equal((await until(gateway, 'drained')).sequence, 1);
  await write(alice, bob, 'two');
  assert.deepEqual(await read(gateway, 1), ['two']);
  await gateway.close();
  await nothingWaits(bob);
});

test('what was received and not taken does not pile up with every socket', async (t) => {
  const [alice, bob] = [await person(), await person()];
  await write(alice, bob, ...Array.from({ length: 90 }, (_, i) => String(i)));
  let opened = () => {};
  const gateway = connect(t, bob, { onStatus: ({ state }) => state === 'open' && opened() });
  for (let i = 0; i < 3; i++) {
    assert.equal(text((await until(gateway, 'envelope')).envelope.message), '0'); // so more are there, not taken
    const open = new Promise<void>((resolve) => (opened = resolve));
    gateway.reconnect();
    await within(open, 'the next socket');
  }
  const events: string[] = [];
  while (events.at(-1) !== 'drained') events.push((await within(gateway.next(), 'an event')).value!.kind);
  assert.deepEqual(events, ['preKeyStatus', ...Array<string>(90).fill('envelope'), 'drained']);
  await write(alice, bob, 'last');
  const next = await within(gateway.next(), 'the last');
  assert.ok(next.value?.kind === 'envelope' && text(next.value.envelope.message) === 'last');
  await gateway.close();
});

test('a thousand envelopes are acknowledged in few frames', async (t) => {
  const [alice, bob] = [await person(), await person()];
  const batch = Array.from({ length: 100 }, (_, i) => String(i));
  for (let i = 0; i < 10; i++) await write(alice, bob, ...batch);
  const gateway = connect(t, bob);
  assert.equal((await read(gateway, 1000)).length, 1000);
  await gateway.close();
  await nothingWaits(bob);
});

test('a newer socket of the device ends the older for good', async (t) => {
  const bob = await person();
  const [first, second] = [connect(t, bob), connect(t, bob)];
  const results = [first, second].map((g) => until(g, 'gap').then(() => 'gap', (f: unknown) => f));
  const failure = await within(Promise.race(results), 'the older socket to end');
  assert.ok(ended('displaced', 4409)(failure), String(failure));
});

test('a removed device ends the gateway, and so does a session that has ended', async (t) => {
  const alice = credentials();
  const account = await new Relay(relayUrl).register(alice);
  const phone = await account.addDevice(newKeys());
  const gateway = connect(t, phone);
  await until(gateway, 'drained');
  await account.removeDevice(phone.deviceId!);
  await assert.rejects(within(gateway.next(), 'the end'), ended('revoked', 4401));
  assert.deepEqual(await gateway.next(), { value: undefined, done: true });
  await assert.rejects(within(connect(t, phone).next(), 'the refusal'), (f: unknown) => f instanceof RelayError && f.status === 401);
  await assert.rejects(within(connect(t, account).next(), 'the refusal'), (f: unknown) => f instanceof RelayError && f.code === 'device_required');
});

test('a takeover of its own is survived', async (t) => {
  const [alice, bob] = [await person(), await person()];
  await write(alice, bob, 'lost');
  const gateway = connect(t, bob);
  await until(gateway, 'drained');
  await bob.uploadKeys(newKeys());
  assert.deepEqual(await until(gateway, 'gap'), { kind: 'gap', from: 1, to: 1, reason: 'takeover' });
  await write(alice, bob, 'new');
  assert.deepEqual(await read(gateway, 1), ['new']);
  await gateway.close();
});

test('a relay that is busy, or away, is asked again', async (t) => {
  const { fetch, calls } = scripted({ [ticket]: [() => refusal(503, 'unavailable', 1), noAnswer, () => refusal(429, 'too_many_requests', 0)] });
  const bob = await person({ fetch, patience: 0 });
  const waits: (string | undefined)[] = [];
  const gateway = connect(t, bob, { onStatus: (s) => s.state === 'waiting' && waits.push(s.cause?.name) });
  await until(gateway, 'drained');
  assert.equal(calls.filter((c) => c.path === ticket).length, 4);
  assert.deepEqual(waits, ['RelayError', 'NetworkError', 'RelayError']);
  await gateway.close();
});

test('a signal closes the gateway, also while it waits, and an error of the status callback ends it', async (t) => {
  const bob = await person({ ...scripted({ [ticket]: [noAnswer, noAnswer, noAnswer] }), patience: 0 });
  const stop = new AbortController();
  const gateway = connect(t, bob, { signal: stop.signal, onStatus: () => stop.abort() });
  assert.deepEqual(await within(gateway.next(), 'the end'), { value: undefined, done: true });
  assert.deepEqual(await within(connect(t, bob, { signal: AbortSignal.abort() }).next(), 'the end'), { value: undefined, done: true });
  const onStatus = () => {
    throw new Error('a mistake of the page');
  };
  await assert.rejects(within(connect(t, bob, { onStatus }).next(), 'the end'), /a mistake of the page/);
});

/** Sockets that open at once and close when the test says so. */
function scriptedSockets(): { openSocket: OpenSocket; opened: SocketListener[] } {
  const opened: SocketListener[] = [];
  const openSocket: OpenSocket = (_, listener) => {
    queueMicrotask(() => {
      opened.push(listener);
      listener.open();
    });
    return { send: () => {}, close: () => {} };
  };
  return { openSocket, opened };
}

test('a dead socket that closes late does not silence the one after it', async (t) => {
  const { openSocket, opened } = scriptedSockets();
  let open = () => {};
  const bob = await person({ openSocket });
  const gateway = connect(t, bob, { onStatus: ({ state }) => state === 'open' && open() });
  await within(new Promise<void>((resolve) => (open = resolve)), 'the first socket');
  const second = new Promise<void>((resolve) => (open = resolve));
  gateway.reconnect();
  await within(second, 'the second socket');
  opened[0]!.close(1006);
  opened[1]!.message(Buffer.from('7a020801', 'hex')); // Drained { sequence: 1 }
  assert.equal((await until(gateway, 'drained')).sequence, 1);
  opened[1]!.close(4409);
});

test('who comes online does not wait for what was asked before', async (t) => {
  let asked = () => {};
  let requests = 0;
  const fetch: typeof globalThis.fetch = (url, init) => {
    if (!String(url).endsWith(ticket) || ++requests > 1) return globalThis.fetch(url, init);
    asked();
    return new Promise((_, reject) => init!.signal!.addEventListener('abort', () => reject(init!.signal!.reason as Error)));
  };
  const bob = await person({ fetch });
  const first = new Promise<void>((resolve) => (asked = resolve));
  const gateway = connect(t, bob);
  await within(first, 'the first request');
  gateway.reconnect();
  await within(until(gateway, 'drained'), 'the end of the backlog', 5_000);
  assert.equal(requests, 2);
});

test('a gateway that only receives renews the session', async (t) => {
  let onTokens = () => {};
  const renewed = new Promise<void>((resolve) => (onTokens = resolve));
  const bob = await person({ onTokens });
  const old = bob.tokens.refreshToken;
  t.mock.timers.enable({ apis: ['setInterval', 'Date'], now: Date.now() });
  const gateway = connect(t, bob);
  await until(gateway, 'drained');
  t.mock.timers.tick(86_400_000);
  await within(renewed, 'the renewal', 5_000);
  assert.notEqual(bob.tokens.refreshToken, old);
  await gateway.close();
});
