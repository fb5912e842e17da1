/**
 * Irqfds, ioeventfds and interrupt routes that change while the guest runs, as one thread asks KVM for them. The
 * calls allocate nothing, so that vCPU threads can make them. (api.rst, KVM_IRQFD, KVM_IOEVENTFD,
 * KVM_SET_GSI_ROUTING)
 *
 * SAFETY: KVM reads each ioctl's argument, which this object owns, only during the call.
 */
import { putU64, viewOf } from '../binary/bytes.ts';
import { signalEventFd, takeEventFd } from '../ffi/epoll.ts';
import { checked, libc } from '../ffi/libc.ts';
import { POLL, pollFd } from '../ffi/poll.ts';
import { IOAPIC_GSI_COUNT, ISA_IRQ_COUNT } from '../machine/irqs.ts';
import {
  IOCTL,
  IOEVENTFD,
  IOEVENTFD_FLAG,
  IRQ_ROUTING,
  IRQ_ROUTING_ENTRY,
  IRQ_ROUTING_TYPE,
  IRQFD,
  IRQFD_FLAG,
} from './abi.ts';
import { IRQCHIP_ID } from './state-abi.ts';

const PINS_PER_PIC = 8;

export class InterruptWiring {
  readonly #vmFd: number;
  readonly #irqfd = new Uint8Array(IRQFD.size);
  readonly #irqfdView = viewOf(this.#irqfd);
  readonly #ioeventfd = new Uint8Array(IOEVENTFD.size);
  readonly #ioeventfdView = viewOf(this.#ioeventfd);
  readonly #routes: Uint8Array;
  readonly #routesView: DataView;
  readonly #fixedRoutes: number;
  #count = 0;

  /** `messages`: how many message-signalled interrupts there are at most. */
  constructor(vmFd: number, messages: number) {
    this.#vmFd = vmFd;
    const entries = IOAPIC_GSI_COUNT + ISA_IRQ_COUNT + messages;
    this.#routes = new Uint8Array(IRQ_ROUTING.size + entries * IRQ_ROUTING_ENTRY.size);
    this.#routesView = viewOf(this.#routes);
    this.#addDefaultRoutes();
    this.#fixedRoutes = this.#count;
  }

  /** From now on a signal of eventfd `fd` is interrupt `gsi`. Throws SyscallError. */
  attach(fd: number, gsi: number): void {
    this.#setIrqfd(fd, gsi, 0);
  }

  /** Ends that. Once this returns, KVM delivers nothing that is signalled later. Throws SyscallError. */
  detach(fd: number, gsi: number): void {
    this.#setIrqfd(fd, gsi, IRQFD_FLAG.deassign);
  }

  /**
   * A level-triggered `attach`: a signal asserts the interrupt, the guest's end of interrupt deasserts it and
   * signals `resampleFd`. Throws SyscallError.
   */
  attachLevel(fd: number, gsi: number, resampleFd: number): void {
    this.#irqfdView.setUint32(IRQFD.resampleFd, resampleFd, true);
    this.#setIrqfd(fd, gsi, IRQFD_FLAG.resample);
  }

  /** A guest write of any size to `address` signals `fd` instead of causing an exit. False: KVM refuses it. */
  addNotification(address: number, fd: number): boolean {
    return this.#setIoeventfd(address, fd, 0);
  }

  removeNotification(address: number, fd: number): void {
    this.#setIoeventfd(address, fd, IOEVENTFD_FLAG.deassign);
  }

  /** Begins a table of routes, with the pins of the interrupt controllers as KVM has them by default. */
  beginRoutes(): void {
    this.#count = this.#fixedRoutes;
  }

  addMessageRoute(gsi: number, addressLow: number, addressHigh: number, data: number): void {
    const at = this.#addRoute(gsi, IRQ_ROUTING_TYPE.msi);
    this.#routesView.setUint32(at + IRQ_ROUTING_ENTRY.addressLow, addressLow, true);
    this.#routesView.setUint32(at + IRQ_ROUTING_ENTRY.addressHigh, addressHigh, true);
    this.#routesView.setUint32(at + IRQ_ROUTING_ENTRY.data, data, true);
  }

  /** KVM_SET_GSI_ROUTING: replaces KVM's table. Throws SyscallError. */
  commitRoutes(): void {
    this.#routesView.setUint32(IRQ_ROUTING.count, this.#count, true);
    checked(libc.ioctl(this.#vmFd, IOCTL.setGsiRouting, this.#routes), 'KVM_SET_GSI_ROUTING');
  }

  isSignalled(fd: number): boolean {
    return pollFd(fd, POLL.in, 0) > 0;
  }

  take(fd: number): boolean {
    return takeEventFd(fd);
  }

  signal(fd: number): void {
    signalEventFd(fd);
  }

  #setIrqfd(fd: number, gsi: number, flags: number): void {
    this.#irqfdView.setInt32(IRQFD.fd, fd, true);
    this.#irqfdView.setUint32(IRQFD.gsi, gsi, true);
    this.#irqfdView.setUint32(IRQFD.flags, flags, true);
    checked(libc.ioctl(this.#vmFd, IOCTL.irqfd, this.#irqfd), 'KVM_IRQFD');
  }

  #setIoeventfd(address: number, fd: number, flags: number): boolean {
    putU64(this.#ioeventfdView, IOEVENTFD.addr, address);
    this.#ioeventfdView.setInt32(IOEVENTFD.fd, fd, true);
    this.#ioeventfdView.setUint32(IOEVENTFD.flags, flags, true);
    return libc.ioctl(this.#vmFd, IOCTL.ioeventfd, this.#ioeventfd) >= 0;
  }

  /** GSI n is pin n of the I/O APIC, and of the PICs below 16. (Linux arch/x86/kvm/irq_comm.c, default_routing) */
  #addDefaultRoutes(): void {
    for (let gsi = 0; gsi < IOAPIC_GSI_COUNT; gsi++) {
      this.#addPinRoute(gsi, IRQCHIP_ID.ioapic, gsi);
      if (gsi >= ISA_IRQ_COUNT) continue;
      const pic = gsi < PINS_PER_PIC ? IRQCHIP_ID.picMaster : IRQCHIP_ID.picSlave;
      this.#addPinRoute(gsi, pic, gsi % PINS_PER_PIC);
    }
  }

  #addPinRoute(gsi: number, irqchip: number, pin: number): void {
    const at = this.#addRoute(gsi, IRQ_ROUTING_TYPE.irqchip);
    this.#routesView.setUint32(at + IRQ_ROUTING_ENTRY.irqchip, irqchip, true);
    this.#routesView.setUint32(at + IRQ_ROUTING_ENTRY.pin, pin, true);
  }

  #addRoute(gsi: number, type: number): number {
    const at = IRQ_ROUTING.size + this.#count++ * IRQ_ROUTING_ENTRY.size;
    this.#routesView.setUint32(at + IRQ_ROUTING_ENTRY.gsi, gsi, true);
    this.#routesView.setUint32(at + IRQ_ROUTING_ENTRY.type, type, true);
    return at;
  }
}
