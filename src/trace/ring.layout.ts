/**
 * The ring in which a vCPU's thread notes its exits while it is traced, in memory outside of JavaScript: one writer, the
 * main thread reads. Pure.
 */

/** Where the count of events that were written is, modulo 2^32; then the events, in doubles. */
export const TRACE_RING = { head: 0, events: 8, bytes: 0x41000 } as const;
/** Moments are milliseconds since 1970. `what`: KVM's exit reason, or TRACE_ERRNO and an errno. */
export const TRACE_EVENT = { entered: 0, left: 1, what: 2, detail: 3, size: 4 } as const;
export const TRACE_ERRNO = 1000;
/** A power of two. The main thread looks 20 times a second: enough for 160,000 exits a second. */
export const RING_EVENTS = 8192;

export interface TraceRing {
  readonly words: Int32Array;
  readonly doubles: Float64Array;
}

export function viewTraceRing(buffer: ArrayBuffer): TraceRing {
  return { words: new Int32Array(buffer), doubles: new Float64Array(buffer) };
}

/** On the vCPU's thread, after each KVM_RUN. Allocates nothing. */
export function noteExit(
  { words, doubles }: TraceRing,
  entered: number,
  left: number,
  what: number,
  detail: number,
): void {
  const head = words[TRACE_RING.head]!;
  const at = TRACE_RING.events + (head & (RING_EVENTS - 1)) * TRACE_EVENT.size;
  doubles[at + TRACE_EVENT.entered] = entered;
  doubles[at + TRACE_EVENT.left] = left;
  doubles[at + TRACE_EVENT.what] = what;
  doubles[at + TRACE_EVENT.detail] = detail;
  Atomics.store(words, TRACE_RING.head, (head + 1) | 0);
}

/** Of events that were taken from a ring: those still whole, and how many were overwritten before. */
export interface TakenEvents {
  readonly events: Float64Array;
  readonly lost: number;
  readonly head: number;
}

/** Takes the events since `from`, which is the head of the call before. */
export function takeEvents({ words, doubles }: TraceRing, from: number): TakenEvents {
  const head = Atomics.load(words, TRACE_RING.head);
  const count = (head - from) >>> 0;
  const first = count > RING_EVENTS ? head - RING_EVENTS : from;
  const taken = new Float64Array(((head - first) >>> 0) * TRACE_EVENT.size);
  for (let i = first, to = 0; i !== head; i = (i + 1) | 0, to += TRACE_EVENT.size) {
    const at = TRACE_RING.events + (i & (RING_EVENTS - 1)) * TRACE_EVENT.size;
    taken.set(doubles.subarray(at, at + TRACE_EVENT.size), to);
  }
  // What was written meanwhile may have overwritten what was read first, the event under way included.
  const written = (Atomics.load(words, TRACE_RING.head) - first) >>> 0;
  const torn = Math.max(0, Math.min(taken.length / TRACE_EVENT.size, written + 1 - RING_EVENTS));
  const lost = count - taken.length / TRACE_EVENT.size + torn;
  return { events: taken.subarray(torn * TRACE_EVENT.size), lost, head };
}
