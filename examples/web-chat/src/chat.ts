// The chat without its looks: the account, and the conversation with the relay.
import {
  GatewayEnded,
  newBatch,
  Relay,
  RelayError,
  type Envelope,
  type GapEvent,
  type Gateway,
  type GatewayEvent,
  type Session as Login,
  type Tokens,
} from '@obscura-relay/client';
import { same } from './bytes.js';
import { largest, openFile, sealFile, sharedFile, type SharedFile } from './files.js';
import { moreKeys, newKeys } from './keys.js';
import { Memory } from './memory.js';
import { accept, begin, open, parse, safetyNumber, seal, type Session } from './session.js';
import { drop, put, type Change, type Contact, type Me, type Message } from './store.js';

export type Status = 'connecting' | 'online' | 'waiting' | 'elsewhere' | 'ended';

export class Chat {
  status: Status = 'connecting';
  #login: Login | undefined;
  #gateway: Gateway | undefined;
  #turn: Promise<unknown> = Promise.resolve();
  #flushing: Promise<void> | undefined;

  private constructor(
    private readonly memory: Memory,
    private tokens: Tokens | undefined,
    private readonly changed: () => void,
  ) {}

  static async open(profile: string, changed: () => void): Promise<Chat> {
    const memory = await Memory.open(profile, changed);
    const [tokens] = await memory.store.all('tokens');
    return new Chat(memory, tokens, changed);
  }

  get me(): Me | undefined {
    return this.memory.me;
  }

  get contacts(): Contact[] {
    return [...this.memory.contacts.values()];
  }

  messages(userId: string): Message[] {
    return this.memory.messages.filter((message) => message.userId === userId);
  }

  async register(relayUrl: string, name: string, password: string): Promise<void> {
    const account = await new Relay(relayUrl).register({ username: name, password });
    const { own, oneTime, body } = await newKeys('web-chat');
    const { tokens } = await account.addDevice(body);
    const me = { relayUrl, name, userId: account.userId, keys: own, missingUpTo: 0 };
    await this.memory.apply(put('me', me), put('tokens', tokens), ...oneTime.map((key) => put('oneTime', key)));
    this.tokens = tokens;
  }

  /** When the session has ended: as the same device, so that keys and mail stay. */
  async logIn(password: string): Promise<void> {
    const { relayUrl, name } = this.me!;
    const { deviceId, tokens } = await new Relay(relayUrl).logIn({ username: name, password, deviceId: this.tokens!.deviceId! });
    if (!deviceId) throw new Error('This device was removed from the account.');
    await this.memory.apply(put('tokens', tokens));
    this.tokens = tokens;
  }

  /** Goes online, and stays until the gateway has ended. */
  async run(): Promise<void> {
    if (!this.me || !this.tokens) return;
    const relay = new Relay(this.me.relayUrl, { onTokens: (tokens) => this.memory.store.write(put('tokens', tokens)) });
    this.#login = relay.resume(this.tokens);
    this.#gateway = this.#login.connect({
      onStatus: ({ state }) => {
        this.#become(state === 'open' ? 'online' : 'waiting');
        if (state === 'open') void this.#flush();
      },
    });
    try {
      for await (const event of this.#gateway) await this.#alone(() => this.#receive(event));
    } catch (failure) {
      if (failure instanceof GatewayEnded && failure.reason === 'displaced') return this.#become('elsewhere');
      if (failure instanceof GatewayEnded || failure instanceof RelayError) return this.#become('ended');
      throw failure;
    }
  }

  /** For a page that hears that there is a network again. */
  reconnect(): void {
    this.#gateway?.reconnect();
  }

  async read(userId: string): Promise<void> {
    if (this.memory.contact(userId).unread > 0) await this.memory.apply(put('contacts', { ...this.memory.contact(userId), unread: 0 }));
  }

  async addContact(userId: string): Promise<void> {
    await this.memory.apply(put('contacts', this.memory.contact(userId)));
  }

  /** What to compare with the other person by another way, one for each of their devices. */
  async safetyNumbers(userId: string): Promise<string[]> {
    const mine = this.me!.keys.identity.publicKey;
    return Promise.all(this.memory.newest(userId).map(({ identity }) => safetyNumber(mine, identity)));
  }

  /** Encrypts a file and leaves it with the relay, for a message to name it. Needs the relay. */
  async upload(file: File): Promise<SharedFile> {
    if (file.size > largest) throw new Error('This file is too large.');
    const { key, ciphertext } = await sealFile(new Uint8Array(await file.arrayBuffer()));
    const { id } = await this.#login!.uploadAttachment(ciphertext);
    return { id, key, name: file.name, size: file.size };
  }

  async download(file: SharedFile): Promise<Blob> {
    const gone = (failure: unknown) => {
      throw failure instanceof RelayError && failure.status === 404 ? new Error('The relay keeps files for 30 days.') : failure;
    };
    return new Blob([await openFile(file, await this.#login!.downloadAttachment(file.id).catch(gone))]);
  }

  /** Encrypts for each device of the user, stores that, and sends it as soon as the relay is there. */
  async write(userId: string, text: string, file?: SharedFile): Promise<void> {
    await this.#alone(async () => {
      const { name, keys } = this.me!;
      const sessions = this.memory.newest(userId);
      if (sessions.length === 0) {
        for (const bundle of await this.#login!.bundles(userId)) sessions.push(this.#trusted(await begin(keys.identity, userId, bundle)));
        if (sessions.length === 0) throw new Error('This user has no device.');
      }
      const payload = JSON.stringify({ name, text, file });
      const submissions = [];
      for (const session of sessions) submissions.push({ deviceId: session.deviceId, message: await seal(keys.identity, session, payload) });
      const message: Message = { ...this.memory.message(userId, 'mine', text), file, state: 'sending' };
      const outgoing = { n: message.n, batch: newBatch(...submissions) };
      await this.memory.apply(...sessions.map((s) => put('sessions', s)), put('messages', message), put('outbox', outgoing));
    });
    void this.#flush();
  }

  /** One at a time, the oldest first. What could not be sent stays until the gateway opens again. */
  #flush(): Promise<void> {
    this.#flushing ??= this.#sendAll().finally(() => (this.#flushing = undefined));
    return this.#flushing;
  }

  async #sendAll(): Promise<void> {
    const { memory } = this;
    for (let outgoing = memory.outbox[0]; outgoing; outgoing = memory.outbox[0]) {
      const { n, batch } = outgoing;
      const failed = await this.#login!.send(batch).catch((failure: unknown) => {
        // The relay will not take this batch, now or later. Anything else may pass.
        if (failure instanceof RelayError && [400, 409, 413].includes(failure.status)) return batch.submissions;
        return undefined;
      });
      if (!failed) return;
      const gone = batch.submissions.filter((s) => failed.some((f) => f.submissionId === s.submissionId)).map((s) => s.deviceId);
      const message = memory.messages.find((m) => m.n === n)!;
      const state = gone.length < batch.submissions.length ? 'sent' : 'failed';
      await this.#alone(() => {
        const ended = memory.sessions.filter((s) => gone.includes(s.deviceId)); // the next message looks for devices again
        return memory.apply(put('messages', { ...message, state }), drop('outbox', { n, batch }), ...ended.map((s) => drop('sessions', s)));
      });
    }
  }

  async #receive(event: GatewayEvent): Promise<void> {
    switch (event.kind) {
      case 'envelope':
        await this.#take(event.envelope);
        this.#gateway!.acknowledge(event.envelope.id);
        break;
      case 'gap':
        await this.#missing(event);
        break;
      case 'preKeyStatus':
        if (event.oneTime < event.threshold) await this.#refill();
        break;
      case 'drained':
        break;
    }
  }

  /** Opens an envelope and stores what came of it, together: what was acknowledged is neither lost nor shown twice. */
  async #take({ id: envelopeId, senderId: userId, senderDeviceId: deviceId, acceptedAt, message: bytes }: Envelope): Promise<void> {
    const { memory } = this;
    if (memory.messages.some((m) => m.envelopeId === envelopeId)) return;
    const contact = memory.contact(userId);
    try {
      const sealed = parse(bytes);
      const known = memory.session(deviceId, sealed.sessionId);
      const { session, changes } = known ? { session: known, changes: [] } : await this.#accept({ userId, deviceId }, sealed);
      const payload = await open(this.me!.keys.identity, session, sealed);
      if (payload === undefined) return;
      const { name, text, file } = JSON.parse(payload) as Record<string, unknown>;
      const message = { ...memory.message(userId, 'theirs', String(text)), file: sharedFile(file), at: acceptedAt.getTime(), envelopeId };
      const named = { ...contact, name: String(name).slice(0, 50), unread: contact.unread + 1 };
      await memory.apply(...changes, put('sessions', session), put('contacts', named), put('messages', message));
    } catch (failure) {
      if (failure instanceof DOMException && failure.name !== 'OperationError') throw failure; // the browser's storage, not the message
      const reason = failure instanceof Error && failure.message ? failure.message : 'it was changed on the way';
      const notice = { ...memory.message(userId, 'notice', `A message could not be read: ${reason}.`), envelopeId };
      await memory.apply(put('contacts', contact), put('messages', notice));
    }
  }

  /** The session of a first message. Its one-time key goes when the message was opened. */
  async #accept(from: { userId: string; deviceId: string }, sealed: ReturnType<typeof parse>): Promise<{ session: Session; changes: Change[] }> {
    const { keys } = this.me!;
    const wanted = sealed.opening?.oneTimeId;
    const oneTime = wanted === undefined ? undefined : (await this.memory.store.all('oneTime')).find((key) => key.id === wanted);
    if (wanted !== undefined && !oneTime) throw new Error('its one-time key was used before');
    if (sealed.opening && sealed.opening.signedId !== keys.signed.id) throw new Error('its signed pre-key is not known');
    const session = this.#trusted(await accept({ ...keys, oneTime: oneTime?.pair }, from, sealed));
    return { session, changes: oneTime ? [drop('oneTime', oneTime)] : [] };
  }

  /** A device is believed the first time, and may not change its identity afterwards. */
  #trusted(session: Session): Session {
    const before = this.memory.sessions.find((s) => s.deviceId === session.deviceId);
    if (before && !same(before.identity, session.identity)) throw new Error('the safety number has changed');
    return session;
  }

  /** A gap comes again until something newer is acknowledged, and nobody knows whose messages it was. */
  async #missing({ from, to, reason }: GapEvent): Promise<void> {
    const me = this.me!;
    const count = to - Math.max(from - 1, me.missingUpTo);
    if (count <= 0) return;
    await this.memory.apply(put('me', { ...me, missingUpTo: to }));
    const text = `The relay dropped ${count === 1 ? 'a message' : `${count} messages`} to you (${reason}).`;
    for (const { userId } of this.contacts) await this.memory.apply(put('messages', this.memory.message(userId, 'notice', text)));
  }

  async #refill(): Promise<void> {
    const keys = { ...this.me!.keys };
    const { oneTime, upload } = await moreKeys(keys);
    await this.memory.apply(put('me', { ...this.me!, keys }), ...oneTime.map((key) => put('oneTime', key)));
    await this.#login!.uploadKeys(upload).catch(() => {}); // the relay asks again when the gateway opens
  }

  #become(status: Status): void {
    this.status = status;
    this.changed();
  }

  /** Sessions change with every message, so messages are sealed and opened one after the other. */
  #alone<T>(work: () => Promise<T>): Promise<T> {
    const done = this.#turn.then(work, work);
    this.#turn = done.catch(() => {});
    return done;
  }
}
