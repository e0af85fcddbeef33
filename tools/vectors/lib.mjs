// What the scripts share: number and byte helpers, and libsignal's verdicts.
import * as signal from '@signalapp/libsignal-client';
import { createHash } from 'node:crypto';
import { createRequire } from 'node:module';

export const P = 2n ** 255n - 19n;
export const L = 2n ** 252n + 27742317777372353535851937790883648493n;

export const libsignalVersion = createRequire(import.meta.url)(
  '@signalapp/libsignal-client/package.json').version;

export const base64 = (b) => Buffer.from(b).toString('base64');
export const unbase64 = (s) => new Uint8Array(Buffer.from(s, 'base64'));
export const concat = (...parts) => new Uint8Array(Buffer.concat(parts.map((p) => Buffer.from(p))));

export function littleEndian(n) {
  const out = new Uint8Array(32);
  for (let i = 0; i < 32; i++, n >>= 8n) out[i] = Number(n & 0xffn);
  return out;
}

export function number(bytes) {
  return bytes.reduceRight((n, b) => (n << 8n) | BigInt(b), 0n);
}

export const sha512Scalar = (...parts) =>
  number(new Uint8Array(createHash('sha512').update(concat(...parts)).digest())) % L;

// ecKey serialises a u-coordinate as it stands, however large, with its top bit.
export function ecKey(u, topBit = 0) {
  const b = littleEndian(u);
  b[31] |= topBit << 7;
  return concat([5], b);
}

export function flipBit(bytes, i) {
  const out = new Uint8Array(bytes);
  out[i >> 3] ^= 1 << (i & 7);
  return out;
}

// attempt turns libsignal's exceptions into a verdict of false.
function attempt(f) {
  try {
    return f() !== false;
  } catch {
    return false;
  }
}

const scratch = signal.PrivateKey.generate();

export const deserializes = (key) => attempt(() => signal.PublicKey.deserialize(key));
export const agrees = (key) => attempt(() => scratch.agree(signal.PublicKey.deserialize(key)));
export const kyberDeserializes = (key) => attempt(() => signal.KEMPublicKey.deserialize(key));
export const verifies = (identity, message, signature) =>
  attempt(() => signal.PublicKey.deserialize(identity).verify(message, signature));

class Sessions extends signal.SessionStore {
  async saveSession() {}
  async getSession() { return null; }
  async getExistingSessions() { return []; }
}

class Identities extends signal.IdentityKeyStore {
  async getIdentityKey() { return scratch; }
  async getLocalRegistrationId() { return 1; }
  async saveIdentity() { return 0; }
  async isTrustedIdentity() { return true; }
  async getIdentity() { return null; }
}

// startsSession says whether libsignal sets up a session with a whole bundle.
export async function startsSession({ identity, preKey, signedPreKey, kyberPreKey }) {
  const address = (n) => signal.ProtocolAddress.new(`00000000-0000-4000-8000-00000000000${n}`, 1);
  try {
    const bundle = signal.PreKeyBundle.new(
      1, 1, preKey ? 1 : null, preKey ? signal.PublicKey.deserialize(preKey) : null,
      1, signal.PublicKey.deserialize(signedPreKey.publicKey), signedPreKey.signature,
      signal.PublicKey.deserialize(identity),
      1, signal.KEMPublicKey.deserialize(kyberPreKey.publicKey), kyberPreKey.signature);
    await signal.processPreKeyBundle(bundle, address(1), address(2), new Sessions(), new Identities());
    return true;
  } catch {
    return false;
  }
}

// readCertificate says what libsignal reads in a sender certificate, and whether it holds it for
// valid until it expires, after that, and under another root.
export function readCertificate(bytes, root) {
  const certificate = signal.SenderCertificate.deserialize(bytes);
  const server = certificate.serverCertificate();
  const key = signal.PublicKey.deserialize(root);
  const expires = certificate.expiration();
  return {
    senderUuid: certificate.senderUuid(), senderE164: certificate.senderE164(),
    device: certificate.senderDeviceId(), expires, identityKey: base64(certificate.key().serialize()),
    serverId: server.keyId(), serverKey: base64(server.key().serialize()),
    server: base64(server.serialize()), signed: base64(certificate.certificate()),
    valid: certificate.validate(key, expires), validLater: certificate.validate(key, expires + 1),
    validElsewhere: certificate.validate(scratch.getPublicKey(), expires),
  };
}
