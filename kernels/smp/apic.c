/*
 * apic.c: the local APIC (SDM Vol 3A ch. 11; x2APIC: §11.12).
 *
 * Registers are named by their xAPIC offset n; in x2APIC mode the register is
 * MSR 0x800 + n / 16. Only the ICR has a different layout.
 */
#include "apic.h"
#include "vectors.h"

#define APIC_BASE_X2 (1u << 10)
#define APIC_BASE_ENABLE (1u << 11)
#define APIC_BASE_ADDRESS 0xFFFFF000u /* only 4 GiB are mapped; the reset value is below that */
#define CPUID1_ECX_X2APIC (1u << 21)

enum apic_register {
    APIC_ID = 0x020,
    APIC_TPR = 0x080,
    APIC_EOI = 0x0B0,
    APIC_SPURIOUS = 0x0F0,
    APIC_ICR = 0x300,
    APIC_ICR_HIGH = 0x310,
    APIC_LVT_TIMER = 0x320,
    APIC_TIMER_INITIAL = 0x380,
    APIC_TIMER_DIVIDE = 0x3E0,
};

#define SPURIOUS_SOFTWARE_ENABLE 0x100
#define ICR_DELIVERY_NMI 0x00400
#define ICR_DELIVERY_INIT 0x00500
#define ICR_DELIVERY_STARTUP 0x00600
#define ICR_PENDING 0x01000 /* xAPIC only */
#define ICR_ASSERT 0x04000
#define ICR_ALL_BUT_SELF 0xC0000
#define LVT_MASKED 0x10000
#define LVT_PERIODIC 0x20000
#define TIMER_DIVIDE_BY_1 0x0B

/* 20 ms with the 1 GHz APIC bus of KVM and QEMU, up to 1 s on slow hardware. The
 * period only decides how soon a timeout is noticed, so it is not calibrated. */
#define TICK_BUS_CYCLES 20000000

#define PIC_MASTER_MASK 0x21
#define PIC_SLAVE_MASK 0xA1

static bool x2_mode;
static volatile u32 *xapic; /* when not x2_mode */

void apic_choose_mode(void) {
    x2_mode = cpuid(1, 0).ecx & CPUID1_ECX_X2APIC;
    xapic = (volatile u32 *)(u64)((u32)rdmsr(MSR_APIC_BASE) & APIC_BASE_ADDRESS);
    /* All interrupts of this kernel come from the APIC: mask the 8259s. */
    outb(PIC_MASTER_MASK, 0xFF);
    outb(PIC_SLAVE_MASK, 0xFF);
}

bool apic_is_x2(void) { return x2_mode; }

static void write(enum apic_register reg, u32 value) {
    if (x2_mode)
        wrmsr(MSR_X2APIC + reg / 16, value);
    else
        xapic[reg / 4] = value;
}

void apic_enable(void) {
    u64 base = rdmsr(MSR_APIC_BASE) | APIC_BASE_ENABLE;
    /* x2APIC mode can only be entered from xAPIC mode, not from "disabled" (§11.12.5). */
    wrmsr(MSR_APIC_BASE, base);
    if (x2_mode)
        wrmsr(MSR_APIC_BASE, base | APIC_BASE_X2);
    write(APIC_LVT_TIMER, LVT_MASKED);
    write(APIC_TPR, 0);
    write(APIC_SPURIOUS, SPURIOUS_SOFTWARE_ENABLE | VECTOR_SPURIOUS);
}

u32 apic_id(void) { return x2_mode ? (u32)rdmsr(MSR_X2APIC + APIC_ID / 16) : xapic[APIC_ID / 4] >> 24; }

void apic_end_of_interrupt(void) { write(APIC_EOI, 0); }

static void write_icr(u32 destination, u32 low) {
    if (x2_mode) {
        /* WRMSR to an x2APIC register is not serializing (§11.12.3). Earlier
         * stores must be visible to the receiver when the interrupt arrives. */
        asm volatile("mfence; lfence" ::: "memory");
        wrmsr(MSR_X2APIC + APIC_ICR / 16, (u64)destination << 32 | low);
        return;
    }
    xapic[APIC_ICR_HIGH / 4] = destination << 24;
    xapic[APIC_ICR / 4] = low;
    while (xapic[APIC_ICR / 4] & ICR_PENDING)
        pause();
}

void apic_send(u32 destination, u8 vector) { write_icr(destination, ICR_ASSERT | vector); }
void apic_send_to_others(u8 vector) { write_icr(0, ICR_ALL_BUT_SELF | ICR_ASSERT | vector); }
void apic_send_nmi(u32 destination) { write_icr(destination, ICR_ASSERT | ICR_DELIVERY_NMI); }
void apic_send_init(u32 destination) { write_icr(destination, ICR_ASSERT | ICR_DELIVERY_INIT); }

void apic_send_startup(u32 destination, u32 address) {
    write_icr(destination, ICR_ASSERT | ICR_DELIVERY_STARTUP | address >> 12);
}

void apic_start_tick(void) {
    write(APIC_TIMER_DIVIDE, TIMER_DIVIDE_BY_1);
    write(APIC_LVT_TIMER, LVT_PERIODIC | VECTOR_TICK);
    write(APIC_TIMER_INITIAL, TICK_BUS_CYCLES);
}

void apic_stop_tick(void) {
    write(APIC_TIMER_INITIAL, 0);
    write(APIC_LVT_TIMER, LVT_MASKED);
}
