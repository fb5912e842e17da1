/** Files that a client of the control socket opens for the guest's process, over real Unix sockets. */
import { afterEach, beforeEach, describe, expect, setDefaultTimeout, test } from 'bun:test';
import { closeSync, openSync, readdirSync, readlinkSync, writeFileSync } from 'node:fs';
import { connectControl } from '../../../src/api/control/client.ts';
import { serveControl, type ControlServer } from '../../../src/api/control/server.ts';
import { sendWithFds } from '../../../src/ffi/socket-fds.ts';
import { closeStream, connectStream, receiveBytes, sendBytes } from '../../../src/ffi/unix-stream.ts';
import { VoltError } from '../../../src/volt-error.ts';
import { mutate, seededRandom } from '../support/random.ts';
import { FakeTarget, RawClient, SocketFolder, until, type Message } from './control-support.ts';

/** For hangs only. */
setDefaultTimeout(60_000);

const ID = '0123456789abcdef0123456789abcdef';
const PARAMS = { id: ID, directory: '/srv/web.snap' };
const ANSWER = { id: ID, memoryBytes: 4096, writtenBytes: 4096, pausedMs: 1.5, totalMs: 2, liveRounds: 0 };

let folder: SocketFolder;
let target: FakeTarget;
let server: ControlServer;

beforeEach(() => {
  folder = new SocketFolder();
  target = new FakeTarget();
  server = serveControl(target, folder.at('vm.sock'));
});

afterEach(async () => {
  await server.close();
  folder[Symbol.dispose]();
});

/** A client of system calls alone, which can send descriptors and anything else whenever it likes. */
class FdClient implements Disposable {
  readonly fd: number;
  #open = true;
  #text = '';

  constructor(path: string) {
    this.fd = connectStream(path);
  }

  call(params: object = PARAMS): void {
    sendBytes(
      this.fd,
      Buffer.from(`${JSON.stringify({ jsonrpc: '2.0', id: 1, method: 'snapshot', params })}\n`),
    );
  }

  send(fds: readonly number[], bytes = '\n'): void {
    sendWithFds(this.fd, Buffer.from(bytes), fds);
  }

  /** The next line; undefined when the server has closed the connection. */
  async next(): Promise<Message | undefined> {
    const chunk = new Uint8Array(65536);
    while (!this.#text.includes('\n')) {
      const got = receiveBytes(this.fd, chunk, chunk.length);
      if (got === 0) return undefined;
      if (got > 0) this.#text += Buffer.from(chunk.subarray(0, got)).toString();
      else await Bun.sleep(1);
    }
    const end = this.#text.indexOf('\n');
    const line = this.#text.slice(0, end);
    this.#text = this.#text.slice(end + 1);
    return JSON.parse(line) as Message;
  }

  close(): void {
    if (this.#open) closeStream(this.fd);
    this.#open = false;
  }

  [Symbol.dispose](): void {
    this.close();
  }
}

function makeFile(name: string, flags = 'w+'): number {
  writeFileSync(folder.at(name), '');
  return openSync(folder.at(name), flags);
}

/** Descriptors of this process that are open files of the test's folder. */
function openFiles(): number {
  return readdirSync('/proc/self/fd').filter((fd) => {
    try {
      return readlinkSync(`/proc/self/fd/${fd}`).startsWith(`${folder.path}/file`);
    } catch {
      return false;
    }
  }).length;
}

describe('a snapshot on the control socket', () => {
  test('gets its files from the client, asks for the commit, and then has an answer', async () => {
    using client = new FdClient(server.path);
    const files = [makeFile('file1'), makeFile('file2')];

    client.call();
    const asked = await client.next();
    client.send(files);
    const commit = await client.next();
    client.send([]);
    const answer = await client.next();
    files.forEach((fd) => closeSync(fd));

    expect(asked).toEqual({
      jsonrpc: '2.0',
      method: 'send-files',
      params: { files: ['memory', 'state'] },
    } as never);
    expect(commit).toEqual({ jsonrpc: '2.0', method: 'commit', params: {} } as never);
    expect(answer).toEqual({ jsonrpc: '2.0', id: 1, result: ANSWER });
    expect(target.calls).toEqual([`snapshot ${JSON.stringify(PARAMS)}`, 'files 2']);
    expect(openFiles()).toBe(0);
  });

  test('serves further requests of the connection afterwards', async () => {
    using client = new FdClient(server.path);
    const files = [makeFile('file1'), makeFile('file2')];
    client.call();
    await client.next();
    client.send(files);
    await client.next();
    client.send([]);
    await client.next();

    sendBytes(client.fd, Buffer.from('{"jsonrpc":"2.0","id":2,"method":"pause"}\n'));
    const answer = await client.next();
    files.forEach((fd) => closeSync(fd));

    expect(answer).toEqual({ jsonrpc: '2.0', id: 2, result: { ok: true } });
  });

  test('works for the client of volt ctl', async () => {
    using client = await connectControl(server.path);
    const files = [makeFile('file1'), makeFile('file2')];
    const asks: string[] = [];

    const result = await client.callWithFiles(
      'snapshot',
      PARAMS,
      async (what) => {
        asks.push(what);
        return what === 'send-files' ? files : [];
      },
      30_000,
    );
    files.forEach((fd) => closeSync(fd));

    expect(result).toEqual(ANSWER);
    expect(asks).toEqual(['send-files', 'commit']);
  });

  test("is given up with the error of the client's own files", async () => {
    using client = await connectControl(server.path);

    const error = await client
      .callWithFiles('snapshot', PARAMS, async () => Promise.reject(new VoltError('host', 'full')), 30_000)
      .catch((reason: unknown) => reason);

    expect(error).toEqual(new VoltError('host', 'full'));
  });
});

const REFUSED = "Cannot use the client's files: ";
const HINT = '; use volt ctl';

describe('the files of a snapshot are refused', () => {
  const refusal = async (send: (client: FdClient) => readonly number[]) => {
    using client = new FdClient(server.path);
    client.call();
    await client.next();
    const files = send(client);
    const answer = await client.next();
    files.forEach((fd) => closeSync(fd));
    return answer?.error?.message;
  };

  test.each([
    ['too few', 1, '\n', '1 descriptors came (expected 2, with one newline)'],
    ['none', 0, '\n', '0 descriptors came (expected 2, with one newline)'],
    ['too many', 3, '\n', 'more than 2 descriptors came (expected 2, with one newline)'],
    ['far too many', 200, '\n', 'more than 2 descriptors came (expected 2, with one newline)'],
    ['with another byte', 2, '{', '2 descriptors came (expected 2, with one newline)'],
  ])('%s, all of which are closed', async (_what, count, bytes, found) => {
    const message = await refusal((client) => {
      const files = Array.from({ length: count }, (_, i) => makeFile(`file${i}`));
      client.send(files, bytes);
      return files;
    });

    expect(message).toBe(`${REFUSED}${found}${HINT}`);
    expect(openFiles()).toBe(0);
  });

  test.each([
    ['a device', () => openSync('/dev/null', 'r+'), 'a descriptor is not that of a regular file'],
    ['one to read', () => makeFile('file3', 'r'), 'a file is not open for reading and writing'],
    ['one to append to', () => makeFile('file3', 'a+'), 'a file is not open for reading and writing'],
  ])('%s', async (_what, open, found) => {
    const message = await refusal((client) => {
      const files = [makeFile('file1'), open()];
      client.send(files);
      return files;
    });

    expect(message).toBe(`${REFUSED}${found}${HINT}`);
    expect(openFiles()).toBe(0);
  });

  test('from a client that sends nothing, while others are served', async () => {
    using silent = new FdClient(server.path);
    silent.call();
    await silent.next();
    const other = await RawClient.connect(server.path);

    const answer = await other.answer('pause');
    const refused = await silent.next();

    expect(answer?.result).toEqual({ ok: true });
    expect(refused?.error?.message).toBe(`${REFUSED}the client did not answer send-files in 5 s${HINT}`);
  });

  test('whatever bytes and descriptors come in whatever order', async () => {
    const random = seededRandom(19);
    const request = Buffer.from(
      `${JSON.stringify({ jsonrpc: '2.0', id: 1, method: 'snapshot', params: PARAMS })}\n`,
    );
    const files = [makeFile('file1'), makeFile('file2'), makeFile('file3')];
    for (let round = 0; round < 60; round++) {
      using client = new FdClient(server.path);
      for (let piece = random.int(1, 6); piece > 0; piece--) {
        const bytes = random.pick([request, mutate(random, request), Buffer.from('\n'), random.bytes(40)]);
        sendWithFds(client.fd, bytes, files.slice(0, random.int(0, 3)));
        await Bun.sleep(random.int(0, 2));
      }
    }
    await until(() => openFiles() === files.length);

    const answer = await (await RawClient.connect(server.path)).answer('status');
    files.forEach((fd) => closeSync(fd));

    expect(answer?.result).toBeDefined();
  });
});

describe('a client that vanishes', () => {
  test('before it has sent its files is noticed', async () => {
    const client = new FdClient(server.path);
    client.call();
    await client.next();

    client.close();
    await until(() => target.calls.length > 0);
    await server.close();

    expect(target.calls).toEqual([`snapshot ${JSON.stringify(PARAMS)}`]);
  });

  test('while its snapshot is written is noticed', async () => {
    const gate = Promise.withResolvers<void>();
    target.snapshotGate = gate.promise;
    const client = new FdClient(server.path);
    const files = [makeFile('file1'), makeFile('file2')];
    client.call();
    await client.next();
    client.send(files);
    await until(() => target.calls.includes('files 2'));

    client.close();
    await until(() => target.calls.includes('client gone'));
    gate.resolve();
    files.forEach((fd) => closeSync(fd));

    expect(target.calls).toContain('client gone');
  });
});
