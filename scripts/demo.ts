/**
 * The main job from nothing: builds ./volt, fetches Debian's kernel, and boots it with a tiny initrd until it
 * reports its CPUs. On this machine where its KVM can run Linux, otherwise in a nested host.
 *
 * Usage: npx bun scripts/demo.ts [--cpus N]
 */
import { mkdirSync } from 'node:fs';
import { relative, resolve } from 'node:path';
import { parseArgs } from 'node:util';
import { buildVolt } from './build.ts';
import { fetchDebianKernel } from './debian-kernel.ts';
import { ensurePackages } from './host-packages.ts';
import { buildGuestInitrd } from './initrd.ts';
import { runsLinuxHere } from './linux-capable.ts';
import { startNestedHost } from './nested-host.ts';

const root = resolve(import.meta.dir, '..');
const { values } = parseArgs({ options: { cpus: { type: 'string', default: '2' } } });
const step = (text: string): void => console.error(`\n== ${text}`);

try {
  process.exit(await main());
} catch (error) {
  console.error(`demo: ${error instanceof Error ? error.message : String(error)}`);
  process.exit(1);
}

async function main(): Promise<number> {
  step('Building ./volt');
  buildVolt();
  step('Getting a Linux kernel from Debian, and a tiny initrd');
  await ensurePackages(['busybox']);
  const kernel = await fetchDebianKernel('amd64');
  const initrd = resolve(root, '.cache/demo/guest-initrd');
  mkdirSync(resolve(initrd, '..'), { recursive: true });
  await Bun.write(initrd, await buildGuestInitrd());

  const argv = [
    './volt',
    '--cpus',
    values.cpus,
    '--kernel',
    relative(root, kernel.vmlinux),
    '--initrd',
    relative(root, initrd),
    // The guest's init ends with a reboot.
    '--no-reboot',
  ];
  if (runsLinuxHere()) {
    step(argv.join(' '));
    return Bun.spawn(argv, { cwd: root, stdio: ['inherit', 'inherit', 'inherit'] }).exited;
  }
  step("This machine's KVM cannot run Linux: starting a nested host, an emulated machine whose KVM can");
  // One emulated CPU runs guests more reliably than two; see test/linux/linux-host.ts.
  await using host = await startNestedHost({ cpus: 1 });
  step(`${argv.join(' ')}   (in the nested host)`);
  const { exitCode } = await host.run(argv, {
    timeoutSeconds: 300,
    onOutput: (stream, bytes) => (stream === 'stdout' ? process.stdout : process.stderr).write(bytes),
  });
  return exitCode;
}
