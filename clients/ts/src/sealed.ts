// Sealed calls in a browser. Node.js gets sealed.node.ts instead: package.json says so under imports.

/** A page cannot choose its connections: those of a browser are for all calls without credentials, by name or not. README.md says what helps. */
export const sealedFetch: typeof fetch = (input, init) =>
  fetch(input, { ...init, credentials: 'omit', cache: 'no-store', referrer: '', referrerPolicy: 'no-referrer', redirect: 'error' });
