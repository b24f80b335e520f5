/*
 * tests/bench/jobs.c - runs whole programs as jobs and measures them, natively or as a guest's
 * init.
 *
 * Each job is one of work.sh, run once to get warm and then a few times; the best time counts. What
 * it prints is hashed, so that a wrong answer is seen: "RESULT name jobs nanoseconds hash", or
 * "FAILED name status". "ROUND name" and "TOOK name wall cpu" stand around each measured run, cpu
 * being the processor time of what was run, both in nanoseconds. As process 1 it lies on a disk of
 * its own, takes the system on the first disk as its root with itself below /mnt, and powers the
 * machine off in the end. Usage: jobs [--rounds N] NAME,NAME...; on a kernel command line:
 * jobs.rounds=N jobs.names=NAME,...
 */
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/reboot.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { OUTPUT_BYTES = 1 << 16, NAMES_BYTES = 1024, LINE_BYTES = 4096 };

static uint64_t now_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000ull + (uint64_t)now.tv_nsec;
}

/* The processor time of all processes that have ended. */
static uint64_t cpu_ns(void)
{
    struct rusage usage;
    if (getrusage(RUSAGE_CHILDREN, &usage) != 0)
        return 0;
    return (uint64_t)(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) * 1000000000ull +
           (uint64_t)(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) * 1000ull;
}

/* Runs work.sh with these words, its output in OUTPUT_PATH; the status, as a shell shows it. */
static int run_work(const char *first, const char *second, const char *output_path)
{
    int status = 0;
    pid_t child = fork();
    if (child == 0) {
        int fd = open(output_path, O_WRONLY | O_CREAT | O_TRUNC, 0600);
        int null_fd = open("/dev/null", O_RDONLY);
        if (fd < 0 || null_fd < 0 || dup2(null_fd, 0) < 0 || dup2(fd, 1) < 0)
            _exit(126);
        execl("/bin/sh", "sh", "work.sh", first, second, NULL);
        _exit(127);
    }
    while (child > 0 && waitpid(child, &status, 0) < 0)
        if (errno != EINTR)
            return 126;
    return child < 0 ? 126 : WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

/* The output's hash (FNV-1a) without the lines that hold measured times; those that do override
 * *NS. */
static uint64_t read_output(const char *path, uint64_t hash, double *ns)
{
    char line[LINE_BYTES], name[64];
    double value;
    FILE *file = fopen(path, "r");
    while (file != NULL && fgets(line, sizeof(line), file) != NULL) {
        if (sscanf(line, "NS %63s %lf", name, &value) == 2) {
            *ns = value;
            continue;
        }
        for (const char *at = line; *at != '\0'; at++)
            hash = (hash ^ (uint8_t)*at) * 0x100000001b3ull;
    }
    if (file != NULL)
        fclose(file);
    return hash;
}

static void measure(const char *name, unsigned rounds)
{
    double best_ns = 0;
    uint64_t hash = 0;
    for (unsigned round = 0; round <= rounds; round++) {
        double ns = 0;
        int status = run_work("before", name, "/tmp/output");
        uint64_t now = read_output("/tmp/output", 0xcbf29ce484222325ull, &ns);
        if (round > 0)
            printf("ROUND %s\n", name);
        fflush(stdout);
        uint64_t start_ns = now_ns(), start_cpu_ns = cpu_ns();
        if (status == 0)
            status = run_work(name, NULL, "/tmp/output");
        ns = (double)(now_ns() - start_ns);
        if (round > 0)
            printf("TOOK %s %.0f %llu\n", name, ns, (unsigned long long)(cpu_ns() - start_cpu_ns));
        fflush(stdout);
        now = read_output("/tmp/output", now, &ns);
        if (status != 0 || (round > 0 && now != hash)) {
            printf("FAILED %s %d\n", name, status);
            fflush(stdout);
            return;
        }
        hash = now;
        if (round == 1 || (round > 1 && ns < best_ns))
            best_ns = ns;
    }
    printf("RESULT %s jobs %.1f %llx\n", name, best_ns, (unsigned long long)hash);
    fflush(stdout);
}

static void measure_all(char *names, unsigned rounds)
{
    char *rest = NULL;
    for (char *name = strtok_r(names, ",", &rest); name != NULL; name = strtok_r(NULL, ",", &rest))
        measure(name, rounds);
}

static void must(int result, const char *what)
{
    if (result == 0)
        return;
    printf("FAILED %s: %s\n", what, strerror(errno));
    fflush(stdout);
    reboot(RB_POWER_OFF);
}

static void run_as_init(void)
{
    static const char *const moved[] = {"/dev", "/proc", "/sys"};
    char line[LINE_BYTES] = "", names[NAMES_BYTES] = "", target[32], *word;
    unsigned rounds = 2;
    FILE *file = fopen("/proc/cmdline", "r");
    if (file == NULL || fgets(line, sizeof(line), file) == NULL)
        puts("no /proc/cmdline");
    if ((word = strstr(line, "jobs.names=")) != NULL)
        sscanf(word, "jobs.names=%1023[^ \n]", names);
    if ((word = strstr(line, "jobs.rounds=")) != NULL)
        sscanf(word, "jobs.rounds=%u", &rounds);
    must(mount("/dev/vda", "/root", "ext4", 0, ""), "mounting the system");
    must(mount("/", "/root/mnt", NULL, MS_BIND, NULL), "binding the work folder");
    for (unsigned i = 0; i < sizeof(moved) / sizeof(moved[0]); i++) {
        snprintf(target, sizeof(target), "/root%s", moved[i]);
        must(mount(moved[i], target, NULL, MS_MOVE, NULL), target);
    }
    must(chroot("/root"), "changing the root");
    must(chdir("/mnt"), "going to the work folder");
    must(mount("tmpfs", "/tmp", "tmpfs", 0, "mode=1777"), "mounting /tmp");
    must(mount("tmpfs", "/run", "tmpfs", 0, "mode=0755"), "mounting /run");
    mkdir("/dev/pts", 0755);
    mount("devpts", "/dev/pts", "devpts", 0, "ptmxmode=0666");
    puts("READY");
    fflush(stdout);
    measure_all(names, rounds);
    puts("DONE");
    fflush(stdout);
    sync();
    reboot(RB_POWER_OFF);
}

int main(int argc, char **argv)
{
    unsigned rounds = 2;
    setenv("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", 1);
    setenv("LC_ALL", "C.UTF-8", 1);
    setenv("HOME", "/root", 1);
    if (getpid() == 1 && argc < 2)
        run_as_init();
    if (argc > 2 && strcmp(argv[1], "--rounds") == 0) {
        rounds = (unsigned)strtoul(argv[2], NULL, 10);
        argv += 2, argc -= 2;
    }
    if (argc != 2) {
        fputs("usage: jobs [--rounds N] NAME,NAME...\n", stderr);
        return 2;
    }
    measure_all(argv[1], rounds);
    return 0;
}
