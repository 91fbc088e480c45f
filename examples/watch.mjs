// Watches a tenant's events as they are stored, in a browser or in Node: with fetch, and with a WebSocket. Both go on where they
// were after any break, each event once.
//
// EventSource is not used: it cannot send the token, and a token does not belong into a URL.

/** Yields {event, id, data} with fetch, until `signal` is aborted. */
export async function* watch(url, token, { query = '', after = null, signal } = {}) {
  for (;;) {
    try {
      const headers = { authorization: `Bearer ${token}` };
      if (after) headers['last-event-id'] = after;
      const response = await fetch(`${url}/v1/stream?${query}`, { headers, signal });
      if ([400, 401, 403].includes(response.status)) throw new Refused((await response.json()).detail);
      if (response.ok) {
        for await (const message of messages(response.body)) {
          yield message;
          after = message.id; // only now: it was taken
        }
      }
    } catch (error) {
      if (error instanceof Refused || signal?.aborted) throw error;
    }
    await new Promise((resolve) => setTimeout(resolve, 1000));
  }
}

export class Refused extends Error {}

async function* messages(body) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  let text = '';
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    text += value;
    const blocks = text.split('\n\n');
    text = blocks.pop();
    for (const block of blocks) {
      const fields = Object.fromEntries(block.split('\n').map((line) => [line.split(': ', 1)[0], line.slice(line.indexOf(': ') + 2)]));
      if (fields.event) yield { event: fields.event, id: fields.id, data: JSON.parse(fields.data) };
    }
  }
}

/** Calls `take` with {event, id, data} from a WebSocket, and reconnects; returns a function that ends it. */
export function watchSocket(url, token, take, { query = '', after = null } = {}) {
  let socket, ended = false;
  const connect = () => {
    const from = after ? `&after=${after}` : '';
    socket = new WebSocket(`${url.replace(/^http/, 'ws')}/v1/stream/ws?${query}${from}`, ['cns-events.v1', `bearer.${token}`]);
    socket.onmessage = ({ data }) => {
      const message = JSON.parse(data);
      take(message);
      after = message.id;
    };
    socket.onclose = ({ code }) => {
      if (!ended && code !== 4401) setTimeout(connect, 1000);
    };
  };
  connect();
  return () => {
    ended = true;
    socket.close();
  };
}
