/*
 * QTest testcase for guest memory that is mapped read-only
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qemu/units.h"
#include "libqtest.h"

#define RAM_BASE (1 * GiB) /* virt's */

/* The board has its device tree loaded to the start of RAM. */
static void test_loader(void)
{
    g_autofree char *file = NULL;
    QTestState *qts;
    int fd = g_file_open_tmp("readonly-memory-XXXXXX", &file, NULL);

    g_assert_cmpint(fd, >=, 0);
    g_assert_cmpint(ftruncate(fd, 64 * MiB), ==, 0);
    close(fd);

    qts = qtest_initf("-M virt,memory-backend=ram -m 64M -object "
                      "memory-backend-file,id=ram,size=64M,readonly=on,"
                      "mem-path=%s", file);
    g_assert_cmphex(qtest_readl(qts, RAM_BASE), ==, 0);
    qtest_quit(qts);
    unlink(file);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);

    if (qtest_has_machine("virt")) {
        qtest_add_func("/readonly-memory/loader", test_loader);
    }
    return g_test_run();
}
