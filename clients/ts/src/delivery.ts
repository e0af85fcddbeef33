// Delivery tokens: whoever shows one need not say who they are.
import type { Bytes } from './bytes.js';

/** What the relay knows of a delivery token. */
export interface ListedDeliveryToken {
  /** SHA-256 of it, 32 bytes. */
  hash: Bytes;
  createdAt: Date;
  /** Undefined when it does not expire. */
  expiresAt: Date | undefined;
}

/**
 * 32 random bytes that a user's client makes and gives to a contact inside an encrypted message: one for all contacts, or one each. Whoever shows
 * it may send to the user's devices, and fetch their list and bundles, without saying who they are. The relay hears of it by `addDeliveryTokens`.
 */
export const newDeliveryToken = (): Bytes => crypto.getRandomValues(new Uint8Array(32));

/** SHA-256 of a delivery token: what the relay knows of it. In a browser it needs a page with TLS, or of localhost. */
export async function deliveryTokenHash(token: Uint8Array): Promise<Bytes> {
  return new Uint8Array(await crypto.subtle.digest('SHA-256', new Uint8Array(token)));
}

export const isDeliveryToken = (token: Uint8Array | undefined): token is Uint8Array => token?.length === 32;
