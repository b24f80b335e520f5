/*
 * slirp/stack.h - libslirp with the clock, the timers and the descriptors that it wants from
 * outside.
 */
#ifndef SLIRP_STACK_H
#define SLIRP_STACK_H

#include "base/types.h"

struct stack;

struct stack_forward {
    bool is_udp;
    u32 host_address; /* as inet_addr gives it */
    u16 host_port, guest_port;
};

/* A network whose frames go through the packet socket FD; NULL when memory is exhausted. */
struct stack *stack_new(int fd);
/* 0, or -errno when the host's port cannot be had. */
MUST_CHECK int stack_forward(struct stack *stack, const struct stack_forward *forward);
/* Carries frames until the other end closes the socket. */
void stack_run(struct stack *stack);
void stack_free(struct stack *stack);

#endif
