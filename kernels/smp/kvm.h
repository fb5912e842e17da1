/* kvm.h: KVM's paravirtual CPUID leaves and MSRs (Linux Documentation/virt/kvm/x86/cpuid.rst and msr.rst). */
#pragma once
#include "x86.h"

#define CPUID1_ECX_HYPERVISOR (1u << 31)
#define HYPERVISOR_LEAF 0x40000000
#define KVM_SIGNATURE_EBX 0x4B4D564B /* "KVMK" of "KVMKVMKVM" */
#define KVM_FEATURE_LEAF 0x40000001
#define KVM_FEATURE_CLOCKSOURCE2 (1u << 3)
#define KVM_FEATURE_STEAL_TIME (1u << 5)

#define MSR_KVM_SYSTEM_TIME_NEW 0x4B564D01
#define MSR_KVM_STEAL_TIME 0x4B564D03
#define MSR_KVM_ENABLE 1u /* bit 0 of both MSRs; the other bits are an address */

/* EAX of the feature leaf; 0 if the hypervisor is not KVM, or there is none. */
static inline u32 kvm_features(void) {
    if (!(cpuid(1, 0).ecx & CPUID1_ECX_HYPERVISOR) || cpuid(HYPERVISOR_LEAF, 0).ebx != KVM_SIGNATURE_EBX)
        return 0;
    return cpuid(KVM_FEATURE_LEAF, 0).eax;
}
