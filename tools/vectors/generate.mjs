// Writes internal/prekey/testdata/vectors.json: keys and signatures, real and
// damaged, each with the verdict of libsignal. Every run draws new keys.
import * as signal from '@signalapp/libsignal-client';
import { writeFileSync } from 'node:fs';
import {
  L, P, agrees, base64, concat, deserializes, ecKey, flipBit, kyberDeserializes, libsignalVersion,
  littleEndian, number, sha512Scalar, startsSession, verifies,
} from './lib.mjs';

const ORDER8 = [
  325606250916557431795983626356110631294008115727848805560023387167927233504n,
  39382357235489614581723060781553021112529911719440698176882885853963445705823n,
];
const ascii = (s) => new TextEncoder().encode(s);

// Messages repeat (a Kyber key is long), so signature cases refer to them.
const messages = [];
function messageIndex(message) {
  const text = base64(message);
  const i = messages.indexOf(text);
  return i >= 0 ? i : messages.push(text) - 1;
}

const signatures = [];
function addSignature(name, identity, message, signature) {
  signatures.push({
    name, identity: base64(identity), message: messageIndex(message), signature: base64(signature),
    verifies: verifies(identity, message, signature), agrees: agrees(identity),
  });
}

const flips = [];
function addFlips(identity, message, signature) {
  const verdicts = (bytes, verdict) =>
    Array.from({ length: bytes.length * 8 }, (_, i) => (verdict(flipBit(bytes, i)) ? '1' : '0')).join('');
  flips.push({
    identity: base64(identity), message: messageIndex(message), signature: base64(signature),
    ofSignature: verdicts(signature, (s) => verifies(identity, message, s)),
    ofIdentity: verdicts(identity, (k) => verifies(k, message, signature)),
    ofMessage: verdicts(message, (m) => verifies(identity, m, signature)),
  });
}

const withS = (signature, s) => concat(signature.slice(0, 32), littleEndian(s));
// sOf splits the last 32 bytes into s and the sign of the signer's point.
const sOf = (signature) => number(signature.slice(32)) & (2n ** 255n - 1n);
const signOf = (signature) => BigInt(signature[63] >> 7) << 255n;

function addMutations(label, identity, message, signature) {
  const s = sOf(signature);
  const sign = signOf(signature);
  const add = (name, sig) => addSignature(`${label}: ${name}`, identity, message, sig);
  for (let k = 1n; k <= 3n; k++) {
    if (s + k * L < 2n ** 255n) add(`s + ${k}L`, withS(signature, (s + k * L) | sign));
  }
  add('s negated', withS(signature, (L - s) | sign));
  add('s zero', withS(signature, sign));
  add('s all ones', concat(signature.slice(0, 32), new Uint8Array(32).fill(0xff)));
  add('bit 253 of s set', withS(signature, s | sign | (1n << 253n)));
  add('bit 254 of s set', withS(signature, s | sign | (1n << 254n)));
  add('other sign', withS(signature, s | (sign ^ (1n << 255n))));
  add('sign of R flipped', flipBit(signature, 255));
  add('halves swapped', concat(signature.slice(32), signature.slice(0, 32)));
  add('all zero', new Uint8Array(64));
  for (const n of [0, 1, 32, 63]) add(`${n} bytes`, signature.slice(0, n));
  for (const n of [65, 128]) add(`${n} bytes`, concat(signature, new Uint8Array(n - 64)));
  addSignature(`${label}: without the type byte`, identity, message.slice(1), signature);
  addSignature(`${label}: one byte more`, identity, concat(message, [0]), signature);
  addSignature(`${label}: empty message`, identity, new Uint8Array(), signature);
  const type4 = new Uint8Array(identity);
  type4[0] = 4;
  addSignature(`${label}: identity of type 4`, type4, message, signature);
  addSignature(`${label}: identity of 32 bytes`, identity.slice(0, 32), message, signature);
  addSignature(`${label}: identity of 34 bytes`, concat(identity, [0]), message, signature);
  addSignature(`${label}: identity with top bit`, flipBit(identity, 263), message, signature);
  addSignature(`${label}: another identity`,
    signal.PrivateKey.generate().getPublicKey().serialize(), message, signature);
}

// Real signatures by many identities, so that both sign bits occur, and the
// whole catalogue of damage once for each sign and kind of key.
const done = new Set();
for (let i = 0; i < 48; i++) {
  const key = signal.PrivateKey.generate();
  const identity = key.getPublicKey().serialize();
  const ec = signal.PrivateKey.generate().getPublicKey().serialize();
  const kinds = i < 10 ? { ec, kyber: signal.KEMKeyPair.generate().getPublicKey().serialize() } : { ec };
  for (const [kind, message] of Object.entries(kinds)) {
    const signature = key.sign(message);
    addSignature(`identity ${i}, ${kind}`, identity, message, signature);
    const label = `${kind}, sign ${signature[63] >> 7}`;
    if (done.has(label)) continue;
    done.add(label);
    addMutations(label, identity, message, signature);
    if (kind === 'ec') addFlips(identity, message, signature);
  }
  if (i === 0) {
    for (const n of [0, 1, 127, 128, 4096]) {
      const message = new Uint8Array(n).fill(n & 0xff);
      addSignature(`message of ${n} bytes`, identity, message, key.sign(message));
    }
  }
}

// The base point (u = 9) is the one identity whose small encoding has a
// non-canonical twin and whose Edwards scalar, 1 or -1, needs no arithmetic.
const BASE = concat([0x58], new Uint8Array(31).fill(0x66));
for (const sign of [0, 1]) {
  const A = new Uint8Array(BASE);
  A[31] |= sign << 7;
  const message = ascii('signed by the base point');
  const h = sha512Scalar(BASE, A, message);
  const s = ((sign ? L - h : h) + 1n) % L;
  const signature = concat(BASE, littleEndian(s | (BigInt(sign) << 255n)));
  for (const [name, u] of [['9', 9n], ['p + 9', P + 9n]]) {
    for (const topBit of [0, 1]) {
      addSignature(`u = ${name}, top bit ${topBit}, sign ${sign}`, ecKey(u, topBit), message, signature);
    }
  }
}

// Low-order identities and those of the twist, with s = 0 and R of small order:
// such signatures verify for some messages without any private key.
const smallR = {
  identity: littleEndian(1n), 'order 2': littleEndian(P - 1n), 'order 4': littleEndian(0n),
  'other order 4': littleEndian(1n << 255n),
  'identity, sign set': littleEndian(1n | (1n << 255n)), 'identity, y = p + 1': littleEndian(P + 1n),
};
const lowOrder = {
  '0': 0n, '1': 1n, 'p - 1': P - 1n, 'p': P, 'p + 1': P + 1n, 'order 8': ORDER8[0], 'other order 8': ORDER8[1],
};
for (const [name, u] of Object.entries(lowOrder)) {
  for (const [nameR, R] of Object.entries(smallR)) {
    for (const sign of [0, 1]) {
      for (const text of ['a', 'b', 'c', 'd']) {
        addSignature(`u = ${name}, R ${nameR}, sign ${sign}, ${text}`, ecKey(u), ascii(text),
          concat(R, littleEndian(BigInt(sign) << 255n)));
      }
    }
  }
}
for (let u = 2n; u < 19n; u++) {
  const signature = concat(BASE, littleEndian(u));
  addSignature(`u = ${u}, nobody's signature`, ecKey(u), ascii('a'), signature);
}

// Keys by themselves. sessionStarts: libsignal sets up a session with a bundle
// that carries the key as the signed pre-key, properly signed.
const identity = signal.PrivateKey.generate();
const signed = (publicKey) => ({ publicKey, signature: identity.sign(publicKey) });
const bundle = (parts) => startsSession({
  identity: identity.getPublicKey().serialize(),
  signedPreKey: signed(signal.PrivateKey.generate().getPublicKey().serialize()),
  kyberPreKey: signed(signal.KEMKeyPair.generate().getPublicKey().serialize()),
  ...parts,
});

const ecKeys = [];
async function addEC(name, key) {
  ecKeys.push({
    name, key: base64(key), deserializes: deserializes(key), agrees: agrees(key),
    sessionStarts: await bundle({ signedPreKey: signed(key) }) && await bundle({ preKey: key }),
  });
}
const real = signal.PrivateKey.generate().getPublicKey().serialize();
await addEC('real', real);
await addEC('top bit', flipBit(real, 263));
for (const type of [0, 4, 6, 8, 0x85]) await addEC(`type ${type}`, concat([type], real.slice(1)));
for (const n of [0, 1, 32]) await addEC(`${n} bytes`, real.slice(0, n));
await addEC('32 bytes, no type', real.slice(1));
await addEC('34 bytes', concat(real, [0]));
await addEC('65 bytes', concat(real, real.slice(1)));
for (const [name, u] of Object.entries(lowOrder)) {
  for (const topBit of [0, 1]) await addEC(`low order: ${name}, top bit ${topBit}`, ecKey(u, topBit));
}
for (let k = 2n; k < 19n; k++) {
  await addEC(`u = ${k}`, ecKey(k));
  await addEC(`u = p + ${k}`, ecKey(P + k));
}

const kyberKeys = [];
async function addKyber(name, key) {
  kyberKeys.push({
    name, key: base64(key), deserializes: kyberDeserializes(key),
    sessionStarts: await bundle({ kyberPreKey: signed(key) }),
  });
}
const kyber = signal.KEMKeyPair.generate().getPublicKey().serialize();
const coefficient = (value) => concat([8, value & 0xff, (kyber[2] & 0xf0) | (value >> 8)], kyber.slice(3));
await addKyber('real', kyber);
await addKyber('coefficient 3328', coefficient(3328));
await addKyber('coefficient 3329', coefficient(3329));
await addKyber('coefficient 4095', coefficient(4095));
await addKyber('other seed', flipBit(kyber, 8 * 1568));
for (const type of [0, 5, 7, 0x0a]) await addKyber(`type ${type}`, concat([type], kyber.slice(1)));
await addKyber('no type', kyber.slice(1));
await addKyber('1568 bytes', kyber.slice(0, 1568));
await addKyber('1570 bytes', concat(kyber, [0]));
await addKyber('empty', new Uint8Array());

// One case a line keeps the file readable in a diff.
const lines = (list) => `[\n${list.map((x) => JSON.stringify(x)).join(',\n')}\n]`;
const fields = { messages, signatures, flips, ecKeys, kyberKeys };
const body = Object.entries(fields).map(([k, v]) => `${JSON.stringify(k)}: ${lines(v)}`).join(',\n');
const file = new URL('../../internal/prekey/testdata/vectors.json', import.meta.url);
writeFileSync(file, `{\n"libsignal": ${JSON.stringify(libsignalVersion)},\n${body}\n}\n`);
for (const [k, v] of Object.entries(fields)) console.log(k, v.length);
console.log('verify', signatures.filter((s) => s.verifies).length,
  'but agree not', signatures.filter((s) => s.verifies && !s.agrees).length);
