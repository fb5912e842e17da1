/** `--timeline=FILE.json`: a trace of a guest from the start of its process to its end. */
import { constants, openSync } from 'node:fs';
import { OwnedFd } from '../../ffi/file.ts';
import { useRecorder } from '../../vmm/trace/active-recorder.ts';
import { writeTrace } from '../../vmm/trace/write-trace.ts';
import type { VirtualMachine } from '../../vmm/virtual-machine.ts';
import { VoltError } from '../../volt-error.ts';

/** What a guest does may say what it is about. */
const PRIVATE_FILE = 0o600;
const NEW_FILE = constants.O_WRONLY | constants.O_CREAT | constants.O_TRUNC;

/** The file of `--timeline=FILE`, while a guest runs. */
export class TimelineFile implements Disposable {
  readonly #path: string;
  readonly #file: OwnedFd;
  #use: ReturnType<typeof useRecorder>;
  #vm: VirtualMachine;

  /** Opens the file and records `vm`. Call it before the machine starts. Throws VoltError 'host'. */
  constructor(path: string, vm: VirtualMachine) {
    this.#path = path;
    try {
      this.#file = new OwnedFd(openSync(path, NEW_FILE, PRIVATE_FILE));
    } catch (error) {
      throw this.#failed(error);
    }
    this.#vm = vm;
    this.#use = useRecorder(vm);
  }

  /** The guest has reset itself: the file is to have its next life. Call it before that starts. */
  attach(vm: VirtualMachine): void {
    this.#use[Symbol.dispose]();
    this.#vm = vm;
    this.#use = useRecorder(vm);
  }

  /** Writes what was recorded. Throws VoltError 'host'. */
  write(): void {
    const { timeline } = this.#vm;
    const phases = timeline.phases();
    try {
      writeTrace(this.#file.fd, this.#use.recorder.result(phases, timeline.startedAt));
    } catch (error) {
      throw this.#failed(error);
    }
  }

  [Symbol.dispose](): void {
    this.#use[Symbol.dispose]();
    this.#file.close();
  }

  #failed(error: unknown): VoltError {
    const { code } = error as NodeJS.ErrnoException;
    return new VoltError(
      'host',
      `Cannot write --timeline=${this.#path}: ${code ?? String(error)}; name a file that you may write`,
      { cause: error },
    );
  }
}
