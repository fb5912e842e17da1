/** Saving, restoring and cloning a guest of 512 MiB, all of which it has written. */
import {
  closeSync,
  existsSync,
  fsyncSync,
  mkdirSync,
  openSync,
  readFileSync,
  rmSync,
  writeSync,
} from 'node:fs';
import { join } from 'node:path';
import { connectControl, saveGuest } from '../../src/api/index.ts';
import { pvhElf, tinyGuest, touchingGuest } from '../guests.ts';
import {
  compareFirst,
  measureInTurns,
  type Comparison,
  type Findings,
  type Measurement,
  type Samples,
} from '../measurement.ts';
import { spreadOf } from '../statistics.ts';
import type { Vmm } from '../vmms.ts';
import { firecrackerRestoreMs, startPool } from '../warm-restore.ts';

const MEMORY_MIB = 512;
const HANG_MS = 120_000;
const AIM = { restore: 1.3, warm: 1, firecracker: 1, writeSpeed: 1 / 0.8, cloneMib: 12 } as const;

export const snapshot: Measurement = {
  id: 'snapshot',
  title: `Save, restore, clone (2 vCPUs, ${MEMORY_MIB} MiB, every page written)`,
  method:
    'The guest writes to each page of its memory and prints without end. Restore: from the spawn of a cold process to the first byte that the guest prints, beside a cold start of a guest that prints one byte; or from the request to a process that is up (of volt pool, or a Firecracker whose API socket is open), sent by the bench over a Unix socket. Save: the time of a full snapshot, flushed to the disk, beside writing and flushing as many bytes. Clones: the proportional set size of their processes without guest memory, three seconds after they have printed; 10, 30 and 100 of them share the program. Firecracker restores by PUT /snapshot/load and saves by PUT /snapshot/create, of a paused guest, to new files like Volt.',
  whenMissed:
    "A cold restore loads the code of snapshots, reads and checks the state (of which valibot's schema is the most), and opens memory, in addition to what a cold start does; Firecracker's has no runtime to start. Of a clone's memory most is Bun's heaps, as of any guest (see the density row): 8 MiB of the main thread's, of which half is code, 2 MiB for each vCPU's Worker, 1.5 MiB that any program has.",
  async run({ vmms, quick, folder, log }) {
    const volt = vmms[0]!;
    const firecracker = vmms.find(({ id }) => id === 'firecracker');
    const kernel = join(folder, 'touching');
    const tiny = join(folder, 'tiny');
    await Bun.write(kernel, pvhElf(touchingGuest(MEMORY_MIB)));
    await Bun.write(tiny, pvhElf(tinyGuest()));
    const rounds = quick ? 2 : 20;
    const saved = await saveVolt(volt, kernel, folder, quick ? 2 : 7);
    const peer = firecracker && (await saveFirecracker(firecracker, kernel, folder, quick ? 2 : 7));
    const written = Array.from({ length: saved.saveMs.length }, () => writeMs(join(folder, 'written')));

    const cold = volt.command({ kernel: tiny, cpus: 2, memoryMib: 256 }, folder);
    const samples = await measureInTurns(
      [
        { name: volt.name, run: () => firstByteMs(saved.restore) },
        { name: `${volt.name}, a tiny guest's start`, run: () => firstByteMs(cold) },
        ...(peer ? [{ name: peer.name, run: () => peer.restoreMs() }] : []),
      ],
      rounds,
    );
    const aimOf = (name: string) => (name === peer?.name ? undefined : AIM.restore);
    log('  restores in processes that are up');
    mkdirSync(join(folder, 'pool'), { mode: 0o700 });
    await using pool = await startPool(saved.restore[0]!, join(folder, 'pool'));
    const warm = await measureInTurns(
      [
        { name: volt.name, run: () => pool.restoreMs(saved.restore.slice(1)) },
        ...(peer ? [{ name: peer.name, run: () => peer.warmRestoreMs() }] : []),
      ],
      rounds,
    );
    const counts = quick ? [2, 10] : [10, 30, 100];
    const pss: { clones: number; samples: Samples<number> }[] = [];
    for (const clones of counts) {
      log(`  ${clones} clones of each`);
      const subjects = [
        { name: volt.name, run: () => pssPerClone(clones, () => spawnVolt(saved.restore)) },
        ...(peer ? [{ name: peer.name, run: () => pssPerClone(clones, () => peer.spawn()) }] : []),
      ];
      pss.push({ clones, samples: await measureInTurns(subjects, 1) });
    }
    const most = pss.at(-1)!;
    const comparisons: Comparison[] = [
      ...compareFirst(samples, 'restore, spawn to first output', 'ms', (ms) => ms, aimOf),
      ...compareFirst(
        warm,
        'restore in a process that is up, request to first output',
        'ms',
        (ms) => ms,
        () => AIM.warm,
      ),
      beside('full snapshot', 'write and fsync', saved.saveMs, written, AIM.writeSpeed),
      ...(peer ? [beside('full snapshot', peer.name, saved.saveMs, peer.saveMs, AIM.firecracker)] : []),
      ...pss.flatMap(({ clones, samples }) =>
        compareFirst(samples, `PSS per clone, ${clones} clones`, 'MiB', (mib) => mib),
      ),
    ];
    return {
      comparisons,
      figures: [
        {
          what: `PSS per clone, ${most.clones} clones`,
          unit: 'MiB',
          value: most.samples.bySubject.get(volt.name)![0]!,
          aim: AIM.cloneMib,
        },
        {
          what: 'pause of a full snapshot',
          unit: 'ms',
          value: spreadOf(saved.pausedMs).median,
          aim: undefined,
        },
        {
          what: 'pause of a live snapshot',
          unit: 'ms',
          value: spreadOf(saved.livePausedMs).median,
          aim: undefined,
        },
      ],
      skipped: [
        ...samples.skipped,
        ...warm.skipped,
        ...(peer ? [] : ['Firecracker: it is not here, so there is nothing to compare with']),
      ],
    } satisfies Findings;
  },
};

function beside(
  what: string,
  peer: string,
  ours: readonly number[],
  theirs: readonly number[],
  aim: number,
): Comparison {
  const ratio = spreadOf(ours.map((value, i) => value / theirs[i]!));
  return { what, unit: 'ms', peer, ours: spreadOf(ours), theirs: spreadOf(theirs), ratio, aim };
}

type Child = Bun.Subprocess<'ignore', 'pipe', 'ignore'>;

function spawnVolt(argv: readonly string[]): Child {
  return Bun.spawn([...argv], {
    stdin: 'ignore',
    stdout: 'pipe',
    stderr: 'ignore',
    timeout: HANG_MS,
    killSignal: 'SIGKILL',
  });
}

/** Reads on, so that the guest never waits for its console. Resolves with the first byte. */
async function drain(child: Child): Promise<void> {
  const first = Promise.withResolvers<void>();
  void (async () => {
    for await (const _ of child.stdout) first.resolve();
    first.reject(new Error('Cannot measure it: it ended without a byte (expected a guest that prints)'));
  })().catch(() => {});
  await first.promise;
}

async function end(child: Child): Promise<void> {
  child.kill('SIGKILL');
  await child.exited;
}

async function firstByteMs(argv: readonly string[]): Promise<number> {
  const start = performance.now();
  const child = spawnVolt(argv);
  try {
    await drain(child);
    return performance.now() - start;
  } finally {
    await end(child);
  }
}

/** Waits until the guest has written all of its memory, which it says by its second letter. */
async function untilTouched(child: Child): Promise<void> {
  const touched = Promise.withResolvers<void>();
  void (async () => {
    for await (const bytes of child.stdout) if (Buffer.from(bytes).includes('y')) touched.resolve();
    touched.reject(new Error('Cannot measure it: it ended before it had written its memory'));
  })().catch(() => {});
  await touched.promise;
}

async function saveVolt(volt: Vmm, kernel: string, folder: string, rounds: number) {
  const directory = join(folder, 'volt.snap');
  const socket = join(folder, 'volt.sock');
  const [program = ''] = volt.command({ kernel, cpus: 2, memoryMib: MEMORY_MIB }, folder);
  const argv = [...volt.command({ kernel, cpus: 2, memoryMib: MEMORY_MIB }, folder), '--control', socket];
  const child = spawnVolt(argv);
  try {
    await untilTouched(child);
    using client = await connectControl(socket);
    const [saveMs, pausedMs, livePausedMs]: number[][] = [[], [], []];
    for (let round = 0; round <= rounds; round++) {
      const live = await saveGuest(client, directory, { live: true });
      const full = await saveGuest(client, directory);
      // The first one is a warm-up.
      if (round === 0) continue;
      livePausedMs!.push(live.pausedMs);
      pausedMs!.push(full.pausedMs);
      saveMs!.push(full.totalMs);
    }
    return {
      saveMs: saveMs!,
      pausedMs: pausedMs!,
      livePausedMs: livePausedMs!,
      restore: [program, 'restore', directory],
    };
  } finally {
    await end(child);
  }
}

function writeMs(path: string): number {
  const piece = new Uint8Array(4 * 2 ** 20).fill(1);
  const start = performance.now();
  const fd = openSync(path, 'w');
  for (let mib = 0; mib < MEMORY_MIB; mib += 4) writeSync(fd, piece);
  fsyncSync(fd);
  closeSync(fd);
  const ms = performance.now() - start;
  rmSync(path);
  return ms;
}

async function saveFirecracker(vmm: Vmm, kernel: string, folder: string, rounds: number) {
  const [program = ''] = vmm.command({ kernel, cpus: 2, memoryMib: MEMORY_MIB }, folder);
  const directory = join(folder, 'firecracker.snap');
  mkdirSync(directory);
  const files = { snapshot_path: join(directory, 'state'), mem_file_path: join(directory, 'memory') };
  let sockets = 0;
  const command = () => {
    const socket = join(folder, `firecracker-${sockets++}.sock`);
    const log = ['--log-path', '/dev/null', '--level', 'Error'];
    return { socket, argv: [program, '--api-sock', socket, ...log] };
  };
  const start = () => {
    const { socket, argv } = command();
    return { socket, child: spawnVolt(argv) };
  };
  const loadBody = {
    snapshot_path: files.snapshot_path,
    mem_backend: { backend_type: 'File', backend_path: files.mem_file_path },
    resume_vm: true,
  };
  const load = (socket: string) => callFirecracker(socket, 'PUT', '/snapshot/load', loadBody);
  const { socket, child } = start();
  const saveMs: number[] = [];
  try {
    await callFirecracker(socket, 'PUT', '/machine-config', { vcpu_count: 2, mem_size_mib: MEMORY_MIB });
    await callFirecracker(socket, 'PUT', '/boot-source', { kernel_image_path: kernel });
    await callFirecracker(socket, 'PUT', '/actions', { action_type: 'InstanceStart' });
    await untilTouched(child);
    for (let round = 0; round <= rounds; round++) {
      // It would write over the old files in place, where Volt keeps them until the new ones are on the disk.
      for (const file of Object.values(files)) rmSync(file, { force: true });
      await callFirecracker(socket, 'PATCH', '/vm', { state: 'Paused' });
      const before = performance.now();
      await callFirecracker(socket, 'PUT', '/snapshot/create', { snapshot_type: 'Full', ...files });
      if (round > 0) saveMs.push(performance.now() - before);
      await callFirecracker(socket, 'PATCH', '/vm', { state: 'Resumed' });
    }
  } finally {
    await end(child);
  }
  return {
    name: vmm.name,
    saveMs,
    spawn: () => {
      const { socket, child } = start();
      // The guest may be ended while it is loaded.
      void load(socket).catch(() => {});
      return child;
    },
    warmRestoreMs() {
      const { socket, argv } = command();
      return firecrackerRestoreMs(argv, socket, loadBody);
    },
    async restoreMs() {
      const before = performance.now();
      const { socket, child } = start();
      try {
        const printed = drain(child);
        await load(socket);
        await printed;
        return performance.now() - before;
      } finally {
        await end(child);
      }
    },
  };
}

/** Waits for the socket. Throws with the answer of a request that fails. */
async function callFirecracker(socket: string, method: string, path: string, body: object): Promise<void> {
  const until = performance.now() + 10_000;
  while (!existsSync(socket) && performance.now() < until) await Bun.sleep(0.2);
  const answer = await fetch(`http://localhost${path}`, {
    ...{ unix: socket, method, body: JSON.stringify(body) },
    headers: { 'Content-Type': 'application/json' },
  });
  if (answer.ok) return;
  throw new Error(`Cannot measure Firecracker: ${method} ${path}: ${await answer.text()}`);
}

/** Volt gives back what a start took a second after it. */
const SETTLE_MS = 3000;

async function pssPerClone(count: number, spawn: () => Child): Promise<number> {
  const children = Array.from({ length: count }, spawn);
  try {
    await Promise.all(children.map(drain));
    await Bun.sleep(SETTLE_MS);
    return children.reduce((sum, { pid }) => sum + pssMib(pid), 0) / count;
  } finally {
    await Promise.all(children.map(end));
  }
}

/** Without guest memory: neither the pages of the snapshot, which the guests share, nor those that the guest has written. */
function pssMib(pid: number): number {
  const mappings = readFileSync(`/proc/${pid}/smaps`, 'utf8').split(/^(?=[0-9a-f]+-[0-9a-f]+ )/m);
  const own = mappings.filter((text) => !isGuestMemory(text));
  return own.reduce((sum, text) => sum + Number(/^Pss:\s+(\d+) kB$/m.exec(text)?.[1] ?? 0), 0) / 1024;
}

/** A private mapping of the snapshot's memory file. */
function isGuestMemory(mapping: string): boolean {
  return /\.snap\/memory[^/\n]*$/m.test(mapping.slice(0, mapping.indexOf('\n')));
}
