/**
 * What is inside the executable besides Volt, with licences: the npm packages that are bundled, the Bun runtime, and
 * what that is built from. Bun names its parts in process.versions; their licences are those of their own releases.
 */
import { readFileSync } from 'node:fs';
import { resolve } from 'node:path';
import { root } from './context.ts';

export interface Component {
  readonly name: string;
  readonly version: string;
  /** SPDX. */
  readonly licence: string;
  /** How it comes into the executable. */
  readonly by: 'bundled' | 'runtime' | 'part of the runtime';
}

/** SPDX expressions of the parts of Bun. A part that is not here makes the release fail, so that none is overlooked. */
const RUNTIME_PARTS: Readonly<Record<string, { readonly name: string; readonly licence: string }>> = {
  webkit: { name: 'WebKit (JavaScriptCore, WTF, bmalloc)', licence: 'LGPL-2.0-or-later AND BSD-2-Clause' },
  boringssl: { name: 'BoringSSL', licence: 'OpenSSL AND ISC' },
  llhttp: { name: 'llhttp', licence: 'MIT' },
  libarchive: { name: 'libarchive', licence: 'BSD-2-Clause' },
  mimalloc: { name: 'mimalloc', licence: 'MIT' },
  picohttpparser: { name: 'picohttpparser', licence: 'MIT' },
  uwebsockets: { name: 'uWebSockets', licence: 'Apache-2.0' },
  usockets: { name: 'uSockets', licence: 'Apache-2.0' },
  zig: { name: 'Zig standard library', licence: 'MIT' },
  zlib: { name: 'zlib', licence: 'Zlib' },
  tinycc: { name: 'TinyCC', licence: 'LGPL-2.1-or-later' },
  lolhtml: { name: 'lol-html', licence: 'BSD-3-Clause' },
  ares: { name: 'c-ares', licence: 'MIT' },
  libdeflate: { name: 'libdeflate', licence: 'MIT' },
  zstd: { name: 'Zstandard', licence: 'BSD-3-Clause' },
  lshpack: { name: 'ls-hpack', licence: 'MIT' },
  icu: { name: 'ICU', licence: 'Unicode-3.0' },
  unicode: { name: 'Unicode character data', licence: 'Unicode-3.0' },
  sqlite: { name: 'SQLite', licence: 'blessing' },
  typescript: { name: 'TypeScript', licence: 'Apache-2.0' },
};

/** Names of interfaces and versions of Bun itself rather than of parts. */
const NO_PARTS = new Set(['bun', 'node', 'v8', 'uv', 'napi', 'modules', 'openssl']);

/** Everything bundled or linked, sorted by name. */
export function listComponents(): Component[] {
  const runtime: Component = { name: 'bun', version: Bun.version, licence: 'MIT', by: 'runtime' };
  return [...bundledPackages(), runtime, ...runtimeParts()].sort((a, b) => (a.name < b.name ? -1 : 1));
}

interface Lock {
  readonly packages: Readonly<
    Record<
      string,
      { version: string; license?: string; dev?: boolean; devOptional?: boolean; optional?: boolean }
    >
  >;
}

/** Packages of the page of `volt web`, which the build bundles: dependencies of the build alone. */
const PAGE_PACKAGES = new Set(['@xterm/xterm', '@xterm/addon-fit', 'preact', 'uplot']);

function isInPage(path: string): boolean {
  return PAGE_PACKAGES.has(path.replace(/^node_modules\//, ''));
}

function bundledPackages(): Component[] {
  const lock = JSON.parse(readFileSync(resolve(root, 'package-lock.json'), 'utf8')) as Lock;
  return Object.entries(lock.packages)
    .filter(
      ([path, { dev, devOptional, optional }]) =>
        path !== '' && (isInPage(path) || (!dev && !devOptional && !optional)),
    )
    .map(([path, { version, license }]) => {
      const name = path.replace(/^.*node_modules\//, '');
      if (license === undefined) throw new Error(`Cannot list licences: ${name} tells none (expected one)`);
      return { name, version, licence: license, by: 'bundled' };
    });
}

function runtimeParts(): Component[] {
  return Object.entries(process.versions)
    .filter(([key]) => !NO_PARTS.has(key))
    .map(([key, version]) => {
      const part = RUNTIME_PARTS[key];
      if (!part)
        throw new Error(`Cannot list licences: Bun has a new part ${key} (expected it in components.ts)`);
      return { ...part, version: version ?? '', by: 'part of the runtime' };
    });
}

/** For people: one line a component. */
export function licenceList(version: string, components: readonly Component[]): string {
  const rows = [{ name: 'volt', version, licence: 'Apache-2.0', by: 'itself' }, ...components];
  const width = (key: 'name' | 'version' | 'licence') => Math.max(...rows.map((row) => row[key].length));
  const line = (row: (typeof rows)[number]) =>
    [
      row.name.padEnd(width('name')),
      row.version.padEnd(width('version')),
      row.licence.padEnd(width('licence')),
      row.by,
    ]
      .join('  ')
      .trimEnd();
  return `Components of the volt executable: name, version, licence (SPDX), how it got there.
Volt's own source, from which the executable can be built again with a changed Bun or WebKit, is under Apache-2.0.

${rows.map(line).join('\n')}
`;
}
