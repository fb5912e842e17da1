/*
 * x86.h: registers and bits as the manuals list them, and a wrapper for each
 * instruction that C cannot express.
 *
 * Sources: Intel SDM Vol 3A ch. 2 (system registers), ch. 11 (local APIC),
 * Vol 4 (MSRs); AMD APM Vol 2 for the same names.
 */
#pragma once

/* Selectors in every GDT of this kernel (cpu.c). */
#define SEL_CODE64 0x08
#define SEL_DATA 0x10
#define SEL_USER_DATA 0x18
#define SEL_USER_CODE64 0x20
#define SEL_TSS 0x28
#define RPL_USER 3

#define RFLAGS_FIXED 0x002 /* bit 1 is always 1 */
#define RFLAGS_IF 0x200

#define CR0_PE 0x00000001
#define CR0_MP 0x00000002
#define CR0_EM 0x00000004
#define CR0_TS 0x00000008
#define CR0_NE 0x00000020
#define CR0_WP 0x00010000
#define CR0_PG 0x80000000

#define CR4_PAE 0x00000020
#define CR4_OSFXSR 0x00000200
#define CR4_OSXMMEXCPT 0x00000400
#define CR4_OSXSAVE 0x00040000

#define EFER_LME 0x00000100

#define MSR_APIC_BASE 0x01B
#define MSR_X2APIC 0x800 /* register at xAPIC offset 16*n is MSR 0x800 + n */
#define MSR_EFER 0xC0000080
#define MSR_GS_BASE 0xC0000101

#ifndef __ASSEMBLER__
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef uint8_t u8;
typedef uint16_t u16;
typedef uint32_t u32;
typedef uint64_t u64;
typedef int64_t s64;

#define lengthof(array) (sizeof(array) / sizeof(*(array)))

static inline void outb(u16 port, u8 value) {
    asm volatile("outb %0, %1" ::"a"(value), "Nd"(port));
}

static inline void outl(u16 port, u32 value) {
    asm volatile("outl %0, %1" ::"a"(value), "Nd"(port));
}

static inline u8 inb(u16 port) {
    u8 value;
    asm volatile("inb %1, %0" : "=a"(value) : "Nd"(port));
    return value;
}

static inline u64 rdmsr(u32 msr) {
    u32 low, high;
    asm volatile("rdmsr" : "=a"(low), "=d"(high) : "c"(msr));
    return (u64)high << 32 | low;
}

static inline void wrmsr(u32 msr, u64 value) {
    asm volatile("wrmsr" ::"c"(msr), "a"((u32)value), "d"((u32)(value >> 32)) : "memory");
}

struct cpuid_regs {
    u32 eax, ebx, ecx, edx;
};

static inline struct cpuid_regs cpuid(u32 leaf, u32 subleaf) {
    struct cpuid_regs r;
    asm volatile("cpuid" : "=a"(r.eax), "=b"(r.ebx), "=c"(r.ecx), "=d"(r.edx) : "a"(leaf), "c"(subleaf));
    return r;
}

static inline u64 rdtsc(void) {
    u32 low, high;
    asm volatile("rdtsc" : "=a"(low), "=d"(high)::"memory");
    return (u64)high << 32 | low;
}

#define READ_CR(n)                                     \
    static inline u64 read_cr##n(void) {               \
        u64 value;                                     \
        asm volatile("mov %%cr" #n ", %0" : "=r"(value)); \
        return value;                                  \
    }
READ_CR(0)
READ_CR(2)
READ_CR(3)
READ_CR(4)
#undef READ_CR

static inline void write_cr0(u64 value) { asm volatile("mov %0, %%cr0" ::"r"(value) : "memory"); }
static inline void write_cr4(u64 value) { asm volatile("mov %0, %%cr4" ::"r"(value) : "memory"); }

static inline void pause(void) { asm volatile("pause" ::: "memory"); }

_Noreturn static inline void halt_forever(void) {
    for (;;)
        asm volatile("cli; hlt" ::: "memory");
}

/* The operand of LGDT and LIDT. */
struct __attribute__((packed)) table_pointer {
    u16 limit;
    u64 base;
};

/* With an empty table the next exception is a triple fault. */
static inline void load_idt(const void *table, u16 limit) {
    struct table_pointer pointer = {limit, (u64)table};
    asm volatile("lidt %0" ::"m"(pointer));
}

#endif
