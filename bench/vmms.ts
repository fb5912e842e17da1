/**
 * Volt and its peers: where each is, which version, and the command that boots a guest with it.
 *
 * Sources: qemu-system-x86_64(1) and QEMU's docs/system/i386/microvm.rst; Firecracker's docs/getting-started.md;
 * Cloud Hypervisor's docs/; lkvm's `run --help`.
 */
import { writeFileSync } from 'node:fs';
import { join, resolve } from 'node:path';

export interface Guest {
  readonly kernel: string;
  readonly cpus: number;
  readonly memoryMib: number;
  readonly cmdline?: string;
  readonly initrd?: string;
  /** For VMMs that have a choice; default: what works on this host. */
  readonly cpuModel?: string;
  /** A raw image as a disk; Volt and QEMU only, as the next. */
  readonly disk?: string;
  readonly tap?: { readonly name: string; readonly mac: string };
}

export interface Vmm {
  readonly id: VmmId;
  readonly name: string;
  readonly version: string;
  readonly program: string;
  /** Its serial console on stdout, ending when the guest resets. `folder` is for configuration files. */
  command(guest: Guest, folder: string): string[];
}

const VMMS = {
  volt: {
    name: 'Volt',
    programs: [resolve(import.meta.dir, '../volt')],
    variable: 'VOLT_BENCH_VOLT',
    command: voltCommand,
  },
  /** Another build of Volt, to see what a change does. */
  baseline: {
    name: 'Volt before',
    programs: [],
    variable: 'VOLT_BENCH_BASELINE',
    command: voltCommand,
  },
  qemu: {
    name: 'QEMU microvm',
    programs: ['qemu-system-x86_64'],
    variable: 'VOLT_BENCH_QEMU',
    command: qemuCommand,
  },
  firecracker: {
    name: 'Firecracker',
    programs: ['firecracker'],
    variable: 'VOLT_BENCH_FIRECRACKER',
    command: firecrackerCommand,
  },
  cloudHypervisor: {
    name: 'Cloud Hypervisor',
    programs: ['cloud-hypervisor'],
    variable: 'VOLT_BENCH_CLOUD_HYPERVISOR',
    command: cloudHypervisorCommand,
  },
  kvmtool: {
    name: 'kvmtool',
    programs: ['lkvm', 'kvmtool', 'vm'],
    variable: 'VOLT_BENCH_KVMTOOL',
    command: kvmtoolCommand,
  },
} as const;

export type VmmId = keyof typeof VMMS;

/** The installed VMMs, Volt first, and a line for each that is missing. */
export function findVmms(): { vmms: Vmm[]; missing: string[] } {
  const vmms: Vmm[] = [];
  const missing: string[] = [];
  for (const [id, { name, programs, variable, command }] of Object.entries(VMMS)) {
    const named = process.env[variable];
    const program = (named === undefined ? programs : [named])
      .map((p) => Bun.which(p))
      .find((p) => p !== null);
    const version = program === undefined ? undefined : versionOf(program);
    if (program === undefined || version === undefined) {
      if (id !== 'baseline')
        missing.push(`${name}: no ${named ?? programs.join(' or ')} here; ${variable} names one`);
      continue;
    }
    const note =
      id === 'qemu' && qemuCpuModel(program) !== 'host'
        ? ', with -cpu qemu64: this KVM takes no -cpu host'
        : '';
    vmms.push({
      id: id as VmmId,
      name,
      program,
      version: `${version}${note}`,
      command: (guest, folder) => command(program, guest, folder),
    });
  }
  return { vmms, missing };
}

function versionOf(program: string): string | undefined {
  for (const flag of ['--version', 'version']) {
    const { exitCode, stdout } = Bun.spawnSync([program, flag], { stdout: 'pipe', stderr: 'ignore' });
    const line = stdout.toString().split('\n')[0]!.trim();
    if (exitCode === 0 && line !== '') return line;
  }
  return undefined;
}

function voltCommand(
  program: string,
  { kernel, cpus, memoryMib, cmdline, initrd, disk, tap }: Guest,
): string[] {
  return [
    ...[program, '--kernel', kernel, '--cpus', String(cpus), '--memory', `${memoryMib}M`, '--no-reboot'],
    ...(cmdline === undefined ? [] : ['--cmdline', cmdline]),
    ...(initrd === undefined ? [] : ['--initrd', initrd]),
    ...(disk === undefined ? [] : ['--disk', disk]),
    ...(tap === undefined ? [] : ['--net', `tap=${tap.name},mac=${tap.mac}`]),
  ];
}

let cpuModel: 'host' | 'qemu64' | undefined;

/** The CPU model closest to the other VMMs' guests: with `-cpu host` QEMU aborts where KVM refuses one of its MSRs. */
function qemuCpuModel(program: string): 'host' | 'qemu64' {
  if (cpuModel !== undefined) return cpuModel;
  const argv = [
    '-M',
    'microvm,accel=kvm',
    '-cpu',
    'host',
    '-nodefaults',
    '-no-user-config',
    '-display',
    'none',
  ];
  const { exitCode } = Bun.spawnSync([program, ...argv, '-S', '-monitor', 'stdio'], {
    stdin: Buffer.from('quit\n'),
    stdout: 'ignore',
    stderr: 'ignore',
    timeout: 10_000,
  });
  cpuModel = exitCode === 0 ? 'host' : 'qemu64';
  return cpuModel;
}

/** Without everything that the measured guests do not use: option ROMs, a real-time clock, default devices. */
function qemuCommand(program: string, guest: Guest): string[] {
  const { kernel, cpus, memoryMib, cmdline, initrd, disk, tap, cpuModel = qemuCpuModel(program) } = guest;
  return [
    ...[program, '-M', 'microvm,accel=kvm,x-option-roms=off,rtc=off', '-cpu', cpuModel],
    ...['-smp', String(cpus), '-m', String(memoryMib)],
    ...['-nodefaults', '-no-user-config', '-no-reboot', '-display', 'none', '-serial', 'stdio'],
    ...['-device', 'isa-debug-exit,iobase=0xf4,iosize=4', '-kernel', kernel],
    ...(cmdline === undefined ? [] : ['-append', cmdline]),
    ...(initrd === undefined ? [] : ['-initrd', initrd]),
    ...(disk === undefined ? [] : ['-drive', `id=disk,file=${disk},format=raw,if=none`]),
    ...(disk === undefined ? [] : ['-device', 'virtio-blk-device,drive=disk']),
    ...(tap === undefined ? [] : ['-netdev', `tap,id=net,ifname=${tap.name},script=no,downscript=no`]),
    ...(tap === undefined ? [] : ['-device', `virtio-net-device,netdev=net,mac=${tap.mac}`]),
  ];
}

function firecrackerCommand(program: string, guest: Guest, folder: string): string[] {
  const config = {
    'boot-source': {
      kernel_image_path: guest.kernel,
      boot_args: guest.cmdline ?? '',
      ...(guest.initrd === undefined ? {} : { initrd_path: guest.initrd }),
    },
    'machine-config': { vcpu_count: guest.cpus, mem_size_mib: guest.memoryMib },
    drives: [],
  };
  const text = JSON.stringify(config);
  // A nested host may have a file of the same name in its cache.
  const path = join(folder, `firecracker-${Bun.hash(text).toString(36)}.json`);
  writeFileSync(path, text);
  // Its log goes to stdout otherwise, among what the guest prints.
  return [program, '--no-api', '--config-file', path, '--log-path', '/dev/null', '--level', 'Error'];
}

function cloudHypervisorCommand(
  program: string,
  { kernel, cpus, memoryMib, cmdline, initrd }: Guest,
): string[] {
  return [
    ...[program, '--kernel', kernel, '--cpus', `boot=${cpus}`, '--memory', `size=${memoryMib}M`],
    ...['--serial', 'tty', '--console', 'off', '--cmdline', cmdline ?? ''],
    ...(initrd === undefined ? [] : ['--initramfs', initrd]),
  ];
}

function kvmtoolCommand(program: string, { kernel, cpus, memoryMib, cmdline, initrd }: Guest): string[] {
  return [
    ...[program, 'run', '--kernel', kernel, '--cpus', String(cpus), '--mem', String(memoryMib)],
    ...['--console', 'serial', '--network', 'mode=none', '--params', cmdline ?? ''],
    ...(initrd === undefined ? [] : ['--initrd', initrd]),
  ];
}
