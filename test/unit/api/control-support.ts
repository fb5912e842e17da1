/** A VM that only remembers what was asked of it, and a client that can do what a good one never does. */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { ConsoleHub } from '../../../src/api/console-hub.ts';
import { VoltError } from '../../../src/volt-error.ts';
import type {
  BootTimeline,
  CpuChange,
  PlugRequest,
  PlugResult,
  BalloonStatus,
  CallingClient,
  ControlTarget,
  MemoryStatus,
  DeviceStatus,
  IpiRequest,
  KnownMpState,
  RegisterSet,
  RunningConfig,
  SnapshotRequest,
  SnapshotResult,
  VcpuStatus,
  VmEvent,
  VmStatus,
} from '../../../src/api/control/target.ts';

export const FAKE_STATUS: VmStatus = {
  state: 'running',
  pid: 4711,
  uptimeMs: 1500,
  vcpus: 2,
  maxVcpus: 2,
  memoryBytes: 512 * 1024 * 1024,
  kernel: '/boot/vmlinux-ä',
};

export const FAKE_DEVICE: DeviceStatus = {
  id: 'disk0',
  kind: 'block',
  address: 0xd000_0000,
  gsi: 5,
  state: 'failed',
  failure: 'queue 0 has an invalid ring or descriptor chain',
  failures: 1,
  features: ['flush', 'version1'],
  queues: [
    {
      index: 0,
      size: 128,
      maxSize: 256,
      kicks: 42,
      chains: 97,
      bytesFromGuest: 1536,
      bytesToGuest: 0,
      interrupts: 61,
      errors: 2,
    },
  ],
};

export const FAKE_REGISTERS: RegisterSet = {
  general: { rax: '0x0', rip: '0x100000' },
  special: { cr0: '0x80000011' },
  mpState: 'runnable',
};

export function fakeVcpu(index: number): VcpuStatus {
  return {
    index,
    apicId: index,
    bsp: index === 0,
    state: index === 0 ? 'running' : 'waiting-for-sipi',
    mpState: undefined,
    threadId: 100 + index,
    affinity: [0, 1],
    exits: { io: 7 },
  };
}

const FAKE_MEMORY: MemoryStatus = {
  ...{ baseMib: 1024, totalMib: 1024, blockMib: 2, slotMib: 128 },
  ...{ requestedMib: 512, pluggedMib: 256 },
};

export const FAKE_BALLOON: BalloonStatus = {
  wantedMib: 128,
  actualMib: 64.5,
  inflatedBytes: 67_633_152,
  reportedBytes: 0,
  stats: { free_memory: 1000 },
};

export class FakeTarget implements ControlTarget {
  /** Every call with its arguments, `pause [1]` say, in the order it came. */
  readonly calls: string[] = [];
  readonly listeners = new Set<(event: VmEvent) => void>();
  vcpuCount = 2;
  /** Thrown by `registers` and the synchronous calls. */
  failure: unknown;
  /** What `pause` waits for. */
  pauseGate: Promise<void> = Promise.resolve();
  /** What `snapshot` waits for once it has its files. */
  snapshotGate: Promise<void> = Promise.resolve();

  /** What was typed on the console. */
  typed = '';
  readonly console = new ConsoleHub((bytes) => {
    this.typed += Buffer.from(bytes).toString('latin1');
    return bytes.length;
  });

  async config(): Promise<RunningConfig> {
    this.#called('config');
    return { config: { 'machine-config': { vcpu_count: 2 } } };
  }

  timeline(): BootTimeline {
    this.#called('timeline');
    return { phases: [{ phase: 'process start', atMs: 0 }], vcpus: [{ index: 0, bsp: true, readyMs: 12 }] };
  }

  status(): VmStatus {
    this.#called('status');
    return FAKE_STATUS;
  }

  devices(): readonly DeviceStatus[] {
    this.#called('devices');
    return [FAKE_DEVICE];
  }

  memory(mib?: number): MemoryStatus {
    this.#called('memory', mib);
    return FAKE_MEMORY;
  }

  balloon(mib?: number): BalloonStatus {
    this.#called('balloon', mib);
    return FAKE_BALLOON;
  }

  vcpus(): readonly VcpuStatus[] {
    this.#called('vcpus');
    return Array.from({ length: this.vcpuCount }, (_, index) => fakeVcpu(index));
  }

  async registers(index: number): Promise<RegisterSet> {
    this.#called('registers', index);
    return FAKE_REGISTERS;
  }

  async pause(indices?: readonly number[]): Promise<void> {
    this.#called('pause', indices);
    await this.pauseGate;
    this.calls.push('paused');
    this.tell({ kind: 'paused', vcpus: indices ?? [0, 1], atMs: 1 });
  }

  async dump(): Promise<never> {
    this.#called('dump');
    throw new VoltError('usage', 'Cannot dump the guest: it is made up');
  }

  async trace(): Promise<never> {
    this.#called('trace');
    throw new VoltError('usage', 'Cannot trace the guest: it is made up');
  }

  async attachGdb(): Promise<never> {
    this.#called('attachGdb');
    throw new VoltError('usage', 'Cannot attach gdb: this guest is made up');
  }

  async resume(indices?: readonly number[]): Promise<void> {
    this.#called('resume', indices);
    this.tell({ kind: 'resumed', vcpus: indices ?? [0, 1], atMs: 2 });
  }

  async stop(): Promise<unknown> {
    this.#called('stop');
    return { kind: 'stopped' };
  }

  sendIpi(request: IpiRequest): void {
    this.#called('sendIpi', request);
    this.tell({ kind: 'ipi', request, atMs: 3 });
  }

  startAp(index: number, vector: number): void {
    this.#called('startAp', index, vector);
  }

  async setAffinity(index: number, cpus: readonly number[]): Promise<void> {
    this.#called('setAffinity', index, cpus);
    this.tell({ kind: 'affinity', vcpu: index, cpus, atMs: 4 });
  }

  async setNice(index: number, nice: number): Promise<void> {
    this.#called('setNice', index, nice);
  }

  powerDown(): void {
    this.#called('powerDown');
  }

  async setCpuCount(count: number): Promise<CpuChange> {
    this.#called('setCpuCount', count);
    return { present: count, added: [2], removed: [], unanswered: [] };
  }

  async plug(request: PlugRequest, client: CallingClient): Promise<PlugResult> {
    this.#called('plug', request);
    const files = await client.ask('send-device', { files: 1 }, 1);
    for (const file of files) file.close();
    return { id: String(request.item['drive_id']), address: '00:05.0', answered: true };
  }

  async unplug(id: string): Promise<PlugResult> {
    this.#called('unplug', id);
    return { id, address: '00:05.0', answered: true };
  }

  /** Asks for the files as a machine does, and is done with them. */
  async snapshot(request: SnapshotRequest, client: CallingClient): Promise<SnapshotResult> {
    this.#called('snapshot', request);
    const stopWatching = client.onGone(() => this.calls.push('client gone'));
    try {
      const files = await client.ask('send-files', { files: ['memory', 'state'] }, 2);
      this.calls.push(`files ${files.length}`);
      for (const file of files) file.close();
      await this.snapshotGate;
      await client.ask('commit', {}, 0);
      return {
        id: request.id,
        memoryBytes: 4096,
        writtenBytes: 4096,
        pausedMs: 1.5,
        totalMs: 2,
        liveRounds: 0,
      };
    } finally {
      stopWatching();
    }
  }

  async setMpState(index: number, state: KnownMpState, vector?: number): Promise<void> {
    this.#called('setMpState', index, state, vector);
  }

  onEvent(listener: (event: VmEvent) => void): () => void {
    this.listeners.add(listener);
    return () => this.listeners.delete(listener);
  }

  tell(event: VmEvent): void {
    for (const listener of this.listeners) listener(event);
  }

  #called(name: string, ...args: unknown[]): void {
    this.calls.push([name, ...args.map((arg) => JSON.stringify(arg))].filter(Boolean).join(' '));
    if (this.failure !== undefined) throw this.failure;
  }
}

export interface Message {
  readonly jsonrpc: '2.0';
  readonly id?: string | number | null;
  readonly result?: unknown;
  readonly error?: { readonly code: number; readonly message: string; readonly data?: unknown };
  readonly method?: string;
  readonly params?: { readonly kind: string; readonly count?: number; readonly atMs?: number };
}

/** A connection on which any bytes can be sent, and whose reading can be put off. */
export class RawClient {
  readonly #messages: Message[] = [];
  readonly #socket: Bun.Socket<undefined>;
  #text = Buffer.alloc(0);
  #unsent = Buffer.alloc(0);
  #wake = Promise.withResolvers<void>();
  #closed = false;

  private constructor(socket: Bun.Socket<undefined>) {
    this.#socket = socket;
  }

  static async connect(path: string): Promise<RawClient> {
    // Assigned once, but read before that by the handlers below.
    // oxlint-disable-next-line eslint/prefer-const
    let client: RawClient | undefined;
    const early: Uint8Array[] = [];
    let closedEarly = false;
    const socket = await Bun.connect({
      unix: path,
      allowHalfOpen: true,
      socket: {
        data(_socket, chunk) {
          if (client) client.#received(chunk);
          else early.push(chunk);
        },
        drain() {
          if (client) client.#flush();
        },
        end(socket) {
          socket.end();
        },
        close() {
          closedEarly = true;
          if (client) client.#ended();
        },
      },
    });
    client = new RawClient(socket);
    for (const chunk of early) client.#received(chunk);
    if (closedEarly) client.#ended();
    return client;
  }

  send(bytes: string | Uint8Array): void {
    this.#unsent = Buffer.concat([this.#unsent, Buffer.from(bytes as Uint8Array)]);
    this.#flush();
  }

  request(id: string | number, method: string, params?: unknown): void {
    this.send(`${JSON.stringify({ jsonrpc: '2.0', id, method, params })}\n`);
  }

  /** The next message; undefined when the server closed the connection first. */
  async next(): Promise<Message | undefined> {
    while (this.#messages.length === 0) {
      if (this.#closed) return undefined;
      await this.#wake.promise;
    }
    return this.#messages.shift();
  }

  async take(count: number): Promise<(Message | undefined)[]> {
    const taken: (Message | undefined)[] = [];
    while (taken.length < count) taken.push(await this.next());
    return taken;
  }

  /** Everything until the server closes the connection. */
  async rest(): Promise<Message[]> {
    const taken: Message[] = [];
    for (let message = await this.next(); message; message = await this.next()) taken.push(message);
    return taken;
  }

  async answer(method: string, params?: unknown): Promise<Message | undefined> {
    this.request('answer', method, params);
    return this.next();
  }

  stopReading(): void {
    this.#socket.pause();
  }

  readOn(): void {
    this.#socket.resume();
  }

  shutdownWrites(): void {
    this.#socket.shutdown();
  }

  vanish(): void {
    this.#socket.terminate();
  }

  #flush(): void {
    if (this.#unsent.length === 0) return;
    this.#unsent = this.#unsent.subarray(Math.max(0, this.#socket.write(this.#unsent)));
  }

  #received(chunk: Uint8Array): void {
    const lines = Buffer.concat([this.#text, chunk]).toString('latin1').split('\n');
    this.#text = Buffer.from(lines.pop()!, 'latin1');
    for (const line of lines)
      this.#messages.push(JSON.parse(Buffer.from(line, 'latin1').toString('utf8')) as Message);
    this.#wakeUp();
  }

  #ended(): void {
    this.#closed = true;
    this.#wakeUp();
  }

  #wakeUp(): void {
    this.#wake.resolve();
    this.#wake = Promise.withResolvers<void>();
  }
}

/** A folder that goes with everything in it when the block that `using` it ends. */
export class SocketFolder implements Disposable {
  readonly path = mkdtempSync(join(tmpdir(), 'volt-ctl-'));

  at(name: string): string {
    return join(this.path, name);
  }

  [Symbol.dispose](): void {
    rmSync(this.path, { recursive: true, force: true });
  }
}

/** Waits, without a bound of its own: the test's is for hangs. */
export async function until(holds: () => boolean): Promise<void> {
  while (!holds()) await Bun.sleep(1);
}

/** Waits until a number stays the same for a while. */
export async function settled(count: () => number): Promise<number> {
  for (let before = -1; before !== count();) {
    before = count();
    await Bun.sleep(50);
  }
  return count();
}
