/*
 * ring3.S: enters ring 3 by IRETQ and leaves it by a fault.
 *
 * The fault is a UD2 at a known address. INT n and SYSCALL do not work everywhere:
 * kvm-pvm delivers faults to an emulated ring 0, but not those two.
 */
#include "x86.h"
#include "cpu.h"

        .text
        .globl ring3_run
/* u64 ring3_run(function, a, b, c): RDI, RSI, RDX, RCX (System V ABI). */
ring3_run:
        pushfq
        pushq   %rbx
        pushq   %rbp
        pushq   %r12
        pushq   %r13
        pushq   %r14
        pushq   %r15
        movq    %rsp, %gs:CPU_TSS_RSP0  /* stack of interrupts from ring 3 */
        movq    %rdi, %rax
        movq    %rsi, %rdi
        movq    %rdx, %rsi
        movq    %rcx, %rdx
        pushq   $(SEL_USER_DATA | RPL_USER)
        pushq   %gs:CPU_RING3_STACK_TOP
        pushq   $(RFLAGS_FIXED | RFLAGS_IF)
        pushq   $(SEL_USER_CODE64 | RPL_USER)
        pushq   $1f
        iretq
1:      call    *%rax
        .globl ring3_end
ring3_end:
        ud2

        .globl ring3_return
ring3_return:                           /* ring 0 again, on the stack of RSP0 */
        movq    %gs:CPU_TSS_RSP0, %rsp
        popq    %r15
        popq    %r14
        popq    %r13
        popq    %r12
        popq    %rbp
        popq    %rbx
        popfq
        ret
