/**
 * Structures of core files of x86-64. (System V gABI, "Program Header", "Note Section"; Linux include/uapi/linux/elf.h,
 * include/linux/elfcore.h, arch/x86/include/asm/user_64.h; QEMU's and crash's CPU state note)
 */

/** `Elf64_Ehdr` of a core file. */
export const CORE_HEADER = {
  type: 0x10,
  machine: 0x12,
  version: 0x14,
  phoff: 0x20,
  ehsize: 0x34,
  phentsize: 0x36,
  phnum: 0x38,
  size: 0x40,
} as const;
export const CORE_TYPE = 4;
export const CORE_MACHINE = 62;
/** Magic, class 64, little-endian, version 1. */
export const CORE_IDENT = [0x7f, 0x45, 0x4c, 0x46, 2, 1, 1] as const;

/** `Elf64_Phdr` */
export const SEGMENT_HEADER = {
  type: 0x00,
  flags: 0x04,
  offset: 0x08,
  vaddr: 0x10,
  paddr: 0x18,
  filesz: 0x20,
  memsz: 0x28,
  align: 0x30,
  size: 0x38,
} as const;
export const SEGMENT_TYPE = { load: 1, note: 4 } as const;
/** Readable, writable and executable. */
export const SEGMENT_FLAGS = 7;
/** The most that e_phnum counts. */
export const MAX_SEGMENTS = 0xfffe;

/** `Elf64_Nhdr` */
export const NOTE = { namesz: 0x00, descsz: 0x04, type: 0x08, size: 0x0c } as const;
export const NOTE_TYPE = { prstatus: 1, fpregset: 2, qemu: 0, vmcoreinfo: 0 } as const;

/** `struct elf_prstatus`: the thread's id, and its registers. */
export const PRSTATUS = { pid: 0x20, registers: 0x70, fpvalid: 0x148, size: 0x150 } as const;
/** `struct user_regs_struct`, eight bytes each. */
export const USER_REGISTERS = [
  ...['r15', 'r14', 'r13', 'r12', 'rbp', 'rbx', 'r11', 'r10', 'r9', 'r8', 'rax', 'rcx', 'rdx', 'rsi', 'rdi'],
  ...['orig_rax', 'rip', 'cs', 'eflags', 'rsp', 'ss', 'fs_base', 'gs_base', 'ds', 'es', 'fs', 'gs'],
] as const;
/** `struct user_fpregs_struct`, which is FXSAVE's area. */
export const FPREGS = {
  fcw: 0x00,
  fsw: 0x02,
  ftwx: 0x04,
  fop: 0x06,
  mxcsr: 0x18,
  st: 0x20,
  xmm: 0xa0,
  size: 0x200,
} as const;

/** `QEMUCPUState`, version 1. crash finds a relocated kernel by it. */
export const QEMU_STATE = { version: 0x00, bytes: 0x04, general: 0x08, size: 0x1b8 } as const;
export const QEMU_GENERAL = [
  ...[
    'rax',
    'rbx',
    'rcx',
    'rdx',
    'rsi',
    'rdi',
    'rsp',
    'rbp',
    'r8',
    'r9',
    'r10',
    'r11',
    'r12',
    'r13',
    'r14',
    'r15',
  ],
  ...['rip', 'rflags'],
] as const;
/** Selector, limit, flags as in a descriptor, padding, base. */
export const QEMU_SEGMENT = { selector: 0x00, limit: 0x04, flags: 0x08, base: 0x10, size: 0x18 } as const;
export const QEMU_SEGMENTS = ['cs', 'ds', 'es', 'fs', 'gs', 'ss', 'ldt', 'tr', 'gdt', 'idt'] as const;
export const QEMU_CONTROL = ['cr0', 'cr1', 'cr2', 'cr3', 'cr4'] as const;
