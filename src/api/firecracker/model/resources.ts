/**
 * What clients have configured before the guest starts, with Firecracker's rules and errors. Pure: what only the host can
 * say comes from `HostChecks`.
 */
import type { Output } from '../../../json/output.ts';
import type {
  BalloonBody,
  BootSourceBody,
  DriveBody,
  EntropyBody,
  HugePagesName,
  MachineConfigUpdateBody,
  MemoryHotplugBody,
  MmdsConfigBody,
  NetworkInterfaceBody,
  PmemBody,
  RateLimiterBody,
  SerialBody,
  StaticTemplateName,
  TokenBucketBody,
  VsockBody,
} from '../request/bodies.ts';
import type { CpuTemplateBody } from '../request/cpu-template.ts';
import { ActionFault } from './fault.ts';

/** Each gives the reason why a file or an interface cannot be used, in the words of Rust's io::Error; undefined: it can. */
export interface HostChecks {
  readable(path: string): string | undefined;
  disk(path: string, readOnly: boolean): string | undefined;
  /** False also where there is no such file. */
  isEmpty(path: string): boolean;
  tap(name: string): string | undefined;
  vsock(path: string): string | undefined;
  /** The socket of a vhost-user back-end. */
  socket(path: string): string | undefined;
}

export interface MachineSettings {
  readonly vcpu_count: number;
  readonly mem_size_mib: bigint;
  readonly smt: boolean;
  readonly cpu_template: StaticTemplateName | null;
  readonly track_dirty_pages: boolean;
  readonly huge_pages: HugePagesName;
}

const DEFAULT_MACHINE: MachineSettings = {
  vcpu_count: 1,
  mem_size_mib: 128n,
  smt: false,
  cpu_template: null,
  track_dirty_pages: false,
  huge_pages: 'None',
};
const MAX_VCPUS = 32;
const DEFAULT_MMDS_ADDRESS = '169.254.169.254';
const MTU = { min: 68, max: 65_535 } as const;

export class VmResources {
  readonly #checks: HostChecks;
  #machine = DEFAULT_MACHINE;
  #bootSource: BootSourceBody | undefined;
  #drives: readonly DriveBody[] = [];
  #interfaces: readonly NetworkInterfaceBody[] = [];
  #pmem: readonly PmemBody[] = [];
  #balloon: BalloonBody | undefined;
  #vsock: VsockBody | undefined;
  #entropy: EntropyBody | undefined;
  #mmds: (MmdsConfigBody & { readonly ipv4_address: string }) | undefined;
  #cpuTemplate: CpuTemplateBody | undefined;
  #serial: SerialBody = { serial_out_path: null, rate_limiter: null };

  constructor(checks: HostChecks) {
    this.#checks = checks;
  }

  setBootSource(body: BootSourceBody): void {
    const kernel = this.#checks.readable(body.kernel_image_path);
    if (kernel !== undefined)
      throw new ActionFault(`Boot source error: The kernel file cannot be opened: ${kernel}`);
    const initrd = body.initrd_path === null ? undefined : this.#checks.readable(body.initrd_path);
    if (initrd !== undefined)
      throw new ActionFault(
        `Boot source error: The initrd file cannot be opened due to invalid path or invalid permissions. ${initrd}`,
      );
    if (body.boot_args !== null && Buffer.byteLength(body.boot_args) > MAX_CMDLINE_BYTES)
      throw new ActionFault(
        'Boot source error: The kernel command line is invalid: Inserting string would make command line too long.',
      );
    this.#bootSource = body;
  }

  updateMachine(update: MachineConfigUpdateBody): void {
    const now = this.#machine;
    const next: MachineSettings = {
      vcpu_count: update.vcpu_count ?? now.vcpu_count,
      mem_size_mib: update.mem_size_mib ?? now.mem_size_mib,
      smt: update.smt ?? now.smt,
      cpu_template:
        update.cpu_template === null
          ? now.cpu_template
          : update.cpu_template === 'None'
            ? null
            : update.cpu_template,
      track_dirty_pages: update.track_dirty_pages ?? now.track_dirty_pages,
      huge_pages: update.huge_pages ?? now.huge_pages,
    };
    const { vcpu_count: count, smt, mem_size_mib: mib } = next;
    if (count === 0 || count > MAX_VCPUS || (smt && count > 1 && count % 2 === 1))
      throw new ActionFault(
        `Machine config error: The number of vCPUs must be greater than 0, less than ${MAX_VCPUS} and must be 1 or an even number if SMT is enabled.`,
      );
    if (mib === 0n || (next.huge_pages !== 'None' && mib % 2n !== 0n))
      throw new ActionFault(
        'Machine config error: The memory size (MiB) is either 0, or not a multiple of the configured page size.',
      );
    if (this.#balloon && mib < BigInt(this.#balloon.amount_mib))
      throw new ActionFault(
        'Machine config error: The memory size (MiB) is smaller than the previously set balloon device target size.',
      );
    // One template replaces the other, whichever kind it is.
    if (update.cpu_template !== null) this.#cpuTemplate = undefined;
    this.#machine = next;
  }

  setCpuTemplate(template: CpuTemplateBody): void {
    this.#cpuTemplate = template;
    this.#machine = { ...this.#machine, cpu_template: null };
  }

  insertDrive(body: DriveBody): void {
    const refuse = (why: string) => new ActionFault(`Drive config error: ${why}`);
    const index = this.#drives.findIndex(({ drive_id: id }) => id === body.drive_id);
    if (body.is_root_device && this.#pmem.some(({ root_device: root }) => root))
      throw refuse('Attempt to add block as a root device while the root device defined as a pmem device');
    if (body.is_root_device && this.#drives[0]?.is_root_device && index !== 0)
      throw refuse('A root block device already exists!');
    this.#checkDrive(body);
    const drive = normalizeDrive(body);
    this.#drives = placeDrive(this.#drives, drive, index);
  }

  #checkDrive(body: DriveBody): void {
    const refuse = (why: string) =>
      new ActionFault(`Drive config error: Unable to create the virtio block device: ${why}`);
    const { path_on_host: path, socket } = body;
    if (path !== null && socket === null) {
      const problem = this.#checks.disk(path, body.is_read_only ?? false);
      if (problem !== undefined)
        throw refuse(`Virtio backend error: Error manipulating the backing file: ${problem} ${path}`);
      return;
    }
    const isVhostUser =
      socket !== null &&
      path === null &&
      body.is_read_only === null &&
      body.rate_limiter === null &&
      body.io_engine === null;
    if (!isVhostUser) throw refuse('Invalid block config.');
    const problem = this.#checks.socket(socket);
    if (problem !== undefined)
      throw refuse(
        `Vhost user backend error: Vhost-user error: Failed to connect to UDS Unix stream: ${problem}`,
      );
  }

  insertInterface(body: NetworkInterfaceBody): void {
    const refuse = (why: string) => new ActionFault(`Network config error: ${why}`);
    const sameMac = this.#interfaces.find(
      ({ guest_mac: mac, iface_id: id }) => mac !== null && mac === body.guest_mac && id !== body.iface_id,
    );
    if (sameMac) throw refuse(`The MAC address is already in use: ${sameMac.guest_mac}`);
    const { mtu } = body;
    if (mtu !== null && (mtu < MTU.min || mtu > MTU.max))
      throw refuse(
        `Could not create the network device: MTU ${mtu} is out of range [${MTU.min}, ${MTU.max}]`,
      );
    const others = this.#interfaces.filter(({ iface_id: id }) => id !== body.iface_id);
    // The interface's own tap is free again for the one that replaces it.
    const problem = others.some(({ host_dev_name: name }) => name === body.host_dev_name)
      ? BUSY
      : this.#checks.tap(body.host_dev_name);
    // The replaced interface is gone even if its successor cannot be made, as in Firecracker.
    this.#interfaces = others;
    if (problem !== undefined)
      throw refuse(
        `Could not create the network device: Open tap device failed: Error while creating ifreq structure: ${problem}. Invalid TUN/TAP Backend provided by ${body.host_dev_name}. Check our documentation on setting up the network devices.`,
      );
    this.#interfaces = [...others, normalizeInterface(body)];
  }

  insertPmem(body: PmemBody): void {
    const refuse = (why: string) => new ActionFault(`Pmem config error: ${why}`);
    if (body.root_device && this.#drives[0]?.is_root_device)
      throw refuse('Attempt to add pmem as a root device while the root device defined as a block device');
    const index = this.#pmem.findIndex(({ id }) => id === body.id);
    const otherRoot = this.#pmem.some(({ root_device: root }) => root);
    if (body.root_device && otherRoot && this.#pmem[index]?.root_device !== true)
      throw refuse('A root pmem device already exist');
    this.#pmem = index < 0 ? [...this.#pmem, body] : this.#pmem.map((each, i) => (i === index ? body : each));
  }

  setBalloon(body: BalloonBody): void {
    if (BigInt(body.amount_mib) > this.#machine.mem_size_mib)
      throw new ActionFault('Balloon config error: Amount of pages requested is too large.');
    this.#balloon = body;
  }

  setVsock(body: VsockBody): void {
    const problem = this.#vsock?.uds_path === body.uds_path ? undefined : this.#checks.vsock(body.uds_path);
    if (problem !== undefined)
      throw new ActionFault(
        `Vsock config error: Cannot create backend for vsock device: Error binding to the host-side Unix socket: ${problem}`,
      );
    this.#vsock = { ...body, vsock_id: null };
  }

  setEntropy({ rate_limiter }: EntropyBody): void {
    this.#entropy = { rate_limiter: normalizeLimiter(rate_limiter) };
  }

  setSerial(body: SerialBody): void {
    this.#serial = body;
  }

  setMemoryHotplug(body: MemoryHotplugBody): void {
    const problem = memoryHotplugProblem(body);
    if (problem !== undefined) throw new ActionFault(`Memory hotplug config error: ${problem}`);
    throw new ActionFault('The requested operation is not supported: memory hotplug');
  }

  setMmds(body: MmdsConfigBody): void {
    const refuse = (why: string) => new ActionFault(`MMMDS config error: ${why}`);
    const address = body.ipv4_address ?? DEFAULT_MMDS_ADDRESS;
    if (!isLinkLocal(address)) throw refuse('The MMDS IPv4 address is not link local.');
    if (body.network_interfaces.length === 0)
      throw refuse('The list of network interface IDs that allow forwarding MMDS requests is empty.');
    if (!body.network_interfaces.every((id) => this.#interfaces.some(({ iface_id: each }) => each === id)))
      throw refuse(
        'The list of network interface IDs provided contains at least one ID that does not correspond to any existing network interface.',
      );
    this.#mmds = { ...body, ipv4_address: address };
  }

  get machine(): MachineSettings {
    return this.#machine;
  }

  get bootSource(): BootSourceBody | undefined {
    return this.#bootSource;
  }

  get drives(): readonly DriveBody[] {
    return this.#drives;
  }

  get interfaces(): readonly NetworkInterfaceBody[] {
    return this.#interfaces;
  }

  get pmem(): readonly PmemBody[] {
    return this.#pmem;
  }

  /** Whether a file of persistent memory is empty: it cannot be mapped. */
  hasEmptyPmem(): boolean {
    return this.#pmem.some(({ path_on_host: path }) => this.#checks.isEmpty(path));
  }

  get balloon(): BalloonBody | undefined {
    return this.#balloon;
  }

  get vsock(): VsockBody | undefined {
    return this.#vsock;
  }

  get entropy(): EntropyBody | undefined {
    return this.#entropy;
  }

  get serial(): SerialBody {
    return this.#serial;
  }

  get mmds(): (MmdsConfigBody & { readonly ipv4_address: string }) | undefined {
    return this.#mmds;
  }

  get cpuTemplate(): CpuTemplateBody | undefined {
    return this.#cpuTemplate;
  }

  /** A drive, an interface or persistent memory has changed while the guest runs. */
  replaceDrive(body: DriveBody): void {
    const drive = normalizeDrive(body);
    this.#drives = this.#drives.map((each) => (each.drive_id === body.drive_id ? drive : each));
  }

  replaceInterface(body: NetworkInterfaceBody): void {
    const changed = normalizeInterface(body);
    this.#interfaces = this.#interfaces.map((each) => (each.iface_id === body.iface_id ? changed : each));
  }

  replacePmem(body: PmemBody): void {
    this.#pmem = this.#pmem.map((each) => (each.id === body.id ? body : each));
  }

  replaceBalloon(change: Partial<BalloonBody>): void {
    if (this.#balloon) this.#balloon = { ...this.#balloon, ...change };
  }

  /** What was set although Volt does not do it, a line each, so that a client's log shows it. */
  settingsWithoutEffect(): string[] {
    const lines: string[] = [];
    if (this.#balloon?.free_page_hinting)
      lines.push('Balloon hinting has no effect: the guest is not asked for its free pages.');
    return lines;
  }

  /** The answer to GET /machine-config. */
  describeMachine(): Output {
    const { cpu_template: template, ...rest } = this.#machine;
    const { vcpu_count, mem_size_mib, smt, track_dirty_pages, huge_pages } = rest;
    return {
      ...{ vcpu_count, mem_size_mib, smt },
      cpu_template: template ?? undefined,
      ...{ track_dirty_pages, huge_pages },
    };
  }

  /** The answer to GET /balloon; undefined without one. */
  describeBalloon(): Output | undefined {
    return this.#balloon && { ...this.#balloon };
  }

  /** The answer to GET /vm/config, which a configuration file may hold. */
  describeAll(): Output {
    return {
      balloon: this.describeBalloon() ?? null,
      drives: this.#drives.map((drive) => ({ ...drive })),
      'boot-source': {
        ...(this.#bootSource ?? { kernel_image_path: '', initrd_path: null, boot_args: null }),
      },
      'cpu-config': null,
      logger: null,
      'machine-config': this.describeMachine(),
      metrics: null,
      'mmds-config': this.#mmds ? { ...this.#mmds } : null,
      'network-interfaces': this.#interfaces.map((each) => ({ ...each })),
      vsock: this.#vsock ? { guest_cid: this.#vsock.guest_cid, uds_path: this.#vsock.uds_path } : null,
      entropy: this.#entropy ? { ...this.#entropy } : null,
      pmem: this.#pmem.map((each) => ({ ...each })),
      'memory-hotplug': null,
    };
  }
}

/** The kernel's command line with its final NUL. (arch/x86/include/asm/setup.h, COMMAND_LINE_SIZE) */
const MAX_CMDLINE_BYTES = 2047;
const BUSY = 'Device or resource busy (os error 16)';

function placeDrive(drives: readonly DriveBody[], drive: DriveBody, index: number): readonly DriveBody[] {
  if (index < 0) return drive.is_root_device ? [drive, ...drives] : [...drives, drive];
  const placed = drives.map((each, i) => (i === index ? drive : each));
  if (index > 0 && drive.is_root_device) [placed[0], placed[index]] = [placed[index]!, placed[0]!];
  return placed;
}

function normalizeDrive(body: DriveBody): DriveBody {
  // Of a vhost-user back-end the rest is not known.
  if (body.socket !== null) return body;
  return {
    ...body,
    is_read_only: body.is_read_only ?? false,
    rate_limiter: normalizeLimiter(body.rate_limiter),
    io_engine: body.io_engine ?? 'Sync',
  };
}

function normalizeInterface(body: NetworkInterfaceBody): NetworkInterfaceBody {
  return {
    ...body,
    rx_rate_limiter: normalizeLimiter(body.rx_rate_limiter),
    tx_rate_limiter: normalizeLimiter(body.tx_rate_limiter),
  };
}

/** A limiter as it is shown: without buckets that limit nothing, null if none is left. */
function normalizeLimiter(limiter: RateLimiterBody | null): RateLimiterBody | null {
  const bandwidth = normalizeBucket(limiter?.bandwidth ?? null);
  const ops = normalizeBucket(limiter?.ops ?? null);
  return bandwidth || ops ? { bandwidth, ops } : null;
}

function normalizeBucket(bucket: TokenBucketBody | null): TokenBucketBody | null {
  if (!bucket || bucket.size === 0n || bucket.refill_time === 0n) return null;
  const { size, one_time_burst: burst, refill_time } = bucket;
  return { size, one_time_burst: burst === 0n ? null : burst, refill_time };
}

/** The limiter after an update: a bucket that is given replaces the old one, and removes it if it limits nothing. */
export function updateLimiter(
  limiter: RateLimiterBody | null,
  update: RateLimiterBody | null,
): RateLimiterBody | null {
  return normalizeLimiter({
    bandwidth: update?.bandwidth ?? limiter?.bandwidth ?? null,
    ops: update?.ops ?? limiter?.ops ?? null,
  });
}

/** 169.254.1.0 to 169.254.254.255. (RFC 3927 §2.1) */
function isLinkLocal(address: string): boolean {
  const [a, b, c] = address.split('.').map(Number);
  return a === 169 && b === 254 && c! >= 1 && c! <= 254;
}

const MIN_BLOCK_MIB = 2;
const MIN_SLOT_MIB = 128;

function memoryHotplugProblem(body: MemoryHotplugBody): string | undefined {
  const { block_size_mib: block, slot_size_mib: slot, total_size_mib: total } = body;
  if (block < MIN_BLOCK_MIB) return `Block size must not be lower than ${MIN_BLOCK_MIB} MiB`;
  if (!Number.isInteger(Math.log2(block))) return 'Block size must be a power of 2';
  if (slot < MIN_SLOT_MIB) return `Slot size must not be lower than ${MIN_SLOT_MIB} MiB`;
  if (slot % block !== 0) return `Slot size must be a multiple of block size (${block} MiB)`;
  if (total < slot) return `Total size must not be lower than slot size (${slot} MiB)`;
  if (total % slot !== 0) return `Total size must be a multiple of slot size (${slot} MiB)`;
  return undefined;
}
