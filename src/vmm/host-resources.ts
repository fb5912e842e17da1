/** What a guest keeps of its host across its resets. */
import { randomBytes } from '../ffi/random.ts';
import { KvmSystem } from '../kvm/system.ts';
import { VM_GENERATION_ID_BYTES } from '../machine/layout.ts';
import { OpenDevices } from '../virtio/host/open.ts';
import type { VcpuScheduling } from './vcpu/scheduling.ts';

let prepared: KvmSystem | undefined;

/** Opens /dev/kvm and creates a VM for the next guest of this process. Throws like `HostResources.kvm`. */
export function prepareKvm(): void {
  prepared ??= new KvmSystem();
  prepared.prepareVm();
  // It keeps the answer.
  prepared.supportedCpuid();
}

function takePrepared(): KvmSystem | undefined {
  const taken = prepared;
  prepared = undefined;
  return taken;
}

/**
 * /dev/kvm, the files, sockets and helper processes of devices, and how the threads of vCPUs are scheduled.
 * The machine that is made after a reset gets the same ones, because inside the sandbox nothing can be opened
 * any more.
 */
export class HostResources implements Disposable {
  readonly devices = new OpenDevices();
  /** What relative paths of the configuration start from. */
  readonly directory = process.cwd();
  /** How the threads of vCPUs are scheduled, by index: the control socket may have changed it. */
  readonly scheduling = new Map<number, VcpuScheduling>();
  #kvm: KvmSystem | undefined;
  #vmGenerationId: Uint8Array | undefined;

  /** Opened when it is first needed. Throws SyscallError with advice, and VoltError 'host'. */
  get kvm(): KvmSystem {
    return (this.#kvm ??= takePrepared() ?? new KvmSystem());
  }

  /**
   * The VM generation ID: 16 bytes that no other guest of any host has, nor this one once it is restored from a
   * snapshot. A reset does not change it. (acpi/dsdt.ts)
   */
  get vmGenerationId(): Uint8Array {
    return (this.#vmGenerationId ??= randomBytes(VM_GENERATION_ID_BYTES));
  }

  /** After all machines that used them are disposed of. */
  [Symbol.dispose](): void {
    this.devices[Symbol.dispose]();
    this.#kvm?.[Symbol.dispose]();
  }
}
