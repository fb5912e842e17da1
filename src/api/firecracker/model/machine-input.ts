/** From what clients configured to Volt's own configuration. Pure. */
import type { ConfigInput } from '../../../config/config.ts';
import type { LimitChange, TokenBucketConfig } from '../../../virtio/transport/rate-limiter.ts';
import type { DriveBody, RateLimiterBody, TokenBucketBody } from '../request/bodies.ts';
import type { CpuTemplateBody, RegisterFilter } from '../request/cpu-template.ts';
import type { VmResources } from './resources.ts';

/**
 * Kernel parameters if the client gives none. (Firecracker, DEFAULT_KERNEL_CMDLINE in
 * src/vmm/src/vmm_config/boot_source.rs)
 */
const DEFAULT_BOOT_ARGS =
  'reboot=k panic=1 nomodule 8250.nr_uarts=0 i8042.noaux i8042.nomux i8042.dumbkbd swiotlb=noforce';
/** Volt's limits of a token bucket. */
const MAX_TOKENS = 2n ** 53n - 1n;
const MAX_REFILL_MS = 24n * 3600n * 1000n;

/** It takes no locks, and does not look for container formats. */
const AS_FIRECRACKER_OPENS = { format: 'Raw', locked: false } as const;

export function toConfigInput(resources: VmResources, { pci = false } = {}): ConfigInput {
  const { machine, bootSource, drives, interfaces, pmem, balloon, vsock, entropy, serial, cpuTemplate } =
    resources;
  const path = serial.serial_out_path;
  return {
    'boot-source': {
      kernel_image_path: bootSource?.kernel_image_path,
      initrd_path: bootSource?.initrd_path,
      boot_args: pci
        ? (bootSource?.boot_args ?? DEFAULT_BOOT_ARGS)
        : addPciOff(bootSource?.boot_args ?? DEFAULT_BOOT_ARGS),
    },
    'machine-config': {
      vcpu_count: machine.vcpu_count,
      mem_size_mib: Number(machine.mem_size_mib),
      smt: machine.smt,
      huge_pages: machine.huge_pages === '2M' ? '2M' : 'None',
      cpu_template: machine.cpu_template ?? 'None',
    },
    ...(cpuTemplate && { 'cpu-config': toTemplateInput(cpuTemplate) }),
    drives: drives.map(toDriveInput),
    pmem: pmem.map((each) => ({
      ...each,
      ...AS_FIRECRACKER_OPENS,
      rate_limiter: toLimiterInput(each.rate_limiter),
    })),
    'network-interfaces': interfaces.map((each) => ({
      iface_id: each.iface_id,
      host_dev_name: each.host_dev_name,
      // As Firecracker, which may be root in a namespace without the tap.
      create: true,
      // Limits may be set while it runs, and its packets are counted.
      vhost: false,
      guest_mac: each.guest_mac,
      mtu: each.mtu,
      rx_rate_limiter: toLimiterInput(each.rx_rate_limiter),
      tx_rate_limiter: toLimiterInput(each.tx_rate_limiter),
    })),
    ...(balloon && {
      balloon: {
        amount_mib: balloon.amount_mib,
        deflate_on_oom: balloon.deflate_on_oom,
        stats_polling_interval_s: balloon.stats_polling_interval_s,
      },
    }),
    ...(vsock && { vsock: { guest_cid: vsock.guest_cid, uds_path: vsock.uds_path } }),
    ...(entropy && { entropy: { rate_limiter: toLimiterInput(entropy.rate_limiter) } }),
    volt: {
      console: path === null ? 'stdio' : `file=${path}`,
      reboot: 'exit',
      hang_report_s: 'off',
      ...(pci && { pci }),
    },
  };
}

/** The configuration with what clients set by `/volt/config`: more vCPUs than Firecracker has, and keys of `volt`. */
export function withExtras(input: ConfigInput, extras: Readonly<Record<string, unknown>>): ConfigInput {
  const { vcpu_count: count, ...volt } = extras;
  const machine = input['machine-config'] as object;
  return {
    ...input,
    'machine-config': { ...machine, ...(count === undefined ? {} : { vcpu_count: count }) },
    volt: { ...(input['volt'] as object), ...volt },
  };
}

function toDriveInput(drive: DriveBody) {
  const { drive_id, is_root_device, cache_type, partuuid, socket } = drive;
  const common = { drive_id, is_root_device, cache_type, partuuid };
  if (socket !== null) return { ...common, socket };
  return {
    ...common,
    path_on_host: drive.path_on_host,
    is_read_only: drive.is_read_only,
    rate_limiter: toLimiterInput(drive.rate_limiter),
    ...AS_FIRECRACKER_OPENS,
    partial: true,
  };
}

/** A template as configuration files have it. */
function toTemplateInput({ kvm_capabilities, cpuid_modifiers, msr_modifiers }: CpuTemplateBody) {
  return {
    kvm_capabilities: kvm_capabilities.map(({ number, needed }) => `${needed ? '' : '!'}${number}`),
    cpuid_modifiers: cpuid_modifiers.map(({ leaf, subleaf, flags, modifiers }) => ({
      ...{ leaf: hex(leaf), subleaf: hex(subleaf), flags },
      modifiers: modifiers.map(({ register, bitmap }) => ({ register, bitmap: formatBitmap(bitmap, 32) })),
    })),
    msr_modifiers: msr_modifiers.map(({ addr, bitmap }) => ({
      ...{ addr: hex(addr), bitmap: formatBitmap(bitmap, 64) },
    })),
  };
}

function formatBitmap({ filter, value }: RegisterFilter, bits: number): string {
  const digit = (bit: bigint) => (((filter >> bit) & 1n) === 0n ? 'x' : String((value >> bit) & 1n));
  return `0b${Array.from({ length: bits }, (_, i) => digit(BigInt(bits - 1 - i))).join('')}`;
}

function hex(value: number): string {
  return `0x${value.toString(16)}`;
}

/** The machine has no PCI bus; Linux need not look for one. */
function addPciOff(args: string): string {
  const [own = '', ...ofInit] = args.split(/ (?=-- )/);
  return [`${own} pci=off`.trimStart(), ...ofInit].join(' ');
}

/** A rate limiter as Volt's configuration has it: numbers, within its limits. */
function toLimiterInput(limiter: RateLimiterBody | null): Record<string, unknown> | null {
  if (!limiter) return null;
  return { bandwidth: toBucketInput(limiter.bandwidth), ops: toBucketInput(limiter.ops) };
}

function toBucketInput(bucket: TokenBucketBody | null): Record<string, unknown> | null {
  if (!bucket) return null;
  const { size, one_time_burst: burst, refill_time: refill } = bucket;
  return {
    size: atMost(size, MAX_TOKENS),
    one_time_burst: burst === null ? null : atMost(burst, MAX_TOKENS),
    refill_time: atMost(refill, MAX_REFILL_MS),
  };
}

/** The change of a running limiter: a bucket that limits nothing removes the limit. */
export function toLimitChange(update: RateLimiterBody | null): LimitChange {
  return {
    bandwidth: toBucketChange(update?.bandwidth ?? null),
    ops: toBucketChange(update?.ops ?? null),
  };
}

function toBucketChange(bucket: TokenBucketBody | null): TokenBucketConfig | null | undefined {
  if (!bucket) return undefined;
  const { size, one_time_burst: burst, refill_time: refill } = bucket;
  if (size === 0n || refill === 0n) return null;
  return {
    size: atMost(size, MAX_TOKENS),
    burst: atMost(burst ?? 0n, MAX_TOKENS),
    refillMs: atMost(refill, MAX_REFILL_MS),
  };
}

function atMost(value: bigint, limit: bigint): number {
  return Number(value < limit ? value : limit);
}
