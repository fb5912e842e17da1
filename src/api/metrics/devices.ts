/** Metrics of all virtio devices: the counters of `volt ctl PID devices`. */
import type { DeviceStatus, QueueStatus } from '../../virtio/host/status.ts';
import type { MetricFamily, Sample } from '../../schema/metric-family.ts';

const STATES = ['reset', 'starting', 'running', 'failed'] as const satisfies readonly DeviceStatus['state'][];

export function deviceFamilies(devices: readonly DeviceStatus[]): MetricFamily[] {
  const perQueue = (
    count: (queue: QueueStatus) => number | undefined,
    more: Readonly<Record<string, string>> = {},
  ): Sample[] =>
    devices.flatMap(({ id, queues }) =>
      queues.flatMap((queue) => {
        const value = count(queue);
        // Nobody counts what another process serves.
        return value === undefined ? [] : [{ labels: { device: id, queue: queue.index, ...more }, value }];
      }),
    );
  return [
    {
      name: 'volt_device',
      type: 'info',
      help: 'Virtio devices of the guest.',
      samples: devices.map(({ id, kind }) => ({ labels: { device: id, kind }, value: 1 })),
    },
    {
      name: 'volt_device_state',
      type: 'gauge',
      help: 'One for the state that the device is in: failed is one whose driver broke the rules and has not reset it yet.',
      samples: devices.flatMap(({ id, state }) =>
        STATES.map((each) => ({ labels: { device: id, state: each }, value: state === each ? 1 : 0 })),
      ),
    },
    {
      name: 'volt_device_failures',
      type: 'counter',
      help: 'How often the device gave up on its driver.',
      samples: devices.map(({ id, failures }) => ({ labels: { device: id }, value: failures })),
    },
    {
      name: 'volt_device_requests',
      type: 'counter',
      help: 'Requests that were answered, and packets: chains of a queue that were used.',
      samples: perQueue(({ chains }) => chains),
    },
    {
      name: 'volt_device_errors',
      type: 'counter',
      help: 'Requests that were answered with an I/O error, and packets that were lost on their way to the host.',
      samples: perQueue(({ errors }) => errors),
    },
    {
      name: 'volt_device_traffic_bytes',
      type: 'counter',
      unit: 'bytes',
      help: 'Payload, seen from the guest: what it sent or wrote is out, what it received or read is in.',
      samples: [
        ...perQueue(({ bytesFromGuest }) => bytesFromGuest, { direction: 'out' }),
        ...perQueue(({ bytesToGuest }) => bytesToGuest, { direction: 'in' }),
      ],
    },
    {
      name: 'volt_device_kicks',
      type: 'counter',
      help: 'Available buffer notifications from the driver; one may stand for several requests.',
      samples: perQueue(({ kicks }) => kicks),
    },
    {
      name: 'volt_device_interrupts',
      type: 'counter',
      help: 'How often the device told the driver of answers.',
      samples: perQueue(({ interrupts }) => interrupts),
    },
  ];
}
