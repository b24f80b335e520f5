/*
 * vm/config_test.c - what the config takes, and that everything else is refused with the key's
 * name.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "vm/config.h"

static int parse(struct config *config, const char *text, struct err *err)
{
    return config_parse(config, text, strlen(text), err);
}

static void test_defaults(void **state)
{
    struct config config;
    struct err err;
    assert_int_equal(
        parse(&config, "{\"schema\":1,\"memory_bytes\":1048576,\"kernel\":\"k\"}", &err), 0);
    assert_string_equal(config.name, "vm");
    assert_int_equal(config.cpu_count, 1);
    assert_int_equal(config.engine, CONFIG_ENGINE_AUTO);
    assert_string_equal(config.append, "");
    assert_null(config.initrd);
    assert_true(config.has_console);
    assert_int_equal(config.disk_count + config.net_count + config.port_count, 0);
    assert_false(config.has_display);
    config_fini(&config);
}

static void test_everything(void **state)
{
    struct config config;
    struct err err;
    int r = parse(
        &config,
        "{\"schema\":1,\"name\":\"a\",\"memory_bytes\":268435456,\"cpus\":4,\"engine\":\"dbt\","
        "\"kernel\":\"k\",\"initrd\":\"i\",\"append\":\"quiet\",\"console\":\"none\","
        "\"disks\":[{\"path\":\"d\",\"format\":\"qcow2\",\"backing\":\"/b\"},"
        "{\"path\":\"e\",\"format\":\"raw\",\"readonly\":true,"
        "\"snapshot\":true,\"direct\":true}],"
        "\"nets\":[{\"kind\":\"user\",\"mac\":\"52:54:00:12:34:56\",\"forwards\":["
        "{\"host_port\":8080,\"guest_port\":80},{\"host_address\":\"0.0.0.0\",\"host_port\":53,"
        "\"guest_port\":53,\"protocol\":\"udp\"}]},{\"kind\":\"tap\",\"tap\":\"tap0\"}],"
        "\"ports\":[{\"name\":\"org.atoll.agent\",\"fd\":7}],\"devices\":[\"testdev\",\"hpet\"],"
        "\"vnc\":[\":1\",\"unix:/"
        "s\"],\"vnc_password\":\"p\",\"debug_stats\":\"s\",\"debug_trace\":\"t\"}",
        &err);
    if (r < 0)
        fail_msg("%s", err.text);
    assert_int_equal(config.cpu_count, 4);
    assert_string_equal(config.debug_stats, "s");
    assert_string_equal(config.debug_trace, "t");
    assert_false(config.has_lockstep);
    assert_int_equal(config.engine, CONFIG_ENGINE_DBT);
    assert_false(config.has_console);
    assert_int_equal(config.disk_count, 2);
    assert_false(config.disks[0].read_only);
    assert_int_equal(config.disks[0].format, CONFIG_FORMAT_QCOW2);
    assert_string_equal(config.disks[0].backing, "/b");
    assert_null(config.disks[1].backing);
    assert_true(config.disks[1].read_only && config.disks[1].snapshot && config.disks[1].direct);
    assert_int_equal(config.net_count, 2);
    static const u8 mac[6] = {0x52, 0x54, 0, 0x12, 0x34, 0x56};
    assert_memory_equal(config.nets[0].mac, mac, 6);
    assert_int_equal(config.nets[0].forward_count, 2);
    assert_string_equal(config.nets[0].forwards[0].host_address, "127.0.0.1");
    assert_int_equal(config.nets[0].forwards[0].guest_port, 80);
    assert_true(config.nets[0].forwards[1].is_udp);
    assert_string_equal(config.nets[1].tap, "tap0");
    assert_int_equal(config.ports[0].fd, 7);
    assert_true(config.has_testdev && config.has_hpet);
    assert_true(config.has_display);
    assert_int_equal(config.vnc_count, 2);
    assert_string_equal(config.vnc[1], "unix:/s");
    assert_string_equal(config.vnc_password, "p");
    config_fini(&config);
}

static void test_firmware(void **state)
{
    struct config config;
    struct err err;

    assert_int_equal(parse(&config, "{\"schema\":1,\"memory_bytes\":1048576}", &err), 0);
    assert_string_equal(config.firmware, "auto");
    config_fini(&config);
    const char *text = "{\"schema\":1,\"memory_bytes\":1048576,\"firmware\":\"uefi\","
                       "\"firmware_variables\":\"v\",\"firmware_log\":\"l\","
                       "\"disks\":[{\"path\":\"a\"},{\"path\":\"b\"}],"
                       "\"nets\":[{\"kind\":\"none\"}],\"boot\":[\"net0\",\"disk1\"]}";
    assert_int_equal(parse(&config, text, &err), 0);
    assert_string_equal(config.firmware, "uefi");
    assert_string_equal(config.firmware_variables, "v");
    assert_int_equal(config.boot_count, 2);
    assert_true(config.boot[0].is_net);
    assert_int_equal(config.boot[1].index, 1);
    config_fini(&config);
    text = "{\"schema\":1,\"memory_bytes\":1048576,\"disks\":[{\"path\":\"a\"}],"
           "\"nets\":[{\"kind\":\"none\"}]}";
    assert_int_equal(parse(&config, text, &err), 0);
    assert_int_equal(config.boot_count, 2);
    assert_true(config.boot[1].is_net);
    config_fini(&config);
}

#define START "{\"schema\":1,\"memory_bytes\":1048576,\"kernel\":\"k\""

static void test_refused(void **state)
{
    static const struct {
        const char *text, *says;
    } cases[] = {
        {"", "line"},
        {"[]", "must be an object"},
        {"{\"schema\":1,\"kernel\":\"k\"}", "'memory_bytes' is missing"},
        {"{\"memory_bytes\":1048576,\"kernel\":\"k\"}", "'schema' is missing"},
        {"{\"schema\":2,\"memory_bytes\":1048576,\"kernel\":\"k\"}", "'schema'"},
        {"{\"schema\":1,\"memory_bytes\":1048576,\"firmware\":\"none\"}", "'kernel' is missing"},
        {START ",\"firmware\":\"bios\"}", "'firmware' cannot start a kernel"},
        {"{\"schema\":1,\"memory_bytes\":1048576,\"boot\":[\"disk0\"]}", "'boot[0]'"},
        {"{\"schema\":1,\"memory_bytes\":1048576,\"boot\":[\"floppy\"]}", "'boot[0]'"},
        {"{\"schema\":1,\"memory_bytes\":1048577,\"kernel\":\"k\"}", "multiple of 1 MiB"},
        {START ",\"cpu\":2}", "'cpu' is not a known key"},
        {START ",\"cpus\":0}", "between 1 and 64"},
        {START ",\"cpus\":65}", "between 1 and 64"},
        {START ",\"cpus\":\"2\"}", "'cpus' must be an integer"},
        {START ",\"engine\":\"xen\"}", "\"auto\" \"kvm\" \"dbt\""},
        {START ",\"append\":7}", "'append' must be a string"},
        {START ",\"append\":\"a\\u0000b\"}", "line"},
        {START ",\"cpus\":1,\"cpus\":2}", "line"},
        {START ",\"disks\":{}}", "'disks' must be an array"},
        {START ",\"disks\":[7]}", "disks[0]"},
        {START ",\"disks\":[{}]}", "'disks[0].path' is missing"},
        {START ",\"disks\":[{\"path\":\"d\"},{\"path\":\"d\",\"ro\":true}]}", "disks[1].ro"},
        {START ",\"disks\":[{\"path\":\"d\",\"readonly\":1}]}", "true or false"},
        {START ",\"disks\":[{\"path\":\"d\",\"format\":\"vmdk\"}]}", "\"raw\""},
        {START ",\"nets\":[{\"kind\":\"tap\"}]}", "'nets[0].tap'"},
        {START ",\"nets\":[{\"kind\":\"user\",\"tap\":\"t\"}]}", "'nets[0].tap'"},
        {START ",\"nets\":[{\"kind\":\"user\",\"mac\":\"x\"}]}", "'nets[0].mac'"},
        {START ",\"nets\":[{\"kind\":\"user\",\"mac\":\"53:54:00:12:34:56\"}]}", "unicast"},
        {START ",\"nets\":[{\"kind\":\"none\",\"forwards\":[]}]}", "kind \\\"user\\\""},
        {START ",\"nets\":[{\"kind\":\"user\",\"forwards\":[{\"host_port\":0}]}]}",
         "nets[0].forwards[0].host_port"},
        {START ",\"nets\":[{\"kind\":\"user\",\"forwards\":[{\"host_port\":70000,"
               "\"guest_port\":1}]}]}",
         "between 1 and 65535"},
        {START ",\"ports\":[{\"name\":\"a\",\"fd\":-1}]}", "'ports[0].fd'"},
        {START ",\"devices\":[\"floppy\"]}", "devices[0]"},
        {START ",\"vnc\":\":1\"}", "'vnc' must be an array"},
        {START ",\"vnc\":[1]}", "'vnc[0]'"},
        {START ",\"vnc\":[\":1\",\"nowhere\"]}", "'vnc[1]'"},
        {START ",\"display\":\"vga\"}", "true or false"},
        {START "} x", "line"},
    };
    struct config config;
    struct err err;
    for (unsigned i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        assert_true(parse(&config, cases[i].text, &err) < 0);
        /* Escapes in the expectation stand for themselves in the message. */
        char says[80];
        size_t length = 0;
        for (const char *c = cases[i].says; *c; c++)
            if (*c != '\\')
                says[length++] = *c;
        says[length] = 0;
        if (!strstr(err.text, says))
            fail_msg("'%s' says '%s', not '%s'", cases[i].text, err.text, says);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_defaults),
        cmocka_unit_test(test_everything),
        cmocka_unit_test(test_firmware),
        cmocka_unit_test(test_refused),
    };
    return cmocka_run_group_tests_name("config", tests, NULL, NULL);
}
