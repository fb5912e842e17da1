import { describe, expect, setDefaultTimeout, test } from 'bun:test';
import {
  chmodSync,
  existsSync,
  lstatSync,
  mkdirSync,
  readFileSync,
  readdirSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import {
  claimEntry,
  defaultSocketPath,
  findSocket,
  listSockets,
} from '../../../src/api/control/directory.ts';
import type { SocketPlaces } from '../../../src/api/control/socket-places.ts';
import { serveControl } from '../../../src/api/control/server.ts';
import { voltErrorOf } from '../support/errors.ts';
import { FAKE_STATUS, FakeTarget, SocketFolder } from './control-support.ts';

/** For hangs only: far above what a test takes on a busy machine. */
setDefaultTimeout(60_000);

/** Above the largest process id that Linux gives. (PID_MAX_LIMIT, 2^22) */
const DEAD_PID = 4_194_305;
const UID = process.getuid!();

/** A host of its own in a folder: with /run and /tmp, and $XDG_RUNTIME_DIR if asked for. */
function placesIn(folder: SocketFolder, withRuntime = true): SocketPlaces {
  for (const name of ['run', 'tmp', 'runtime']) mkdirSync(folder.at(name));
  const runtimeDirectory = withRuntime ? folder.at('runtime') : undefined;
  return { uid: UID, runtimeDirectory, run: folder.at('run'), tmp: folder.at('tmp') };
}

const serve = (path: string) => serveControl(new FakeTarget(), path);

async function leaveStaleSocket(path: string): Promise<void> {
  const code = `Bun.listen({ unix: ${JSON.stringify(path)}, socket: { data() {} } }); process.kill(process.pid, 'SIGKILL');`;
  await Bun.spawn([process.execPath, '-e', code]).exited;
}

describe('the directory', () => {
  test('is in $XDG_RUNTIME_DIR, and nobody else may look into it', () => {
    using folder = new SocketFolder();
    expect(defaultSocketPath(42, placesIn(folder))).toBe(folder.at('runtime/volt/42.sock'));
    expect(lstatSync(folder.at('runtime/volt')).mode & 0o7777).toBe(0o700);
  });

  test('is /run/volt for root without one, and /tmp/volt-<uid> for others', () => {
    using folder = new SocketFolder();
    const places = placesIn(folder, false);
    const expected = UID === 0 ? 'run/volt/42.sock' : `tmp/volt-${UID}/42.sock`;
    expect(defaultSocketPath(42, places)).toBe(folder.at(expected));
  });

  test.skipIf(UID !== 0)(
    "in /run lets the users of systemd's units through to their folders (needs root)",
    () => {
      using folder = new SocketFolder();
      const places = placesIn(folder, false);
      const before = process.umask(0o077);
      const path = defaultSocketPath(42, places);
      process.umask(before);

      expect(path).toBe(folder.at('run/volt/42.sock'));
      expect(lstatSync(folder.at('run/volt')).mode & 0o7777).toBe(0o755);
    },
  );

  test('is not in an $XDG_RUNTIME_DIR that is relative, missing or of another user', () => {
    using folder = new SocketFolder();
    const places = placesIn(folder);
    for (const runtimeDirectory of ['relative', folder.at('missing'), '/proc/nonexistent']) {
      const path = defaultSocketPath(42, { ...places, runtimeDirectory });
      expect(path.startsWith(UID === 0 ? places.run : places.tmp)).toBe(true);
    }
  });

  test('is passed over where it is open to others, a file or a link', () => {
    using folder = new SocketFolder();
    const places = { ...placesIn(folder), run: folder.at('none') };
    mkdirSync(folder.at('runtime/volt'));
    chmodSync(folder.at('runtime/volt'), 0o755);
    expect(defaultSocketPath(1, places)).toBe(folder.at(`tmp/volt-${UID}/1.sock`));

    const other = { ...places, runtimeDirectory: folder.at('other') };
    mkdirSync(folder.at('other'));
    writeFileSync(folder.at('other/volt'), '');
    expect(defaultSocketPath(1, other)).toBe(folder.at(`tmp/volt-${UID}/1.sock`));

    const linked = { ...places, runtimeDirectory: folder.at('linked') };
    mkdirSync(folder.at('linked'));
    symlinkSync(folder.at('tmp'), folder.at('linked/volt'));
    expect(defaultSocketPath(1, linked)).toBe(folder.at(`tmp/volt-${UID}/1.sock`));
  });

  test('that somebody prepared in /tmp is refused with the reason', () => {
    using folder = new SocketFolder();
    const places = { ...placesIn(folder, false), run: folder.at('none') };
    mkdirSync(folder.at(`tmp/volt-${UID}`));
    chmodSync(folder.at(`tmp/volt-${UID}`), 0o777);
    const { code, message } = voltErrorOf(() => defaultSocketPath(1, places));
    expect(code).toBe('host');
    expect(message).toContain(`tmp/volt-${UID} has mode 0777`);
    expect(message).toContain('(expected a directory of yours with mode 0700)');
  });
});

describe('running guests', () => {
  test('are listed with their status, in order', async () => {
    using folder = new SocketFolder();
    const places = placesIn(folder);
    await using second = await serve(defaultSocketPath(300, places));
    await using first = await serve(defaultSocketPath(20, places));
    expect(await listSockets(places)).toEqual([
      { pid: 20, path: first.path, status: FAKE_STATUS },
      { pid: 300, path: second.path, status: FAKE_STATUS },
    ]);
    expect(findSocket(300, places)).toBe(second.path);
  });

  test('are found in every directory that another shell may have used', async () => {
    using folder = new SocketFolder();
    const places = placesIn(folder);
    await using _inTmp = await serve(
      defaultSocketPath(1, { ...places, runtimeDirectory: undefined, run: '/none' }),
    );
    await using _inRuntime = await serve(defaultSocketPath(2, places));
    const pids = (await listSockets(places)).map(({ pid }) => pid);
    expect(pids).toEqual([1, 2]);
  });

  test("of systemd's units are listed for root, with the process that listens, whatever the guest says of itself", async () => {
    using folder = new SocketFolder();
    const places = placesIn(folder, false);
    mkdirSync(folder.at('run/volt/web'), { recursive: true });
    await using server = await serve(folder.at('run/volt/web/control.sock'));
    writeFileSync(folder.at('run/volt/notes'), 'precious');

    const forRoot = await listSockets({ ...places, uid: 0 });
    const forOthers = await listSockets({ ...places, uid: UID + 1 });

    expect(FAKE_STATUS.pid).not.toBe(process.pid);
    expect(forRoot).toEqual([
      { pid: process.pid, name: 'web', isUnit: true, path: server.path, status: FAKE_STATUS },
    ]);
    expect(findSocket(process.pid, { ...places, uid: 0 })).toBe(server.path);
    expect(forOthers).toEqual([]);
  });

  test("of a systemd's unit that was killed are not listed, and its folder is left to systemd", async () => {
    using folder = new SocketFolder();
    const places = { ...placesIn(folder, false), uid: 0 };
    mkdirSync(folder.at('run/volt/web'), { recursive: true });
    await leaveStaleSocket(folder.at('run/volt/web/control.sock'));

    expect(await listSockets(places)).toEqual([]);
    expect(existsSync(folder.at('run/volt/web/control.sock'))).toBe(true);
  });

  test('none, where there is no directory', async () => {
    using folder = new SocketFolder();
    expect(await listSockets(placesIn(folder))).toEqual([]);
  });

  test('with a path of their own are found by their link, until it is taken back', async () => {
    using folder = new SocketFolder();
    const places = placesIn(folder);
    await using server = await serve(folder.at('mine.sock'));
    const release = claimEntry(77, server.path, places);
    expect(findSocket(77, places)).toBe(server.path);
    expect(await listSockets(places)).toEqual([{ pid: 77, path: server.path, status: FAKE_STATUS }]);
    release();
    expect(readdirSync(folder.at('runtime/volt'))).toEqual([]);
    expect(existsSync(server.path)).toBe(true);
  });

  test('a link that a killed process with the same number left is replaced', async () => {
    using folder = new SocketFolder();
    const places = placesIn(folder);
    await using server = await serve(folder.at('mine.sock'));
    const old = claimEntry(77, '/nonexistent', places);
    claimEntry(77, server.path, places);
    old();
    expect(findSocket(77, places)).toBe(server.path);
  });

  test('that do not answer are listed without a status', async () => {
    using folder = new SocketFolder();
    const places = placesIn(folder);
    const path = defaultSocketPath(5, places);
    using _listener = Bun.listen({ unix: path, socket: { data() {} } });
    expect(await listSockets(places)).toEqual([{ pid: 5, path, status: undefined }]);
  });

  test('no guest with that number is an error', () => {
    using folder = new SocketFolder();
    const { message } = voltErrorOf(() => findSocket(DEAD_PID, placesIn(folder)));
    expect(message).toBe(
      `Cannot find a guest with process id ${DEAD_PID}: it has no control socket; volt ps lists those that have one`,
    );
  });
});

describe('what dead processes left', () => {
  test('sockets and links are removed', async () => {
    using folder = new SocketFolder();
    const places = placesIn(folder);
    await leaveStaleSocket(defaultSocketPath(DEAD_PID, places));
    claimEntry(DEAD_PID + 1, '/nonexistent/vm.sock', places);
    expect(readdirSync(folder.at('runtime/volt'))).toHaveLength(2);
    expect(await listSockets(places)).toEqual([]);
    expect(readdirSync(folder.at('runtime/volt'))).toEqual([]);
  });

  test('a dead socket stays while a process with its number lives: it may be about to listen', async () => {
    using folder = new SocketFolder();
    const places = placesIn(folder);
    const path = defaultSocketPath(process.pid, places);
    await leaveStaleSocket(path);
    expect(await listSockets(places)).toEqual([]);
    expect(existsSync(path)).toBe(true);
  });

  test('what is no socket, or has no number, is left alone', async () => {
    using folder = new SocketFolder();
    const places = placesIn(folder);
    writeFileSync(defaultSocketPath(DEAD_PID, places), 'precious');
    writeFileSync(folder.at('runtime/volt/notes.sock'), 'precious');
    expect(await listSockets(places)).toEqual([]);
    expect(readFileSync(folder.at(`runtime/volt/${DEAD_PID}.sock`), 'utf8')).toBe('precious');
    expect(readdirSync(folder.at('runtime/volt'))).toHaveLength(2);
  });
});
