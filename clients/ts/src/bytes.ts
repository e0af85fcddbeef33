// Bytes as the contract writes them: base64 and UUID text in JSON, raw in protobuf.

export type Bytes = Uint8Array<ArrayBuffer>;

/** Standard base64 with padding. */
export function toBase64(bytes: Uint8Array): string {
  let text = '';
  // In parts: an engine takes only so many arguments.
  for (let i = 0; i < bytes.length; i += 8192) text += String.fromCharCode(...bytes.subarray(i, i + 8192));
  return btoa(text);
}

/** Base64 as URLs have it, without padding. */
export const toBase64Url = (bytes: Uint8Array): string => toBase64(bytes).replaceAll('+', '-').replaceAll('/', '_').replaceAll('=', '');

/** Throws when the text is not base64. */
export const fromBase64 = (text: string): Bytes => Uint8Array.from(atob(text), (c) => c.charCodeAt(0));

const uuid = /^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$/i;

/** The 16 bytes of a UUID. Throws when the text is not one. */
export function uuidToBytes(text: string): Bytes {
  if (!uuid.test(text)) throw new TypeError('not a UUID');
  return Uint8Array.from(text.replaceAll('-', '').match(/../g) ?? [], (hex) => parseInt(hex, 16));
}

/** The canonical text of 16 bytes. Throws when there are more or fewer. */
export function uuidFromBytes(bytes: Uint8Array): string {
  if (bytes.length !== 16) throw new TypeError(`a UUID of ${bytes.length} bytes instead of 16`);
  const hex = Array.from(bytes, (b) => b.toString(16).padStart(2, '0')).join('');
  return hex.replace(/^(.{8})(.{4})(.{4})(.{4})(.{12})$/, '$1-$2-$3-$4-$5');
}

/** A random UUID. Unlike crypto.randomUUID it is also there on a page without TLS, as in development. */
export function randomUUID(): string {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  bytes[6] = (bytes[6]! & 0x0f) | 0x40;
  bytes[8] = (bytes[8]! & 0x3f) | 0x80;
  return uuidFromBytes(bytes);
}
