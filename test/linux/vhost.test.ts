/** Debian's virtio_net on a tap whose packet queues the host's kernel serves (vhost-net). */
import { afterAll, expect } from 'bun:test';
import { mkdirSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { fetchDebianKernel, type DebianKernel } from '../../scripts/debian-kernel.ts';
import { ensurePackages } from '../../scripts/host-packages.ts';
import { buildDeviceInitrd } from './device-initrd.ts';
import { beforeAll, LINUX_TEST, runOnLinuxHost, stopLinuxHost, thorough, VOLT } from './linux-host.ts';

const SECONDS = 600;
const cache = resolve(import.meta.dir, '../../.cache/test');
const initrd = join(cache, 'vhost-initrd');
let kernel: DebianKernel;

/** Asks the host what to do next: to reset the machine, or to end. Meanwhile it is saved and restored. */
const GUEST = `
up() {
  ip addr add 10.0.7.2/24 dev eth0
  ip link set eth0 up
  ping -c 3 -W 10 10.0.7.1 >/tmp/ping && echo "VOLT-GUEST ping after $1"
}
export LD_LIBRARY_PATH=/lib/x86_64-linux-gnu
up boot
ping -c 3 -W 10 -s 8000 10.0.7.1 >/tmp/ping && echo "VOLT-GUEST long ping"
iperf3 -c 10.0.7.1 -n 8M -f m | sed 's/^/VOLT-GUEST up /' | grep receiver
iperf3 -c 10.0.7.1 -n 8M -f m -R | sed 's/^/VOLT-GUEST down /' | grep receiver
rmmod virtio_net
insmod /modules/virtio_net.ko
up restart
until answer=$(nc 10.0.7.1 9000 </dev/null) && [ -n "$answer" ]; do sleep 0.2; done
if [ "$answer" = reset ]; then echo "VOLT-GUEST resets"; reboot -f; sleep 100; fi
echo "VOLT-GUEST waits"
ping -i 0.2 10.0.7.1 >/tmp/long &
until answer=$(nc -w 2 10.0.7.1 9001 </dev/null) && [ "$answer" = end ]; do sleep 0.2; done
kill $!
ping -c 3 -W 10 10.0.7.1 >/tmp/ping && echo "VOLT-GUEST ping after restore"
iperf3 -c 10.0.7.1 -n 4M -f m -R | sed 's/^/VOLT-GUEST down again /' | grep receiver
dmesg | grep -i 'virtio_net.*\\(error\\|timeout\\|broken\\)' | sed 's/^/VOLT-GUEST /'
echo "VOLT-GUEST finished"
sleep 1000
`;

beforeAll(async () => {
  mkdirSync(cache, { recursive: true });
  await ensurePackages(['ip', 'iperf3', 'busybox']);
  kernel = await fetchDebianKernel('amd64');
  const guest = { modules: ['virtio_pci', 'virtio_mmio', 'virtio_net'], programs: ['iperf3'], script: GUEST };
  await Bun.write(initrd, await buildDeviceInitrd(kernel, guest));
}, LINUX_TEST.timeout);

afterAll(stopLinuxHost);

const host = (tuntap: string, net: string, more: string, saves: boolean) => `
  ip link set lo up
  ip tuntap add tap7 mode tap ${tuntap}
  ip addr add 10.0.7.1/24 dev tap7
  ip link set tap7 up
  iperf3 -s >/dev/null 2>&1 & server=$!
  dir=$(mktemp -d); trap 'kill $server; rm -r $dir' EXIT
  answer() { echo $1 | timeout 400 busybox nc -l -p $2 >/dev/null || echo "HOST nobody asked for $1"; }
  ${VOLT} --cpus 2 --memory 192M --kernel ${kernel.vmlinux} --initrd ${initrd} --net tap=tap7,${net} ${more} \\
    --control $dir/sock --cmdline "console=ttyS0 reboot=k panic=-1 quiet volt.run=check" </dev/null >$dir/out &
  volt=$!
  answer reset 9000
  echo "HOST threads=$(ps -e -o comm= | grep -c ^vhost-)"
  answer go 9000
  for try in $(seq 2000); do grep -q 'VOLT-GUEST waits' $dir/out && break; kill -0 $volt || break; sleep 0.2; done
  ${
    saves
      ? `${VOLT} ctl $dir/sock snapshot $dir/snap --live --json | tr -d '\n' | sed 's/^/HOST live /'; echo
  sleep 1
  ${VOLT} ctl $dir/sock snapshot $dir/snap --diff --stop --json | tr -d '\n' | sed 's/^/HOST diff /'; echo
  wait $volt
  ${VOLT} restore $dir/snap --control $dir/sock >$dir/out2 </dev/null & volt=$!`
      : ''
  }
  answer end 9001
  for try in $(seq 2000); do grep -q 'VOLT-GUEST finished' $dir/out* && break; kill -0 $volt || break; sleep 0.2; done
  ${VOLT} ctl $dir/sock stop; wait $volt
  cat $dir/out $dir/out2 2>/dev/null
  exit 0`;

const run = (script: string) => runOnLinuxHost(['unshare', '--net', 'sh', '-c', script], SECONDS);

const SAID = ['ping after boot', 'long ping', 'up', 'down', 'ping after restart'];
const ALL_SAID = [...SAID, 'resets', ...SAID, 'waits', 'ping after restore', 'down again', 'finished'];

/** What the guest said, without figures. */
const saidBy = (stdout: string) =>
  [
    ...stdout.matchAll(
      /VOLT-GUEST ((?:long )?ping[\w ]*|up|down again|down|resets|waits|finished|.*virtio_net.*)/g,
    ),
  ].map(([, what]) => what!.trim());

thorough(
  'A guest whose network the kernel serves moves data, restarts its driver, resets itself, is saved and restored',
  async () => {
    const { stdout, stderr, exitCode } = await run(host('', 'vhost', '', true));

    expect(saidBy(stdout)).toEqual(ALL_SAID);
    expect(stdout).toContain('HOST threads=1');
    const [live, diff] = ['live', 'diff'].map(
      (name) => JSON.parse(new RegExp(`HOST ${name} (.*)`).exec(stdout)![1]!) as { writtenBytes: number },
    );
    expect(diff!.writtenBytes).toBeLessThan(live!.writtenBytes);
    expect(stderr).toMatch(/^volt: the guest was saved to [^\n]*\n$/);
    expect(exitCode).toBe(0);
  },
  LINUX_TEST,
);

thorough(
  'Two pairs of queues on a PCI bus have a back-end each, and an interrupt for each queue',
  async () => {
    const { stdout, stderr, exitCode } = await run(host('multi_queue', 'vhost,queues=2', '--pci', false));

    expect(saidBy(stdout)).toEqual(ALL_SAID);
    expect(stdout).toContain('HOST threads=2');
    expect(stderr).toBe('');
    expect(exitCode).toBe(0);
  },
  LINUX_TEST,
);
