import { describe, expect, setDefaultTimeout, test } from 'bun:test';
import { lstatSync, mkdirSync, readFileSync, readdirSync, symlinkSync, writeFileSync } from 'node:fs';
import { basename, dirname } from 'node:path';
import { serveControl } from '../../../src/api/control/server.ts';
import { placeSocket } from '../../../src/api/control/socket-file.ts';
import { probeListener } from '../../../src/ffi/unix-socket.ts';
import { VoltError } from '../../../src/volt-error.ts';
import { FAKE_STATUS, FakeTarget, RawClient, SocketFolder, until } from './control-support.ts';

/** For hangs only: far above what a test takes on a busy machine. */
setDefaultTimeout(60_000);

const serve = async (path: string) => serveControl(new FakeTarget(), path);
const listen = (path: string) => Bun.listen({ unix: path, socket: { data() {} } });

/** A socket whose process is gone: closed, but its file still there. */
async function leaveStaleSocket(path: string): Promise<void> {
  const child = Bun.spawn([
    process.execPath,
    '-e',
    `Bun.listen({ unix: ${JSON.stringify(path)}, socket: { data() {} } }); process.kill(process.pid, 'SIGKILL');`,
  ]);
  await child.exited;
  expect(lstatSync(path).isSocket()).toBe(true);
}

async function messageOf(promise: Promise<unknown>): Promise<string> {
  const error: unknown = await promise.then(
    () => undefined,
    (reason: unknown) => reason,
  );
  expect(error).toBeInstanceOf(VoltError);
  return (error as VoltError).message;
}

describe('the socket appears', () => {
  test('at its path only when it is restricted, having been bound where nobody else can look', async () => {
    using folder = new SocketFolder();
    const path = folder.at('vm.sock');
    let listener: { stop(force?: boolean): void } | undefined;
    let folderMode = 0;
    let before: string[] = [];
    const file = placeSocket(path, (at) => {
      listener = listen(at);
      folderMode = lstatSync(dirname(at)).mode & 0o7777;
      before = readdirSync(folder.path);
    });
    expect(folderMode).toBe(0o700);
    expect(before).not.toContain('vm.sock');
    expect(lstatSync(path).mode & 0o7777).toBe(0o600);
    expect(readdirSync(folder.path)).toEqual(['vm.sock']);
    file.remove();
    expect(readdirSync(folder.path)).toEqual([]);
    listener?.stop(true);
  });

  test.each([0o000, 0o022, 0o077, 0o177])('with mode 0600 under umask %o', async (umask) => {
    using folder = new SocketFolder();
    const before = process.umask(umask);
    try {
      await using server = await serve(folder.at('vm.sock'));
      expect(lstatSync(server.path).mode & 0o7777).toBe(0o600);
    } finally {
      process.umask(before);
    }
  });

  test('where the longest path that a socket can have leads', async () => {
    using folder = new SocketFolder();
    const directory = folder.at('d'.repeat(104 - folder.path.length));
    mkdirSync(directory);
    const path = `${directory}/s`;
    expect(Buffer.byteLength(path)).toBe(107);
    await using server = await serve(path);
    expect(await (await RawClient.connect(server.path)).answer('status')).toHaveProperty(
      'result',
      FAKE_STATUS,
    );
    expect(readdirSync(directory)).toEqual(['s']);
  });

  test('at a path relative to the working directory', async () => {
    using folder = new SocketFolder();
    const before = process.cwd();
    process.chdir(folder.path);
    try {
      await using server = await serve('vm.sock');
      expect(basename(server.path)).toBe('vm.sock');
      expect(server.path.startsWith('/')).toBe(true);
    } finally {
      process.chdir(before);
    }
  });
});

describe('what is at the path already', () => {
  test('a dead socket is replaced', async () => {
    using folder = new SocketFolder();
    const path = folder.at('vm.sock');
    await leaveStaleSocket(path);
    await using server = await serve(path);
    expect(await (await RawClient.connect(server.path)).answer('status')).toHaveProperty(
      'result',
      FAKE_STATUS,
    );
    expect(readdirSync(folder.path)).toEqual(['vm.sock']);
  });

  test('of several processes that find the same dead socket, one gets its place', async () => {
    using folder = new SocketFolder();
    const path = folder.at('vm.sock');
    await leaveStaleSocket(path);
    const module = (name: string) => JSON.stringify(`${import.meta.dir}/${name}`);
    const code = `
      import { serveControl } from ${module('../../../src/api/control/server.ts')};
      import { FakeTarget } from ${module('control-support.ts')};
      try { serveControl(new FakeTarget(), ${JSON.stringify(path)}); console.log('serving'); await new Response(Bun.stdin).text(); }
      catch (error) { console.log(error.message); }
      process.exit();`;
    await Bun.write(folder.at('serve.ts'), code);
    const children = Array.from({ length: 6 }, () =>
      Bun.spawn([process.execPath, folder.at('serve.ts')], { stdin: 'pipe', stdout: 'pipe' }),
    );
    const said = await Promise.all(
      children.map(async ({ stdout }) => {
        const { value } = await stdout.getReader().read();
        return Buffer.from(value!).toString('utf8').trim();
      }),
    );
    expect(said.filter((line) => line === 'serving')).toHaveLength(1);
    expect(said.filter((line) => line.includes('another process listens there'))).toHaveLength(5);
    expect(await (await RawClient.connect(path)).answer('status')).toHaveProperty('result', FAKE_STATUS);
    for (const { stdin } of children) await stdin.end();
    await Promise.all(children.map(({ exited }) => exited));
    expect(readdirSync(folder.path)).toEqual(['serve.ts']);
  });

  test('a live one is an error that names it, and lives on', async () => {
    using folder = new SocketFolder();
    await using server = await serve(folder.at('vm.sock'));
    expect(await messageOf(serve(server.path))).toBe(
      `Cannot open control socket ${server.path}: another process listens there (expected a different path for each guest)`,
    );
    expect(probeListener(server.path)).toBe('listening');
    expect(readdirSync(folder.path)).toEqual(['vm.sock']);
  });

  test('one whose process is stopped, with all its places taken, is alive too', async () => {
    using folder = new SocketFolder();
    const path = folder.at('vm.sock');
    const code = `Bun.listen({ unix: ${JSON.stringify(path)}, socket: { data() {} } }); process.kill(process.pid, 'SIGSTOP');`;
    await using child = Bun.spawn([process.execPath, '-e', code]);
    await until(() => /^State:\s+T/m.test(readFileSync(`/proc/${child.pid}/status`, 'utf8')));
    await until(() => probeListener(path) === 'busy');
    const { ino } = lstatSync(path);
    expect(await messageOf(serve(path))).toContain('another process listens there');
    expect(lstatSync(path).ino).toBe(ino);
    child.kill('SIGKILL');
    await child.exited;
    expect(probeListener(path)).toBe('dead');
  });

  test.each([
    ['a file', (path: string) => writeFileSync(path, 'precious')],
    ['a directory', (path: string) => mkdirSync(path)],
    ['a dangling link', (path: string) => symlinkSync('/nonexistent/vm.sock', path)],
  ])('%s stays', async (_name, make) => {
    using folder = new SocketFolder();
    const path = folder.at('vm.sock');
    make(path);
    const before = lstatSync(path);
    expect(await messageOf(serve(path))).toContain('it exists and is not a socket (expected a free path');
    expect(lstatSync(path).ino).toBe(before.ino);
    expect(readdirSync(folder.path)).toEqual(['vm.sock']);
  });

  test('a link to a file leaves both', async () => {
    using folder = new SocketFolder();
    writeFileSync(folder.at('file'), 'precious');
    symlinkSync(folder.at('file'), folder.at('vm.sock'));
    await messageOf(serve(folder.at('vm.sock')));
    expect(readFileSync(folder.at('vm.sock'), 'utf8')).toBe('precious');
  });
});

describe('paths that cannot be', () => {
  test('too long', async () => {
    using folder = new SocketFolder();
    const path = folder.at('x'.repeat(107));
    expect(await messageOf(serve(path))).toBe(
      `Cannot open control socket ${path}: its path has ${path.length} bytes (expected at most 107)`,
    );
  });

  test('in a directory that is not there, or is none', async () => {
    using folder = new SocketFolder();
    writeFileSync(folder.at('file'), '');
    expect(await messageOf(serve(folder.at('no/vm.sock')))).toContain(
      `there is no directory ${folder.at('no')} (expected a path in a directory that you may write to)`,
    );
    expect(await messageOf(serve(folder.at('file/vm.sock')))).toContain('is not a directory');
  });

  test('in a file system that takes no files', async () => {
    expect(await messageOf(serve('/proc/vm.sock'))).toContain('Cannot open control socket /proc/vm.sock: ');
  });
});

test('what another process put at the path since is not removed', async () => {
  using folder = new SocketFolder();
  const path = folder.at('vm.sock');
  const first = await serve(path);
  lstatSync(path);
  await Bun.$`rm ${path}`.quiet();
  await using second = await serve(path);
  await first.close();
  expect(probeListener(second.path)).toBe('listening');
});
