// Sealed calls on Node.js: a connection for each, which shares nothing with those of fetch.
import * as http from 'node:http';
import * as https from 'node:https';

/** As much of `fetch` as calls need. It follows no redirection. */
export const sealedFetch: typeof fetch = async (input, init = {}) => {
  const url = new URL(String(input));
  const { request } = url.protocol === 'https:' ? https : http;
  const { method = 'GET', body, signal } = init;
  const headers = Object.fromEntries(new Headers(init.headers));
  const response = await new Promise<http.IncomingMessage>((resolve, reject) => {
    // Without an agent the connection is closed after the answer, and no TLS session is resumed.
    const call = request(url, { method, headers, agent: false, ...(signal ? { signal } : {}) }, resolve);
    call.on('error', reject);
    call.end(body ? new Uint8Array(body as ArrayBuffer) : undefined);
  });
  const parts: Uint8Array[] = [];
  for await (const part of response) parts.push(part as Uint8Array);
  const told = Object.entries(response.headersDistinct).flatMap(([name, values]) => (values ?? []).map((value): [string, string] => [name, value]));
  return new Response(parts.length > 0 ? new Blob(parts as BlobPart[]) : null, { status: response.statusCode ?? 0, headers: told });
};
