/**
 * The machine under the nested host: what QEMU emulates, the initrd it boots, and how its process is ended with its parent.
 *
 * The kernel is given as vmlinux: QEMU enters it by PVH, and the 3 s that unpacking a bzImage takes under
 * emulation are saved (measured: user space after 1.6 s rather than 4.5 s on 2 cores).
 */
import { readFileSync, realpathSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { DebianKernel } from './debian-kernel.ts';
import { buildInitrd, busyboxEntries } from './initrd.ts';
import { collectModules } from './kernel-modules.ts';

export interface NestedMachine {
  kernel: DebianKernel;
  cpus: number;
  memoryMiB: number;
  /** Load kvm_amd, so that /dev/kvm exists. */
  kvm: boolean;
  /** Further kernel modules to load. */
  modules: readonly string[];
  /** Folders that must be visible even below /tmp and /run, which the nested host covers with a tmpfs. */
  visiblePaths: readonly string[];
  /** File for the kernel's console. */
  log: string;
  /** Unix socket that the caller listens on; QEMU connects the agent's serial line to it. */
  agentSocket: string;
  /** A disk image with an ext4 root and systemd; undefined: this machine's file system is the root. */
  image: string | undefined;
  /** Folder shared read-write. */
  exchangeDir: string;
  /** Where to write the initrd. */
  initrd: string;
}

/** Writes the machine's initrd (about 7 MB). */
export async function writeNestedInitrd(machine: NestedMachine): Promise<void> {
  const disk = machine.image === undefined ? [] : ['virtio_blk', 'crc32c_generic', 'ext4'];
  const kvm = machine.kvm ? ['kvm_amd'] : [];
  const names = ['virtio_pci', '9pnet_virtio', '9p', ...disk, ...kvm, ...machine.modules];
  const modules = collectModules(machine.kernel.modulesDir, names);
  const covered = machine.visiblePaths
    .map((path) => realpathSync(path))
    .filter((path) => path.startsWith('/tmp/') || path.startsWith('/run/'));
  const script = (name: string): string => readFileSync(join(import.meta.dir, name), 'utf8');
  const initrd = buildInitrd([
    ...(await busyboxEntries(
      script(machine.image === undefined ? 'nested-init.sh' : 'nested-image-init.sh'),
    )),
    { path: 'agent/agent', mode: 0o755, data: script('nested-agent.sh') },
    { path: 'agent/run-job', mode: 0o755, data: script('nested-run-job.sh') },
    { path: 'modules/order', mode: 0o644, data: lines(modules.map((module) => module.name)) },
    { path: 'visible-paths', mode: 0o644, data: lines(covered) },
    ...modules.map(({ name, data }) => ({ path: `modules/${name}.ko`, mode: 0o644, data })),
  ]);
  writeFileSync(machine.initrd, initrd);
}

/**
 * Family and model of a Zen 2. With QEMU's own, those of a K8, a Linux guest looks for an AGP aperture in the
 * configuration space of every PCI device that there might be, twice: 32,768 exits, 2.5 s of a boot.
 */
const CPU = 'max,family=23,model=49,stepping=0';

/** QEMU's argument vector, program first. */
export function nestedQemuArguments(machine: NestedMachine): string[] {
  const share = (path: string, tag: string): string =>
    `local,path=${escape(path)},mount_tag=${tag},security_model=none,multidevs=remap`;
  return [
    'qemu-system-x86_64',
    ...['-M', 'q35', '-accel', 'tcg,thread=multi', '-cpu', CPU],
    ...['-smp', String(machine.cpus), '-m', String(machine.memoryMiB)],
    ...['-nodefaults', '-no-reboot', '-display', 'none'],
    ...['-kernel', machine.kernel.vmlinux, '-initrd', machine.initrd],
    // Mitigations protect nobody here and cost emulated time. All emulated CPUs read one TSC, but Linux cannot know:
    // without tsc=reliable its KVM corrects each vCPU's TSC whenever it changes CPUs, and guests then slept for
    // ever in about one boot of five, Volt's and QEMU's alike (none of ten with it).
    ...['-append', 'console=ttyS0 quiet panic=-1 mitigations=off tsc=reliable'],
    ...['-serial', `file:${machine.log}`],
    ...['-chardev', `socket,id=agent,path=${escape(machine.agentSocket)}`, '-serial', 'chardev:agent'],
    ...['-virtfs', share(machine.exchangeDir, 'exchange')],
    ...(machine.image === undefined
      ? ['-virtfs', `${share('/', 'host')},readonly=on`]
      : // What is written goes to a file that ends with QEMU: each start finds the image as it was made.
        ['-drive', `file=${escape(machine.image)},format=raw,if=virtio,snapshot=on`]),
  ];
}

/**
 * Runs QEMU under a shell that kills it and removes `temporaryDir` as soon as this process asks (SIGTERM) or dies,
 * even by SIGKILL. The trap drops stderr first: a message to a dead parent's pipe would end the shell early. Its own session keeps the terminal's Ctrl-C away: the caller decides what that means.
 * PR_SET_PDEATHSIG follows the starting *thread*: a Worker that starts a nested host takes it along.
 */
export function spawnSupervised(argv: readonly string[], temporaryDir: string) {
  const supervisor = `
    dir=$1; shift
    trap 'exec 2>/dev/null; kill -KILL "$qemu"; wait "$qemu"; rm -rf "$dir"; exit 143' TERM
    setpriv --pdeathsig KILL "$@" &
    qemu=$!
    wait "$qemu"`;
  return Bun.spawn(['setpriv', '--pdeathsig', 'TERM', 'sh', '-c', supervisor, 'sh', temporaryDir, ...argv], {
    stdin: 'ignore',
    stdout: 'ignore',
    stderr: 'pipe',
    detached: true,
  });
}

/** In QEMU's option lists a comma in a value is written twice. */
function escape(value: string): string {
  return value.replaceAll(',', ',,');
}

function lines(items: readonly string[]): string {
  return items.map((item) => `${item}\n`).join('');
}
