// The second scenario: the same people, and the relay is not told who writes.
import {
  DevicesChanged,
  fromBase64,
  newBatch,
  newDeliveryToken,
  newShared,
  toBase64,
  type Bytes,
  type Correction,
  type DeviceList,
  type Envelope,
} from '@obscura-relay/client';
import type { Event } from './chat.js';
import type { Device } from './device.js';
import { Person } from './person.js';
import type { Kind } from './signal.js';
import { ownBytes, type Unnamed } from './unnamed.js';

/** One sealed message that one device read. */
export interface SecretDelivery {
  from: Device;
  to: Device;
  text: string;
  kind: Kind;
  envelope: Envelope;
}

export interface SecretOutcome {
  alice: Person;
  devices: Device[];
  deliveries: SecretDelivery[];
  corrections: Correction[];
  /** The message to many: how many bytes travelled, and to how many devices. */
  group: { bytes: number; recipients: number };
}

/** Somebody to whom sealed messages go: a delivery token, and the devices that the writer knows. */
interface Contact extends DeviceList {
  token: Bytes;
}

export async function secretly(url: string, tell: (event: Event) => void = () => {}): Promise<SecretOutcome> {
  const note = (text: string) => tell({ kind: 'note', text });
  const alice = await Person.register(url, 'Alice');
  const bob = await Person.register(url, 'Bob');
  const carol = await Person.register(url, 'Carol');
  const outcome: SecretOutcome = { alice, devices: [], deliveries: [], corrections: [], group: { bytes: 0, recipients: 0 } };
  const add = async (person: Person, name: string) => {
    const device = await person.addDevice(name);
    outcome.devices.push(device);
    return device;
  };
  try {
    const laptop = await add(alice, 'laptop');
    const unnamed = await laptop.certify(alice.relay);
    await laptop.comeOnline();
    const phone = await add(bob, 'phone');
    const contacts = { bob: await befriend(laptop, bob, phone), carol: await befriend(laptop, carol, await add(carol, 'phone')) };
    note("Bob and Carol answer Alice's first messages with delivery tokens. From here on her laptop does not say who it is.");

    const post = new SealedPost(alice, laptop, unnamed, outcome);
    const read = async (devices: Device[]) => {
      for (const to of devices) {
        const { envelope, text, kind, from } = await to.read();
        if (from?.deviceId !== laptop.deviceId || from.userId !== alice.userId) throw new Error(`${to} got something that Alice did not write`);
        if (text.startsWith(keyWord)) await take(to, from, text);
        else outcome.deliveries.push({ from: laptop, to, text, kind, envelope });
      }
    };
    await post.write([contacts.bob], 'Only you know who wrote this.');
    await read([phone]);

    const tablet = await add(bob, 'tablet');
    await join(bob, tablet);
    note('Bob adds a tablet. Alice writes on, and the relay stores nothing: her list of his devices is old. She fetches what is new, unnamed.');
    await post.write([contacts.bob], 'Welcome, tablet!');
    await read([phone, tablet]);

    for (const name of ['tablet', 'watch']) await join(carol, await add(carol, name));
    const theirs = [phone, tablet, ...carol.devices];
    const everybody = [contacts.bob, contacts.carol];
    await post.giveSenderKey(everybody);
    await read(theirs);
    note('Alice gives a sender key to all five devices of Bob and Carol, in sealed messages.');
    await post.writeToAll(everybody, 'Dinner at eight?');
    await read(theirs);
    const { bytes, recipients } = outcome.group;
    note(`One message to ${recipients} devices travelled once: ${bytes} bytes, ${ownBytes} of them for each device alone.`);
    return outcome;
  } finally {
    for (const device of outcome.devices) device.abort();
    for (const person of [alice, bob, carol]) await person.leave();
  }
}

/** A first conversation, by name: Alice writes, and is given a delivery token in an encrypted answer. */
async function befriend(laptop: Device, person: Person, device: Device): Promise<Contact> {
  await join(person, device);
  await laptop.meet(person.userId);
  await laptop.write(person.userId, 'Hello! May I write to you unnamed?');
  await device.read();
  const token = newDeliveryToken();
  await device.session.addDeliveryTokens([token]);
  await device.write(laptop.session.userId, `You may. ${toBase64(token)}`);
  const given = fromBase64((await laptop.read()).text.split(' ').at(-1) ?? '');
  const { devicesVersion, devices } = await laptop.session.devicesOf(person.userId);
  const known = devices.map(({ deviceNumber: number, ...others }) => ({ number, ...others }));
  return { userId: person.userId, token: given, devicesVersion, devices: known };
}

/** A device that can open sealed messages, and waits for them. */
async function join(person: Person, device: Device): Promise<void> {
  await device.certify(person.relay);
  await device.comeOnline();
}

/** Begins a message that carries a sender key. */
const keyWord = 'sender-key ';

async function take(to: Device, from: { deviceId: string; deviceNumber: number }, text: string): Promise<void> {
  await to.unnamed.takeSenderKey(from, fromBase64(text.slice(keyWord.length)));
}

/** Writes sealed messages, and finds out about devices that it does not know. */
class SealedPost {
  constructor(
    readonly writer: Person,
    readonly device: Device,
    readonly unnamed: Unnamed,
    readonly outcome: SecretOutcome,
  ) {}

  /** A message for each device of each contact, with a session of its own. */
  async write(contacts: Contact[], text: string): Promise<void> {
    const { relay } = this.writer;
    let batch = { ...newBatch(...(await this.#seal(contacts, text))), audiences: contacts };
    for (;;) {
      try {
        refuse(await relay.sendSealed(batch));
        return;
      } catch (failure) {
        if (!(failure instanceof DevicesChanged)) throw failure;
        const correction = await relay.correctSealed(batch, failure, contacts);
        this.outcome.corrections.push(correction);
        const again: Contact[] = [];
        for (const change of correction.changes) {
          for (const bundle of change.bundles) await this.device.meetOne(bundle);
          const contact = contacts.find((c) => c.userId === change.userId);
          if (!contact) throw new Error('the relay names somebody to whom nothing was written');
          Object.assign(contact, { devicesVersion: change.devicesVersion, devices: change.devices });
          again.push(contact);
        }
        const { submissions } = newBatch(...(await this.#seal(again, text)));
        batch = { ...correction.rest, submissions: [...correction.rest.submissions, ...submissions], audiences: contacts };
      }
    }
  }

  async giveSenderKey(contacts: Contact[]): Promise<void> {
    await this.write(contacts, keyWord + toBase64(await this.unnamed.senderKey()));
  }

  /** One message for all, which travels once: everybody has the sender key. */
  async writeToAll(contacts: Contact[], text: string): Promise<void> {
    const addresses = contacts.flatMap((c) => c.devices.map(({ deviceId, number }) => ({ deviceId, deviceNumber: number })));
    const { shared, own } = await this.unnamed.sealForAll(addresses, text);
    const recipients = contacts.flatMap(({ token, devices }) =>
      devices.map(({ deviceId }) => ({ deviceId, prefix: own.get(deviceId) ?? missing(deviceId), deliveryToken: token })),
    );
    this.outcome.group = { bytes: shared.length + recipients.length * ownBytes, recipients: recipients.length };
    refuse(await this.writer.relay.sendSealed({ ...newBatch(), shared: [newShared(shared, ...recipients)], audiences: contacts }));
  }

  async #seal(contacts: Contact[], text: string) {
    const sealed = [];
    for (const { token: deliveryToken, devices } of contacts) {
      for (const { deviceId, number: deviceNumber } of devices) {
        sealed.push({ deviceId, message: await this.unnamed.seal({ deviceId, deviceNumber }, text), deliveryToken });
      }
    }
    return sealed;
  }
}

function refuse(failures: { reason: string }[]): void {
  if (failures.length > 0) throw new Error(`the relay refused a sealed message: ${failures.map((f) => f.reason).join(', ')}`);
}

function missing(deviceId: string): never {
  throw new Error(`no bytes of its own for the device ${deviceId}`);
}
