/*
 * vm/run.c - vCPU threads, how they sleep and stop, and what follows when the machine ends a run.
 *
 * Runs   run() and everything posted to the loop on the main thread; vcpu_thread on its own.
 * Trust  the guest decides when machine_host.end is called, and how often: the first call counts.
 *
 *            start ──▶ running ──end()──▶ stopping ──▶ stopped ──▶ exit status
 *                         ▲        (any vCPU thread)      │
 *                         └──── reset: boot again ────────┘
 */
#include "vm/run.h"

#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/signalfd.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include "api/exit_status.h"
#include "base/fmt.h"
#include "core/clock.h"
#include "host/fd.h"
#include "host/futex.h"
#include "host/loop.h"
#include "host/map.h"
#include "host/thread.h"
#include "machine/machine.h"
#include "vcpu/vcpu.h"
#include "vm/backends.h"
#include "vm/config.h"
#include "vm/dump.h"
#include "vm/engine.h"
#include "vm/kernel.h"
#include "vm/stats.h"
#include "vm/trace.h"
#include "x86/regs.h"

enum { FORCE_AFTER_SECONDS = 30 };

/* Ends that are not the machine's, after the last of enum machine_end. */
enum { END_ENGINE_FAILED = MACHINE_CRASHED + 1, END_LEFT, END_FORCED };

enum { AWAKE, ASLEEP };

struct vm;

struct runner {
    struct vm *vm;         /* borrowed */
    struct vcpu *vcpu;     /* owned */
    struct thread *thread; /* owned; NULL while stopped */
    u32 sleep;             /* atomic: AWAKE or ASLEEP; a futex */
};

struct vm {
    const struct config *config; /* borrowed */
    struct loop *loop;           /* owned, as all below */
    struct map ram;
    struct backends backends;
    struct machine *machine;
    struct engine *engine;
    struct trace *trace; /* NULL: none is asked for */
    struct runner runners[MACHINE_CPUS_MAX];
    unsigned runner_count;
    u32 stopping;     /* atomic: vCPU threads leave */
    struct lock lock; /* of end */
    struct {
        bool is_set;
        int how;
        unsigned status; /* MACHINE_TEST_EXIT */
        unsigned cpu;
        const char *reason; /* END_ENGINE_FAILED */
    } end;
    struct loop_task end_task, remap_task;
    struct x86_state crash; /* registers of end.cpu, for the message */
    int signal_fd, force_fd;
    struct loop_fd signal_watch, force_watch;
    bool asked_to_stop;
    int exit_status;
};

/* ---- sleeping and waking -----------------------------------------------------------------------
 */

static void wake(void *ctx, unsigned cpu)
{
    struct vm *vm = ctx;
    u32 *word = &vm->runners[cpu].sleep;

    if (__atomic_exchange_n(word, AWAKE, __ATOMIC_SEQ_CST) == ASLEEP)
        futex_wake(word);
}

static void yield(void *ctx)
{
    sched_yield();
}

/* Sleeps until the vCPU has something to do. Whoever makes it so first changes state, then wakes;
 * here it is the other way round, so no wake-up is lost. */
static void sleep_halted(struct runner *runner)
{
    struct vm *vm = runner->vm;
    struct vm_clock *clock = machine_clock(vm->machine);
    u64 timeout_ns = TIMER_NEVER;

    __atomic_store_n(&runner->sleep, ASLEEP, __ATOMIC_SEQ_CST);
    if (!__atomic_load_n(&vm->stopping, __ATOMIC_SEQ_CST) &&
        !machine_enter(vm->machine, runner->vcpu)) {
        u64 deadline_ns = machine_deadline_ns(vm->machine, runner->vcpu);
        u64 now_ns = vm_clock_now(clock);
        if (deadline_ns != TIMER_NEVER)
            timeout_ns = deadline_ns > now_ns ? deadline_ns - now_ns : 0;
        if (timeout_ns > 0)
            futex_wait(&runner->sleep, ASLEEP, timeout_ns);
    }
    __atomic_store_n(&runner->sleep, AWAKE, __ATOMIC_SEQ_CST);
}

/* ---- ends --------------------------------------------------------------------------------------
 */

static void end_with(struct vm *vm, int how, unsigned status, unsigned cpu, const char *reason)
{
    lock_acquire(&vm->lock);
    if (!vm->end.is_set) {
        vm->end.is_set = true;
        vm->end.how = how;
        vm->end.status = status;
        vm->end.cpu = cpu;
        vm->end.reason = reason;
    }
    lock_release(&vm->lock);
    __atomic_store_n(&vm->stopping, 1, __ATOMIC_SEQ_CST);
    loop_post(vm->loop, &vm->end_task);
}

static __thread unsigned current_cpu; /* of a vCPU thread: whose exit ended the machine */

static void end(void *ctx, enum machine_end how, unsigned status)
{
    end_with(ctx, (int)how, status, current_cpu, NULL);
}

/* The calling vCPU's thread leaves after this exit, as all others do; see follow_remap. */
static void remap(void *ctx)
{
    struct vm *vm = ctx;

    __atomic_store_n(&vm->stopping, 1, __ATOMIC_SEQ_CST);
    loop_post(vm->loop, &vm->remap_task);
}

static void leave(void *ctx)
{
    end_with(ctx, END_LEFT, 0, 0, NULL);
}

/* ---- vCPU threads ------------------------------------------------------------------------------
 */

static void vcpu_thread(void *ctx)
{
    struct runner *runner = ctx;
    struct vm *vm = runner->vm;
    struct vcpu *vcpu = runner->vcpu;

    current_cpu = vcpu->index;
    while (!__atomic_load_n(&vm->stopping, __ATOMIC_ACQUIRE)) {
        if (!machine_enter(vm->machine, vcpu)) {
            sleep_halted(runner);
            continue;
        }
        vcpu_run(vcpu);
        if (!machine_dispatch(vm->machine, vcpu))
            end_with(vm, END_ENGINE_FAILED, 0, vcpu->index, vcpu->exit.reason);
    }
}

static void stop_threads(struct vm *vm)
{
    __atomic_store_n(&vm->stopping, 1, __ATOMIC_SEQ_CST);
    for (unsigned i = 0; i < vm->runner_count; i++) {
        if (!vm->runners[i].thread)
            continue;
        vcpu_kick(vm->runners[i].vcpu);
        wake(vm, i);
        thread_kick(vm->runners[i].thread);
    }
    for (unsigned i = 0; i < vm->runner_count; i++) {
        thread_join(vm->runners[i].thread);
        vm->runners[i].thread = NULL;
    }
    machine_clock_stop(vm->machine);
}

static int start_threads(struct vm *vm, struct err *err)
{
    char name[16];

    machine_clock_start(vm->machine);
    __atomic_store_n(&vm->stopping, 0, __ATOMIC_SEQ_CST);
    for (unsigned i = 0; i < vm->runner_count; i++) {
        fmt_text(name, sizeof(name), "vcpu%u", i);
        vm->runners[i].thread = thread_new(name, vcpu_thread, &vm->runners[i], err);
        if (!vm->runners[i].thread)
            return -EAGAIN;
    }
    return 0;
}

/* ---- what follows an end -----------------------------------------------------------------------
 */

static int boot(struct vm *vm, struct err *err)
{
    int r = kernel_boot(vm->machine, vm->config, err);

    if (r < 0)
        vm->exit_status = EXIT_STATUS_FILE;
    else {
        r = start_threads(vm, err);
        if (r < 0)
            vm->exit_status = EXIT_STATUS_HOST;
    }
    return r;
}

static void end_run(void *ctx)
{
    struct vm *vm = ctx;
    struct err err = {0};

    stop_threads(vm);
    backends_drain(&vm->backends);
    if (vm->end.how == MACHINE_RESET) {
        vm->end.is_set = false;
        if (boot(vm, &err) == 0)
            return;
        fprintf(stderr, "atoll-vm: reset: %s\r\n", err.text);
    }
    loop_stop(vm->loop);
}

/* Memory slots change while nothing runs, and then all goes on where it was. An end that came
 * meanwhile has its own task. */
static void follow_remap(void *ctx)
{
    struct vm *vm = ctx;
    struct err err = {0};

    stop_threads(vm);
    int r = machine_remap(vm->machine, &err);
    if (r == 0 && !vm->end.is_set)
        r = start_threads(vm, &err);
    if (r == 0)
        return;
    fprintf(stderr, "atoll-vm: %s\r\n", err.text);
    end_with(vm, END_ENGINE_FAILED, 0, 0, "guest memory could not be changed");
}

/* Writes the counters for who wants to see them; that they cannot be written ends nothing. */
static void write_stats(struct vm *vm)
{
    struct err err = {0};

    if (!vm->config->debug_stats || !vm->engine)
        return;
    if (stats_write(vm->config->debug_stats, vm->engine, vm->runner_count, &err) < 0)
        fprintf(stderr, "atoll-vm: %s\r\n", err.text);
}

/* A first signal asks the guest to power off, a second one, or 30 seconds, ends it. */
static void signal_ready(void *ctx, u32 events)
{
    struct vm *vm = ctx;
    struct signalfd_siginfo info;
    const struct itimerspec in = {.it_value = {.tv_sec = FORCE_AFTER_SECONDS}};

    if (read(vm->signal_fd, &info, sizeof(info)) != sizeof(info))
        return;
    if (info.ssi_signo == SIGUSR2) {
        write_stats(vm);
        return;
    }
    if (vm->asked_to_stop) {
        end_with(vm, END_FORCED, 0, 0, NULL);
        return;
    }
    vm->asked_to_stop = true;
    machine_press_power_button(vm->machine);
    timerfd_settime(vm->force_fd, 0, &in, NULL);
}

static void force_ready(void *ctx, u32 events)
{
    end_with(ctx, END_FORCED, 0, 0, NULL);
}

static void clock_fire(void *ctx)
{
    vm_clock_run(ctx);
}

/* The message and exit status of what ended the VM. */
static void conclude(struct vm *vm, struct err *err)
{
    switch (vm->end.how) {
    case MACHINE_POWER_OFF:
    case END_LEFT:
        vm->exit_status = EXIT_STATUS_POWEROFF;
        break;
    case MACHINE_TEST_EXIT:
        vm->exit_status = (int)(vm->end.status & 0xff);
        break;
    case MACHINE_CRASHED:
        vm->exit_status = EXIT_STATUS_GUEST_CRASH;
        err_set(err, -EFAULT, "the guest crashed: triple fault on vCPU %u", vm->end.cpu);
        break;
    case END_ENGINE_FAILED:
        vm->exit_status = EXIT_STATUS_ENGINE;
        err_set(err, -EIO, "the %s engine cannot go on with vCPU %u: %s", vm->engine->ops->name,
                vm->end.cpu, vm->end.reason ? vm->end.reason : "no reason given");
        break;
    case END_FORCED:
        vm->exit_status = EXIT_STATUS_HOST;
        err_set(err, -EINTR, "ended by force: the guest did not power off");
        break;
    default:
        break; /* a reset that failed: its message is out */
    }
}

/* ---- building and taking down ------------------------------------------------------------------
 */

static int open_signals(struct vm *vm, struct err *err)
{
    sigset_t set;

    sigemptyset(&set);
    sigaddset(&set, SIGTERM);
    sigaddset(&set, SIGINT);
    sigaddset(&set, SIGHUP);
    if (vm->config->debug_stats)
        sigaddset(&set, SIGUSR2);
    sigprocmask(SIG_BLOCK, &set, NULL);
    vm->signal_fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
    vm->force_fd = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
    if (vm->signal_fd < 0 || vm->force_fd < 0)
        return err_set(err, -errno, "signals: %s", strerror(errno));
    vm->signal_watch = (struct loop_fd){
        .fd = vm->signal_fd, .events = LOOP_IN, .ready = signal_ready, .ctx = vm};
    vm->force_watch = (struct loop_fd){
        .fd = vm->force_fd, .events = LOOP_IN, .ready = force_ready, .ctx = vm};
    int r = loop_add(vm->loop, &vm->signal_watch);
    if (r == 0)
        r = loop_add(vm->loop, &vm->force_watch);
    return r < 0 ? err_set(err, r, "signals: %s", strerror(-r)) : 0;
}

static int make_machine(struct vm *vm, struct err *err)
{
    const struct config *config = vm->config;
    const struct backends_escape escape = {.leave = leave, .ctx = vm};
    struct machine_config machine = {
        .ram_bytes = config->memory_bytes,
        .cpu_count = config->cpu_count,
        .has_hpet = config->has_hpet,
        .has_testdev = config->has_testdev,
        .host = {.end = end, .wake = wake, .yield = yield, .remap = remap, .ctx = vm}};

    vm->exit_status = EXIT_STATUS_HOST;
    int r = map_init(&vm->ram, config->memory_bytes, 0, err);
    if (r < 0)
        return r;
    machine.ram = vm->ram.base;
    vm->exit_status = EXIT_STATUS_FILE;
    r = backends_open(&vm->backends, config, vm->loop, &escape, &machine, err);
    if (r < 0)
        return r;
    vm->exit_status = EXIT_STATUS_ARGUMENT;
    vm->machine = machine_build(&machine, err);
    if (!vm->machine)
        return -EINVAL;
    struct vm_clock *clock = machine_clock(vm->machine);
    loop_alarm_bind(vm->loop, clock_fire, clock);
    clock->rearm = loop_alarm_set;
    clock->rearm_ctx = vm->loop;
    return backends_start(&vm->backends, err);
}

static int make_vcpus(struct vm *vm, enum engine_kind kind, struct err *err)
{
    vm->exit_status = EXIT_STATUS_ENGINE;
    vm->engine = engine_make(kind, machine_mem(vm->machine), vm->config->cpu_count,
                             machine_physical_bits(vm->machine), err);
    if (!vm->engine)
        return -ENODEV;
    if (vm->config->has_lockstep)
        engine_lockstep(kind, vm->engine, vm->config->lockstep_first, vm->config->lockstep_every);
    if (vm->config->debug_trace) {
        vm->trace = trace_open(vm->config->debug_trace, err);
        if (!vm->trace)
            return -EINVAL;
        engine_trace(kind, vm->engine, trace_tracer(vm->trace));
    }
    for (unsigned i = 0; i < vm->config->cpu_count; i++) {
        struct vcpu *vcpu = vm->engine->ops->vcpu_new(vm->engine, i, err);
        if (!vcpu)
            return -ENODEV;
        vm->runners[i].vm = vm;
        vm->runners[i].vcpu = vcpu;
        vm->runner_count++;
        machine_attach(vm->machine, vcpu);
    }
    return 0;
}

static int start(struct vm *vm, struct err *err)
{
    char reason[ENGINE_REASON_BYTES];
    enum engine_kind kind;

    vm->exit_status = EXIT_STATUS_ENGINE;
    int r = engine_choose(vm->config->engine, &kind, reason, err);
    if (r < 0)
        return r;
    fprintf(stderr, "atoll-vm: %s\n", reason);
    vm->exit_status = EXIT_STATUS_HOST;
    vm->loop = loop_new(err);
    if (!vm->loop)
        return -EMFILE;
    r = open_signals(vm, err);
    if (r == 0)
        r = make_machine(vm, err);
    if (r == 0)
        r = make_vcpus(vm, kind, err);
    if (r == 0)
        r = boot(vm, err);
    return r;
}

static void take_down(struct vm *vm)
{
    if (vm->machine)
        stop_threads(vm);
    if (vm->end.is_set && (vm->end.how == MACHINE_CRASHED || vm->end.how == END_ENGINE_FAILED))
        vm->runners[vm->end.cpu].vcpu->ops->get(vm->runners[vm->end.cpu].vcpu, &vm->crash);
    write_stats(vm);
    if (vm->loop)
        loop_alarm_set(vm->loop, UINT64_MAX);
    backends_drain(&vm->backends);
    for (unsigned i = 0; i < vm->runner_count; i++)
        vm->runners[i].vcpu->ops->free(vm->runners[i].vcpu);
    if (vm->engine)
        vm->engine->ops->free(vm->engine);
    trace_close(vm->trace);
    backends_stop(&vm->backends);
    machine_free(vm->machine);
    backends_close(&vm->backends);
    if (vm->loop) {
        loop_remove(vm->loop, &vm->signal_watch);
        loop_remove(vm->loop, &vm->force_watch);
        loop_unpost(vm->loop, &vm->end_task);
        loop_unpost(vm->loop, &vm->remap_task);
        loop_free(vm->loop);
    }
    fd_close(&vm->signal_fd);
    fd_close(&vm->force_fd);
    map_fini(&vm->ram);
}

int run(const struct config *config, struct err *err)
{
    static struct vm vm; /* one per process */

    vm = (struct vm){.config = config,
                     .signal_fd = -1,
                     .force_fd = -1,
                     .ram = {.fd = -1},
                     .backends = {.firmware = {.store_fd = -1}}};
    vm.end_task = (struct loop_task){.run = end_run, .ctx = &vm};
    vm.remap_task = (struct loop_task){.run = follow_remap, .ctx = &vm};
    int r = start(&vm, err);
    if (r == 0) {
        loop_run(vm.loop);
        conclude(&vm, err);
    }
    take_down(&vm);
    if (vm.end.is_set && (vm.end.how == MACHINE_CRASHED || vm.end.how == END_ENGINE_FAILED))
        dump_registers(vm.end.cpu, &vm.crash);
    return vm.exit_status;
}
