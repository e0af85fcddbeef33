// Sealed messages on a real relay: what it hands over, and what it would have to know.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { secretly } from '../src/secret.js';
import { testRelay } from './relay.js';

test('Alice writes, and the relay is not told who', async (t) => {
  const relay = await testRelay();
  t.after(() => relay.stop());
  const { alice, deliveries, corrections, group } = await secretly(relay.url);
  const [laptop] = alice.devices;
  assert.ok(laptop);

  await t.test('every device reads every message', () => {
    assert.deepEqual(
      deliveries.map((d) => [`${d.to}`, d.kind, d.text]),
      [
        ["Bob's phone", 'Whisper', 'Only you know who wrote this.'],
        ["Bob's phone", 'Whisper', 'Welcome, tablet!'],
        ["Bob's tablet", 'PreKey', 'Welcome, tablet!'],
        ...["Bob's phone", "Bob's tablet", "Carol's phone", "Carol's tablet", "Carol's watch"].map((to) => [to, 'SenderKey', 'Dinner at eight?']),
      ],
    );
  });

  await t.test('no envelope says who wrote it, outside or inside', () => {
    const names = [alice.userId, laptop.deviceId].flatMap((id) => [Buffer.from(id), Buffer.from(id.replaceAll('-', ''), 'hex')]);
    for (const { envelope } of deliveries) {
      assert.deepEqual([envelope.senderId, envelope.senderDeviceId, envelope.senderDeviceNumber], ['', '', 0]);
      for (const name of names) assert.ok(!Buffer.from(envelope.message).includes(name));
    }
  });

  await t.test('a new device is told, and reached', () => {
    const bundles = corrections.flatMap((c) => c.changes.flatMap((change) => change.bundles.map((b) => b.deviceNumber)));
    assert.deepEqual(bundles, [2, 2, 3]); // Bob's tablet, Carol's tablet and watch
  });

  await t.test('a message to five devices travels once', () => {
    assert.equal(group.recipients, 5);
    const received = deliveries.filter((d) => d.kind === 'SenderKey').reduce((sum, d) => sum + d.envelope.message.length, 0);
    assert.ok(group.bytes < received / 2, `${group.bytes} bytes travelled for ${received}`);
  });
});
