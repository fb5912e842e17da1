/* agreement.h: do the firmware tables, CPUID and the CPUs that came up agree? */
#pragma once
#include "firmware.h"

enum table_relation {
    TABLES_NONE,        /* neither MADT nor MP tables */
    TABLES_ONE,         /* only one of them: nothing to compare */
    TABLES_SAME,        /* the same CPUs */
    TABLES_PER_PACKAGE, /* MP lists the first CPU of each package, as MPS-era firmware does */
    TABLES_DIFFER,
};

#define MAX_COMPLAINTS 8
#define COMPLAINT_BYTES 120

struct agreement {
    enum table_relation tables;
    bool cpuid; /* on every CPU: ids and counts fit the tables */
    u32 complaint_count; /* all; the first MAX_COMPLAINTS in words */
    char complaints[MAX_COMPLAINTS][COMPLAINT_BYTES];
};

/* Once every CPU has examined itself. */
void agreement_check(const struct cpu_list *madt, const struct cpu_list *mp, struct agreement *agreement);

const char *table_relation_name(enum table_relation relation);
