/**
 * deploy/kubernetes on a real cluster of one node. Part of `npm run test:fleet`, which takes VOLT_FLEET, a folder that
 * build-kubernetes.sh has filled.
 */
import { afterAll, beforeAll, describe, expect, setDefaultTimeout } from 'bun:test';
import { chmodSync, existsSync, mkdirSync, rmSync, symlinkSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { kvmOpens, TemporaryFolder, VOLT } from '../cli/volt-process.ts';
import { testNeeding } from '../support/needs.ts';
import { writeImages } from './images.ts';

/** For hangs only. */
setDefaultTimeout(600_000);

const FLEET = process.env['VOLT_FLEET'] ?? '';
const canRun = kvmOpens && process.getuid?.() === 0 && existsSync(join(FLEET, 'bin/kubelet'));
const testOnCluster = testNeeding(
  '/dev/kvm, root, and VOLT_FLEET, a folder that test/fleet/build-kubernetes.sh filled',
  !canRun,
);

const ROOT = resolve(import.meta.dir, '../..');
/** Of overlay/volume.yaml. */
const DATA = '/tmp/volt-fleet-data';
const GUESTS = ['--selector', 'app.kubernetes.io/component=guests'];
const folder = new TemporaryFolder();
let cluster: Bun.Subprocess | undefined;

function kubectl(...args: readonly string[]): string {
  const ran = Bun.spawnSync([join(FLEET, 'run/kubectl'), '--namespace', 'volt', ...args], {
    cwd: ROOT,
    stdout: 'pipe',
    stderr: 'pipe',
  });
  return ran.exitCode === 0 ? ran.stdout.toString() : `failed: ${ran.stderr}`;
}

function readyGuests(): string[] {
  const columns =
    '-o=jsonpath={range .items[*]}{.metadata.name} {.status.containerStatuses[0].ready}{"\\n"}{end}';
  return kubectl('get', 'pods', ...GUESTS, columns)
    .split('\n')
    .flatMap((line) => /^(\S+) true$/.exec(line)?.[1] ?? []);
}

async function until<T>(what: string, look: () => T, isThere: (found: T) => boolean): Promise<T> {
  for (let tries = 0; tries < 300; tries++) {
    const found = look();
    if (isThere(found)) return found;
    await Bun.sleep(1000);
  }
  throw new Error(`${what} does not come: ${kubectl('get', 'pods')}${kubectl('get', 'events')}`);
}

describe('deploy/kubernetes', () => {
  beforeAll(async () => {
    if (!canRun) return;
    await writeImages(FLEET);
    rmSync(DATA, { recursive: true, force: true });
    mkdirSync(DATA);
    chmodSync(DATA, 0o777);
    rmSync(join(FLEET, 'ready'), { force: true });
    cluster = Bun.spawn(['sh', join(import.meta.dir, 'cluster.sh'), FLEET], {
      stdout: 'ignore',
      stderr: 'inherit',
    });
    await until('the cluster', () => existsSync(join(FLEET, 'ready')), Boolean);
    symlinkSync(join(FLEET, 'run/kubectl'), folder.at('kubectl'));
    Bun.spawnSync([join(ROOT, 'deploy/kubernetes/label-node.sh'), 'node1', VOLT], {
      env: { ...process.env, PATH: `${folder.path}:${process.env['PATH']}` },
    });
  });
  afterAll(async () => {
    cluster?.kill('SIGTERM');
    await cluster?.exited;
    rmSync(DATA, { recursive: true, force: true });
    folder[Symbol.dispose]();
  });

  testOnCluster('runs eight guests by kubectl apply -k, none of them privileged', async () => {
    kubectl('apply', '-k', 'test/fleet/overlay');

    const ready = await until('eight guests', readyGuests, (pods) => pods.length === 8);

    const contexts = kubectl('get', 'pods', '-o=jsonpath={.items[*].spec.containers[*].securityContext}');
    expect(ready).toHaveLength(8);
    expect(contexts).not.toContain('"privileged":true');
    expect(contexts.match(/"drop":\["ALL"\]/g)).toHaveLength(10);
  });

  testOnCluster('answers volt ps in a pod, and has labels of node, pod and guest in its metrics', () => {
    const [pod] = readyGuests();

    const ps = kubectl('exec', pod!, '--', '/usr/bin/volt', 'ps');
    const metrics = kubectl('get', '--raw', `/api/v1/namespaces/volt/pods/${pod}:9100/proxy/metrics`);

    expect(ps).toContain('/guest/boot/kernel');
    expect(metrics).toContain(`volt_guest_state{node="node1",pod="${pod}",guest="${pod}",state="running"} 1`);
  });

  testOnCluster('scales to ten guests and back', async () => {
    kubectl('scale', 'deployment/guests', '--replicas=10');
    const more = await until('ten guests', readyGuests, (pods) => pods.length === 10);
    kubectl('scale', 'deployment/guests', '--replicas=8');
    const fewer = await until('eight guests', readyGuests, (pods) => pods.length === 8);

    expect([more.length, fewer.length]).toEqual([10, 8]);
  });

  testOnCluster('starts a guest again whose VMM was killed', async () => {
    const [pod] = readyGuests();
    const restarts = () =>
      Number(kubectl('get', 'pod', pod!, '-o=jsonpath={.status.containerStatuses[0].restartCount}'));
    const id = kubectl('get', 'pod', pod!, '-o=jsonpath={.status.containerStatuses[0].containerID}');
    const address = ['-a', join(FLEET, 'run/containerd.sock'), '-n', 'k8s.io'];

    Bun.spawnSync(['ctr', ...address, 'tasks', 'kill', '--signal', 'KILL', id.replace('containerd://', '')]);
    await until('a restart', restarts, (count) => count === 1);
    const ready = await until('eight guests', readyGuests, (pods) => pods.length === 8);

    expect(ready).toContain(pod!);
  });

  testOnCluster('is updated guest by guest, never with more than one missing', async () => {
    let fewest = 8;
    const images = () => {
      fewest = Math.min(fewest, readyGuests().length);
      return kubectl('get', 'pods', ...GUESTS, '-o=jsonpath={.items[*].spec.containers[0].image}').split(' ');
    };
    kubectl('set', 'image', 'deployment/guests', 'guest=volt-guest:2');

    const now = await until('the update', images, (found) =>
      found.every((image) => image === 'volt-guest:2'),
    );

    expect(now.length).toBeGreaterThanOrEqual(8);
    expect(fewest).toBeGreaterThanOrEqual(7);
  });

  testOnCluster('keeps the disk of a StatefulSet when its pod is replaced', async () => {
    const logs = () => kubectl('logs', 'databases-0');
    const first = await until('the first start', logs, (text) => text.includes('start '));

    kubectl('delete', 'pod', 'databases-0');
    const second = await until('the second start', logs, (text) => text.includes('start 2'));

    expect(first).toContain('start 1');
    expect(second).not.toContain('start 1');
  });

  testOnCluster('empties a node by kubectl drain, as far as the budget lets it', async () => {
    await until('eight guests', readyGuests, (pods) => pods.length === 8);

    const drained = kubectl(
      'drain',
      'node1',
      '--ignore-daemonsets',
      '--delete-emptydir-data',
      '--timeout=20s',
      '--force',
    );
    const left = kubectl('get', 'pods', ...GUESTS, '-o=name')
      .trim()
      .split('\n');
    kubectl('uncordon', 'node1');
    const ready = await until('eight guests', readyGuests, (pods) => pods.length === 8);

    // There is no other node for them, so one guest goes, and the budget keeps the others.
    expect(drained).toContain("would violate the pod's disruption budget");
    expect(left.length).toBeGreaterThanOrEqual(8);
    expect(ready).toHaveLength(8);
  });
});
