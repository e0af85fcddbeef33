// Sender certificates: kept for the session that asked, until shortly before they expire.
import assert from 'node:assert/strict';
import { test, type TestContext } from 'node:test';
import { Relay, toBase64, type Session } from '@obscura-relay/client';
import { newKeys } from './keys.js';
import { person, relayUrl, scripted } from './people.js';

const path = '/v1/certificates/sender';
const hour = 3_600_000;
const text = (bytes: Uint8Array) => Buffer.from(bytes).toString('latin1');

test('a certificate names the device, and is kept for one session', async () => {
  const { fetch, calls } = scripted({});
  const alice = await person({ fetch });
  const asked = () => calls.filter((c) => c.path === path).length;
  const [first, second] = await Promise.all([alice.senderCertificate(), alice.senderCertificate()]);
  assert.deepEqual([await alice.senderCertificate(), second, asked()], [first, first, 1]);
  const named = text(first.certificate);
  assert.ok(named.includes(alice.deviceId!) && named.includes(alice.userId), 'it names neither device nor user');
  const life = first.expiresAt.getTime() - Date.now();
  assert.ok(life > 23.9 * hour && life < 25.1 * hour && first.expiresAt.getTime() % hour === 0);

  await new Relay(relayUrl, { fetch }).resume(alice.tokens).senderCertificate();
  assert.equal(asked(), 2, 'another session was given the same one');
  const { identityKey, registrationId, signedPreKey } = newKeys();
  await alice.uploadKeys({ identityKey, registrationId, signedPreKey });
  assert.ok(text((await alice.senderCertificate()).certificate).includes(Buffer.from(identityKey, 'base64').toString('latin1')));
  await alice.logOut();
  await assert.rejects(alice.senderCertificate());
  const root = await new Relay(relayUrl).trustRoot();
  assert.deepEqual([root.length, root[0]], [33, 5]);
});

/** A session whose clock is the test's, at a relay whose clock is ahead of it by so much. */
async function clocked(t: TestContext, ahead = 0): Promise<{ session: Session; asked: () => number }> {
  t.mock.timers.enable({ apis: ['Date'], now: Date.now() });
  const answer = () => {
    const expiresAt = (Math.floor(Date.now() / hour) + 25 + ahead) * 3600;
    return new Response(JSON.stringify({ certificate: toBase64(Uint8Array.of(1)), expiresAt }), { headers: { 'Content-Type': 'application/json' } });
  };
  const { fetch, calls } = scripted({ [path]: Array.from({ length: 9 }, () => answer) });
  const session = await person({ fetch });
  // Its token is good for all the time of the test.
  session.keeper.token = async () => session.tokens.token;
  return { session, asked: () => calls.filter((c) => c.path === path).length };
}

test('a certificate is kept until two to four hours before its end', async (t) => {
  const { session, asked } = await clocked(t);
  const { expiresAt } = await session.senderCertificate();
  for (; expiresAt.getTime() - Date.now() > 4 * hour; t.mock.timers.tick(hour / 6)) await session.senderCertificate();
  assert.equal(asked(), 1);
  t.mock.timers.tick(expiresAt.getTime() - Date.now() - 2 * hour);
  await session.senderCertificate();
  assert.equal(asked(), 2);
});

for (const ahead of [-48, -23, 48]) {
  test(`a relay whose clock differs by ${ahead} hours is not asked with every call`, async (t) => {
    const { session, asked } = await clocked(t, ahead);
    for (let i = 0; i < 3; i++) await session.senderCertificate();
    assert.equal(asked(), 1);
    t.mock.timers.tick(24 * hour);
    await session.senderCertificate();
    assert.equal(asked(), 2);
  });
}

test('a certificate that is on its way during a takeover is not kept', async () => {
  let release = () => {};
  const held = new Promise<void>((resolve) => (release = resolve));
  const { fetch, calls } = scripted({ [path]: [async () => (await held, undefined as never)] });
  const alice = await person({ fetch });
  const early = alice.senderCertificate();
  const { identityKey, registrationId, signedPreKey } = newKeys();
  await alice.uploadKeys({ identityKey, registrationId, signedPreKey });
  release();
  await early;
  const { certificate } = await alice.senderCertificate();
  assert.ok(text(certificate).includes(Buffer.from(identityKey, 'base64').toString('latin1')));
  assert.equal(calls.filter((c) => c.path === path).length, 2);
});
