/** Records a running guest for some seconds. */
import type { OwnedFd } from '../../ffi/file.ts';
import { TRACE_EVENT } from '../../trace/ring.layout.ts';
import { VoltError } from '../../volt-error.ts';
import { now } from '../bus/shared-state.ts';
import type { VirtualMachine } from '../virtual-machine.ts';
import { useRecorder } from './active-recorder.ts';
import { writeTrace } from './write-trace.ts';

/** What a trace recorded. */
export interface TraceResult {
  readonly seconds: number;
  readonly exits: number;
  /** Exits that there was no room for. */
  readonly lost: number;
  readonly bytes: number;
}

export interface TraceTarget {
  /** An empty file, open for writing. Called once. */
  readonly open: () => Promise<OwnedFd>;
  /** Puts the file, which is written, in its place. */
  readonly commit: () => Promise<void>;
  /** Aborted: there is no trace. */
  readonly signal: AbortSignal;
}

/** Ends sooner if the guest does. Throws VoltError. */
export async function recordTrace(
  vm: VirtualMachine,
  seconds: number,
  { open, commit, signal }: TraceTarget,
): Promise<TraceResult> {
  using file = await open();
  const from = now();
  using use = useRecorder(vm);
  const timeUp = Promise.withResolvers<void>();
  const timer = setTimeout(() => timeUp.resolve(), seconds * 1000);
  signal.addEventListener('abort', () => timeUp.resolve());
  await Promise.race([timeUp.promise, vm.ended]);
  clearTimeout(timer);
  if (signal.aborted) throw new VoltError('usage', 'Cannot trace the guest: the trace was cancelled');
  const input = use.recorder.result([], from);
  const bytes = writeTrace(file.fd, input);
  await commit();
  const exits = input.vcpus.reduce((sum, vcpu) => sum + vcpu.exits.length / TRACE_EVENT.size, 0);
  return { seconds: (input.until - input.from) / 1000, exits, lost: input.lost, bytes };
}
