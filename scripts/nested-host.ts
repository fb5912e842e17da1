/**
 * A nested host: an emulated AMD machine with a working /dev/kvm, on any machine, without root.
 *
 * QEMU emulates the CPU and its SVM in software; inside, Debian's kernel mounts this machine's file system read-only
 * as its root (tmpfs on /tmp, /run and HOME), so every program here runs there too. Commands go in and results come
 * out through a shared folder; a serial line carries only "run", "kill" and "done" (see nested-agent.sh).
 */
import { mkdirSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join, resolve } from 'node:path';
import { parseArgs } from 'node:util';
import { type DebianKernel, fetchDebianKernel } from './debian-kernel.ts';
import { ensurePackages } from './host-packages.ts';
import {
  createJobRunner,
  guestExchangeDir,
  lastLines,
  repositoryDir,
  type RunOptions,
  type RunResult,
} from './nested-jobs.ts';
import {
  type NestedMachine,
  nestedQemuArguments,
  spawnSupervised,
  writeNestedInitrd,
} from './nested-qemu.ts';

export type { OutputStream, RunOptions, RunResult } from './nested-jobs.ts';

export interface NestedHostOptions {
  /** Default: Debian's amd64 kernel, downloaded on first use. */
  kernel?: DebianKernel;
  /** Default 2; more than this machine has cores only slows it down. */
  cpus?: number;
  /** Default 4096. */
  memoryMiB?: number;
  /**
   * A disk image (scripts/debian-image.ts) that is the root instead of this machine's file system, with its own systemd as
   * process 1. It stays as it is: what is written ends with the nested host.
   */
  image?: string;
  /** Default true; false leaves /dev/kvm out. */
  kvm?: boolean;
  /** Further kernel modules, e.g. `tun`. */
  modules?: readonly string[];
  /** Folders below /tmp or /run to keep visible. The repository and Bun always are. */
  visiblePaths?: readonly string[];
  /** File for the nested kernel's console; default: a temporary one, quoted in errors. */
  log?: string;
  /** For a hang only: a busy machine takes minutes. Default 600. */
  startTimeoutSeconds?: number;
}

export interface NestedHost extends AsyncDisposable {
  /**
   * Runs a program (array) or a shell script (string) as root inside. Calls may overlap. Resolves when the command
   * and all that hold its output open have ended; rejects when it times out or the nested host dies.
   */
  run(command: string | readonly string[], options?: RunOptions): Promise<RunResult>;
  /** Ends the nested host at once; running commands reject. May be called again. */
  stop(): Promise<void>;
  /** A folder for files in and out, as this machine sees it. stop() removes it. */
  readonly exchangeDir: string;
  /** The same folder, as commands inside see it. */
  readonly guestExchangeDir: string;
}

/**
 * QEMU 7.2 now and then forgets to tell its CPU of a timer's interrupt that came beside an exit from a guest. The CPU
 * then sleeps until any other interrupt comes; a line to the agent, which ignores it, is one.
 */
const WAKE_MS = 200;

/** Starts a nested host (about 3 s; the first use downloads a kernel). Rejects with the end of its log on failure. */
export async function startNestedHost(options: NestedHostOptions = {}): Promise<NestedHost> {
  await ensurePackages(['qemu-system-x86_64', 'busybox', 'setpriv']);
  const kernel = options.kernel ?? (await fetchDebianKernel('amd64'));
  const temporaryDir = mkdtempSync(join(tmpdir(), 'volt-nested-'));
  const exchangeDir = join(temporaryDir, 'exchange');
  mkdirSync(join(exchangeDir, 'jobs'), { recursive: true });
  const machine: NestedMachine = {
    kernel,
    cpus: options.cpus ?? 2,
    memoryMiB: options.memoryMiB ?? 4096,
    kvm: options.kvm ?? true,
    modules: options.modules ?? [],
    visiblePaths: [repositoryDir, dirname(process.execPath), ...(options.visiblePaths ?? [])],
    log: resolve(options.log ?? join(temporaryDir, 'console.log')),
    agentSocket: join(temporaryDir, 'agent.sock'),
    image: options.image,
    exchangeDir,
    initrd: join(temporaryDir, 'initrd'),
  };
  const describe = (message: string): Error => describeFailure(message, machine.log);

  const ready = Promise.withResolvers<void>();
  // Listening before QEMU starts: nothing has to wait for a socket to appear.
  const agent = listenForLines(machine.agentSocket, (line) => {
    const [verb = '', subject = '', argument = ''] = line.split(' ');
    if (verb !== 'ready') jobs.receive(verb, subject, argument);
    else if (machine.kvm && subject !== 'yes')
      ready.reject(describe('Cannot start the nested host: no /dev/kvm in it'));
    else ready.resolve();
  });
  const jobs = createJobRunner(exchangeDir, agent.send, describe);
  const startSeconds = options.startTimeoutSeconds ?? 600;
  const startTimeout = setTimeout(
    () => ready.reject(describe(`Cannot start the nested host: not ready after ${startSeconds} s`)),
    startSeconds * 1000,
  );
  let stop = async (): Promise<void> => agent.close();
  try {
    await writeNestedInitrd(machine);
    const qemu = spawnSupervised(nestedQemuArguments(machine), temporaryDir);
    const ended = new Response(qemu.stderr).text().then(async (errors) => {
      const code = await qemu.exited;
      const how =
        code === 0 ? 'its kernel panicked, rebooted or powered off' : `QEMU ended with code ${code}`;
      const reason = `${how}${errors && `, ${lastLines(errors)}`}`;
      const error = describe(`Cannot use the nested host: ${reason}`);
      agent.close();
      ready.reject(error);
      jobs.failAll(error);
    });
    stop = async () => {
      jobs.failAll(new Error('Cannot use the nested host: it was stopped'));
      qemu.kill('SIGTERM');
      await ended;
      rmSync(temporaryDir, { recursive: true, force: true });
    };
    await ready.promise;
    const waking = setInterval(() => agent.send('wake'), WAKE_MS);
    const stopQemu = stop;
    stop = () => {
      clearInterval(waking);
      return stopQemu();
    };
  } catch (error) {
    await stop();
    rmSync(temporaryDir, { recursive: true, force: true });
    throw error;
  } finally {
    clearTimeout(startTimeout);
  }
  // The repository is not in an image.
  const cwd = options.image === undefined ? repositoryDir : '/';
  const run: NestedHost['run'] = (command, given) => jobs.run(command, { cwd, ...given });
  return { run, stop, exchangeDir, guestExchangeDir, [Symbol.asyncDispose]: stop };
}

/** Serves one connection on a Unix socket, line by line. Lines sent before it is there are lost. */
function listenForLines(path: string, onLine: (line: string) => void) {
  let peer: Bun.Socket | undefined;
  let partial = '';
  const listener = Bun.listen({
    unix: path,
    socket: {
      open: (socket) => void (peer = socket),
      data: (_socket, bytes) => {
        const lines = (partial + bytes.toString('latin1')).split('\n');
        partial = lines.pop() ?? '';
        for (const line of lines) onLine(line);
      },
    },
  });
  return {
    send: (line: string): void => void peer?.write(`${line}\n`),
    close: (): void => listener.stop(true),
  };
}

function describeFailure(message: string, log: string): Error {
  let tail = '';
  try {
    tail = lastLines(readFileSync(log, 'utf8'));
  } catch {
    // QEMU did not get as far as creating the log.
  }
  return new Error(`${message}${tail && `\nEnd of the nested host's console log:\n${tail}`}`);
}

const helpText = `Usage: npx bun scripts/nested-host.ts [OPTION...] [--] COMMAND [ARG...]

Runs COMMAND in a fresh nested host: an emulated machine with a working /dev/kvm whose root is this machine's
file system, read-only. Exits with COMMAND's exit code; stdout and stderr are COMMAND's own.

  --cpus N       CPUs of the nested host (default 2)
  --memory MIB   its memory (default 4096)
  --no-kvm       leave /dev/kvm out
  --log FILE     keep the nested kernel's console output
  --timeout S    give up after S seconds (default 300)
  --stdin        read standard input to its end first and pass it to COMMAND
  --help         show this text

Exit codes of its own: 2 for wrong usage, 125 when the nested host fails or the time is over.
`;

async function main(): Promise<number> {
  const [ownArguments, command] = splitCommand(Bun.argv.slice(2));
  const { values } = parseArgs({
    args: ownArguments,
    options: {
      cpus: { type: 'string', default: '2' },
      memory: { type: 'string', default: '4096' },
      'no-kvm': { type: 'boolean', default: false },
      log: { type: 'string' },
      timeout: { type: 'string', default: '300' },
      stdin: { type: 'boolean', default: false },
      help: { type: 'boolean', default: false },
    },
  });
  if (values.help) {
    process.stdout.write(helpText);
    return 0;
  }
  const [cpus, memoryMiB, timeoutSeconds] = [values.cpus, values.memory, values.timeout].map(Number);
  if (command.length === 0 || !cpus || !memoryMiB || !timeoutSeconds) {
    process.stderr.write(helpText);
    return 2;
  }
  const log = values.log === undefined ? {} : { log: values.log };
  await using host = await startNestedHost({ cpus, memoryMiB, kvm: !values['no-kvm'], ...log });
  for (const [signal, code] of [
    ['SIGINT', 130],
    ['SIGTERM', 143],
  ] as const) {
    process.once(signal, () => void host.stop().then(() => process.exit(code)));
  }
  const { exitCode } = await host.run(command, {
    timeoutSeconds,
    cwd: process.cwd(),
    onOutput: (stream, bytes) => void process[stream].write(bytes),
    ...(values.stdin ? { stdin: await Bun.stdin.bytes() } : {}),
  });
  return exitCode;
}

/** Own options end at `--` or at the first other word: Bun swallows a `--` that follows the script's name. */
function splitCommand(words: string[]): [ownArguments: string[], command: string[]] {
  let index = 0;
  while (words[index]?.startsWith('--') === true && words[index] !== '--') {
    const takesValue = ['--cpus', '--memory', '--log', '--timeout'].includes(words[index] ?? '');
    index += takesValue ? 2 : 1;
  }
  const commandStart = words[index] === '--' ? index + 1 : index;
  return [words.slice(0, index), words.slice(commandStart)];
}

if (import.meta.main) {
  process.exitCode = await main().catch((error: Error) => {
    process.stderr.write(`${error.message}\n`);
    return error instanceof TypeError ? 2 : 125;
  });
}
