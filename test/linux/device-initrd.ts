/** Initrds for guests with devices: Debian's own modules, further programs, and what the guest is to do. */
import { readFileSync, realpathSync } from 'node:fs';
import type { DebianKernel } from '../../scripts/debian-kernel.ts';
import { buildGuestInitrd, type InitrdEntry } from '../../scripts/initrd.ts';
import { collectModules } from '../../scripts/kernel-modules.ts';

export interface DeviceGuest {
  /** Modules to load, in this order, with what they need. */
  readonly modules: readonly string[];
  /** Programs of this machine, with their libraries. */
  readonly programs?: readonly string[];
  /** What `volt.run=check` runs, by a shell. */
  readonly script: string;
  readonly extra?: readonly InitrdEntry[];
}

export async function buildDeviceInitrd(kernel: DebianKernel, guest: DeviceGuest): Promise<Uint8Array> {
  const modules = collectModules(kernel.modulesDir, guest.modules);
  const load = modules.map(({ name }) => `insmod /modules/${name}.ko`).join('\n');
  return buildGuestInitrd([
    ...modules.map(({ name, data }) => ({ path: `modules/${name}.ko`, mode: 0o644, data })),
    ...programEntries(guest.programs ?? []),
    { path: 'checks/check', mode: 0o755, data: `#!/bin/sh\n${load}\n${guest.script}\n` },
    ...(guest.extra ?? []),
  ]);
}

/** Programs in /bin, and every library that ldd names at its own path. */
function programEntries(programs: readonly string[]): InitrdEntry[] {
  const entries: InitrdEntry[] = [];
  const libraries = new Set<string>();
  for (const program of programs) {
    const path = Bun.which(program);
    if (path === null) throw new Error(`Cannot find ${program} on the PATH`);
    entries.push({ path: `bin/${program}`, mode: 0o755, data: readFileSync(path) });
    const listed = Bun.spawnSync(['ldd', path]).stdout.toString();
    for (const [library] of listed.matchAll(/\/\S+/g)) libraries.add(library);
  }
  for (const path of libraries)
    entries.push({ path: path.slice(1), mode: 0o755, data: readFileSync(realpathSync(path)) });
  return entries;
}
