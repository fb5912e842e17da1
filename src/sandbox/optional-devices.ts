/** Apart from the rules, because a running Volt needs these and not the table. */

/**
 * Devices whose system calls are forbidden unless the guest has such a device; `files`: files that clients name while
 * the guest runs; `control`: a control socket; `pci`: a PCI bus.
 */
export const OPTIONAL_DEVICES = ['vsock', 'share', 'files', 'control', 'pci', 'mem'] as const;
export type OptionalDevice = (typeof OPTIONAL_DEVICES)[number];

/**
 * Replaces a call's number in a filter to forbid that call. No call has this number: the x32 ABI, which
 * begins below it, is refused first.
 */
export const NEVER = 0xffff_ffff;
