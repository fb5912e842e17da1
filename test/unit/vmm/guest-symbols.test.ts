import { describe, expect, test } from 'bun:test';
import { REGS } from '../../../src/kvm/abi.ts';
import { GuestSymbols } from '../../../src/vmm/guest-symbols.ts';
import { createSharedState, VCPU_WORD } from '../../../src/vmm/bus/shared-state.ts';
import { describeVcpu } from '../../../src/vmm/vcpu/sample.ts';
import { TemporaryFolder } from '../../cli/volt-process.ts';

const MAP = 'ffffffff81000000 T _text\nffffffff81000100 t idle\nffffffff82000000 B _end\n';
const IDLE = 0xffff_ffff_8100_0108n;
const LINUX = { kernelPath: 'vmlinux', cmdline: 'quiet', symbolsPath: undefined };

async function describeIdle(config: Partial<typeof LINUX>, protocol: 'linux' | 'bzimage') {
  using folder = new TemporaryFolder();
  const symbolsPath = await folder.write('System.map', MAP);
  const warnings: string[] = [];
  const symbols = new GuestSymbols({ ...LINUX, ...config, symbolsPath }, protocol, (line) =>
    warnings.push(line),
  );
  return { names: [symbols.describe(IDLE), symbols.describe(IDLE)], warnings, symbolsPath };
}

describe('the symbols of a guest', () => {
  test('are those of the file that was named', async () => {
    expect(await describeIdle({}, 'linux')).toMatchObject({ names: ['idle+0x8', 'idle+0x8'], warnings: [] });
  });

  test('are not believed where Linux may have moved, which is said once', async () => {
    const { names, warnings, symbolsPath } = await describeIdle({}, 'bzimage');

    expect(names).toEqual([undefined, undefined]);
    expect(warnings).toEqual([
      `Cannot use --symbols ${symbolsPath}: a bzImage may load Linux anywhere (expected nokaslr in --cmdline, or an ELF vmlinux)`,
    ]);
  });

  test('are believed where Linux was told not to move', async () => {
    const { names } = await describeIdle({ cmdline: 'quiet nokaslr' }, 'bzimage');
    expect(names[0]).toBe('idle+0x8');
  });

  test('are none when the file cannot be read by now, which is said once', () => {
    const warnings: string[] = [];
    const symbols = new GuestSymbols({ ...LINUX, symbolsPath: '/nowhere' }, 'linux', (line) =>
      warnings.push(line),
    );

    expect([symbols.describe(IDLE), symbols.describe(IDLE)]).toEqual([undefined, undefined]);
    expect(warnings).toEqual([
      'Cannot use --symbols /nowhere: there is no such file (expected the path of a file)',
    ]);
  });

  test('are those of the kernel file without one, and none if that is gone, silently', () => {
    const warn = () => expect.unreachable();
    const own = new GuestSymbols({ ...LINUX, kernelPath: undefined }, 'pvh', warn);
    const gone = new GuestSymbols({ ...LINUX, kernelPath: '/nowhere' }, 'linux', warn);

    expect(own.describe(0x10_0020n)).toBe('start');
    expect(gone.describe(IDLE)).toBeUndefined();
  });
});

test('a place is described with its symbol where there is one', () => {
  const words = createSharedState(1).vcpuWords(0);
  words[VCPU_WORD.phase] = 1;
  words[VCPU_WORD.regs + REGS.rip / 4] = 0x8100_0108 | 0;
  words[VCPU_WORD.regs + REGS.rip / 4 + 1] = -1;
  const named = describeVcpu({ index: 2, words }, (address) => (address === IDLE ? 'idle+0x8' : undefined));

  expect(named).toBe('vCPU 2: running, RIP 0xffffffff81000108 (idle+0x8)');
  expect(describeVcpu({ index: 2, words })).toBe('vCPU 2: running, RIP 0xffffffff81000108');
});
