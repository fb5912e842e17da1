/** gdb's `monitor` commands, and what `info threads` says of a vCPU. */
import { readMpState } from '../../kvm/vcpu.ts';
import { lifecycleState, mpStateName } from '../../smp/vcpu-state.ts';
import type { Vcpu } from '../vcpu/vcpu.ts';
import type { GuestDebugger } from './guest-debugger.ts';
import { linearRip, readBlocks } from './registers.ts';

const HELP = `volt's monitor commands:
  help                this list
  vcpus               a line for each vCPU: MP state, APIC id, what it executes
  where               the same with the function, by the symbols that Volt has (--symbols)
  translate ADDRESS   the guest physical address behind a linear one of this thread
`;

/** Returns the text to print. */
export async function runMonitor(target: GuestDebugger, thread: Vcpu, line: string): Promise<string> {
  const [command = '', ...words] = line.trim().split(/\s+/);
  switch (command) {
    case '':
    case 'help':
      return HELP;
    case 'vcpus':
      return lines(target, () => undefined);
    case 'where':
      return lines(target, (rip) => target.vm.symbols.describe(rip));
    case 'translate':
      return translateAddress(target, thread, words[0] ?? '');
    default:
      return `unknown command ${command.slice(0, 40)} (expected help, vcpus, where or translate)\n`;
  }
}

function lines(target: GuestDebugger, symbolOf: (rip: bigint) => string | undefined): string {
  const described = target.vm.vcpus.map((vcpu) => {
    const rip = linearRip(readBlocks(vcpu.kvm.fd));
    const symbol = symbolOf(rip);
    const where = `0x${rip.toString(16)}${symbol === undefined ? '' : ` (${symbol})`}`;
    return `vCPU ${vcpu.index}: ${describeThread(target, vcpu)}, ${where}\n`;
  });
  return described.join('');
}

/** `BSP, APIC id 0, halted`: of a vCPU that is out of KVM_RUN. */
export function describeThread({ vm }: GuestDebugger, { index, kvm }: Vcpu): string {
  const state = lifecycleState('running', mpStateName(readMpState(kvm.fd)));
  return `${index === vm.config.bootCpu ? 'BSP' : 'AP'}, APIC id ${kvm.apicId}, ${state}`;
}

function translateAddress(target: GuestDebugger, thread: Vcpu, word: string): string {
  if (!/^(0x[0-9a-fA-F]{1,16}|\d{1,20})$/.test(word))
    return `"${word.slice(0, 40)}" is no address (expected 0x1000)\n`;
  const physical = target.translate(thread, BigInt.asUintN(64, BigInt(word)));
  return physical === undefined
    ? `nothing is mapped at ${word} for vCPU ${thread.index}\n`
    : `0x${physical.toString(16)}\n`;
}
