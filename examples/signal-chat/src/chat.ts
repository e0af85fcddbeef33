// The scenario, as a function that tells what happens while it happens and returns what happened.
import type { Bytes, Envelope } from '@obscura-relay/client';
import { randomBytes } from 'node:crypto';
import type { Device, Handout, Received, Sent } from './device.js';
import { Person } from './person.js';
import type { Kind } from './signal.js';

/** One message that one device sent and one device read. */
export interface Delivery {
  from: Device;
  to: Device;
  written: string;
  read: string;
  kind: Kind;
  sent: Bytes; // what the relay was given
  envelope: Envelope; // what the relay handed over
}

export interface Outcome {
  devices: Device[];
  deliveries: Delivery[];
  handouts: Handout[];
  refilled: Device[];
}

export type Event = { kind: 'note'; text: string } | { kind: 'delivery'; delivery: Delivery };

export async function chat(url: string, tell: (event: Event) => void = () => {}): Promise<Outcome> {
  const outcome: Outcome = { devices: [], deliveries: [], handouts: [], refilled: [] };
  try {
    await scenario(url, tell, outcome);
  } finally {
    for (const device of outcome.devices) device.abort();
  }
  return outcome;
}

async function scenario(url: string, tell: (event: Event) => void, outcome: Outcome): Promise<void> {
  const note = (text: string) => tell({ kind: 'note', text });

  const deliver = (from: Device, to: Device, batch: Sent[], received: Received) => {
    const sent = batch.find((s) => s.toDeviceId === to.deviceId && Buffer.compare(s.message, received.envelope.message) === 0);
    if (!sent) throw new Error(`${to} got something that ${from} did not send`);
    const { kind, envelope, text: read } = received;
    if (sent.text !== read) throw new Error(`${from} wrote "${sent.text}" and ${to} read "${read}"`);
    const delivery = { from, to, written: sent.text, read, kind, sent: sent.message, envelope };
    outcome.deliveries.push(delivery);
    tell({ kind: 'delivery', delivery });
  };

  /** Writes to a user, all of whose devices in `to` are online and read it. */
  const say = async (from: Device, to: Device[], text: string) => {
    const batch = await from.write(to[0]?.session.userId ?? '', text);
    for (const device of to) deliver(from, device, batch, await device.read());
  };

  const checkKeys = async (device: Device) => {
    if (!device.keys.matches(await device.session.keys())) throw new Error(`the relay offers keys that are not those of ${device}`);
    note(`${device} checks what the relay offers for it: its own keys, and no others.`);
  };

  const alice = await Person.register(url, 'Alice');
  const bob = await Person.register(url, 'Bob');
  const laptop = await alice.addDevice('laptop');
  const phone = await bob.addDevice('phone');
  outcome.devices.push(laptop, phone);
  note('Alice and Bob register, each with one device. Bob gives Alice his user id, and his phone is switched off.');

  outcome.handouts.push(...(await laptop.meet(bob.userId)));
  const early = await laptop.write(bob.userId, 'Hi Bob, are you there?');
  early.push(...(await laptop.write(bob.userId, 'Never mind, the relay keeps this for you.')));
  note("Alice fetches Bob's pre-key bundle and writes twice.");
  await laptop.comeOnline();

  const backlog = await phone.comeOnline();
  note(`Bob's phone is back: ${backlog.messages.length} messages waited, drained at sequence ${backlog.upTo}.`);
  for (const received of backlog.messages) deliver(laptop, phone, early, received);
  const { oneTime, kyber, threshold } = backlog.preKeys;
  if (oneTime < threshold || kyber < threshold) {
    await phone.refill();
    outcome.refilled.push(phone);
    note(`The relay is down to ${oneTime} and ${kyber} one-time keys for Bob's phone, which uploads new ones.`);
  }
  await checkKeys(phone);

  await say(phone, [laptop], 'Here I am. No bundle needed to answer you.');
  await say(laptop, [phone], 'And from here on every message has a key of its own.');
  await say(phone, [laptop], 'Grüße über das Relay! ☕');
  await say(phone, [laptop], 'Two in a row.');
  await say(laptop, [phone], 'In order, as sent.');

  const picture = randomBytes(100_000);
  const shared = await laptop.share(picture);
  await say(laptop, [phone], shared);
  if (!(await phone.fetch(shared)).equals(picture)) throw new Error('the picture has changed on its way');
  note("That was the place and the key of a picture, which Alice's laptop left with the relay, encrypted. Bob's phone fetches it.");
  const { version, restored } = await phone.backUp(picture);
  if (!restored.equals(picture)) throw new Error('the backup has changed');
  note(`Bob's phone keeps it in its backup, version ${version}, encrypted with a key that only Bob has.`);

  await bob.logIn();
  const tablet = await bob.addDevice('tablet');
  outcome.devices.push(tablet);
  await tablet.comeOnline();
  note(`Bob logs in on a tablet: his device number ${tablet.deviceNumber}. Alice fetches his bundles again.`);
  outcome.handouts.push(...(await laptop.meet(bob.userId)));
  await say(laptop, [phone, tablet], 'Do both of your devices get this?');
  await say(phone, [laptop], 'The phone does.');
  await say(tablet, [laptop], 'So does the tablet.');
  await say(laptop, [phone, tablet], 'Then we are done. Bye!');
  await checkKeys(tablet);

  for (const device of outcome.devices) await acknowledged(device);
  note('All devices reconnect once more: nothing comes again.');
  await alice.leave();
  await bob.leave();
  note('Alice and Bob delete their accounts.');
}

/** How long an acknowledgement may take to reach the relay's database, on a machine that has much else to do. */
const patience = 10_000;

/** Reconnects until a connection brings nothing again: then every acknowledgement has arrived. Once is the rule. */
async function acknowledged(device: Device): Promise<void> {
  const started = Date.now();
  for (let pause = 10; ; pause *= 2) {
    const before = device.redelivered;
    await device.goAway();
    const { messages } = await device.comeOnline();
    if (messages.length > 0) throw new Error(`${device} got a message that nobody sent`);
    if (device.redelivered === before) return;
    if (Date.now() - started > patience) throw new Error(`${device} acknowledged everything and still gets it again`);
    await new Promise((resolve) => setTimeout(resolve, pause));
  }
}
