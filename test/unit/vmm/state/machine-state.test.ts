import { describe, expect, test } from 'bun:test';
import { decodeState, encodeState } from '../../../../src/vmm/state/machine-state.ts';
import { VoltError } from '../../../../src/volt-error.ts';
import { type ForgedState, forgeState, sampleState, signState } from './sample-state.ts';

const read = (file: Uint8Array) => () => decodeState(file, 'DIR');

test('a state comes back from its file as it was', () => {
  const state = sampleState(3);

  expect(decodeState(encodeState(state), 'DIR')).toEqual(state);
});

test('the file begins with a line that names the format and the checksum of the rest', () => {
  const text = Buffer.from(encodeState(sampleState())).toString();

  const [header, ...rest] = text.split('\n');

  const checksum = new Bun.CryptoHasher('sha256').update(rest.join('\n')).digest('hex');
  expect(header).toBe(`VOLT-SNAPSHOT 2 ${checksum}`);
});

test.each([0, 1, 20, 80, 81, 200, 1000])(
  'a file that ends after %d bytes is refused in one line',
  (length) => {
    const file = encodeState(sampleState()).subarray(0, length);

    expect(read(file)).toThrow(/^Cannot read the snapshot DIR: [^\n]+; [^\n]+$/);
  },
);

test('every changed byte is noticed', () => {
  const file = encodeState(sampleState(1));
  const step = 97;
  const offsets = Array.from({ length: Math.floor(file.length / step) }, (_, i) => i * step);

  const accepted = offsets.filter((at) => {
    const changed = file.slice();
    changed[at]! ^= 1;
    try {
      decodeState(changed, 'DIR');
      return true;
    } catch (error) {
      return !(error instanceof VoltError);
    }
  });

  expect(offsets.length).toBeGreaterThan(100);
  expect(accepted).toEqual([]);
});

test('a later format is named, with what to do', () => {
  const text = Buffer.from(encodeState(sampleState())).toString().replace('SNAPSHOT 2 ', 'SNAPSHOT 3 ');

  expect(read(Buffer.from(text))).toThrow(
    'Cannot read the snapshot DIR: its format is 3, and this Volt reads 1 to 2; use the Volt that wrote it',
  );
});

describe('a forged file with the right checksum', () => {
  test.each<[string, (document: ForgedState) => void, string]>([
    ['no vCPU', (d) => void (d.vcpus = []), 'vcpus is no vCPU'],
    ['a vCPU twice', (d) => void (d.vcpus[1]!['index'] = 0), 'vCPUs out of order'],
    ['an index that is no number', (d) => void (d.vcpus[0]!['index'] = '0'), 'vcpus.0.index is "0"'],
    ['short registers', (d) => void (d.vcpus[0]!['regs'] = 'AAAA'), 'vcpus.0.regs .*base64 of 144 bytes'],
    ['registers that are no base64', (d) => void (d.vcpus[0]!['regs'] = '!'.repeat(192)), 'vcpus.0.regs'],
    ['half an MSR', (d) => void (d.vcpus[0]!['msrs'] = Buffer.alloc(24).toString('base64')), 'vcpus.0.msrs'],
    ['half a CPUID entry', (d) => void (d.vcpus[0]!['cpuid'] = Buffer.alloc(60).toString('base64')), 'cpuid'],
    ['sregs of no size', (d) => void (d.vcpus[0]!['sregs'] = Buffer.alloc(316).toString('base64')), 'sregs'],
    ['neither XSAVE nor FPU', (d) => void delete d.vcpus[0]!['xsave'], 'without FPU state'],
    ['an unknown key', (d) => void (d.vcpus[0]!['extra'] = 1), 'vcpus.0.extra is unknown to this version'],
    ['an id with a path', (d) => void (d.id = '../../../../etc/passwd/aaaaaaaaa'), 'id is'],
    [
      'a memory file elsewhere',
      (d) => void (d.memory.layers[0]!.file = '../memory-0'),
      'memory.layers.0.file',
    ],
    ['a protocol of its own', (d) => void (d.boot.protocol = 'none'), 'boot.protocol is "none"'],
    ['a word too many', (d) => void d.chips.uart.push(0), 'chips.uart'],
    ['a word of 33 bits', (d) => void (d.chips.uart[0] = 2 ** 32), 'chips.uart.0'],
    ['more to read than is there', (d) => void (d.chips.uart[9] = 500), 'its UART has 491 bytes to read'],
    ['less than nothing to read', (d) => void (d.chips.uart[9] = 0), 'its UART has -9 bytes to read'],
    ['hotplug registers for one vCPU', (d) => void (d.chips.cpuHotplug.length = 5), 'hotplug registers'],
    [
      'a position that no queue has',
      (d) => void (d.devices[0]!.queues[0]!['next'] = 70_000),
      'devices.0.queues.0.next is 70000',
    ],
    [
      'a device without queues',
      (d) => void delete (d.devices[0] as Partial<(typeof d.devices)[0]>).queues,
      'devices.0.queues is',
    ],
    ['routing of its own', (d) => void (d.vm.routing = []), 'vm.routing'],
  ])('%s is refused', (_name, change, problem) => {
    const forged = forgeState(change);

    expect(read(forged)).toThrow(new RegExp(`^Cannot read the snapshot DIR: .*(${problem})[^\n]*$`));
  });

  test.each(['[]', 'null', '0', '{}'])('a document that is %s is refused', (json) => {
    expect(read(signState(json))).toThrow(/^Cannot read the snapshot DIR: .*expected[^\n]*$/);
  });

  test.each([
    ['nesting without end', '['.repeat(1_000_000)],
    ['no JSON', 'hello'],
    ['nothing', ''],
  ])('%s is refused', (_name, json) => {
    expect(read(signState(json))).toThrow('it is no JSON document; take the snapshot again');
  });
});
