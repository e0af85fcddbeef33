// One device: its keys and sessions, its token, its gateway, and the devices of others that it knows.
import {
  newBatch,
  type Bytes,
  type Envelope,
  type Gateway,
  type GatewayEvent,
  type PreKeyBundle,
  type Relay,
  type Session,
} from '@obscura-relay/client';
import { PublicKey, SenderCertificate } from '@signalapp/libsignal-client';
import { randomUUID } from 'node:crypto';
import { Keys } from './keys.js';
import { seal, unseal } from './sealed.js';
import { Cipher, type Kind } from './signal.js';
import { Unnamed, type Writer } from './unnamed.js';
import { within } from './wait.js';

export interface Sent {
  toDeviceId: string;
  text: string;
  kind: Kind;
  message: Bytes; // exactly what the relay was given
}

export interface Received {
  envelope: Envelope;
  text: string;
  kind: Kind;
  /** Of a sealed message: whom the certificate inside it names. */
  from?: Writer;
}

/** The one-time keys in one fetched bundle. `session`: they were needed, there was no session yet. */
export interface Handout {
  deviceId: string;
  deviceNumber: number;
  preKeyId: number | null;
  kyberPreKeyId: number | null;
  session: boolean;
}

export interface Backlog {
  messages: Received[];
  upTo: number;
  preKeys: { oneTime: number; kyber: number; threshold: number };
}

export class Device {
  /** Envelopes that came a second time: at least once means that this may happen. */
  redelivered = 0;
  readonly #cipher: Cipher;
  readonly #seen = new Set<string>();
  readonly #peers = new Map<string, Map<string, number>>(); // user id to device id to device number
  #gateway: Gateway | undefined;
  #unnamed: Unnamed | undefined;

  private constructor(
    readonly owner: string,
    readonly name: string,
    readonly deviceId: string,
    readonly deviceNumber: number,
    readonly keys: Keys,
    readonly session: Session,
  ) {
    this.#cipher = new Cipher({ deviceId, deviceNumber }, keys);
  }

  static async add(owner: string, name: string, account: Session): Promise<Device> {
    const keys = new Keys();
    const session = await account.addDevice({ name, ...(await keys.first()) });
    const { deviceId, deviceNumber } = session;
    if (!deviceId || !deviceNumber) throw new Error('the relay registered a device and did not say its id and number');
    return new Device(owner, name, deviceId, deviceNumber, keys, session);
  }

  /** Gets what a sealed message needs: a certificate, and the key that the certificates of others descend from. */
  async certify(relay: Relay): Promise<Unnamed> {
    const certificate = SenderCertificate.deserialize((await this.session.senderCertificate()).certificate);
    const { deviceId, deviceNumber } = this;
    this.#unnamed = new Unnamed({ deviceId, deviceNumber }, this.keys, certificate, PublicKey.deserialize(await relay.trustRoot()));
    return this.#unnamed;
  }

  /** Starts a session with a device whose bundle somebody has fetched. */
  async meetOne(bundle: PreKeyBundle): Promise<void> {
    await this.#cipher.meet(bundle);
  }

  /** Fetches a user's bundles and starts a session with each device that there is none with yet. */
  async meet(userId: string): Promise<Handout[]> {
    const handouts: Handout[] = [];
    for (const bundle of await this.session.bundles(userId)) {
      const { deviceId, deviceNumber } = bundle;
      const session = !(await this.#cipher.knows({ deviceId, deviceNumber }));
      if (session) await this.#cipher.meet(bundle);
      this.#remember(userId, deviceId, deviceNumber);
      const [preKeyId, kyberPreKeyId] = [bundle.oneTimePreKey?.keyId ?? null, bundle.kyberPreKey?.keyId ?? null];
      handouts.push({ deviceId, deviceNumber, preKeyId, kyberPreKeyId, session });
    }
    return handouts;
  }

  /** One ciphertext for each of the user's devices, in one batch. */
  async write(userId: string, text: string): Promise<Sent[]> {
    const sent: Sent[] = [];
    for (const [deviceId, deviceNumber] of this.#peers.get(userId) ?? []) {
      const ciphertext = await this.#cipher.encrypt({ deviceId, deviceNumber }, text);
      sent.push({ toDeviceId: deviceId, text, ...ciphertext });
    }
    if (sent.length === 0) throw new Error(`${this} knows no device of ${userId}`);
    const submissionId = randomUUID(); // one text, so one id, for however many devices
    const batch = newBatch(...sent.map(({ toDeviceId, message }) => ({ submissionId, deviceId: toDeviceId, message })));
    const failures = await this.session.send(batch);
    if (failures.length > 0) throw new Error(`the relay refused a message: ${failures.map((f) => f.reason).join(', ')}`);
    return sent;
  }

  /** Opens the gateway and reads all that waited there. */
  async comeOnline(): Promise<Backlog> {
    this.#gateway = this.session.connect();
    const messages: Received[] = [];
    let upTo: number | undefined;
    let preKeys: Backlog['preKeys'] | undefined;
    while (upTo === undefined || !preKeys) {
      const event = await this.#next('the end of the backlog');
      if (event.kind === 'drained') upTo = event.sequence;
      else if (event.kind === 'preKeyStatus') preKeys = event;
      else messages.push(...(await this.#open(event)));
    }
    return { messages, upTo, preKeys };
  }

  /** Waits for the next message. */
  async read(): Promise<Received> {
    for (;;) {
      const [message] = await this.#open(await this.#next(`a message to ${this}`));
      if (message) return message;
    }
  }

  async refill(): Promise<void> {
    await this.session.uploadKeys(await this.keys.refill());
  }

  /** Leaves a file with the relay. What comes back goes into a message: where it is, and its key. */
  async share(content: Uint8Array): Promise<string> {
    const { key, sealed } = seal(content);
    return `attachment ${(await this.session.uploadAttachment(sealed)).id} ${key}`;
  }

  async fetch(shared: string): Promise<Buffer> {
    const [, id = '', key = ''] = shared.split(' ');
    return unseal(key, await this.session.downloadAttachment(id));
  }

  /** Replaces the device's backup and reads it back. The key is what its owner writes down. */
  async backUp(content: Uint8Array): Promise<{ version: string; restored: Buffer }> {
    const { key, sealed } = seal(content);
    const version = await this.session.storeBackup(sealed, await this.session.backupVersion());
    const stored = await this.session.backup();
    if (stored?.version !== version) throw new Error(`the backup of ${this} is another one`);
    return { version, restored: unseal(key, stored.content) };
  }

  get unnamed(): Unnamed {
    if (!this.#unnamed) throw new Error(`${this} has no certificate`);
    return this.#unnamed;
  }

  async goAway(): Promise<void> {
    await this.#gateway?.close();
    this.#gateway = undefined;
  }

  /** Leaves nothing open that would keep the process alive. */
  abort(): void {
    void this.#gateway?.close();
  }

  toString(): string {
    return `${this.owner}'s ${this.name}`;
  }

  async #next(what: string): Promise<GatewayEvent> {
    if (!this.#gateway) throw new Error(`${this} is not online`);
    const { value } = await within(this.#gateway.next(), what);
    if (!value) throw new Error(`the gateway was closed before ${what}`);
    return value;
  }

  /** Decrypts first and acknowledges then: what was not understood stays with the relay. */
  async #open(event: GatewayEvent): Promise<Received[]> {
    if (event.kind === 'gap') throw new Error(`the relay dropped ${event.from} to ${event.to} (${event.reason})`);
    if (event.kind !== 'envelope') return [];
    const { envelope } = event;
    const { id, senderId, senderDeviceId, senderDeviceNumber, message } = envelope;
    const messages: Received[] = [];
    if (this.#seen.has(id)) {
      this.redelivered++;
    } else {
      const sender = { deviceId: senderDeviceId, deviceNumber: senderDeviceNumber };
      const opening = senderId ? this.#cipher.decrypt(sender, message) : this.#openUnnamed(envelope);
      const opened = await opening.catch((failure: Error) => {
        throw new Error(`${this} could not read message ${envelope.sequence}: ${failure.message}`);
      });
      this.#seen.add(id);
      if (senderId) this.#remember(senderId, senderDeviceId, senderDeviceNumber); // hence an answer needs no bundle
      messages.push({ envelope, ...opened });
    }
    this.#gateway?.acknowledge(id);
    return messages;
  }

  async #openUnnamed(envelope: Envelope): Promise<{ from: Writer; kind: Kind; text: string }> {
    return this.unnamed.open(envelope);
  }

  #remember(userId: string, deviceId: string, deviceNumber: number): void {
    const devices = this.#peers.get(userId) ?? new Map<string, number>();
    this.#peers.set(userId, devices.set(deviceId, deviceNumber));
  }
}
