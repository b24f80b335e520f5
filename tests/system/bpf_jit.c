/*
 * tests/system/bpf_jit.c - has the guest's kernel compile BPF programs to code, run them, and throw
 * them away: their memory is used again for other code at once.
 *
 * Usage  bpf_jit [ROUNDS]. Prints BPF-OK, or BPF-FAILED and why.
 */
#include <errno.h>
#include <linux/bpf.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

enum { TERMS = 200, ALIVE = 8, PACKET_BYTES = 64, PER_ROUND = 20 };

static long bpf(enum bpf_cmd command, union bpf_attr *attr)
{
    return syscall(SYS_bpf, command, attr, sizeof(*attr));
}

/* r0 = FIRST; then TERMS times r0 = r0 * 31 + term, or with the term xored in. */
static unsigned make_program(struct bpf_insn *to, unsigned first, unsigned *ret_value)
{
    unsigned count = 0, value = first;

    to[count++] = (struct bpf_insn){.code = BPF_ALU | BPF_MOV | BPF_K, .imm = (int)first};
    for (unsigned i = 0; i < TERMS; i++) {
        unsigned term = first * 2654435761u + i;
        unsigned char op = i & 1 ? BPF_ADD : BPF_XOR;
        to[count++] = (struct bpf_insn){.code = BPF_ALU | BPF_MUL | BPF_K, .imm = 31};
        to[count++] = (struct bpf_insn){.code = BPF_ALU | op | BPF_K, .imm = (int)term};
        value = i & 1 ? value * 31 + term : (value * 31) ^ term;
    }
    to[count++] = (struct bpf_insn){.code = BPF_JMP | BPF_EXIT};
    *ret_value = value;
    return count;
}

static int failed(const char *what)
{
    printf("BPF-FAILED %s: %s\n", what, strerror(errno));
    return 1;
}

int main(int argc, char **argv)
{
    unsigned rounds = (argc > 1 ? (unsigned)strtoul(argv[1], NULL, 0) : 10) * PER_ROUND;
    struct bpf_insn program[2 * TERMS + 2];
    unsigned char packet[PACKET_BYTES] = {0};
    int alive[ALIVE];

    memset(alive, -1, sizeof(alive));
    for (unsigned round = 0; round < rounds; round++) {
        unsigned wanted, count = make_program(program, round, &wanted);
        union bpf_attr load = {.prog_type = BPF_PROG_TYPE_SOCKET_FILTER,
                               .insns = (__u64)(unsigned long)program,
                               .insn_cnt = count,
                               .license = (__u64)(unsigned long)"MIT"};
        int *slot = &alive[round * 5 % ALIVE];
        if (*slot >= 0)
            close(*slot);
        *slot = (int)bpf(BPF_PROG_LOAD, &load);
        if (*slot < 0)
            return failed("load");
        union bpf_attr run = {.test = {.prog_fd = (__u32)*slot,
                                       .data_in = (__u64)(unsigned long)packet,
                                       .data_size_in = sizeof(packet),
                                       .repeat = 3}};
        if (bpf(BPF_PROG_TEST_RUN, &run) < 0)
            return failed("run");
        if (run.test.retval != wanted) {
            printf("BPF-FAILED round %u: %x instead of %x\n", round, run.test.retval, wanted);
            return 1;
        }
    }
    puts("BPF-OK");
    return 0;
}
