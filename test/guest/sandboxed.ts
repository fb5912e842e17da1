/**
 * A process of its own for tests: enters the sandbox and does what its first argument says. Prints what it came to.
 * Usage: bun sandboxed.ts ACTION
 */
import { closeSync, openSync, readFileSync } from 'node:fs';
import { confine, parseConfig, VirtualMachine } from '../../src/api/index.ts';
import { placeFilter, installFilter } from '../../src/ffi/sandbox.ts';
import { libc } from '../../src/ffi/libc.ts';
import { buildFilter } from '../../src/sandbox/filter.ts';
import type { ThreadClass } from '../../src/sandbox/rules.ts';
import { ConsolePump } from '../../src/vmm/serial/pump.ts';
import { enterSandbox } from '../../src/vmm/sandbox.ts';
import { VmControl } from '../../src/api/vm-control.ts';

const AF_INET = 2;
const SOCK_STREAM = 1;
const SYS_PTRACE = 101;
const PARENT = process.ppid;
const PRIO_PROCESS = 0;
const SYS_PRLIMIT64 = 302;
const RLIMIT_NOFILE = 7;
const SYS_BEYOND = 400;

/** Its code comes with it, since no file can be read any more. */
const SOCKET_WORKER = `data:text/javascript,import { dlopen } from 'bun:ffi';
dlopen('libc.so.6', { socket: { args: ['i32', 'i32', 'i32'], returns: 'i32' } }).symbols.socket(2, 1, 0);`;

const [action = '', parameter = ''] = process.argv.slice(2);

const ACTIONS: Readonly<Record<string, () => unknown>> = {
  socket: () => libc.socket(AF_INET, SOCK_STREAM, 0),
  spawn: () => Bun.spawnSync(['/bin/true']),
  create: () => closeSync(openSync(parameter, 'w')),
  ptrace: () => libc.syscall(SYS_PTRACE, 0, 0, 0, 0, 0, 0),
  unknown: () => libc.syscall(SYS_BEYOND, 0, 0, 0, 0, 0, 0),
  read: () => console.log(reading(parameter)),
  pin: () => {
    narrow(parameter);
    libc.sched_setaffinity(PARENT, 8, new Uint8Array(8).fill(255));
  },
  renice: () => {
    narrow(parameter);
    console.log(libc.setpriority(PRIO_PROCESS, PARENT, 19));
  },
  device: () => {
    installFilter(placeFilter(buildFilter('device', process.pid)), 'this');
    installFilter(placeFilter(buildFilter('device', process.pid)), 'this');
  },
  tgkill: () => {
    narrow(parameter);
    libc.tgkill(PARENT, PARENT, 0);
  },
  prlimit: () => {
    narrow(parameter);
    // Without a new limit this only reads.
    libc.syscall(SYS_PRLIMIT64, PARENT, RLIMIT_NOFILE, 0, 0, 0, 0);
  },
  worker: () => new Promise((_, reject) => (new Worker(SOCKET_WORKER).onerror = reject)),
  load: () => runUnderLoad(Number(parameter)),
};

function narrow(of: string): void {
  if (of !== 'process') installFilter(placeFilter(buildFilter(of as ThreadClass, process.pid)), 'this');
}

if (action !== 'load')
  enterSandbox({ cpus: 1, reads: [], writes: [], removesIn: [], connections: 0, devices: new Set() });
await ACTIONS[action]!();
console.log('still here');
process.exit(0);

function reading(path: string): string {
  try {
    return readFileSync(path, 'latin1').length > 0 ? 'read' : 'empty';
  } catch (error) {
    return (error as NodeJS.ErrnoException).code ?? 'failed';
  }
}

/** A busy guest with four CPUs while the runtime collects garbage, makes threads and machine code. */
async function runUnderLoad(seconds: number): Promise<void> {
  const { config } = parseConfig({
    'boot-source': { boot_args: 'loop' },
    'machine-config': { vcpu_count: 4, mem_size_mib: 64 },
  });
  using vm = new VirtualMachine(config);
  const control = new VmControl(vm);
  let output = '';
  const pump = new ConsolePump(
    vm.shared,
    (bytes) => {
      output += Buffer.from(bytes).toString('latin1');
      return bytes.length;
    },
    () => {},
  );
  void pump.run();
  vm.start(confine(config, []).filters);
  const until = performance.now() + seconds * 1000;
  let rounds = 0;
  for (; performance.now() < until; rounds++) {
    Bun.gc(rounds % 2 === 0);
    keepBusy(rounds);
    await control.pause();
    await control.registers(rounds % 4);
    await control.resume();
    await control.setAffinity(rounds % 4, [0]);
    await control.setNice(rounds % 4, 19);
    if (rounds % 10 === 0) await helperThread();
  }
  await vm.stop();
  await pump.finish();
  const beats = output.match(/heartbeat/g)?.length ?? 0;
  console.log(`${rounds > 10 ? 'many' : 'few'} rounds, ${beats > 0 ? 'some' : 'no'} heartbeats`);
}

/** New code each time, hot enough for every tier of the JIT, and garbage in big and small pieces. */
function keepBusy(round: number): void {
  // oxlint-disable-next-line typescript/no-implied-eval
  const work = new Function(
    'n',
    `let s = ${round}; for (let i = 0; i < n; i++) s = (s * 31 + i) | 0; return s;`,
  ) as (n: number) => number;
  for (let i = 0; i < 200; i++) work(1000);
  Array.from({ length: 200 }, (_, i) => new Uint8Array(1024 * (i + 1)));
}

function helperThread(): Promise<void> {
  const worker = new Worker('data:text/javascript,Bun.gc(true);postMessage(new Array(1e5).fill({}).length)');
  return new Promise((resolve, reject) => {
    worker.onmessage = () => {
      worker.terminate();
      resolve();
    };
    worker.onerror = (event) => reject(new Error(event.message));
  });
}
