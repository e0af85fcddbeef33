// A user of the relay and the devices they own.
import { Relay, type Credentials, type Session } from '@obscura-relay/client';
import { randomBytes } from 'node:crypto';
import { Device } from './device.js';

export class Person {
  readonly devices: Device[] = [];

  private constructor(
    readonly name: string,
    readonly credentials: Credentials,
    readonly relay: Relay,
    /** User-scoped. */
    private account: Session,
  ) {}

  /** The random part of the name lets the example run again on the same relay. */
  static async register(url: string, name: string): Promise<Person> {
    const credentials = {
      username: `${name.toLowerCase()}_${randomBytes(5).toString('hex')}`,
      password: randomBytes(18).toString('base64url'),
    };
    const relay = new Relay(url);
    return new Person(name, credentials, relay, await relay.register(credentials));
  }

  get userId(): string {
    return this.account.userId;
  }

  /** As on a machine that has nothing but the name and the password. */
  async logIn(): Promise<void> {
    const account = await this.relay.logIn(this.credentials);
    if (account.userId !== this.userId) throw new Error(`${this.name} logged in and is somebody else now`);
    this.account = account;
  }

  async addDevice(name: string): Promise<Device> {
    const device = await Device.add(this.name, name, this.account);
    this.devices.push(device);
    return device;
  }

  async leave(): Promise<void> {
    await Promise.all(this.devices.map((device) => device.goAway()));
    await this.account.deleteAccount(this.credentials.password);
  }
}
