/** What an exit that ends a vCPU means, in words. Runs once, at the end, so it may allocate. */
import { getU64, hex, viewOf } from '../../binary/bytes.ts';
import { EXIT, INTERNAL_ERROR, REGS, RUN, SYSTEM_EVENT } from '../../kvm/abi.ts';
import { now, VCPU_MOMENT, VCPU_WORD } from '../bus/shared-state.ts';
import type { VcpuQueries } from './queries.ts';
import { dumpRegisters, isResetState } from './register-dump.ts';
import type { VcpuReport } from './report.ts';
import { wasSampled } from './sample.ts';

const INTERNAL_ERROR_MEANING: Readonly<Record<number, string>> = {
  [INTERNAL_ERROR.emulation]:
    "KVM's instruction emulator does not know an instruction that it had to emulate",
  [INTERNAL_ERROR.simultaneousException]: 'an exception occurred while KVM delivered another',
  [INTERNAL_ERROR.deliverEvent]: 'KVM could not deliver an interrupt or exception to the guest',
  [INTERNAL_ERROR.unexpectedExitReason]: 'the processor left the guest for a reason that KVM does not know',
};

/** Of a vCPU whose KVM_RUN returned 0 with a reason that the exit handler does not handle. */
interface ExitedVcpu {
  /** Its kvm_run page. */
  readonly run8: Uint8Array;
  readonly kvm: VcpuQueries;
  /** Its words and moments in the shared state. */
  readonly words: Int32Array;
  readonly moments: Float64Array;
}

/** Why the vCPU ends. Throws SyscallError when its registers cannot be read. */
export function reportExit(reason: number, vcpu: ExitedVcpu): VcpuReport {
  const { run8: run, kvm } = vcpu;
  const view = viewOf(run);
  const failure = (what: string, details: string[] = []): VcpuReport => ({
    kind: 'kvm-failure',
    what,
    details,
    registers: dumpRegisters(kvm.regs(), kvm.sregs()),
  });
  switch (reason) {
    case EXIT.shutdown:
      return reportTripleFault(vcpu);
    case EXIT.internalError:
      return failure(...describeInternalError(view, run));
    case EXIT.failEntry:
      return failure('the processor refused to enter the guest', [
        `hardware entry failure reason ${hex(getU64(view, RUN.failEntry.reason))} on host CPU ${view.getUint32(RUN.failEntry.cpu, true)}`,
        'the guest put its control registers or segments into a state that hardware virtualization does not allow',
      ]);
    case EXIT.unknown:
      return failure('the processor left the guest for an unknown reason', [
        `hardware exit reason ${hex(getU64(view, RUN.hardwareExitReason))}`,
      ]);
    case EXIT.exception:
      return failure('KVM reported a guest exception that it should have delivered itself');
    case EXIT.memoryFault:
      return failure('the guest touched memory that KVM could not map', [
        `guest address ${hex(getU64(view, RUN.memoryFault.gpa))}, ${getU64(view, RUN.memoryFault.bytes)} bytes`,
      ]);
    case EXIT.systemEvent:
      return systemEvent(view.getUint32(RUN.systemEvent.type, true), failure);
    default:
      return failure(`KVM exited with reason ${reason} (${exitName(reason)}), which Volt never enables`);
  }
}

function reportTripleFault({ kvm, words, moments }: ExitedVcpu): VcpuReport {
  const [regs, sregs] = [kvm.regs(), kvm.sregs()];
  if (!isResetState(regs, sregs)) return { kind: 'triple-fault', registers: dumpRegisters(regs, sregs) };
  if (!wasSampled(words)) return { kind: 'triple-fault', registers: undefined, lastSample: undefined };
  const sampled = dumpRegisters(new DataView(words.buffer, words.byteOffset + 4 * VCPU_WORD.regs, REGS.size));
  const lastSample = { ...sampled, ageMs: now() - moments[VCPU_MOMENT.sampled]! };
  return { kind: 'triple-fault', registers: undefined, lastSample };
}

/** `internalError` for 17, `?` for a number without a name. */
export function exitName(reason: number): string {
  const entry = Object.entries(EXIT).find(([, value]) => value === reason);
  return entry ? entry[0] : '?';
}

function systemEvent(type: number, failure: (what: string) => VcpuReport): VcpuReport {
  if (type === SYSTEM_EVENT.shutdown) return { kind: 'power-off' };
  if (type === SYSTEM_EVENT.reset) return { kind: 'reset' };
  return failure(`the guest reported system event ${type} (expected shutdown or reset)`);
}

function describeInternalError(view: DataView, run: Uint8Array): [string, string[]] {
  const suberror = view.getUint32(RUN.internal.suberror, true);
  const count = Math.min(view.getUint32(RUN.internal.ndata, true), 16);
  const what = INTERNAL_ERROR_MEANING[suberror] ?? `KVM gave up with internal error ${suberror}`;
  const details = [`internal error ${suberror}`];
  if (suberror === INTERNAL_ERROR.emulation && count >= 4) {
    // data[0] is flags; with bit 0 the size and bytes of the instruction follow. (api.rst §5,
    // emulation_failure)
    const size = Math.min(run[RUN.internal.insnSize] ?? 0, 15);
    const bytes = run.subarray(RUN.internal.insnBytes, RUN.internal.insnBytes + size);
    if (view.getUint32(RUN.internal.data, true) & 1 && size > 0) {
      details.push(
        `instruction bytes ${[...bytes].map((byte) => byte.toString(16).padStart(2, '0')).join(' ')}`,
      );
    }
    return [what, details];
  }
  const data = Array.from({ length: count }, (_, i) =>
    hex(view.getBigUint64(RUN.internal.data + 8 * i, true)),
  );
  if (data.length > 0) details.push(`data ${data.join(' ')}`);
  return [what, details];
}
