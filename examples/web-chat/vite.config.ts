import { defineConfig } from 'vite';

export default defineConfig({
  // Without it Vite would add a script of its own for browsers that lack X25519 anyway.
  build: { target: 'es2022', modulePreload: { polyfill: false } },
});
