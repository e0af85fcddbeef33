// Tokens: fresh before they are used, renewed once for everybody, stored before they are used.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { NetworkError, Relay, RelayError, type Tokens } from '@obscura-relay/client';
import { credentials, noAnswer, person, refusal, relayUrl, scripted } from './people.js';

const refresh = '/v1/sessions/refresh';
const count = (calls: { path: string }[], path: string) => calls.filter((c) => c.path === path).length;
/** Tokens as they would be an hour from now, as far as the client can see. */
const old = (tokens: Tokens): Tokens => ({ ...tokens, expiresAt: Math.floor(Date.now() / 1000) + 60 });
/** The relay refuses this one. The client cannot see why. */
const revoked = (tokens: Tokens): Tokens => ({ ...tokens, token: `${tokens.token.slice(0, -8)}AAAAAAAA` });

test('a token that ends soon is renewed once, however many calls need it', async () => {
  const { tokens } = await person();
  const { fetch, calls } = scripted({});
  const stored: Tokens[] = [];
  const session = new Relay(relayUrl, { fetch, onTokens: (pair) => void stored.push(pair) }).resume(old(tokens));
  await Promise.all(Array.from({ length: 20 }, () => session.keys()));
  assert.equal(calls[0]?.path, refresh);
  assert.equal(count(calls, refresh), 1);
  assert.equal(stored.length, 1);
  assert.deepEqual(stored[0], session.tokens);
  assert.equal(session.tokens.deviceId, tokens.deviceId);
  assert.ok(calls.slice(1).every((c) => c.headers.get('Authorization') === `Bearer ${session.tokens.token}`));
  await session.keys();
  assert.equal(count(calls, refresh), 1, 'a new token is not renewed');
});

test('a clock that is an hour fast does not renew with every call', async (t) => {
  const { tokens } = await person();
  const { fetch, calls } = scripted({});
  t.mock.timers.enable({ apis: ['Date'], now: Date.now() + 3_600_000 });
  const session = new Relay(relayUrl, { fetch }).resume(tokens);
  for (let i = 0; i < 3; i++) await session.keys();
  assert.equal(count(calls, refresh), 1);
});

test('a token that the relay refuses is renewed once for all calls, and they are repeated', async () => {
  const { tokens } = await person();
  const { fetch, calls } = scripted({});
  const session = new Relay(relayUrl, { fetch }).resume(revoked(tokens));
  await Promise.all([session.keys(), session.devices(), session.keys()]);
  assert.equal(count(calls, refresh), 1);
  assert.equal(calls.length, 7);
});

test('a call that hears late that its token was refused takes the one that is there by then', async () => {
  const { tokens } = await person();
  let release = () => {};
  const held = new Promise<void>((resolve) => (release = resolve));
  const { fetch, calls } = scripted({ '/v1/devices': [() => held.then(() => refusal(401, 'unauthorized'))] });
  const session = new Relay(relayUrl, { fetch }).resume(revoked(tokens));
  const late = session.devices();
  await session.keys();
  release();
  assert.equal((await late).length, 1);
  assert.equal(count(calls, refresh), 1);
});

test('a new pair is stored before it is used', async () => {
  const { tokens } = await person();
  const { fetch, calls } = scripted({});
  let store = () => {};
  const storing = new Promise<void>((resolve) => (store = resolve));
  let asked = () => {};
  const told = new Promise<void>((resolve) => (asked = resolve));
  const session = new Relay(relayUrl, { fetch, onTokens: () => (asked(), storing) }).resume(old(tokens));
  const answer = session.keys();
  await told;
  await new Promise((resolve) => setTimeout(resolve, 100)); // time to do it wrong
  assert.deepEqual(calls.map((c) => c.path), [refresh]);
  store();
  await answer;
  assert.equal(calls.length, 2);
});

test('a pair that could not be stored is not used, and stored by the next call', async () => {
  const { tokens } = await person();
  const { fetch, calls } = scripted({});
  const given: Tokens[] = [];
  const onTokens = (pair: Tokens) => {
    if (given.push(pair) === 1) throw new Error('the disk is full');
  };
  const session = new Relay(relayUrl, { fetch, onTokens }).resume(old(tokens));
  await assert.rejects(session.keys(), /the disk is full/);
  assert.equal(calls.length, 1);
  await session.keys();
  assert.equal(count(calls, refresh), 1, 'the pair is there, only not stored');
  assert.deepEqual(given[0], given[1]);
});

test('a refresh whose answer is lost is repeated with the same token', async () => {
  const { tokens } = await person();
  const { fetch, calls } = scripted({ [refresh]: [() => 'lose the answer', noAnswer, () => refusal(503, 'unavailable', 0)] });
  const session = new Relay(relayUrl, { fetch }).resume(old(tokens));
  await session.keys();
  const shown = calls.filter((c) => c.path === refresh).map((c) => c.body.toString());
  assert.equal(shown.length, 4);
  assert.equal(new Set(shown).size, 1);
});

test('a change of password and a log-out renew a token that is refused', async () => {
  const alice = credentials();
  const { fetch, calls } = scripted({});
  const session = new Relay(relayUrl, { fetch }).resume(revoked((await new Relay(relayUrl).register(alice)).tokens));
  await session.changePassword(alice.password, 'another password');
  assert.equal(count(calls, refresh), 1);
  const again = new Relay(relayUrl, { fetch }).resume(revoked(session.tokens));
  await again.logOut();
  assert.equal(count(calls, refresh), 2);
  await assert.rejects(session.account(), (f: unknown) => f instanceof RelayError && f.status === 401);
});

test('a session that has ended says so, and its refresh token is not shown again', async () => {
  const alice = credentials();
  const account = await new Relay(relayUrl).register(alice);
  const { tokens } = account;
  await account.logOut();
  const { fetch, calls } = scripted({});
  const session = new Relay(relayUrl, { fetch }).resume(tokens);
  for (let i = 0; i < 3; i++) {
    await assert.rejects(session.account(), (f: unknown) => f instanceof RelayError && f.status === 401);
  }
  assert.equal(count(calls, refresh), 1);
});

test('without a network the session does not end', async () => {
  const { tokens } = await person();
  const { fetch } = scripted({ [refresh]: [noAnswer] });
  const session = new Relay(relayUrl, { fetch, patience: 0 }).resume(old(tokens));
  await assert.rejects(session.keys(), (f: unknown) => f instanceof NetworkError && /ECONNREFUSED/.test(f.message));
  assert.equal((await session.keys()).oneTimePreKeyCount, 20);
});
