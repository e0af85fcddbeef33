// The conversation as text: what was said, and what of it the relay saw.
import type { Delivery, Event, Outcome } from './chat.js';
import type { Device } from './device.js';
import type { SecretOutcome } from './secret.js';

/** Prints as it happens; what is said stands apart from what is done. */
export function transcript(print: (text: string) => void): (event: Event) => void {
  let before: Event['kind'] | undefined;
  return (event) => {
    if (event.kind !== before) print('');
    before = event.kind;
    print(event.kind === 'note' ? event.text : line(event.delivery));
  };
}

function line({ from, to, read, kind, sent, envelope }: Delivery): string {
  const time = envelope.acceptedAt.toISOString().slice(11, 19);
  const route = `${from.owner} (${from.name}) -> ${to.owner} (${to.name})`;
  return `  ${time}  ${route.padEnd(31)}  ${`${kind} ${sent.length} B`.padStart(14)}  ${read}`;
}

export function summary({ devices, deliveries, handouts }: Outcome): string {
  const rows = devices.map((device) => row(device, deliveries, handouts.filter((h) => h.deviceId === device.deviceId).length));
  const head = ['device', 'number', 'sent', 'received', 'PreKey', 'Whisper', 'bytes received', 'bundles given out'];
  const bytes = total(deliveries);
  const plain = deliveries.reduce((sum, d) => sum + Buffer.byteLength(d.read), 0);
  return [
    table([head, ...rows]),
    '',
    `The relay stored and delivered ${deliveries.length} envelopes: ${bytes} bytes of ciphertext for ${plain} bytes of text.`,
    'It saw who wrote to whom, when, and how much. It saw no word of what.',
  ].join('\n');
}

/** What the relay had of each sealed message, which is all that it hands over. */
export function secretSummary({ deliveries }: SecretOutcome): string {
  const rows = deliveries.map(({ to, kind, text, envelope }) => {
    const { sequence, acceptedAt, message, senderId, senderDeviceId } = envelope;
    const kept = [senderId || 'nobody', senderDeviceId || 'none', sequence, acceptedAt.toISOString().slice(11, 19), `${message.length} B`];
    return [`${to}`, ...kept.map(String), `${kind}: ${text}`];
  });
  return [
    table([['to', 'from', 'device', 'sequence', 'time', 'stored', 'what only the recipient sees'], ...rows]),
    '',
    'Of each the relay stored to whom, when, and how much, and by which delivery token it was let in. It was not told from whom.',
  ].join('\n');
}

function row(device: Device, deliveries: Delivery[], bundles: number): string[] {
  const received = deliveries.filter((d) => d.to === device);
  const counts = [
    device.deviceNumber,
    deliveries.filter((d) => d.from === device).length,
    received.length,
    received.filter((d) => d.kind === 'PreKey').length,
    received.filter((d) => d.kind === 'Whisper').length,
    total(received),
    bundles,
  ];
  return [`${device}`, ...counts.map(String)];
}

const total = (deliveries: Delivery[]): number => deliveries.reduce((sum, d) => sum + d.sent.length, 0);

function table(rows: string[][]): string {
  const widths = (rows[0] ?? []).map((_, i) => Math.max(...rows.map((cells) => cells[i]?.length ?? 0)));
  const align = (cell: string, i: number) => (i === 0 ? cell.padEnd(widths[i] ?? 0) : cell.padStart(widths[i] ?? 0));
  const [head = '', ...body] = rows.map((cells) => cells.map(align).join('  '));
  return [head, '-'.repeat(head.length), ...body].join('\n');
}
