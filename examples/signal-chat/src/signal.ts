// Sessions: pre-key bundles in, ciphertext out, and back.
import { fromBase64, type Bytes, type PreKeyBundle as Bundle } from '@obscura-relay/client';
import * as signal from '@signalapp/libsignal-client';
import { CiphertextMessageType, KEMPublicKey, PreKeyBundle, PublicKey } from '@signalapp/libsignal-client';
import type { Keys } from './keys.js';
import { pad, unpad } from './padding.js';
import { unwrap, wrap } from './wrapping.js';

/**
 * A device as libsignal addresses it: its UUID and its device number, 1 to 127. libsignal keeps one identity key for a
 * name, and here every device has its own: so the name is the device's, not the user's.
 */
export interface Address {
  deviceId: string;
  deviceNumber: number;
}

export type Kind = 'PreKey' | 'Whisper' | 'SenderKey';

export class Cipher {
  readonly #self: signal.ProtocolAddress;
  readonly #keys: Keys;

  constructor(self: Address, keys: Keys) {
    this.#self = protocolAddress(self);
    this.#keys = keys;
  }

  async knows(peer: Address): Promise<boolean> {
    return (await this.#keys.sessions.getSession(protocolAddress(peer)))?.hasCurrentState() ?? false;
  }

  /** X3DH with Kyber on top (PQXDH); libsignal verifies the signatures against the bundle's identity key. */
  async meet(bundle: Bundle): Promise<void> {
    const { deviceId, deviceNumber, registrationId, identityKey, signedPreKey, oneTimePreKey, kyberPreKey } = bundle;
    if (!kyberPreKey) throw new Error(`device ${deviceId} publishes no Kyber key, which libsignal needs`);
    const keys = PreKeyBundle.new(
      registrationId,
      deviceNumber,
      oneTimePreKey?.keyId ?? null,
      oneTimePreKey ? PublicKey.deserialize(fromBase64(oneTimePreKey.publicKey)) : null,
      signedPreKey.keyId,
      PublicKey.deserialize(fromBase64(signedPreKey.publicKey)),
      fromBase64(signedPreKey.signature),
      PublicKey.deserialize(fromBase64(identityKey)),
      kyberPreKey.keyId,
      KEMPublicKey.deserialize(fromBase64(kyberPreKey.publicKey)),
      fromBase64(kyberPreKey.signature),
    );
    const peer = protocolAddress({ deviceId, deviceNumber });
    await signal.processPreKeyBundle(keys, peer, this.#self, this.#keys.sessions, this.#keys.identities);
  }

  async encrypt(peer: Address, text: string): Promise<{ kind: Kind; message: Bytes }> {
    const { sessions, identities } = this.#keys;
    const sealed = await signal.signalEncrypt(pad(text), protocolAddress(peer), this.#self, sessions, identities);
    return { kind: kindOf(sealed.type()), message: wrap(sealed.type(), sealed.serialize()) };
  }

  async decrypt(peer: Address, message: Bytes): Promise<{ kind: Kind; text: string }> {
    const { type, ciphertext } = unwrap(message);
    const kind = kindOf(type);
    const { sessions, identities, preKeys, signedPreKeys, kyberPreKeys } = this.#keys;
    const from = protocolAddress(peer);
    const padded =
      kind === 'PreKey'
        ? await signal.signalDecryptPreKey(
            signal.PreKeySignalMessage.deserialize(ciphertext),
            from,
            this.#self,
            sessions,
            identities,
            preKeys,
            signedPreKeys,
            kyberPreKeys,
          )
        : await signal.signalDecrypt(signal.SignalMessage.deserialize(ciphertext), from, this.#self, sessions, identities);
    return { kind, text: unpad(padded) };
  }
}

export const protocolAddress = ({ deviceId, deviceNumber }: Address) => signal.ProtocolAddress.new(deviceId, deviceNumber);

function kindOf(type: number): Kind {
  if (type === CiphertextMessageType.PreKey) return 'PreKey';
  if (type === CiphertextMessageType.Whisper) return 'Whisper';
  throw new Error(`a ciphertext of the unexpected kind ${type}`);
}
