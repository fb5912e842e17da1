/*
 * The shortest loop around KVM_RUN that can run the guests of the exit measurement: flat code at 1 MiB, entered in
 * 32-bit protected mode, ended by a reset through port 0x64. Writes to port 0x3F8 go to stdout at the end; all
 * other exits are ignored.
 *
 * Usage: exit-loop FLAT-BINARY
 */
#include <fcntl.h>
#include <linux/kvm.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

enum { LOAD = 0x100000, RAM = 64 << 20 };

static int checked(int result, const char *what) {
    if (result < 0) {
        perror(what);
        exit(1);
    }
    return result;
}

static struct kvm_segment flat(int type, int selector) {
    return (struct kvm_segment){ .limit = 0xffffffff, .selector = selector, .type = type, .present = 1, .s = 1, .db = 1, .g = 1 };
}

int main(int argc, char **argv) {
    int kvm = checked(open("/dev/kvm", O_RDWR), "/dev/kvm");
    int vm = checked(ioctl(kvm, KVM_CREATE_VM, 0), "KVM_CREATE_VM");
    checked(ioctl(vm, KVM_SET_TSS_ADDR, 0xfffbd000), "KVM_SET_TSS_ADDR");
    checked(ioctl(vm, KVM_CREATE_IRQCHIP, 0), "KVM_CREATE_IRQCHIP");
    char *ram = mmap(NULL, RAM, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (argc != 2 || ram == MAP_FAILED) return 1;
    int file = checked(open(argv[1], O_RDONLY), argv[1]);
    checked(read(file, ram + LOAD, RAM - LOAD), "read");
    struct kvm_userspace_memory_region slot = { .memory_size = RAM, .userspace_addr = (unsigned long)ram };
    checked(ioctl(vm, KVM_SET_USER_MEMORY_REGION, &slot), "KVM_SET_USER_MEMORY_REGION");

    int vcpu = checked(ioctl(vm, KVM_CREATE_VCPU, 0), "KVM_CREATE_VCPU");
    int bytes = checked(ioctl(kvm, KVM_GET_VCPU_MMAP_SIZE, 0), "KVM_GET_VCPU_MMAP_SIZE");
    struct kvm_run *run = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, vcpu, 0);
    if (run == MAP_FAILED) return 1;
    struct kvm_sregs sregs;
    checked(ioctl(vcpu, KVM_GET_SREGS, &sregs), "KVM_GET_SREGS");
    sregs.cs = flat(0xb, 8);
    sregs.ds = sregs.es = sregs.fs = sregs.gs = sregs.ss = flat(3, 16);
    sregs.cr0 = 0x11;
    checked(ioctl(vcpu, KVM_SET_SREGS, &sregs), "KVM_SET_SREGS");
    struct kvm_regs regs = { .rip = LOAD, .rflags = 2 };
    checked(ioctl(vcpu, KVM_SET_REGS, &regs), "KVM_SET_REGS");

    char *printed = malloc(RAM);
    size_t count = 0;
    for (;;) {
        checked(ioctl(vcpu, KVM_RUN, 0), "KVM_RUN");
        switch (run->exit_reason) {
        case KVM_EXIT_IO:
            if (run->io.direction != KVM_EXIT_IO_OUT) break;
            if (run->io.port == 0x3f8) {
                char *data = (char *)run + run->io.data_offset;
                for (unsigned i = 0; i < run->io.count && count < RAM; i++) printed[count++] = data[i];
            } else if (run->io.port == 0x64) {
                return fwrite(printed, 1, count, stdout) != count;
            }
            break;
        case KVM_EXIT_MMIO:
            break;
        default:
            fprintf(stderr, "exit reason %u\n", run->exit_reason);
            return 1;
        }
    }
}
