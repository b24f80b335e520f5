/*
 * tests/fuzz/boot_fuzz.c - the boot loaders on hostile kernels: no crash, no byte outside guest
 * RAM, no state beyond what the contract promises.
 *
 * Input: byte 0 chooses the RAM size, byte 1 the initrd, the rest is the kernel.
 */
#include <assert.h>
#include <string.h>
#include <sys/mman.h>

#include "core/mem.h"
#include "fuzz.h"
#include "machine/boot.h"
#include "machine/boot_samples.h"
#include "machine/memmap.h"
#include "x86/regs.h"

enum { GUARD_BYTES = 1 << 16, CONTROL_BYTES = 2 };

static const u64 ram_sizes_mib[] = {4, 16, 64, 3200};
static u8 initrd[70000];

/* RAM between two guards that fault when touched. */
static u8 *map_ram(u64 bytes)
{
    u8 *whole = mmap(NULL, bytes + 2 * GUARD_BYTES, PROT_NONE,
                     MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    assert(whole != MAP_FAILED);
    assert(mprotect(whole + GUARD_BYTES, bytes, PROT_READ | PROT_WRITE) == 0);
    return whole + GUARD_BYTES;
}

size_t fuzz_seed(unsigned index, u8 to[FUZZ_INPUT_MAX_BYTES])
{
    if (index >= SAMPLE_KINDS * 4)
        return 0;
    to[0] = (u8)(index / SAMPLE_KINDS);
    to[1] = (u8)(index % 3);
    return CONTROL_BYTES + sample_make(index % SAMPLE_KINDS, to + CONTROL_BYTES);
}

int LLVMFuzzerTestOneInput(const u8 *data, size_t bytes)
{
    static u8 *rams[ARRAY_LEN(ram_sizes_mib)];
    struct mem mem;
    struct memmap map;
    struct err err = {0};
    struct x86_state state;

    if (bytes < CONTROL_BYTES)
        return 0;
    unsigned size = data[0] % ARRAY_LEN(ram_sizes_mib);
    u64 ram_bytes = ram_sizes_mib[size] << 20;
    if (!rams[size])
        rams[size] = map_ram(ram_bytes);
    assert(memmap_init(&map, ram_bytes, false, &err) == 0);
    mem_init(&mem);
    for (unsigned i = 0; i < MEMMAP_RAM_COUNT; i++) {
        const struct memmap_range *range = &map.ram[i];
        assert(range->bytes == 0 || mem_add(&mem, range->base, range->bytes,
                                            rams[size] + range->ram_offset, false) == 0);
    }
    const struct boot_request request = {
        .mem = &mem,
        .map = &map,
        .kernel = {.data = data + CONTROL_BYTES, .bytes = bytes - CONTROL_BYTES},
        .initrd = {.data = initrd, .bytes = data[1] % 3 * (sizeof(initrd) / 2)},
        .command_line = "console=ttyS0",
        .rsdp = MEMMAP_TABLES_BASE,
        .seed = {.data = initrd, .bytes = 32}};
    int r = boot_load(&request, &state, &err);
    if (r < 0) {
        assert(err.code == r && err.text[0] != 0);
    } else {
        assert(state.seg[X86_CS].attr & X86_SEG_PRESENT);
        assert(state.cr0 & X86_CR0_PE);
    }
    mem_fini(&mem);
    /* Give big zeroed areas back, or the process grows with every hostile BSS. */
    madvise(rams[size], ram_bytes, MADV_DONTNEED);
    return 0;
}
