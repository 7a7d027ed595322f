/*
 * Virtual CPU frequency: a page of registers for each vCPU, through which the
 * guest requests performance and sees what it gets
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef HW_MISC_VIRTUAL_CPUFREQ_H
#define HW_MISC_VIRTUAL_CPUFREQ_H

#include "exec/memory.h"
#include "hw/sysbus.h"
#include "qapi/qapi-types-virtual-cpufreq.h"
#include "qemu/notify.h"
#include "qom/object.h"

#define TYPE_VIRTUAL_CPUFREQ "virtual-cpufreq"
OBJECT_DECLARE_SIMPLE_TYPE(VirtualCpufreqState, VIRTUAL_CPUFREQ)

#define VIRTUAL_CPUFREQ_FDT_COMPAT "qemu,virtual-cpufreq"

#define VIRTUAL_CPUFREQ_PAGE_SIZE 4096
#define VIRTUAL_CPUFREQ_MAX_PERF 64
#define VIRTUAL_CPUFREQ_MAX_CAPACITY 65535

/* Capacity of the host's biggest CPU at its highest frequency */
#define VIRTUAL_CPUFREQ_HOST_CAPACITY 1024

/* Offsets within the register page of a vCPU */
#define VIRTUAL_CPUFREQ_CUR_PERF 0x00
#define VIRTUAL_CPUFREQ_SET_PERF 0x04
#define VIRTUAL_CPUFREQ_PERFTBL_LEN 0x08
#define VIRTUAL_CPUFREQ_PERFTBL_SEL 0x0c
#define VIRTUAL_CPUFREQ_PERFTBL_RD 0x10
#define VIRTUAL_CPUFREQ_PERF_DOMAIN 0x14

/* What a register page stands for; the same for all pages of a domain */
typedef struct VirtualCpufreqConfig {
    uint32_t domain;
    uint32_t capacity;
    uint32_t nr_perf;
    uint32_t perf[VIRTUAL_CPUFREQ_MAX_PERF];
} VirtualCpufreqConfig;

/* Utilization clamps of a thread */
typedef struct VirtualCpufreqClamps {
    uint32_t min;
    uint32_t max;
} VirtualCpufreqClamps;

typedef struct VirtualCpufreqRegs {
    uint32_t set_perf; /* the domain's, on all its pages */
    uint32_t perftbl_sel;
} VirtualCpufreqRegs;

/* The register page of a vCPU. With KVM serving, KVM has the registers. */
typedef struct VirtualCpufreqPage {
    CPUState *cpu;
    VirtualCpufreqRegs regs;
    VirtualCpufreqRegs saved; /* in the migration stream */

    bool hinted;
    VirtualCpufreqClamps own; /* the thread's without a hint */
    VirtualCpufreqClamps hint; /* what the thread has been given */
    int stat_fd; /* /proc/self/task/TID/stat, or -1 */
} VirtualCpufreqPage;

typedef struct VirtualCpufreqHostCPU {
    uint32_t capacity;
    uint32_t max_freq;
    int cur_freq_fd; /* -1: the frequency counts as the highest */
} VirtualCpufreqHostCPU;

struct VirtualCpufreqState {
    SysBusDevice parent_obj;

    VirtualCpufreqServer serve;
    OnOffAuto shared_pages;
    VirtualCpufreqHint hint;
    VirtualCpufreqDomainList *domains;

    MemoryRegion mmio;
    Notifier machine_done;
    const char *served_by; /* NULL until somebody does */
    uint64_t accesses;

    uint32_t nr_pages; /* one for each vCPU */
    VirtualCpufreqConfig *config;
    uint32_t incoming_nr_pages; /* the source's, for comparison */
    VirtualCpufreqConfig *incoming;
    VirtualCpufreqPage *pages;

    /* Served by QEMU */
    bool hints_work;
    uint32_t nr_host_cpus;
    VirtualCpufreqHostCPU *host_cpus;

    /* Served by KVM */
    int kvm_fd;
    void *kvm_regs; /* the register pages, read-only; NULL if served by QEMU */
    bool pages_are_shared;
    MemoryRegion shared;
};

/* Returns NULL unless there is exactly one device */
static inline VirtualCpufreqState *virtual_cpufreq_find(void)
{
    Object *obj = object_resolve_path_type("", TYPE_VIRTUAL_CPUFREQ, NULL);

    return obj ? VIRTUAL_CPUFREQ(obj) : NULL;
}

static inline uint32_t virtual_cpufreq_size(const VirtualCpufreqState *s)
{
    return s->nr_pages * VIRTUAL_CPUFREQ_PAGE_SIZE;
}

static inline uint32_t virtual_cpufreq_highest(const VirtualCpufreqConfig *c)
{
    return c->perf[c->nr_perf - 1];
}

extern const MemoryRegionOps virtual_cpufreq_ops;

/* The host's CPUs (virtual-cpufreq-host.c) */
void virtual_cpufreq_host_defaults(uint32_t *capacity, uint32_t *nr_perf,
                                   uint32_t *perf);
void virtual_cpufreq_host_start(VirtualCpufreqState *s);
void virtual_cpufreq_host_hint(VirtualCpufreqState *s, uint32_t index);
uint32_t virtual_cpufreq_host_cur_perf(VirtualCpufreqState *s, uint32_t index);

/* The host's kernel (virtual-cpufreq-kvm.c) */
int virtual_cpufreq_kvm_start(VirtualCpufreqState *s, hwaddr gpa, Error **errp);
int virtual_cpufreq_kvm_set_regs(VirtualCpufreqState *s, uint32_t index);

#endif
