// Elements, made by code: no text of a message is ever taken for markup.

type Props<T> = { [K in keyof T]?: T[K] } & { [attribute: `aria-${string}` | `data-${string}`]: string };

export function h<K extends keyof HTMLElementTagNameMap>(
  tag: K,
  props: Props<HTMLElementTagNameMap[K]> = {},
  ...children: (Node | string)[]
): HTMLElementTagNameMap[K] {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(props)) {
    if (name.includes('-')) element.setAttribute(name, String(value));
    else (element as unknown as Record<string, unknown>)[name] = value;
  }
  element.append(...children);
  return element;
}

/** Runs work for a form: once at a time, with its failure shown in it. */
export function onSubmit(form: HTMLFormElement, work: () => Promise<void>): void {
  const alert = h('p', { className: 'error', role: 'alert', hidden: true });
  form.append(alert);
  let busy = false;
  form.addEventListener('submit', async (event) => {
    event.preventDefault();
    if (busy) return;
    busy = true;
    const buttons = form.querySelectorAll('button');
    for (const button of buttons) button.disabled = true;
    alert.hidden = true;
    try {
      await work();
    } catch (failure) {
      alert.textContent = failure instanceof Error ? failure.message : String(failure);
      alert.hidden = false;
    }
    for (const button of buttons) button.disabled = false;
    busy = false;
  });
}
