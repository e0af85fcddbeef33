// Sealed calls: on the running relay, and as a server sees them that keeps what it is shown.
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { createServer, type IncomingHttpHeaders, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { test, type TestContext } from 'node:test';
import {
  deliveryTokenHash,
  DevicesChanged,
  newBatch,
  newDeliveryToken,
  newShared,
  Relay,
  RelayError,
  type Batch,
  type RelayOptions,
  type Session,
} from '@obscura-relay/client';
import { sealedFetch as browsersFetch } from '../dist/sealed.js';
import { newKeys } from './keys.js';
import { connect, person, relayUrl, until, waiting } from './people.js';

const relay = new Relay(relayUrl);
const status = (wanted: number) => (failure: unknown) => failure instanceof RelayError && failure.status === wanted;
const to = (session: Session, text: string, deliveryToken: Uint8Array) => ({ deviceId: session.deviceId!, message: Buffer.from(text), deliveryToken });

async function trust(session: Session): Promise<Uint8Array> {
  const token = newDeliveryToken();
  await session.addDeliveryTokens([token]);
  return token;
}

test('a sealed batch arrives once, without a sender', async (t) => {
  const [bob, carol] = [await person(), await person()];
  const [bobs, carols] = [await trust(bob), await trust(carol)];
  const batch: Batch = {
    ...newBatch(to(bob, 'hello', bobs), to(carol, 'not hers', bobs)),
    shared: [newShared(Buffer.from('all'), { deviceId: carol.deviceId!, deliveryToken: carols })],
  };
  for (const again of [batch, structuredClone(batch)]) {
    assert.deepEqual((await relay.sendSealed(again)).map((f) => [f.submissionId, f.reason]), [[batch.submissions[1]!.submissionId, 'refused']]);
  }
  const { envelope } = await until(connect(t, bob), 'envelope');
  assert.deepEqual([Buffer.from(envelope.message).toString(), envelope.senderId, envelope.senderDeviceId, envelope.senderDeviceNumber], ['hello', '', '', 0]);
  assert.deepEqual([await waiting(bob), await waiting(carol)], [['hello'], ['all']]);
});

test('delivery tokens open lists and bundles until they are removed', async () => {
  const bob = await person();
  const desk = await bob.addDevice(newKeys());
  const [lasting, brief] = [await trust(bob), newDeliveryToken()];
  const expiresAt = new Date(Math.floor(Date.now() / 1000 + 3600) * 1000);
  await bob.addDeliveryTokens([brief], { expiresAt });
  assert.deepEqual(
    (await desk.deliveryTokens()).map((l) => [l.hash, l.expiresAt]),
    [[await deliveryTokenHash(lasting), undefined], [await deliveryTokenHash(brief), expiresAt]],
  );
  assert.equal((await relay.sealedDevices(bob.userId, brief)).devices.length, 2);
  assert.deepEqual((await relay.sealedBundles(bob.userId, lasting, { deviceId: [desk.deviceId!] })).map((b) => b.deviceId), [desk.deviceId]);
  await desk.removeDeliveryTokens([await deliveryTokenHash(brief), await deliveryTokenHash(newDeliveryToken())]);
  assert.equal((await bob.deliveryTokens()).length, 1);
  await assert.rejects(relay.sealedDevices(bob.userId, brief), status(401));
  await assert.rejects(relay.sealedBundles(bob.userId, brief), status(401));
  await assert.rejects(relay.sealedDevices('22222222-2222-4222-8222-222222222222', lasting), status(401));
});

test('a sealed batch for old devices is corrected without saying who asks', async () => {
  const [alice, phone] = [await person(), await person()];
  const token = await trust(phone);
  const devices = await alice.bundles(phone.userId);
  const bobs = { userId: phone.userId, devicesVersion: devices[0]!.devicesVersion, devices };
  const desk = await phone.addDevice(newKeys());
  const batch: Batch = { ...newBatch(to(phone, 'old', token)), audiences: [bobs] };
  const changed = await relay.sendSealed(batch).then(() => assert.fail('it was stored'), (failure: unknown) => failure);
  assert.ok(changed instanceof DevicesChanged);
  await assert.rejects(relay.correctSealed(newBatch(), changed, [bobs]), /has a delivery token/);
  const { changes, rest } = await relay.correctSealed(batch, changed, [bobs]);
  assert.deepEqual([changes[0]?.bundles.map((b) => b.deviceId), changes[0]?.again], [[desk.deviceId], [batch.submissions[0]!.submissionId]]);
  rest.submissions.push(...newBatch(to(phone, 'new', token), to(desk, 'new', token)).submissions);
  assert.deepEqual(await relay.sendSealed(rest), []);
  assert.deepEqual([await waiting(phone), await waiting(desk)], [['new'], ['new']]);
});

interface Seen {
  path: string;
  headers: IncomingHttpHeaders;
  connection: string;
}

/** A server that keeps what it sees, and answers by the script. */
async function recorder(t: TestContext, script: ((response: ServerResponse) => void)[] = []): Promise<{ url: string; seen: Seen[] }> {
  const seen: Seen[] = [];
  const server = createServer((request, response) => {
    const path = request.url!;
    seen.push({ path, headers: request.headers, connection: `${request.socket.remotePort}` });
    response.setHeader('Set-Cookie', 'who=alice; Path=/');
    request.resume().on('end', () => {
      const answer = path === '/v1/messages' ? undefined : script.shift();
      if (answer) return answer(response);
      if (path.startsWith('/v1/messages')) return response.setHeader('Content-Type', 'application/x-protobuf').end();
      response.setHeader('Content-Type', 'application/json').end(path.endsWith('/devices') ? '{"devicesVersion":1,"devices":[]}' : '[]');
    });
  }).listen(0, '127.0.0.1');
  await once(server, 'listening');
  t.after(() => server.closeAllConnections());
  t.after(() => server.close());
  return { url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`, seen };
}

const refuse = (code: number, headers: Record<string, string> = {}) => (response: ServerResponse) =>
  response.writeHead(code, { 'Content-Type': 'application/json', ...headers }).end('{"error":"A sentence.","code":"a_code"}');

/** A session that has tokens, and a relay, both of the recorder. */
function at(url: string, options?: RelayOptions): { relay: Relay; session: Session } {
  const now = Math.floor(Date.now() / 1000);
  const payload = Buffer.from(JSON.stringify({ sub: 'a user', iat: now, exp: now + 900 })).toString('base64url');
  const relay = new Relay(url, options);
  return { relay, session: relay.resume({ token: `e30.${payload}.x`, refreshToken: 'r', expiresAt: now + 900 }) };
}

const nobody = '22222222-2222-4222-8222-222222222222';
const named = () => newBatch({ deviceId: nobody, message: Buffer.from('hello') });
const sealed = () => newBatch({ deviceId: nobody, message: Buffer.from('hello'), deliveryToken: newDeliveryToken() });

test('a sealed call has a connection of its own and says nothing of who makes it', async (t) => {
  const lost = (response: ServerResponse) => response.destroy();
  const { url, seen } = await recorder(t, [lost, refuse(503, { 'Retry-After': '0' })]);
  const { relay, session } = at(url.replace('http://', 'http://alice:secret@'));
  await session.send(named());
  await session.send(named());
  const batch = sealed();
  assert.deepEqual(await relay.sendSealed(batch), []);
  await session.send(named());
  const token = newDeliveryToken();
  await relay.sealedBundles(nobody, token);
  await relay.sealedDevices(nobody, token);
  await relay.sendSealed(sealed());
  await session.send(named());
  const byName = seen.filter((s) => s.path === '/v1/messages');
  assert.equal(byName.length, 4);
  const shared = new Set(byName.map((s) => s.connection));
  assert.ok(shared.size < 4, 'fetch keeps connections, and not those of sealed calls');
  const others = seen.filter((s) => s.path !== '/v1/messages');
  assert.equal(others.length, 6);
  assert.equal(new Set([...shared, ...others.map((s) => s.connection)]).size, shared.size + 6);
  for (const { headers } of others) {
    for (const telling of ['authorization', 'cookie', 'x-request-id', 'referer', 'origin', 'user-agent']) assert.equal(headers[telling], undefined, telling);
  }
  const keys = others.map((s) => s.headers['idempotency-key']);
  assert.deepEqual(keys.slice(0, 5), [batch.key, batch.key, batch.key, undefined, undefined]);
  assert.notEqual(keys[5], batch.key);
  assert.equal(others[3]!.headers['delivery-token'], Buffer.from(token).toString('base64url'));
});

test('a sealed call never falls back to one by name', async (t) => {
  const redirect = refuse(307, { Location: '/v1/messages' });
  const { url, seen } = await recorder(t, [refuse(400), refuse(401), refuse(404), refuse(429, { 'Retry-After': '3600' }), redirect]);
  const { relay, session } = at(url);
  await assert.rejects(session.send(sealed()), /is for sendSealed/);
  const shared = [newShared(Buffer.from('x'), { deviceId: nobody, deliveryToken: newDeliveryToken() })];
  await assert.rejects(session.send({ ...newBatch(), shared }), /is for sendSealed/);
  await assert.rejects(relay.sendSealed(named()), /needs a delivery token/);
  await assert.rejects(relay.sendSealed(newBatch({ deviceId: nobody, message: Buffer.from('x'), deliveryToken: new Uint8Array(31) })), /needs a delivery token/);
  assert.equal(seen.length, 0);
  for (const code of [400, 401, 404, 429, 307]) await assert.rejects(relay.sendSealed(sealed()), status(code));
  assert.deepEqual(seen.map((s) => s.path), Array.from({ length: 5 }, () => '/v1/messages/sealed'));

  const { relay: ours } = at(url, { fetch: globalThis.fetch });
  await assert.rejects(ours.sendSealed(sealed()), /need a sealedFetch/);
  await assert.rejects(ours.sealedBundles(nobody, newDeliveryToken()), /need a sealedFetch/);
  assert.equal(seen.length, 5);
  const { relay: both } = at(url, { fetch: globalThis.fetch, sealedFetch: globalThis.fetch });
  assert.deepEqual(await both.sendSealed(sealed()), []);
});

test('a browser is told to leave out what would say who calls', async (t) => {
  const asked: (RequestInit | undefined)[] = [];
  t.mock.method(globalThis, 'fetch', async (_: unknown, init?: RequestInit) => {
    asked.push(init);
    return new Response(null, { headers: { 'Content-Type': 'application/x-protobuf' } });
  });
  const { relay } = at('http://127.0.0.1:1', { sealedFetch: browsersFetch });
  await relay.sendSealed(sealed());
  const { credentials, cache, referrer, referrerPolicy, redirect } = asked[0] as Record<string, unknown>;
  assert.deepEqual({ credentials, cache, referrer, referrerPolicy, redirect }, {
    credentials: 'omit',
    cache: 'no-store',
    referrer: '',
    referrerPolicy: 'no-referrer',
    redirect: 'error',
  });
});
