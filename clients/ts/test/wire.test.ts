// The bytes on the wire, against the dumps that docs/protocol.md shows.
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { fromBase64, toBase64, uuidFromBytes, uuidToBytes } from '@obscura-relay/client';
import { decodeAnswer, decodeFrame, encodeAck, encodeBatch } from '../dist/wire.js';
import { root } from './keys.js';

const protocol = readFileSync(join(root, 'docs/protocol.md'), 'utf8');

function dump(name: string): Uint8Array {
  const block = protocol.match(new RegExp(`<!-- bytes: ${name} -->\n\`\`\`text\n([^\`]*)`))?.[1];
  assert.ok(block, `docs/protocol.md has no dump named ${name}`);
  const hex = block.split('\n').map((line) => line.slice(6, 54).replaceAll(' ', ''));
  return new Uint8Array(Buffer.from(hex.join(''), 'hex'));
}

test('what is sent is what the document shows', () => {
  const [submissionId, deviceId] = ['11111111-1111-4111-8111-111111111111', '22222222-2222-4222-8222-222222222222'];
  assert.deepEqual(encodeBatch({ submissions: [{ submissionId, deviceId, message: Buffer.from('hello') }] }), dump('send request'));
  const quiet = encodeBatch({ submissions: [{ submissionId, deviceId, message: Buffer.from('hello'), quiet: true }] });
  assert.deepEqual([...quiet.slice(-2)], [0x28, 1]); // field 5: true
  const shared = encodeBatch({ submissions: [], shared: [{ message: Buffer.from('hello'), recipients: [], quiet: true }] });
  assert.deepEqual([...shared.slice(-2)], [0x18, 1]); // field 3: true
  const deliveryToken = new Uint8Array(32).fill(0x33);
  assert.deepEqual(encodeBatch({ submissions: [{ submissionId, deviceId, message: Buffer.from('hello'), deliveryToken }] }), dump('send sealed'));
  assert.deepEqual(encodeAck(['00000000-0000-4001-b963-e82c7f249f67']), dump('acknowledgement'));
});

test('what the document shows is understood', () => {
  assert.deepEqual(decodeAnswer(dump('send answer')), {
    failed: [{ submissionId: '11111111-1111-4111-8111-111111111111', reason: 'invalidDevice', message: 'There is no such device.' }],
    lists: [],
  });
  assert.deepEqual(decodeFrame(dump('pre-key status')), [{ kind: 'preKeyStatus', oneTime: 5, kyber: 2, threshold: 20 }]);
  assert.deepEqual(decodeFrame(dump('drained')), [{ kind: 'drained', sequence: 1 }]);
  assert.deepEqual(decodeFrame(dump('drained, never any mail')), [{ kind: 'drained', sequence: 0 }]);
  assert.deepEqual(decodeFrame(dump('gap')), [{ kind: 'gap', from: 1, to: 3, reason: 'takeover' }]);
  assert.deepEqual(decodeFrame(dump('envelope batch')), [
    {
      kind: 'envelope',
      envelope: {
        id: '00000000-0000-4001-b963-e82c7f249f67',
        sequence: 1,
        senderId: '33333333-3333-4333-8333-333333333333',
        senderDeviceId: '44444444-4444-4444-8444-444444444444',
        senderDeviceNumber: 1,
        acceptedAt: new Date(1_800_000_000_000),
        message: new Uint8Array(Buffer.from('hello')),
      },
    },
  ]);
});

test('an envelope need not say who wrote it', () => {
  const id = Uint8Array.from({ length: 16 }, (_, i) => i);
  const [event] = decodeFrame(Uint8Array.of(0x6a, 0x18, 0x0a, 0x16, 0x0a, 16, ...id, 0x30, 7, 0x22, 0)); // an envelope with id, sequence and message
  assert.ok(event?.kind === 'envelope');
  const { sequence, senderId, senderDeviceId, senderDeviceNumber } = event.envelope;
  assert.deepEqual([sequence, senderId, senderDeviceId, senderDeviceNumber], [7, '', '', 0]);
});

test('what may be added later is no mistake', () => {
  assert.deepEqual(decodeFrame(Uint8Array.of(0xfa, 0x01, 0x00)), []); // field 31
  assert.deepEqual(decodeFrame(new Uint8Array()), []);
  assert.deepEqual(decodeFrame(Uint8Array.of(0x72, 0x06, 0x08, 1, 0x10, 2, 0x18, 99)), [{ kind: 'gap', from: 1, to: 2, reason: 'unspecified' }]);
});

test('UUIDs and base64 go there and back', () => {
  const id = '0190f3c2-7b1e-4a5f-8c6d-00ff10a5b6c7';
  assert.equal(uuidFromBytes(uuidToBytes(id.toUpperCase())), id);
  for (const wrong of ['', id.slice(1), id.replaceAll('-', ''), `${id} `, id.replace('0', 'g')]) assert.throws(() => uuidToBytes(wrong), /not a UUID/);
  assert.throws(() => uuidFromBytes(new Uint8Array(15)), /15 bytes/);
  for (const length of [0, 1, 2, 3, 33, 20_000]) {
    const bytes = Uint8Array.from({ length }, (_, i) => i * 7);
    assert.equal(toBase64(bytes), Buffer.from(bytes).toString('base64'));
    assert.deepEqual(fromBase64(toBase64(bytes)), bytes);
  }
});
