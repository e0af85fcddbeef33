// The chat without its looks: the account, what was said, and the conversation with the relay.
import { GatewayEnded, newBatch, Relay, RelayError, type Envelope, type Gateway, type GatewayEvent, type GapEvent, type Session as Login, type Tokens } from '@obscura-relay/client';
import { moreKeys, newKeys } from './keys.js';
import { accept, begin, open, parse, safetyNumber, seal, type Session } from './session.js';
import { same } from './bytes.js';
import { drop, put, Store, type Change, type Contact, type Me, type Message, type Outgoing } from './store.js';

export type Status = 'connecting' | 'online' | 'waiting' | 'elsewhere' | 'ended';

export class Chat {
  me: Me | undefined;
  status: Status = 'connecting';
  readonly contacts = new Map<string, Contact>();
  readonly #messages: Message[] = [];
  #sessions: Session[] = [];
  #outbox: Outgoing[] = [];
  #tokens: Tokens | undefined;
  #login: Login | undefined;
  #gateway: Gateway | undefined;
  #turn: Promise<unknown> = Promise.resolve();
  #flushing: Promise<void> | undefined;

  private constructor(
    private readonly store: Store,
    private readonly changed: () => void,
  ) {}

  static async open(profile: string, changed: () => void): Promise<Chat> {
    const store = await Store.open(profile);
    const chat = new Chat(store, changed);
    [chat.me] = await store.all('me');
    [chat.#tokens] = await store.all('tokens');
    chat.#sessions = await store.all('sessions');
    chat.#outbox = await store.all('outbox');
    chat.#messages.push(...(await store.all('messages')));
    for (const contact of await store.all('contacts')) chat.contacts.set(contact.userId, contact);
    return chat;
  }

  async register(relayUrl: string, name: string, password: string): Promise<void> {
    const account = await new Relay(relayUrl).register({ username: name, password });
    const { own, oneTime, body } = await newKeys('web-chat');
    const login = await account.addDevice(body);
    const me = { relayUrl, name, userId: account.userId, keys: own, missingUpTo: 0 };
    await this.store.write(put('me', me), put('tokens', login.tokens), ...oneTime.map((key) => put('oneTime', key)));
    this.#tokens = login.tokens;
    this.me = me;
  }

  /** When the session has ended: as the same device, so that keys and mail stay. */
  async logIn(password: string): Promise<void> {
    const { relayUrl, name } = this.me!;
    const deviceId = this.#tokens!.deviceId!;
    const login = await new Relay(relayUrl).logIn({ username: name, password, deviceId });
    if (!login.deviceId) throw new Error('This device was removed from the account.');
    await this.store.write(put('tokens', login.tokens));
    this.#tokens = login.tokens;
  }

  /** Goes online, and stays until the gateway has ended. */
  async run(): Promise<void> {
    const { me } = this;
    if (!me || !this.#tokens) return;
    const relay = new Relay(me.relayUrl, { onTokens: (tokens) => this.store.write(put('tokens', tokens)) });
    this.#login = relay.resume(this.#tokens);
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

  messages(userId: string): Message[] {
    return this.#messages.filter((message) => message.userId === userId);
  }

  async read(userId: string): Promise<void> {
    const contact = this.contacts.get(userId);
    if (contact?.unread) await this.#apply(put('contacts', { ...contact, unread: 0 }));
  }

  async addContact(userId: string): Promise<void> {
    if (!this.contacts.has(userId)) await this.#apply(put('contacts', { userId, name: `${userId.slice(0, 8)}…`, unread: 0 }));
  }

  /** What to compare with the other person by another way, one for each of their devices. */
  async safetyNumbers(userId: string): Promise<string[]> {
    const { me } = this;
    if (!me) return [];
    const devices = new Map(this.#sessions.filter((s) => s.userId === userId).map((s) => [s.deviceId, s.identity]));
    return Promise.all(Array.from(devices.values(), (identity) => safetyNumber(me.keys.identity.publicKey, identity)));
  }

  /** Encrypts for each device of the user, stores that, and sends it as soon as the relay is there. */
  async write(userId: string, text: string): Promise<void> {
    await this.#alone(async () => {
      const [me, login] = [this.me!, this.#login!];
      let sessions = this.#newest(userId);
      if (sessions.length === 0) {
        for (const bundle of await login.bundles(userId)) sessions.push(await this.#trusted(await begin(me.keys.identity, userId, bundle)));
        if (sessions.length === 0) throw new Error('This user has no device.');
      }
      sessions = sessions.map((session) => structuredClone(session));
      const payload = JSON.stringify({ name: me.name, text });
      const submissions = [];
      for (const session of sessions) submissions.push({ deviceId: session.deviceId, message: await seal(me.keys.identity, session, payload) });
      const message: Message = { n: this.#next(), userId, kind: 'mine', text, at: Date.now(), state: 'sending' };
      const outgoing = { n: message.n, batch: newBatch(...submissions) };
      await this.#apply(...sessions.map((s) => put('sessions', s)), put('messages', message), put('outbox', outgoing));
    });
    void this.#flush();
  }

  /** One at a time, the oldest first. What could not be sent stays until the gateway opens again. */
  #flush(): Promise<void> {
    this.#flushing ??= this.#sendAll().finally(() => (this.#flushing = undefined));
    return this.#flushing;
  }

  async #sendAll(): Promise<void> {
    for (let outgoing = this.#outbox[0]; outgoing; outgoing = this.#outbox[0]) {
      const { n, batch } = outgoing;
      const failed = await this.#login!.send(batch).catch((failure: unknown) => {
        // The relay will not take this batch, now or later. Anything else may pass.
        if (failure instanceof RelayError && [400, 409, 413].includes(failure.status)) return batch.submissions;
        return undefined;
      });
      if (!failed) return;
      const gone = batch.submissions.filter((s) => failed.some((f) => f.submissionId === s.submissionId)).map((s) => s.deviceId);
      const message = this.#messages.find((m) => m.n === n)!;
      await this.#alone(() =>
        this.#apply(
          put('messages', { ...message, state: gone.length < batch.submissions.length ? 'sent' : 'failed' }),
          drop('outbox', { n, batch }),
          ...this.#sessions.filter((s) => gone.includes(s.deviceId)).map((s) => drop('sessions', s)), // the next message looks for devices again
        ),
      );
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
  async #take(envelope: Envelope): Promise<void> {
    const { id: envelopeId, senderId: userId, senderDeviceId: deviceId } = envelope;
    if (this.#messages.some((m) => m.envelopeId === envelopeId)) return;
    const known = this.contacts.get(userId) ?? { userId, name: `${userId.slice(0, 8)}…`, unread: 0 };
    try {
      const { keys } = this.me!;
      const sealed = parse(envelope.message);
      const changes: Change[] = [];
      let session = structuredClone(this.#sessions.find((s) => s.deviceId === deviceId && s.id === sealed.sessionId));
      if (!session) {
        const wanted = sealed.opening?.oneTimeId;
        const oneTime = wanted === undefined ? undefined : (await this.store.all('oneTime')).find((key) => key.id === wanted);
        if (wanted !== undefined && !oneTime) throw new Error('a one-time key that was used before');
        if (sealed.opening?.signedId !== keys.signed.id) throw new Error('a signed pre-key that is not known');
        session = await this.#trusted(await accept({ ...keys, oneTime: oneTime?.pair }, { userId, deviceId }, sealed));
        if (oneTime) changes.push(drop('oneTime', oneTime));
      }
      const payload = await open(keys.identity, session, sealed);
      if (payload === undefined) return;
      const { name, text } = JSON.parse(payload) as { name: string; text: string };
      const at = envelope.acceptedAt.getTime();
      const contact = { userId, name: String(name).slice(0, 50), unread: known.unread + 1 };
      const message: Message = { n: this.#next(), userId, kind: 'theirs', text: String(text), at, envelopeId };
      await this.#apply(...changes, put('sessions', session), put('contacts', contact), put('messages', message));
    } catch (failure) {
      if (failure instanceof DOMException && failure.name !== 'OperationError') throw failure; // the browser's storage, not the message
      const text = `A message could not be read: ${failure instanceof Error && failure.message ? failure.message : 'it was changed on the way'}.`;
      await this.#apply(put('contacts', known), put('messages', { ...this.#notice(userId, text), envelopeId }));
    }
  }

  /** A gap comes again until something newer is acknowledged, and nobody knows whose messages it was. */
  async #missing({ from, to, reason }: GapEvent): Promise<void> {
    const me = this.me!;
    const count = to - Math.max(from - 1, me.missingUpTo);
    if (count <= 0) return;
    await this.#apply(put('me', { ...me, missingUpTo: to }));
    const text = `The relay dropped ${count === 1 ? 'a message' : `${count} messages`} to you (${reason}).`;
    for (const { userId } of this.contacts.values()) await this.#apply(put('messages', this.#notice(userId, text)));
  }

  /** A device is believed the first time, and may not change its identity afterwards. */
  async #trusted(session: Session): Promise<Session> {
    const before = this.#sessions.find((s) => s.deviceId === session.deviceId);
    if (before && !same(before.identity, session.identity)) throw new Error('the safety number has changed');
    return session;
  }

  async #refill(): Promise<void> {
    const keys = { ...this.me!.keys };
    const { oneTime, upload } = await moreKeys(keys);
    await this.#apply(put('me', { ...this.me!, keys }), ...oneTime.map((key) => put('oneTime', key)));
    await this.#login!.uploadKeys(upload).catch(() => {}); // the relay asks again when the gateway opens
  }

  /** The session to send with, for each device of a user. */
  #newest(userId: string): Session[] {
    const byDevice = new Map<string, Session>();
    for (const session of this.#sessions) {
      if (session.userId === userId && session.at >= (byDevice.get(session.deviceId)?.at ?? 0)) byDevice.set(session.deviceId, session);
    }
    return [...byDevice.values()];
  }

  #notice = (userId: string, text: string): Message => ({ n: this.#next(), userId, kind: 'notice', text, at: Date.now() });

  #next = (): number => (this.#messages.at(-1)?.n ?? 0) + 1;

  /** On the disk first, then in memory, then on the screen. */
  async #apply(...changes: Change[]): Promise<void> {
    await this.store.write(...changes);
    for (const change of changes) this.#mirror(change);
    this.changed();
  }

  #mirror(change: Change): void {
    if ('put' in change) {
      if (change.put === 'me') this.me = change.value;
      if (change.put === 'contacts') this.contacts.set(change.value.userId, change.value);
      if (change.put === 'messages') replace(this.#messages, change.value, (m) => m.n === change.value.n);
      if (change.put === 'outbox') this.#outbox.push(change.value);
      if (change.put === 'sessions') replace(this.#sessions, change.value, sameSession(change.value));
    } else {
      if (change.drop === 'outbox') this.#outbox = this.#outbox.filter((o) => o.n !== change.value.n);
      if (change.drop === 'sessions') this.#sessions = this.#sessions.filter((s) => !sameSession(change.value)(s));
    }
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

const sameSession = (a: Session) => (b: Session) => a.deviceId === b.deviceId && a.id === b.id;

function replace<T>(list: T[], value: T, which: (item: T) => boolean): void {
  const at = list.findIndex(which);
  if (at < 0) list.push(value);
  else list[at] = value;
}
