/** The guest's serial port and volt's stdin and stdout. No byte may be lost on the way. */
import { describe, expect, setDefaultTimeout, test } from 'bun:test';
import { kvmOpens, TemporaryFolder, VOLT } from '../cli/volt-process.ts';
import { runGuest } from './guest-run.ts';
import { asm, buildPvhElf, echoGuest, LOAD_ADDRESS, program } from './tiny-guest.ts';

setDefaultTimeout(240_000);

const HANG_MS = 200_000;
const READY = 'ready\n';
const END = Uint8Array.from([0x04]);

/** Bytes that do not repeat, and never 0x04, on which the echo guest ends. */
function unlikeBytes(count: number): Uint8Array {
  let state = 1;
  return Uint8Array.from({ length: count }, () => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    const byte = state >>> 24;
    return byte === 0x04 ? 0x05 : byte;
  });
}

/** A guest that prints `content` and ends. */
function printer(content: Uint8Array): Uint8Array {
  const codeBytes = program(asm.printMemory(0, 0), asm.exit(0)).length;
  return Buffer.concat([
    program(asm.printMemory(LOAD_ADDRESS + codeBytes, content.length), asm.exit(0)),
    content,
  ]);
}

/** Runs `volt` with these arguments as `"$@"` of a shell script, which can join it to other programs. */
async function runScript(script: string, args: readonly string[]) {
  await using child = Bun.spawn(['bash', '-c', script, 'bash', VOLT, ...args], {
    stdin: 'ignore',
    stdout: 'pipe',
    stderr: 'pipe',
    timeout: HANG_MS,
    killSignal: 'SIGKILL',
  });
  const [bytes, stderr] = await Promise.all([
    new Response(child.stdout).bytes(),
    new Response(child.stderr).text(),
  ]);
  return { bytes, stderr, exitCode: await child.exited };
}

describe.skipIf(!kvmOpens)('--console (needs /dev/kvm)', () => {
  test('none: the guest prints and nobody sees it', async () => {
    const { stdout, stderr, exitCode } = await runGuest(program(asm.print('unseen'), asm.exit(3)), [
      '--console',
      'none',
    ]);

    expect(stdout).toBe('');
    expect(stderr).toStartWith('volt: guest reported failure: status 3 from vCPU 0\n');
    expect(exitCode).toBe(67);
  });

  test('file=PATH: the file is made, then appended to, and stdout stays empty', async () => {
    using folder = new TemporaryFolder();
    const flags = ['--console', `file=${folder.at('console.log')}`];

    const first = await runGuest(program(asm.print('first\n'), asm.exit(0)), flags);
    const second = await runGuest(program(asm.print('second\n'), asm.exit(0)), flags);

    expect(await Bun.file(folder.at('console.log')).text()).toBe('first\nsecond\n');
    expect([first.stdout, first.stderr, second.stdout, second.stderr]).toEqual(['', '', '', '']);
    expect([first.exitCode, second.exitCode]).toEqual([0, 0]);
  });

  test('file=PATH with a path that cannot be made: one line and exit code 1', async () => {
    using folder = new TemporaryFolder();
    const path = folder.at('no/such/folder');

    const { stdout, stderr, exitCode } = await runGuest(program(asm.exit(0)), ['--console', `file=${path}`]);

    expect(stderr).toBe(
      `volt: Cannot use --console file=${path}: there is no such directory (expected a file in a directory that exists)\n`,
    );
    expect(stdout).toBe('');
    expect(exitCode).toBe(1);
  });
});

describe.skipIf(!kvmOpens)('stdin (needs /dev/kvm)', () => {
  test('that is a directory is as good as none', async () => {
    const { stderr, exitCode } = await runScript('"$@" < /tmp', ['--cpus', '1']);

    expect(stderr).toBe('');
    expect(exitCode).toBe(0);
  });

  test('as a pipe with 100 KB: every byte comes back from the guest in its order', async () => {
    const content = unlikeBytes(100_000);

    const { bytes, stderr, exitCode } = await runGuest(echoGuest(), [], {
      stdin: Buffer.concat([content, END]),
      hangMs: HANG_MS,
    });

    expect(Buffer.from(bytes.subarray(READY.length)).equals(content)).toBe(true);
    expect(stderr).toBe('');
    expect(exitCode).toBe(0);
  });

  test('as a pipe in which Ctrl-A and x are bytes like others', async () => {
    const { stdout, exitCode } = await runGuest(echoGuest(), [], {
      stdin: Buffer.from('\x01x\x01h\x01\x04'),
    });

    expect(stdout).toBe(`${READY}\x01x\x01h\x01`);
    expect(exitCode).toBe(0);
  });

  test('as a pipe that ends before the guest does: the guest goes on', async () => {
    const { stdout, exitCode } = await runGuest(printer(Buffer.from('.'.repeat(5000))), [], {
      stdin: Buffer.from('unread'),
    });

    expect(stdout).toBe('.'.repeat(5000));
    expect(exitCode).toBe(0);
  });

  test('as a file: it is read like a pipe', async () => {
    using folder = new TemporaryFolder();
    const input = await folder.write('input', 'from a file\x04');
    const kernel = await folder.write('kernel', buildPvhElf(echoGuest()));

    const { bytes, exitCode } = await runScript(`"$@" < '${input}'`, ['--kernel', kernel, '--cpus', '1']);

    expect(Buffer.from(bytes).toString()).toBe(`${READY}from a file`);
    expect(exitCode).toBe(0);
  });

  test('closed: the guest runs all the same', async () => {
    using folder = new TemporaryFolder();
    const kernel = await folder.write('kernel', buildPvhElf(program(asm.print('alone'), asm.exit(0))));

    const { bytes, stderr, exitCode } = await runScript('"$@" <&-', ['--kernel', kernel, '--cpus', '1']);

    expect(Buffer.from(bytes).toString()).toBe('alone');
    expect(stderr).toBe('');
    expect(exitCode).toBe(0);
  });
});

describe.skipIf(!kvmOpens)('stdout (needs /dev/kvm)', () => {
  test('as a pipe whose reader sleeps: 1 MiB arrives whole', async () => {
    using folder = new TemporaryFolder();
    const content = unlikeBytes(1024 * 1024);
    const kernel = await folder.write('kernel', buildPvhElf(printer(content)));
    const slowReader = '{ sleep 1; head -c 100000; sleep 1; head -c 300000; sleep 1; cat; }';

    const { bytes, stderr, exitCode } = await runScript(`set -o pipefail; "$@" | ${slowReader}`, [
      '--kernel',
      kernel,
      '--cpus',
      '1',
    ]);

    expect(bytes.length).toBe(content.length);
    expect(Buffer.from(bytes).equals(content)).toBe(true);
    expect(stderr).toBe('');
    expect(exitCode).toBe(0);
  });

  test('as a pipe whose reader goes away: one line, and exit code 1', async () => {
    using folder = new TemporaryFolder();
    const kernel = await folder.write('kernel', buildPvhElf(program(asm.forEver(asm.print('on and on\n')))));

    const { bytes, stderr, exitCode } = await runScript('"$@" | head -c 10; exit ${PIPESTATUS[0]}', [
      '--kernel',
      kernel,
      '--cpus',
      '2',
    ]);

    expect(Buffer.from(bytes).toString()).toBe('on and on\n');
    expect(stderr).toBe("volt: the console's reader has closed the pipe (EPIPE); ending the guest\n");
    expect(exitCode).toBe(1);
  });

  test('as a device that is full: one line that names the error, and the guest goes on to its end', async () => {
    using folder = new TemporaryFolder();
    const kernel = await folder.write('kernel', buildPvhElf(program(asm.print('unseen\n'), asm.exit(5))));

    const { stderr, exitCode } = await runScript('"$@" > /dev/full', ['--kernel', kernel, '--cpus', '1']);

    expect(stderr.split('\n')[0]).toBe('volt: stdout has no room (ENOSPC); the guest goes on without it');
    expect(exitCode).toBe(69);
  });

  test('closed: the guest runs to its end', async () => {
    using folder = new TemporaryFolder();
    const kernel = await folder.write('kernel', buildPvhElf(program(asm.print('unseen'), asm.exit(5))));

    const { exitCode } = await runScript('"$@" >&-', ['--kernel', kernel, '--cpus', '1']);

    expect(exitCode).toBe(69);
  });

  test('keeps what a guest printed before it crashed', async () => {
    const content = unlikeBytes(20_000);
    const codeBytes = program(asm.printMemory(0, 0), [0x0f, 0x0b]).length;
    const crash = program(asm.printMemory(LOAD_ADDRESS + codeBytes, content.length), [0x0f, 0x0b]);

    const { bytes, exitCode } = await runGuest(Buffer.concat([crash, content]));

    expect(Buffer.from(bytes).equals(content)).toBe(true);
    expect(exitCode).toBe(3);
  });
});

describe.skipIf(!kvmOpens)('stderr (needs /dev/kvm)', () => {
  test('closed: the exit code still tells', async () => {
    using folder = new TemporaryFolder();
    const kernel = await folder.write('kernel', buildPvhElf(program([0x0f, 0x0b])));

    const { exitCode } = await runScript('"$@" 2>&-', ['--kernel', kernel, '--cpus', '1']);

    expect(exitCode).toBe(3);
  });

  test('has what --log-level info adds, and stdout does not', async () => {
    const { stdout, stderr } = await runGuest(program(asm.print('guest'), asm.exit(0)), [
      '--log-level',
      'info',
    ]);

    expect(stdout).toBe('guest');
    expect(stderr).toContain('volt: 32-bit ELF kernel, PVH entry; 1 vCPUs, 32 MiB\n');
    expect(stderr).toContain('volt: guest ended: guest-exit on vCPU 0\n');
  });
});
