import { describe, expect, test } from 'bun:test';
import {
  createVcpuModel,
  mpStateName,
  nextVcpu,
  reconcile,
  VCPU_STATES,
  type VcpuEvent,
  type VcpuModel,
  type VcpuState,
} from '../../../src/smp/vcpu-state.ts';

const EVENTS: Readonly<Record<string, VcpuEvent>> = {
  start: { kind: 'start' },
  halt: { kind: 'halt' },
  init: { kind: 'init' },
  sipi: { kind: 'sipi', vector: 8 },
  nmi: { kind: 'nmi' },
  interrupt: { kind: 'interrupt' },
  pause: { kind: 'pause' },
  resume: { kind: 'resume' },
  stop: { kind: 'stop' },
};

/** A model in each state; paused ones by what is beneath. */
const IN: Readonly<Record<string, VcpuModel>> = {
  created: createVcpuModel(false),
  running: { bsp: false, state: 'running', beneath: 'running', startAddress: 0x8000 },
  halted: { bsp: false, state: 'halted', beneath: 'halted', startAddress: 0x8000 },
  'waiting-for-sipi': { bsp: false, state: 'waiting-for-sipi', beneath: 'created', startAddress: undefined },
  'paused over running': { bsp: false, state: 'paused', beneath: 'running', startAddress: 0x8000 },
  'paused over halted': { bsp: false, state: 'paused', beneath: 'halted', startAddress: 0x8000 },
  'paused over waiting': {
    bsp: false,
    state: 'paused',
    beneath: 'waiting-for-sipi',
    startAddress: undefined,
  },
  stopped: { bsp: false, state: 'stopped', beneath: 'running', startAddress: undefined },
};

/** Every state against every event: the state after it, and after a resume where it is paused then. */
const TABLE: Readonly<Record<string, Readonly<Record<string, string>>>> = {
  created: {
    start: 'waiting-for-sipi',
    halt: 'created',
    init: 'created',
    sipi: 'created',
    nmi: 'created',
    interrupt: 'created',
    pause: 'paused>created',
    resume: 'created',
    stop: 'stopped',
  },
  running: {
    start: 'running',
    halt: 'halted',
    init: 'waiting-for-sipi',
    sipi: 'running',
    nmi: 'running',
    interrupt: 'running',
    pause: 'paused>running',
    resume: 'running',
    stop: 'stopped',
  },
  halted: {
    start: 'halted',
    halt: 'halted',
    init: 'waiting-for-sipi',
    sipi: 'halted',
    nmi: 'running',
    interrupt: 'running',
    pause: 'paused>halted',
    resume: 'halted',
    stop: 'stopped',
  },
  'waiting-for-sipi': {
    start: 'waiting-for-sipi',
    halt: 'waiting-for-sipi',
    init: 'waiting-for-sipi',
    sipi: 'running',
    nmi: 'waiting-for-sipi',
    interrupt: 'waiting-for-sipi',
    pause: 'paused>waiting-for-sipi',
    resume: 'waiting-for-sipi',
    stop: 'stopped',
  },
  'paused over running': {
    start: 'paused>running',
    halt: 'paused>halted',
    init: 'paused>waiting-for-sipi',
    sipi: 'paused>running',
    nmi: 'paused>running',
    interrupt: 'paused>running',
    pause: 'paused>running',
    resume: 'running',
    stop: 'stopped',
  },
  'paused over halted': {
    start: 'paused>halted',
    halt: 'paused>halted',
    init: 'paused>waiting-for-sipi',
    sipi: 'paused>halted',
    nmi: 'paused>running',
    interrupt: 'paused>running',
    pause: 'paused>halted',
    resume: 'halted',
    stop: 'stopped',
  },
  'paused over waiting': {
    start: 'paused>waiting-for-sipi',
    halt: 'paused>waiting-for-sipi',
    init: 'paused>waiting-for-sipi',
    sipi: 'paused>running',
    nmi: 'paused>waiting-for-sipi',
    interrupt: 'paused>waiting-for-sipi',
    pause: 'paused>waiting-for-sipi',
    resume: 'waiting-for-sipi',
    stop: 'stopped',
  },
  stopped: {
    start: 'stopped',
    halt: 'stopped',
    init: 'stopped',
    sipi: 'stopped',
    nmi: 'stopped',
    interrupt: 'stopped',
    pause: 'stopped',
    resume: 'stopped',
    stop: 'stopped',
  },
};

function describeState(vcpu: VcpuModel): string {
  return vcpu.state === 'paused' ? `paused>${nextVcpu(vcpu, { kind: 'resume' }).state}` : vcpu.state;
}

const CASES = Object.entries(TABLE).flatMap(([state, row]) =>
  Object.entries(row).map(([event, expected]) => [state, event, expected] as const),
);

test.each(CASES)('a vCPU that is %s, after %s, is %s', (state, event, expected) => {
  expect(describeState(nextVcpu(IN[state]!, EVENTS[event]!))).toBe(expected);
});

test('the table covers every state and every event', () => {
  expect(CASES.length).toBe(Object.keys(IN).length * Object.keys(EVENTS).length);
  expect(new Set(Object.values(IN).map((vcpu) => vcpu.state))).toEqual(new Set(VCPU_STATES));
});

describe('start', () => {
  test('lets a BSP run at once', () => {
    expect(nextVcpu(createVcpuModel(true), { kind: 'start' }).state).toBe('running');
  });

  test('by SIPI happens at vector times 0x1000', () => {
    expect(nextVcpu(IN['waiting-for-sipi']!, { kind: 'sipi', vector: 0x9a }).startAddress).toBe(0x9_a000);
  });

  test('is forgotten by INIT', () => {
    expect(nextVcpu(IN['running']!, { kind: 'init' }).startAddress).toBeUndefined();
  });

  test('by a second SIPI changes nothing', () => {
    const started = nextVcpu(IN['waiting-for-sipi']!, { kind: 'sipi', vector: 8 });
    expect(nextVcpu(started, { kind: 'sipi', vector: 9 })).toBe(started);
  });
});

test('whatever happens, a model stays valid and a stopped vCPU stays stopped', () => {
  let seed = 12345;
  const random = (below: number) => (seed = (seed * 1103515245 + 12345) % 2 ** 31) % below;
  const events = Object.values(EVENTS);
  for (let run = 0; run < 500; run++) {
    let vcpu = createVcpuModel(run % 2 === 0);
    let stopped = false;
    for (let step = 0; step < 50; step++) {
      vcpu = nextVcpu(vcpu, events[random(events.length)]!);
      stopped ||= vcpu.state === 'stopped';
      expect(VCPU_STATES).toContain(vcpu.state);
      expect(vcpu.state === 'stopped').toBe(stopped);
      expect(['paused', 'stopped']).not.toContain(vcpu.beneath);
    }
  }
});

test.each([
  ['created', 'runnable', 'created'],
  ['running', 'runnable', 'running'],
  ['running', 'halted', 'halted'],
  ['running', 'uninitialized', 'waiting-for-sipi'],
  ['running', 'init-received', 'waiting-for-sipi'],
  ['running', 'sipi-received', 'running'],
  ['paused', 'halted', 'paused'],
  ['stopped', 'runnable', 'stopped'],
] as const)(
  'a worker that is %s with a vCPU that KVM has %s is %s',
  (phase, mpState, expected: VcpuState) => {
    expect(reconcile(phase, mpState)).toBe(expected);
  },
);

test('MP states have the names of their numbers', () => {
  expect([0, 1, 2, 3, 4, 5].map(mpStateName)).toEqual([
    'runnable',
    'uninitialized',
    'init-received',
    'halted',
    'sipi-received',
    'unknown',
  ]);
});
