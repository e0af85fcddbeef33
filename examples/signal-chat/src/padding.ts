// The relay sees how long a ciphertext is. Padding hides how long the text was: as in Signal's own clients, the text ends
// with 0x80 and is filled up with zeros to a multiple of 160 bytes.
import type { Bytes } from '@obscura-relay/client';

const block = 160;

export function pad(text: string): Bytes {
  const utf8 = new TextEncoder().encode(text);
  const padded = new Uint8Array(Math.ceil((utf8.length + 1) / block) * block);
  padded.set(utf8);
  padded[utf8.length] = 0x80;
  return padded;
}

export function unpad(padded: Uint8Array): string {
  const end = padded.findLastIndex((byte) => byte !== 0);
  if (padded[end] !== 0x80) throw new Error('the decrypted text is not padded as this example pads');
  return new TextDecoder('utf-8', { fatal: true }).decode(padded.subarray(0, end));
}
