/*
 * cli/doctor.c - what this host offers to virtual machines.
 *
 * Everything is tried, not looked up: a device is opened, a ring is made, a namespace entered (in a
 * child), and closed again.
 * Runs   on the main thread.
 */
#include "cli/doctor.h"

#include <cpuid.h>
#include <errno.h>
#include <fcntl.h>
#include <liburing.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/fmt.h"
#include "base/types.h"
#include "cli/image_store.h"
#include "cli/size.h"
#include "host/fd.h"
#include "host/spawn.h"

enum grade { GRADE_GOOD, GRADE_MISSING, GRADE_BAD /* no VM can run */ };
enum { TEXT_BYTES = 256, LINE_BYTES = 256 };

struct finding {
    enum grade grade;
    char text[TEXT_BYTES];
    const char *mend; /* NULL: nothing to do */
};

struct check {
    const char *name;
    void (*look)(struct finding *finding);
};

static bool cpu_has_vmx(void)
{
    u32 a, b, c, d;
    return __get_cpuid(1, &a, &b, &c, &d) != 0 && (c & (1u << 5)) != 0;
}

static bool cpu_has_svm(void)
{
    u32 a, b, c, d;
    return __get_cpuid(0x80000001, &a, &b, &c, &d) != 0 && (c & (1u << 2)) != 0;
}

static void cpu_name(char name[49])
{
    u32 words[12] = {0};
    for (u32 i = 0; i < 3; i++)
        __get_cpuid(0x80000002 + i, &words[4 * i], &words[4 * i + 1], &words[4 * i + 2],
                    &words[4 * i + 3]);
    memcpy(name, words, 48);
    name[48] = '\0';
}

static void look_cpu(struct finding *finding)
{
    char name[49];
    bool has = cpu_has_vmx() || cpu_has_svm();
    cpu_name(name);
    fmt_text(finding->text, TEXT_BYTES, "%s, %s", name,
             cpu_has_vmx()   ? "with VT-x"
             : cpu_has_svm() ? "with AMD-V"
                             : "without VT-x or AMD-V");
    if (!has) {
        finding->grade = GRADE_MISSING;
        finding->mend = "for hardware speed, switch virtualization on in the firmware or, in a VM, "
                        "nested virtualization on its host; without it, engine dbt is used";
    }
}

static int kvm_try(void)
{
    int fd = fd_open("/dev/kvm", O_RDWR, 0);
    if (fd < 0)
        return fd;
    fd_close(&fd);
    return 0;
}

static void look_kvm(struct finding *finding)
{
    int result = kvm_try();
    fmt_text(finding->text, TEXT_BYTES, "/dev/kvm: %s", result == 0 ? "opens" : strerror(-result));
    if (result == 0)
        return;
    finding->grade = GRADE_MISSING;
    finding->mend = result == -EACCES
                        ? "join the device's group: usermod -aG kvm $USER, then log in again"
                        : "load the module: modprobe kvm_intel, or modprobe kvm_amd";
}

static void look_engine(struct finding *finding)
{
    bool has_cpu = cpu_has_vmx() || cpu_has_svm();
    bool has_kvm = kvm_try() == 0;
    fmt_text(finding->text, TEXT_BYTES, "--engine auto takes %s%s",
             has_cpu && has_kvm ? "kvm" : "dbt",
             !has_kvm   ? ": /dev/kvm does not open"
             : !has_cpu ? ": /dev/kvm opens, but the CPU has neither VT-x nor AMD-V"
                        : ": /dev/kvm opens and the CPU has what it needs");
}

static void look_programs(struct finding *finding)
{
    static const char *const names[] = {"atoll-vm", "atoll-slirp", "atoll-agent"};
    char path[SPAWN_PATH_BYTES];
    size_t used = 0;
    for (unsigned i = 0; i < ARRAY_LEN(names); i++) {
        spawn_beside(names[i], path);
        if (strchr(path, '/') != NULL)
            continue;
        used += fmt_text(finding->text + used, TEXT_BYTES - used, "%s%s is missing",
                         used > 0 ? ", " : "", names[i]);
        finding->grade = i == 0                        ? GRADE_BAD
                         : finding->grade == GRADE_BAD ? GRADE_BAD
                                                       : GRADE_MISSING;
        finding->mend = "install Atoll whole: its programs stand in one folder";
    }
    if (used == 0)
        fmt_text(finding->text, TEXT_BYTES, "atoll-vm, atoll-slirp and atoll-agent are here");
}

static void look_io_uring(struct finding *finding)
{
    struct io_uring ring;
    int result = io_uring_queue_init(2, &ring, 0);
    if (result == 0)
        io_uring_queue_exit(&ring);
    fmt_text(finding->text, TEXT_BYTES, "%s",
             result == 0 ? "works" : "refused; disks use threads instead, a little slower");
    if (result != 0) {
        finding->grade = GRADE_MISSING;
        finding->mend = "sysctl kernel.io_uring_disabled=0, or allow it in the sandbox's filter";
    }
}

static void look_namespaces(struct finding *finding)
{
    int status = 1;
    pid_t child = fork();
    if (child == 0)
        _exit(unshare(CLONE_NEWUSER) == 0 ? 0 : 1);
    if (child > 0)
        waitpid(child, &status, 0);
    bool works = WIFEXITED(status) && WEXITSTATUS(status) == 0;
    fmt_text(finding->text, TEXT_BYTES, "%s",
             works ? "work" : "refused; images can then be built as root only");
    if (!works) {
        finding->grade = GRADE_MISSING;
        finding->mend = "sysctl kernel.unprivileged_userns_clone=1 and user.max_user_namespaces";
    }
}

static void look_tap(struct finding *finding)
{
    int fd = fd_open("/dev/net/tun", O_RDWR, 0);
    fmt_text(finding->text, TEXT_BYTES, "/dev/net/tun: %s", fd >= 0 ? "opens" : strerror(-fd));
    if (fd < 0) {
        finding->grade = GRADE_MISSING;
        finding->mend = "only for --net tap: modprobe tun";
    }
    fd_close(&fd);
}

static void look_memory(struct finding *finding)
{
    char line[LINE_BYTES], total[16] = "?", available[16] = "?";
    unsigned long long kib;
    FILE *file = fopen("/proc/meminfo", "re");
    while (file != NULL && fgets(line, sizeof(line), file) != NULL) {
        if (sscanf(line, "MemTotal: %llu", &kib) == 1)
            size_print(kib * 1024, total);
        if (sscanf(line, "MemAvailable: %llu", &kib) == 1)
            size_print(kib * 1024, available);
    }
    if (file != NULL)
        fclose(file);
    fmt_text(finding->text, TEXT_BYTES, "%s of %s are free for VMs; %ld processors", available,
             total, sysconf(_SC_NPROCESSORS_ONLN));
}

static void look_huge_pages(struct finding *finding)
{
    char text[LINE_BYTES] = "";
    int fd = fd_open("/sys/kernel/mm/transparent_hugepage/enabled", O_RDONLY, 0);
    if (fd >= 0 && fd_read(fd, text, sizeof(text) - 1) < 0)
        text[0] = '\0';
    fd_close(&fd);
    bool is_on = strstr(text, "[always]") != NULL || strstr(text, "[madvise]") != NULL;
    fmt_text(finding->text, TEXT_BYTES, "transparent huge pages are %s",
             is_on ? "given to guest memory" : "off");
    if (!is_on) {
        finding->grade = GRADE_MISSING;
        finding->mend = "echo madvise > /sys/kernel/mm/transparent_hugepage/enabled";
    }
}

static bool has_program(const char *name)
{
    static const char *const folders[] = {"/usr/local/sbin", "/usr/local/bin", "/usr/sbin",
                                          "/usr/bin",        "/sbin",          "/bin"};
    char path[LINE_BYTES];
    for (unsigned i = 0; i < ARRAY_LEN(folders); i++) {
        fmt_text(path, sizeof(path), "%s/%s", folders[i], name);
        if (access(path, X_OK) == 0)
            return true;
    }
    return false;
}

static void look_image_tools(struct finding *finding)
{
    bool has_debootstrap = has_program("mmdebstrap"), has_mke2fs = has_program("mke2fs");
    bool needs_map = geteuid() != 0 && !has_program("newuidmap");
    fmt_text(finding->text, TEXT_BYTES, "mmdebstrap %s, mke2fs %s%s",
             has_debootstrap ? "is here" : "is missing", has_mke2fs ? "is here" : "is missing",
             needs_map ? ", newuidmap is missing" : "");
    if (!has_debootstrap || !has_mke2fs || needs_map) {
        finding->grade = GRADE_MISSING;
        finding->mend = "only for 'atoll image build': apt install mmdebstrap e2fsprogs uidmap";
    }
}

static void look_images(struct finding *finding)
{
    char path[IMAGE_PATH_BYTES];
    bool has = image_find("debian/12", path, NULL) == 0;
    fmt_text(finding->text, TEXT_BYTES, "debian/12 is %s", has ? "built" : "not built yet");
    if (!has) {
        finding->grade = GRADE_MISSING;
        finding->mend = "atoll image build debian/12";
    }
}

static const struct check checks[] = {
    {"processor", look_cpu},           {"kvm", look_kvm},       {"engine", look_engine},
    {"programs", look_programs},       {"memory", look_memory}, {"huge pages", look_huge_pages},
    {"io_uring", look_io_uring},       {"tap", look_tap},       {"namespaces", look_namespaces},
    {"image tools", look_image_tools}, {"images", look_images},
};

bool doctor_run(void)
{
    static const char *const grades[] = {"ok", "--", "NO"};
    bool can_run = true;
    for (unsigned i = 0; i < ARRAY_LEN(checks); i++) {
        struct finding finding = {.grade = GRADE_GOOD};
        checks[i].look(&finding);
        printf("%-3s %-12s %s\n", grades[finding.grade], checks[i].name, finding.text);
        if (finding.mend != NULL)
            printf("%-3s %-12s   mend: %s\n", "", "", finding.mend);
        can_run = can_run && finding.grade != GRADE_BAD;
    }
    printf("\n%s\n", can_run ? "Virtual machines run here." : "Virtual machines cannot run here.");
    return can_run;
}
