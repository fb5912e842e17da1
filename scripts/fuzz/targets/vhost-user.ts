/** What a daemon at the other end of a vhost-user connection says, and what it leaves in the rings when it goes. */
import { negotiate, VhostUserError, type VhostLink } from '../../../src/virtio/vhost-user/session.ts';
import { VhostDevice } from '../../../src/virtio/vhost-user/device.ts';
import { refuseRequests } from '../../../src/virtio/share/refusal.ts';
import { MMIO_REGISTER as R, STATUS } from '../../../src/virtio/transport/mmio.regs.ts';
import { describeShare } from '../../../src/virtio/share/description.ts';
import { createDeviceBench, RING_SPACE } from '../../../test/unit/virtio/device-bench.ts';
import { DEVICE_AREA } from '../../../test/unit/virtio/test-ram.ts';
import { GOOD_ANSWERS, reply } from '../../../test/unit/virtio/vhost-user/scripted-link.ts';
import { choicesOf, kindOf, type FuzzTarget } from '../target.ts';

const RAM_BYTES = 0x4_0000;
/** What a daemon says that does everything right, for as long as the rings are handed over once. */
const GOOD = Buffer.concat([
  ...Object.values(GOOD_ANSWERS),
  reply('setOwner', 0, 0),
  reply('setFeatures', 0, 0),
  reply('setMemTable', 0, 0),
  ...[0, 1].flatMap(() =>
    (['setVringNum', 'setVringBase', 'setVringAddr', 'setVringCall', 'setVringKick'] as const).map((name) =>
      reply(name, 0, 0),
    ),
  ),
  reply('setVringEnable', 0, 0),
  reply('setVringEnable', 0, 0),
  reply('getVringBase', 0, 0),
  reply('getVringBase', 1, 0),
]);

export const vhostUserTarget: FuzzTarget = {
  name: 'vhost-user',
  what: 'what a daemon answers over vhost-user, and rings that it leaves behind',
  seeds: () => [GOOD, GOOD.subarray(0, 60), GOOD.subarray(0, 200), Buffer.concat([GOOD, GOOD.subarray(60)])],
  run: (input) => {
    const link = linkOf(input);
    let agreement;
    try {
      agreement = negotiate(link);
    } catch (error) {
      if (error instanceof VhostUserError) return kindOf(error.message);
      throw error;
    }
    const options = { name: 'daemon', agreement, regions: [], kickFds: [10, 11], callFds: [9, 9] };
    const severed = { times: 0 };
    const device = new VhostDevice(options, {
      ...link,
      setTimeLimit: () => {},
      shutDown: () => void severed.times++,
      watchNotifications: () => {},
      refuseRequests,
    });
    const bench = createDeviceBench(describeShare('tag', agreement), device, [], { ramBytes: RAM_BYTES });
    const queues = bench.start();
    const choose = choicesOf(input);
    for (const queue of queues) {
      for (let i = choose(4); i > 0; i--) {
        queue.add([
          { address: 0x2_0000 + choose(0x1_0000), length: choose(100) },
          { address: 0x3_0000, length: choose(100), writable: true },
        ]);
      }
    }
    // As the daemon would: indexes of the used rings.
    for (let i = choose(3); i > 0; i--)
      bench.view.setUint16(
        choose(2) * RING_SPACE + DEVICE_AREA + 2,
        choose(5) === 0 ? choose(0x1_0000) : choose(4),
        true,
      );
    device.disconnected('hung up');
    queues.forEach((_, index) => device.processQueue(index));
    if (severed.times !== 1 && bench.runner.active) throw new Error(`severed ${severed.times} times`);
    if (!(bench.read(R.status) & STATUS.driverOkBit)) return 'no driver';
    if (!bench.needsReset()) throw new Error('the driver was not told');
    bench.write(R.status, 0);
    if (bench.read(R.status) !== 0) throw new Error('a reset did not take place');
    return bench.failures.map(kindOf).join(' ');
  },
};

/** Gives the input out as it is asked for, whatever was said. */
function linkOf(input: Uint8Array): VhostLink {
  let at = 0;
  return {
    send: () => {},
    receive(target) {
      if (at + target.length > input.length) throw new VhostUserError('hung up');
      target.set(input.subarray(at, at + target.length));
      at += target.length;
    },
  };
}
