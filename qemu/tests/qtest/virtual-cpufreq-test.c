/*
 * QTest testcase for the virtual-cpufreq device, served by QEMU
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qemu/bswap.h"
#include "qemu/units.h"
#include "libqtest.h"
#include "qobject/qdict.h"
#include "qobject/qlist.h"
#include "qobject/qnum.h"

#define BASE 0x0c000000 /* the first device on virt's platform bus */
#define SIZE (64 * KiB)
#define REG_PAGE_SIZE 4096

#define MAX_PERF 64

/* Registers of a vCPU's page */
#define CUR_PERF 0x00
#define SET_PERF 0x04
#define PERFTBL_LEN 0x08
#define PERFTBL_SEL 0x0c
#define PERFTBL_RD 0x10
#define PERF_DOMAIN 0x14

#define MACHINE "-M virt -cpu max -display none "
#define DEVICE "-device '{\"driver\":\"virtual-cpufreq\",\"id\":\"vcf\""

/* Two domains, of CPUs 0 and 2 and CPUs 3 and 1; only the first has a table. */
#define TABLE_DOMAIN "{\"cpus\":[0,2],\"capacity\":512,\"perf\":[100,200,300]}"
#define RANGE_DOMAIN "{\"cpus\":[3,1],\"capacity\":1024,\"perf\":[1000]}"
#define DOMAINS(...) ",\"domains\":[" __VA_ARGS__ "]}' "
#define TWO_DOMAINS MACHINE "-smp 4 " DEVICE \
                    DOMAINS(TABLE_DOMAIN "," RANGE_DOMAIN)

static uint64_t address(int cpu, int reg)
{
    return BASE + cpu * REG_PAGE_SIZE + reg;
}

static uint32_t get(QTestState *qts, int cpu, int reg)
{
    return qtest_readl(qts, address(cpu, reg));
}

static void set(QTestState *qts, int cpu, int reg, uint32_t value)
{
    qtest_writel(qts, address(cpu, reg), value);
}

static QTestState *start(const char *args)
{
    return qtest_initf("-accel qtest %s", args);
}

static void assert_requests(QTestState *qts, const int *expected)
{
    QDict *rsp = qtest_qmp(qts, "{'execute': 'qom-get', 'arguments': {"
                           " 'path': '/machine/peripheral/vcf',"
                           " 'property': 'requests' }}");
    QListEntry *entry;

    QLIST_FOREACH_ENTRY(qdict_get_qlist(rsp, "return"), entry) {
        QNum *request = qobject_to(QNum, qlist_entry_obj(entry));

        g_assert_cmpint(qnum_get_int(request), ==, *expected++);
    }
    g_assert_cmpint(*expected, ==, -1);
    qobject_unref(rsp);
}

static char *get_string_property(QTestState *qts, const char *name)
{
    QDict *rsp = qtest_qmp(qts, "{'execute': 'qom-get', 'arguments': {"
                           " 'path': '/machine/peripheral/vcf',"
                           " 'property': %s }}", name);
    char *value = g_strdup(qdict_get_str(rsp, "return"));

    qobject_unref(rsp);
    return value;
}

static uint64_t get_accesses(QTestState *qts)
{
    QDict *rsp = qtest_qmp(qts, "{'execute': 'qom-get', 'arguments': {"
                           " 'path': '/machine/peripheral/vcf',"
                           " 'property': 'x-accesses' }}");
    uint64_t accesses = qdict_get_int(rsp, "return");

    qobject_unref(rsp);
    return accesses;
}

static void test_initial_values(void)
{
    QTestState *qts = start(TWO_DOMAINS);
    g_autofree char *served_by = get_string_property(qts, "served-by");
    int cpu;

    g_assert_cmpstr(served_by, ==, "user");

    for (cpu = 0; cpu < 4; cpu++) {
        bool table = cpu % 2 == 0;

        g_assert_cmpint(get(qts, cpu, SET_PERF), ==, 0);
        g_assert_cmpint(get(qts, cpu, PERFTBL_LEN), ==,
                        table ? 3 : 1);
        g_assert_cmpint(get(qts, cpu, PERFTBL_SEL), ==, 0);
        g_assert_cmpint(get(qts, cpu, PERFTBL_RD), ==,
                        table ? 100 : 1000);
        g_assert_cmpint(get(qts, cpu, PERF_DOMAIN), ==,
                        table ? 0 : 1);
        g_assert_cmpint(get(qts, cpu, CUR_PERF), >=, 1);
        g_assert_cmpint(get(qts, cpu, CUR_PERF), <=,
                        table ? 300 : 1000);
    }
    qtest_quit(qts);
}

/* Whatever the host is like, the guest can use what it is given. */
static void test_defaults(void)
{
    QTestState *qts = start(MACHINE "-smp 3 -device virtual-cpufreq,id=vcf");
    uint32_t cpu, i, len, last, perf;

    for (cpu = 0; cpu < 3; cpu++) {
        g_assert_cmpint(get(qts, cpu, PERF_DOMAIN), ==, cpu);
        len = get(qts, cpu, PERFTBL_LEN);
        g_assert_cmpint(len, >=, 1);
        g_assert_cmpint(len, <=, MAX_PERF);
        for (i = 0, last = 0; i < len; i++, last = perf) {
            set(qts, cpu, PERFTBL_SEL, i);
            perf = get(qts, cpu, PERFTBL_RD);
            g_assert_cmpint(perf, >, last);
        }
    }
    qtest_quit(qts);
}

static void test_request_range(void)
{
    QTestState *qts = start(TWO_DOMAINS);
    static const struct {
        uint32_t written, read;
    } values[] = {
        { 1, 1 }, { 300, 300 }, { 250, 250 },
        { 0, 1 }, { 301, 300 }, { 0x80000000, 300 }, { UINT32_MAX, 300 },
    };
    int i;

    for (i = 0; i < ARRAY_SIZE(values); i++) {
        set(qts, 0, SET_PERF, values[i].written);
        g_assert_cmpint(get(qts, 0, SET_PERF), ==,
                        values[i].read);
    }
    qtest_quit(qts);
}

static void test_domain_shares_request(void)
{
    QTestState *qts = start(TWO_DOMAINS);

    set(qts, 2, SET_PERF, 200);
    assert_requests(qts, (int []){ 200, 0, 200, 0, -1 });
    set(qts, 1, SET_PERF, 999);
    assert_requests(qts, (int []){ 200, 999, 200, 999, -1 });
    set(qts, 0, SET_PERF, 100);
    assert_requests(qts, (int []){ 100, 999, 100, 999, -1 });
    g_assert_cmpint(get(qts, 2, SET_PERF), ==, 100);
    g_assert_cmpint(get(qts, 3, SET_PERF), ==, 999);
    qtest_quit(qts);
}

static void test_table(void)
{
    QTestState *qts = start(TWO_DOMAINS);
    static const struct {
        uint32_t sel, perf;
    } entries[] = {
        { 1, 200 }, { 2, 300 }, { 0, 100 },
        { 3, 0 }, { 64, 0 }, { 0x40000000, 0 }, { UINT32_MAX, 0 },
    };
    int i;

    for (i = 0; i < ARRAY_SIZE(entries); i++) {
        set(qts, 0, PERFTBL_SEL, entries[i].sel);
        g_assert_cmpint(get(qts, 0, PERFTBL_SEL), ==,
                        entries[i].sel);
        g_assert_cmpint(get(qts, 0, PERFTBL_RD), ==,
                        entries[i].perf);
    }

    /* Each page has its own selection. */
    g_assert_cmpint(get(qts, 2, PERFTBL_SEL), ==, 0);
    set(qts, 2, PERFTBL_SEL, 1);
    g_assert_cmpint(get(qts, 2, PERFTBL_RD), ==, 200);
    g_assert_cmpint(get(qts, 0, PERFTBL_SEL), ==, UINT32_MAX);
    qtest_quit(qts);
}

/* "[1,2,...]" */
static char *table_up_to(int highest)
{
    GString *table = g_string_new("[1");
    int i;

    for (i = 2; i <= highest; i++) {
        g_string_append_printf(table, ",%d", i);
    }
    g_string_append_c(table, ']');
    return g_string_free(table, false);
}

static void test_full_table(void)
{
    g_autofree char *table = table_up_to(MAX_PERF);
    g_autofree char *args = g_strdup_printf(MACHINE "-smp 2 " DEVICE
        DOMAINS("{\"cpus\":[0],\"perf\":%s},{\"cpus\":[1]}"), table);
    QTestState *qts = start(args);
    int i;

    g_assert_cmpint(get(qts, 0, PERFTBL_LEN), ==, 64);
    for (i = 0; i <= MAX_PERF; i++) {
        set(qts, 0, PERFTBL_SEL, i);
        g_assert_cmpint(get(qts, 0, PERFTBL_RD), ==,
                        i < MAX_PERF ? i + 1 : 0);
    }
    qtest_quit(qts);
}

static void test_read_only(void)
{
    static const int regs[] = {
        PERFTBL_LEN, PERFTBL_RD,
        PERF_DOMAIN,
    };
    QTestState *qts = start(TWO_DOMAINS);
    uint32_t before;
    int i;

    for (i = 0; i < ARRAY_SIZE(regs); i++) {
        before = get(qts, 1, regs[i]);
        set(qts, 1, regs[i], before + 1);
        g_assert_cmpint(get(qts, 1, regs[i]), ==, before);
    }
    set(qts, 1, CUR_PERF, 77);
    assert_requests(qts, (int []){ 0, 0, 0, 0, -1 });
    qtest_quit(qts);
}

/* Nothing but aligned accesses of 32 bits */
static void test_widths(void)
{
    QTestState *qts = start(TWO_DOMAINS);
    uint64_t set_perf = address(0, SET_PERF);
    uint64_t sel = address(0, PERFTBL_SEL);
    int i;

    set(qts, 0, SET_PERF, 100);
    set(qts, 0, PERFTBL_SEL, 2);

    for (i = 0; i < 4; i++) {
        qtest_writeb(qts, set_perf + i, 200);
        qtest_writeb(qts, sel + i, 1);
        g_assert_cmpint(qtest_readb(qts, sel + i), ==, 0);
    }
    for (i = 0; i < 4; i += 2) {
        qtest_writew(qts, set_perf + i, 200);
        qtest_writew(qts, sel + i, 1);
        g_assert_cmpint(qtest_readw(qts, sel + i), ==, 0);
    }
    for (i = -3; i < 4; i++) {
        if (i) {
            qtest_writel(qts, set_perf + i, 200);
            qtest_writel(qts, sel + i, 1);
            g_assert_cmpint(qtest_readl(qts, set_perf + i), ==, 0);
        }
    }
    for (i = -4; i <= 4; i += 4) {
        qtest_writeq(qts, set_perf + i, 0x000000c8000000c8);
        qtest_writeq(qts, sel + i, 0x0000000100000001);
        g_assert_cmpint(qtest_readq(qts, sel + i), ==, 0);
    }

    g_assert_cmpint(get(qts, 0, SET_PERF), ==, 100);
    g_assert_cmpint(get(qts, 0, PERFTBL_SEL), ==, 2);
    qtest_quit(qts);
}

static void test_no_register(void)
{
    static const int offsets[] = {
        PERF_DOMAIN + 4, REG_PAGE_SIZE - 4,
        4 * REG_PAGE_SIZE + SET_PERF, SIZE - 4,
    };
    QTestState *qts = start(TWO_DOMAINS);
    int i;

    for (i = 0; i < ARRAY_SIZE(offsets); i++) {
        qtest_writel(qts, BASE + offsets[i], 100);
        g_assert_cmpint(qtest_readl(qts, BASE + offsets[i]), ==, 0);
    }
    assert_requests(qts, (int []){ 0, 0, 0, 0, -1 });
    g_assert_cmpint(get_accesses(qts), ==, 2 * ARRAY_SIZE(offsets));
    qtest_quit(qts);
}

static void test_reset(void)
{
    QTestState *qts = start(TWO_DOMAINS);

    set(qts, 0, SET_PERF, 300);
    set(qts, 1, SET_PERF, 400);
    set(qts, 2, PERFTBL_SEL, 2);
    qtest_system_reset(qts);
    assert_requests(qts, (int []){ 0, 0, 0, 0, -1 });
    g_assert_cmpint(get(qts, 2, PERFTBL_SEL), ==, 0);
    g_assert_cmpint(get(qts, 2, PERFTBL_RD), ==, 100);
    qtest_quit(qts);
}

/* Migration to and from a file */

static char *state_file(void)
{
    return g_strdup_printf("%s/virtual-cpufreq-test.%d", g_get_tmp_dir(),
                           getpid());
}

static void wait_for_status(QTestState *qts, const char *command,
                            const char *wanted)
{
    for (;;) {
        QDict *rsp = qtest_qmp(qts, "{'execute': %s}", command);
        QDict *ret = qdict_get_qdict(rsp, "return");
        const char *status = qdict_get_try_str(ret, "status") ?: "none";
        bool done = g_str_equal(status, wanted);

        g_assert_true(done || !g_str_equal(status, "failed"));
        qobject_unref(rsp);
        if (done) {
            return;
        }
        g_usleep(10 * 1000);
    }
}

static void save(QTestState *qts, const char *file)
{
    g_autofree char *uri = g_strdup_printf("file:%s", file);

    qtest_qmp_assert_success(qts, "{'execute': 'migrate',"
                             " 'arguments': {'uri': %s}}", uri);
    wait_for_status(qts, "query-migrate", "completed");
}

static void test_migration(void)
{
    g_autofree char *file = state_file();
    g_autofree char *args = g_strdup_printf(TWO_DOMAINS "-incoming file:%s",
                                            file);
    QTestState *from = start(TWO_DOMAINS), *to;

    set(from, 2, SET_PERF, 200);
    set(from, 1, SET_PERF, 1000);
    set(from, 2, PERFTBL_SEL, 1);
    set(from, 3, PERFTBL_SEL, UINT32_MAX);
    save(from, file);
    qtest_quit(from);

    to = start(args);
    wait_for_status(to, "query-status", "running");
    assert_requests(to, (int []){ 200, 1000, 200, 1000, -1 });
    g_assert_cmpint(get(to, 0, PERFTBL_SEL), ==, 0);
    g_assert_cmpint(get(to, 2, PERFTBL_RD), ==, 200);
    g_assert_cmpint(get(to, 3, PERFTBL_SEL), ==, UINT32_MAX);
    qtest_quit(to);
    unlink(file);
}

/* Refusals: QEMU exits by itself */

/*
 * dumpdtb has QEMU exit successfully once the machine is complete, but must not
 * be /dev/null, which would be replaced by a file. A state that is loaded,
 * although it should not, has QEMU run until the timeout.
 */
static int run(const char *machine, const char *args, char **errors)
{
    g_autofree char *command =
        g_strdup_printf("timeout 60 %s -accel qtest -display none -cpu max "
                        "-M virt%s %s", getenv("QTEST_QEMU_BINARY"), machine,
                        args);
    GError *err = NULL;
    int status;

    g_spawn_command_line_sync(command, NULL, errors, &status, &err);
    g_assert_no_error(err);
    g_assert_true(WIFEXITED(status));
    return WEXITSTATUS(status);
}

static void assert_refused(const char *args, const char *message)
{
    g_autofree char *dtb = state_file();
    g_autofree char *machine = g_strdup_printf(",dumpdtb=%s", dtb);
    g_autofree char *errors = NULL;
    int status = run(machine, args, &errors);

    unlink(dtb);
    if (status != 1 || !strstr(errors, message)) {
        g_test_message("%s: exit status %d, expected '%s' in: %s", args,
                       status, message, errors);
        g_test_fail();
    }
}

static void test_refused_properties(void)
{
    assert_refused("-device virtual-cpufreq,serve=nobody",
                   "Parameter 'serve' does not accept value 'nobody'\n"
                   "Valid values are auto, kernel, user.\n");
    assert_refused("-device virtual-cpufreq,hint=max",
                   "Parameter 'hint' does not accept value 'max'\n"
                   "Valid values are none, min, min-max.\n");
    assert_refused("-device virtual-cpufreq,shared-pages=maybe",
                   "Parameter 'shared-pages' does not accept value 'maybe'\n"
                   "Valid values are auto, on, off.\n");
    assert_refused("-device virtual-cpufreq,shared-pages=on",
                   "shared-pages=on needs serve=kernel");
    assert_refused("-device virtual-cpufreq,shared-pages=on,serve=user",
                   "shared-pages=on needs serve=kernel");
    assert_refused("-device virtual-cpufreq -device virtual-cpufreq",
                   "at most one virtual-cpufreq device is permitted");
}

static void test_refused_domains(void)
{
    g_autofree char *long_table = table_up_to(MAX_PERF + 1);
    g_autofree char *too_long = NULL;

#define ONE_CPU(rest) DEVICE DOMAINS("{\"cpus\":[0]," rest "}")
    assert_refused(ONE_CPU("\"capacity\":0"),
                   "domains[0].capacity: 0 is not within 1..65535");
    assert_refused(ONE_CPU("\"capacity\":65536"),
                   "domains[0].capacity: 65536 is not within 1..65535");
    assert_refused(ONE_CPU("\"capacity\":-1"),
                   "domains[0].capacity: -1 is not within 1..65535");
    assert_refused(ONE_CPU("\"perf\":[]"),
                   "domains[0].perf: number of values is not within 1..64");
    assert_refused(ONE_CPU("\"perf\":[0,1]"),
                   "domains[0].perf: 0 is not within 1..2147483647");
    assert_refused(ONE_CPU("\"perf\":[-1]"),
                   "domains[0].perf: -1 is not within 1..2147483647");
    assert_refused(ONE_CPU("\"perf\":[5,5]"),
                   "domains[0].perf: 5 after 5: values must be strictly "
                   "ascending");
    assert_refused(ONE_CPU("\"perf\":[5,4]"), "domains[0].perf: 4 after 5: ");
    assert_refused(ONE_CPU("\"perf\":[2147483648]"),
                   "domains[0].perf: 2147483648 is not within 1..2147483647");

    too_long = g_strdup_printf(ONE_CPU("\"perf\":%s"), long_table);
    assert_refused(too_long,
                   "domains[0].perf: number of values is not within 1..64");

    assert_refused("-smp 2 " DEVICE DOMAINS("{\"cpus\":[0]}"),
                   "domains: CPU 1 is in no domain");
    assert_refused("-smp 2 " DEVICE DOMAINS("{\"cpus\":[0,1]},{\"cpus\":[1]}"),
                   "domains[1].cpus: CPU 1 is in two domains");
    assert_refused("-smp 2 " DEVICE DOMAINS("{\"cpus\":[0,1,0]}"),
                   "domains[0].cpus: CPU 0 is there twice");
    assert_refused("-smp 4 " DEVICE DOMAINS("{\"cpus\":[0,9]}"),
                   "domains[0].cpus: CPU 9 does not exist (0..3)");
    assert_refused("-smp 4 " DEVICE DOMAINS("{\"cpus\":[-1]}"),
                   "domains[0].cpus: CPU -1 does not exist (0..3)");
}

static void test_refused_kernel(void)
{
    assert_refused("-device virtual-cpufreq,serve=kernel", "serve=kernel: ");
    assert_refused("-device virtual-cpufreq,serve=kernel,shared-pages=on",
                   "serve=kernel: ");
}

static void assert_load_refused(const char *args, const char *file,
                                const char *message)
{
    g_autofree char *all = g_strdup_printf("%s -incoming file:%s", args, file);
    g_autofree char *errors = NULL;

    g_assert_cmpint(run("", all, &errors), ==, 1);
    if (!strstr(errors, message)) {
        g_test_message("expected '%s' in: %s", message, errors);
        g_test_fail();
    }
}

static void test_refused_migration(void)
{
    g_autofree char *file = state_file();
    QTestState *qts = start(TWO_DOMAINS);

    save(qts, file);
    qtest_quit(qts);

    assert_load_refused("-smp 4 " DEVICE
                        DOMAINS("{\"cpus\":[0,2],\"capacity\":1024,"
                                "\"perf\":[100,200,300]}," RANGE_DOMAIN), file,
                        "domains[0].capacity: 1024 here, 512 at the source");
    assert_load_refused("-smp 4 " DEVICE
                        DOMAINS("{\"cpus\":[0,2],\"capacity\":512,"
                                "\"perf\":[100,200]}," RANGE_DOMAIN), file,
                        "domains[0].perf: 2 values here, 3 at the source");
    assert_load_refused("-smp 4 " DEVICE
                        DOMAINS("{\"cpus\":[0,2],\"capacity\":512,"
                                "\"perf\":[100,201,300]}," RANGE_DOMAIN), file,
                        "domains[0].perf[1]: 201 here, 200 at the source");
    assert_load_refused("-smp 4 " DEVICE
                        DOMAINS(RANGE_DOMAIN "," TABLE_DOMAIN), file,
                        "CPU 0 is in domains[1] here, in domains[0] at the "
                        "source");
    assert_load_refused("-smp 2 -device virtual-cpufreq", file,
                        "2 CPUs here, 4 at the source");
    unlink(file);
}

/* A state with a request that the guest could not have made */
static void test_refused_state(void)
{
    static const uint32_t requests[] = { 301, 250 };
    static const uint32_t sel = 0xfeedc0de;
    g_autofree char *file = state_file();
    g_autofree char *state = NULL;
    QTestState *qts = start(TWO_DOMAINS);
    char saved[8], *found;
    gsize len;
    int i;

    set(qts, 2, SET_PERF, 300);
    set(qts, 2, PERFTBL_SEL, sel);
    save(qts, file);
    qtest_quit(qts);

    stl_be_p(saved, 300);
    stl_be_p(saved + 4, sel);
    g_assert_true(g_file_get_contents(file, &state, &len, NULL));
    found = memmem(state, len, saved, sizeof(saved));
    g_assert_nonnull(found);

    for (i = 0; i < ARRAY_SIZE(requests); i++) {
        g_autofree char *uri = g_strdup_printf("file:%s", file);

        stl_be_p(found, requests[i]);
        g_assert_true(g_file_set_contents(file, state, len, NULL));

        qts = start(TWO_DOMAINS "-incoming defer");
        qtest_qmp_assert_success(qts, "{'execute': 'migrate-incoming',"
                                 " 'arguments': {'uri': %s,"
                                 " 'exit-on-error': false}}", uri);
        wait_for_status(qts, "query-migrate", "failed");
        assert_requests(qts, (int []){ 0, 0, 0, 0, -1 });
        g_assert_cmpint(get(qts, 2, PERFTBL_SEL), ==, 0);
        qtest_quit(qts);
    }
    unlink(file);
}

/* The device tree */

static char *get_dtb(const char *args, gsize *len)
{
    g_autofree char *file = state_file();
    g_autofree char *machine = g_strdup_printf(",dumpdtb=%s", file);
    g_autofree char *errors = NULL;
    char *dtb;

    g_assert_cmpint(run(machine, args, &errors), ==, 0);
    g_assert_true(g_file_get_contents(file, &dtb, len, NULL));
    unlink(file);
    return dtb;
}

static bool dtb_has(const char *args, const char *string)
{
    gsize len;
    g_autofree char *dtb = get_dtb(args, &len);

    return memmem(dtb, len, string, strlen(string) + 1);
}

/* The values of the property "capacity-dmips-mhz", in the order of CPUs */
static void assert_capacities(const char *args, const uint32_t *expected)
{
    static const char name[] = "capacity-dmips-mhz";
    gsize len;
    g_autofree char *dtb = get_dtb(args, &len);
    const char *strings = dtb + ldl_be_p(dtb + 12), *found;
    char property[12];

    found = memmem(strings, dtb + len - strings, name, sizeof(name));
    g_assert_nonnull(found);

    stl_be_p(property, 3); /* FDT_PROP */
    stl_be_p(property + 4, sizeof(*expected));
    stl_be_p(property + 8, found - strings);
    found = dtb;
    while ((found = memmem(found, dtb + len - found, property,
                           sizeof(property)))) {
        found += sizeof(property);
        g_assert_cmpuint((uint32_t)ldl_be_p(found), ==, *expected++);
    }
    g_assert_cmpint(*expected, ==, 0);
}

static void test_device_tree(void)
{
    g_assert_false(dtb_has("", "qemu,virtual-cpufreq"));
    g_assert_true(dtb_has("-device virtual-cpufreq",
                          "qemu,virtual-cpufreq"));
    g_assert_true(dtb_has("-device virtual-cpufreq", "cpufreq@0"));
    g_assert_false(dtb_has("-smp 4 -device virtual-cpufreq",
                           "capacity-dmips-mhz"));
}

static void test_capacities(void)
{
    assert_capacities("-smp 4 " DEVICE DOMAINS(TABLE_DOMAIN "," RANGE_DOMAIN),
                      (uint32_t []){ 1706, 1024, 1706, 1024, 0 });
    assert_capacities("-smp 2 " DEVICE
                      DOMAINS("{\"cpus\":[0],\"capacity\":256,"
                              "\"perf\":[1000]},"
                              "{\"cpus\":[1],\"capacity\":1024,"
                              "\"perf\":[1000]}"),
                      (uint32_t []){ 256, 1024, 0 });
    /* More than 32 bits for the same capacity at less performance */
    assert_capacities("-smp 2 " DEVICE
                      DOMAINS("{\"cpus\":[0],\"capacity\":1024,"
                              "\"perf\":[16]},"
                              "{\"cpus\":[1],\"capacity\":1024,"
                              "\"perf\":[1073741824]}"),
                      (uint32_t []){ 2147483648, 32, 0 });
}

/* Those of the host: QEMU may be in a chroot when the guest runs. */
static void test_files(void)
{
    QTestState *qts = start(MACHINE "-smp 3 -device virtual-cpufreq,id=vcf");
    g_autofree char *path = g_strdup_printf("/proc/%d/fd", qtest_pid(qts));
    g_autoptr(GDir) dir = g_dir_open(path, 0, NULL);
    const char *name;
    int threads = 0;

    g_assert_nonnull(dir);
    while ((name = g_dir_read_name(dir))) {
        g_autofree char *link = g_build_filename(path, name, NULL);
        g_autofree char *file = g_file_read_link(link, NULL);

        threads += file && g_pattern_match_simple("/proc/*/task/*/stat", file);
    }
    g_assert_cmpint(threads, ==, 3);
    qtest_quit(qts);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);

    if (qtest_has_machine("virt")) {
        qtest_add_func("/virtual-cpufreq/initial-values", test_initial_values);
        qtest_add_func("/virtual-cpufreq/defaults", test_defaults);
        qtest_add_func("/virtual-cpufreq/request-range", test_request_range);
        qtest_add_func("/virtual-cpufreq/domain-shares-request",
                       test_domain_shares_request);
        qtest_add_func("/virtual-cpufreq/table", test_table);
        qtest_add_func("/virtual-cpufreq/full-table", test_full_table);
        qtest_add_func("/virtual-cpufreq/read-only", test_read_only);
        qtest_add_func("/virtual-cpufreq/widths", test_widths);
        qtest_add_func("/virtual-cpufreq/no-register", test_no_register);
        qtest_add_func("/virtual-cpufreq/reset", test_reset);
        qtest_add_func("/virtual-cpufreq/files", test_files);
        qtest_add_func("/virtual-cpufreq/device-tree", test_device_tree);
        qtest_add_func("/virtual-cpufreq/capacities", test_capacities);
        qtest_add_func("/virtual-cpufreq/migration", test_migration);
        qtest_add_func("/virtual-cpufreq/refused/properties",
                       test_refused_properties);
        qtest_add_func("/virtual-cpufreq/refused/domains",
                       test_refused_domains);
        qtest_add_func("/virtual-cpufreq/refused/kernel", test_refused_kernel);
        qtest_add_func("/virtual-cpufreq/refused/migration",
                       test_refused_migration);
        qtest_add_func("/virtual-cpufreq/refused/state", test_refused_state);
    }
    return g_test_run();
}
