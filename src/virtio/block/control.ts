/** The file of a running disk, on the main thread. */
import type { ImageFile } from '../host/image-files.ts';
import type { BlockConfig } from './spec.ts';

export class DiskControl implements Disposable {
  readonly #config: BlockConfig;
  readonly #open: (config: BlockConfig) => ImageFile;
  #file: ImageFile;
  #path: string;

  /** Opens the configured file. Throws VoltError 'image'. */
  constructor(config: BlockConfig, open: (config: BlockConfig) => ImageFile) {
    this.#config = config;
    this.#open = open;
    this.#file = open(config);
    this.#path = config.path;
  }

  get path(): string {
    return this.#path;
  }

  get file(): ImageFile {
    return this.#file;
  }

  /** Opens another file with the disk's settings; the caller owns it. Throws VoltError 'image'. */
  openOther(path: string): ImageFile {
    return this.#open({ ...this.#config, path });
  }

  /** The device uses `file` now: closes the one before. */
  use(file: ImageFile, path: string): void {
    this.#file[Symbol.dispose]();
    this.#file = file;
    this.#path = path;
  }

  [Symbol.dispose](): void {
    this.#file[Symbol.dispose]();
  }
}
