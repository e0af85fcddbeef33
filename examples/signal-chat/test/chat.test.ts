// The whole conversation on a real relay. Without a relay this fails; it is never skipped.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { chat, type Delivery } from '../src/chat.js';
import { testRelay } from './relay.js';

const script = [
  ['laptop', 'phone', 'PreKey', 'Hi Bob, are you there?'],
  ['laptop', 'phone', 'PreKey', 'Never mind, the relay keeps this for you.'],
  ['phone', 'laptop', 'Whisper', 'Here I am. No bundle needed to answer you.'],
  ['laptop', 'phone', 'Whisper', 'And from here on every message has a key of its own.'],
  ['phone', 'laptop', 'Whisper', 'Grüße über das Relay! ☕'],
  ['phone', 'laptop', 'Whisper', 'Two in a row.'],
  ['laptop', 'phone', 'Whisper', 'In order, as sent.'],
  ['laptop', 'phone', 'Whisper', 'attachment …'],
  ['laptop', 'phone', 'Whisper', 'Do both of your devices get this?'],
  ['laptop', 'tablet', 'PreKey', 'Do both of your devices get this?'],
  ['phone', 'laptop', 'Whisper', 'The phone does.'],
  ['tablet', 'laptop', 'Whisper', 'So does the tablet.'],
  ['laptop', 'phone', 'Whisper', 'Then we are done. Bye!'],
  ['laptop', 'tablet', 'Whisper', 'Then we are done. Bye!'],
];

test('Alice and Bob talk through a relay', async (t) => {
  const relay = await testRelay();
  t.after(() => relay.stop());
  const outcome = await chat(relay.url);
  const each = (check: (delivery: Delivery) => void) => outcome.deliveries.forEach(check);

  await t.test('every text arrives as written, in order, on every device', () => {
    assert.deepEqual(
      outcome.deliveries.map((d) => [d.from.name, d.to.name, d.kind, d.read.replace(/^(attachment) .*/, '$1 …')]),
      script,
    );
    each((d) => assert.equal(d.read, d.written));
  });

  await t.test('the relay says who sent what, and changes no byte', () => {
    each(({ from, sent, envelope }) => {
      assert.deepEqual(
        [envelope.senderId, envelope.senderDeviceId, envelope.senderDeviceNumber],
        [from.session.userId, from.deviceId, from.deviceNumber],
      );
      assert.deepEqual(envelope.message, sent);
      assert.ok(Math.abs(envelope.acceptedAt.getTime() - Date.now()) < 3_600_000, 'the timestamp is in milliseconds and about now');
    });
    assert.equal(new Set(outcome.deliveries.map((d) => d.envelope.id)).size, outcome.deliveries.length);
  });

  await t.test('sequences count 1, 2, 3 without holes on each device', () => {
    for (const device of outcome.devices) {
      const sequences = outcome.deliveries.filter((d) => d.to === device).map((d) => d.envelope.sequence);
      assert.deepEqual(
        sequences,
        sequences.map((_, i) => i + 1),
      );
    }
  });

  await t.test('no ciphertext contains a word of the text', () => {
    const words = new Set(outcome.deliveries.flatMap((d) => [d.written, ...d.written.split(/\s+/).filter((w) => w.length >= 6)]));
    assert.ok(words.size > script.length);
    each(({ envelope }) => {
      for (const word of words) assert.ok(!Buffer.from(envelope.message).includes(word), `the relay saw "${word}"`);
    });
  });

  await t.test('device numbers are 1 to 127 and differ within a user', () => {
    assert.deepEqual(
      outcome.devices.map((d) => [d.name, d.deviceNumber]),
      [
        ['laptop', 1],
        ['phone', 1],
        ['tablet', 2],
      ],
    );
  });

  await t.test('no one-time key is handed out twice, and each session uses its own once', () => {
    const [phone, tablet] = ['phone', 'tablet'].map((name) => outcome.devices.find((d) => d.name === name));
    assert.ok(phone && tablet);
    assert.equal(outcome.handouts.length, 3); // the phone's bundle twice, the tablet's once
    for (const keyId of ['preKeyId', 'kyberPreKeyId'] as const) {
      const ids = outcome.handouts.map((h) => `${h.deviceId} ${h[keyId]}`);
      assert.equal(new Set(ids).size, ids.length, `a ${keyId} was handed out twice: ${ids.join(', ')}`);
    }
    for (const device of [phone, tablet]) {
      const used = outcome.handouts.filter((h) => h.deviceId === device.deviceId && h.session);
      assert.deepEqual(
        device.keys.preKeys.used,
        used.map((h) => h.preKeyId),
      );
      assert.deepEqual(
        device.keys.kyberPreKeys.used,
        used.map((h) => h.kyberPreKeyId),
      );
      assert.equal(used.length, 1);
    }
  });

  await t.test('a device hears that its keys run low, and refills', () => {
    assert.deepEqual(
      outcome.refilled.map((d) => d.name),
      ['phone'],
    );
  });
});
