// The chat as people see it: contacts on one side, a conversation on the other; on a phone one of the two.
import type { Chat, Status } from './chat.js';
import { h, onSubmit } from './dom.js';
import type { SharedFile } from './files.js';
import type { Message } from './store.js';

const statuses: Record<Status, string> = {
  connecting: 'Connecting…',
  online: 'Online',
  waiting: 'Offline, trying again…',
  elsewhere: 'In use elsewhere',
  ended: 'Logged out',
};

export class Page {
  #open: string | undefined;
  readonly #status = h('span', { className: 'status', role: 'status' });
  readonly #contacts = h('ul', { className: 'contacts' });
  readonly #title = h('h2');
  readonly #numbers = h('div', { className: 'numbers', hidden: true });
  readonly #log = h('ol', { className: 'log', role: 'log', 'aria-label': 'Messages', tabIndex: 0 });
  readonly #text = h('textarea', { name: 'text', rows: 1, maxLength: 4000, placeholder: 'Message', 'aria-label': 'Message' });
  readonly #file = h('input', { type: 'file', className: 'file', 'aria-label': 'Attach a file' });
  readonly #composer = h('form', { className: 'composer' }, this.#file, this.#text, h('button', { type: 'submit' }, 'Send'));
  readonly #layout: HTMLElement;

  constructor(private readonly chat: Chat) {
    const conversation = h('section', { className: 'conversation' }, this.#header(), this.#numbers, this.#log, this.#composer);
    const nobody = h('section', { className: 'nobody' }, h('p', {}, 'Choose a conversation, or begin one with an address.'));
    this.#layout = h('main', { className: 'layout' }, this.#side(), conversation, nobody);
    onSubmit(this.#composer, async () => {
      const [to, text, chosen] = [this.#open, this.#text.value.trim(), this.#file.files?.[0]];
      if (!to || (!text && !chosen)) return;
      await this.chat.write(to, text || chosen!.name, chosen && (await this.chat.upload(chosen)));
      this.#text.value = this.#file.value = '';
      this.#text.focus();
    });
    this.#text.addEventListener('keydown', (event) => {
      if (event.key !== 'Enter' || event.shiftKey || event.isComposing) return;
      event.preventDefault();
      this.#composer.requestSubmit();
    });
    document.addEventListener('visibilitychange', () => this.render());
    document.body.replaceChildren(this.#layout);
    this.render();
  }

  render(): void {
    const { me, contacts, status } = this.chat;
    document.title = `${me?.name ?? ''} · Obscura web chat`;
    this.#status.textContent = statuses[status];
    this.#status.dataset['status'] = status;
    this.#contacts.replaceChildren(
      ...contacts.map(({ userId, name, unread }) => {
        const last = this.chat.messages(userId).at(-1)?.text ?? 'No messages yet';
        const badge = unread > 0 ? [h('span', { className: 'badge', 'aria-label': `${unread} unread` }, String(unread))] : [];
        const button = h('button', { type: 'button' }, h('strong', {}, name), ...badge, h('span', { className: 'last' }, last));
        if (userId === this.#open) button.setAttribute('aria-current', 'true');
        button.addEventListener('click', () => this.show(userId));
        return h('li', {}, button);
      }),
    );
    this.#layout.dataset['open'] = String(this.#open !== undefined);
    if (this.#open === undefined) return;
    const contact = contacts.find(({ userId }) => userId === this.#open);
    this.#title.textContent = contact?.name ?? '';
    this.#log.replaceChildren(...this.chat.messages(this.#open).map((message) => this.#bubble(message)));
    this.#log.scrollTop = this.#log.scrollHeight;
    if (contact?.unread && !document.hidden) void this.chat.read(this.#open);
  }

  show(userId: string | undefined): void {
    this.#open = userId;
    this.#numbers.hidden = true;
    this.render();
    if (userId) this.#text.focus();
  }

  #side(): HTMLElement {
    const { me } = this.chat;
    const address = h('code', { className: 'address' }, me?.userId ?? '');
    const copy = h('button', { type: 'button', className: 'plain' }, 'Copy');
    copy.addEventListener('click', async () => {
      await navigator.clipboard.writeText(me?.userId ?? '').catch(() => getSelection()?.selectAllChildren(address));
      copy.textContent = 'Copied';
    });
    const to = h('input', { name: 'to', required: true, placeholder: "Somebody's address", 'aria-label': "Somebody's address", autocomplete: 'off', spellcheck: false });
    to.pattern = '[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}';
    to.title = 'A user id: 36 digits, letters and hyphens';
    const add = h('form', { className: 'add' }, to, h('button', { type: 'submit' }, 'Add'));
    onSubmit(add, async () => {
      const userId = to.value.trim().toLowerCase();
      if (userId === me?.userId) throw new Error('This is your own address: give it to somebody else.');
      await this.chat.addContact(userId);
      to.value = '';
      this.show(userId);
    });
    return h(
      'aside',
      {},
      h('header', {}, h('h1', {}, me?.name ?? ''), this.#status),
      h('div', { className: 'own' }, h('span', { className: 'quiet' }, 'Your address'), copy, address),
      add,
      this.#contacts,
    );
  }

  #header(): HTMLElement {
    const back = h('button', { type: 'button', className: 'plain back', 'aria-label': 'Back' }, '‹');
    back.addEventListener('click', () => this.show(undefined));
    const verify = h('button', { type: 'button', className: 'plain' }, 'Safety number');
    verify.addEventListener('click', async () => {
      const numbers = this.#open ? await this.chat.safetyNumbers(this.#open) : [];
      const hint = numbers.length > 0 ? 'Compare with what the other person sees, in person or by phone:' : 'There is none before the first message.';
      this.#numbers.replaceChildren(h('p', {}, hint), ...numbers.map((number) => h('code', {}, number)));
      this.#numbers.hidden = !this.#numbers.hidden;
    });
    return h('header', {}, back, this.#title, verify);
  }

  #bubble({ kind, text, file, at, state }: Message): HTMLLIElement {
    const time = new Date(at).toLocaleTimeString([], { hour: '2-digit', minute: '2-digit' });
    const foot = kind === 'notice' ? [] : [h('small', {}, state && state !== 'sent' ? `${time} · ${state}` : time)];
    return h('li', { className: kind, 'data-state': state ?? '' }, h('span', {}, text), ...(file ? [this.#saver(file)] : []), ...foot);
  }

  /** A form, so that a failure is shown in it. */
  #saver(file: SharedFile): HTMLFormElement {
    const size = file.size < 1_000_000 ? `${Math.ceil(file.size / 1000)} kB` : `${(file.size / 1_000_000).toFixed(1)} MB`;
    const form = h('form', { className: 'saver' }, h('button', { type: 'submit' }, `Save ${file.name} (${size})`));
    onSubmit(form, async () => {
      const href = URL.createObjectURL(await this.chat.download(file));
      h('a', { href, download: file.name }).click();
      setTimeout(() => URL.revokeObjectURL(href), 60_000);
    });
    return form;
  }
}
