/* options.h: command line options (listed in README.md). */
#pragma once
#include "x86.h"

enum fault { FAULT_NONE, FAULT_SILENT_AP, FAULT_TRIPLE, FAULT_EXCEPTION };
enum fpu_mode { FPU_AUTO, FPU_ON, FPU_OFF };

struct options {
    bool json, quick, loop;
    enum fault fault;
    enum fpu_mode fpu;
};

extern struct options options;

void options_read(const char *command_line);
