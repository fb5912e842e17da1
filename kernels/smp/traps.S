/*
 * traps.S: entry code of exceptions and interrupts (SDM Vol 3A §6.12, §6.14).
 *
 * Exceptions save all registers in a struct trap_frame. Interrupts are frequent,
 * so they save only the registers that a C function may change. SWAPGS is not
 * needed, because the GS base is the same in both rings (cpu.h). RSP is 16-byte
 * aligned at the calls: the CPU aligns it, and 22 or 14 words are pushed.
 */
#include "x86.h"
#include "vectors.h"

        .text
/* Vectors for which the CPU pushes an error code: #DF #TS #NP #SS #GP #PF #AC #CP #VC #SX. */
#define HAS_ERROR_CODE(v) ((0x60227D00 >> (v)) & 1)

        .macro exception_stub vector
        .if HAS_ERROR_CODE(\vector) == 0
        pushq   $0
        .endif
        pushq   $\vector
        jmp     exception
        .balign 16                      /* traps_init() steps by 16 */
        .endm

        .balign 16
        .globl exception_stubs
exception_stubs:
        .set    i, 0
        .rept   TRAP_COUNT
        .altmacro
        exception_stub %i
        .noaltmacro
        .set    i, i + 1
        .endr

/* #UD at ring3_end is the return from ring 3, so it is tested first. */
        .globl invalid_opcode_stub
invalid_opcode_stub:
        cmpq    $ring3_end, (%rsp)
        je      ring3_return
        pushq   $0
        pushq   $TRAP_UD
exception:
        pushq   %rax
        pushq   %rbx
        pushq   %rcx
        pushq   %rdx
        pushq   %rbp
        pushq   %rsi
        pushq   %rdi
        pushq   %r8
        pushq   %r9
        pushq   %r10
        pushq   %r11
        pushq   %r12
        pushq   %r13
        pushq   %r14
        pushq   %r15
        cld
        movq    %rsp, %rdi
        call    trap_handle
        popq    %r15
        popq    %r14
        popq    %r13
        popq    %r12
        popq    %r11
        popq    %r10
        popq    %r9
        popq    %r8
        popq    %rdi
        popq    %rsi
        popq    %rbp
        popq    %rdx
        popq    %rcx
        popq    %rbx
        popq    %rax
        addq    $16, %rsp
        iretq

        .macro interrupt_stub name
        .globl \name\()_stub
\name\()_stub:
        pushq   %rax
        pushq   %rcx
        pushq   %rdx
        pushq   %rsi
        pushq   %rdi
        pushq   %r8
        pushq   %r9
        pushq   %r10
        pushq   %r11
        cld
        call    \name
        popq    %r11
        popq    %r10
        popq    %r9
        popq    %r8
        popq    %rdi
        popq    %rsi
        popq    %rdx
        popq    %rcx
        popq    %rax
        iretq
        .endm

        interrupt_stub on_tick
        interrupt_stub on_wake
        interrupt_stub on_call
        interrupt_stub on_broadcast
        interrupt_stub on_ping
        interrupt_stub on_pong

/* A spurious interrupt gets no EOI (SDM Vol 3A §11.9). */
        .globl spurious_stub
spurious_stub:
        iretq
