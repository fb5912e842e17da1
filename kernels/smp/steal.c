/* steal.c: struct kvm_steal_time (Linux Documentation/virt/kvm/x86/msr.rst). */
#include "steal.h"
#include "kvm.h"

static volatile struct {
    u64 steal_ns;
    u32 version, flags; /* version is odd while KVM writes, and 0 before its first update */
    u8 preempted, padding[47];
} area __attribute__((aligned(64)));
_Static_assert(sizeof(area) == 64, "msr.rst");

/* KVM updates the area when it next enters the guest. An emulator of ring 0 stays
 * in KVM for up to 0.7 ms, even across CPUID. */
#define FIRST_UPDATE_POLLS 10000

static bool known;
static u64 at_start;

static u64 read_ns(void) {
    for (;;) {
        u32 version = area.version;
        u64 steal = area.steal_ns;
        if (version % 2 == 0 && version == area.version)
            return steal;
    }
}

void steal_start(void) {
    if (!(kvm_features() & KVM_FEATURE_STEAL_TIME))
        return;
    wrmsr(MSR_KVM_STEAL_TIME, (u64)&area | MSR_KVM_ENABLE);
    for (u32 i = 0; area.version == 0 && i < FIRST_UPDATE_POLLS; i++)
        cpuid(0, 0); /* causes a VM exit where ring 0 is native */
    known = area.version != 0;
    /* The first value includes what the thread waited before it entered the guest. */
    at_start = read_ns();
}

bool steal_is_known(void) { return known; }
u64 steal_us(void) { return known ? (read_ns() - at_start) / 1000 : 0; }
