import { readFileSync } from 'node:fs';
import { resolve } from 'node:path';
import { describe, expect, setDefaultTimeout, test } from 'bun:test';
import { bytesAsSource } from '../../../src/binary/byte-source.ts';
import { viewOf } from '../../../src/binary/bytes.ts';
import { parseElfSymbols } from '../../../src/boot/elf-symbols.ts';
import { buildSymbolTable, describeAddress } from '../../../src/boot/symbols.ts';
import { parseSystemMap } from '../../../src/boot/system-map.ts';
import { voltErrorOf } from '../support/errors.ts';
import { mutate, seededRandom } from '../support/random.ts';

/** For hangs only: far above what a test takes on a busy machine. */
setDefaultTimeout(60_000);

const SMP_KERNEL = resolve(import.meta.dir, '../../../kernels/smp/smp.elf');
const smpKernel = new Uint8Array(readFileSync(SMP_KERNEL));
const mapOf = (text: string) => parseSystemMap(bytesAsSource('System.map', Buffer.from(text)));

describe('an address', () => {
  const table = buildSymbolTable(
    'a test',
    [
      { address: 0x2000n, name: 'second', rank: 0 },
      { address: 0x1000n, name: 'local_name', rank: 1 },
      { address: 0x1000n, name: 'first', rank: 0 },
    ],
    [
      { start: 0x1000n, end: 0x2fffn },
      { start: 0x500n, end: 0x5ffn },
    ],
  );

  test.each([
    [0x1000n, 'first'],
    [0x1001n, 'first+0x1'],
    [0x1fffn, 'first+0xfff'],
    [0x2000n, 'second'],
    [0x2fffn, 'second+0xfff'],
  ])('%p is %s', (address, expected) => {
    expect(describeAddress(table, address)).toBe(expected);
  });

  test.each([0n, 0xfffn, 0x3000n, 0x500n, 0xffff_ffff_ffff_ffffn])(
    '%p is in no code that has a name',
    (address) => {
      expect(describeAddress(table, address)).toBeUndefined();
    },
  );
});

describe('System.map', () => {
  const LINUX = `0000000000000000 D __per_cpu_start
0000000000001000 A cpu_debug_store
ffffffff81000000 T _text
ffffffff81000000 T startup_64
ffffffff81000110 t verify_cpu
ffffffff81c00a00 W weak_one
ffffffff82000000 D some_data
ffffffff83000000 t late_init
ffffffff84000000 B _end
`;

  test('names what lies between _text and _end, data not being code', () => {
    const table = mapOf(LINUX);

    const names = [
      0xffff_ffff_8100_0114n,
      0xffff_ffff_81c0_0a00n,
      0xffff_ffff_8200_0010n,
      0xffff_ffff_8300_0001n,
    ];
    expect(names.map((address) => describeAddress(table, address))).toEqual([
      'verify_cpu+0x4',
      'weak_one',
      'weak_one+0x3ff610',
      'late_init+0x1',
    ]);
    expect(describeAddress(table, 0x100_0000n)).toBeUndefined();
    expect(describeAddress(table, 0xffff_ffff_a000_0000n)).toBeUndefined();
  });

  test('may lack _text and _end, its last newline and its order', () => {
    const table = mapOf('00002000 t two\n00001000 T one');

    expect(describeAddress(table, 0x1fffn)).toBe('one+0xfff');
    expect(describeAddress(table, 0x2000n)).toBe('two');
    expect(describeAddress(table, 0x2001n)).toBeUndefined();
  });

  test.each([
    ['', 'nothing'],
    [
      'ffffffffffffffff B The real System.map is in the linux-image-<version>-dbg package\n',
      "Debian's stand-in",
    ],
    ['0000000000000000 T _text\n0000000000000000 t secret\n', 'a kallsyms whose addresses are hidden'],
    ['no map at all\n'.repeat(100), 'some other text'],
  ])('%j is refused: %s', (text) => {
    const { code, message } = voltErrorOf(() => mapOf(text));
    expect(code).toBe('image');
    expect(message).toStartWith(
      'Cannot load System.map: it has no code symbols (expected a System.map or an ELF file',
    );
  });
});

describe("an ELF file's symbols", () => {
  test('are those of the embedded kernel', () => {
    const table = parseElfSymbols(bytesAsSource('smp.elf', smpKernel))!;
    const entry = viewOf(smpKernel).getBigUint64(0x18, true);

    expect(describeAddress(table, entry)).toBe('start');
    expect(table.names).toContain('main');
    expect(table.names).not.toContain('kernel_start');
    expect([...table.addresses]).toEqual([...table.addresses].sort((a, b) => Number(a - b)));
  });

  test.skipIf(Bun.which('nm') === null)('agree with nm (needs nm)', () => {
    const table = parseElfSymbols(bytesAsSource('smp.elf', smpKernel))!;
    const lines = Bun.spawnSync(['nm', SMP_KERNEL]).stdout.toString().trim().split('\n');
    const functions = lines.map((line) => line.split(' ')).filter(([, type]) => type === 'T');

    const named = functions.map(([address]) => describeAddress(table, BigInt(`0x${address}`)));

    const namesAt = (address: string) =>
      functions.filter((other) => other[0] === address).map(([, , name]) => name);
    expect(functions.length).toBeGreaterThan(100);
    named.forEach((name, i) => expect(namesAt(functions[i]![0]!)).toContain(name));
  });

  test('of a stripped file, or of no ELF file, are none', () => {
    const stripped = smpKernel.slice();
    viewOf(stripped).setUint16(0x3c, 0, true); // no section headers

    expect(parseElfSymbols(bytesAsSource('stripped', stripped))).toBeUndefined();
    expect(
      parseElfSymbols(bytesAsSource('text', Buffer.from('no ELF file, but long enough to be one'))),
    ).toBeUndefined();
    expect(parseElfSymbols(bytesAsSource('empty', new Uint8Array()))).toBeUndefined();
  });

  test('never lead out of the file, however it was changed or cut short', () => {
    const random = seededRandom(4);
    const sections = viewOf(smpKernel).getUint32(0x28, true);
    const spans: [number, number][] = [
      [0, 0x40],
      [sections, smpKernel.length],
      [0xf000, sections],
    ];

    for (let round = 0; round < 5000; round++) {
      const [from, to] = spans[round % spans.length]!;
      const changed = mutate(random, smpKernel.subarray(from, to));
      const file = Buffer.concat([smpKernel.subarray(0, from), changed, smpKernel.subarray(to)]);

      const table = parseElfSymbols(bytesAsSource('changed', file));

      expect(table === undefined || table.names.length === table.addresses.length).toBe(true);
    }
  });
});
