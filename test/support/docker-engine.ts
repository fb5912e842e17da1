/** A Docker engine of a test's own: its own folder, socket and network namespace, with the engine's default profiles. */
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { TemporaryFolder } from '../cli/volt-process.ts';

/** Whether an engine may be tried here. Whether it starts depends on the host's cgroups as well. */
export const canRunEngine =
  process.getuid?.() === 0 && ['dockerd', 'docker', 'runc'].every((program) => Bun.which(program) !== null);

export interface Ran {
  readonly stdout: string;
  readonly stderr: string;
  readonly exitCode: number;
}

/** OCI runtime-spec, config-linux.md, "Seccomp". */
export interface SeccompProfile {
  readonly syscalls: readonly { readonly names: readonly string[] }[];
}

/** What `docker info` says of the limits that containers may have. */
interface EngineInfo {
  readonly MemoryLimit: boolean;
  readonly PidsLimit: boolean;
}

const START_MS = 60_000;

export class DockerEngine implements AsyncDisposable {
  readonly folder = new TemporaryFolder();
  readonly #process: Bun.Subprocess;

  private constructor(network: string | undefined, flags: readonly string[]) {
    const at = (name: string) => this.folder.at(name);
    // Containers' sockets have paths of at most 107 bytes.
    mkdirSync(at('run'));
    // Not the host's.
    writeFileSync(at('daemon.json'), '{}');
    const prefix = network === undefined ? ['unshare', '--net'] : ['nsenter', `--net=${network}`];
    const paths = [
      ['--data-root', at('data')],
      ['--exec-root', at('run')],
      ['--pidfile', at('pid')],
      ['--host', `unix://${at('d.sock')}`],
    ].flat();
    const settings =
      network === undefined ? ['--bridge=none', '--iptables=false'] : ['--iptables=true', '--ip-masq=true'];
    this.#process = Bun.spawn(
      [
        ...prefix,
        'dockerd',
        ...paths,
        '--config-file',
        at('daemon.json'),
        '--storage-driver=vfs',
        ...settings,
        ...flags,
      ],
      { stdin: 'ignore', stdout: Bun.file(at('log')), stderr: Bun.file(at('log')) },
    );
  }

  /**
   * Starts an engine, in the network namespace of that path or else in one that has no network, and waits until it
   * answers. Throws with what it logged when it does not start.
   */
  static async start(network?: string, flags: readonly string[] = []): Promise<DockerEngine> {
    const engine = new DockerEngine(network, flags);
    const deadline = Date.now() + START_MS;
    while ((await engine.run('version')).exitCode !== 0) {
      if (engine.#process.exitCode === null && Date.now() < deadline) {
        await Bun.sleep(100);
        continue;
      }
      const log = readFileSync(join(engine.folder.path, 'log'), 'utf8').split('\n').slice(-6).join('\n');
      await engine[Symbol.asyncDispose]();
      throw new Error(`Cannot start dockerd:\n${log}`);
    }
    return engine;
  }

  /** An engine whose containers may have limits; undefined, with the reason on stderr, where this host gives none. */
  static async startIfPossible(): Promise<DockerEngine | undefined> {
    if (!canRunEngine) return undefined;
    let engine: DockerEngine | undefined;
    try {
      engine = await DockerEngine.start();
      const { stdout } = await engine.run('info', '--format={{json .}}');
      const { MemoryLimit, PidsLimit } = JSON.parse(stdout) as EngineInfo;
      if (MemoryLimit && PidsLimit) return engine;
      console.error(
        'Docker tests are skipped: cgroups here limit neither memory nor the number of processes',
      );
    } catch (error) {
      console.error(`Docker tests are skipped: ${String(error)}`);
    }
    await engine?.[Symbol.asyncDispose]();
    return undefined;
  }

  /** Runs `docker` with these arguments to its end. */
  async run(...args: readonly string[]): Promise<Ran> {
    await using child = Bun.spawn(['docker', '--host', `unix://${this.folder.at('d.sock')}`, ...args], {
      env: { ...process.env, DOCKER_CONFIG: this.folder.path },
      stdin: 'ignore',
      stdout: 'pipe',
      stderr: 'pipe',
    });
    const [stdout, stderr] = await Promise.all([
      new Response(child.stdout).text(),
      new Response(child.stderr).text(),
    ]);
    return { stdout, stderr, exitCode: await child.exited };
  }

  /** Waits until a container has written this text. */
  async waitForLog(container: string, text: string): Promise<void> {
    const deadline = Date.now() + START_MS;
    for (;;) {
      const { stdout, stderr } = await this.run('logs', container);
      if (stdout.includes(text)) return;
      if (Date.now() > deadline) throw new Error(`${container} does not say ${text}: ${stdout}${stderr}`);
      await Bun.sleep(100);
    }
  }

  /** The system call filter that a running container has, in the form that `--security-opt seccomp=FILE` takes. */
  async seccompProfile(container: string): Promise<SeccompProfile> {
    const { stdout: id } = await this.run('inspect', '--format={{.Id}}', container);
    const bundle = `run/containerd/daemon/io.containerd.runtime.v2.task/moby/${id.trim()}/config.json`;
    const bundled = JSON.parse(readFileSync(this.folder.at(bundle), 'utf8')) as {
      linux: { seccomp: SeccompProfile };
    };
    return bundled.linux.seccomp;
  }

  /** Kills the engine and everything it has started, as a crash of its host would. */
  async crash(): Promise<void> {
    const { stdout: ids } = await this.run('ps', '--quiet');
    const containers = ids.trim().split('\n').filter(Boolean);
    const { stdout: pids } = await this.run('inspect', '--format={{.State.Pid}}', ...containers);
    this.#process.kill('SIGKILL');
    await this.#process.exited;
    for (const pid of [...this.#processes(), ...pids.trim().split('\n').filter(Boolean).map(Number)]) {
      try {
        process.kill(pid, 'SIGKILL');
      } catch {
        // It has gone with the others.
      }
    }
  }

  /** containerd and its shims have the engine's folder, which is a test's own, on their command lines. */
  #processes(): number[] {
    const folder = this.folder.path;
    return [...new Bun.Glob('[0-9]*/cmdline').scanSync({ cwd: '/proc', onlyFiles: false })].flatMap(
      (path) => {
        try {
          const words = readFileSync(`/proc/${path}`, 'latin1');
          return words.includes(folder) ? [Number(path.split('/')[0])] : [];
        } catch {
          return [];
        }
      },
    );
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#process.kill('SIGTERM');
    await this.#process.exited;
    const mounts = readFileSync('/proc/mounts', 'latin1')
      .split('\n')
      .map((line) => line.split(' ')[1] ?? '');
    for (const mount of mounts.filter((path) => path.startsWith(this.folder.path)).reverse()) {
      Bun.spawnSync(['umount', '--lazy', mount]);
    }
    this.folder[Symbol.dispose]();
  }
}
