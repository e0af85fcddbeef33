// What the page remembers, in IndexedDB: one database per profile. Private keys lie there as CryptoKeys that cannot be read out.
import type { Batch, Tokens } from '@obscura-relay/client';
import type { SharedFile } from './files.js';
import type { OwnKeys, PreKey } from './keys.js';
import type { Session } from './session.js';

export interface Me {
  relayUrl: string;
  name: string;
  userId: string;
  keys: OwnKeys;
  /** The highest sequence that was reported as missing. */
  missingUpTo: number;
}

export interface Contact {
  userId: string;
  /** As they call themselves; until they have written, the beginning of their address. */
  name: string;
  unread: number;
}

export interface Message {
  /** In the order in which they are shown. */
  n: number;
  userId: string;
  kind: 'mine' | 'theirs' | 'notice';
  text: string;
  file?: SharedFile | undefined;
  at: number;
  state?: 'sending' | 'sent' | 'failed';
  envelopeId?: string;
}

/** Sent until the relay has answered, also after a reload. */
export interface Outgoing {
  n: number;
  batch: Batch;
}

/** What there is, by the name of its object store. */
export interface Kept {
  me: Me;
  tokens: Tokens;
  oneTime: PreKey;
  sessions: Session;
  contacts: Contact;
  messages: Message;
  outbox: Outgoing;
}

type Name = keyof Kept;
const keyOf: { [N in Name]: (value: Kept[N]) => IDBValidKey } = {
  me: () => 0,
  tokens: () => 0,
  oneTime: ({ id }) => id,
  sessions: ({ deviceId, id }) => [deviceId, id],
  contacts: ({ userId }) => userId,
  messages: ({ n }) => n,
  outbox: ({ n }) => n,
};

export type Change = { [N in Name]: { put: N; value: Kept[N] } | { drop: N; value: Kept[N] } }[Name];

export const put = <N extends Name>(name: N, value: Kept[N]): Change => ({ put: name, value }) as Change;
export const drop = <N extends Name>(name: N, value: Kept[N]): Change => ({ drop: name, value }) as Change;

export class Store {
  private constructor(private readonly database: IDBDatabase) {}

  static async open(profile: string): Promise<Store> {
    const request = indexedDB.open(`obscura-web-chat:${profile}`, 1);
    request.onupgradeneeded = () => {
      for (const name of Object.keys(keyOf)) request.result.createObjectStore(name);
    };
    return new Store(await result(request));
  }

  all<N extends Name>(name: N): Promise<Kept[N][]> {
    return result(this.database.transaction(name).objectStore(name).getAll() as IDBRequest<Kept[N][]>);
  }

  /** All of it or nothing, and on the disk when it returns. */
  write(...changes: Change[]): Promise<void> {
    const transaction = this.database.transaction(Object.keys(keyOf), 'readwrite', { durability: 'strict' });
    for (const change of changes) {
      const name = 'put' in change ? change.put : change.drop;
      const key = (keyOf[name] as (value: unknown) => IDBValidKey)(change.value);
      const store = transaction.objectStore(name);
      if ('put' in change) store.put(change.value, key);
      else store.delete(key);
    }
    return new Promise((resolve, reject) => {
      transaction.oncomplete = () => resolve();
      transaction.onabort = () => reject(transaction.error ?? new Error('the browser could not store something'));
    });
  }
}

function result<T>(request: IDBRequest<T>): Promise<T> {
  return new Promise((resolve, reject) => {
    request.onsuccess = () => resolve(request.result);
    request.onerror = () => reject(request.error);
  });
}
