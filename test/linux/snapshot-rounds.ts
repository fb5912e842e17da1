/**
 * Boots a busy Linux, plugs a CPU, saves it, restores it in another process, saves that one while it runs, and
 * restores three clones of it side by side, each in a network namespace of its own. Prints what each of them says
 * of itself as JSON. Runs where Linux guests can, as root. Usage: snapshot-rounds.ts VOLT KERNEL INITRD
 */
import { existsSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { poll } from './guest-session.ts';
import { materializeOverlay } from './overlay-image.ts';
import { ADDRESS, PORTS } from './snapshot-guest.ts';

const [volt = '', kernel = '', initrd = ''] = process.argv.slice(2);
const folder = mkdtempSync(join(tmpdir(), 'volt-snapshot-'));
const at = (name: string) => join(folder, name);
const ECHOED = Buffer.alloc(100_000, 'vsock works again after the restore; ');
const namespaces: string[] = [];

function sh(script: string): string {
  const { exitCode, stdout, stderr } = Bun.spawnSync(['sh', '-ec', script], { cwd: folder });
  if (exitCode !== 0) throw new Error(`${script}: ${stdout}${stderr}`);
  return stdout.toString();
}

/** A namespace with the tap that the guest's host address is on, and a server of iperf3. */
function makeNetwork(name: string): void {
  sh(`ip netns add ${name}
    ip -n ${name} link set lo up
    ip -n ${name} tuntap add tap0 mode tap
    ip -n ${name} addr add ${ADDRESS.host}/24 dev tap0
    ip -n ${name} link set tap0 up`);
  namespaces.push(name);
  servers.push(
    Bun.spawn(['ip', 'netns', 'exec', name, 'iperf3', '-s'], { stdout: 'ignore', stderr: 'ignore' }),
  );
}

const servers: Bun.Subprocess[] = [];
const guests: Guest[] = [];

class Guest {
  readonly name: string;
  readonly #child: Bun.Subprocess<'ignore', 'inherit', 'inherit'>;

  constructor(name: string, network: string, words: readonly string[]) {
    this.name = name;
    guests.push(this);
    this.#child = Bun.spawn(
      [
        ...['ip', 'netns', 'exec', network, volt, ...words, '--console', `file=${at(`${name}.log`)}`],
        ...['--control', at(`${name}.sock`), '--vsock', `path=${at(`${name}.vsock`)}`],
      ],
      { stdin: 'ignore', stdout: 'inherit', stderr: 'inherit', cwd: folder },
    );
  }

  get log(): string {
    return existsSync(at(`${this.name}.log`)) ? readFileSync(at(`${this.name}.log`), 'latin1') : '';
  }

  get exited(): Promise<number> {
    return this.#child.exited;
  }

  kill(): void {
    this.#child.kill('SIGKILL');
  }

  ctl(...words: readonly string[]): string {
    const { exitCode, stdout, stderr } = Bun.spawnSync([volt, 'ctl', at(`${this.name}.sock`), ...words], {
      cwd: folder,
    });
    if (exitCode !== 0) throw new Error(`${this.name}: ctl ${words.join(' ')}: ${stderr}`);
    return stdout.toString();
  }

  async until(words: string): Promise<void> {
    const isThere = () => {
      if (this.#child.exitCode !== null) throw new Error(`${this.name} has ended: ${this.log.slice(-3000)}`);
      try {
        return this.log.includes(words);
      } catch {
        return false;
      }
    };
    await poll(isThere, (there) => there, 300);
  }

  /** What a shell of the guest prints for `command`, over vsock. */
  async shell(command: string): Promise<string> {
    return (await this.#converse(PORTS.shell, Buffer.from(`${command}\nexit\n`))).toString().trim();
  }

  async echoes(): Promise<boolean> {
    return (await this.#converse(PORTS.echo, ECHOED, ECHOED.length)).equals(ECHOED);
  }

  /** Keeps bytes going to the guest and back, until its end; says how many came back, and whether it has ended. */
  stream(): { echoed: number; hasEnded: boolean } {
    const state = { echoed: 0, hasEnded: false };
    const chunk = Buffer.alloc(4096, 'vsock under way; ');
    const push = (socket: Bun.Socket) => void socket.write(chunk);
    void Bun.connect({
      unix: at(`${this.name}.vsock`),
      socket: {
        open: (socket) => void socket.write(`CONNECT ${PORTS.echo}\n`),
        data(socket, bytes) {
          state.echoed += bytes.length;
          // What comes back is sent again, more slowly than the guest could.
          setTimeout(push, 5, socket);
        },
        close: () => void (state.hasEnded = true),
        error: () => void (state.hasEnded = true),
      },
    });
    return state;
  }

  /** Once no server of an echo is left in the guest: their connections were reset. */
  async hasNoStreams(): Promise<boolean> {
    await poll(
      () => this.shell('pidof cat || true'),
      (pids) => pids === '',
      60,
    );
    return true;
  }

  /** Connects by the protocol of hybrid vsock; all that comes until the guest closes, or `bytes` of it. */
  async #converse(port: number, payload: Buffer, bytes = Infinity): Promise<Buffer> {
    const all = Buffer.concat([Buffer.from(`CONNECT ${port}\n`), payload]);
    const done = Promise.withResolvers<void>();
    let [sent, received] = [0, Buffer.alloc(0)];
    const push = (socket: Bun.Socket) => void (sent += Math.max(0, socket.write(all.subarray(sent))));
    await Bun.connect({
      unix: at(`${this.name}.vsock`),
      socket: {
        open: push,
        drain: push,
        data(socket, chunk) {
          received = Buffer.concat([received, chunk]);
          const end = received.indexOf(0x0a);
          if (end >= 0 && received.length - end - 1 >= bytes) socket.end();
        },
        close: () => done.resolve(),
      },
    });
    await Promise.race([done.promise, Bun.sleep(30_000)]);
    return received.subarray(received.indexOf(0x0a) + 1);
  }

  /** Once its devices are open: a guest that is restored says nothing of itself. */
  async isUp(): Promise<this> {
    await poll(
      () =>
        this.counters()
          .then((all) => all.length === 3)
          .catch(() => false),
      (up) => up || this.#child.exitCode !== null,
      60,
    );
    return this;
  }

  /** All counters, once each has grown since `before`. */
  async grown(before: readonly number[]): Promise<number[]> {
    return poll(
      () => this.counters(),
      (now) => now.every((count, i) => count > before[i]!),
      180,
    );
  }

  async counters(): Promise<number[]> {
    const text = await this.shell('cat /tmp/fio /tmp/files /tmp/net');
    return text.split(/\s+/).map(Number);
  }

  /** What it knows of itself. */
  async describe() {
    const before = Date.now() / 1000;
    const clock = Number(await this.shell('date +%s'));
    const after = Date.now() / 1000;
    return {
      clockOff: Math.max(0, before - 1 - clock, clock - after - 1),
      random: await this.shell('head -c 16 /dev/urandom | md5sum'),
      cpus: Number(await this.shell('nproc')),
      echoes: await this.echoes(),
      complaints: await this.complaints(),
    };
  }

  /** Lines of dmesg that should not be there. */
  async complaints(): Promise<string[]> {
    const text = await this.shell('dmesg');
    return text.split('\n').filter((line) => COMPLAINT.test(line) && !harmless.includes(line));
  }

  /** The address of its interface once the driver has started anew. */
  macAfterRebind(): Promise<string> {
    return this.shell(
      'cd /sys/bus/virtio/drivers/virtio_net; d=$(ls -d virtio*); echo $d >unbind; echo $d >bind; cat /sys/class/net/eth0/address',
    );
  }

  /** Ends its work, and says what its file system is like. */
  async finish(): Promise<string> {
    await this.shell(
      'touch /tmp/stop; for i in $(seq 600); do pidof fio dd iperf3 >/dev/null || break; sleep 0.1; done',
    );
    await this.shell('cd /; sync; umount /mnt');
    const checked = await this.shell(
      'export LD_LIBRARY_PATH=/lib/x86_64-linux-gnu; e2fsck -fn /dev/vda >/tmp/fsck 2>&1; echo $?',
    );
    return checked === '0' ? 'clean' : this.shell('cat /tmp/fsck');
  }
}

const macOf = (name: string) => `06:00:ac:10:00:1${name.at(-1)}`;

const COMPLAINT =
  /error|fail|bug|call trace|oops|warn|lockup|stall|hung|unstable|corrupt|timed? ?out|reset|blocked for/i;
/** Of a boot in which nothing is wrong. */
let harmless: readonly string[] = [];

const say = (name: string, value: unknown) => console.log(`${name} ${JSON.stringify(value)}`);

try {
  sh('truncate -s 32M root; mkfs.ext4 -q -F root; truncate -s 4M raw');
  makeNetwork('volt-s0');
  const first = new Guest('first', 'volt-s0', [
    ...['--cpus', '3,max=4', '--memory', '384M', '--kernel', kernel, '--initrd', initrd, '--no-reboot'],
    ...['--cmdline', 'console=ttyS0 reboot=k panic=-1 quiet volt.run=check'],
    ...[
      '--disk',
      'path=root,id=root',
      '--disk',
      'path=raw,id=raw',
      '--net',
      'tap=tap0,mac=06:00:ac:10:00:02',
    ],
  ]);
  await first.until('VOLT-GUEST busy');
  first.ctl('cpus', '4');
  await poll(
    () => first.shell('nproc'),
    (count) => count === '4',
  );
  const boot = await first.complaints();
  harmless = boot;
  say('boot', boot);
  say('first', await first.describe());
  const atSave = await first.counters();
  const stream = first.stream();
  await poll(
    () => stream.echoed,
    (bytes) => bytes > 100_000,
  );
  say('saved', JSON.parse(first.ctl('--json', 'snapshot', 'snap', '--stop').trim() || 'null') as unknown);
  say('first-exit', await first.exited);
  const ended = () => stream.hasEnded;
  say('first-stream', { echoed: stream.echoed, hasEnded: await poll(ended, Boolean, 30) });
  await Bun.sleep(3000);

  const second = await new Guest('second', 'volt-s0', ['restore', 'snap']).isUp();
  const later = await second.grown(atSave);
  say('second-streams', await second.hasNoStreams());
  say('second', await second.describe());
  say('second-counters', { atSave, later });
  const lasting = second.stream();
  await poll(
    () => lasting.echoed,
    (bytes) => bytes > 100_000,
  );
  say('live', JSON.parse(second.ctl('--json', 'snapshot', 'snap', '--diff', '--live').trim()) as unknown);
  sh('cp root root.saved');
  const atLive = await second.counters();
  await second.grown(atLive);
  const beforeMore = lasting.echoed;
  await poll(
    () => lasting.echoed,
    (bytes) => bytes > beforeMore + 100_000,
  );
  say('second-stream-lasts', !lasting.hasEnded);
  say('second-complaints', await second.complaints());

  say(
    'clone-base',
    JSON.parse(second.ctl('--json', 'snapshot', 'snap', '--diff', '--stop').trim()) as unknown,
  );
  say('second-exit', await second.exited);
  const clones = ['c1', 'c2', 'c3'].map((name, i) => {
    makeNetwork(`volt-s${i + 1}`);
    return new Guest(name, `volt-s${i + 1}`, [
      ...['restore', 'snap', '--net', `id=net0,tap=tap0,mac=${macOf(name)}`],
      ...[
        '--disk',
        `id=root,path=root,overlay=root.${name}`,
        '--disk',
        `id=raw,path=raw,overlay=raw.${name}`,
      ],
    ]);
  });
  await Promise.all(clones.map((clone) => clone.isUp()));
  const atClone = await Promise.all(clones.map((clone) => clone.counters()));
  await Promise.all(clones.map((clone, i) => clone.grown(atClone[i]!)));
  for (const clone of clones) say(clone.name, await clone.describe());
  for (const clone of clones) say(`${clone.name}-streams`, await clone.hasNoStreams());
  for (const clone of clones) say(`${clone.name}-fsck`, await clone.finish());
  for (const clone of clones) say(`${clone.name}-mac`, (await clone.macAfterRebind()) === macOf(clone.name));
  for (const clone of clones) {
    clone.ctl('stop');
    say(`${clone.name}-exit`, await clone.exited);
    materializeOverlay(at('root'), at(`root.${clone.name}`), at(`whole.${clone.name}`));
    const { exitCode } = Bun.spawnSync(['e2fsck', '-fn', at(`whole.${clone.name}`)]);
    say(`${clone.name}-host-fsck`, exitCode);
  }
} catch (error) {
  for (const guest of guests) {
    console.error(`${guest.name}: ${guest.log.slice(-2000)}`);
    const words = [['where'], ['vcpus'], ['devices']];
    for (const each of words)
      console.error(Bun.spawnSync([volt, 'ctl', at(`${guest.name}.sock`), ...each]).stdout.toString());
  }
  throw error;
} finally {
  for (const guest of guests) guest.kill();
  for (const server of servers) server.kill();
  for (const name of namespaces) Bun.spawnSync(['ip', 'netns', 'del', name]);
  rmSync(folder, { recursive: true, force: true });
}
process.exit(0);
