// The relay carries bytes and nothing else, so the kind of ciphertext travels inside: one byte in front, of this example's own.
import type { Bytes } from '@obscura-relay/client';

export function wrap(type: number, ciphertext: Uint8Array): Bytes {
  return new Uint8Array([type, ...ciphertext]);
}

export function unwrap(message: Bytes): { type: number; ciphertext: Bytes } {
  const type = message[0];
  if (type === undefined) throw new Error('an empty message: the byte that names its kind is missing');
  return { type, ciphertext: message.slice(1) };
}
