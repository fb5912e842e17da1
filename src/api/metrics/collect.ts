/** Metrics of a running guest and of Volt's process. docs/metrics.md describes every family. */
import { readFileSync } from 'node:fs';
import { totalmem } from 'node:os';
import { readThreadTimes } from '../../ffi/thread-stat.ts';
import { KIB } from '../../machine/address.ts';
import type { VirtualMachine } from '../../vmm/virtual-machine.ts';
import type { DeviceStatus, VcpuStatus, VmStatus } from '../control/target.ts';
import { SPECS } from '../../virtio/host/specs.ts';
import { deviceFamilies } from './devices.ts';
import type { MetricFamily } from '../../schema/metric-family.ts';

export interface MetricsSource {
  status(): VmStatus;
  vcpus(): readonly VcpuStatus[];
  devices(): readonly DeviceStatus[];
}

/** Collects all families. Reads /proc and shared memory; no vCPU exits. */
export function collectMetrics(
  vm: VirtualMachine,
  source: MetricsSource,
  version: string,
): readonly MetricFamily[] {
  const status = source.status();
  return [
    ...guestFamilies(status, version),
    ...vcpuFamilies(source.vcpus()),
    ...deviceFamilies(source.devices()),
    ...vm.devices.flatMap(({ config, balloon }) =>
      balloon ? (SPECS[config.kind].metrics?.(balloon.status()) ?? []) : [],
    ),
    ...startFamilies(vm),
    ...processFamilies(),
  ];
}

function guestFamilies(status: VmStatus, version: string): MetricFamily[] {
  return [
    {
      name: 'volt',
      type: 'info',
      help: 'Version of Volt and kernel of the guest.',
      samples: [{ labels: { version, kernel: status.kernel }, value: 1 }],
    },
    {
      name: 'volt_guest_state',
      type: 'gauge',
      help: '1 for the current state of the guest.',
      samples: (['running', 'paused', 'stopped'] as const).map((state) => ({
        labels: { state },
        value: status.state === state ? 1 : 0,
      })),
    },
    {
      name: 'volt_guest_uptime_seconds',
      type: 'gauge',
      unit: 'seconds',
      help: 'Time since the guest started.',
      samples: [{ value: status.uptimeMs / 1000 }],
    },
    {
      name: 'volt_guest_memory_bytes',
      type: 'gauge',
      unit: 'bytes',
      help: 'Size of guest RAM.',
      samples: [{ value: status.memoryBytes }],
    },
    {
      name: 'volt_guest_vcpus',
      type: 'gauge',
      help: 'Virtual CPUs of the guest.',
      samples: [{ value: status.vcpus }],
    },
  ];
}

function vcpuFamilies(vcpus: readonly VcpuStatus[]): MetricFamily[] {
  return [
    {
      name: 'volt_vcpu_exits',
      type: 'counter',
      help: "Exits from the guest to Volt, by KVM's exit reason.",
      samples: vcpus.flatMap(({ index, exits }) =>
        Object.entries(exits).map(([reason, value]) => ({
          labels: { vcpu: index, reason },
          value: value >>> 0,
        })),
      ),
    },
    {
      name: 'volt_vcpu_cpu_seconds',
      type: 'counter',
      unit: 'seconds',
      help: "CPU time of a vCPU's thread; guest is the part of user and system that was spent in the guest.",
      samples: vcpus.flatMap(({ index, threadId }) => {
        const times = readThreadTimes(threadId);
        return Object.entries(times ?? {}).map(([mode, value]) => ({ labels: { vcpu: index, mode }, value }));
      }),
    },
    {
      name: 'volt_vcpu_paused',
      type: 'gauge',
      help: '1 while the vCPU is paused.',
      samples: vcpus.map(({ index, state }) => ({
        labels: { vcpu: index },
        value: state === 'paused' ? 1 : 0,
      })),
    },
  ];
}

/** The phases of --timeline. */
function startFamilies(vm: VirtualMachine): MetricFamily[] {
  return [
    {
      name: 'volt_start_seconds',
      type: 'gauge',
      unit: 'seconds',
      help: 'When each phase of the start was reached, since the process began.',
      samples: vm.timeline
        .rows(vm.shared, vm.config.bootCpu)
        .map(({ phase, atMs }) => ({ labels: { phase }, value: Math.round(atMs * 1000) / 1e6 })),
    },
  ];
}

function processFamilies(): MetricFamily[] {
  const { user, system } = process.cpuUsage();
  const status = readText('/proc/self/status');
  const field = (name: string) =>
    Number(new RegExp(`^${name}:\\s*(\\d+)`, 'm').exec(status)?.[1] ?? Number.NaN);
  return [
    {
      name: 'process_cpu_seconds',
      type: 'counter',
      unit: 'seconds',
      help: 'CPU time of all threads.',
      samples: [{ value: (user + system) / 1e6 }],
    },
    {
      name: 'process_resident_memory_bytes',
      type: 'gauge',
      unit: 'bytes',
      help: 'Resident memory: the part of guest RAM that was used, and Volt.',
      samples: [{ value: field('VmRSS') * KIB }],
    },
    {
      name: 'process_threads',
      type: 'gauge',
      help: 'Threads of the process.',
      samples: [{ value: field('Threads') }],
    },
    {
      name: 'volt_host_memory_bytes',
      type: 'gauge',
      unit: 'bytes',
      help: 'Memory of the host.',
      samples: [{ value: totalmem() }],
    },
  ];
}

function readText(path: string): string {
  try {
    return readFileSync(path, 'utf8');
  } catch {
    return '';
  }
}
