/*
 * fpu.c: SDM Vol 3A ch. 13 (OS support for SSE and XSAVE), Vol 1 ch. 13 (XCR0).
 *
 * Where KVM emulates ring 0 (ring3.h), an SSE instruction in ring 0 does not
 * fault: it ends the VM. So does XSETBV on some versions. Therefore the speed of
 * ring 0 is measured first: an emulated instruction takes about 1000 cycles, a
 * native one about 1, and one translated by QEMU's TCG 5 to 30. Control registers
 * can be written in any case. The instructions are executed in ring 3, where an
 * unsupported one is a fault that ring3_try() reports.
 */
#include "fpu.h"
#include "clock.h"
#include "options.h"
#include "ring3.h"

#define CPUID1_EDX_FPU (1u << 0)
#define CPUID1_EDX_SSE (1u << 25)
#define CPUID1_EDX_SSE2 (1u << 26)
#define CPUID1_ECX_XSAVE (1u << 26)
#define CPUID1_ECX_AVX (1u << 28)
#define XCR0_X87_SSE 0x3
#define XCR0_AVX 0x4

#define SPEED_LOOPS 32
#define SPEED_INSTRUCTIONS (2 * SPEED_LOOPS)
#define EMULATED_CYCLES_PER_INSTRUCTION 100
#define SPEED_TRIES 3 /* the fastest one counts: the first one fills caches and TLB */

static u64 time_loop(u64 a, u64 b, u64 c) {
    (void)a, (void)b, (void)c;
    u64 rounds = SPEED_LOOPS, start = rdtsc();
    asm volatile("1: dec %0; jnz 1b" : "+r"(rounds)::"cc");
    return rdtsc() - start;
}

static bool is_emulated(u32 cycles) { return cycles > SPEED_INSTRUCTIONS * EMULATED_CYCLES_PER_INSTRUCTION; }

static u32 fastest(u64 (*measure)(ring3_function *, u64, u64, u64)) {
    u32 best = ~0u;
    for (u32 i = 0; i < SPEED_TRIES && (i == 0 || is_emulated(best)); i++) {
        u64 cycles = measure(time_loop, 0, 0, 0);
        if (cycles < best)
            best = (u32)cycles;
    }
    return best;
}

static u64 call_in_ring0(ring3_function *function, u64 a, u64 b, u64 c) { return function(a, b, c); }

/* In ring 3. Sets *done after each step, so that it is right after a fault too. */
static u64 try_in_ring3(u64 wanted, u64 done_pointer, u64 xcr0_pointer) {
    u32 *done = (u32 *)done_pointer;
    u64 *xcr0 = (u64 *)xcr0_pointer;
    u16 control_word = 0;
    u32 one = 1, two = 0;

    if (wanted & FPU_X87) {
        asm volatile("fninit; fnstcw %0" : "=m"(control_word));
        if (control_word == 0x037F) /* Vol 2, FINIT */
            *done |= FPU_X87;
    }
    if (wanted & FPU_SSE) {
        asm volatile("movd %1, %%xmm0; paddd %%xmm0, %%xmm0; movd %%xmm0, %0" : "=r"(two) : "r"(one));
        if (two == 2)
            *done |= FPU_SSE;
    }
    if (wanted & FPU_XSAVE) {
        u32 low, high;
        asm volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
        *xcr0 = (u64)high << 32 | low;
        *done |= FPU_XSAVE;
    }
    if (wanted & FPU_AVX && (*xcr0 & (XCR0_X87_SSE | XCR0_AVX)) == (XCR0_X87_SSE | XCR0_AVX)) {
        asm volatile("vmovd %1, %%xmm0; vpaddd %%xmm0, %%xmm0, %%xmm0; vmovd %%xmm0, %0; vzeroupper"
                     : "=r"(two)
                     : "r"(one));
        if (two == 2)
            *done |= FPU_AVX;
    }
    return 0;
}

static u32 detect(u64 *xcr0_supported) {
    struct cpuid_regs leaf1 = cpuid(1, 0);
    u32 found = 0;
    if (leaf1.edx & CPUID1_EDX_FPU)
        found |= FPU_X87;
    if (leaf1.edx & CPUID1_EDX_SSE && leaf1.edx & CPUID1_EDX_SSE2)
        found |= FPU_SSE;
    *xcr0_supported = XCR0_X87_SSE;
    if (leaf1.ecx & CPUID1_ECX_XSAVE && cpuid(0, 0).eax >= 0xD) {
        found |= FPU_XSAVE;
        *xcr0_supported = cpuid(0xD, 0).eax & (XCR0_X87_SSE | XCR0_AVX);
        if (leaf1.ecx & CPUID1_ECX_AVX)
            found |= FPU_AVX;
    }
    return found;
}

void fpu_start(struct cpu *cpu) {
    cpu->ring0_cycles_per_loop = fastest(call_in_ring0);
    cpu->ring3_cycles_per_loop = fastest(ring3_run);
    cpu->ring0_emulated = is_emulated(cpu->ring0_cycles_per_loop);

    u64 xcr0_supported;
    cpu->fpu_detected = detect(&xcr0_supported);
    /* If ring 3 is slow as well, this CPU runs nothing natively. */
    bool native = !is_emulated(cpu->ring3_cycles_per_loop);
    if (options.fpu == FPU_OFF || (options.fpu == FPU_AUTO && !native))
        return;

    write_cr0((read_cr0() & ~(u64)(CR0_EM | CR0_TS)) | CR0_MP | CR0_NE);
    u64 cr4 = read_cr4();
    if (cpu->fpu_detected & FPU_SSE)
        cr4 |= CR4_OSFXSR | CR4_OSXMMEXCPT;
    if (cpu->fpu_detected & FPU_XSAVE)
        cr4 |= CR4_OSXSAVE;
    write_cr4(cr4);

    /* Where ring 0 is emulated, ring 3 runs with the host's XCR0, which a guest
     * cannot change. XGETBV in ring 3 reads it. */
    if (cpu->fpu_detected & FPU_XSAVE && (!cpu->ring0_emulated || options.fpu == FPU_ON))
        asm volatile("xsetbv" ::"a"((u32)xcr0_supported), "d"(0), "c"(0));

    u64 ignored;
    ring3_try(try_in_ring3, cpu->fpu_detected, (u64)&cpu->fpu_enabled, (u64)&cpu->xcr0, &ignored);
}

u64 fpu_ps_per_instruction(u32 cycles_per_loop) { return clock_ns(cycles_per_loop * 1000ull) / SPEED_INSTRUCTIONS; }
