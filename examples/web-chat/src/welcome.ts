// The forms before the chat: a new account, and logging in again.
import type { Chat } from './chat.js';
import { h, onSubmit } from './dom.js';

const relayUrl = new URLSearchParams(location.search).get('relay') ?? import.meta.env.VITE_RELAY_URL ?? 'http://127.0.0.1:3000';

/** Resolves when there is an account. */
export function welcome(chat: Chat): Promise<void> {
  const name = h('input', { name: 'username', required: true, pattern: '[A-Za-z0-9_]{3,50}', autocomplete: 'username', maxLength: 50 });
  name.title = '3 to 50 letters, digits and underscores';
  const password = h('input', { type: 'password', name: 'password', required: true, minLength: 12, maxLength: 256, autocomplete: 'new-password' });
  const relay = h('input', { type: 'url', name: 'relay', required: true, value: relayUrl });
  const form = h(
    'form',
    { className: 'card' },
    h('h1', {}, 'Obscura web chat'),
    h('p', {}, 'Messages are encrypted in this browser. The relay carries them and cannot read them. This page is an example: it is not the Signal Protocol.'),
    label('Name', name),
    label('Password', password, 'At least 12 characters'),
    label('Relay', relay),
    h('button', { type: 'submit' }, 'Create account'),
    h('p', { className: 'quiet' }, h('a', { href: `?${another()}`, target: '_blank', rel: 'noopener' }, 'Open a second tab as somebody else')),
  );
  return shown(form, () => chat.register(relay.value, name.value, password.value));
}

/** Resolves when the device has a session again. */
export function logInAgain(chat: Chat): Promise<void> {
  const password = h('input', { type: 'password', name: 'password', required: true, autocomplete: 'current-password' });
  const form = h(
    'form',
    { className: 'card' },
    h('h1', {}, `Welcome back, ${chat.me!.name}`),
    h('p', {}, 'Your session has ended. Log in to go on with this device, its keys and its messages.'),
    label('Password', password),
    h('button', { type: 'submit' }, 'Log in'),
  );
  return shown(form, () => chat.logIn(password.value));
}

export function elsewhere(): void {
  const text = 'This profile is open in another tab. Close it there to go on here.';
  document.body.replaceChildren(h('main', { className: 'center' }, h('div', { className: 'card' }, h('h1', {}, 'Obscura web chat'), h('p', { role: 'status' }, text))));
}

function shown(form: HTMLFormElement, work: () => Promise<void>): Promise<void> {
  document.body.replaceChildren(h('main', { className: 'center' }, form));
  form.querySelector('input')?.focus();
  return new Promise((resolve) => onSubmit(form, () => work().then(resolve)));
}

const label = (text: string, input: HTMLInputElement, hint = ''): HTMLLabelElement =>
  h('label', {}, h('span', {}, text, hint && h('small', {}, ` ${hint}`)), input);

function another(): string {
  const query = new URLSearchParams(location.search);
  query.set('profile', `guest-${Math.floor(Math.random() * 10_000)}`);
  return query.toString();
}
