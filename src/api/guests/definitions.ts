/** Definitions of guests: configuration files NAME.json in the folders of places.ts. */
import {
  chmodSync,
  existsSync,
  linkSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  renameSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { withAbsolutePaths } from '../../config/absolute-paths.ts';
import type { ConfigInput } from '../../config/config.ts';
import { VoltError } from '../../volt-error.ts';
import { isGuestName } from './guest-name.ts';
import { definitionFolders } from './places.ts';

const SUFFIX = '.json';

export interface Definition {
  readonly name: string;
  readonly path: string;
}

/** All definitions, by name; a user's own come before the system's. */
export function listDefinitions(): readonly Definition[] {
  const found = new Map<string, Definition>();
  for (const folder of definitionFolders()) {
    for (const file of filesIn(folder)) {
      const name = file.slice(0, -SUFFIX.length);
      if (file.endsWith(SUFFIX) && isGuestName(name) && !found.has(name))
        found.set(name, { name, path: join(folder, file) });
    }
  }
  return [...found.values()].sort((a, b) => (a.name < b.name ? -1 : 1));
}

/** The definition of `name`, if there is one. */
export function findDefinition(name: string): Definition | undefined {
  const path = definitionFolders()
    .map((folder) => join(folder, `${name}${SUFFIX}`))
    .find((each) => existsSync(each));
  return path === undefined ? undefined : { name, path };
}

/** Throws VoltError 'usage' if `name` is not defined. */
export function needDefinition(action: string, name: string): Definition {
  const definition = findDefinition(name);
  if (definition) return definition;
  throw new VoltError(
    'usage',
    `Cannot ${action} ${name}: there is no ${join(definitionFolders()[0]!, `${name}${SUFFIX}`)}; volt create FILE makes one`,
  );
}

/**
 * Writes a definition, whole or not at all, with paths that do not depend on this process's directory; replaces
 * one only if asked to. Returns its path. Throws VoltError.
 */
export function writeDefinition(name: string, input: ConfigInput, replace: boolean): string {
  const folder = definitionFolders()[0]!;
  const path = join(folder, `${name}${SUFFIX}`);
  let scratch: string | undefined;
  try {
    mkdirSync(folder, { recursive: true, mode: 0o755 });
    scratch = mkdtempSync(join(folder, '.volt-'));
    const written = join(scratch, name);
    // Readable by the user of the guest's unit, as package files are.
    const config = withAbsolutePaths(input, process.cwd());
    writeFileSync(written, `${JSON.stringify(config, null, 2)}\n`);
    chmodSync(written, 0o644);
    if (replace) renameSync(written, path);
    else linkSync(written, path);
    return path;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'EEXIST')
      throw new VoltError(
        'usage',
        `Cannot create ${name}: ${path} exists; use another --name, or --replace`,
        { cause: error },
      );
    throw new VoltError(
      'host',
      `Cannot create ${name}: ${(error as Error).message}; make ${folder} writable`,
      {
        cause: error,
      },
    );
  } finally {
    if (scratch !== undefined) rmSync(scratch, { recursive: true, force: true });
  }
}

function filesIn(folder: string): string[] {
  try {
    return readdirSync(folder);
  } catch {
    return [];
  }
}
