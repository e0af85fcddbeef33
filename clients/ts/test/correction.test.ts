// What is found out about batches that were for old devices, and sent again.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { DevicesChanged, newBatch, newShared, type Batch, type KnownDevices, type Session } from '@obscura-relay/client';
import { newKeys } from './keys.js';
import { person, refusal, scripted, waiting } from './people.js';

const to = (session: Session, text: string) => ({ deviceId: session.deviceId!, message: Buffer.from(text) });

async function know(alice: Session, userId: string) {
  const devices = await alice.bundles(userId);
  return { userId, devicesVersion: devices[0]!.devicesVersion, devices };
}

/** Another identity key, and the same registration id. */
async function takeOver(session: Session): Promise<void> {
  const { registrationId } = await session.keys();
  const { identityKey, signedPreKey } = newKeys();
  await session.uploadKeys({ identityKey, registrationId, signedPreKey });
}

const outdated = (alice: Session, batch: Batch): Promise<DevicesChanged> =>
  alice.send(batch).then(
    () => assert.fail('it was stored'),
    (failure: unknown) => {
      assert.ok(failure instanceof DevicesChanged);
      return failure;
    },
  );

test('a batch for old devices is corrected and sent', async () => {
  const [alice, phone, carol] = [await person(), await person(), await person()];
  const [tablet, watch] = [await phone.addDevice(newKeys()), await phone.addDevice(newKeys())];
  const [bobs, carols] = [await know(alice, phone.userId), await know(alice, carol.userId)];
  await phone.removeDevice(tablet.deviceId!);
  const desk = await phone.addDevice(newKeys());
  await takeOver(phone);
  const untouched = async () => [(await watch.keys()).oneTimePreKeyCount, (await carol.keys()).oneTimePreKeyCount];
  const before = await untouched();

  const submissionId = '11111111-1111-4111-8111-111111111111';
  const shared = { ...newShared(Buffer.from('body'), { deviceId: watch.deviceId!, prefix: Buffer.from('old ') }, { deviceId: carol.deviceId! }), quiet: true };
  const batch: Batch = {
    ...newBatch({ ...to(phone, 'old'), submissionId }, { ...to(tablet, 'old'), submissionId }, to(carol, 'alone')),
    shared: [shared, newShared(Buffer.from('his'), { submissionId, deviceId: phone.deviceId! })],
    audiences: [carols, bobs],
  };
  const changed = await outdated(alice, batch);
  await assert.rejects(alice.correct(batch, changed, [carols]), /is not among those that are known/);
  const { changes, rest } = await alice.correct(batch, changed, [bobs, carols]);
  const [change] = changes;
  assert.ok(change && changes.length === 1);
  assert.deepEqual([change.userId, change.devicesVersion], [phone.userId, changed.lists[0]?.devicesVersion]);
  assert.deepEqual(change.devices.map((d) => [d.deviceId, d.number]), [[phone.deviceId, 1], [watch.deviceId, 3], [desk.deviceId, 4]]);
  assert.deepEqual(change.bundles.map((b) => b.deviceId), [phone.deviceId, desk.deviceId]);
  assert.deepEqual([change.gone, change.again], [[tablet.deviceId], [submissionId, shared.recipients[0]!.submissionId]]);
  assert.deepEqual(await untouched(), before);
  assert.deepEqual([batch.submissions.length, batch.shared![0]!.recipients.length, rest.key], [3, 2, batch.key]);

  assert.deepEqual(rest.shared?.map((s) => [s.quiet, s.recipients.length]), [[true, 1]]);
  rest.submissions.push(...change.devices.map(({ deviceId }) => ({ submissionId, deviceId, message: Buffer.from('new') })));
  assert.deepEqual(await alice.send(rest), []);
  assert.deepEqual([await waiting(phone), await waiting(watch), await waiting(desk)], [['new'], ['new'], ['new']]);
  assert.deepEqual(await waiting(carol), ['alone', 'body']);
  assert.deepEqual((await alice.correct(batch, changed, [change])).changes[0]?.bundles, [], 'it is known now');
});

test('a user who has left, the same devices in another version, and a device of their own', async () => {
  const [alice, bob, carol] = [await person(), await person(), await person()];
  const desk = await alice.addDevice(newKeys());
  const [bobs, carols, own] = [await know(alice, bob.userId), await know(alice, carol.userId), await know(desk, alice.userId)];
  await bob.removeDevice(bob.deviceId!);
  await carol.removeDevice((await carol.addDevice(newKeys())).deviceId!);
  const tablet = await alice.addDevice(newKeys());
  const batch: Batch = { ...newBatch(to(bob, 'lost'), to(carol, 'hello'), to(desk, 'a copy')), audiences: [bobs, carols, own] };
  const [lost, , copy] = batch.submissions;
  // Nobody need know the device that they are.
  const known: KnownDevices[] = [bobs, carols, { ...own, devices: own.devices.slice(1) }];
  const { changes, rest } = await alice.correct(batch, await outdated(alice, batch), known);
  assert.deepEqual(changes.map((c) => [c.bundles.map((b) => b.deviceId), c.gone, c.again]), [
    [[], [bob.deviceId], [lost!.submissionId]],
    [[], [], []],
    [[tablet.deviceId], [], [copy!.submissionId]],
  ]);
  assert.deepEqual(await alice.send(rest), []);
  assert.deepEqual(await waiting(carol), ['hello']);
});

test('the list of devices is asked for again, and bundles are not', async () => {
  const bob = await person();
  const busy = () => refusal(503, 'unavailable', 0);
  const { fetch, calls } = scripted({ [`/v1/users/${bob.userId}/devices`]: [busy], [`/v1/users/${bob.userId}`]: [busy] });
  const alice = await person({ fetch });
  assert.equal((await alice.devicesOf(bob.userId)).devices.length, 1);
  await assert.rejects(alice.bundles(bob.userId, { deviceId: [bob.deviceId!] }));
  assert.equal(calls.length, 3);
});
