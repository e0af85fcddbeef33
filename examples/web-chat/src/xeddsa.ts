// XEdDSA: signatures by an X25519 key, as https://signal.org/docs/specifications/xeddsa/ describes them. WebCrypto has none, so the arithmetic is noble's.
import type { Bytes } from '@obscura-relay/client';
import { ed25519 } from '@noble/curves/ed25519.js';
import { concat, same } from './bytes.js';

const { Point } = ed25519;
const { Fp } = Point;
const order = Point.Fn.ORDER;

const fromLittle = (bytes: Uint8Array): bigint => bytes.reduceRight((sum, byte) => (sum << 8n) | BigInt(byte), 0n);
const toLittle = (value: bigint): Bytes => Uint8Array.from({ length: 32 }, (_, i) => Number((value >> BigInt(8 * i)) & 0xffn));
const sha512 = async (...parts: Uint8Array[]): Promise<bigint> => fromLittle(new Uint8Array(await crypto.subtle.digest('SHA-512', concat(...parts)))) % order;

function clamp(secret: Uint8Array): bigint {
  const k = secret.slice();
  k[0]! &= 0xf8;
  k[31]! = (k[31]! & 0x7f) | 0x40;
  return fromLittle(k);
}

/** Signs with the 32 bytes of an X25519 private key. */
export async function sign(secret: Uint8Array, message: Uint8Array): Promise<Bytes> {
  const k = clamp(secret) % order;
  const encoded = Point.BASE.multiply(k).toBytes();
  const negative = (encoded[31]! & 0x80) !== 0; // of the two points that the public key may stand for, the one whose sign bit is 0
  const a = negative ? order - k : k;
  encoded[31]! &= 0x7f;
  const prefix = new Uint8Array(32).fill(0xff);
  prefix[0] = 0xfe;
  const r = await sha512(prefix, toLittle(a), message, crypto.getRandomValues(new Uint8Array(64)));
  const commitment = Point.BASE.multiply(r).toBytes();
  const h = await sha512(commitment, encoded, message);
  return concat(commitment, toLittle((r + h * a) % order));
}

/** Verifies by the 32 bytes of an X25519 public key, as libsignal and the relay do. */
export async function verify(publicKey: Uint8Array, message: Uint8Array, signature: Uint8Array): Promise<boolean> {
  if (publicKey.length !== 32 || signature.length !== 64) return false;
  const s = signature.slice(32);
  const sign = s[31]! & 0x80;
  s[31]! &= 0x7f;
  if ((s[31]! & 0xe0) !== 0) return false;
  const u = Fp.create(fromLittle(publicKey) & ((1n << 255n) - 1n));
  if (u === Fp.ORDER - 1n) return false; // stands for no point
  const encoded = toLittle(Fp.div(Fp.sub(u, 1n), Fp.add(u, 1n)));
  encoded[31]! |= sign;
  try {
    const commitment = signature.slice(0, 32);
    const h = await sha512(commitment, encoded, message);
    const left = Point.BASE.multiplyUnsafe(fromLittle(s) % order);
    return same(left.subtract(Point.fromBytes(encoded).multiplyUnsafe(h)).toBytes(), commitment);
  } catch {
    return false; // not on the curve
  }
}
