/*
 * machine/fake_engine.h - an engine without a processor, for tests of the machine: the test fills
 * vcpu->exit and dispatches it. Not part of the product.
 */
#ifndef MACHINE_FAKE_ENGINE_H
#define MACHINE_FAKE_ENGINE_H

#include "base/alloc.h"
#include "vcpu/vcpu.h"
#include "x86/regs.h"

struct fake_vcpu {
    struct vcpu vcpu;
    struct x86_state state;
    unsigned kicks, nmis;
};

static inline struct fake_vcpu *fake_of(struct vcpu *vcpu)
{
    return container_of(vcpu, struct fake_vcpu, vcpu);
}

static inline void fake_run(struct vcpu *vcpu)
{
    vcpu->exit = (struct vm_exit){.kind = EXIT_KICKED};
}

static inline void fake_kick(struct vcpu *vcpu)
{
    fake_of(vcpu)->kicks++;
}

static inline void fake_nmi(struct vcpu *vcpu)
{
    fake_of(vcpu)->nmis++;
}

static inline void fake_get(struct vcpu *vcpu, struct x86_state *ret_state)
{
    *ret_state = fake_of(vcpu)->state;
}

static inline int fake_set(struct vcpu *vcpu, const struct x86_state *state)
{
    fake_of(vcpu)->state = *state;
    return 0;
}

static inline void fake_free(struct vcpu *vcpu)
{
    alloc_free(fake_of(vcpu));
}

static const struct vcpu_ops fake_vcpu_ops = {.run = fake_run,
                                              .kick = fake_kick,
                                              .nmi = fake_nmi,
                                              .get = fake_get,
                                              .set = fake_set,
                                              .free = fake_free};

static const struct engine_ops fake_engine_ops = {.name = "fake"};

static inline struct vcpu *fake_vcpu_new(struct engine *engine, unsigned index)
{
    struct fake_vcpu *fake = new0(struct fake_vcpu);
    if (!fake)
        return NULL;
    fake->vcpu.ops = &fake_vcpu_ops;
    fake->vcpu.engine = engine;
    fake->vcpu.index = index;
    return &fake->vcpu;
}

#endif
