/* steal.c: struct kvm_steal_time (Linux Documentation/virt/kvm/x86/msr.rst). */
#include "steal.h"
#include "kvm.h"

static volatile struct {
    u64 steal_ns;
    u32 version, flags; /* version is odd while KVM writes */
    u8 preempted, padding[47];
} area __attribute__((aligned(64)));
_Static_assert(sizeof(area) == 64, "msr.rst");

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
    known = kvm_features() & KVM_FEATURE_STEAL_TIME;
    if (!known)
        return;
    wrmsr(MSR_KVM_STEAL_TIME, (u64)&area | MSR_KVM_ENABLE);
    at_start = read_ns();
}

bool steal_is_known(void) { return known; }
u64 steal_us(void) { return known ? (read_ns() - at_start) / 1000 : 0; }
