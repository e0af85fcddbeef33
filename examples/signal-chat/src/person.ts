// A user of the relay and the devices they own.
import { randomBytes } from 'node:crypto';
import { Device } from './device.js';
import { Relay, type Auth, type Credentials } from './relay.js';

export class Person {
  readonly devices: Device[] = [];

  private constructor(
    readonly name: string,
    readonly userId: string,
    readonly credentials: Credentials,
    readonly url: string,
    /** Holds a user-scoped token. */
    private account: Relay,
  ) {}

  /** The random part of the name lets the example run again on the same relay. */
  static async register(url: string, name: string): Promise<Person> {
    const credentials = {
      username: `${name.toLowerCase()}_${randomBytes(5).toString('hex')}`,
      password: randomBytes(18).toString('base64url'),
    };
    const auth = await new Relay(url).register(credentials);
    return new Person(name, subject(auth), credentials, url, new Relay(url, auth.token));
  }

  /** As on a machine that has nothing but the name and the password. */
  async logIn(): Promise<void> {
    const auth = await new Relay(this.url).logIn(this.credentials);
    if (subject(auth) !== this.userId) throw new Error(`${this.name} logged in and is somebody else now`);
    this.account = new Relay(this.url, auth.token);
  }

  async addDevice(name: string): Promise<Device> {
    const device = await Device.add(this.name, name, this.userId, this.account);
    this.devices.push(device);
    return device;
  }

  async leave(): Promise<void> {
    await Promise.all(this.devices.map((device) => device.goAway()));
    await this.account.deleteAccount(this.credentials.password);
  }
}

/** The user id: clients read it from the access token. */
function subject({ token }: Auth): string {
  const claims: unknown = JSON.parse(Buffer.from(token.split('.')[1] ?? '', 'base64url').toString());
  if (typeof claims === 'object' && claims !== null && 'sub' in claims && typeof claims.sub === 'string') return claims.sub;
  throw new Error('the access token does not say who it belongs to');
}
