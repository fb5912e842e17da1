/** Rings of exits, the events made of them, and what a report says. */
import { describe, expect, test } from 'bun:test';
import {
  noteExit,
  RING_EVENTS,
  takeEvents,
  TRACE_ERRNO,
  TRACE_EVENT,
  TRACE_RING,
  viewTraceRing,
} from '../../../src/trace/ring.layout.ts';
import { summarizeTrace } from '../../../src/trace/summary.ts';
import { formatTrace, traceEvents } from '../../../src/trace/trace-events.ts';
import type { TraceInput } from '../../../src/trace/trace-input.ts';

const makeRing = () => viewTraceRing(new ArrayBuffer(TRACE_RING.bytes));
const whats = (events: Float64Array) =>
  Array.from(
    { length: events.length / TRACE_EVENT.size },
    (_, i) => events[i * TRACE_EVENT.size + TRACE_EVENT.what]!,
  );

describe('a ring of exits', () => {
  test('gives each event once, in order', () => {
    const ring = makeRing();
    noteExit(ring, 1, 2, 3, 4);
    noteExit(ring, 5, 6, 7, 8);

    const first = takeEvents(ring, 0);
    noteExit(ring, 9, 10, 11, 12);
    const second = takeEvents(ring, first.head);

    expect([...first.events]).toEqual([1, 2, 3, 4, 5, 6, 7, 8]);
    expect([...second.events]).toEqual([9, 10, 11, 12]);
    expect([first.lost, second.lost]).toEqual([0, 0]);
  });

  test('that overflowed gives the newest, and counts the others', () => {
    const ring = makeRing();
    for (let i = 0; i < RING_EVENTS + 5; i++) noteExit(ring, i, i, i, 0);

    const { events, lost } = takeEvents(ring, 0);

    // The oldest slot may be being written.
    expect(lost).toBe(6);
    expect(whats(events)[0]).toBe(6);
    expect(whats(events).at(-1)).toBe(RING_EVENTS + 4);
  });

  test('goes on where the count of events wraps', () => {
    const ring = makeRing();
    ring.words[TRACE_RING.head] = -1;
    noteExit(ring, 0, 0, 1, 0);
    noteExit(ring, 0, 0, 2, 0);

    expect(whats(takeEvents(ring, -1).events)).toEqual([1, 2]);
  });

  test('has room for its events', () => {
    expect((TRACE_RING.events + RING_EVENTS * TRACE_EVENT.size) * 8).toBeLessThanOrEqual(TRACE_RING.bytes);
  });
});

const EXIT_IO = 2;
const OUT = 0x1_0000;
const INPUT: TraceInput = {
  from: 1000,
  until: 1100,
  phases: [
    { name: 'VM made', at: 1010 },
    { name: 'vCPUs made', at: 1025 },
  ],
  firstConsoleByteAt: 1050,
  vcpus: [
    {
      ...{ index: 0, apicId: 0, isBsp: true, enteredAt: 1030, initAt: 0, sipiAt: 0 },
      exits: Float64Array.of(1030, 1040, EXIT_IO, OUT + 0x3f8, 1041, 1060, EXIT_IO, OUT + 0x3f8),
    },
    {
      ...{ index: 1, apicId: 2, isBsp: false, enteredAt: 1029, initAt: 1035, sipiAt: 1045 },
      exits: Float64Array.of(1029, 1035, TRACE_ERRNO + 11, 0, 1036, 1070, EXIT_IO, 0x60),
    },
    {
      ...{ index: 2, apicId: 3, isBsp: false, enteredAt: 1029, initAt: 0, sipiAt: 0 },
      exits: new Float64Array(),
    },
  ],
  counters: [{ at: 1050, name: 'disk0 requests', values: { requests: 7 } }],
  lost: 3,
  exitName: () => 'io',
};

describe('trace events', () => {
  const events = [...traceEvents(INPUT)];
  const slices = (tid: number) =>
    events
      .filter((event) => event.ph === 'X' && event.tid === tid)
      .map(({ name, ts, dur }) => [name, ts, ts! + dur!]);

  test('are what the Trace Event Format asks for', () => {
    const file = JSON.parse([...formatTrace(INPUT)].join('')) as { traceEvents: typeof events };

    expect(file).toMatchObject({ displayTimeUnit: 'ms', otherData: { producer: 'volt', lostExits: 3 } });
    expect(file.traceEvents).toEqual(JSON.parse(JSON.stringify(events)));
    for (const { ph, name, pid, tid, ts, dur, s, args } of events) {
      expect({ name, pid, tid }).toEqual({ name: expect.any(String), pid: 1, tid: expect.any(Number) });
      expect(ph === 'M' || ts! >= 0).toBe(true);
      expect(ph !== 'X' || dur! >= 0).toBe(true);
      expect(ph !== 'i' || s === 't').toBe(true);
      expect(ph !== 'C' || Object.values(args!).every((value) => typeof value === 'number')).toBe(true);
    }
  });

  test('of the boot follow each other', () => {
    expect(slices(1)).toEqual([
      ['VM made', 0, 10_000],
      ['vCPUs made', 10_000, 25_000],
    ]);
  });

  test('of an exit last until KVM_RUN is called again', () => {
    expect(slices(10)).toEqual([
      ['running', 30_000, 100_000],
      ['io out 0x3f8', 40_000, 41_000],
      ['io out 0x3f8', 60_000, 100_000],
    ]);
  });

  test('of an AP show INIT, SIPI and its first exit', () => {
    const instants = events.filter(({ ph, tid }) => ph === 'i' && tid === 11);

    expect(instants.map(({ name, ts }) => [name, ts])).toEqual([
      ['INIT', 35_000],
      ['SIPI', 45_000],
      ['online: first exit', 70_000],
    ]);
    expect(slices(11)).toEqual([
      ['waits for SIPI', 29_000, 45_000],
      ['INIT to SIPI', 35_000, 45_000],
      ['running', 45_000, 100_000],
      ['SIPI to first exit', 45_000, 70_000],
      ['INIT received', 35_000, 36_000],
      ['io in 0x60', 70_000, 100_000],
    ]);
  });

  test('of an AP that nobody starts show that it waits to the end', () => {
    expect(slices(12)).toEqual([['waits for SIPI', 29_000, 100_000]]);
  });

  test('nest on each lane: none reaches beyond one that began before it', () => {
    for (const tid of [1, 10, 11, 12]) {
      const open: number[] = [];
      for (const [, start, end] of slices(tid).toSorted(
        (a, b) => Number(a[1]) - Number(b[1]) || Number(b[2]) - Number(a[2]),
      )) {
        while (open.length > 0 && open.at(-1)! <= Number(start)) open.pop();
        expect(Number(end)).toBeLessThanOrEqual(open.at(-1) ?? Infinity);
        open.push(Number(end));
      }
    }
  });
});

describe('a report', () => {
  test('has phases, APs, exits by reason and counters', () => {
    const summary = summarizeTrace([...formatTrace(INPUT)].join(''), 'trace.json');

    expect(summary).toMatchObject({
      seconds: 0.1,
      lost: 3,
      phases: [
        { name: 'VM made', atMs: 10 },
        { name: 'vCPUs made', atMs: 25 },
      ],
      counters: [{ name: 'disk0 requests: requests', mean: 7, max: 7 }],
    });
    expect(summary.vcpus).toMatchObject([
      { lane: 'vCPU 0 (BSP, APIC id 0)', exits: 2, exitMs: 41, byReason: [['io out 0x3f8', 2, 41]] },
      { lane: 'vCPU 1 (AP, APIC id 2)', initAt: 35, sipiAt: 45, onlineAt: 70, exits: 2 },
      { lane: 'vCPU 2 (AP, APIC id 3)', exits: 0, sipiAt: undefined },
    ]);
  });

  test.each(['', '{', '[]', 'null', '{"traceEvents":1}', '"x"'])('refuses %j in one line', (text) => {
    expect(() => summarizeTrace(text, 'x.json')).toThrow(/^Cannot report on x\.json: it [^\n]+$/);
  });

  test('takes strange events for what they are worth', () => {
    const strange = {
      traceEvents: [
        null,
        1,
        {},
        { ph: 'X', name: 'a', ts: 'soon', args: 7 },
        { ph: 'C', name: 'b', args: { c: 'd' } },
      ],
    };

    expect(summarizeTrace(JSON.stringify(strange), 'x.json')).toMatchObject({ vcpus: [], counters: [] });
  });
});
