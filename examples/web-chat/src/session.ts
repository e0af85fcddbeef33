// The encryption between two devices: a key agreement in the manner of X3DH, and then one key per message from a chain of hashes in each direction. It is not
// the Signal Protocol: the README says what it lacks. Functions here change the session that they are given; who calls them stores it afterwards.
import { fromBase64, toBase64, type Bytes, type PreKeyBundle } from '@obscura-relay/client';
import { concat, same, uint32, utf8 } from './bytes.js';
import { deserialise, importPrivate, importPublic, newPair, rawPublic, serialise, type Identity, type OwnKeys } from './keys.js';
import { verify } from './xeddsa.js';

interface Chain {
  key: Bytes;
  /** The number of the next message. */
  next: number;
}

export interface Session {
  /** The initiator's ephemeral public key, in base64. */
  id: string;
  userId: string;
  deviceId: string;
  /** The other side's. */
  identity: Bytes;
  /** What the other side needs to begin, until it has answered. */
  opening: Bytes | undefined;
  send: Chain;
  receive: Chain;
  /** When something was last received, or it was begun: the newest is used for sending. */
  at: number;
}

export interface Party {
  userId: string;
  deviceId: string;
}

/** What the recipient looks up to accept a first message. */
export interface Secrets {
  identity: Identity;
  signed: OwnKeys['signed'];
  oneTime: CryptoKeyPair | undefined;
}

const first = 1; // kinds of message, its first byte
const later = 2;
const noKey = 0xffffffff;
const furthest = 2000; // messages that may be missing in between; a mailbox holds 1000
const block = 160; // sizes of texts are hidden within it

/** Starts a session with a device. Throws when its signed pre-key was not signed by its identity key. */
export async function begin(own: Identity, userId: string, bundle: PreKeyBundle): Promise<Session> {
  const identity = deserialise(bundle.identityKey);
  const signed = deserialise(bundle.signedPreKey.publicKey);
  if (!(await verify(identity, serialise(signed), fromBase64(bundle.signedPreKey.signature)))) throw new Error('a key with a wrong signature');
  const oneTime = bundle.oneTimePreKey ? deserialise(bundle.oneTimePreKey.publicKey) : undefined;
  const [mine, ephemeral] = [await importPrivate(own), await newPair()];
  const shared = [await agree(mine, signed), await agree(ephemeral.privateKey, identity), await agree(ephemeral.privateKey, signed)];
  if (oneTime) shared.push(await agree(ephemeral.privateKey, oneTime));
  const [send, receive] = await chains(shared);
  const raw = await rawPublic(ephemeral.publicKey);
  const opening = concat(own.publicKey, uint32(bundle.signedPreKey.keyId), uint32(bundle.oneTimePreKey?.keyId ?? noKey));
  return { id: toBase64(raw), userId, deviceId: bundle.deviceId, identity, opening, send, receive, at: Date.now() };
}

/** A received message in parts. */
export interface Sealed {
  sessionId: string;
  /** Of a first message: who begins, and with which of the recipient's keys. */
  opening: { identity: Bytes; signedId: number; oneTimeId: number | undefined } | undefined;
  number: number;
  header: Bytes;
  ciphertext: Bytes;
}

export function parse(message: Bytes): Sealed {
  const kind = message[0];
  const length = kind === first ? 77 : 37;
  if ((kind !== first && kind !== later) || message.length < length + 16) throw new Error('not a message of this page');
  const view = new DataView(message.buffer, message.byteOffset);
  const oneTimeId = view.getUint32(length - 4);
  return {
    sessionId: toBase64(message.slice(1, 33)),
    number: view.getUint32(33),
    opening:
      kind === first
        ? { identity: message.slice(37, 69), signedId: view.getUint32(69), oneTimeId: oneTimeId === noKey ? undefined : oneTimeId }
        : undefined,
    header: message.slice(0, length),
    ciphertext: message.slice(length),
  };
}

/** The recipient's side of `begin`. */
export async function accept(own: Secrets, from: Party, sealed: Sealed): Promise<Session> {
  const { opening, sessionId: id } = sealed;
  if (!opening) throw new Error('its session is not known');
  const ephemeral = fromBase64(id);
  const mine = await importPrivate(own.identity);
  const signed = own.signed.pair.privateKey;
  const shared = [await agree(signed, opening.identity), await agree(mine, ephemeral), await agree(signed, ephemeral)];
  if (own.oneTime) shared.push(await agree(own.oneTime.privateKey, ephemeral));
  const [receive, send] = await chains(shared);
  return { ...from, id, identity: opening.identity, opening: undefined, send, receive, at: Date.now() };
}

export async function seal(own: Identity, session: Session, text: string): Promise<Bytes> {
  const { id, opening, send, identity } = session;
  const header = concat(Uint8Array.of(opening ? first : later), fromBase64(id), uint32(send.next), opening ?? new Uint8Array());
  const { key, iv } = await step(send);
  const additionalData = concat(header, own.publicKey, identity);
  return concat(header, new Uint8Array(await crypto.subtle.encrypt({ name: 'AES-GCM', iv, additionalData }, key, pad(text))));
}

/** Undefined for a message that was opened before. Throws, and changes nothing, when it is not from the other side of the session. */
export async function open(own: Identity, session: Session, { number, header, ciphertext }: Sealed): Promise<string | undefined> {
  if (number < session.receive.next) return undefined;
  if (number - session.receive.next > furthest) throw new Error('too many messages are missing');
  const chain = { ...session.receive };
  while (chain.next < number) await step(chain); // their keys are forgotten: what was dropped does not come
  const { key, iv } = await step(chain);
  const additionalData = concat(header, session.identity, own.publicKey);
  const padded = new Uint8Array(await crypto.subtle.decrypt({ name: 'AES-GCM', iv, additionalData }, key, ciphertext));
  session.receive = chain;
  session.opening = undefined; // the other side has answered, so it has the session
  session.at = Date.now();
  return unpad(padded);
}

/** Sixty digits that are equal on both sides when nobody is in between. */
export async function safetyNumber(a: Uint8Array, b: Uint8Array): Promise<string> {
  const [low, high] = [toBase64(a), toBase64(b)].sort();
  const hash = new Uint8Array(await crypto.subtle.digest('SHA-512', utf8(`${low} ${high}`)));
  const view = new DataView(hash.buffer);
  return Array.from({ length: 12 }, (_, i) => String(view.getUint32(4 * i) % 100_000).padStart(5, '0')).join(' ');
}

async function agree(privateKey: CryptoKey, publicKey: Uint8Array): Promise<Bytes> {
  const secret = new Uint8Array(await crypto.subtle.deriveBits({ name: 'X25519', public: await importPublic(publicKey) }, privateKey, 256));
  if (same(secret, new Uint8Array(32))) throw new Error('a public key that no honest device has');
  return secret;
}

/** From the initiator, and to it. */
async function chains(shared: Bytes[]): Promise<[Chain, Chain]> {
  const bits = await hkdf(concat(...shared), 'obscura web-chat session', 64);
  return [
    { key: bits.slice(0, 32), next: 0 },
    { key: bits.slice(32), next: 0 },
  ];
}

/** The key of the next message. The chain goes on, and cannot go back. */
async function step(chain: Chain): Promise<{ key: CryptoKey; iv: Bytes }> {
  const bits = await hkdf(chain.key, 'obscura web-chat message', 32 + 32 + 12);
  chain.key = bits.slice(0, 32);
  chain.next++;
  const key = await crypto.subtle.importKey('raw', bits.slice(32, 64), 'AES-GCM', false, ['encrypt', 'decrypt']);
  return { key, iv: bits.slice(64) };
}

async function hkdf(secret: Bytes, purpose: string, length: number): Promise<Bytes> {
  const key = await crypto.subtle.importKey('raw', secret, 'HKDF', false, ['deriveBits']);
  const bits = await crypto.subtle.deriveBits({ name: 'HKDF', hash: 'SHA-256', salt: new Uint8Array(32), info: utf8(purpose) }, key, 8 * length);
  return new Uint8Array(bits);
}

/** A one bit and zeros, up to the next block. */
function pad(text: string): Bytes {
  const plain = utf8(text);
  const padded = new Uint8Array(Math.ceil((plain.length + 1) / block) * block);
  padded.set(plain);
  padded[plain.length] = 0x80;
  return padded;
}

function unpad(padded: Uint8Array): string {
  const end = padded.lastIndexOf(0x80);
  if (end < 0 || padded.subarray(end + 1).some((byte) => byte !== 0)) throw new Error('a text that is not padded');
  return new TextDecoder().decode(padded.subarray(0, end));
}
