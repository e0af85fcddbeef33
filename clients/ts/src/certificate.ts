// The sender certificate of a session, kept until shortly before it expires.
import type { Bytes } from './bytes.js';

/** Says who a device is, to those who get sealed messages of it. */
export interface SenderCertificate {
  /** For libsignal's `SenderCertificate.deserialize`. */
  certificate: Bytes;
  /** A full hour. What the relay accepts later is refused by its recipient. */
  expiresAt: Date;
}

const hour = 3_600_000;

export class CertificateKeeper {
  #kept: SenderCertificate | undefined;
  #until = 0;
  #fetching: Promise<SenderCertificate> | undefined;

  constructor(private readonly fetch: () => Promise<SenderCertificate>) {}

  /** Everybody who asks meanwhile gets the same answer. */
  get(): Promise<SenderCertificate> {
    if (this.#kept && Date.now() < this.#until) return Promise.resolve(this.#kept);
    if (this.#fetching) return this.#fetching;
    const fetching: Promise<SenderCertificate> = this.fetch()
      .then((fresh) => {
        if (this.#fetching === fetching) this.#keep(fresh);
        return fresh;
      })
      .finally(() => {
        if (this.#fetching === fetching) this.#fetching = undefined;
      });
    return (this.#fetching = fetching);
  }

  /** Forgets it, and one that is on its way: the device may have another identity key. */
  drop(): void {
    this.#kept = this.#fetching = undefined;
  }

  #keep(fresh: SenderCertificate): void {
    let life = fresh.expiresAt.getTime() - Date.now();
    if (life <= 0 || life > 25 * hour) life = 24 * hour; // by a clock that is wrong; no certificate lives shorter
    // Many end in the same second, and not all devices should ask in one.
    this.#until = Date.now() + life - Math.min((2 + 2 * Math.random()) * hour, life / 5);
    this.#kept = fresh;
  }
}
