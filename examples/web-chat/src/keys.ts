// A device's keys, and what of them goes to the relay. Private halves stay in the browser; all but the identity's are not even readable here.
import { fromBase64, toBase64, type Bytes, type KeyUpload, type NewDevice } from '@obscura-relay/client';
import { concat } from './bytes.js';
import { sign } from './xeddsa.js';

const X25519 = { name: 'X25519' };
const type = Uint8Array.of(0x05); // in front of every public key, as libsignal serialises them
const batch = 40; // the relay asks for more when fewer than 20 are left

/** Kept whole. WebCrypto cannot sign with an X25519 key, so the private half is readable. */
export interface Identity {
  secret: Bytes;
  publicKey: Bytes;
}

export interface PreKey {
  id: number;
  pair: CryptoKeyPair;
}

export interface OwnKeys {
  registrationId: number;
  identity: Identity;
  signed: PreKey;
  nextId: number;
}

export const newPair = async (): Promise<CryptoKeyPair> => (await crypto.subtle.generateKey(X25519, false, ['deriveBits'])) as CryptoKeyPair;

export const rawPublic = async (key: CryptoKey): Promise<Bytes> => new Uint8Array(await crypto.subtle.exportKey('raw', key));

export async function importPublic(raw: Uint8Array): Promise<CryptoKey> {
  return crypto.subtle.importKey('raw', new Uint8Array(raw), X25519, true, []);
}

const base64url = (bytes: Uint8Array): string => toBase64(bytes).replaceAll('+', '-').replaceAll('/', '_').replace(/=+$/, '');

export function importPrivate({ secret, publicKey }: Identity): Promise<CryptoKey> {
  const key = { kty: 'OKP', crv: 'X25519', d: base64url(secret), x: base64url(publicKey) };
  return crypto.subtle.importKey('jwk', key, X25519, false, ['deriveBits']);
}

async function newIdentity(): Promise<Identity> {
  const { privateKey, publicKey } = (await crypto.subtle.generateKey(X25519, true, ['deriveBits'])) as CryptoKeyPair;
  const { d = '' } = await crypto.subtle.exportKey('jwk', privateKey);
  return { secret: fromBase64(d.replaceAll('-', '+').replaceAll('_', '/')), publicKey: await rawPublic(publicKey) };
}

/** As the contract writes public keys. */
export const serialise = (raw: Uint8Array): Bytes => concat(type, raw);

/** The 32 bytes of a public key of the contract. */
export function deserialise(base64: string): Bytes {
  const bytes = fromBase64(base64);
  if (bytes.length !== 33 || bytes[0] !== type[0]) throw new Error('not an X25519 public key');
  return bytes.slice(1);
}

/** All keys of a new device, and the body that registers it. */
export async function newKeys(name: string): Promise<{ own: OwnKeys; oneTime: PreKey[]; body: NewDevice }> {
  const identity = await newIdentity();
  const signed = { id: 1, pair: await newPair() };
  const registrationId = 1 + (crypto.getRandomValues(new Uint16Array(1))[0]! % 16383);
  const own = { registrationId, identity, signed, nextId: 1 };
  const { oneTime, upload } = await moreKeys(own);
  const publicKey = serialise(await rawPublic(signed.pair.publicKey));
  const signature = await sign(identity.secret, publicKey);
  const body = {
    name,
    registrationId,
    identityKey: toBase64(serialise(identity.publicKey)),
    signedPreKey: { keyId: signed.id, publicKey: toBase64(publicKey), signature: toBase64(signature) },
    oneTimePreKeys: upload.oneTimePreKeys,
  };
  return { own, oneTime, body };
}

/** More one-time keys. Their ids are used up even if the upload fails. */
export async function moreKeys(own: OwnKeys): Promise<{ oneTime: PreKey[]; upload: Required<Pick<KeyUpload, 'oneTimePreKeys'>> }> {
  const oneTime: PreKey[] = [];
  const oneTimePreKeys = [];
  for (let i = 0; i < batch; i++) {
    const key = { id: own.nextId++, pair: await newPair() };
    oneTime.push(key);
    oneTimePreKeys.push({ keyId: key.id, publicKey: toBase64(serialise(await rawPublic(key.pair.publicKey))) });
  }
  return { oneTime, upload: { oneTimePreKeys } };
}
