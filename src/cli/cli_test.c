/*
 * cli/cli_test.c - sizes, the arguments of `atoll run`, package sources, RAM disks, the image
 * store, and a command's session against an agent that the test plays.
 */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "api/agent.h"
#include "api/exit_status.h"
#include "cli/cpio.h"
#include "cli/image_store.h"
#include "cli/run_args.h"
#include "cli/session.h"
#include "cli/size.h"
#include "cli/sources.h"
#include "host/fd.h"

static void test_sizes(void **state)
{
    static const char *const wrong[] = {"",         "G",   "1",   "-1G",  "1.5G",
                                        "1GG",      "1 G", "1Gb", "0x1G", "99999999999999999999G",
                                        "16777216T"};
    u64 bytes;
    char text[16];
    assert_int_equal(size_parse("512M", &bytes), 0);
    assert_int_equal(bytes, 512ull << 20);
    assert_int_equal(size_parse("4g", &bytes), 0);
    assert_int_equal(bytes, 4ull << 30);
    assert_int_equal(size_parse("1TiB", &bytes), 0);
    assert_int_equal(bytes, 1ull << 40);
    for (unsigned i = 0; i < ARRAY_LEN(wrong); i++)
        assert_int_equal(size_parse(wrong[i], &bytes), -EINVAL);
    size_print(4ull << 30, text);
    assert_string_equal(text, "4.0 GiB");
    size_print(1536, text);
    assert_string_equal(text, "1.5 KiB");
}

static void test_run_args(void **state)
{
    static const char *const argv[] = {"debian/12", "--memory=2G",
                                       "--cpus",    "4",
                                       "--disk",    "a.raw,readonly,direct",
                                       "--disk",    "b.raw,format=raw,snapshot",
                                       "--disk",    "c,format=qcow2,backing=/b,data=d",
                                       "-p",        "8080:80",
                                       "-p",        "0.0.0.0:53:5353/udp",
                                       "--engine",  "dbt",
                                       "--name",    "x",
                                       "--",        "uname",
                                       "-a",        NULL};
    struct run_args args;
    struct err err = {0};
    assert_int_equal(run_args_parse(&args, argv, &err), 0);
    assert_string_equal(args.image, "debian/12");
    assert_int_equal(args.memory_bytes, 2ull << 30);
    assert_int_equal(args.cpus, 4);
    assert_int_equal(args.disk_count, 3);
    assert_null(args.disks[0].format);
    assert_string_equal(args.disks[2].path, "c");
    assert_string_equal(args.disks[2].format, "qcow2");
    assert_string_equal(args.disks[2].backing, "/b");
    assert_string_equal(args.disks[2].data, "d");
    assert_string_equal(args.disks[0].path, "a.raw");
    assert_true(args.disks[0].read_only && args.disks[0].direct && !args.disks[0].snapshot);
    assert_true(args.disks[1].snapshot && !args.disks[1].read_only);
    assert_int_equal(args.forward_count, 2);
    assert_string_equal(args.forwards[0].host_address, "127.0.0.1");
    assert_int_equal(args.forwards[0].host_port, 8080);
    assert_int_equal(args.forwards[0].guest_port, 80);
    assert_string_equal(args.forwards[1].host_address, "0.0.0.0");
    assert_int_equal(args.forwards[1].guest_port, 5353);
    assert_true(args.forwards[1].is_udp);
    assert_string_equal(args.command[0], "uname");
    assert_string_equal(args.command[1], "-a");
    run_args_fini(&args);
}

static void test_run_args_screen(void **state)
{
    static const char *const argv[] = {"--kernel",       "k", "--vnc", ":1", "--vnc=unix:/tmp/s",
                                       "--vnc-password", "f", NULL};
    struct run_args args;
    struct err err = {0};
    assert_int_equal(run_args_parse(&args, argv, &err), 0);
    assert_int_equal(args.vnc_count, 2);
    assert_string_equal(args.vnc[0], ":1");
    assert_string_equal(args.vnc[1], "unix:/tmp/s");
    assert_string_equal(args.vnc_password_file, "f");
    run_args_fini(&args);
}

/* What is refused, and a part of the message: what is accepted, or what is wrong. */
static const struct {
    const char *words[8], *says;
} refused[] = {
    {{"--memory", NULL}, "--memory needs a value"},
    {{"--kernel", "k", "--foo", NULL}, "--initrd"},
    {{"--kernel", "k", "--memory", "lots", NULL}, "512M"},
    {{"--kernel", "k", "--memory", "1000K", NULL}, "whole MiB"},
    {{"--kernel", "k", "--cpus", "0", NULL}, "1 to 64"},
    {{"--kernel", "k", "--cpus", "65", NULL}, "1 to 64"},
    {{"--kernel", "k", "--engine", "tcg", NULL}, "kvm or dbt"},
    {{"--kernel", "k", "--disk", "a.raw,fast", NULL}, "snapshot"},
    {{"--kernel", "k", "--disk", ",readonly", NULL}, "give a file"},
    {{"--kernel", "k", "--disk", "a.raw,format=vmdk", NULL}, "format=vmdk"},
    {{"--kernel", "k", "--disk", "a.raw,backing=", NULL}, "backing="},
    {{"--kernel", "k", "--net", "bridge", NULL}, "tap:NAME"},
    {{"--kernel", "k", "--net", "tap:", NULL}, "tap:NAME"},
    {{"--kernel", "k", "-p", "80", NULL}, "8080:80"},
    {{"--kernel", "k", "-p", "0:80", NULL}, "8080:80"},
    {{"--kernel", "k", "-p", "1:2:3:4", NULL}, "8080:80"},
    {{"--kernel", "k", "-p", "8080:80/sctp", NULL}, "8080:80"},
    {{"--kernel", "k", "-p", "300.1.1.1:8080:80", NULL}, "8080:80"},
    {{"--kernel", "k", "--net", "none", "-p", "8080:80", NULL}, "--net user"},
    {{"--kernel", "k", "--console", "vnc", NULL}, "stdio or none"},
    {{"--kernel", "k", "--device", "vga", NULL}, "testdev"},
    {{"--kernel", "k", "--display", "sdl", NULL}, "vga or none"},
    {{"--kernel", "k", "--vnc", "5901", NULL}, "unix:PATH"},
    {{"--kernel", "k", "--vnc", ":60000", NULL}, "5900 + N"},
    {{"--kernel", "k", "--vnc-password", "file", NULL}, "--vnc"},
    {{"--kernel", "k", "--name", "a b", NULL}, "letters"},
    {{"--kernel", "k", "--keep", NULL}, "--keep"},
    {{"--kernel", "k", "--", "ls", NULL}, "needs an image"},
    {{"a", "b", NULL}, "one image"},
    {{"debian/12", "--", NULL}, "uname -a"},
    {{NULL}, "debian/12"},
};

static void test_run_args_refused(void **state)
{
    for (unsigned i = 0; i < ARRAY_LEN(refused); i++) {
        struct run_args args;
        struct err err = {0};
        assert_int_equal(run_args_parse(&args, refused[i].words, &err), -EINVAL);
        if (strstr(err.text, refused[i].says) == NULL)
            fail_msg("case %u: '%s' does not say '%s'", i, err.text, refused[i].says);
        run_args_fini(&args);
    }
}

static void write_text(const char *folder, const char *name, const char *text)
{
    char path[256];
    snprintf(path, sizeof(path), "%s/%s", folder, name);
    FILE *file = fopen(path, "w");
    assert_non_null(file);
    fputs(text, file);
    fclose(file);
}

static void test_sources(void **state)
{
    char folder[] = "/tmp/atoll-test-XXXXXX", path[64], lines[2048];
    struct err err = {0};
    assert_non_null(mkdtemp(folder));
    assert_int_equal(sources_read(folder, "bookworm", lines, sizeof(lines), &err), -ENOENT);
    assert_non_null(strstr(err.text, "--mirror"));
    snprintf(path, sizeof(path), "%s/sources.list.d", folder);
    assert_int_equal(mkdir(path, 0700), 0);
    write_text(folder, "sources.list",
               "# deb http://no.example/ bookworm main\n"
               "deb [arch=amd64 signed-by=/nowhere.gpg] http://one.example/debian bookworm main\n"
               "deb-src http://one.example/debian bookworm main\n"
               "deb http://old.example/debian bullseye main\n");
    write_text(folder, "sources.list.d/a.sources",
               "Types: deb deb-src\n# a remark\nURIs: http://two.example/debian\n"
               "Suites: bookworm bookworm-updates bookworm-backports\nComponents: main contrib\n\n"
               "Types: deb\nURIs: http://off.example/\nSuites: bookworm\nComponents: main\n"
               "Enabled: no\n\nTypes: deb\nURIs: http://sec.example/\nSuites: bookworm-security\n"
               "Components: main\n");
    write_text(folder, "sources.list.d/b.list.disabled", "deb http://dis.example/ bookworm main\n");
    assert_int_equal(sources_read(folder, "bookworm", lines, sizeof(lines), &err), 0);
    assert_string_equal(lines, "deb http://one.example/debian bookworm main\n"
                               "deb http://two.example/debian bookworm main contrib\n"
                               "deb http://two.example/debian bookworm-updates main contrib\n"
                               "deb http://sec.example/ bookworm-security main\n");
    assert_int_equal(folder_remove(folder, NULL), 0);
}

static void test_cpio(void **state)
{
    char path[] = "/tmp/atoll-test-XXXXXX", text[1024];
    int fd = mkstemp(path);
    assert_int_equal(write(fd, "hello", 5), 5);
    close(fd);
    FILE *file = tmpfile();
    struct cpio cpio = {.file = file};
    cpio_folder(&cpio, "dev");
    cpio_device(&cpio, "dev/console", 5, 1);
    assert_int_equal(cpio_file(&cpio, "init", path), 0);
    assert_int_equal(cpio_file(&cpio, "gone", "/nonexistent"), -ENOENT);
    cpio_end(&cpio);
    rewind(file);
    size_t bytes = fread(text, 1, sizeof(text), file);
    fclose(file);
    unlink(path);
    /* Headers of 110 bytes; each name and each content ends on a multiple of 4. */
    assert_int_equal(bytes, 116 + 124 + 116 + 8 + 124);
    assert_memory_equal(text, "07070100000001000041ED", 22);
    assert_memory_equal(text + 116 + 124 + 116, "hello\0\0\0", 8);
    assert_memory_equal(text + 116 + 110, "dev/console", 12);
    assert_memory_equal(text + bytes - 14, "TRAILER!!!\0\0\0\0", 14);
}

static void test_image_store(void **state)
{
    static const char *const wrong[] = {"",          "/",       "../etc", "debian/", "/debian",
                                        "Debian/12", "a/b/c/d", "a//b",   ".hidden", "a b"};
    char folder[] = "/tmp/atoll-test-XXXXXX", path[IMAGE_PATH_BYTES];
    struct err err = {0};
    for (unsigned i = 0; i < ARRAY_LEN(wrong); i++)
        assert_false(image_name_valid(wrong[i]));
    assert_true(image_name_valid("debian/12"));
    assert_non_null(mkdtemp(folder));
    setenv("XDG_DATA_HOME", folder, 1);
    assert_int_equal(image_find("debian/12", path, &err), -ENOENT);
    assert_non_null(strstr(err.text, "atoll image build"));
    assert_int_equal(image_path("debian/12", path, &err), 0);
    assert_int_equal(folder_make(path, &err), 0);
    assert_int_equal(folder_make(path, &err), 0);
    assert_int_equal(image_find("debian/12", path, &err), -ENOENT); /* not whole yet */
    write_text(path, "image.json", "{}");
    assert_int_equal(image_find("debian/12", path, &err), 0);
    assert_int_equal(image_remove("debian/12", &err), 0);
    assert_int_not_equal(access(path, F_OK), 0);
    assert_int_equal(image_remove("../../etc", &err), -EINVAL);
    assert_int_equal(folder_remove(folder, &err), 0);
}

/* Sessions: a child plays the VM and its agent. */

static void send_frame(int fd, enum agent_type type, const void *payload, u32 bytes)
{
    u8 header[AGENT_HEADER_BYTES];
    agent_header(header, type, bytes);
    if (fd_write(fd, header, sizeof(header)) != 0 || fd_write(fd, payload, bytes) != 0)
        _exit(99);
}

static enum agent_type take_frame(int fd, u8 *payload, u32 *ret_bytes)
{
    u8 header[AGENT_HEADER_BYTES];
    if (fd_read(fd, header, sizeof(header)) != sizeof(header))
        _exit(98);
    *ret_bytes = load_le32(header + 4);
    if (*ret_bytes > AGENT_PAYLOAD_MAX || fd_read(fd, payload, *ret_bytes) != *ret_bytes)
        _exit(97);
    return (enum agent_type)load_le16(header);
}

enum play { PLAY_GOOD, PLAY_NOT_FOUND, PLAY_DIES, PLAY_CRASHES, PLAY_LONG_FRAME, PLAY_EARLY_EXIT };

static void play_agent(int fd, enum play play)
{
    static u8 payload[AGENT_PAYLOAD_MAX];
    u8 word[4];
    u32 bytes;
    if (play == PLAY_CRASHES)
        _exit(EXIT_STATUS_GUEST_CRASH);
    store_le32(word, play == PLAY_EARLY_EXIT ? 0 : AGENT_VERSION);
    send_frame(fd, play == PLAY_EARLY_EXIT ? AGENT_EXIT : AGENT_HELLO, word, 4);
    if (take_frame(fd, payload, &bytes) != AGENT_EXEC ||
        memcmp(payload + AGENT_EXEC_FIXED_BYTES, "greet\0you", 10) != 0)
        _exit(96);
    if (play == PLAY_DIES)
        _exit(0);
    if (play == PLAY_LONG_FRAME) {
        store_le32(word, 0);
        agent_header(payload, AGENT_STDOUT, AGENT_PAYLOAD_MAX + 1);
        if (fd_write(fd, payload, AGENT_HEADER_BYTES) != 0)
            _exit(95);
        pause();
    }
    if (take_frame(fd, payload, &bytes) != AGENT_STDIN || bytes != 0)
        _exit(94);
    send_frame(fd, AGENT_STDOUT, "out", 3);
    send_frame(fd, AGENT_STDERR, "err", 3);
    store_le32(word, play == PLAY_NOT_FOUND ? ENOENT : 42);
    send_frame(fd, play == PLAY_NOT_FOUND ? AGENT_FAILED : AGENT_EXIT, word, 4);
    if (take_frame(fd, payload, &bytes) != AGENT_POWEROFF || load_le32(payload) != 1)
        _exit(93);
    _exit(0);
}

/* Runs a session in a child with its own streams; its status, and what it wrote. */
static int session_status(enum play play, char text[64])
{
    int streams[2], fds[2], status;
    assert_int_equal(pipe(streams), 0);
    pid_t child = fork();
    if (child == 0) {
        static const char *const command[] = {"greet", "you", NULL};
        struct err err = {0};
        int null_fd = open("/dev/null", O_RDONLY);
        if (fd_pair(fds, NULL) != 0 || dup2(null_fd, 0) < 0 || dup2(streams[1], 1) < 0 ||
            dup2(streams[1], 2) < 0)
            _exit(99);
        pid_t vm = fork();
        if (vm == 0) {
            close(fds[0]);
            play_agent(fds[1], play);
        }
        close(fds[1]);
        const struct session_options options = {.fd = fds[0], .vm = vm, .command = command};
        status = session_run(&options, &err);
        dprintf(1, "%s", err.text);
        _exit(status);
    }
    close(streams[1]);
    s64 got = fd_read(streams[0], text, 63);
    text[got > 0 ? got : 0] = '\0';
    close(streams[0]);
    waitpid(child, &status, 0);
    assert_true(WIFEXITED(status));
    return WEXITSTATUS(status);
}

static void test_session(void **state)
{
    char text[64];
    assert_int_equal(session_status(PLAY_GOOD, text), 42);
    assert_string_equal(text, "outerr");
    assert_int_equal(session_status(PLAY_NOT_FOUND, text), 127);
    assert_non_null(strstr(text, "greet"));
    assert_int_equal(session_status(PLAY_DIES, text), EXIT_STATUS_AGENT);
    assert_int_equal(session_status(PLAY_CRASHES, text), EXIT_STATUS_GUEST_CRASH);
    assert_int_equal(session_status(PLAY_LONG_FRAME, text), EXIT_STATUS_AGENT);
    assert_non_null(strstr(text, "protocol"));
    assert_int_equal(session_status(PLAY_EARLY_EXIT, text), EXIT_STATUS_AGENT);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_sizes),           cmocka_unit_test(test_run_args),
        cmocka_unit_test(test_run_args_screen), cmocka_unit_test(test_run_args_refused),
        cmocka_unit_test(test_sources),         cmocka_unit_test(test_cpio),
        cmocka_unit_test(test_image_store),     cmocka_unit_test(test_session),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
