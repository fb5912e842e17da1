/** This machine's system with changes that only it sees and that end with it: an overlay in a mount namespace. */
import { once } from 'node:events';
import { spawn, type ChildProcess } from 'node:child_process';

const SET_UP = `
set -e
base=$(mktemp -d)
mount -t tmpfs none "$base"
mkdir "$base/upper" "$base/work" "$base/root"
mount -t overlay overlay -o "lowerdir=/,upperdir=$base/upper,workdir=$base/work" "$base/root"
mount --rbind /dev "$base/root/dev"
mount -t proc proc "$base/root/proc"
mount -t tmpfs none "$base/root/run"
echo "$base"
read -r _ || true
umount -R "$base"
rmdir "$base"
`;

/** Overlays need root in the first user namespace. */
export const canMakeSystems =
  process.getuid?.() === 0 &&
  Bun.which('dpkg') !== null &&
  Bun.spawnSync([
    'unshare',
    '-m',
    'sh',
    '-c',
    'd=$(mktemp -d) && mount -t tmpfs none $d && mkdir $d/u $d/w $d/r && mount -t overlay o -o lowerdir=/,upperdir=$d/u,workdir=$d/w $d/r && umount $d/r $d && rmdir $d',
  ]).success;

export interface Ran {
  /** stdout and stderr, each as it came. */
  readonly stdout: string;
  readonly stderr: string;
  readonly exitCode: number;
}

export class DebianSystem implements AsyncDisposable {
  readonly #holder: ChildProcess;
  readonly #root: string;

  private constructor(holder: ChildProcess, root: string) {
    this.#holder = holder;
    this.#root = root;
  }

  static async start(): Promise<DebianSystem> {
    const holder = spawn('unshare', ['--mount', 'sh', '-c', SET_UP], { stdio: ['pipe', 'pipe', 'inherit'] });
    const [first] = (await once(holder.stdout, 'data')) as [Buffer];
    return new DebianSystem(holder, `${first.toString().trim()}/root`);
  }

  /** Runs a shell command in it. */
  async run(command: string): Promise<Ran> {
    await using child = Bun.spawn(
      ['nsenter', '--mount', '--target', String(this.#holder.pid), 'chroot', this.#root, 'sh', '-c', command],
      {
        stdin: 'ignore',
        stdout: 'pipe',
        stderr: 'pipe',
        timeout: 120_000,
        killSignal: 'SIGKILL',
        env: { PATH: '/usr/sbin:/usr/bin:/sbin:/bin', LC_ALL: 'C.UTF-8', DEBIAN_FRONTEND: 'noninteractive' },
      },
    );
    const [stdout, stderr] = await Promise.all([
      new Response(child.stdout).text(),
      new Response(child.stderr).text(),
    ]);
    return { stdout, stderr, exitCode: await child.exited };
  }

  async [Symbol.asyncDispose](): Promise<void> {
    const exited = once(this.#holder, 'exit');
    this.#holder.stdin!.end('\n');
    await exited;
  }
}
