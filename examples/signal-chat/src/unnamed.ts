// Sealed messages: who writes stands inside, in a certificate of the relay, and the relay is not told.
import type { Bytes, Envelope } from '@obscura-relay/client';
import * as signal from '@signalapp/libsignal-client';
import { CiphertextMessageType, ContentHint } from '@signalapp/libsignal-client';
import ToMany from '@signalapp/libsignal-client/dist/SealedSenderMultiRecipientMessage.js';
import { randomUUID } from 'node:crypto';
import type { Keys } from './keys.js';
import { pad, unpad } from './padding.js';
import { protocolAddress, type Address, type Kind } from './signal.js';

/** Whom the certificate inside a sealed message names. */
export interface Writer extends Address {
  userId: string;
}

/** The bytes in front of a message to many that are each recipient's own; the rest is the same for all. */
export const ownBytes = 49;

/** The sealed side of a device. */
export class Unnamed {
  readonly #self: signal.ProtocolAddress;
  /** Names this device's messages to many, for those that have its sender key. */
  readonly #group = randomUUID();

  constructor(
    self: Address,
    readonly keys: Keys,
    readonly certificate: signal.SenderCertificate,
    readonly trustRoot: signal.PublicKey,
  ) {
    this.#self = protocolAddress(self);
  }

  /** For one device, with which there is a session. */
  async seal(to: Address, text: string): Promise<Bytes> {
    const peer = protocolAddress(to);
    const { sessions, identities } = this.keys;
    const message = await signal.signalEncrypt(pad(text), peer, this.#self, sessions, identities);
    return signal.sealedSenderEncrypt(this.#content(message), peer, identities);
  }

  /** The sender key, which others need before a message to many: it goes to each of them in a sealed message of its own. */
  async senderKey(): Promise<Bytes> {
    return (await signal.SenderKeyDistributionMessage.create(this.#self, this.#group, this.keys.senderKeys)).serialize();
  }

  async takeSenderKey(from: Address, senderKey: Uint8Array): Promise<void> {
    const message = signal.SenderKeyDistributionMessage.deserialize(new Uint8Array(senderKey));
    await signal.processSenderKeyDistributionMessage(protocolAddress(from), message, this.keys.senderKeys);
  }

  /** For many devices at once: what is the same for all, and the first bytes of each. */
  async sealForAll(to: Address[], text: string): Promise<{ shared: Bytes; own: Map<string, Bytes> }> {
    const message = await signal.groupEncrypt(this.#self, this.#group, this.keys.senderKeys, pad(text));
    const packed = await signal.sealedSenderMultiRecipientEncrypt({
      content: this.#content(message),
      recipients: to.map(protocolAddress),
      identityStore: this.keys.identities,
      sessionStore: this.keys.sessions,
    });
    const all = new ToMany(packed);
    const own = new Map<string, Bytes>();
    let shared: Bytes | undefined;
    for (const [deviceId, recipient] of Object.entries(all.recipientsByServiceIdString())) {
      const received = new Uint8Array(all.messageForRecipient(recipient));
      const rest = received.slice(ownBytes);
      if (shared && Buffer.compare(shared, rest) !== 0) throw new Error('two recipients get more than their first bytes apart');
      shared = rest;
      own.set(deviceId, received.slice(0, ownBytes));
    }
    if (!shared) throw new Error('a message to nobody');
    return { shared, own };
  }

  /**
   * Opens what came without a sender. libsignal checks that it was sealed with the key that the certificate names; that the relay's trust root stands
   * behind the certificate is checked here, for the time when the relay accepted the message.
   */
  async open({ message, acceptedAt }: Envelope): Promise<{ from: Writer; kind: Kind; text: string }> {
    const { identities, sessions, preKeys, signedPreKeys, kyberPreKeys, senderKeys } = this.keys;
    const content = await signal.sealedSenderDecryptToUsmc(message, identities);
    const certificate = content.senderCertificate();
    if (!certificate.validate(this.trustRoot, acceptedAt.getTime())) throw new Error('the certificate of the sender is not good');
    const from = { deviceId: certificate.senderUuid(), deviceNumber: certificate.senderDeviceId(), userId: certificate.senderE164() ?? '' };
    const peer = protocolAddress(from);
    switch (content.msgType()) {
      case CiphertextMessageType.PreKey: {
        const first = signal.PreKeySignalMessage.deserialize(content.contents());
        const text = await signal.signalDecryptPreKey(first, peer, this.#self, sessions, identities, preKeys, signedPreKeys, kyberPreKeys);
        return { from, kind: 'PreKey', text: unpad(text) };
      }
      case CiphertextMessageType.Whisper: {
        const next = signal.SignalMessage.deserialize(content.contents());
        return { from, kind: 'Whisper', text: unpad(await signal.signalDecrypt(next, peer, this.#self, sessions, identities)) };
      }
      case CiphertextMessageType.SenderKey:
        return { from, kind: 'SenderKey', text: unpad(await signal.groupDecrypt(peer, senderKeys, content.contents())) };
      default:
        throw new Error(`a ciphertext of the unexpected kind ${content.msgType()}`);
    }
  }

  #content(message: signal.CiphertextMessage): signal.UnidentifiedSenderMessageContent {
    return signal.UnidentifiedSenderMessageContent.new(message, this.certificate, ContentHint.Default, null);
  }
}
