// Attachments, backups and push tokens, on the running relay.
import assert from 'node:assert/strict';
import { createECDH, randomBytes } from 'node:crypto';
import { test } from 'node:test';
import { RelayError } from '@obscura-relay/client';
import { person } from './people.js';

const status = (status: number) => (failure: unknown) => failure instanceof RelayError && failure.status === status;

test('an attachment goes there and back', async () => {
  const [alice, bob] = [await person(), await person()];
  const content = randomBytes(1_000_000);
  const { id, expiresAt } = await alice.uploadAttachment(content);
  assert.ok(expiresAt.getTime() - Date.now() > 29 * 24 * 3600 * 1000);
  assert.deepEqual(Buffer.from(await bob.downloadAttachment(id)), content);
  await assert.rejects(alice.uploadAttachment(new Uint8Array(0)), status(400));
  await assert.rejects(bob.downloadAttachment('22222222-2222-4222-8222-222222222222'), status(404));
});

test('a backup is replaced by who knows its version', async () => {
  const alice = await person();
  assert.equal(await alice.backup(), undefined);
  assert.equal(await alice.backupVersion(), undefined);
  const [one, two] = [randomBytes(1000), randomBytes(2000)];
  const first = await alice.storeBackup(one);
  await assert.rejects(alice.storeBackup(two), status(412));
  const second = await alice.storeBackup(two, first);
  await assert.rejects(alice.storeBackup(one, first), status(412));
  assert.equal(await alice.backupVersion(), second);
  const backup = await alice.backup();
  assert.equal(backup?.version, second);
  assert.deepEqual(Buffer.from(backup.content), two);
});

test('a device says how it is woken up', async () => {
  const alice = await person();
  const kind = async () => (await alice.account()).devices[0]!.pushToken?.kind;
  assert.equal(Buffer.from(await alice.vapidKey(), 'base64url').length, 65);
  assert.equal(await kind(), undefined);
  await alice.setPushToken({ token: 'a token of an app' });
  assert.equal(await kind(), 'TOKEN');
  const keys = { p256dh: createECDH('prime256v1').generateKeys('base64url'), auth: randomBytes(16).toString('base64url') };
  await alice.setPushToken({ webPush: { endpoint: 'https://push.example.org/abc', keys } });
  assert.equal(await kind(), 'WEB_PUSH');
  await assert.rejects(alice.setPushToken({ webPush: { endpoint: 'https://127.0.0.1/abc', keys } }), status(400));
  await alice.deletePushToken();
  assert.equal(await kind(), undefined);
});
