import { describe, expect, setDefaultTimeout, test } from 'bun:test';
import { TarReader, type TarEntry } from '../../../src/oci/tar.ts';
import { buildTar, type TarFile } from '../../support/oci-image.ts';
import { voltErrorOf } from '../support/errors.ts';

setDefaultTimeout(60_000);

interface Read {
  readonly entry: TarEntry;
  text: string;
}

/** Reads an archive in pieces of this many bytes. */
function read(archive: Uint8Array, piece = 512): Read[] {
  const files: Read[] = [];
  const reader = new TarReader('a.tar', {
    entry: (entry) => files.push({ entry, text: '' }) > 0,
    data: (bytes) => void (files.at(-1)!.text += Buffer.from(bytes).toString('latin1')),
    end: () => void (files.at(-1)!.text += '.'),
  });
  for (let at = 0; at < archive.length; at += piece) reader.push(archive.subarray(at, at + piece));
  reader.finish();
  return files;
}

const bytes = (text: string) => new TextEncoder().encode(text);
const pax = (records: string): TarFile => ({ name: 'pax', type: 'x', data: bytes(records) });

describe('a tar archive', () => {
  test.each([1, 7, 512, 4096])('gives the same in pieces of %d bytes', (piece) => {
    const archive = buildTar([
      { name: './boot/', type: '5' },
      { name: './boot/kernel', data: bytes('x'.repeat(700)) },
      { name: '/empty' },
    ]);

    expect(
      read(archive, piece).map(({ entry, text }) => [entry.name, entry.type, entry.bytes, text.length]),
    ).toEqual([
      ['boot', 'directory', 0, 1],
      ['boot/kernel', 'file', 700, 701],
      ['empty', 'file', 0, 1],
    ]);
  });

  test('is read as GNU tar writes it, in its own format and in pax, with long names', () => {
    const long = `${'folder/'.repeat(30)}file`;
    const made = ['gnu', 'pax', 'ustar'].map((format) => {
      const script = `d=$(mktemp -d) && mkdir -p $d/$(dirname ${long}) && echo hello > $d/${long} && tar -C $d --format=${format} -cf - . ; rm -r $d`;
      return Bun.spawnSync(['sh', '-c', script]).stdout;
    });

    expect(made.map((archive) => read(archive).find(({ entry }) => entry.type === 'file'))).toMatchObject(
      made.map(() => ({ entry: { name: long, bytes: 6 }, text: 'hello\n.' })),
    );
  });

  test('may give sizes in extended headers, which belong to the next entry alone', () => {
    const archive = buildTar([
      pax('12 path=a/b\n10 size=3\n'),
      { name: 'short', data: bytes('abc'), size: 0 },
      { name: 'next', data: bytes('z') },
    ]);

    expect(read(archive).map(({ entry, text }) => [entry.name, text])).toEqual([
      ['a/b', 'abc.'],
      ['next', 'z.'],
    ]);
  });

  test('may have sparse files, which are no plain files', () => {
    const [file] = read(buildTar([pax('22 GNU.sparse.major=1\n'), { name: 'a', data: bytes('map') }]));

    expect(file!.entry.type).toBe('other');
  });

  test.each([
    ['nothing', new Uint8Array(), 'it has no entry'],
    ['no archive', bytes('x'.repeat(512)), 'the header at 0 is damaged'],
    ['a wrong checksum', buildTar([{ name: 'a' }]).with(0, 0x62), 'the header at 0 has a wrong checksum'],
    [
      'an end within data',
      buildTar([{ name: 'a', data: bytes('abc') }]).slice(0, 514),
      'it ends within an entry',
    ],
    ['a damaged extension', buildTar([pax('99 path=a\n'), { name: 'a' }]), 'an extended header is damaged'],
    [
      'a size that is no number',
      buildTar([pax('11 size=-1\n'), { name: 'a' }]),
      'an extended header is damaged',
    ],
    ['a long extension', buildTar([{ name: 'a', type: 'x', size: 2 ** 20 }]), 'an entry has 1048576 bytes'],
  ])('with %s is refused', (_, archive, found) => {
    expect(voltErrorOf(() => read(archive)).message).toStartWith(
      `Cannot use a.tar: ${found} (expected a tar archive)`,
    );
  });
});
