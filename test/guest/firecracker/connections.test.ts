/** Connections to the API: how many, and what a client may send on one. */
import { expect, setDefaultTimeout, test } from 'bun:test';
import { connect, type Socket } from 'node:net';
import { requestAt } from './client.ts';
import { FirecrackerChild } from './microvm.ts';

/** For hangs only. */
setDefaultTimeout(60_000);

/** Connects, and sends a request so that the server has surely accepted it. */
async function holdConnection(path: string): Promise<Socket> {
  const socket = connect(path);
  const { promise, resolve } = Promise.withResolvers<void>();
  socket.once('data', () => resolve());
  socket.write('GET /version HTTP/1.1\r\n\r\n');
  await promise;
  return socket;
}

async function readAll(socket: Socket): Promise<string> {
  const chunks: Uint8Array[] = [];
  socket.on('data', (chunk) => chunks.push(Buffer.from(chunk)));
  const { promise, resolve } = Promise.withResolvers<void>();
  socket.on('close', () => resolve());
  await promise;
  return Buffer.concat(chunks).toString('utf8');
}

test('the eleventh client is told so and disconnected, and another may come when one has left', async () => {
  await using volt = await FirecrackerChild.start([]);
  const held: Socket[] = [];
  for (let i = 0; i < 10; i++) held.push(await holdConnection(volt.socket));

  const refused = await readAll(connect(volt.socket));
  for (const socket of held) socket.destroy();
  await Bun.sleep(100);
  const later = await requestAt(volt.socket, 'GET', '/version');

  expect(refused).toBe(
    'HTTP/1.1 503\r\nServer: Firecracker API\r\nConnection: close\r\nContent-Length: 40\r\n\r\n{ "error": "Too many open connections" }',
  );
  expect(later.status).toBe(200);
});

test('requests that come together are answered in their order, also after the client has ended its side', async () => {
  await using volt = await FirecrackerChild.start(['--id', 'demo']);
  const socket = connect({ path: volt.socket, allowHalfOpen: true });
  const reading = readAll(socket);

  socket.end(
    'GET /version HTTP/1.1\r\n\r\nPUT /mmds HTTP/1.1\r\nContent-Length: 2\r\n\r\n{}GET /mmds HTTP/1.1\r\n\r\n',
  );
  const answers = await reading;

  expect(answers.match(/HTTP\/1\.1 \d+/g)).toEqual(['HTTP/1.1 200', 'HTTP/1.1 204', 'HTTP/1.1 200']);
});
