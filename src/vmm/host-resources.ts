/** What a guest keeps of its host across its resets. */
import { KvmSystem } from '../kvm/system.ts';
import { OpenDevices } from '../virtio/host/open.ts';

/**
 * What a guest has of its host for as long as it lives, across its resets: /dev/kvm and the files, sockets and helper
 * processes of its devices. The machine that is made after a reset gets the same ones, because inside the sandbox
 * nothing can be opened any more.
 */
export class HostResources implements Disposable {
  readonly devices = new OpenDevices();
  #kvm: KvmSystem | undefined;

  /** Opened when it is first needed. Throws SyscallError with advice, and VoltError 'host'. */
  get kvm(): KvmSystem {
    return (this.#kvm ??= new KvmSystem());
  }

  /** After all machines that used them are disposed of. */
  [Symbol.dispose](): void {
    this.devices[Symbol.dispose]();
    this.#kvm?.[Symbol.dispose]();
  }
}
