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
        // A device that another process serves has no counters.
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
      help: '1 for the current state of the device; failed: DEVICE_NEEDS_RESET is set, and the driver has not reset the device yet.',
      samples: devices.flatMap(({ id, state }) =>
        STATES.map((each) => ({ labels: { device: id, state: each }, value: state === each ? 1 : 0 })),
      ),
    },
    {
      name: 'volt_device_failures',
      type: 'counter',
      help: 'Failures of the device because its driver broke the rules.',
      samples: devices.map(({ id, failures }) => ({ labels: { device: id }, value: failures })),
    },
    {
      name: 'volt_device_requests',
      type: 'counter',
      help: 'Completed requests and packets: used descriptor chains of a queue.',
      samples: perQueue(({ chains }) => chains),
    },
    {
      name: 'volt_device_errors',
      type: 'counter',
      help: 'Requests that ended with an I/O error, and packets lost on their way to the host.',
      samples: perQueue(({ errors }) => errors),
    },
    {
      name: 'volt_device_traffic_bytes',
      type: 'counter',
      unit: 'bytes',
      help: 'Payload as seen by the guest: out is sent or written, in is received or read.',
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
      help: 'Interrupts sent by the device.',
      samples: perQueue(({ interrupts }) => interrupts),
    },
  ];
}
