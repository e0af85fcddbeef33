// A device's keys: the private parts stay in the stores, the public parts go to the relay.
import { toBase64, type Bytes, type KeyInventory, type KeyUpload, type NewDevice } from '@obscura-relay/client';
import * as signal from '@signalapp/libsignal-client';
import { createHash, randomInt } from 'node:crypto';
import { Identities, KyberPreKeys, PreKeys, SenderKeys, Sessions, SignedPreKeys } from './stores.js';

/** As many as the relay's threshold, so that the first bundle handed out already asks for a refill. */
const batch = 20;

export class Keys {
  readonly identities = new Identities(signal.IdentityKeyPair.generate(), randomInt(1, 16384));
  readonly sessions = new Sessions();
  readonly senderKeys = new SenderKeys();
  readonly preKeys = new PreKeys();
  readonly signedPreKeys = new SignedPreKeys();
  readonly kyberPreKeys = new KyberPreKeys();
  #nextPreKeyId = 1;
  #nextKyberId = 1; // libsignal knows Kyber keys by id alone, so the last-resort key counts with the one-time keys

  /** Everything that a new device publishes. */
  async first(): Promise<NewDevice> {
    const pair = signal.PrivateKey.generate();
    const signature = this.#sign(pair.getPublicKey().serialize());
    const signed = signal.SignedPreKeyRecord.new(1, Date.now(), pair.getPublicKey(), pair, signature);
    await this.signedPreKeys.saveSignedPreKey(signed.id(), signed);
    const lastResort = await this.#kyberKey();
    this.kyberPreKeys.lastResortId = lastResort.id();
    return {
      identityKey: toBase64(this.identities.own.publicKey.serialize()),
      registrationId: this.identities.registrationId,
      signedPreKey: publicPart(signed),
      lastResortKyberPreKey: publicPart(lastResort),
      ...(await this.refill()),
    };
  }

  /** New one-time keys of both kinds. */
  async refill(): Promise<Required<Pick<KeyUpload, 'oneTimePreKeys' | 'kyberPreKeys'>>> {
    const oneTimePreKeys = [];
    const kyberPreKeys = [];
    for (let i = 0; i < batch; i++) {
      const pair = signal.PrivateKey.generate();
      const record = signal.PreKeyRecord.new(this.#nextPreKeyId++, pair.getPublicKey(), pair);
      await this.preKeys.savePreKey(record.id(), record);
      oneTimePreKeys.push({ keyId: record.id(), publicKey: toBase64(record.publicKey().serialize()) });
      kyberPreKeys.push(publicPart(await this.#kyberKey()));
    }
    return { oneTimePreKeys, kyberPreKeys };
  }

  /** Whether the relay, by its own account, offers this device's keys and no others. */
  matches(inventory: KeyInventory): boolean {
    const hash = createHash('sha256').update(this.identities.own.publicKey.serialize());
    const add = (record: PublicRecord | undefined): boolean => {
      if (!record) return false;
      const id = Buffer.alloc(4);
      id.writeUInt32BE(record.id());
      hash.update(id).update(record.publicKey().serialize());
      return true;
    };
    const { signedPreKeyId, lastResortKyberPreKeyId, oneTimePreKeyIds, kyberPreKeyIds } = inventory;
    return (
      add(this.signedPreKeys.records.get(signedPreKeyId)) &&
      (lastResortKyberPreKeyId === null || add(this.kyberPreKeys.records.get(lastResortKyberPreKeyId))) &&
      oneTimePreKeyIds.every((id) => add(this.preKeys.records.get(id))) &&
      kyberPreKeyIds.every((id) => add(this.kyberPreKeys.records.get(id))) &&
      hash.digest('base64') === inventory.digest
    );
  }

  async #kyberKey(): Promise<signal.KyberPreKeyRecord> {
    const pair = signal.KEMKeyPair.generate();
    const record = signal.KyberPreKeyRecord.new(this.#nextKyberId++, Date.now(), pair, this.#sign(pair.getPublicKey().serialize()));
    await this.kyberPreKeys.saveKyberPreKey(record.id(), record);
    return record;
  }

  /** The type byte in front of the serialised key is part of what is signed. */
  #sign(serialised: Bytes): Bytes {
    return this.identities.own.privateKey.sign(serialised);
  }
}

interface PublicRecord {
  id(): number;
  publicKey(): { serialize(): Bytes };
}

const publicPart = (record: PublicRecord & { signature(): Bytes }) => ({
  keyId: record.id(),
  publicKey: toBase64(record.publicKey().serialize()),
  signature: toBase64(record.signature()),
});
