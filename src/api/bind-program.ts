/** Volt's own executable inside another root directory. */
import { existsSync, mkdirSync, readFileSync, realpathSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { mount, MOUNT } from '../ffi/jail.ts';

/**
 * Bind-mounts the executable and its shared libraries, read-only, at `name` and
 * at the paths that the dynamic linker uses.
 */
export function bindProgram(root: string, name: string): void {
  // By its path: /proc/self/exe itself belongs to the old mount namespace.
  bindFile(realpathSync('/proc/self/exe'), root, name);
  const maps = readFileSync('/proc/self/maps', 'latin1');
  const libraries = [...maps.matchAll(/ (\/\S+\.so(?:\.\d+)*)$/gm)].map((match) => match[1]!);
  for (const library of new Set(libraries)) bindFile(library, root, library);
  // The executable's PT_INTERP names the loader by a path that is a symbolic link on most systems.
  bindFile(realpathSync('/lib64/ld-linux-x86-64.so.2'), root, '/lib64/ld-linux-x86-64.so.2');
}

function bindFile(source: string, root: string, name: string): void {
  const target = join(root, name);
  mkdirSync(dirname(target), { recursive: true });
  if (!existsSync(target)) writeFileSync(target, '');
  mount(source, target, '', MOUNT.bind);
  const flags = MOUNT.bind | MOUNT.remount | MOUNT.readOnly | MOUNT.noSuid | MOUNT.noDevices;
  mount('none', target, '', flags);
}
