/** The metrics endpoint against clients that do not mean well. */
import { afterEach, describe, expect, setDefaultTimeout, test } from 'bun:test';
import { connect, type Socket } from 'node:net';
import {
  MAX_CONNECTIONS,
  answerTo,
  serveHttp,
  type HttpServer,
} from '../../../src/api/metrics/http-server.ts';
import { readRequestHead } from '../../../src/api/metrics/http-request.ts';

/** For hangs only: far above what a test takes on a busy machine. */
setDefaultTimeout(60_000);

const handle = (path: string) =>
  path === '/metrics' ? { status: 200, body: 'x 1\n' } : { status: 404, body: 'no\n' };
const answer = (text: string) => {
  const bytes = answerTo(Buffer.from(text, 'latin1'), handle);
  return bytes && Buffer.from(bytes).toString('latin1');
};

describe('requests', () => {
  test('are answered once they are whole', () => {
    expect(answer('GET /metrics HTTP/1.1\r\nHost: a:1\r\n')).toBeUndefined();
    expect(answer('GET /metrics?x=1 HTTP/1.1\r\nHost: [::1]:9100\r\n\r\n')).toBe(
      'HTTP/1.1 200 OK\r\ncontent-type: text/plain; charset=utf-8\r\ncontent-length: 4\r\nconnection: close\r\n\r\nx 1\n',
    );
    expect(answer('HEAD /metrics HTTP/1.0\n\n')).toEndWith('content-length: 4\r\nconnection: close\r\n\r\n');
  });

  test.each([
    ['GET /metrics HTTP/1.1\r\nHost: [\r\n\r\n', 400],
    ['GET /metrics HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n', 400],
    ['GET /metrics HTTP/1.1\r\nno field\r\n\r\n', 400],
    ['GET /metrics HTTP/1.1\r\na: \x00\r\n\r\n', 400],
    ['GET  /metrics HTTP/1.1\r\n', 400],
    ['\x16\x03\x01\x02\x00\n', 400],
    ['GET /metrics HTTP/2.0\r\n\r\n', 505],
    [`GET /${'a'.repeat(9000)}`, 431],
    ['POST /metrics HTTP/1.1\r\n\r\n', 405],
    ['GET /other HTTP/1.1\r\n\r\n', 404],
    ['GET http://[/ HTTP/1.1\r\n\r\n', 404],
  ])('%j has status %d', (text, status) => {
    expect(answer(text)).toStartWith(`HTTP/1.1 ${status} `);
  });

  test('a handler that throws is status 500, without a trace', () => {
    const bytes = answerTo(Buffer.from('GET / HTTP/1.1\r\n\r\n'), () => {
      throw new Error('secret');
    });

    expect(Buffer.from(bytes!).toString()).toStartWith('HTTP/1.1 500 ');
    expect(Buffer.from(bytes!).toString()).not.toContain('secret');
  });

  test('of random bytes never throw', () => {
    for (let seed = 1; seed <= 2000; seed++) {
      const bytes = Uint8Array.from({ length: seed % 300 }, (_, i) => (seed * 2654435761 * (i + 7)) >>> 13);
      expect(['incomplete', 'request', 'refused']).toContain(readRequestHead(bytes).kind);
    }
  });
});

describe('a flood', () => {
  let server: HttpServer | undefined;
  const sockets: Socket[] = [];
  afterEach(() => {
    for (const socket of sockets.splice(0)) socket.destroy();
    server?.stop();
  });

  test('of connections that send nothing keeps nobody from being served', async () => {
    server = serveHttp({ hostname: '127.0.0.1', port: 0 }, handle);
    const { port } = server;
    let open = 0;
    let connected = 0;
    for (let i = 0; i < 4 * MAX_CONNECTIONS; i++) {
      const socket = connect(port!, '127.0.0.1', () => {
        connected++;
        socket.write('GET ');
      });
      open++;
      socket.on('close', () => open--);
      socket.on('error', () => {});
      sockets.push(socket);
    }

    for (let turns = 0; connected < 4 * MAX_CONNECTIONS && turns < 500; turns++) await Bun.sleep(10);

    const response = await fetch(`http://127.0.0.1:${port}/metrics`);

    expect(await response.text()).toBe('x 1\n');
    for (let turns = 0; open > MAX_CONNECTIONS && turns < 500; turns++) await Bun.sleep(10);
    expect(open).toBeLessThanOrEqual(MAX_CONNECTIONS);
  });

  test('of bytes without an end is cut off with status 431', async () => {
    server = serveHttp({ hostname: '127.0.0.1', port: 0 }, handle);
    const { promise, resolve } = Promise.withResolvers<string>();
    let text = '';
    const socket = connect(server.port!, '127.0.0.1', () => socket.write('a'.repeat(100_000)));
    socket.on('data', (bytes) => void (text += bytes.toString()));
    socket.on('close', () => resolve(text));
    socket.on('error', () => {});
    sockets.push(socket);

    expect(await promise).toStartWith('HTTP/1.1 431 ');
  });
});
