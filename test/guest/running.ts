/** A machine of the library under way, as tests of steering it need one. */
import { parseConfig, VirtualMachine, VmControl, type VmEvent } from '../../src/api/index.ts';
import { ConsolePump } from '../../src/vmm/serial/pump.ts';
import { TemporaryFolder } from '../cli/volt-process.ts';
import { smallConfig, waitUntil } from './guest-run.ts';
import { buildPvhElf, u32 } from './tiny-guest.ts';

/** A machine under way, its console and its control; stopped and given back at the end of the test. */
export class Running implements AsyncDisposable {
  readonly vm: VirtualMachine;
  readonly control: VmControl;
  readonly events: VmEvent[] = [];
  readonly #pump: ConsolePump;
  #output = '';

  constructor(vm: VirtualMachine) {
    this.vm = vm;
    this.#pump = new ConsolePump(
      vm.shared,
      (bytes) => this.#take(bytes),
      () => {},
    );
    void this.#pump.run();
    this.control = new VmControl(vm);
    this.control.onEvent((event) => this.events.push(event));
    vm.start();
  }

  get output(): string {
    return this.#output;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.vm.stop();
    await this.#pump.finish(() => this.vm.flushConsole());
    this.vm[Symbol.dispose]();
  }

  #take(bytes: Uint8Array): number {
    this.#output += Buffer.from(bytes).toString('latin1');
    return bytes.length;
  }
}

/** The embedded kernel with every CPU busy for ever, once it says so. */
export async function busyMachine(cpus: number): Promise<Running> {
  const input = {
    'boot-source': { boot_args: 'loop' },
    'machine-config': { vcpu_count: cpus, mem_size_mib: 64 },
  };
  const running = new Running(new VirtualMachine(parseConfig(input).config));
  await waitUntil('the first heartbeat', () => running.output.includes('heartbeat 1:'));
  return running;
}

export async function tinyMachine(code: Uint8Array, cpus: number): Promise<Running> {
  using folder = new TemporaryFolder();
  const path = await folder.write('kernel', buildPvhElf(code));
  return new Running(new VirtualMachine(smallConfig(path, cpus)));
}

/** Copies real-mode code to 0x8000, four bytes at a time, where a SIPI with vector 8 finds it. */
export function copyTo8000(code: readonly number[]): number[] {
  const padded = [...code, ...Array<number>((4 - (code.length % 4)) % 4).fill(0x90)];
  return Array.from({ length: padded.length / 4 }, (_, i) => {
    const word = padded.slice(4 * i, 4 * i + 4);
    return [0xc7, 0x05, ...u32(0x8000 + 4 * i), ...word];
  }).flat();
}
