// Sender certificates as libsignal sees them: those of a real relay, under its trust root.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { newBatch, newDeliveryToken, Relay } from '@obscura-relay/client';
import * as signal from '@signalapp/libsignal-client';
import type { Device } from '../src/device.js';
import { Person } from '../src/person.js';
import { testRelay } from './relay.js';

async function certify({ session }: Device) {
  const { certificate, expiresAt } = await session.senderCertificate();
  return { certificate: signal.SenderCertificate.deserialize(certificate), expires: expiresAt.getTime() };
}

test('a sealed message names its sender by the certificate of the relay', async (t) => {
  const relay = await testRelay();
  t.after(() => relay.stop());
  const [alice, bob] = [await Person.register(relay.url, 'Alice'), await Person.register(relay.url, 'Bob')];
  t.after(() => Promise.all([alice.leave(), bob.leave()]));
  const [laptop, phone] = [await alice.addDevice('laptop'), await bob.addDevice('phone')];
  const { certificate, expires } = await certify(laptop);
  const root = signal.PublicKey.deserialize(await new Relay(relay.url).trustRoot());
  const otherRoot = signal.PrivateKey.generate().getPublicKey();

  await t.test('libsignal holds it for valid until it expires, and under no other root', () => {
    for (const time of [Date.now(), expires]) assert.ok(certificate.validate(root, time));
    assert.ok(!certificate.validate(root, expires + 1));
    assert.ok(!certificate.validate(otherRoot, Date.now()));
  });

  await t.test('it says who the device is', () => {
    assert.deepEqual(
      [certificate.senderUuid(), certificate.senderE164(), certificate.senderDeviceId(), certificate.expiration()],
      [laptop.deviceId, alice.userId, laptop.deviceNumber, expires],
    );
    assert.deepEqual(certificate.key().serialize(), laptop.keys.identities.own.publicKey.serialize());
    const hours = (expires - Date.now()) / 3_600_000;
    assert.ok(expires % 3_600_000 === 0 && hours > 23.9 && hours < 25.1, `it is valid for ${hours} hours`);
  });

  await laptop.meet(bob.userId);
  const seal = (text: string) =>
    signal.sealedSenderEncryptMessage(
      new Uint8Array(Buffer.from(text)),
      signal.ProtocolAddress.new(phone.deviceId, phone.deviceNumber),
      certificate,
      laptop.keys.sessions,
      laptop.keys.identities,
    );
  const open = (message: Uint8Array<ArrayBuffer>, trusted: signal.PublicKey, time: number) => {
    const { sessions, identities, preKeys, signedPreKeys, kyberPreKeys } = phone.keys;
    const self = [null, phone.deviceId, phone.deviceNumber] as const;
    return signal.sealedSenderDecryptMessage(message, trusted, time, ...self, sessions, identities, preKeys, signedPreKeys, kyberPreKeys);
  };
  const says = (opened: signal.SealedSenderDecryptionResult) => [
    Buffer.from(opened.message()).toString(),
    opened.senderUuid(),
    opened.senderE164(),
    opened.deviceId(),
  ];

  await t.test('libsignal seals a message with it, and opens it', async () => {
    const sealed = await seal('Guess who?');
    await assert.rejects(open(sealed, otherRoot, Date.now()));
    await assert.rejects(open(sealed, root, expires + 1));
    assert.deepEqual(says(await open(sealed, root, Date.now())), ['Guess who?', laptop.deviceId, alice.userId, laptop.deviceNumber]);
  });

  await t.test('the relay carries it without a sender', async () => {
    const deliveryToken = newDeliveryToken();
    await phone.session.addDeliveryTokens([deliveryToken]);
    const batch = newBatch({ deviceId: phone.deviceId, message: await seal('Guess again!'), deliveryToken });
    assert.deepEqual(await new Relay(relay.url).sendSealed(batch), []);
    for await (const event of phone.session.connect()) {
      if (event.kind !== 'envelope') continue;
      const { senderId, senderDeviceId, message, acceptedAt } = event.envelope;
      assert.deepEqual([senderId, senderDeviceId], ['', '']);
      assert.deepEqual(says(await open(message, root, acceptedAt.getTime())), ['Guess again!', laptop.deviceId, alice.userId, laptop.deviceNumber]);
      break;
    }
  });
});
