/*
 * cli/vol_args.c - the arguments of `atoll vol`.
 */
#include "cli/vol_args.h"

#include <errno.h>
#include <string.h>

#include "base/bits.h"
#include "cli/size.h"

enum { CLUSTER_BITS_DEFAULT = 16, REFCOUNT_ORDER_DEFAULT = 4 };

typedef int (*taker)(struct vol_args *args, const char *value, struct err *err);

static int choose(const char *option, const char *value, const char *const *names, struct err *err)
{
    for (int i = 0; names[i] != NULL; i++) {
        if (strcmp(value, names[i]) == 0)
            return i;
    }
    return err_set(err, -EINVAL, "%s '%s': choose %s or %s%s%s", option, value, names[0], names[1],
                   names[2] != NULL ? " or " : "", names[2] != NULL ? names[2] : "");
}

static int take_type_as(const char *option, const char *value, enum img_format *to, struct err *err)
{
    static const char *const names[] = {"raw", "qcow2", NULL};
    int choice = choose(option, value, names, err);
    if (choice >= 0)
        *to = choice == 0 ? IMG_RAW : IMG_QCOW2;
    return choice < 0 ? choice : 0;
}

static int take_type(struct vol_args *args, const char *value, struct err *err)
{
    return take_type_as("--type", value, &args->type, err);
}

static int take_from(struct vol_args *args, const char *value, struct err *err)
{
    return take_type_as("--from", value, &args->from, err);
}

static int take_to(struct vol_args *args, const char *value, struct err *err)
{
    return take_type_as("--to", value, &args->to, err);
}

static int take_format(struct vol_args *args, const char *value, struct err *err)
{
    static const char *const names[] = {"table", "json", NULL};
    int choice = choose("--format", value, names, err);
    args->is_json = choice == 1;
    return choice < 0 ? choice : 0;
}

static int take_repair(struct vol_args *args, const char *value, struct err *err)
{
    static const char *const names[] = {"leaks", "all", NULL};
    int choice = choose("--repair", value, names, err);
    args->mends_leaks = choice >= 0;
    args->mends_all = choice == 1;
    return choice < 0 ? choice : 0;
}

static int take_backing(struct vol_args *args, const char *value, struct err *err)
{
    args->backing = value;
    return 0;
}

static int take_backing_format(struct vol_args *args, const char *value, struct err *err)
{
    enum img_format format;
    args->backing_format = value;
    return take_type_as("--backing-format", value, &format, err);
}

static int take_data(struct vol_args *args, const char *value, struct err *err)
{
    args->data = value;
    return 0;
}

static int take_allow(struct vol_args *args, const char *value, struct err *err)
{
    if (args->folder_count == IMG_FOLDERS_MAX)
        return err_set(err, -EINVAL, "--allow: at most %u folders", IMG_FOLDERS_MAX);
    args->folders[args->folder_count++] = value;
    return 0;
}

static int take_cluster(struct vol_args *args, const char *value, struct err *err)
{
    u64 bytes = 0;
    if ((size_parse(value, &bytes) != 0 && number_parse(value, 512, 512, &bytes) != 0) ||
        !is_power_of_two(bytes) || bytes < 512 || bytes > 2 << 20)
        return err_set(err, -EINVAL, "--cluster '%s': choose 512, 1K, 2K, ... 1M or 2M", value);
    args->qcow2.cluster_bits = (u32)__builtin_ctzll(bytes);
    return 0;
}

static int take_refcount(struct vol_args *args, const char *value, struct err *err)
{
    u64 bits;
    if (number_parse(value, 1, 64, &bits) != 0 || !is_power_of_two(bits))
        return err_set(err, -EINVAL, "--refcount-bits '%s': choose 1, 2, 4, 8, 16, 32 or 64",
                       value);
    args->qcow2.refcount_order = (u32)__builtin_ctzll(bits);
    return 0;
}

static int take_version(struct vol_args *args, const char *value, struct err *err)
{
    u64 version;
    if (number_parse(value, 2, 3, &version) != 0)
        return err_set(err, -EINVAL, "--version '%s': choose 2 or 3", value);
    args->qcow2.version = (u32)version;
    return 0;
}

static int take_compression(struct vol_args *args, const char *value, struct err *err)
{
    static const char *const names[] = {"zlib", "zstd", NULL};
    int choice = choose("--compression", value, names, err);
    args->qcow2.has_zstd = choice == 1;
    return choice < 0 ? choice : 0;
}

static int take_preallocation(struct vol_args *args, const char *value, struct err *err)
{
    static const char *const names[] = {"off", "metadata", "falloc", "full", NULL};
    for (int i = 0; names[i] != NULL; i++) {
        if (strcmp(value, names[i]) == 0) {
            args->preallocation = (enum qcow2_preallocation)i;
            return 0;
        }
    }
    return err_set(err, -EINVAL, "--preallocation '%s': choose off, metadata, falloc or full",
                   value);
}

static const struct {
    const char *name;
    taker take;
} value_options[] = {{"--type", take_type},
                     {"--from", take_from},
                     {"--to", take_to},
                     {"--format", take_format},
                     {"--repair", take_repair},
                     {"--backing", take_backing},
                     {"--backing-format", take_backing_format},
                     {"--data", take_data},
                     {"--allow", take_allow},
                     {"--cluster", take_cluster},
                     {"--refcount-bits", take_refcount},
                     {"--version", take_version},
                     {"--compression", take_compression},
                     {"--preallocation", take_preallocation}};

static bool take_flag(struct vol_args *args, const char *name)
{
    if (strcmp(name, "--chain") == 0)
        args->is_chain = true;
    else if (strcmp(name, "--compress") == 0)
        args->is_packed = true;
    else if (strcmp(name, "--shrink") == 0)
        args->may_shrink = true;
    else if (strcmp(name, "--unsafe") == 0)
        args->is_unsafe = true;
    else if (strcmp(name, "--extended-l2") == 0)
        args->qcow2.is_extended = true;
    else if (strcmp(name, "--lazy-refcounts") == 0)
        args->qcow2.is_lazy = true;
    else if (strcmp(name, "--help") == 0 || strcmp(name, "-h") == 0)
        args->wants_help = true;
    else
        return false;
    return true;
}

/* How many of ARGV the option or word takes, or a negative error. */
static int take_one(struct vol_args *args, const char *const *argv, struct err *err)
{
    if (argv[0][0] != '-' || argv[0][1] == '\0') {
        if (args->word_count == VOL_WORDS_MAX)
            return err_set(err, -EINVAL, "'%s' is one argument too many; see 'atoll vol --help'",
                           argv[0]);
        args->words[args->word_count++] = argv[0];
        return 1;
    }
    if (take_flag(args, argv[0]))
        return 1;
    for (unsigned i = 0; i < ARRAY_LEN(value_options); i++) {
        if (strcmp(argv[0], value_options[i].name) != 0)
            continue;
        if (argv[1] == NULL)
            return err_set(err, -EINVAL, "%s needs a value", argv[0]);
        int result = value_options[i].take(args, argv[1], err);
        return result != 0 ? result : 2;
    }
    return err_set(err, -EINVAL, "'%s' is no option of 'atoll vol'; see 'atoll vol --help'",
                   argv[0]);
}

int vol_args_parse(struct vol_args *ret_args, const char *const *argv, struct err *err)
{
    *ret_args = (struct vol_args){.qcow2 = {.version = 3,
                                            .cluster_bits = CLUSTER_BITS_DEFAULT,
                                            .refcount_order = REFCOUNT_ORDER_DEFAULT}};
    while (*argv != NULL) {
        int taken = take_one(ret_args, argv, err);
        if (taken < 0)
            return taken;
        argv += taken;
    }
    return 0;
}

struct img_options vol_args_image(const struct vol_args *args, const char *path,
                                  enum img_format format)
{
    return (struct img_options){
        .path = path, .format = format, .data_path = args->data, .folders = args->folders};
}
