/*
 * startup.c: starts the APs (SDM Vol 3A §9.4, MP initialization; MPS 1.4 appendix
 * B.4, the INIT-SIPI-SIPI sequence and its delays).
 */
#include "startup.h"
#include "alloc.h"
#include "apic.h"
#include "boot_info.h"
#include "clock.h"
#include "fpu.h"
#include "ipi.h"
#include "options.h"
#include "patience.h"
#include "print.h"
#include "sched.h"
#include "string.h"
#include "trampoline.h"
#include "traps.h"
#include "watchdog.h"

#define INIT_TO_SIPI_US 10000
#define SIPI_TO_SIPI_US 200
#define CHECK_IN_PATIENCE_US 5000000 /* patience.h */

/* APs that start at the same time. Measured with 64 CPUs on two host cores: 145 ms
 * one at a time, 130 ms two at a time, 200 to 400 ms eight at a time, because they
 * wait for the console's lock. */
#define BATCH 2

static struct cpu **slots; /* by APIC ID (trampoline.S) */
static u32 max_apic_id;
static u32 checked_in; /* APs */
static u32 awaited;    /* number of check-ins that the BSP waits for */

void startup_examine(struct cpu *cpu) {
    fpu_start(cpu);
    topology_read(&cpu->topology);
}

_Noreturn static void ap_entry(struct cpu *cpu) {
    if (options.fault == FAULT_SILENT_AP && cpu->index == cpu_count - 1)
        halt_forever();
    progress_note();
    cpu_load(cpu);
    traps_load();
    apic_enable();
    progress_note();
    startup_examine(cpu);
    progress_note();
    print("CPU %u online! APIC ID: %u\n", cpu->index, cpu->apic_id);
    progress_note();
    atomic_store(&cpu->state, CPU_ONLINE);
    if (atomic_fetch_add(&checked_in, 1) + 1 == atomic_load(&awaited))
        ipi_wake(cpus[BSP]);
    sched_until(NULL);
    halt_forever();
}

bool startup_prepare(const struct cpu_list *list) {
    u32 own_id = cpus[BSP]->apic_id;
    for (u32 i = 0; i < list->count; i++)
        if (list->order[i] > max_apic_id)
            max_apic_id = list->order[i];
    slots = alloc_zeroed((max_apic_id + 1) * sizeof(*slots));
    if (!slots)
        return false;
    for (u32 i = 0; i < list->count && cpu_count < MAX_CPUS; i++) {
        u32 id = list->order[i];
        if (id == own_id)
            continue;
        struct cpu_block *block = alloc_partly_zeroed(CPU_BLOCK_BYTES, sizeof(struct cpu));
        if (!block)
            return false;
        cpu_prepare(block, cpu_count++, id);
        slots[id] = &block->cpu;
    }
    return true;
}

static bool is_ram(u64 start, u64 end) {
    for (u32 i = 0; i < boot_info.ram_count; i++)
        if (boot_info.ram[i].start <= start && end <= boot_info.ram[i].end)
            return true;
    return false;
}

/* A page of RAM between 0x8000 and 640 KiB; 0 if there is none. */
static u32 choose_page(void) {
    for (u32 page = TRAMPOLINE_DEFAULT; page < 0xA0000; page += TRAMPOLINE_BYTES)
        if (is_ram(page, page + TRAMPOLINE_BYTES))
            return page;
    return 0;
}

static void install_trampoline(u32 page) {
    u8 *copy = (u8 *)(u64)page;
    memcpy(copy, trampoline_start, (size_t)(trampoline_end - trampoline_start));
    print("Boot trampoline copied to 0x%x\n", page);

    for (const u16 *offset = trampoline_relocations; offset < trampoline_relocations_end; offset++) {
        u32 field;
        memcpy(&field, copy + *offset, sizeof(field));
        field += page;
        memcpy(copy + *offset, &field, sizeof(field));
    }
    print("Relocations applied\n");

    struct trampoline_parameters *parameters = (void *)(copy + (trampoline_parameters - trampoline_start));
    *parameters = (struct trampoline_parameters){
        .slots = slots,
        .entry = ap_entry,
        .cr3 = (u32)read_cr3(),
        .max_apic_id = max_apic_id,
        .x2apic = apic_is_x2(),
    };
    print("Page table set: 0x%lx\n", read_cr3());
}

/* Starts the CPUs [first, end); false if one of them did not check in. */
static bool start_batch(u32 first, u32 end, u32 page, struct startup *result) {
    atomic_store(&awaited, end - 1); /* index 0 is the BSP */
    for (u32 i = first; i < end; i++) {
        cpus[i]->state = CPU_SIPI_SENT;
        apic_send_startup(cpus[i]->apic_id, page);
    }
    clock_spin_us(SIPI_TO_SIPI_US);
    for (u32 i = first; i < end; i++)
        if (atomic_load(&slots[cpus[i]->apic_id])) { /* not taken: it has not started */
            apic_send_startup(cpus[i]->apic_id, page);
            result->second_sipis++;
        }
    return patience_wait(&checked_in, end - 1, CHECK_IN_PATIENCE_US);
}

void startup_run(struct startup *result) {
    result->online = 1;
    u32 page = choose_page();
    if (!page) {
        result->error = "no RAM for the trampoline below 1 MiB";
        return;
    }
    install_trampoline(page);
    for (u32 i = 1; i < cpu_count; i++)
        apic_send_init(cpus[i]->apic_id);
    if (cpu_count > 1)
        clock_spin_us(INIT_TO_SIPI_US);
    for (u32 first = 1; first < cpu_count; first += BATCH) {
        u32 end = first + BATCH < cpu_count ? first + BATCH : cpu_count;
        watchdog_enter("starting CPUs");
        if (start_batch(first, end, page, result))
            continue;
        for (u32 i = end; i-- > first;)
            if (atomic_load(&cpus[i]->state) != CPU_ONLINE)
                result->missing = cpus[i];
        result->missing_started = !atomic_load(&slots[result->missing->apic_id]);
        break;
    }
    result->online = atomic_load(&checked_in) + 1;
}
