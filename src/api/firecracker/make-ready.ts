/**
 * Makes ready, before a client starts its guest, what does not depend on the guest: the Worker of the BSP, /dev/kvm with a
 * VM, and while no request comes, the code itself, by a boot that nobody sees.
 */
import { prepareWorker } from '../../runtime/prepared-workers.ts';
import { prepareKvm } from '../../vmm/host-resources.ts';
import { VCPU_WORKER } from '../../vmm/vcpu/worker-pool.ts';

/** Requests of a client that configures a guest follow each other faster; a rehearsal would delay them. */
const IDLE_MS = 40;

export class Readiness {
  #timer: ReturnType<typeof setTimeout> | undefined;
  #rehearsal: Promise<void> | undefined;
  #isOver = false;

  /** Call it once the API listens. What fails here fails again when the guest is started, which reports it. */
  begin(): void {
    prepare();
    this.#wait();
  }

  /** A request has come. */
  noteRequest(): void {
    if (this.#timer) this.#wait();
  }

  /** Resolves when nothing is under way any more; nothing begins after this. Call it before a guest is made. */
  async end(): Promise<void> {
    this.#isOver = true;
    clearTimeout(this.#timer);
    this.#timer = undefined;
    await this.#rehearsal;
  }

  #wait(): void {
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => {
      this.#timer = undefined;
      this.#rehearsal = this.#rehearse();
    }, IDLE_MS);
  }

  async #rehearse(): Promise<void> {
    try {
      const { rehearse } = await import('../pool/rehearsal.ts');
      if (this.#isOver) return;
      await rehearse();
      prepare();
    } catch {
      // As in `begin`.
    }
  }
}

function prepare(): void {
  try {
    prepareWorker(VCPU_WORKER);
    prepareKvm();
  } catch {
    // As in `begin`.
  }
}
