/** CPU templates, as guests see them. */
import { describe, expect, setDefaultTimeout } from 'bun:test';
import { testNeeding } from '../../support/needs.ts';
import { asm, buildPvhElf, program } from '../tiny-guest.ts';
import { FirecrackerChild, kvmOpens } from './microvm.ts';

/** For hangs only. */
setDefaultTimeout(120_000);
const needsKvm = testNeeding('/dev/kvm', !kvmOpens);

/** rol ebx, 4; mov eax, ebx; and al, 0xf; add al, 'A'; mov edx, 0x3f8; out dx, al */
const printDigit = [0xc1, 0xc3, 4, 0x89, 0xd8, 0x24, 0xf, 0x04, 0x41, 0xba, 0xf8, 3, 0, 0, 0xee];
/** Prints EAX, a letter from A to P for each digit. */
const printEax = [0x89, 0xc3, ...Array.from({ length: 8 }, () => printDigit).flat()];
/** mov eax, leaf; xor ecx, ecx; cpuid */
const readLeaf = (leaf: number) => [0xb8, leaf, 0, 0, 0, 0x31, 0xc9, 0x0f, 0xa2, ...printEax];
/** mov ecx, 0x10a; rdmsr */
const readCapabilities = [0xb9, 0x0a, 1, 0, 0, 0x0f, 0x32, ...printEax];
const I8042_COMMAND = 0x64;

/** What the guest prints of EAX of CPUID leaves 1 and 7 and of IA32_ARCH_CAPABILITIES, or why it was not started. */
async function run(template: unknown, machine: object = {}): Promise<string> {
  const guest = [asm.print('<'), readLeaf(1), readLeaf(7), readCapabilities, asm.print('>')];
  const kernel = buildPvhElf(program(...guest, asm.out8(I8042_COMMAND, 0xfe), asm.halt()));
  await using volt = await FirecrackerChild.start([], { kernel });
  await volt.done('PUT', '/boot-source', { kernel_image_path: volt.kernel });
  await volt.done('PUT', '/machine-config', { vcpu_count: 1, mem_size_mib: 64, ...machine });
  if (template !== undefined) await volt.done('PUT', '/cpu-config', template);
  const { status, body } = await volt.request('PUT', '/actions', { action_type: 'InstanceStart' });
  if (status !== 204) return (JSON.parse(body) as { fault_message: string }).fault_message;
  await volt.exited;
  const [, letters = ''] = /<([A-P]*)>/.exec(volt.stdout) ?? [];
  return letters.replace(/./g, (letter) => (letter.charCodeAt(0) - 0x41).toString(16));
}

const leaf = (number: string, subleaf: string, register: string, bitmap: string) => ({
  ...{ leaf: number, subleaf, flags: 1 },
  modifiers: [{ register, bitmap }],
});

describe('a CPU template', () => {
  needsKvm('sets the bits of CPUID and of MSRs that it names, and no others', async () => {
    const before = await run(undefined);
    const template = {
      cpuid_modifiers: [leaf('0x1', '0x0', 'eax', '0b1010_xxxx'), leaf('0x7', '0x0', 'eax', '0b0')],
      msr_modifiers: [{ addr: '0x10a', bitmap: '0b00' }],
    };

    const after = await run(template);

    expect(before).toMatch(/^[0-9a-f]{24}$/);
    expect(after.slice(0, 8)).toBe(`${before.slice(0, 6)}a${before[7]}`);
    expect(parseInt(after.slice(8, 16), 16)).toBe(parseInt(before.slice(8, 16), 16) & ~1);
    expect(parseInt(after.slice(16), 16)).toBe((parseInt(before.slice(16), 16) & ~3) >>> 0);
  });

  needsKvm('is refused for a leaf, an MSR or a capability that this host does not have', async () => {
    const started = 'Start microvm error: ';
    const guest = `${started}System configuration error: Failed to create guest config: `;

    expect(await run({ cpuid_modifiers: [leaf('0x7', '0x99', 'ebx', '0b0')] })).toBe(
      `${guest}Template changes a CPUID entry not supported by KVM: Leaf: 7, Subleaf: 99`,
    );
    expect(await run({ msr_modifiers: [{ addr: '0x9999', bitmap: '0b0' }] })).toBe(
      `${guest}KVM vcpu ioctl failed: Failed to get KVM vcpu msr: 0x9999`,
    );
    expect(await run({ kvm_capabilities: ['99999'] })).toBe(
      `${started}Kvm error: Missing KVM capabilities: 0x1869f`,
    );
  });

  needsKvm('of a static name is refused on another CPU', async () => {
    const refusals = await Promise.all(
      ['T2A', 'T2S'].map((cpu_template) => run(undefined, { cpu_template })),
    );

    // No CPU has both vendors.
    expect(refusals.join()).toMatch(/Failed to get CPU template: CPU vendor mismatched/);
  });
});
