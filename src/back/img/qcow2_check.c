/*
 * back/img/qcow2_check.c - looks through all tables of a qcow2 file, and mends what can be mended.
 *
 * First every reference is counted, from the header down; then the file's own counts are compared.
 * The counters are a lazily mapped array, so that a file with a huge hole costs nothing.
 * Trust  everything in the file is hostile; each entry is looked at once, so time is bounded by the
 *        size of the tables that the header's limits allow, and of the file.
 */
#include "back/img/qcow2_check.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>

#include "back/img/qcow2_priv.h"
#include "back/img/qcow2_snapshot.h"
#include "base/alloc.h"
#include "base/fmt.h"
#include "host/fault.h"

enum { PROBLEMS_MAX = 100, PROBLEM_BYTES = 128 };
#define CLUSTERS_MAX (BIT(30))

struct checker {
    struct qcow2 *q;
    const struct qcow2_check_options *options;
    struct qcow2_report report;
    u32 *counts; /* owned mapping */
    u64 clusters, problems_told;
};

static void PRINTF_LIKE(2, 3) problem(struct checker *checker, const char *format, ...)
{
    char text[PROBLEM_BYTES];
    va_list args;
    if (checker->options->problem == NULL || checker->problems_told++ >= PROBLEMS_MAX)
        return;
    va_start(args, format);
    fmt_text_v(text, sizeof(text), format, args);
    va_end(args);
    checker->options->problem(checker->options->ctx, text);
}

/* Counts a use of the bytes; false when they are not in the file. */
static bool use(struct checker *checker, u64 offset, u64 bytes, const char *what)
{
    const struct qcow2 *q = checker->q;
    u64 first = offset >> q->cluster_bits, last = (offset + bytes - 1) >> q->cluster_bits;
    if (bytes == 0)
        return true;
    if (offset > INT64_MAX || last >= checker->clusters) {
        checker->report.bad_count++;
        problem(checker, "%s at 0x%llx lies beyond the end of the file", what,
                (unsigned long long)offset);
        return false;
    }
    for (u64 i = first; i <= last; i++)
        checker->counts[i] += checker->counts[i] != UINT32_MAX;
    return true;
}

static bool is_misaligned(struct checker *checker, u64 offset, const char *what)
{
    if ((offset & (checker->q->cluster_bytes - 1)) == 0)
        return false;
    checker->report.bad_count++;
    problem(checker, "%s at 0x%llx does not start with a cluster", what,
            (unsigned long long)offset);
    return true;
}

static void count_entry(struct checker *checker, u64 entry, u64 bitmap, bool is_active)
{
    struct qcow2 *q = checker->q;
    struct qcow2_report *report = &checker->report;
    u64 host = entry & QCOW2_OFFSET_MASK, offset, bytes;
    if ((entry & QCOW2_COMPRESSED) != 0) {
        qcow2_packed_place(q, entry, &offset, &bytes);
        report->packed_count += is_active;
        use(checker, offset, bytes, "a compressed cluster");
        return;
    }
    bool is_zero = q->is_extended ? (bitmap >> 32) != 0 && (u32)bitmap == 0
                                  : (entry & QCOW2_ZERO) != 0 && q->header.version >= 3;
    report->zero_count += is_active && is_zero;
    if (q->is_extended && ((bitmap >> 32) & (u32)bitmap) != 0) {
        report->bad_count++;
        problem(checker, "a cluster's subclusters are both data and zeroes");
    }
    if (host == 0 || q->data_file != NULL)
        return;
    if (is_misaligned(checker, host, "a cluster"))
        return;
    report->data_count += is_active && !is_zero;
    use(checker, host, q->cluster_bytes, "a cluster");
}

/* All that an L1 leads to. */
static int count_tree(struct checker *checker, const u64 *l1, u64 l1_count, bool is_active)
{
    struct qcow2 *q = checker->q;
    u8 *table = alloc_zero(q->cluster_bytes);
    int result = table != NULL ? 0 : -ENOMEM;
    for (u64 i = 0; i < l1_count && result == 0; i++) {
        u64 offset = l1[i] & QCOW2_OFFSET_MASK;
        if (offset == 0 || is_misaligned(checker, offset, "an L2 table") ||
            !use(checker, offset, q->cluster_bytes, "an L2 table"))
            continue;
        result = file_read(q->file, offset, table, q->cluster_bytes);
        for (u64 at = 0; at < q->cluster_bytes && result == 0; at += 1u << q->entry_bits)
            count_entry(checker, load_be64(table + at),
                        q->is_extended ? load_be64(table + at + 8) : 0, is_active);
    }
    alloc_free(table);
    return result;
}

static int count_snapshots(struct checker *checker, struct err *err)
{
    struct qcow2 *q = checker->q;
    struct qcow2_snapshots list;
    int result = qcow2_snapshots_load(q, &list, err);
    if (result != 0) {
        checker->report.bad_count++;
        problem(checker, "the table of snapshots cannot be read");
        return result == -ENOMEM || result == -EIO ? result : 0;
    }
    use(checker, q->header.snapshot_offset, list.bytes, "the table of snapshots");
    for (u32 i = 0; i < list.count && result == 0; i++) {
        u64 *l1 = NULL;
        result = qcow2_snapshot_l1(q, &list.items[i], &l1);
        if (result == 0) {
            use(checker, list.items[i].l1_offset, (u64)list.items[i].l1_count * 8,
                "a snapshot's L1 table");
            result = count_tree(checker, l1, list.items[i].l1_count, false);
        } else if (result == -EINVAL) {
            checker->report.bad_count++;
            problem(checker, "a snapshot's L1 table makes no sense");
            result = 0;
        }
        alloc_free(l1);
    }
    qcow2_snapshots_fini(&list);
    return result;
}

static int count_all(struct checker *checker, struct err *err)
{
    struct qcow2 *q = checker->q;
    use(checker, 0, q->cluster_bytes, "the header");
    use(checker, q->header.l1_offset, (u64)q->l1_count * 8, "the L1 table");
    use(checker, q->header.reftable_offset, q->reftable_count * 8, "the refcount table");
    for (u64 i = 0; i < q->reftable_count; i++) {
        u64 block = align_down(q->reftable[i], 512);
        if (block == 0 || (!is_misaligned(checker, block, "a refcount block") &&
                           use(checker, block, q->cluster_bytes, "a refcount block")))
            continue;
        if (checker->options->mends_all)
            q->reftable[i] = 0; /* mended as one that is missing */
    }
    int result = count_tree(checker, q->l1, q->l1_count, true);
    return result == 0 ? count_snapshots(checker, err) : result;
}

static void compare_count(struct checker *checker, u64 number, u64 stored)
{
    struct qcow2_report *report = &checker->report;
    u64 counted = checker->counts[number];
    if (counted != 0)
        report->end_offset = (number + 1) << checker->q->cluster_bits;
    if (stored == counted)
        return;
    if (stored < counted)
        report->bad_count++;
    else
        report->leak_count++;
    problem(checker, "cluster %llu is used %llu times, but counted %llu times",
            (unsigned long long)number, (unsigned long long)counted, (unsigned long long)stored);
    bool mends = checker->options->mends_all || (stored > counted && checker->options->mends_leaks);
    if (mends && qcow2_ref_mend(checker->q, number, counted) == 0) {
        report->mended_count++;
        if (stored < counted)
            report->bad_count--;
        else
            report->leak_count--;
    }
}

static int compare_counts(struct checker *checker)
{
    u64 stored, block;
    int result = 0;
    for (u64 number = 0; number < checker->clusters && result == 0; number++) {
        stored = 0;
        if (qcow2_refblock_of(checker->q, number, &block) == 0)
            result = qcow2_ref_get(checker->q, number, &stored);
        if (result == 0)
            compare_count(checker, number, stored);
    }
    return result;
}

static void compare_flag(struct checker *checker, u64 entry, u64 refs, const char *what,
                         bool *ret_differs)
{
    *ret_differs = ((entry & QCOW2_COPIED) != 0) != (refs == 1);
    if (!*ret_differs)
        return;
    checker->report.flag_count++;
    problem(checker, "%s at 0x%llx is used %llu times, and marked otherwise", what,
            (unsigned long long)(entry & QCOW2_OFFSET_MASK), (unsigned long long)refs);
}

static u64 uses_of(const struct checker *checker, u64 offset)
{
    u64 number = offset >> checker->q->cluster_bits;
    return number < checker->clusters ? checker->counts[number] : 0;
}

static int compare_table_flags(struct checker *checker, u64 index)
{
    struct qcow2 *q = checker->q;
    struct qcow2_cluster cluster;
    bool differs;
    u64 first = index << q->table_bits;
    for (u64 i = 0; i < BIT(q->table_bits); i++) {
        /* What makes no sense has been told already. */
        if (qcow2_cluster_get(q, first + i, true, &cluster) != 0 || !cluster.has_host ||
            cluster.is_compressed)
            continue;
        u64 refs = uses_of(checker, cluster.host);
        compare_flag(checker, cluster.host | (cluster.is_copied ? QCOW2_COPIED : 0), refs,
                     "a cluster", &differs);
        cluster.is_copied = refs == 1;
        if (!differs || !checker->options->mends_all)
            continue;
        int result = qcow2_cluster_set(q, first + i, &cluster);
        if (result != 0)
            return result;
        checker->report.mended_count++;
        checker->report.flag_count--;
    }
    return 0;
}

static int compare_flags(struct checker *checker)
{
    struct qcow2 *q = checker->q;
    bool differs;
    int result = 0;
    for (u64 i = 0; i < q->l1_count && result == 0; i++) {
        u64 table = q->l1[i] & QCOW2_OFFSET_MASK;
        if (table == 0 || (table & (q->cluster_bytes - 1)) != 0 || table >= q->file->bytes)
            continue;
        u64 refs = uses_of(checker, table);
        compare_flag(checker, q->l1[i], refs, "an L2 table", &differs);
        if (differs && checker->options->mends_all) {
            qcow2_l1_set(q, i, table | (refs == 1 ? QCOW2_COPIED : 0));
            checker->report.mended_count++;
            checker->report.flag_count--;
        }
        if (q->data_file == NULL)
            result = compare_table_flags(checker, i);
    }
    return result;
}

/* What was mended becomes the file's, and the marks go if all is well now. */
static int finish(struct checker *checker)
{
    struct qcow2 *q = checker->q;
    u8 field[8];
    if (!checker->options->mends_all && !checker->options->mends_leaks)
        return 0;
    shared_set(&q->is_corrupt, false);
    shared_set(&q->needs_barrier, true);
    int result = qcow2_flush(q);
    u64 marks = QCOW2_INCOMPATIBLE_DIRTY | QCOW2_INCOMPATIBLE_CORRUPT;
    if (result != 0 || checker->report.bad_count != 0 || checker->report.flag_count != 0 ||
        (q->header.incompatible & marks) == 0)
        return result;
    q->header.incompatible &= ~marks;
    store_be64(field, q->header.incompatible);
    result = qcow2_poke(q, QCOW2_AT_INCOMPATIBLE, field, sizeof(field));
    q->is_dirty = false;
    return result == 0 ? file_sync(q->file) : result;
}

static int check_steps(struct checker *checker, struct err *err)
{
    int result = count_all(checker, err);
    if (result == 0)
        result = compare_counts(checker);
    if (result == 0)
        result = compare_flags(checker);
    return result == 0 ? finish(checker) : result;
}

int qcow2_check(struct qcow2 *q, const struct qcow2_check_options *options,
                struct qcow2_report *ret_report, struct err *err)
{
    struct checker checker = {.q = q, .options = options};
    checker.clusters = (q->file->bytes + q->cluster_bytes - 1) >> q->cluster_bits;
    checker.report.cluster_count = (q->size_bytes + q->cluster_bytes - 1) >> q->cluster_bits;
    if (checker.clusters > CLUSTERS_MAX)
        return err_set(err, -EFBIG, "disk '%s': the file is too large to be checked",
                       q->file->path);
    u64 bytes = (checker.clusters + 1) * sizeof(u32);
    int result = host_fault(FAULT_MAP);
    void *counts = result != 0 ? MAP_FAILED
                               : mmap(NULL, bytes, PROT_READ | PROT_WRITE,
                                      MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (counts == MAP_FAILED)
        return err_set(err, -ENOMEM, "disk '%s': out of memory", q->file->path);
    checker.counts = counts;
    result = qcow2_reftable_load(q, err);
    if (result == 0)
        result = check_steps(&checker, err);
    munmap(counts, bytes);
    *ret_report = checker.report;
    return result == 0 || (err != NULL && err->code != 0)
               ? result
               : err_set(err, result, "disk '%s': check: %s", q->file->path, strerror(-result));
}
