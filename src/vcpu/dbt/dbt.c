/*
 * vcpu/dbt/dbt.c - the vCPU contract on top of the translator library.
 *
 * Runs   vcpu_run on the vCPU's thread, which belongs to that vCPU from its first run on.
 * Trust  the library bounds what the guest can do; here are only hand-overs.
 */
#include "vcpu/dbt/dbt.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/bits.h"
#include "base/log.h"
#include "core/mem.h"
#include "dbt/counters.h"
#include "dbt/cpu.h"
#include "dbt/lockstep.h"
#include "dbt/trace.h"
#include "vcpu/dbt/translator.h"
#include "vcpu/dbt/trap.h"

enum { CPU_ALIGN = 64 };
enum { CODE_BYTES = 256 << 20, CODE_BYTES_SMALL = 32 << 20, RAM_SHARE = 4 };
enum { CODE_BYTES_MIN = 256 << 10, CODE_BYTES_MAX = 1 << 30 };

struct dbt_engine {
    struct engine engine;
    struct cpu_group group;
    struct translator_cache cache;   /* made with the first vCPU */
    const struct jit_tracer *tracer; /* borrowed; may be NULL */
    bool has_lockstep;
    u32 lockstep_first, lockstep_every;
};

struct dbt_vcpu {
    struct vcpu vcpu;
    struct cpu *cpu; /* owned */
    struct translator translator;
};

/* Whose traps the calling thread takes; given back when the thread ends. */
static pthread_key_t thread_key;
static pthread_once_t thread_key_once = PTHREAD_ONCE_INIT;
static int thread_key_result;

static void thread_ends(void *cpu)
{
    trap_thread_end();
}

static void thread_key_make(void)
{
    thread_key_result = -pthread_key_create(&thread_key, thread_ends);
}

static struct cpu *cpu_of(struct vcpu *vcpu)
{
    return container_of(vcpu, struct dbt_vcpu, vcpu)->cpu;
}

/* Gives the calling thread's traps to CPU, or to nobody (NULL). */
static int thread_give(struct cpu *cpu)
{
    if (pthread_getspecific(thread_key))
        trap_thread_end();
    pthread_setspecific(thread_key, NULL);
    if (!cpu)
        return 0;
    int r = trap_thread_begin(cpu, NULL);
    if (r == 0)
        r = -pthread_setspecific(thread_key, cpu);
    return r;
}

static void take_wishes(struct vcpu *vcpu, struct cpu *cpu)
{
    if (vcpu->wanted & VCPU_FLUSH_TLB)
        cpu_request(cpu, ATTENTION_TLB);
    if ((vcpu->wanted & VCPU_WAKE) && cpu->activity == X86_HALTED)
        cpu->activity = X86_ACTIVE;
    vcpu->wanted = 0;
}

static void dbt_run(struct vcpu *vcpu)
{
    struct cpu *cpu = cpu_of(vcpu);

    if (unlikely(pthread_getspecific(thread_key) != cpu) && thread_give(cpu) < 0) {
        vcpu->exit = (struct vm_exit){.kind = EXIT_FAILED,
                                      .reason = "no memory for the vCPU thread's signal stack"};
        return;
    }
    cpu->irq.pending = vcpu->irq.pending;
    cpu->irq.ack = vcpu->irq.ack;
    cpu->irq.ctx = vcpu->irq.ctx;
    cpu->irq.tpr = vcpu->irq.tpr;
    cpu->exit.value = vcpu->exit.value;
    cpu->exit.msr_fault = vcpu->exit.msr_fault;
    if (unlikely(vcpu->wanted))
        take_wishes(vcpu, cpu);
    cpu_run(cpu);
    vcpu->exit = cpu->exit;
    vcpu->tsc_offset = cpu->tsc_offset;
}

static void dbt_kick(struct vcpu *vcpu)
{
    cpu_request(cpu_of(vcpu), ATTENTION_EXIT);
}

static void dbt_nmi(struct vcpu *vcpu)
{
    struct cpu *cpu = cpu_of(vcpu);
    bool again = __atomic_load_n(&cpu->attention, __ATOMIC_RELAXED) & ATTENTION_NMI;

    cpu_request(cpu, again ? ATTENTION_NMI | ATTENTION_NMI_AGAIN : ATTENTION_NMI);
}

static void dbt_get(struct vcpu *vcpu, struct x86_state *ret_state)
{
    cpu_get_state(cpu_of(vcpu), ret_state);
}

static int dbt_set(struct vcpu *vcpu, const struct x86_state *state)
{
    int r = cpu_set_state(cpu_of(vcpu), state);

    vcpu->tsc_offset = cpu_of(vcpu)->tsc_offset;
    return r;
}

static void dbt_vcpu_free(struct vcpu *vcpu)
{
    if (!vcpu)
        return;
    struct dbt_vcpu *dbt = container_of(vcpu, struct dbt_vcpu, vcpu);
    if (pthread_getspecific(thread_key) == dbt->cpu)
        (void)thread_give(NULL);
    if (dbt->cpu) {
        translator_fini(&dbt->translator, dbt->cpu);
        cpu_fini(dbt->cpu);
    }
    free(dbt->cpu);
    alloc_free(dbt);
}

static const struct vcpu_ops dbt_vcpu_ops = {.run = dbt_run,
                                             .kick = dbt_kick,
                                             .nmi = dbt_nmi,
                                             .get = dbt_get,
                                             .set = dbt_set,
                                             .free = dbt_vcpu_free};

/* Guest memory that the VM has now. */
static u64 ram_bytes(const struct mem *mem)
{
    u64 bytes = 0;
    for (size_t i = 0; i < mem->slot_count; i++)
        bytes += mem->slots[i].bytes;
    return bytes;
}

/* Code memory of the VM: CODE_BYTES, less for a small guest, or what ATOLL_CODE_CACHE says (for
 * tests and measurements), a number of bytes with K, M or G behind it, brought within limits. It is
 * taken from the host as it is filled. */
static size_t code_bytes(const struct mem *mem)
{
    const char *text = getenv("ATOLL_CODE_CACHE");
    char *end;
    if (text == NULL || text[0] < '0' || text[0] > '9')
        return (size_t)min_u64(CODE_BYTES, max_u64(CODE_BYTES_SMALL, ram_bytes(mem) / RAM_SHARE));
    u64 bytes = min_u64(strtoull(text, &end, 10), CODE_BYTES_MAX);
    unsigned shift = *end == 'K' ? 10 : *end == 'M' ? 20 : *end == 'G' ? 30 : 0;
    bytes = min_u64(bytes << shift, CODE_BYTES_MAX);
    return bytes < CODE_BYTES_MIN ? CODE_BYTES_MIN : (size_t)bytes;
}

static struct vcpu *dbt_vcpu_new(struct engine *engine, unsigned index, struct err *err)
{
    struct dbt_engine *dbt = container_of(engine, struct dbt_engine, engine);
    struct dbt_vcpu *vcpu = new0(struct dbt_vcpu);
    size_t bytes = (sizeof(struct cpu) + CPU_ALIGN - 1) / CPU_ALIGN * CPU_ALIGN;
    struct cpu *cpu = aligned_alloc(CPU_ALIGN, bytes);

    if (!vcpu || !cpu) {
        err_set(err, -ENOMEM, "no memory for vCPU %u", index);
        goto fail;
    }
    memset(cpu, 0, bytes);
    int r = cpu_init(cpu, &dbt->group, index);
    if (r < 0) {
        err_set(err, r, "no memory for vCPU %u", index);
        goto fail;
    }
    if (getenv("ATOLL_INTERPRET") == NULL) {
        if (dbt->cache.jit == NULL)
            r = translator_cache_init(&dbt->cache, &dbt->group, code_bytes(dbt->engine.mem));
        if (r == 0)
            r = translator_share(&vcpu->translator, cpu, &dbt->cache);
        if (r == 0 && dbt->tracer && jit_trace(cpu, dbt->tracer) < 0)
            log_warn("dbt", "vCPU %u is not traced: no memory", index);
        if (r == 0 && dbt->has_lockstep &&
            jit_lockstep(cpu, dbt->lockstep_first, dbt->lockstep_every) < 0)
            log_warn("dbt", "vCPU %u is not checked: no memory", index);
        if (r < 0)
            log_warn("dbt", "vCPU %u is interpreted, which is slow: no translator: %s", index,
                     strerror(-r));
    }
    vcpu->vcpu.ops = &dbt_vcpu_ops;
    vcpu->vcpu.engine = engine;
    vcpu->vcpu.index = index;
    vcpu->cpu = cpu;
    return &vcpu->vcpu;
fail:
    free(cpu);
    alloc_free(vcpu);
    return NULL;
}

/* Addresses in this process may have changed under every cached page. */
static int dbt_memory_changed(struct engine *engine, struct err *err)
{
    struct dbt_engine *dbt = container_of(engine, struct dbt_engine, engine);

    for (unsigned i = 0; i < dbt->group.cpu_count; i++)
        if (dbt->group.cpus[i])
            cpu_request(dbt->group.cpus[i], ATTENTION_FLUSH);
    return 0;
}

static void dbt_dirty_sync(struct engine *engine)
{
    cpu_group_dirty_sync(&container_of(engine, struct dbt_engine, engine)->group);
}

static void dbt_counters(struct engine *engine, unsigned index, const struct counter_sink *sink)
{
    struct dbt_engine *dbt = container_of(engine, struct dbt_engine, engine);

    if (index < dbt->group.cpu_count && dbt->group.cpus[index])
        cpu_counters_tell(dbt->group.cpus[index], sink);
}

static void dbt_free(struct engine *engine)
{
    if (!engine)
        return;
    struct dbt_engine *dbt = container_of(engine, struct dbt_engine, engine);
    dbt->engine.mem->code_written = NULL;
    dbt->engine.mem->code_written_ctx = NULL;
    translator_cache_fini(&dbt->cache);
    alloc_free(dbt);
}

static const struct engine_ops dbt_engine_ops = {.name = "dbt",
                                                 .vcpu_new = dbt_vcpu_new,
                                                 .memory_changed = dbt_memory_changed,
                                                 .dirty_sync = dbt_dirty_sync,
                                                 .counters = dbt_counters,
                                                 .free = dbt_free};

void dbt_engine_lockstep(struct engine *engine, u32 first, u32 every)
{
    struct dbt_engine *dbt = container_of(engine, struct dbt_engine, engine);

    dbt->has_lockstep = true;
    dbt->lockstep_first = first;
    dbt->lockstep_every = every;
}

void dbt_engine_trace(struct engine *engine, const struct jit_tracer *tracer)
{
    container_of(engine, struct dbt_engine, engine)->tracer = tracer;
}

struct engine *dbt_engine_new(struct mem *mem, const struct cpuid_model *cpuid, struct err *err)
{
    pthread_once(&thread_key_once, thread_key_make);
    if (thread_key_result < 0) {
        err_set(err, thread_key_result, "engine dbt: %s", strerror(-thread_key_result));
        return NULL;
    }
    if (trap_install(err) < 0)
        return NULL;
    struct dbt_engine *dbt = new0(struct dbt_engine);
    if (!dbt) {
        err_set(err, -ENOMEM, "no memory for the dbt engine");
        return NULL;
    }
    dbt->engine = (struct engine){.ops = &dbt_engine_ops, .mem = mem, .cpuid = cpuid};
    cpu_group_init(&dbt->group, mem, cpuid);
    mem->code_written = cpu_group_code_written;
    mem->code_written_ctx = &dbt->group;
    return &dbt->engine;
}
