/* vectors.h: interrupt vectors, and the stack frame of an exception. */
#pragma once
#include "x86.h"

/* Vectors of this kernel, above the 32 architectural ones. */
#define VECTOR_TICK 0x40
#define VECTOR_WAKE 0x41
#define VECTOR_CALL 0x42
#define VECTOR_BROADCAST 0x43
#define VECTOR_PING 0x44
#define VECTOR_PONG 0x45
#define VECTOR_SPURIOUS 0xFF

#define TRAP_NMI 2
#define TRAP_UD 6
#define TRAP_DF 8
#define TRAP_COUNT 32

#ifndef __ASSEMBLER__
/* traps.S pushes the first two lines, and the CPU the last one. `error` is pushed by either. */
struct trap_frame {
    u64 r15, r14, r13, r12, r11, r10, r9, r8, rdi, rsi, rbp, rdx, rcx, rbx, rax;
    u64 vector, error;
    u64 rip, cs, rflags, rsp, ss;
};
#endif
