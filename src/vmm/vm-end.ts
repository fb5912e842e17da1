/** How a VM ended, in words and as the exit code of the `volt` process. */
import type { ExitCodeStyle } from '../config/config.ts';
import type { RegisterDump, VcpuReport } from './vcpu/report.ts';

/** Exit codes of the `volt` process. README.md explains them to users. */
export const EXIT_CODE = {
  /** The guest ended itself: reset, power-off, or status 0 written to the exit port. */
  ok: 0,
  /** Volt or the host could not start or continue the guest. */
  failed: 1,
  /** A flag, a configuration file or an image is wrong. */
  usage: 2,
  /** The guest crashed with a triple fault. */
  tripleFault: 3,
  /** KVM could not run the guest any further. */
  kvmFailure: 4,
  /** Base of the codes that a guest chooses by writing a status other than 0 to the exit port. */
  guestStatus: 64,
} as const;

/** Highest code of a guest status: shells give those from 126 on a meaning. */
const HIGHEST_GUEST_CODE = 125;

const EXIT_CODE_OF_STATUS: Readonly<Record<ExitCodeStyle, (status: number) => number>> = {
  volt: (status) =>
    status === 0 ? EXIT_CODE.ok : Math.min(EXIT_CODE.guestStatus + status, HIGHEST_GUEST_CODE),
  // exit((status << 1) | 1), of which a parent sees eight bits. (QEMU, hw/misc/debugexit.c)
  qemu: (status) => ((status << 1) | 1) & 0xff,
};

/** How a VM ended: what `VirtualMachine.ended` settles with. */
export interface VmEnd {
  readonly kind: VcpuReport['kind'];
  readonly exitCode: number;
  /** vCPU whose exit ended the VM. */
  readonly vcpu: number;
  /** Messages for the user; empty where the guest ended itself. The first line is a sentence. */
  readonly lines: readonly string[];
  /** Of a guest that was saved: where its snapshot is, in words. */
  readonly saved?: string;
  /** State and RIP of each vCPU at the end, in words. */
  readonly states: readonly string[];
}

/** `style` is how a status that the guest wrote to the exit port becomes an exit code. */
export function describeEnd(
  vcpu: number,
  report: VcpuReport,
  states: readonly string[],
  style: ExitCodeStyle = 'volt',
): VmEnd {
  return { ...describeReport(vcpu, report, style), states: states.map((state, i) => `vCPU ${i}: ${state}`) };
}

function describeReport(vcpu: number, report: VcpuReport, style: ExitCodeStyle): Omit<VmEnd, 'states'> {
  switch (report.kind) {
    case 'stopped':
    case 'reset':
    case 'power-off':
      return { kind: report.kind, exitCode: EXIT_CODE.ok, vcpu, lines: [] };
    case 'saved': {
      const saved = `saved to ${report.directory} (snapshot ${report.id})`;
      return { kind: report.kind, exitCode: EXIT_CODE.ok, vcpu, lines: [], saved };
    }
    case 'guest-exit':
      return guestExit(vcpu, report.status, style);
    case 'triple-fault':
      return { kind: report.kind, exitCode: EXIT_CODE.tripleFault, vcpu, lines: tripleFault(vcpu, report) };
    case 'kvm-failure':
      return {
        kind: report.kind,
        exitCode: EXIT_CODE.kvmFailure,
        vcpu,
        lines: [
          `guest stopped: ${report.what}, on vCPU ${vcpu} at RIP ${report.registers.rip}`,
          ...report.details.map((line) => `  ${line}`),
          ...indent(report.registers),
        ],
      };
    case 'failed':
      return {
        kind: report.kind,
        exitCode: EXIT_CODE.failed,
        vcpu,
        lines: [`Cannot run vCPU ${vcpu}: ${report.message}`],
      };
  }
}

const TRIPLE_FAULT_MEANING = '(an exception that its own handlers could not take)';

function tripleFault(vcpu: number, report: Extract<VcpuReport, { kind: 'triple-fault' }>): string[] {
  const what = `guest crashed: triple fault on vCPU ${vcpu}`;
  if (report.registers)
    return [`${what} at RIP ${report.registers.rip} ${TRIPLE_FAULT_MEANING}`, ...indent(report.registers)];
  const lost = "  its registers are lost: this host's KVM (AMD) resets a vCPU at a triple fault";
  const { lastSample } = report;
  if (!lastSample)
    return [
      `${what} ${TRIPLE_FAULT_MEANING}`,
      `${lost}; volt ctl PID vcpus takes samples of a guest that runs`,
    ];
  const age = `${(lastSample.ageMs / 1000).toFixed(3)} s before`;
  return [
    `${what}, last seen at RIP ${lastSample.rip} ${TRIPLE_FAULT_MEANING}`,
    lost,
    `  its last sample, ${age}:`,
    ...indent(lastSample),
  ];
}

function guestExit(vcpu: number, status: number, style: ExitCodeStyle): Omit<VmEnd, 'states'> {
  const exitCode = EXIT_CODE_OF_STATUS[style](status);
  if (status === 0) return { kind: 'guest-exit', exitCode, vcpu, lines: [] };
  return {
    kind: 'guest-exit',
    exitCode,
    vcpu,
    lines: [`guest reported failure: status ${status} from vCPU ${vcpu}`],
  };
}

function indent(registers: RegisterDump): string[] {
  return registers.lines.map((line) => `  ${line}`);
}
