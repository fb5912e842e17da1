/** What a snapshot needs and the sandbox allows no more; its own code is loaded when one is taken. */
import { prepareCopyThreads } from '../ffi/copy-threads.ts';

/** Call it before the sandbox is entered, for a guest with a control socket. Throws SyscallError. */
export function prepareSnapshots(): void {
  prepareCopyThreads();
}
