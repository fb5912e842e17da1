/** deploy/swarm on three Docker engines, each in a network namespace of its own. Part of `npm run test:fleet`. */
import { afterAll, beforeAll, describe, expect, setDefaultTimeout } from 'bun:test';
import { join, resolve } from 'node:path';
import { kvmOpens, TemporaryFolder } from '../cli/volt-process.ts';
import { canRunEngine, DockerEngine } from '../support/docker-engine.ts';
import { testNeeding } from '../support/needs.ts';
import { writeGuestImage } from './images.ts';
import { BridgedNetworks } from './networks.ts';

/** For hangs only. */
setDefaultTimeout(600_000);

const ENGINES = 3;
const GUESTS = 6;
const canRun = kvmOpens && canRunEngine && process.env['VOLT_TEST_FLEET'] !== undefined;
const testInSwarm = testNeeding('/dev/kvm, root, Docker and VOLT_TEST_FLEET=1', !canRun);
const deploy = resolve(import.meta.dir, '../../deploy/swarm');

describe('deploy/swarm', () => {
  const folder = new TemporaryFolder();
  const engines: DockerEngine[] = [];
  let networks: BridgedNetworks | undefined;

  beforeAll(async () => {
    if (!canRun) return;
    await writeGuestImage(folder.path, '1');
    networks = new BridgedNetworks(ENGINES);
    const runtime = [`--add-runtime=runc-kvm=${join(deploy, 'runc-kvm')}`, '--default-runtime=runc-kvm'];
    for (let i = 0; i < ENGINES; i++) {
      const engine = await DockerEngine.start(networks.path(i), runtime);
      engines.push(engine);
      await engine.run('load', '--input', folder.at('images/volt-guest-1.tar'));
    }
    const [first, ...others] = engines as [DockerEngine, ...DockerEngine[]];
    await first.run('swarm', 'init', '--advertise-addr', networks.address(0));
    const { stdout: token } = await first.run('swarm', 'join-token', '--quiet', 'manager');
    for (const [i, engine] of others.entries()) {
      const own = ['--advertise-addr', networks.address(i + 1)];
      await engine.run('swarm', 'join', ...own, '--token', token.trim(), `${networks.address(0)}:2377`);
    }
    const { stdout: nodes } = await first.run('node', 'ls', '--quiet');
    for (const node of nodes.trim().split('\n'))
      await first.run('node', 'update', '--label-add=kvm=yes', node);
  });
  afterAll(async () => {
    for (const engine of engines) {
      await engine.crash();
      await engine[Symbol.asyncDispose]();
    }
    networks?.[Symbol.dispose]();
    folder[Symbol.dispose]();
  });

  /** Guests that an engine itself runs. */
  async function guestsOf(engine: DockerEngine): Promise<number> {
    const { stdout } = await engine.run('ps', '--quiet', '--filter=name=volt_guest');
    return stdout.trim().split('\n').filter(Boolean).length;
  }

  async function untilGuests(among: readonly DockerEngine[]): Promise<number[]> {
    for (let tries = 0; tries < 200; tries++) {
      const counts = await Promise.all(among.map(guestsOf));
      if (counts.reduce((a, b) => a + b, 0) === GUESTS) return counts;
      await Bun.sleep(1000);
    }
    const { stdout } = await among[0]!.run('service', 'ps', '--no-trunc', 'volt_guest');
    throw new Error(`There are never ${GUESTS} guests:\n${stdout}`);
  }

  testInSwarm('runs six guests on three engines, and six again when one of them dies', async () => {
    const [first, second, third] = engines as [DockerEngine, DockerEngine, DockerEngine];
    const deployed = await first.run('stack', 'deploy', '--compose-file', join(deploy, 'stack.yaml'), 'volt');

    const before = await untilGuests([first, second, third]);
    await third.crash();
    const after = await untilGuests([first, second]);

    expect(deployed.exitCode).toBe(0);
    expect(before.every((count) => count > 0)).toBe(true);
    expect(after.every((count) => count > 0)).toBe(true);
  });
});
