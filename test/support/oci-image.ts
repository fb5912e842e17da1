/** Makes OCI image layouts, right ones and hostile ones, without the code under test. */
import { createHash } from 'node:crypto';
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';

export interface TarFile {
  readonly name: string;
  readonly data?: Uint8Array;
  /** Type flag: 0 file, 2 symbolic link, 5 directory, … */
  readonly type?: string;
  /** Size in the header, when it is to differ from that of the data. */
  readonly size?: number;
}

export function buildTar(files: readonly TarFile[]): Uint8Array<ArrayBuffer> {
  const blocks = files.flatMap(({ name, data = new Uint8Array(), type = '0', size = data.length }) => {
    const header = Buffer.alloc(512);
    header.write(name, 0, 100);
    header.write('0000644\0', 100);
    header.write(size.toString(8).padStart(11, '0'), 124);
    header.write('        ', 148);
    header.write(type, 156);
    header.write('ustar\0' + '00', 257);
    const sum = header.reduce((a, b) => a + b, 0);
    header.write(`${sum.toString(8).padStart(6, '0')}\0 `, 148);
    return [header, data, Buffer.alloc((512 - (data.length % 512)) % 512)];
  });
  return new Uint8Array(Buffer.concat([...blocks, Buffer.alloc(1024)]));
}

export interface TestLayer {
  readonly tar: Uint8Array<ArrayBuffer>;
  readonly compression?: 'tar' | 'tar+gzip' | 'tar+zstd';
}

export function sha256(bytes: Uint8Array): string {
  return createHash('sha256').update(bytes).digest('hex');
}

/** The files of a layout by name, for a folder or an archive. */
export function layoutFiles(layers: readonly TestLayer[]): Map<string, Uint8Array> {
  const files = new Map<string, Uint8Array>();
  const store = (mediaType: string, bytes: Uint8Array) => {
    files.set(`blobs/sha256/${sha256(bytes)}`, bytes);
    return { mediaType, digest: `sha256:${sha256(bytes)}`, size: bytes.length };
  };
  const json = (value: unknown) => new TextEncoder().encode(JSON.stringify(value));
  const type = (name: string) => `application/vnd.oci.image.${name}`;
  const pack = {
    tar: (x: Uint8Array<ArrayBuffer>) => x,
    'tar+gzip': Bun.gzipSync,
    'tar+zstd': Bun.zstdCompressSync,
  };
  const stored = layers.map(({ tar, compression = 'tar+gzip' }) =>
    store(type(`layer.v1.${compression}`), pack[compression](tar)),
  );
  const diffIds = layers.map(({ tar }) => `sha256:${sha256(tar)}`);
  const config = store(
    type('config.v1+json'),
    json({ architecture: 'amd64', os: 'linux', rootfs: { type: 'layers', diff_ids: diffIds } }),
  );
  const manifest = store(type('manifest.v1+json'), json({ schemaVersion: 2, config, layers: stored }));
  files.set('oci-layout', json({ imageLayoutVersion: '1.0.0' }));
  files.set('index.json', json({ schemaVersion: 2, manifests: [manifest] }));
  return files;
}

export function writeFiles(folder: string, files: ReadonlyMap<string, Uint8Array>): void {
  mkdirSync(join(folder, 'blobs/sha256'), { recursive: true });
  for (const [name, bytes] of files) writeFileSync(join(folder, name), bytes);
}

export function archiveFiles(files: ReadonlyMap<string, Uint8Array>): Uint8Array<ArrayBuffer> {
  return buildTar([...files].map(([name, data]) => ({ name: `./${name}`, data })));
}
