/* agreement.h: compares the firmware tables and CPUID with the CPUs that came up. */
#pragma once
#include "firmware.h"

enum table_relation {
    TABLES_NONE,        /* neither MADT nor MP tables */
    TABLES_ONE,         /* only one of the two */
    TABLES_SAME,        /* the same CPUs */
    TABLES_PER_PACKAGE, /* the MP tables list only the first CPU of each package, as MPS-era firmware does */
    TABLES_DIFFER,
};

#define MAX_COMPLAINTS 8
#define COMPLAINT_BYTES 120

struct agreement {
    enum table_relation tables;
    bool cpuid; /* IDs and counts in CPUID are right on every CPU */
    u32 complaint_count; /* all of them; only MAX_COMPLAINTS are kept as text */
    char complaints[MAX_COMPLAINTS][COMPLAINT_BYTES];
};

/* Call it after startup_examine() has run on every CPU. */
void agreement_check(const struct cpu_list *madt, const struct cpu_list *mp, struct agreement *agreement);

const char *table_relation_name(enum table_relation relation);
