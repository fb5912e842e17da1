/** Results of the control protocol's methods. Clients validate them: any process may listen at a path. */
import * as v from 'valibot';
import { MAX_CPUS } from '../../config/config.ts';
import type { Method } from './protocol.ts';
import type {
  BalloonStatus,
  BootTimeline,
  MemoryStatus,
  CpuChange,
  DeviceStatus,
  DumpResult,
  PlugResult,
  RegisterSet,
  RunningConfig,
  SnapshotResult,
  TraceResult,
  VcpuStatus,
  VmStatus,
} from './target.ts';

/** Limits far above real values, against answers that would only keep a client busy. */
const MOST = { hostCpus: 16_384, devices: 256, queues: 256, features: 256, phases: 65_536 } as const;

const whole = v.pipe(v.number(), v.integer());
const upTo = <T extends v.GenericSchema>(most: number, item: T) => v.pipe(v.array(item), v.maxLength(most));
const values = v.record(v.string(), v.string());
const PlugSchema = v.looseObject({ id: v.string(), address: v.string(), answered: v.boolean() });
const OkSchema = v.looseObject({ ok: v.literal(true) });

/** Unknown members, from a newer Volt, are kept. */
export const RESULTS = {
  status: v.looseObject({
    state: v.picklist(['running', 'paused', 'stopped']),
    pid: whole,
    uptimeMs: v.number(),
    vcpus: whole,
    maxVcpus: whole,
    memoryBytes: v.number(),
    kernel: v.string(),
  }),
  vcpus: upTo(
    MAX_CPUS,
    v.looseObject({
      index: whole,
      apicId: whole,
      bsp: v.boolean(),
      state: v.string(),
      mpState: v.optional(v.string()),
      sipiVector: v.optional(whole),
      threadId: whole,
      affinity: upTo(MOST.hostCpus, whole),
      hostCpu: v.optional(whole),
      runtimeNs: v.optional(v.number()),
      waitNs: v.optional(v.number()),
      rip: v.optional(v.pipe(v.string(), v.regex(/^0x[0-9a-f]{1,16}$/))),
      symbol: v.optional(v.string()),
      exits: v.record(v.string(), v.number()),
    }),
  ),
  devices: upTo(
    MOST.devices,
    v.looseObject({
      id: v.string(),
      kind: v.string(),
      address: v.number(),
      gsi: whole,
      pci: v.optional(v.string()),
      state: v.string(),
      failure: v.optional(v.string()),
      failures: whole,
      features: upTo(MOST.features, v.string()),
      queues: upTo(
        MOST.queues,
        v.looseObject({
          index: whole,
          size: whole,
          maxSize: whole,
          kicks: v.optional(v.number()),
          chains: v.optional(v.number()),
          bytesFromGuest: v.optional(v.number()),
          bytesToGuest: v.optional(v.number()),
          interrupts: v.optional(v.number()),
          errors: v.optional(v.number()),
        }),
      ),
    }),
  ),
  memory: v.looseObject({
    baseMib: v.number(),
    totalMib: v.number(),
    blockMib: v.number(),
    slotMib: v.number(),
    requestedMib: v.number(),
    pluggedMib: v.number(),
  }),
  balloon: v.looseObject({
    wantedMib: v.number(),
    actualMib: v.number(),
    inflatedBytes: v.number(),
    reportedBytes: v.number(),
    stats: v.record(v.string(), v.number()),
  }),
  regs: v.looseObject({
    general: values,
    special: values,
    mpState: v.string(),
    sipiVector: v.optional(whole),
  }),
  pause: OkSchema,
  resume: OkSchema,
  stop: OkSchema,
  ipi: OkSchema,
  nmi: OkSchema,
  'start-ap': OkSchema,
  affinity: OkSchema,
  nice: OkSchema,
  'mp-state': OkSchema,
  cpus: v.looseObject({
    present: whole,
    added: upTo(MAX_CPUS, whole),
    removed: upTo(MAX_CPUS, whole),
    unanswered: upTo(MAX_CPUS, whole),
  }),
  powerdown: OkSchema,
  plug: PlugSchema,
  unplug: PlugSchema,
  snapshot: v.looseObject({
    id: v.string(),
    memoryBytes: v.number(),
    writtenBytes: v.number(),
    pausedMs: v.number(),
    totalMs: v.number(),
    liveRounds: whole,
  }),
  events: v.looseObject({ subscribed: v.literal(true) }),
  config: v.looseObject({ config: v.record(v.string(), v.unknown()) }),
  timeline: v.looseObject({
    phases: upTo(MOST.phases, v.looseObject({ phase: v.string(), atMs: v.number() })),
    vcpus: upTo(
      MAX_CPUS,
      v.looseObject({
        index: whole,
        bsp: v.boolean(),
        readyMs: v.optional(v.number()),
        initMs: v.optional(v.number()),
        sipiMs: v.optional(v.number()),
        firstExitMs: v.optional(v.number()),
      }),
    ),
  }),
  console: v.looseObject({ attached: v.literal(true), writer: v.boolean() }),
  'console-input': v.looseObject({ taken: whole }),
  dump: v.looseObject({
    memoryBytes: v.number(),
    writtenBytes: v.number(),
    segments: whole,
    truncated: v.boolean(),
    vmcoreinfo: v.boolean(),
    pausedMs: v.number(),
    totalMs: v.number(),
  }),
  trace: v.looseObject({ seconds: v.number(), exits: whole, lost: whole, bytes: whole }),
  gdb: v.looseObject({ attached: v.literal(true) }),
} as const satisfies Record<Method, v.GenericSchema>;

interface Ok {
  readonly ok: true;
}

interface Results extends Record<Method, unknown> {
  status: VmStatus;
  vcpus: readonly VcpuStatus[];
  devices: readonly DeviceStatus[];
  memory: MemoryStatus;
  balloon: BalloonStatus;
  regs: RegisterSet;
  pause: Ok;
  resume: Ok;
  stop: Ok;
  ipi: Ok;
  nmi: Ok;
  'start-ap': Ok;
  affinity: Ok;
  nice: Ok;
  'mp-state': Ok;
  cpus: CpuChange;
  powerdown: Ok;
  plug: PlugResult;
  unplug: PlugResult;
  snapshot: SnapshotResult;
  events: { readonly subscribed: true };
  config: RunningConfig;
  timeline: BootTimeline;
  console: { readonly attached: true; readonly writer: boolean };
  'console-input': { readonly taken: number };
  dump: DumpResult;
  trace: TraceResult;
  gdb: { readonly attached: true };
}

/** Result of a method. */
export type ResultOf<M extends Method> = Results[M];
