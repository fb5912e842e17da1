import { describe, expect, setDefaultTimeout, test } from 'bun:test';
import { connect } from 'node:net';
import { parseConfig } from '../../../../src/config/config.ts';
import { passtArguments } from '../../../../src/virtio/net/forwarding.ts';
import { openPasst } from '../../../../src/virtio/net/open-passt.ts';
import type { NetConfig } from '../../../../src/virtio/net/spec.ts';
import { testNeeding } from '../../../support/needs.ts';
import { voltErrorOf } from '../../support/errors.ts';

setDefaultTimeout(60_000);

function parse(keys: object): NetConfig {
  const { config } = parseConfig({
    'boot-source': { kernel_image_path: 'vmlinux' },
    'network-interfaces': [{ iface_id: 'net0', ...keys }],
  });
  return config.devices[0] as NetConfig;
}

describe('ports to forward', () => {
  test.each([
    [{ forward: ['8080:80'] }, ['--tcp-ports', '8080:80', '--udp-ports', 'none']],
    [{ forward: ['127.0.0.1:8080:80'] }, ['--tcp-ports', '127.0.0.1/8080:80', '--udp-ports', 'none']],
    [{ forward: ['[::1]:22:22'] }, ['--tcp-ports', '::1/22', '--udp-ports', 'none']],
    [{ forward: ['5353:53/udp'] }, ['--tcp-ports', 'none', '--udp-ports', '5353:53']],
    [
      { forward: ['1:2', '3:4/tcp'], ports: ['8000-8010'] },
      [
        ...['--tcp-ports', '1:2', '--tcp-ports', '3:4', '--tcp-ports', '8000-8010'],
        ...['--udp-ports', '8000-8010'],
      ],
    ],
    [{}, []],
  ])('%j become arguments of passt', (keys, argv) => {
    expect(passtArguments(parse({ user: true, ...keys }).forwards)).toEqual(argv);
  });

  test.each([
    [
      { forward: ['80'] },
      'forward.0: "80" (expected a port of the host and one of the guest, such as 8080:80',
    ],
    [{ forward: ['0:80'] }, '"0:80" (expected'],
    [{ forward: ['8080:65536'] }, '"8080:65536" (expected'],
    [{ forward: ['256.0.0.1:80:80'] }, '"256.0.0.1:80:80" (expected'],
    [{ forward: ['[::g]:80:80'] }, '"[::g]:80:80" (expected'],
    [{ forward: ['8080:80 --runas 0'] }, '(expected'],
    [{ ports: ['90-80'] }, 'ports.0: "90-80" (expected a port such as 80, or ports such as 8000-8010)'],
    [{ ports: ['all'] }, '"all" (expected'],
    [{ forward: ['80:1'], ports: ['70-90'] }, 'port 80/tcp is forwarded twice (expected each port once)'],
    [{ forward: ['1.1.1.1:80:1', '80:2'] }, 'port 80/tcp is forwarded twice'],
  ])('%j are refused', (keys, problem) => {
    expect(voltErrorOf(() => parse({ user: true, ...keys })).message).toContain(problem);
  });

  test('may be the same number of two addresses, or of two protocols', () => {
    const { forwards } = parse({ user: true, forward: ['127.0.0.1:80:1', '127.0.0.2:80:2', '80:3/udp'] });

    expect(forwards).toHaveLength(3);
  });

  test('are refused for a tap, whose packets pass the host’s own rules', () => {
    expect(voltErrorOf(() => parse({ host_dev_name: 'tap0', ports: ['80'] })).message).toContain(
      'only user-mode networking forwards ports (expected user: true)',
    );
  });
});

const testWithPasst = testNeeding('passt', Bun.which('passt') === null);

describe('passt', () => {
  testWithPasst(
    'listens on the ports that are forwarded, and no longer when the interface is closed',
    async () => {
      const port = freePort();
      const opened = openPasst(parse({ user: true, forward: [`127.0.0.1:${port}:80`] }));

      const accepted = await untilConnects(port, true);
      opened.close();
      const refused = await untilConnects(port, false);

      expect([accepted, refused]).toEqual([true, true]);
    },
  );

  testWithPasst('is not started when another program has the port: one line says so', () => {
    using other = Bun.listen({ hostname: '127.0.0.1', port: 0, socket: { data: () => {} } });

    const error = voltErrorOf(() =>
      openPasst(parse({ user: true, forward: [`127.0.0.1:${other.port}:80`] })),
    );

    expect(error.message).toBe(
      `Cannot use --net user: TCP port ${other.port} of 127.0.0.1 cannot be opened (EADDRINUSE); forward another port, or end the program that uses it`,
    );
  });
});

function freePort(): number {
  using listener = Bun.listen({ hostname: '127.0.0.1', port: 0, socket: { data: () => {} } });
  return listener.port;
}

/** Tries until a connection to the port succeeds, or until it fails; returns whether that came to be. */
async function untilConnects(port: number, wanted: boolean): Promise<boolean> {
  for (let tries = 0; tries < 500; tries++) {
    const connects = await new Promise<boolean>((resolve) => {
      const socket = connect(port, '127.0.0.1');
      socket.on('connect', () => {
        socket.destroy();
        resolve(true);
      });
      socket.on('error', () => resolve(false));
    });
    if (connects === wanted) return true;
    await Bun.sleep(20);
  }
  return false;
}
