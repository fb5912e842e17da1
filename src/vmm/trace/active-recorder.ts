/** A machine has one recorder, however many traces of it are under way. */
import type { VirtualMachine } from '../virtual-machine.ts';
import { TraceRecorder } from './recorder.ts';

interface Active {
  readonly recorder: TraceRecorder;
  users: number;
}

const active = new WeakMap<VirtualMachine, Active>();

/** A recorder that records until it is disposed of. */
export function useRecorder(vm: VirtualMachine): { readonly recorder: TraceRecorder } & Disposable {
  const known = active.get(vm);
  const entry = known ?? { recorder: new TraceRecorder(vm), users: 0 };
  if (!known) active.set(vm, entry);
  entry.users++;
  const release = () => {
    if (--entry.users > 0) return;
    active.delete(vm);
    entry.recorder[Symbol.dispose]();
  };
  return { recorder: entry.recorder, [Symbol.dispose]: release };
}
