/** Boots tiny guests, by the compiled binary or through the library. */
import { ConsolePump } from '../../src/vmm/serial/pump.ts';
import { parseConfig, type VirtualMachine, type VmConfig, type VmEnd } from '../../src/api/index.ts';
import {
  runVolt,
  TemporaryFolder,
  withDefaults,
  type RunOptions,
  type VoltRun,
} from '../cli/volt-process.ts';
import { buildPvhElf } from './tiny-guest.ts';

/** Little RAM and one CPU, because a tiny guest uses no more. */
const SMALL = { '--memory': '32M', '--cpus': '1' };

/** Runs a guest's code by `volt --kernel --no-reboot`; `flags` win over the small machine. */
export async function runGuest(
  code: Uint8Array,
  flags: readonly string[] = [],
  options: RunOptions = {},
): Promise<VoltRun> {
  return runKernel(buildPvhElf(code), flags, options);
}

export async function runKernel(
  kernel: Uint8Array,
  flags: readonly string[] = [],
  options: RunOptions = {},
): Promise<VoltRun> {
  using folder = new TemporaryFolder();
  const path = await folder.write('kernel', kernel);
  return await runVolt(['--kernel', path, '--no-reboot', ...withDefaults(SMALL, flags)], options);
}

/** A configuration for the library. */
export function smallConfig(kernelPath: string, cpus = 1, memoryMib = 32): VmConfig {
  return parseConfig({
    'boot-source': { kernel_image_path: kernelPath },
    'machine-config': { vcpu_count: cpus, mem_size_mib: memoryMib },
  }).config;
}

export interface GuestResult {
  readonly output: string;
  readonly end: VmEnd;
}

/** Starts a machine of the library and collects its console until it ends. */
export async function runMachine(vm: VirtualMachine): Promise<GuestResult> {
  const pieces: Uint8Array[] = [];
  const take = (bytes: Uint8Array) => {
    pieces.push(bytes.slice());
    return bytes.length;
  };
  const pump = new ConsolePump(vm.shared, take, () => {});
  void pump.run();
  vm.start();
  const end = await vm.ended;
  await pump.finish(() => vm.flushConsole());
  return { output: Buffer.concat(pieces).toString('latin1'), end };
}

/** Waits until `condition` holds; the bound is for hangs only. */
export async function waitUntil(what: string, condition: () => boolean, hangMs = 60_000): Promise<void> {
  const deadline = performance.now() + hangMs;
  while (!condition()) {
    if (performance.now() > deadline) throw new Error(`Waited in vain until ${what}`);
    await Bun.sleep(10);
  }
}
