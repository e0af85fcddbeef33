// The parts that need no relay: keys, sessions, padding and wrapping, between two parties in this process.
import assert from 'node:assert/strict';
import { createHash, randomUUID } from 'node:crypto';
import { test } from 'node:test';
import { fromBase64, type PreKeyBundle as Bundle } from '@obscura-relay/client';
import { Keys } from '../src/keys.js';
import { pad, unpad } from '../src/padding.js';
import { Cipher } from '../src/signal.js';
import { unwrap, wrap } from '../src/wrapping.js';

async function party() {
  const self = { deviceId: randomUUID(), deviceNumber: 1 };
  const keys = new Keys();
  const published = await keys.first();
  return { self, keys, published, cipher: new Cipher(self, keys) };
}

function bundle({ self, published }: Awaited<ReturnType<typeof party>>, oneTime: boolean): Bundle {
  const { identityKey, registrationId, signedPreKey, oneTimePreKeys, kyberPreKeys, lastResortKyberPreKey } = published;
  return {
    ...self,
    devicesVersion: 1,
    registrationId,
    identityKey,
    signedPreKey,
    oneTimePreKey: (oneTime && oneTimePreKeys[0]) || null,
    kyberPreKey: (oneTime ? kyberPreKeys?.[0] : lastResortKyberPreKey) ?? null,
  };
}

for (const oneTime of [true, false]) {
  test(`a session starts with ${oneTime ? 'one-time keys' : 'the last-resort key alone'}`, async () => {
    const [alice, bob] = [await party(), await party()];
    await alice.cipher.meet(bundle(bob, oneTime));
    for (const text of ['first', 'second']) {
      const { kind, message } = await alice.cipher.encrypt(bob.self, text);
      assert.equal(kind, 'PreKey');
      assert.deepEqual(await bob.cipher.decrypt(alice.self, message), { kind, text });
    }
    const answer = await bob.cipher.encrypt(alice.self, 'grüß dich');
    assert.deepEqual(await alice.cipher.decrypt(bob.self, answer.message), { kind: 'Whisper', text: 'grüß dich' });
    assert.equal((await alice.cipher.encrypt(bob.self, 'third')).kind, 'Whisper');
    assert.deepEqual(bob.keys.preKeys.used, oneTime ? [1] : []);
    assert.deepEqual(bob.keys.kyberPreKeys.used, oneTime ? [2] : []); // 1 is the last-resort key, and stays
  });
}

test('a bundle that was tampered with starts no session', async () => {
  const [alice, bob, mallory] = [await party(), await party(), await party()];
  const forged = { ...bundle(bob, true), signedPreKey: bundle(mallory, true).signedPreKey };
  await assert.rejects(alice.cipher.meet(forged), /signature/i);
  await assert.rejects(alice.cipher.meet({ ...bundle(bob, true), kyberPreKey: null }), /no Kyber key/);
});

test('a ciphertext that was tampered with, or comes twice, is refused', async () => {
  const [alice, bob] = [await party(), await party()];
  await alice.cipher.meet(bundle(bob, true));
  const { message } = await alice.cipher.encrypt(bob.self, 'once');
  const forged = message.slice();
  forged[forged.length - 1]! ^= 1;
  await assert.rejects(bob.cipher.decrypt(alice.self, forged));
  assert.equal((await bob.cipher.decrypt(alice.self, message)).text, 'once');
  await assert.rejects(bob.cipher.decrypt(alice.self, message));
});

test('published keys have the lengths and type bytes of the contract', async () => {
  const { published } = await party();
  const ec = [published.identityKey, published.signedPreKey.publicKey, ...published.oneTimePreKeys.map((k) => k.publicKey)].map(fromBase64);
  const kyber = [...(published.kyberPreKeys ?? []), published.lastResortKyberPreKey!].map((k) => fromBase64(k.publicKey));
  assert.ok(ec.every((key) => key.length === 33 && key[0] === 0x05));
  assert.ok(kyber.every((key) => key.length === 1569 && key[0] === 0x08));
  assert.equal(fromBase64(published.signedPreKey.signature).length, 64);
});

test("an inventory matches when it lists the device's own keys and their digest", async () => {
  const { keys, published } = await party();
  const { identityKey, registrationId, signedPreKey, oneTimePreKeys, kyberPreKeys = [], lastResortKyberPreKey } = published;
  assert.ok(lastResortKyberPreKey);
  const left = { oneTimePreKeys: oneTimePreKeys.slice(3), kyberPreKeys: kyberPreKeys.slice(3) };
  const hash = createHash('sha256').update(fromBase64(identityKey));
  for (const { keyId, publicKey } of [signedPreKey, lastResortKyberPreKey, ...left.oneTimePreKeys, ...left.kyberPreKeys]) {
    hash.update(Uint8Array.of(0, 0, 0, keyId)).update(fromBase64(publicKey));
  }
  const inventory = {
    identityKey,
    registrationId,
    signedPreKeyId: signedPreKey.keyId,
    lastResortKyberPreKeyId: lastResortKyberPreKey.keyId,
    oneTimePreKeyIds: left.oneTimePreKeys.map((k) => k.keyId),
    oneTimePreKeyCount: left.oneTimePreKeys.length,
    kyberPreKeyIds: left.kyberPreKeys.map((k) => k.keyId),
    kyberPreKeyCount: left.kyberPreKeys.length,
    digest: hash.digest('base64'),
  };
  assert.ok(keys.matches(inventory));
  assert.ok(!keys.matches({ ...inventory, oneTimePreKeyIds: inventory.oneTimePreKeyIds.slice(1) }));
  assert.ok(!keys.matches({ ...inventory, kyberPreKeyIds: [99] }), 'a key that the device never made');
  assert.ok(!(await party()).keys.matches(inventory), "another device's keys");
});

test('padding hides lengths within a block of 160 bytes and gives the text back', () => {
  for (const text of ['', 'a', 'x'.repeat(159), 'x'.repeat(160), 'ends with a zero\0', '☕'.repeat(100)]) {
    assert.equal(pad(text).length % 160, 0);
    assert.equal(unpad(pad(text)), text);
  }
  assert.throws(() => unpad(new Uint8Array(160)), /not padded/);
});

test('a ciphertext travels with its kind', () => {
  assert.deepEqual(unwrap(wrap(3, Uint8Array.of(1, 2, 3))), { type: 3, ciphertext: Uint8Array.of(1, 2, 3) });
  assert.throws(() => unwrap(new Uint8Array()), /an empty message/);
});
