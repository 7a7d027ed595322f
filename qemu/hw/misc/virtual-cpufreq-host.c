/*
 * Virtual CPU frequency: the host's CPUs and the threads that run the vCPUs
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 *
 * All functions are called with the BQL held.
 */

#include "qemu/osdep.h"
#include "qemu/cutils.h"
#include "qemu/error-report.h"
#include "hw/core/cpu.h"
#include "hw/misc/virtual-cpufreq.h"
#include "system/qtest.h"
#include "trace.h"

#include <sched.h>
#include <sys/syscall.h>

/* Only newer C libraries have these, so bring our own. */
typedef struct SchedAttr {
    uint32_t size;
    uint32_t policy;
    uint64_t flags;
    int32_t nice;
    uint32_t priority;
    uint64_t runtime;
    uint64_t deadline;
    uint64_t period;
    uint32_t util_min;
    uint32_t util_max;
} SchedAttr;

#define SCHED_ATTR_KEEP_POLICY 0x08
#define SCHED_ATTR_KEEP_PARAMS 0x10
#define SCHED_ATTR_UTIL_CLAMP_MIN 0x20
#define SCHED_ATTR_UTIL_CLAMP_MAX 0x40

static char *cpu_path(unsigned int cpu, const char *name)
{
    return g_strdup_printf("/sys/devices/system/cpu/cpu%u/%s", cpu, name);
}

static char *read_cpu_file(unsigned int cpu, const char *name)
{
    g_autofree char *path = cpu_path(cpu, name);
    char *contents = NULL;

    g_file_get_contents(path, &contents, NULL, NULL);
    return contents;
}

/* Returns 0 if there is no such file, or no number from 1 on in it */
static uint32_t read_cpu_u32(unsigned int cpu, const char *name)
{
    g_autofree char *contents = read_cpu_file(cpu, name);
    unsigned int value;

    if (!contents || qemu_strtoui(g_strchomp(contents), NULL, 10, &value)) {
        return 0;
    }
    return value;
}

static uint32_t read_capacity(unsigned int cpu)
{
    uint32_t capacity = read_cpu_u32(cpu, "cpu_capacity");

    return capacity ? MIN(capacity, VIRTUAL_CPUFREQ_HOST_CAPACITY)
                    : VIRTUAL_CPUFREQ_HOST_CAPACITY;
}

/* Also an open file of sysfs or procfs is made anew for each read from 0. */
static bool reread(int fd, char *buf, size_t size)
{
    ssize_t len = RETRY_ON_EINTR(pread(fd, buf, size - 1, 0));

    buf[MAX(len, 0)] = '\0';
    return len > 0;
}

/* Defaults of the configuration */

static unsigned int biggest_cpu(void)
{
    unsigned int biggest = 0, cpu;
    uint32_t capacity = 0;
    cpu_set_t allowed;

    if (sched_getaffinity(0, sizeof(allowed), &allowed) < 0) {
        return 0;
    }

    for (cpu = 0; cpu < CPU_SETSIZE; cpu++) {
        if (CPU_ISSET(cpu, &allowed) && read_capacity(cpu) > capacity) {
            capacity = read_capacity(cpu);
            biggest = cpu;
        }
    }
    return biggest;
}

static gint compare_u32(gconstpointer a, gconstpointer b)
{
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;

    return x < y ? -1 : x > y;
}

/* Strictly ascending */
static GArray *available_frequencies(unsigned int cpu)
{
    g_autofree char *contents =
        read_cpu_file(cpu, "cpufreq/scaling_available_frequencies");
    g_auto(GStrv) words = g_strsplit_set(contents ?: "", "\n ", -1);
    GArray *freqs = g_array_new(false, false, sizeof(uint32_t));
    unsigned int value;
    guint i;

    for (i = 0; words[i]; i++) {
        if (!qemu_strtoui(words[i], NULL, 10, &value) && value) {
            g_array_append_val(freqs, value);
        }
    }

    g_array_sort(freqs, compare_u32);
    for (i = freqs->len; i-- > 1; ) {
        if (g_array_index(freqs, uint32_t, i) ==
            g_array_index(freqs, uint32_t, i - 1)) {
            g_array_remove_index(freqs, i);
        }
    }
    return freqs;
}

/* Those of the biggest CPU that QEMU may run on */
void virtual_cpufreq_host_defaults(uint32_t *capacity, uint32_t *nr_perf,
                                   uint32_t *perf)
{
    unsigned int cpu = biggest_cpu();
    g_autoptr(GArray) freqs = available_frequencies(cpu);
    uint32_t max_freq = read_cpu_u32(cpu, "cpufreq/cpuinfo_max_freq");
    uint32_t i;

    *capacity = read_capacity(cpu);

    if (!freqs->len) {
        *nr_perf = 1;
        perf[0] = max_freq ?: VIRTUAL_CPUFREQ_HOST_CAPACITY;
        return;
    }

    /* Too many are thinned out evenly. */
    *nr_perf = MIN(freqs->len, VIRTUAL_CPUFREQ_MAX_PERF);
    perf[0] = g_array_index(freqs, uint32_t, 0);
    for (i = 1; i < *nr_perf; i++) {
        perf[i] = g_array_index(freqs, uint32_t,
                                i * (freqs->len - 1) / (*nr_perf - 1));
    }
}

/* cur_perf */

static void host_cpu_open_freq(VirtualCpufreqHostCPU *host, unsigned int cpu)
{
    g_autofree char *path = cpu_path(cpu, "cpufreq/scaling_cur_freq");

    host->max_freq = read_cpu_u32(cpu, "cpufreq/cpuinfo_max_freq");
    host->cur_freq_fd = host->max_freq ? qemu_open(path, O_RDONLY, NULL) : -1;
}

/* The capacity that the CPU has at its present frequency */
static uint32_t host_cpu_capacity_now(VirtualCpufreqHostCPU *host,
                                      unsigned int cpu)
{
    unsigned int freq;
    char buf[32];

    if (host->cur_freq_fd < 0) {
        return host->capacity;
    }

    if (!reread(host->cur_freq_fd, buf, sizeof(buf))) {
        /* The cpufreq driver has gone; another one has files of its own. */
        close(host->cur_freq_fd);
        host_cpu_open_freq(host, cpu);
        return host->capacity;
    }

    if (qemu_strtoui(g_strchomp(buf), NULL, 10, &freq)) {
        return host->capacity;
    }
    return (uint64_t)host->capacity * MIN(freq, host->max_freq) /
           host->max_freq;
}

/* Field 39 of the file is the CPU that the thread last ran on. */
static int last_host_cpu(const VirtualCpufreqPage *page)
{
    const char *field;
    char buf[1024];
    int i, cpu;

    if (page->stat_fd < 0 || !reread(page->stat_fd, buf, sizeof(buf))) {
        return -1;
    }

    /* Field 2, a name in parentheses, may hold anything. */
    field = strrchr(buf, ')');
    for (i = 2; field && i < 39; i++) {
        field = strchr(field + 1, ' ');
    }
    if (!field || qemu_strtoi(field + 1, &field, 10, &cpu)) {
        return -1;
    }
    return cpu;
}

uint32_t virtual_cpufreq_host_cur_perf(VirtualCpufreqState *s, uint32_t index)
{
    VirtualCpufreqPage *page = &s->pages[index];
    const VirtualCpufreqConfig *config = &s->config[index];
    uint32_t highest = virtual_cpufreq_highest(config);
    uint32_t capacity;
    uint64_t perf;
    int cpu;

    cpu = current_cpu == page->cpu ? sched_getcpu() : last_host_cpu(page);
    if (cpu < 0 || cpu >= s->nr_host_cpus) {
        return highest;
    }

    capacity = host_cpu_capacity_now(&s->host_cpus[cpu], cpu);
    perf = (uint64_t)capacity * highest / config->capacity;
    perf = MIN(MAX(perf, 1), highest);

    trace_virtual_cpufreq_cur_perf(index, cpu, capacity, perf);
    return perf;
}

/* Requests */

static bool get_clamps(int tid, VirtualCpufreqClamps *clamps)
{
    SchedAttr attr = {};

    if (syscall(SYS_sched_getattr, tid, &attr, sizeof(attr), 0) < 0) {
        warn_report_once("virtual-cpufreq: hints are without effect: "
                         "sched_getattr: %s", strerror(errno));
        return false;
    }

    clamps->min = attr.util_min;
    clamps->max = attr.util_max;
    return true;
}

static bool set_clamps(VirtualCpufreqState *s, int tid,
                       const VirtualCpufreqClamps *clamps)
{
    SchedAttr attr = {
        .size = sizeof(attr),
        .flags = SCHED_ATTR_KEEP_POLICY | SCHED_ATTR_KEEP_PARAMS |
                 SCHED_ATTR_UTIL_CLAMP_MIN,
        .util_min = clamps->min,
        .util_max = clamps->max,
    };

    if (s->hint == VIRTUAL_CPUFREQ_HINT_MIN_MAX) {
        attr.flags |= SCHED_ATTR_UTIL_CLAMP_MAX;
    }

    trace_virtual_cpufreq_hint(tid, clamps->min, clamps->max);
    if (syscall(SYS_sched_setattr, tid, &attr, 0) < 0) {
        warn_report_once("virtual-cpufreq: hints are without effect: "
                         "sched_setattr: %s", strerror(errno));
        return false;
    }
    return true;
}

/*
 * What the thread's own clamps allow of the hint, as KVM has it: a hint raises
 * the minimum up to the own maximum at most, and lowers the maximum down to the
 * own minimum at most.
 */
static VirtualCpufreqClamps combine(VirtualCpufreqHint hint,
                                    VirtualCpufreqClamps own, uint32_t util)
{
    VirtualCpufreqClamps clamps = {
        .min = MAX(own.min, MIN(util, own.max)),
        .max = own.max,
    };

    if (hint == VIRTUAL_CPUFREQ_HINT_MIN_MAX) {
        clamps.max = MIN(own.max, MAX(util, own.min));
    }
    return clamps;
}

/*
 * Bring the clamps of the page's thread in line with the page's request. Clamps
 * that are not those of the last hint have been set by somebody else since, and
 * are the thread's own.
 */
void virtual_cpufreq_host_hint(VirtualCpufreqState *s, uint32_t index)
{
    VirtualCpufreqPage *page = &s->pages[index];
    const VirtualCpufreqConfig *config = &s->config[index];
    uint32_t perf = page->regs.set_perf;
    VirtualCpufreqClamps now, clamps;
    int tid;

    if (!s->hints_work || (!perf && !page->hinted)) {
        return;
    }

    tid = page->cpu->thread_id;
    if (!get_clamps(tid, &now)) {
        return;
    }
    if (!page->hinted || now.min != page->hint.min) {
        page->own.min = now.min;
    }
    if (!page->hinted || now.max != page->hint.max) {
        page->own.max = now.max;
    }

    clamps = page->own;
    if (perf) {
        uint64_t util = (uint64_t)perf * config->capacity /
                        virtual_cpufreq_highest(config);

        clamps = combine(s->hint, page->own,
                         MIN(util, VIRTUAL_CPUFREQ_HOST_CAPACITY));
    }

    /* The first hint is set in any case, which shows if that works. */
    if (!page->hinted || clamps.min != now.min || clamps.max != now.max) {
        if (!set_clamps(s, tid, &clamps)) {
            return;
        }
    }
    page->hint = clamps;
    page->hinted = perf;
}

/* A thread that runs several vCPUs, as with TCG, has no clamps for each. */
static bool each_vcpu_has_a_thread(VirtualCpufreqState *s)
{
    g_autoptr(GHashTable) tids = g_hash_table_new(NULL, NULL);
    uint32_t i;

    for (i = 0; i < s->nr_pages; i++) {
        if (!g_hash_table_add(tids,
                              GINT_TO_POINTER(s->pages[i].cpu->thread_id))) {
            return false;
        }
    }
    return true;
}

/* Open all files now: later, QEMU may be in a chroot or another user. */
static void open_files(VirtualCpufreqState *s)
{
    long nr_host_cpus = sysconf(_SC_NPROCESSORS_CONF);
    uint32_t i;

    s->nr_host_cpus = MAX(nr_host_cpus, 0);
    s->host_cpus = g_new(VirtualCpufreqHostCPU, s->nr_host_cpus);
    for (i = 0; i < s->nr_host_cpus; i++) {
        s->host_cpus[i].capacity = read_capacity(i);
        host_cpu_open_freq(&s->host_cpus[i], i);
    }

    for (i = 0; i < s->nr_pages; i++) {
        g_autofree char *path = g_strdup_printf("/proc/self/task/%d/stat",
                                                s->pages[i].cpu->thread_id);

        s->pages[i].stat_fd = qemu_open(path, O_RDONLY, NULL);
    }
}

void virtual_cpufreq_host_start(VirtualCpufreqState *s)
{
    open_files(s);

    if (s->hint == VIRTUAL_CPUFREQ_HINT_NONE || qtest_enabled()) {
        return;
    }
    if (!each_vcpu_has_a_thread(s)) {
        warn_report("virtual-cpufreq: hints are without effect: a thread runs "
                    "several vCPUs");
        return;
    }
    s->hints_work = true;
}
