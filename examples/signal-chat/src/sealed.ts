// What is too large for a message, or is kept for oneself: encrypted with a key of its own (AES-256-GCM), so that the relay stores bytes.
import type { Bytes } from '@obscura-relay/client';
import { createCipheriv, createDecipheriv, randomBytes } from 'node:crypto';

const nonce = Buffer.alloc(12); // a key encrypts once
const tagLength = 16;

export function seal(content: Uint8Array): { key: string; sealed: Bytes } {
  const key = randomBytes(32);
  const cipher = createCipheriv('aes-256-gcm', key, nonce);
  const sealed = Buffer.concat([cipher.update(content), cipher.final(), cipher.getAuthTag()]);
  return { key: key.toString('base64url'), sealed: new Uint8Array(sealed) };
}

export function unseal(key: string, sealed: Uint8Array): Buffer {
  const decipher = createDecipheriv('aes-256-gcm', Buffer.from(key, 'base64url'), nonce);
  decipher.setAuthTag(sealed.subarray(-tagLength));
  return Buffer.concat([decipher.update(sealed.subarray(0, -tagLength)), decipher.final()]);
}
