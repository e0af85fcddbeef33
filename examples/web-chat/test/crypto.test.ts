// The encryption by itself, between parties in this process: signatures, the key agreement, and one key per message.
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { fromBase64, type NewDevice, type PreKeyBundle } from '@obscura-relay/client';
import { deserialise, newKeys, type OwnKeys, type PreKey } from '../src/keys.js';
import { accept, begin, open, parse, safetyNumber, seal, type Session } from '../src/session.js';
import { sign, verify } from '../src/xeddsa.js';

const root = fileURLToPath(new URL('../../../..', import.meta.url)); // from build/test/

interface Person {
  userId: string;
  deviceId: string;
  own: OwnKeys;
  oneTime: PreKey[];
  body: NewDevice;
}

const person = async (name: string): Promise<Person> => ({ userId: name, deviceId: `${name}'s device`, ...(await newKeys(name)) });

function bundle({ deviceId, body }: Person, oneTime = true): PreKeyBundle {
  const { identityKey, registrationId, signedPreKey, oneTimePreKeys } = body;
  return { devicesVersion: 1, deviceId, deviceNumber: 1, registrationId, identityKey, signedPreKey, oneTimePreKey: (oneTime && oneTimePreKeys[0]) || null, kyberPreKey: null };
}

/** What the recipient makes of a first message, like `Chat` does. */
function receive(to: Person, from: Person, message: Uint8Array<ArrayBuffer>): Promise<Session> {
  const sealed = parse(message);
  const oneTime = to.oneTime.find((key) => key.id === sealed.opening?.oneTimeId)?.pair;
  return accept({ ...to.own, oneTime }, from, sealed);
}

async function pair(oneTime = true): Promise<[Person, Session, Person, Session]> {
  const [alice, bob] = [await person('alice'), await person('bob')];
  const hers = await begin(alice.own.identity, bob.userId, bundle(bob, oneTime));
  const message = await seal(alice.own.identity, hers, 'hello');
  const his = await receive(bob, alice, message);
  assert.equal(await open(bob.own.identity, his, parse(message)), 'hello');
  return [alice, hers, bob, his];
}

test('signatures are those of the relay and of libsignal', async () => {
  // Signed by the relay's own Go code, which is checked against libsignal's signatures.
  const keys = JSON.parse(execFileSync('go', ['run', './tools/try', 'keys'], { cwd: root, encoding: 'utf8' })) as NewDevice;
  const identity = deserialise(keys.identityKey);
  for (const { publicKey, signature } of [keys.signedPreKey, ...keys.kyberPreKeys!]) {
    assert.ok(await verify(identity, fromBase64(publicKey), fromBase64(signature)));
  }
  const [message, signature] = [fromBase64(keys.signedPreKey.publicKey), fromBase64(keys.signedPreKey.signature)];
  for (const at of [0, 31, 32, 62, 63]) {
    const forged = signature.slice();
    forged[at]! ^= at === 63 ? 0x20 : 1;
    assert.ok(!(await verify(identity, message, forged)), `byte ${at}`);
  }
  assert.ok(!(await verify(deserialise(keys.oneTimePreKeys[0]!.publicKey), message, signature)), "another's key");
  assert.ok(!(await verify(identity, message.slice(1), signature)), 'another message');
  assert.ok(!(await verify(identity, message, signature.slice(1))));
  const order = 2n ** 252n + 27742317777372353535851937790883648493n;
  const s = BigInt(`0x${Buffer.from(signature.slice(32)).reverse().toString('hex')}`) & (2n ** 255n - 1n);
  const other = Buffer.from((s + 2n * order).toString(16).padStart(64, '0'), 'hex').reverse(); // equal to it, and too large
  other[31]! |= signature[63]! & 0x80;
  assert.ok(!(await verify(identity, message, Uint8Array.from([...signature.slice(0, 32), ...other]))));

  for (let i = 0; i < 20; i++) {
    const { own } = await person('somebody');
    assert.ok(await verify(own.identity.publicKey, message, await sign(own.identity.secret, message)));
  }
});

for (const oneTime of [true, false]) {
  test(`a session begins with ${oneTime ? 'a' : 'no'} one-time key, and both sides talk`, async () => {
    const [alice, hers, bob, his] = await pair(oneTime);
    const say = async (from: Person, to: Person, out: Session, into: Session, text: string) => {
      const message = await seal(from.own.identity, out, text);
      assert.ok(!Buffer.from(message).includes(text));
      assert.equal(await open(to.own.identity, into, parse(message)), text);
      return message;
    };
    assert.equal((await say(alice, bob, hers, his, 'are you there?'))[0], 1, 'a first message until there is an answer');
    await say(bob, alice, his, hers, 'Grüße ☕'.repeat(100));
    assert.equal((await say(alice, bob, hers, his, 'fine'))[0], 2);
    for (let i = 0; i < 5; i++) await say(bob, alice, his, hers, `number ${i} from Bob`);
  });
}

test('a bundle that was tampered with begins nothing', async () => {
  const [alice, bob, mallory] = [await person('alice'), await person('bob'), await person('mallory')];
  await assert.rejects(begin(alice.own.identity, 'bob', { ...bundle(bob), signedPreKey: mallory.body.signedPreKey }), /wrong signature/);
  await assert.rejects(begin(alice.own.identity, 'bob', { ...bundle(bob), identityKey: mallory.body.identityKey }), /wrong signature/);
});

test('a message that was changed in any byte is refused, and the true one is read afterwards', async () => {
  const [alice, hers, bob, his] = await pair();
  const message = await seal(alice.own.identity, hers, 'true');
  for (let at = 1; at < message.length; at += 7) {
    const forged = message.slice();
    forged[at]! ^= 1;
    const sealed = parse(forged);
    if (sealed.sessionId !== his.id) continue; // belongs to no session
    const read = await open(bob.own.identity, his, sealed).catch(() => undefined); // a lower number counts as read before
    assert.equal(read, undefined, `byte ${at}`);
  }
  assert.equal(await open(bob.own.identity, his, parse(message)), 'true');
  for (const wrong of [new Uint8Array(), message.slice(0, 60), Uint8Array.of(9, ...message.slice(1))]) assert.throws(() => parse(wrong), /not a message/);
});

test('a message is read once; lost ones are passed over, and do not come back', async () => {
  const [alice, hers, bob, his] = await pair();
  const messages: Uint8Array<ArrayBuffer>[] = [];
  for (const text of ['one', 'two', 'three']) messages.push(await seal(alice.own.identity, hers, text));
  const read = (i: number) => open(bob.own.identity, his, parse(messages[i]!));
  assert.equal(await read(1), 'two');
  assert.equal(await read(1), undefined);
  assert.equal(await read(0), undefined);
  assert.equal(await read(2), 'three');
  const far = parse(await seal(alice.own.identity, { ...hers, send: { ...hers.send, next: 1_000_000 } }, 'far'));
  await assert.rejects(open(bob.own.identity, his, far), /too many/);
});

test('somebody else cannot take a message for theirs, nor speak for another', async () => {
  const [alice, hers, bob] = await pair();
  const mallory = await person('mallory');
  const message = await seal(alice.own.identity, hers, 'for Bob');
  const session = await receive(mallory, alice, message);
  await assert.rejects(open(mallory.own.identity, session, parse(message)));
  // Mallory names Alice's identity key in a first message of his own.
  const forged = await begin(mallory.own.identity, bob.userId, bundle(bob, false));
  forged.opening!.set(alice.own.identity.publicKey, 0);
  const lie = await seal(alice.own.identity, forged, 'I am Alice');
  await assert.rejects(open(bob.own.identity, await receive(bob, alice, lie), parse(lie)));
});

test('sizes of texts are hidden, and safety numbers agree', async () => {
  const [alice, hers] = await pair();
  const sizes: number[] = [];
  for (const text of ['', 'a', 'x'.repeat(159), 'x'.repeat(160)]) sizes.push((await seal(alice.own.identity, hers, text)).length);
  assert.deepEqual(sizes.map((size) => size - sizes[0]!), [0, 0, 0, 160]);
  const [a, b, c] = [Uint8Array.of(1), Uint8Array.of(2), Uint8Array.of(3)];
  assert.match(await safetyNumber(a, b), /^(\d{5} ){11}\d{5}$/);
  assert.equal(await safetyNumber(a, b), await safetyNumber(b, a));
  assert.notEqual(await safetyNumber(a, b), await safetyNumber(a, c));
});
