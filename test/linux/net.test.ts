/** Debian's virtio_net on a tap of the host, in a network namespace of its own: ping, and TCP both ways. */
import { afterAll, describe, expect } from 'bun:test';
import { mkdirSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { fetchDebianKernel, type DebianKernel } from '../../scripts/debian-kernel.ts';
import { ensurePackages } from '../../scripts/host-packages.ts';
import { buildDeviceInitrd } from './device-initrd.ts';
import {
  beforeAll,
  EVERY_BOOT,
  LINUX_TEST,
  runOnLinuxHost,
  stopLinuxHost,
  test,
  thorough,
  VOLT,
} from './linux-host.ts';

const SECONDS = 150;
const cache = resolve(import.meta.dir, '../../.cache/test');
const initrd = join(cache, 'net-initrd');
const bereftInitrd = join(cache, 'bereft-net-initrd');
const userInitrd = join(cache, 'user-net-initrd');
let kernel: DebianKernel;

const GUEST = `
ip addr add 10.0.7.2/24 dev eth0
ip link set eth0 up
echo "VOLT-GUEST mac=$(cat /sys/class/net/eth0/address)"
echo "VOLT-GUEST queues=$(ls -d /sys/class/net/eth0/queues/rx-* | wc -l)"
ping -c 3 -W 10 10.0.7.1 >/tmp/ping && echo "VOLT-GUEST ping ok"
ping -c 3 -W 10 -s 8000 10.0.7.1 >/tmp/ping && echo "VOLT-GUEST long ping ok"
export LD_LIBRARY_PATH=/lib/x86_64-linux-gnu
iperf3 -c 10.0.7.1 -n 4M -f m | sed 's/^/VOLT-GUEST up /' | grep receiver
iperf3 -c 10.0.7.1 -n 4M -f m -R | sed 's/^/VOLT-GUEST down /' | grep receiver
iperf3 -c 10.0.7.1 -u -b 5M -t 1 -f m | sed 's/^/VOLT-GUEST udp /' | grep receiver
`;

/** Gets its address by DHCP, and reaches servers on the host's loopback through the address of its gateway. */
const USER_GUEST = `
ip link set eth0 up
cat >/tmp/dhcp <<'END'
#!/bin/sh
[ "$1" = bound ] || exit 0
ip addr add $ip/$mask dev $interface
ip route add default via $router
echo "VOLT-GUEST address=$ip router=$router"
END
chmod +x /tmp/dhcp
udhcpc -i eth0 -n -q -t 10 -s /tmp/dhcp 2>/dev/null
mkdir /tmp/www; echo served >/tmp/www/word; httpd -p 80 -h /tmp/www
wget -q -O - http://192.0.2.1:8080/file | wc -c | sed 's/^/VOLT-GUEST downloaded=/'
export LD_LIBRARY_PATH=/lib/x86_64-linux-gnu
iperf3 -c 192.0.2.1 -t 2 -f m | sed 's/^/VOLT-GUEST up /' | grep receiver
iperf3 -c 192.0.2.1 -u -b 2M -t 1 -f m | sed 's/^/VOLT-GUEST udp /' | grep receiver
`;

/** Traffic both ways until the link is lost, which the guest outlives. */
const BEREFT_GUEST = `
ip addr add 10.0.7.2/24 dev eth0
ip link set eth0 up
ping -c 1 -W 10 10.0.7.1 >/tmp/ping && echo "VOLT-GUEST ping ok"
ping -i 0.01 -s 1400 10.0.7.1 >/tmp/ping &
echo "VOLT-GUEST carrier=$(cat /sys/class/net/eth0/carrier)"
until [ "$(cat /sys/class/net/eth0/carrier)" = 0 ]; do sleep 0.1; done
echo "VOLT-GUEST link lost"
sleep 2
kill -0 $! && echo "VOLT-GUEST still sends"
dmesg | grep -i 'virtio_net.*\\(error\\|timeout\\|broken\\)' | sed 's/^/VOLT-GUEST /'
`;

beforeAll(async () => {
  mkdirSync(cache, { recursive: true });
  await ensurePackages(['ip', 'iperf3', 'passt', 'busybox']);
  kernel = await fetchDebianKernel('amd64');
  const modules = ['virtio_mmio', 'virtio_net'];
  const guest = { modules, programs: ['iperf3'], script: GUEST };
  await Bun.write(initrd, await buildDeviceInitrd(kernel, guest));
  await Bun.write(bereftInitrd, await buildDeviceInitrd(kernel, { modules, script: BEREFT_GUEST }));
  const user = { modules, programs: ['iperf3'], script: USER_GUEST };
  await Bun.write(userInitrd, await buildDeviceInitrd(kernel, user));
}, LINUX_TEST.timeout);

afterAll(stopLinuxHost);

/** Boots with a tap made by `tuntap` words, in a new network namespace. */
function boot(tuntap: string, net: string, cpus: number) {
  const volt = `${VOLT} --cpus ${cpus} --kernel ${kernel.vmlinux} --initrd ${initrd} --no-reboot --net tap=tap7,${net}`;
  const script = `
    set -e
    ip link set lo up
    ip tuntap add tap7 mode tap ${tuntap}
    ip addr add 10.0.7.1/24 dev tap7
    ip link set tap7 up
    iperf3 -s >/dev/null 2>&1 & server=$!
    trap 'kill $server' EXIT
    ${volt} --cmdline "console=ttyS0 reboot=k panic=-1 volt.run=check"`;
  return runOnLinuxHost(['unshare', '--net', 'sh', '-c', script], SECONDS);
}

const NETWORKS = [
  ['one pair of queues', '', 'mac=06:00:ac:10:00:02', 1, 1],
  ['two pairs of queues', 'multi_queue', 'mac=06:00:ac:10:00:02,queues=2', 2, 2],
] as const;

describe('Debian 6.1 with a network', () => {
  test.each(EVERY_BOOT ? NETWORKS : NETWORKS.slice(0, 1))(
    'with %s pings its host and moves data both ways',
    async (_, tuntap, net, cpus, queues) => {
      const { stdout, stderr, exitCode } = await boot(tuntap, net, cpus);

      expect(stdout).toContain('VOLT-GUEST mac=06:00:ac:10:00:02');
      expect(stdout).toContain(`VOLT-GUEST queues=${queues}`);
      expect(stdout).toContain('VOLT-GUEST ping ok');
      expect(stdout).toContain('VOLT-GUEST long ping ok');
      expect(stdout).toMatch(/VOLT-GUEST up .* [1-9][\d.]* [KM]Bytes .* receiver/);
      expect(stdout).toMatch(/VOLT-GUEST down .* [1-9][\d.]* MBytes .* receiver/);
      expect(stdout).toMatch(/VOLT-GUEST udp .* 0\/\d+ \(0%\) .*receiver/);
      expect(stderr).toBe('');
      expect(exitCode).toBe(0);
    },
    LINUX_TEST,
  );

  thorough(
    'whose tap is deleted while it sends and receives loses its link and nothing else',
    async () => {
      const script = `
        ip tuntap add tap7 mode tap; ip addr add 10.0.7.1/24 dev tap7; ip link set tap7 up
        out=$(mktemp); trap 'rm $out' EXIT
        ${VOLT} --cpus 1 --kernel ${kernel.vmlinux} --initrd ${bereftInitrd} --no-reboot --net tap=tap7 \\
          --cmdline "console=ttyS0 reboot=k panic=-1 quiet volt.run=check" < /dev/null > $out & volt=$!
        until grep -q 'VOLT-GUEST carrier' $out; do sleep 0.1; kill -0 $volt || break; done
        sleep 1; ping -q -i 0.01 -s 1400 10.0.7.2 >/dev/null 2>&1 & sleep 1
        ip link del tap7; wait $volt; code=$?; kill %2 2>/dev/null; cat $out; exit $code`;

      const { stdout, stderr, exitCode } = await runOnLinuxHost(
        ['unshare', '--net', 'sh', '-c', script],
        SECONDS,
      );

      expect(stdout.match(/VOLT-GUEST (?!cpus|mem|cmdline)[^\r]*/g)).toEqual([
        'VOLT-GUEST ping ok',
        'VOLT-GUEST carrier=1',
        'VOLT-GUEST link lost',
        'VOLT-GUEST still sends',
        'VOLT-GUEST check=check exit=0',
        'VOLT-GUEST done',
      ]);
      expect(stderr).toBe('volt: net0: its tap was deleted; the guest continues with its link down\n');
      expect(exitCode).toBe(0);
    },
    LINUX_TEST,
  );

  thorough(
    'without a tap gets an address by DHCP and reaches servers over TCP and UDP, and is reached at a forwarded port, by passt',
    async () => {
      // passt takes addresses and routes from the host's interface with the default route: here one of ours.
      const script = `
        set -e
        ip link set lo up
        ip tuntap add up0 mode tap
        ip addr add 192.0.2.2/24 dev up0
        ip link set up0 up
        ip route add default via 192.0.2.1
        folder=$(mktemp -d)
        chmod 755 $folder
        dd if=/dev/urandom of=$folder/file bs=1M count=3 2>/dev/null
        busybox httpd -f -p 127.0.0.1:8080 -h $folder & web=$!
        iperf3 -s -B 127.0.0.1 >/dev/null 2>&1 & speed=$!
        # A client of the guest's own server, through the port that is forwarded.
        (until [ "$(busybox wget -q -O - http://127.0.0.1:9080/word 2>/dev/null)" = served ]; do sleep 0.2; done
         echo "VOLT-HOST served by the guest") & client=$!
        trap 'kill $web $speed $client 2>/dev/null || true; rm -r $folder' EXIT
        ${VOLT} --cpus 1 --kernel ${kernel.vmlinux} --initrd ${userInitrd} --no-reboot --net user,forward=127.0.0.1:9080:80 \
          --cmdline "console=ttyS0 reboot=k panic=-1 volt.run=check"`;

      const { stdout, stderr, exitCode } = await runOnLinuxHost(
        ['unshare', '--net', 'sh', '-c', script],
        SECONDS,
      );

      expect(stdout).toContain('VOLT-GUEST address=192.0.2.2 router=192.0.2.1');
      expect(stdout).toContain(`VOLT-GUEST downloaded=${3 << 20}`);
      expect(stdout).toContain('VOLT-HOST served by the guest');
      expect(stdout).toMatch(/VOLT-GUEST up .* [1-9][\d.]* [KM]Bytes .* receiver/);
      // Of 170 datagrams some may be lost; most arrive.
      const [, lost, sent] = /VOLT-GUEST udp .* (\d+)\/(\d+) \(.*receiver/.exec(stdout)!;
      expect(Number(lost)).toBeLessThan(Number(sent) / 2);
      expect(stderr).toBe('');
      expect(exitCode).toBe(0);
    },
    LINUX_TEST,
  );
});
