// A session's pair of tokens: fresh when it is used, renewed by one caller at a time, stored before it is used.
import { RelayError } from './errors.js';
import type { components } from './gen/openapi.js';
import type { Authority } from './transport.js';

/** What a session is, for the application to store. `deviceId` and `deviceNumber` are there when it acts for a device. */
export type Tokens = components['schemas']['AuthResponse'];

/** Renewed when less is left. In milliseconds. */
const margin = 120_000;

export interface Claims {
  userId: string;
  deviceId: string | undefined;
  /** Milliseconds from issue to expiry. */
  life: number;
}

/** The payload of an access token. It is not verified: only the relay can do that. */
export function claims(token: string): Claims {
  try {
    const payload = atob((token.split('.')[1] ?? '').replaceAll('-', '+').replaceAll('_', '/'));
    const { sub, device_id, iat, exp } = JSON.parse(payload) as Record<string, unknown>;
    if (typeof sub === 'string' && typeof iat === 'number' && typeof exp === 'number') {
      return { userId: sub, deviceId: typeof device_id === 'string' ? device_id : undefined, life: (exp - iat) * 1000 };
    }
  } catch {
    // The same sentence for all that is wrong with it, and nothing of it repeated.
  }
  throw new TypeError('this is not an access token of a relay');
}

export class TokenKeeper implements Authority {
  #pair: Tokens;
  #freshUntil: number;
  #stored = true;
  #renewing: Promise<void> | undefined;
  #ended: RelayError | undefined;
  #turn: Promise<unknown> = Promise.resolve();

  constructor(
    pair: Tokens,
    private readonly refresh: (refreshToken: string) => Promise<Tokens>,
    private readonly store: (pair: Tokens) => unknown,
  ) {
    this.#pair = pair;
    this.#freshUntil = pair.expiresAt * 1000 - margin;
  }

  get pair(): Tokens {
    return this.#pair;
  }

  async token(): Promise<string> {
    if (!this.#stored || Date.now() >= this.#freshUntil) await this.renew(this.#pair.token);
    return this.#pair.token;
  }

  /** Everybody who asks meanwhile gets the same renewal. */
  renew(stale: string): Promise<void> {
    this.#renewing ??= this.#alone(() => this.#renew(stale)).finally(() => (this.#renewing = undefined));
    return this.#renewing;
  }

  /** For a call that ends this pair, and may answer with a new one: no renewal runs beside it. */
  async alone(work: (pair: Tokens) => Promise<Tokens | void>): Promise<void> {
    await this.token();
    await this.#alone(async () => {
      const pair = await work(this.#pair).catch(async (failure: unknown) => {
        if (!(failure instanceof RelayError && failure.status === 401 && failure.code === 'unauthorized')) throw failure;
        await this.#renew(this.#pair.token); // it was fresh by a clock that is wrong
        return work(this.#pair);
      });
      if (pair) await this.#adopt(pair);
    });
  }

  async #renew(stale: string): Promise<void> {
    if (this.#ended) throw this.#ended; // a dead refresh token is not shown again
    if (this.#pair.token === stale && this.#stored) {
      const pair = await this.refresh(this.#pair.refreshToken).catch((failure: unknown) => {
        if (failure instanceof RelayError && failure.status === 401) this.#ended = failure;
        throw failure;
      });
      await this.#adopt(pair);
    } else if (!this.#stored) {
      await this.#adopt(this.#pair);
    }
  }

  /** The new pair is the valid one from now on, whether it can be stored or not; but it is not used before it is. */
  async #adopt(pair: Tokens): Promise<void> {
    if (pair !== this.#pair) {
      // Counted from now by the relay's own two times: a clock that is wrong here must not renew with every call.
      this.#freshUntil = Date.now() + claims(pair.token).life - margin;
      this.#pair = pair;
      this.#stored = false;
    }
    await this.store(pair);
    this.#stored = true;
  }

  #alone<T>(work: () => Promise<T>): Promise<T> {
    const done = this.#turn.then(work, work);
    this.#turn = done.catch(() => {});
    return done;
  }
}
