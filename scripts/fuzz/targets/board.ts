/** Ports and MMIO of the whole board, as any guest code can reach them, without KVM. */
import {
  isCpuEjected,
  isCpuPresent,
  clearCpuEjected,
  plugCpu,
  requestCpuRemoval,
  resetCpuHotplug,
} from '../../../src/chips/cpu-hotplug.ts';
import { resetI8042 } from '../../../src/chips/i8042.ts';
import { resetUart, uartReceive } from '../../../src/chips/uart.ts';
import { BlockDevice, type BlockBackend } from '../../../src/virtio/block/device.ts';
import { describeBlock } from '../../../src/virtio/block/description.ts';
import type { BlockRequest } from '../../../src/virtio/block/request.ts';
import { createDeviceState, DEVICE_WORD } from '../../../src/virtio/transport/device-state.ts';
import type { DeviceDescription, VirtioDevice } from '../../../src/virtio/transport/device.ts';
import { GuestRam } from '../../../src/virtio/transport/guest-ram.ts';
import type { MmioDevice } from '../../../src/virtio/transport/mmio.ts';
import { EntropyDevice, ENTROPY_DESCRIPTION } from '../../../src/virtio/entropy/device.ts';
import { DeviceRunner } from '../../../src/virtio/transport/runner.ts';
import { MIB } from '../../../src/machine/address.ts';
import { LAYOUT } from '../../../src/machine/layout.ts';
import { PORT } from '../../../src/machine/ports.ts';
import { BUS_EVENT, readPort, writePort, type Board } from '../../../src/vmm/bus/board.ts';
import { createSharedState, VM_WORD } from '../../../src/vmm/bus/shared-state.ts';
import { readVirtio, virtioSlot, writeVirtio } from '../../../src/virtio/host/bus.ts';
import { seededRandom } from '../../../test/unit/support/random.ts';
import { choicesOf, randomChoices, type FuzzTarget } from '../target.ts';

const CPUS = 8;
const RAM_BYTES = 0x1_0000;
const HOST = 0x7000_0000_0000;
const SECTORS = 64;
const NO_LIMITS = { bandwidth: undefined, ops: undefined };
const PORTS = Object.values(PORT);
const SIZES = [1, 2, 4] as const;
const EVENTS: ReadonlySet<number> = new Set(Object.values(BUS_EVENT));
const PAGE = 0x1000;

/** Takes what it is asked, and looks whether it lies in RAM and on the disk. */
class CheckingBackend implements BlockBackend {
  requests = 0;
  #finish: (request: BlockRequest, errno: number) => void = () => {};

  connect(finish: (request: BlockRequest, errno: number) => void): void {
    this.#finish = finish;
  }

  start(request: BlockRequest): void {
    this.requests++;
    if (request.offset < 0 || request.offset + request.bytes > SECTORS * 512)
      throw new Error(`asked for ${request.bytes} bytes at ${request.offset} of the disk`);
    for (let i = 0; i < request.iovecCount; i++) checkHost(request.iovecAddress(i), request.iovecLength(i));
    this.#finish(request, 0);
  }

  commit(): void {}
  flush(): number {
    return 0;
  }

  drain(): void {}
}

function checkHost(host: number, bytes: number): void {
  const at = host - HOST;
  if (at < 0 || at + bytes > RAM_BYTES) throw new Error(`asked for ${bytes} bytes at guest address ${at}`);
}

function createMachine() {
  const shared = createSharedState(CPUS);
  const ram = new Uint8Array(RAM_BYTES);
  const open = (offset: number, length: number) => ram.subarray(offset, offset + length);
  const guestRam = new GuestRam([{ address: 0, bytes: RAM_BYTES, host: HOST, open }]);
  const backend = new CheckingBackend();
  const effects = { now: () => 0, after: () => () => {} };
  const shape = { id: 'fuzz', sectors: SECTORS, readOnly: false, queues: 2, blockBytes: 512, flush: true };
  const place = (device: VirtioDevice, description: DeviceDescription): MmioDevice => {
    const state = createDeviceState(description);
    const runner = new DeviceRunner(device, state, guestRam, { interrupt: () => {}, now: () => 0 });
    const sync = () => {
      Atomics.add(state.words, DEVICE_WORD.syncWanted, 1);
      runner.sync();
    };
    return {
      state,
      effects: { requestSync: sync, sync, notify: (queue) => runner.handleNotification(queue) },
    };
  };
  const fill = (host: number, bytes: number) => {
    checkHost(host, bytes);
    ram.fill(0x55, host - HOST, host - HOST + bytes);
  };
  resetUart(shared.uart);
  resetI8042(shared.i8042);
  resetCpuHotplug(shared.cpuHotplug, 2);
  const board: Board = {
    shared,
    uart: {
      words: shared.uart,
      received: shared.received,
      outputs: { transmit: (byte) => checkValue(byte, 1), setInterrupt: (level) => checkLevel(level) },
    },
    lowMemoryBytes: 64 * MIB,
    virtio: [
      place(new BlockDevice(shape, backend, effects, NO_LIMITS), describeBlock(shape)),
      place(new EntropyDevice({ fill, ...effects }, NO_LIMITS), ENTROPY_DESCRIPTION),
    ],
    bootCpu: 0,
    ring: undefined,
    startPit: () => {},
    exitStatus: 0,
  };
  return { board, ram, backend };
}

function checkValue(value: number, size: number): void {
  if (!(Number.isInteger(value) && value >= 0 && value < 2 ** (8 * size)))
    throw new Error(`${value} is no value of ${size} bytes`);
}

function checkLevel(level: number): void {
  if (level !== 0 && level !== 1) throw new Error(`${level} is no level`);
}

export const boardTarget: FuzzTarget = {
  name: 'board',
  what: 'port and MMIO accesses in any order to the board with all its devices, while CPUs come and go',
  seeds: () => randomChoices(seededRandom(6), 64, 200),
  run: (input) => {
    const { board, ram, backend } = createMachine();
    const { shared } = board;
    const choose = choicesOf(input);
    const seen = new Set<string>();
    const steps = Math.min(200, 8 + (input.length >> 4));
    for (let step = 0; step < steps; step++) {
      const size = SIZES[choose(3)]!;
      const value = choose(4) === 0 ? choose(0xffff_ffff) : choose(0x100);
      const port = choose(4) === 0 ? choose(0x1_0000) : (PORTS[choose(PORTS.length)]! + choose(9)) & 0xffff;
      // Past the devices' pages now and then, and not aligned.
      const offset = choose(16) === 0 ? choose(4 * PAGE) : choose(3) * PAGE + 4 * choose(0x50);
      const address = LAYOUT.virtio.address + offset;
      const slot = virtioSlot(board.virtio, address);
      switch (choose(8)) {
        case 0:
        case 1: {
          const read = readPort(board, port, size);
          checkValue(read, 4);
          break;
        }
        case 2:
        case 3: {
          const event = writePort(board, port, size, size === 4 ? value : value & (2 ** (8 * size) - 1));
          if (!EVENTS.has(event)) throw new Error(`${event} is no event`);
          if (event !== BUS_EVENT.none) seen.add(`event ${event}`);
          break;
        }
        case 4:
          if (slot >= 0) checkValue(readVirtio(board.virtio, slot, address, size), 4);
          break;
        case 5:
          if (slot >= 0) writeVirtio(board.virtio, slot, address, size, value);
          break;
        case 6:
          ram.set([value & 0xff, (value >>> 8) & 0xff, choose(4)], choose(RAM_BYTES - 4));
          break;
        case 7:
          outside(board, choose(4), choose(CPUS), seen);
      }
      if (!isCpuPresent(shared.cpuHotplug, board.bootCpu)) throw new Error('the boot CPU was ejected');
    }
    const status = board.virtio.map(({ state }) => Atomics.load(state.words, DEVICE_WORD.status) & 0xff);
    return `${[...seen].sort()} ${status} ${backend.requests > 0} ${Atomics.load(shared.words, VM_WORD.hotplugRequests) > 0}`;
  },
};

/** What the VMM does meanwhile. */
function outside({ shared, uart }: Board, what: number, cpu: number, seen: Set<string>): void {
  const words = shared.cpuHotplug;
  if (what === 0 && !isCpuPresent(words, cpu)) plugCpu(words, cpu);
  else if (what === 1 && isCpuPresent(words, cpu)) requestCpuRemoval(words, cpu);
  else if (what === 2 && isCpuEjected(words, cpu)) {
    clearCpuEjected(words, cpu);
    seen.add('ejected');
  } else if (what === 3) {
    const taken = uartReceive(uart, new Uint8Array(cpu * 700));
    if (!(taken >= 0 && taken <= cpu * 700)) throw new Error(`${taken} bytes taken of ${cpu * 700}`);
  }
}
