// Files: each is encrypted as a whole, with a key of its own. The relay keeps the ciphertext for 30 days, and the message carries the key.
import { fromBase64, toBase64, type Bytes } from '@obscura-relay/client';

export interface SharedFile {
  /** Of the attachment. */
  id: string;
  /** 32 bytes in base64. */
  key: string;
  name: string;
  size: number;
}

const AES = 'AES-GCM';
const nonce = new Uint8Array(12); // a key encrypts one file
const block = 64 * 1024; // sizes of files are hidden within it
export const largest = 49 * 1024 * 1024;

export async function sealFile(content: Bytes): Promise<{ key: string; ciphertext: Bytes }> {
  const key = crypto.getRandomValues(new Uint8Array(32));
  const padded = new Uint8Array(Math.max(1, Math.ceil(content.length / block)) * block);
  padded.set(content);
  return { key: toBase64(key), ciphertext: new Uint8Array(await crypto.subtle.encrypt({ name: AES, iv: nonce }, await secret(key), padded)) };
}

/** Throws when the ciphertext is not what the sender made. */
export async function openFile({ key, size }: SharedFile, ciphertext: Bytes): Promise<Bytes> {
  const padded = await crypto.subtle.decrypt({ name: AES, iv: nonce }, await secret(fromBase64(key)), ciphertext);
  return new Uint8Array(padded, 0, Math.min(size, padded.byteLength));
}

const secret = (key: Bytes) => crypto.subtle.importKey('raw', key, AES, false, ['encrypt', 'decrypt']);

/** What a message says about a file, if it does: it comes from somebody else, so it is looked at. */
export function sharedFile(value: unknown): SharedFile | undefined {
  const { id, key, name, size } = (value ?? {}) as Record<keyof SharedFile, unknown>;
  if (typeof id !== 'string' || typeof key !== 'string' || typeof name !== 'string' || typeof size !== 'number') return undefined;
  return { id, key, name: name.slice(0, 100), size };
}
