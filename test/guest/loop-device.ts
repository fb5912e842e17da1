/** Loop devices: real block devices over files, for tests that run as root. */
import { closeSync, openSync, statSync, truncateSync } from 'node:fs';
import { kvmOpens } from '../cli/volt-process.ts';

export class LoopDevice implements Disposable {
  /** Of the device. */
  readonly path: string;
  /** Of the file behind it. */
  readonly file: string;

  /** `flags` of losetup(8). Throws where the host has no loop devices. */
  constructor(file: string, bytes: number, flags: readonly string[] = []) {
    this.file = file;
    closeSync(openSync(file, 'a'));
    truncateSync(file, bytes);
    const { stdout, stderr, exitCode } = Bun.spawnSync(['losetup', '--show', '--find', ...flags, file]);
    if (exitCode !== 0) throw new Error(`Cannot make a loop device: ${stderr.toString().trim()}`);
    this.path = stdout.toString().trim();
  }

  /** Bytes that the file takes on its disk. */
  get usedBytes(): number {
    Bun.spawnSync(['sync', this.file]);
    return statSync(this.file).blocks * 512;
  }

  [Symbol.dispose](): void {
    Bun.spawnSync(['losetup', '--detach', this.path]);
  }
}

/** Whether this process may make loop devices and guests. */
export const loopsWork =
  kvmOpens && process.getuid?.() === 0 && Bun.spawnSync(['losetup', '--find']).exitCode === 0;
