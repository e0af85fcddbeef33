// Every call of a session, on the running relay.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { DevicesChanged, newBatch, newShared, Relay, RelayError, type Tokens } from '@obscura-relay/client';
import { newKeys } from './keys.js';
import { credentials, person, relayUrl, waiting } from './people.js';

const status = (status: number, code?: string) => (failure: unknown) =>
  failure instanceof RelayError && failure.status === status && (code === undefined || failure.code === code);

test('a relay tells who may register', async () => {
  const { registration, limits } = await new Relay(relayUrl).info();
  assert.deepEqual([registration, limits.messageBytes], ['open', 262_144]);
});

test('a user registers, adds a device, and is gone', async () => {
  const stored: Tokens[] = [];
  const relay = new Relay(`${relayUrl}/`, { onTokens: (tokens) => void stored.push(tokens) });
  const alice = credentials();
  const account = await relay.register(alice);
  assert.equal(account.deviceId, undefined);
  assert.match(account.userId, /^[0-9a-f-]{36}$/);

  const phone = await account.addDevice({ ...newKeys(), name: 'phone' });
  assert.equal(phone.userId, account.userId);
  assert.equal(phone.deviceNumber, 1);
  assert.deepEqual(stored, [account.tokens, phone.tokens]);

  const [device] = await phone.devices();
  assert.deepEqual([device?.deviceId, device?.deviceNumber, device?.name], [phone.deviceId, 1, 'phone']);
  await account.renameDevice(phone.deviceId!, 'old phone');
  assert.equal((await account.devices())[0]?.name, 'old phone');
  assert.deepEqual((await phone.account()).devices.length, 1);

  const again = await relay.logIn({ ...alice, deviceId: phone.deviceId! });
  assert.equal(again.deviceId, phone.deviceId);
  assert.equal((await again.keys()).oneTimePreKeyCount, 20);
  await again.logOut();
  await assert.rejects(again.keys(), status(401));
  assert.equal((await phone.keys()).oneTimePreKeyCount, 20);

  await account.removeDevice(phone.deviceId!);
  await assert.rejects(phone.keys(), status(401));
  assert.equal((await relay.logIn({ ...alice, deviceId: phone.deviceId! })).deviceId, undefined);
  await assert.rejects(account.deleteAccount('not the password'), status(401, 'wrong_credentials'));
  await account.deleteAccount(alice.password);
  await assert.rejects(relay.logIn(alice), status(401, 'wrong_credentials'));
});

test('a log-in of a known device waits for no guesser', async () => {
  const relay = new Relay(relayUrl, { patience: 0 });
  const alice = credentials();
  const phone = await (await relay.register(alice)).addDevice(newKeys());
  const { deviceId, tokens } = { deviceId: phone.deviceId!, tokens: phone.tokens };
  await phone.logOut();
  const restarted = new Relay(relayUrl, { patience: 0 });
  let last: unknown;
  do {
    last = await restarted.logIn({ ...alice, deviceId, password: 'not the password' }).catch((failure: unknown) => failure);
  } while (status(401, 'wrong_credentials')(last));
  assert.ok(status(429, 'too_many_wrong_passwords')(last));
  await assert.rejects(restarted.logIn({ ...alice, deviceId }), status(429, 'too_many_wrong_passwords'));
  assert.equal((await relay.logIn({ ...alice, deviceId })).deviceId, deviceId);
  restarted.resume(tokens);
  assert.equal((await restarted.logIn({ ...alice, deviceId })).deviceId, deviceId);
});

test('a change of password goes on with a new pair and ends the other sessions', async () => {
  const stored: Tokens[] = [];
  const relay = new Relay(relayUrl, { onTokens: (tokens) => void stored.push(tokens) });
  const alice = credentials();
  const [here, there] = [await relay.register(alice), await relay.logIn(alice)];
  const before = here.tokens;
  await assert.rejects(here.changePassword('not the password', 'another password'), status(401, 'wrong_credentials'));
  await here.changePassword(alice.password, 'another password');
  assert.notEqual(here.tokens.refreshToken, before.refreshToken);
  assert.deepEqual(stored.at(-1), here.tokens);
  assert.equal((await here.account()).username, alice.username);
  await assert.rejects(there.account(), status(401, 'password_changed'));
});

test('keys are published, counted, handed out and refilled', async () => {
  const [alice, bob] = [await person(), await person()];
  const bundles = await alice.bundles(bob.userId);
  assert.deepEqual(bundles.map((b) => [b.deviceId, b.deviceNumber, b.oneTimePreKey?.keyId, b.kyberPreKey?.keyId]), [[bob.deviceId, 1, 1, 2]]);
  assert.equal((await bob.keys()).oneTimePreKeyCount, 19);
  const [fresh] = newKeys().oneTimePreKeys;
  await bob.uploadKeys({ oneTimePreKeys: [{ ...fresh!, keyId: 500 }] });
  assert.equal((await bob.keys()).oneTimePreKeyIds.at(-1), 500);
});

test('messages are stored, or refused one by one', async () => {
  const [alice, bob] = [await person(), await person()];
  const nobody = '22222222-2222-4222-8222-222222222222';
  const submissionId = '11111111-1111-4111-8111-111111111111';
  const failed = await alice.send(newBatch(
    { deviceId: bob.deviceId!, message: Buffer.from('one') },
    { deviceId: nobody, message: Buffer.from('lost'), submissionId },
    { deviceId: bob.deviceId!, message: Buffer.alloc(256 * 1024 + 1) },
    { deviceId: bob.deviceId!, message: Buffer.from('two') },
  ));
  assert.deepEqual(failed.map((f) => f.reason), ['invalidDevice', 'messageTooLarge']);
  assert.equal(failed[0]?.submissionId, submissionId);
  assert.ok(failed[0]?.message);
  assert.deepEqual(await waiting(bob), ['one', 'two']);
});

test('one body goes to many, each with a prefix', async () => {
  const [alice, bob, carol] = [await person(), await person(), await person()];
  const nobody = { deviceId: '22222222-2222-4222-8222-222222222222', submissionId: '11111111-1111-4111-8111-111111111111' };
  const to = (session: typeof bob, prefix: string) => ({ deviceId: session.deviceId!, prefix: Buffer.from(prefix) });
  const batch = {
    ...newBatch({ deviceId: bob.deviceId!, message: Buffer.from('first') }),
    shared: [newShared(Buffer.from(', all'), to(bob, 'Bob'), nobody, to(carol, 'Carol')), newShared(Buffer.from('bye'), { deviceId: bob.deviceId! })],
  };
  for (const again of [batch, structuredClone(batch)]) {
    assert.deepEqual((await alice.send(again)).map((f) => [f.submissionId, f.reason]), [[nobody.submissionId, 'invalidDevice']]);
  }
  assert.deepEqual([await waiting(bob), await waiting(carol)], [['first', 'Bob, all', 'bye'], ['Carol, all']]);
  const large = newBatch();
  await assert.rejects(alice.send({ ...large, shared: [newShared(Buffer.from('x'), to(bob, 'x'.repeat(257)))] }), status(400, 'prefix_too_large'));
  const crowd = Array.from({ length: 1001 }, () => to(bob, ''));
  await assert.rejects(alice.send({ ...large, shared: [newShared(Buffer.from('x'), ...crowd)] }), status(413, 'too_many_recipients'));
});

test('a batch for an old list of devices stores nothing', async () => {
  const [alice, bob] = [await person(), await person()];
  const old = await alice.devicesOf(bob.userId);
  const tablet = await bob.addDevice(newKeys());
  const batch = newBatch({ deviceId: bob.deviceId!, message: Buffer.from('lost') });
  const { lists } = await alice.send({ ...batch, audiences: [{ userId: bob.userId, devicesVersion: old.devicesVersion }] }).then(
    () => assert.fail('it was stored'),
    (failure: unknown) => {
      assert.ok(failure instanceof DevicesChanged);
      return failure;
    },
  );
  const [list] = lists;
  assert.deepEqual(list?.devices.map((d) => [d.deviceId, d.number]), [[bob.deviceId, 1], [tablet.deviceId, 2]]);
  const bundles = await alice.bundles(bob.userId, { deviceId: [tablet.deviceId!] });
  assert.deepEqual(bundles.map((b) => [b.deviceId, b.devicesVersion]), [[tablet.deviceId, list?.devicesVersion]]);
  assert.equal((await bob.keys()).oneTimePreKeyCount, 20);
  const corrected = newBatch(...list!.devices.map(({ deviceId }) => ({ deviceId, message: Buffer.from('both') })));
  assert.deepEqual(await alice.send({ ...corrected, audiences: lists }), []);
  assert.deepEqual([await waiting(bob), await waiting(tablet)], [['both'], ['both']]);
});

test('what the relay refuses is an error with status and code', async () => {
  const relay = new Relay(relayUrl);
  const alice = credentials();
  const account = await relay.register(alice);
  await assert.rejects(relay.register(alice), (failure: unknown) => {
    assert.ok(failure instanceof RelayError && failure instanceof Error);
    assert.deepEqual([failure.name, failure.status, failure.code, failure.retryAfter], ['RelayError', 409, 'username_taken', undefined]);
    assert.match(failure.message, /^[A-Z].*\.$/);
    assert.match(failure.requestId ?? '', /^[0-9a-f-]{36}$/);
    return true;
  });
  await assert.rejects(account.keys(), status(403, 'device_required'));
  await assert.rejects(account.bundles(account.userId), status(403, 'device_required'));
  await assert.rejects(relay.api.GET('/v1/account'), status(401));
  await assert.rejects(account.api.GET('/v1/devices/{deviceId}', { params: { path: { deviceId: account.userId } } }), status(404));
  assert.throws(() => relay.resume({ token: 'nonsense', refreshToken: 'r', expiresAt: 0 }), /not an access token/);
  assert.throws(() => new Relay('ftp://relay.example.org'), /http/);
});
