/*
 * tests/system/selfmod_maps.c - addresses whose code changes because their page does, and pages
 * that change through other addresses, by the kernel, or by a device.
 *
 * Spec   Intel SDM vol. 3A 4.10.4 (invalidation of translations), 8.1.3.
 */
#include "selfmod.h"

#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

/* One page, two addresses: written at one and run at the other. */
static void alias(unsigned rounds)
{
    int fd = file_new(2);
    uint8_t *writable = pages_map(NULL, fd, 0, 2, RW), *runs = pages_map(NULL, fd, 0, 2, RX);
    uint8_t *runs_too = pages_map(NULL, fd, 0, 2, RX);

    for (unsigned round = 0; round < rounds; round++) {
        unsigned at = round % 5 * 1021;
        put_return(writable + at, (int)round);
        serialize();
        expect("alias", round, call(runs + at), (int)round);
        expect("alias", round, call(runs_too + at), (int)round);
    }
    /* The same through the file, where the kernel writes. */
    for (unsigned round = 0; round < rounds; round++) {
        uint8_t code[6];
        put_return(code, (int)round);
        if (pwrite(fd, code, sizeof(code), PAGE - 3) != sizeof(code))
            fail("alias", "pwrite");
        expect("file-write", round, call(runs + PAGE - 3), (int)round);
    }
    munmap(writable, 2 * PAGE);
    munmap(runs, 2 * PAGE);
    munmap(runs_too, 2 * PAGE);
    close(fd);
}

/* Never writable and executable at the same time, as just-in-time compilers do it. */
static void write_xor_execute(unsigned rounds)
{
    uint8_t *pages = pages_new(4, RW);

    for (unsigned round = 0; round < rounds; round++) {
        mprotect(pages, 4 * PAGE, RW);
        for (unsigned i = 0; i < 4; i++)
            put_return(pages + i * PAGE + round % 4000, (int)(round + i));
        mprotect(pages, 4 * PAGE, RX);
        for (unsigned i = 0; i < 4; i++)
            expect("write-xor-execute", round, call(pages + i * PAGE + round % 4000),
                   (int)(round + i));
    }
    munmap(pages, 4 * PAGE);
}

/* An address whose page changes: reached by a call, a jump, a return and by falling into it. */
static void remap(unsigned rounds)
{
    enum { VERSIONS = 5 };
    int fd = file_new(VERSIONS * 2);
    uint8_t *file = pages_map(NULL, fd, 0, VERSIONS * 2, RW), *area = pages_new(2, RWX);

    for (int i = 0; i < VERSIONS; i++) {
        put_return(file + i * PAGE + 100, i);
        /* An instruction with its last two bytes on the page that changes. */
        file[i * PAGE] = (uint8_t)i;
        file[i * PAGE + 1] = 0;
        file[i * PAGE + 2] = 0xc3;
    }
    put_branch(area, 0xe8, area + PAGE + 100);
    area[5] = 0xc3;
    put_branch(area + 16, 0xe9, area + PAGE + 100);
    memcpy(area + PAGE - 3, "\xb8\x07\x00", 3);
    for (unsigned round = 0; round < rounds; round++) {
        int version = (int)(round * 3 % VERSIONS);
        pages_map(area + PAGE, fd, (size_t)version, 1, RX);
        expect("remap-call", round, call(area), version);
        expect("remap-jump", round, call(area + 16), version);
        expect("remap-direct", round, call(area + PAGE + 100), version);
        expect("remap-across", round, call(area + PAGE - 3), version << 16 | 7);
    }
    munmap(area, 2 * PAGE);
    munmap(file, VERSIONS * 2 * PAGE);
    close(fd);
}

static struct {
    uint8_t *at;
    int fd;
    size_t version;
} swap;

static void swap_page(void)
{
    pages_map(swap.at, swap.fd, swap.version, 1, RX);
}

/* The function that a call goes to changes the page that it returns to. */
static void return_to_another_page(unsigned rounds)
{
    int fd = file_new(2);
    uint8_t *file = pages_map(NULL, fd, 0, 2, RW), *area = pages_new(1, RX);

    for (uint8_t i = 0; i < 2; i++) {
        /* sub rsp, 8; call rdi; mov eax, 40 + i; add rsp, 8; ret */
        uint8_t code[] = {0x48, 0x83, 0xec, 8,    0xff, 0xd7, 0xb8, (uint8_t)(40 + i),
                          0,    0,    0,    0x48, 0x83, 0xc4, 8,    0xc3};
        memcpy(file + i * PAGE + 64, code, sizeof(code));
    }
    int (*fn)(void (*)(void));
    uint8_t *entry = area + 64;
    memcpy(&fn, &entry, sizeof(fn));
    pages_map(area, fd, 0, 1, RX);
    for (unsigned round = 0; round < rounds; round++) {
        swap.at = area;
        swap.fd = fd;
        swap.version = (round >> 1 ^ round) & 1;
        expect("return-to-another-page", round, fn(swap_page), 40 + (int)swap.version);
    }
    munmap(area, PAGE);
    munmap(file, 2 * PAGE);
    close(fd);
}

/* Private copies: parent and child run different code at the same address. */
static void fork_and_patch(unsigned rounds)
{
    uint8_t *page = pages_new(1, RWX);

    for (unsigned round = 0; round < rounds; round++) {
        put_return(page, (int)round);
        expect("fork", round, call(page), (int)round);
        pid_t child = fork();
        if (child == 0) {
            bool ok = call(page) == (int)round;
            put_return(page, (int)round + 1000);
            ok = ok && call(page) == (int)round + 1000;
            put_return(page, (int)round + 2000);
            _exit(ok && call(page) == (int)round + 2000 ? 0 : 1);
        }
        put_return(page, (int)round + 500);
        expect("fork", round, call(page), (int)round + 500);
        int status = 1;
        if (child < 0 || waitpid(child, &status, 0) < 0 || status != 0)
            fail("fork", "round %u: the child's code is wrong", round);
        expect("fork", round, call(page), (int)round + 500);
    }
    munmap(page, PAGE);
}

static void move_pages(unsigned rounds)
{
    uint8_t *from = pages_new(1, RWX), *place = pages_new(1, PROT_NONE);

    for (unsigned round = 0; round < rounds; round++) {
        put_return(from, (int)round);
        expect("mremap", round, call(from), (int)round);
        if (mremap(from, PAGE, PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, place) != place)
            fail("mremap", "mremap");
        expect("mremap", round, call(place), (int)round);
        uint8_t *other = mmap(from, PAGE, RWX, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
        put_return(other, (int)round + 9);
        expect("mremap", round, call(other), (int)round + 9);
        expect("mremap", round, call(place), (int)round);
        munmap(other, PAGE);
        from = place;
        place = other;
    }
    munmap(from, PAGE);
}

/* ---- devices -----------------------------------------------------------------------------------
 */

static void run_from_disk(unsigned rounds, const char *path)
{
    enum { SPAN = 16, DISK_PAGES = 256 };
    int fd = open(path, O_RDONLY | O_DIRECT);
    uint8_t *area = pages_new(SPAN, RWX);

    if (fd < 0)
        fail("disk", "cannot open %s", path);
    for (unsigned round = 0; round < rounds; round++) {
        unsigned first = round * 37 % (DISK_PAGES - SPAN), into = round % 8;
        ssize_t bytes = (SPAN - 8) * PAGE;
        if (pread(fd, area + into * PAGE, (size_t)bytes, (off_t)first * PAGE) != bytes)
            fail("disk", "pread");
        for (unsigned i = 0; i < SPAN - 8; i++)
            expect("disk", round, call(area + (into + i) * PAGE), (int)(first + i));
    }
    munmap(area, SPAN * PAGE);
    close(fd);
}

void selfmod_maps(unsigned rounds, const char *disk)
{
    alias(rounds);
    done("alias");
    write_xor_execute(rounds);
    done("write-xor-execute");
    remap(rounds);
    done("remap");
    return_to_another_page(rounds);
    done("return-to-another-page");
    fork_and_patch(rounds / 10 + 1);
    done("fork");
    move_pages(rounds);
    done("mremap");
    if (disk) {
        run_from_disk(rounds / 4 + 1, disk);
        done("disk");
    }
}
