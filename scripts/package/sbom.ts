/**
 * A CycloneDX 1.5 bill of materials: npm's own (`npm sbom`) for the bundled packages, and in the same form the Bun
 * runtime with its parts, which npm knows nothing about. The same commit gives the same bytes.
 */
import { createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { resolve } from 'node:path';
import { listComponents, type Component } from './components.ts';
import { root, runText, type ReleaseContext } from './context.ts';

interface Hash {
  readonly alg: string;
  readonly content: string;
}

interface BomComponent {
  readonly 'bom-ref': string;
  readonly [key: string]: unknown;
}

interface Bom {
  readonly serialNumber: string;
  readonly metadata: { readonly component: BomComponent; readonly [key: string]: unknown };
  readonly components: readonly BomComponent[];
  readonly dependencies: readonly { readonly ref: string; readonly dependsOn: readonly string[] }[];
  readonly [key: string]: unknown;
}

export function billOfMaterials({ version, epoch, binary }: ReleaseContext): string {
  const npm = JSON.parse(
    runText([
      'npm',
      'sbom',
      '--sbom-format',
      'cyclonedx',
      '--package-lock-only',
      '--omit',
      'dev',
      '--prefix',
      root,
    ]),
  ) as Bom;
  // npm takes packages of the page for the build's, and leaves out one that a package of the build needs too.
  const known = new Set(npm.components.map((each) => each['bom-ref']));
  const added = listComponents().filter((each) => each.by !== 'bundled' || !known.has(refOf(each)));
  const bundled = added.filter(({ by }) => by === 'bundled').map(refOf);
  const volt = npm.metadata.component['bom-ref'];
  const runtime = refOf(added.find(({ by }) => by === 'runtime')!);
  const parts = added.filter(({ by }) => by === 'part of the runtime').map(refOf);
  const digest = createHash('sha256').update(readFileSync(binary)).digest('hex');
  const bom: Bom = {
    ...npm,
    serialNumber: `urn:uuid:${uuidOf(`volt ${version} ${digest}`)}`,
    metadata: {
      ...npm.metadata,
      timestamp: new Date(epoch * 1000).toISOString(),
      component: {
        ...npm.metadata.component,
        type: 'application',
        name: 'volt',
        hashes: [{ alg: 'SHA-256', content: digest }] satisfies Hash[],
      },
    },
    components: [...npm.components, ...added.map(toBomComponent)],
    dependencies: [
      ...npm.dependencies.map((each) =>
        each.ref === volt
          ? { ...each, dependsOn: [...new Set([...each.dependsOn, ...bundled, runtime])] }
          : each,
      ),
      ...bundled.map((ref) => ({ ref, dependsOn: [] })),
      { ref: runtime, dependsOn: parts },
      ...parts.map((ref) => ({ ref, dependsOn: [] })),
    ],
  };
  return `${JSON.stringify(bom, null, 2)}\n`;
}

function toBomComponent(component: Component): BomComponent {
  const { name, version, licence, by } = component;
  const isExpression = / (?:AND|OR) /.test(licence);
  return {
    'bom-ref': refOf(component),
    type: by === 'runtime' ? 'platform' : 'library',
    name,
    version,
    scope: 'required',
    ...(by === 'bundled' ? { purl: `pkg:npm/${name.replace('@', '%40')}@${version}` } : {}),
    ...(by === 'runtime' ? { purl: `pkg:npm/bun@${version}`, hashes: [runtimeHash()] } : {}),
    licenses: [isExpression ? { expression: licence } : { license: { id: licence } }],
  };
}

function refOf({ name, version }: Component): string {
  return `${name}@${version}`;
}

/** Of the package that holds the runtime, as package-lock.json pins it. */
function runtimeHash(): Hash {
  const lock = JSON.parse(readFileSync(resolve(root, 'package-lock.json'), 'utf8')) as {
    packages: Record<string, { integrity?: string }>;
  };
  const integrity = lock.packages['node_modules/@oven/bun-linux-x64']?.integrity;
  const match = /^sha512-(.+)$/.exec(integrity ?? '');
  if (!match) throw new Error(`Cannot name the runtime: its integrity is ${integrity} (expected a SHA-512)`);
  return { alg: 'SHA-512', content: Buffer.from(match[1]!, 'base64').toString('hex') };
}

/** RFC 9562 §5.8, from a digest: the same for the same text. */
function uuidOf(text: string): string {
  const bytes = createHash('sha256').update(text).digest().subarray(0, 16);
  bytes[6] = (bytes[6]! & 0x0f) | 0x80;
  bytes[8] = (bytes[8]! & 0x3f) | 0x80;
  return bytes.toString('hex').replace(/^(.{8})(.{4})(.{4})(.{4})/, '$1-$2-$3-$4-');
}
