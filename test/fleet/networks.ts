/** Network namespaces that are joined by a bridge in one more, and reach nothing else. */
export class BridgedNetworks implements Disposable {
  readonly #prefix = `volt-fleet-${process.pid}`;
  readonly #count: number;

  constructor(count: number) {
    this.#count = count;
    const hub = `${this.#prefix}-hub`;
    run('ip', 'netns', 'add', hub);
    run('ip', '-n', hub, 'link', 'add', 'br0', 'type', 'bridge');
    run('ip', '-n', hub, 'link', 'set', 'br0', 'up');
    for (let i = 0; i < count; i++) {
      const name = this.#name(i);
      run('ip', 'netns', 'add', name);
      run('ip', '-n', hub, 'link', 'add', `to${i}`, 'type', 'veth', 'peer', 'name', 'eth0', 'netns', name);
      run('ip', '-n', hub, 'link', 'set', `to${i}`, 'master', 'br0', 'up');
      run('ip', '-n', name, 'addr', 'add', `${this.address(i)}/24`, 'dev', 'eth0');
      run('ip', '-n', name, 'link', 'set', 'eth0', 'up');
      run('ip', '-n', name, 'link', 'set', 'lo', 'up');
    }
  }

  address(index: number): string {
    return `10.97.0.${index + 1}`;
  }

  path(index: number): string {
    return `/run/netns/${this.#name(index)}`;
  }

  #name(index: number): string {
    return `${this.#prefix}-${index}`;
  }

  [Symbol.dispose](): void {
    const names = Array.from({ length: this.#count }, (_, i) => this.#name(i));
    for (const name of [...names, `${this.#prefix}-hub`]) Bun.spawnSync(['ip', 'netns', 'del', name]);
  }
}

function run(...argv: readonly string[]): void {
  const { exitCode, stderr } = Bun.spawnSync([...argv], { stderr: 'pipe' });
  if (exitCode !== 0) throw new Error(`Cannot run ${argv.join(' ')}: ${stderr}`);
}
