// What the page works with: the store's content, changed on the disk first, then here, then on the screen.
import type { Session } from './session.js';
import { Store, type Change, type Contact, type Kept, type Me, type Message, type Outgoing } from './store.js';

export class Memory {
  me: Me | undefined;
  readonly contacts = new Map<string, Contact>();
  readonly messages: Message[] = [];
  sessions: Session[] = [];
  outbox: Outgoing[] = [];

  private constructor(
    readonly store: Store,
    private readonly changed: () => void,
  ) {}

  static async open(profile: string, changed: () => void): Promise<Memory> {
    const store = await Store.open(profile);
    const memory = new Memory(store, changed);
    [memory.me] = await store.all('me');
    memory.sessions = await store.all('sessions');
    memory.outbox = await store.all('outbox');
    memory.messages.push(...(await store.all('messages')));
    for (const contact of await store.all('contacts')) memory.contacts.set(contact.userId, contact);
    return memory;
  }

  async apply(...changes: Change[]): Promise<void> {
    await this.store.write(...changes);
    for (const change of changes) {
      if ('put' in change) this.#put(change.put, change.value);
      else this.#drop(change.drop, change.value);
    }
    this.changed();
  }

  contact(userId: string): Contact {
    return this.contacts.get(userId) ?? { userId, name: `${userId.slice(0, 8)}…`, unread: 0 };
  }

  /** A new message after all others. */
  message(userId: string, kind: Message['kind'], text: string): Message {
    return { n: (this.messages.at(-1)?.n ?? 0) + 1, userId, kind, text, at: Date.now() };
  }

  /** A copy of it, to be changed and put. */
  session(deviceId: string, id: string): Session | undefined {
    return structuredClone(this.sessions.find((s) => s.deviceId === deviceId && s.id === id));
  }

  /** Copies of the sessions to send with, one for each device of a user. */
  newest(userId: string): Session[] {
    const byDevice = new Map<string, Session>();
    for (const session of this.sessions) {
      if (session.userId === userId && session.at >= (byDevice.get(session.deviceId)?.at ?? 0)) byDevice.set(session.deviceId, session);
    }
    return structuredClone([...byDevice.values()]);
  }

  #put(name: keyof Kept, value: unknown): void {
    if (name === 'me') this.me = value as Me;
    if (name === 'contacts') this.contacts.set((value as Contact).userId, value as Contact);
    if (name === 'messages') replace(this.messages, value as Message, (m) => m.n === (value as Message).n);
    if (name === 'sessions') replace(this.sessions, value as Session, same(value as Session));
    if (name === 'outbox') this.outbox.push(value as Outgoing);
  }

  #drop(name: keyof Kept, value: unknown): void {
    if (name === 'outbox') this.outbox = this.outbox.filter((o) => o.n !== (value as Outgoing).n);
    if (name === 'sessions') this.sessions = this.sessions.filter((s) => !same(value as Session)(s));
  }
}

const same = (a: Session) => (b: Session) => a.deviceId === b.deviceId && a.id === b.id;

function replace<T>(list: T[], value: T, which: (item: T) => boolean): void {
  const at = list.findIndex(which);
  if (at < 0) list.push(value);
  else list[at] = value;
}
