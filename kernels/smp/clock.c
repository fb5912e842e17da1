/*
 * clock.c: the TSC frequency, from the first of four sources that gives it:
 *
 *   the hypervisor's timing leaf, which is exact;
 *   the ratio in kvmclock's page, which KVM itself uses;
 *   CPUID 0x15, which describes the host and is often absent;
 *   10 ms of PIT channel 2, gated by port 0x61 (Intel 8254 data sheet, mode 0).
 */
#include "clock.h"
#include "kvm.h"

#define HYPERVISOR_TIMING_LEAF 0x40000010 /* EAX: TSC frequency in kHz; defined by VMware */

#define PIT_HZ 1193182
#define PIT_CHANNEL2 0x42
#define PIT_COMMAND 0x43
#define PIT_CHANNEL2_MODE0 0xB0
#define PORT_B 0x61
#define PORT_B_GATE2 0x01
#define PORT_B_SPEAKER 0x02
#define PORT_B_OUT2 0x20

#define PLAUSIBLE_MIN_KHZ 100000
#define PLAUSIBLE_MAX_KHZ 20000000

/* Without any source (QEMU's microvm without KVM has no PIT). More than any CPU
 * has, because a wait may be too long, but not too short. */
#define ASSUMED_KHZ 6000000

static u64 khz;
static const char *source;

/* Linux Documentation/virt/kvm/x86/msr.rst, struct pvclock_vcpu_time_info. */
static volatile struct {
    u32 version, padding;
    u64 tsc_timestamp, system_time;
    u32 tsc_to_system_mul;
    signed char tsc_shift;
    u8 flags, padding2[2];
} kvmclock __attribute__((aligned(32)));

static u64 khz_from_hypervisor(void) {
    return cpuid(HYPERVISOR_LEAF, 0).eax >= HYPERVISOR_TIMING_LEAF ? cpuid(HYPERVISOR_TIMING_LEAF, 0).eax : 0;
}

static u64 khz_from_kvmclock(void) {
    if (!(kvm_features() & KVM_FEATURE_CLOCKSOURCE2))
        return 0;
    wrmsr(MSR_KVM_SYSTEM_TIME_NEW, (u64)&kvmclock | MSR_KVM_ENABLE);
    cpuid(0, 0); /* causes a VM exit; KVM fills in the page before it re-enters */
    u64 result = 0;
    if (kvmclock.tsc_to_system_mul) {
        /* ns = (ticks << shift) * mul / 2^32, solved for the ticks of 1 ms. */
        result = (1000000ull << 32) / kvmclock.tsc_to_system_mul;
        int shift = kvmclock.tsc_shift;
        result = shift < 0 ? result << -shift : result >> shift;
    }
    wrmsr(MSR_KVM_SYSTEM_TIME_NEW, 0);
    return result;
}

static u64 khz_from_cpuid15(void) {
    if (cpuid(0, 0).eax < 0x15)
        return 0;
    struct cpuid_regs r = cpuid(0x15, 0); /* TSC = crystal (ECX, Hz) * EBX / EAX */
    return r.eax && r.ebx && r.ecx ? (u64)r.ecx * r.ebx / r.eax / 1000 : 0;
}

static u64 khz_from_pit(void) {
    const u32 count = PIT_HZ / 100; /* 10 ms */
    u8 port_b = inb(PORT_B) & ~PORT_B_SPEAKER;
    outb(PORT_B, port_b & ~PORT_B_GATE2);
    outb(PIT_COMMAND, PIT_CHANNEL2_MODE0);
    outb(PIT_CHANNEL2, count & 0xFF);
    outb(PIT_CHANNEL2, count >> 8);
    outb(PORT_B, port_b | PORT_B_GATE2);
    u64 start = rdtsc(), now;
    do
        now = rdtsc();
    while (!(inb(PORT_B) & PORT_B_OUT2) && now - start < PLAUSIBLE_MAX_KHZ * 20ull);
    return (now - start) * 100 / 1000;
}

void clock_init(void) {
    bool virtual = cpuid(1, 0).ecx & CPUID1_ECX_HYPERVISOR;
    const struct {
        u64 (*ask)(void);
        const char *name;
        bool possible;
    } sources[] = {
        {khz_from_hypervisor, "cpuid 0x40000010", virtual},
        {khz_from_kvmclock, "kvmclock", virtual},
        {khz_from_cpuid15, "cpuid 0x15", true},
        {khz_from_pit, "pit", true},
    };
    for (u32 i = 0; i < lengthof(sources); i++) {
        if (!sources[i].possible)
            continue;
        u64 answer = sources[i].ask();
        if (answer < PLAUSIBLE_MIN_KHZ || answer > PLAUSIBLE_MAX_KHZ)
            continue;
        khz = answer;
        source = sources[i].name;
        return;
    }
    khz = ASSUMED_KHZ;
    source = "assumed";
}

u64 clock_khz(void) { return khz; }
const char *clock_source(void) { return source; }
u64 clock_ticks_us(u64 microseconds) { return microseconds * khz / 1000; }
u64 clock_us(u64 ticks) { return ticks * 1000 / khz; }
u64 clock_ns(u64 ticks) { return ticks * 1000000 / khz; }

void clock_spin_us(u64 microseconds) {
    u64 start = rdtsc(), ticks = clock_ticks_us(microseconds);
    while (rdtsc() - start < ticks)
        pause();
}
