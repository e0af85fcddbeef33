// One profile of this browser is one device of one user, in one tab at a time: two would show the relay the same refresh token.
import { Chat } from './chat.js';
import { h } from './dom.js';
import { Page } from './page.js';
import { elsewhere, logInAgain, welcome } from './welcome.js';

const profile = new URLSearchParams(location.search).get('profile') ?? 'default';

/** Resolves when no other tab has the profile, and keeps it until this one goes away. */
function alone(): Promise<void> {
  const name = `obscura-web-chat:${profile}`;
  return new Promise((resolve) => {
    const keep = () => {
      resolve();
      return new Promise<never>(() => {});
    };
    void navigator.locks.request(name, { ifAvailable: true }, (lock) => {
      if (lock) return keep();
      elsewhere();
      void navigator.locks.request(name, keep);
      return undefined;
    });
  });
}

try {
  await alone();
  let page: Page | undefined;
  const chat = await Chat.open(profile, () => page?.render());
  addEventListener('online', () => chat.reconnect());
  if (!chat.me) await welcome(chat);
  for (;;) {
    page = new Page(chat);
    await chat.run();
    if (chat.status !== 'ended') break;
    page = undefined;
    await logInAgain(chat);
  }
} catch (failure) {
  const text = failure instanceof Error ? failure.message : String(failure);
  document.body.replaceChildren(h('main', { className: 'center' }, h('p', { className: 'card error', role: 'alert' }, text)));
}
