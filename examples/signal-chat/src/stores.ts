// What libsignal asks a client to remember, kept in memory. A real client keeps these in an encrypted database.
import type { Bytes } from '@obscura-relay/client';
import * as signal from '@signalapp/libsignal-client';
import { Direction, IdentityChange } from '@signalapp/libsignal-client';

export class Sessions extends signal.SessionStore {
  readonly #records = new Map<string, Bytes>();

  override async saveSession(address: signal.ProtocolAddress, record: signal.SessionRecord): Promise<void> {
    this.#records.set(address.toString(), record.serialize());
  }

  override async getSession(address: signal.ProtocolAddress): Promise<signal.SessionRecord | null> {
    const record = this.#records.get(address.toString());
    return record ? signal.SessionRecord.deserialize(record) : null;
  }

  override async getExistingSessions(addresses: signal.ProtocolAddress[]): Promise<signal.SessionRecord[]> {
    const records = await Promise.all(addresses.map((address) => this.getSession(address)));
    return records.map((record, i) => record ?? fail(`no session with ${addresses[i]?.toString()}`));
  }
}

/** Trust on first use: a device's identity key is believed once and may not change afterwards. */
export class Identities extends signal.IdentityKeyStore {
  readonly #known = new Map<string, signal.PublicKey>();

  constructor(
    readonly own: signal.IdentityKeyPair,
    readonly registrationId: number,
  ) {
    super();
  }

  override getIdentityKey = async (): Promise<signal.PrivateKey> => this.own.privateKey;
  override getLocalRegistrationId = async (): Promise<number> => this.registrationId;

  override async saveIdentity(address: signal.ProtocolAddress, key: signal.PublicKey): Promise<IdentityChange> {
    const before = this.#known.get(address.toString());
    this.#known.set(address.toString(), key);
    return before && !before.equals(key) ? IdentityChange.ReplacedExisting : IdentityChange.NewOrUnchanged;
  }

  override async isTrustedIdentity(address: signal.ProtocolAddress, key: signal.PublicKey, _: Direction): Promise<boolean> {
    return this.#known.get(address.toString())?.equals(key) ?? true;
  }

  override async getIdentity(address: signal.ProtocolAddress): Promise<signal.PublicKey | null> {
    return this.#known.get(address.toString()) ?? null;
  }
}

/** A one-time key is gone once a message has used it; `used` remembers the ids, in order. */
export class PreKeys extends signal.PreKeyStore {
  readonly records = new Map<number, signal.PreKeyRecord>();
  readonly used: number[] = [];

  override async savePreKey(id: number, record: signal.PreKeyRecord): Promise<void> {
    this.records.set(id, record);
  }

  override getPreKey = async (id: number): Promise<signal.PreKeyRecord> =>
    this.records.get(id) ?? fail(`one-time pre-key ${id} is unknown or used up`);

  override async removePreKey(id: number): Promise<void> {
    if (this.records.delete(id)) this.used.push(id);
  }
}

export class SignedPreKeys extends signal.SignedPreKeyStore {
  readonly records = new Map<number, signal.SignedPreKeyRecord>();

  override async saveSignedPreKey(id: number, record: signal.SignedPreKeyRecord): Promise<void> {
    this.records.set(id, record);
  }

  override getSignedPreKey = async (id: number): Promise<signal.SignedPreKeyRecord> =>
    this.records.get(id) ?? fail(`signed pre-key ${id} is unknown`);
}

/** Holds the one-time keys and the last-resort key, which stays; the same use of it twice is a replay. */
export class KyberPreKeys extends signal.KyberPreKeyStore {
  readonly records = new Map<number, signal.KyberPreKeyRecord>();
  readonly used: number[] = [];
  lastResortId = -1;
  readonly #lastResortUses = new Set<string>();

  override async saveKyberPreKey(id: number, record: signal.KyberPreKeyRecord): Promise<void> {
    this.records.set(id, record);
  }

  override getKyberPreKey = async (id: number): Promise<signal.KyberPreKeyRecord> =>
    this.records.get(id) ?? fail(`Kyber pre-key ${id} is unknown or used up`);

  override async markKyberPreKeyUsed(id: number, signedPreKeyId: number, baseKey: signal.PublicKey): Promise<void> {
    if (id !== this.lastResortId) {
      if (this.records.delete(id)) this.used.push(id);
      return;
    }
    const use = `${id} ${signedPreKeyId} ${Buffer.from(baseKey.serialize()).toString('hex')}`;
    if (this.#lastResortUses.has(use)) fail('the last-resort Kyber key was used twice with the same base key');
    this.#lastResortUses.add(use);
  }
}

/** Of each sender and each of its groups: what its messages to many are decrypted with. */
export class SenderKeys extends signal.SenderKeyStore {
  readonly #records = new Map<string, Bytes>();

  override async saveSenderKey(sender: signal.ProtocolAddress, group: string, record: signal.SenderKeyRecord): Promise<void> {
    this.#records.set(`${sender.toString()} ${group}`, record.serialize());
  }

  override async getSenderKey(sender: signal.ProtocolAddress, group: string): Promise<signal.SenderKeyRecord | null> {
    const record = this.#records.get(`${sender.toString()} ${group}`);
    return record ? signal.SenderKeyRecord.deserialize(record) : null;
  }
}

function fail(sentence: string): never {
  throw new Error(sentence);
}
