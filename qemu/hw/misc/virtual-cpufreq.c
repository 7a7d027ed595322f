/*
 * Virtual CPU frequency: a page of registers for each vCPU, through which the
 * guest requests performance and sees what it gets
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 *
 * The registers are served here, or by KVM. A request becomes utilization
 * clamps of the threads that run the vCPUs of the performance domain. All state
 * is protected by the BQL.
 */

#include "qemu/osdep.h"
#include "qemu/bitmap.h"
#include "qemu/bswap.h"
#include "qemu/error-report.h"
#include "qemu/log.h"
#include "qemu/units.h"
#include "qapi/error.h"
#include "qapi/qapi-builtin-visit.h"
#include "hw/boards.h"
#include "hw/core/cpu.h"
#include "hw/misc/virtual-cpufreq.h"
#include "hw/qdev-properties.h"
#include "hw/qdev-properties-system.h"
#include "hw/resettable.h"
#include "migration/vmstate.h"
#include "system/replay.h"
#include "system/system.h"
#include "trace.h"

/*
 * The largest page size of a host, so that where the registers are, and what
 * is next to them, does not depend on the host.
 */
#define REGION_ALIGN (64 * KiB)

/* Registers */

static void virtual_cpufreq_request(VirtualCpufreqState *s, uint32_t index,
                                    uint32_t perf)
{
    uint32_t domain = s->config[index].domain;
    uint32_t i;

    trace_virtual_cpufreq_set_perf(index, domain, perf);
    if (s->pages[index].regs.set_perf == perf) {
        return;
    }

    for (i = 0; i < s->nr_pages; i++) {
        if (s->config[i].domain == domain) {
            s->pages[i].regs.set_perf = perf;
            virtual_cpufreq_host_hint(s, i);
        }
    }
}

static uint32_t virtual_cpufreq_get(VirtualCpufreqState *s, uint32_t index,
                                    hwaddr reg)
{
    const VirtualCpufreqConfig *config = &s->config[index];
    const VirtualCpufreqRegs *regs = &s->pages[index].regs;

    if (s->kvm_regs) {
        return ldl_le_p(s->kvm_regs + index * VIRTUAL_CPUFREQ_PAGE_SIZE + reg);
    }

    switch (reg) {
    case VIRTUAL_CPUFREQ_CUR_PERF:
        return virtual_cpufreq_host_cur_perf(s, index);
    case VIRTUAL_CPUFREQ_SET_PERF:
        return regs->set_perf;
    case VIRTUAL_CPUFREQ_PERFTBL_LEN:
        return config->nr_perf;
    case VIRTUAL_CPUFREQ_PERFTBL_SEL:
        return regs->perftbl_sel;
    case VIRTUAL_CPUFREQ_PERFTBL_RD:
        return regs->perftbl_sel < config->nr_perf ?
               config->perf[regs->perftbl_sel] : 0;
    case VIRTUAL_CPUFREQ_PERF_DOMAIN:
        return config->domain;
    default:
        g_assert_not_reached();
    }
}

static uint64_t virtual_cpufreq_read(void *opaque, hwaddr addr, unsigned size)
{
    VirtualCpufreqState *s = opaque;
    uint32_t index = addr / VIRTUAL_CPUFREQ_PAGE_SIZE;
    hwaddr reg = addr % VIRTUAL_CPUFREQ_PAGE_SIZE;
    uint32_t value;

    s->accesses++;
    if (index >= s->nr_pages || reg > VIRTUAL_CPUFREQ_PERF_DOMAIN) {
        qemu_log_mask(LOG_GUEST_ERROR, "virtual-cpufreq: no register at 0x%"
                      HWADDR_PRIx "\n", addr);
        return 0;
    }

    value = virtual_cpufreq_get(s, index, reg);
    trace_virtual_cpufreq_read(index, reg, value);
    return value;
}

static void virtual_cpufreq_write(void *opaque, hwaddr addr, uint64_t value,
                                  unsigned size)
{
    VirtualCpufreqState *s = opaque;
    uint32_t index = addr / VIRTUAL_CPUFREQ_PAGE_SIZE;
    hwaddr reg = addr % VIRTUAL_CPUFREQ_PAGE_SIZE;

    s->accesses++;
    trace_virtual_cpufreq_write(index, reg, value);

    /* What KVM serves does not get here. */
    if (index < s->nr_pages && !s->kvm_regs) {
        switch (reg) {
        case VIRTUAL_CPUFREQ_SET_PERF:
            value = MIN(value, virtual_cpufreq_highest(&s->config[index]));
            virtual_cpufreq_request(s, index, MAX(value, 1));
            return;
        case VIRTUAL_CPUFREQ_PERFTBL_SEL:
            s->pages[index].regs.perftbl_sel = value;
            return;
        }
    }

    qemu_log_mask(LOG_GUEST_ERROR, "virtual-cpufreq: no register to write at "
                  "0x%" HWADDR_PRIx "\n", addr);
}

static bool virtual_cpufreq_accepts(void *opaque, hwaddr addr, unsigned size,
                                    bool is_write, MemTxAttrs attrs)
{
    return size == 4;
}

/*
 * Accesses of 32 bits only. The sizes are those that get here as they are,
 * to be refused, instead of in parts of 32 bits.
 */
const MemoryRegionOps virtual_cpufreq_ops = {
    .read = virtual_cpufreq_read,
    .write = virtual_cpufreq_write,
    .endianness = DEVICE_LITTLE_ENDIAN,
    .valid = {
        .min_access_size = 1,
        .max_access_size = 8,
        .accepts = virtual_cpufreq_accepts,
    },
    .impl = {
        .min_access_size = 4,
        .max_access_size = 4,
        .unaligned = true,
    },
};

/* Configuration */

static bool virtual_cpufreq_set_capacity(VirtualCpufreqConfig *config,
                                         const VirtualCpufreqDomain *domain,
                                         Error **errp)
{
    if (!domain->has_capacity) {
        return true;
    }

    if (domain->capacity < 1 ||
        domain->capacity > VIRTUAL_CPUFREQ_MAX_CAPACITY) {
        error_setg(errp, "domains[%" PRIu32 "].capacity: %" PRId64
                   " is not within 1..%d", config->domain, domain->capacity,
                   VIRTUAL_CPUFREQ_MAX_CAPACITY);
        return false;
    }
    config->capacity = domain->capacity;
    return true;
}

static bool virtual_cpufreq_set_perf(VirtualCpufreqConfig *config,
                                     const VirtualCpufreqDomain *domain,
                                     Error **errp)
{
    uint32_t last = 0;
    intList *perf;

    if (!domain->has_perf) {
        return true;
    }

    memset(config->perf, 0, sizeof(config->perf));
    config->nr_perf = 0;
    for (perf = domain->perf; perf; perf = perf->next) {
        if (config->nr_perf == VIRTUAL_CPUFREQ_MAX_PERF) {
            break;
        }
        /* Linux guests take them for kHz in a signed integer. */
        if (perf->value < 1 || perf->value > INT32_MAX) {
            error_setg(errp, "domains[%" PRIu32 "].perf: %" PRId64
                       " is not within 1..%" PRId32, config->domain,
                       perf->value, INT32_MAX);
            return false;
        }
        if (perf->value <= last) {
            error_setg(errp, "domains[%" PRIu32 "].perf: %" PRId64 " after %"
                       PRIu32 ": values must be strictly ascending",
                       config->domain, perf->value, last);
            return false;
        }
        last = perf->value;
        config->perf[config->nr_perf++] = last;
    }

    if (!domain->perf || perf) {
        error_setg(errp, "domains[%" PRIu32 "].perf: number of values is not "
                   "within 1..%d", config->domain, VIRTUAL_CPUFREQ_MAX_PERF);
        return false;
    }
    return true;
}

static bool virtual_cpufreq_set_cpus(VirtualCpufreqState *s,
                                     const VirtualCpufreqConfig *config,
                                     const VirtualCpufreqDomain *domain,
                                     unsigned long *seen, Error **errp)
{
    intList *cpu;

    if (!domain->cpus) {
        error_setg(errp, "domains[%" PRIu32 "].cpus: no CPU", config->domain);
        return false;
    }

    for (cpu = domain->cpus; cpu; cpu = cpu->next) {
        if (cpu->value < 0 || cpu->value >= s->nr_pages) {
            error_setg(errp, "domains[%" PRIu32 "].cpus: CPU %" PRId64
                       " does not exist (0..%" PRIu32 ")", config->domain,
                       cpu->value, s->nr_pages - 1);
            return false;
        }
        if (test_and_set_bit(cpu->value, seen)) {
            error_setg(errp, "domains[%" PRIu32 "].cpus: CPU %" PRId64
                       " is %s", config->domain, cpu->value,
                       s->config[cpu->value].domain == config->domain ?
                       "there twice" : "in two domains");
            return false;
        }
        s->config[cpu->value] = *config;
    }
    return true;
}

static bool virtual_cpufreq_set_domains(VirtualCpufreqState *s,
                                        const VirtualCpufreqConfig *defaults,
                                        Error **errp)
{
    g_autofree unsigned long *seen = bitmap_new(s->nr_pages);
    VirtualCpufreqConfig config = *defaults;
    VirtualCpufreqDomainList *list;
    uint32_t cpu;

    for (list = s->domains; list; list = list->next) {
        if (!virtual_cpufreq_set_capacity(&config, list->value, errp) ||
            !virtual_cpufreq_set_perf(&config, list->value, errp) ||
            !virtual_cpufreq_set_cpus(s, &config, list->value, seen, errp)) {
            return false;
        }
        cpu = config.domain + 1;
        config = *defaults;
        config.domain = cpu;
    }

    cpu = find_first_zero_bit(seen, s->nr_pages);
    if (cpu < s->nr_pages) {
        error_setg(errp, "domains: CPU %" PRIu32 " is in no domain", cpu);
        return false;
    }
    return true;
}

static bool virtual_cpufreq_configure(VirtualCpufreqState *s, Error **errp)
{
    VirtualCpufreqConfig defaults = {};
    uint32_t i;

    virtual_cpufreq_host_defaults(&defaults.capacity, &defaults.nr_perf,
                                  defaults.perf);
    if (s->domains) {
        return virtual_cpufreq_set_domains(s, &defaults, errp);
    }

    for (i = 0; i < s->nr_pages; i++) {
        s->config[i] = defaults;
        s->config[i].domain = i;
    }
    return true;
}

/* Start: when vCPUs and the registers' address are there */

static hwaddr virtual_cpufreq_address(VirtualCpufreqState *s)
{
    MemoryRegionSection section = memory_region_find(&s->mmio, 0, 1);

    assert(section.mr == &s->mmio);
    memory_region_unref(section.mr);
    return section.offset_within_address_space;
}

/* Returns false with errp set if QEMU is not to serve instead. */
static bool virtual_cpufreq_start_kvm(VirtualCpufreqState *s, Error **errp)
{
    Error *err = NULL;
    int ret = virtual_cpufreq_kvm_start(s, virtual_cpufreq_address(s), &err);

    if (!ret) {
        s->served_by = s->pages_are_shared ? "kernel-shared" : "kernel";
        if (s->serve == VIRTUAL_CPUFREQ_SERVER_AUTO) {
            info_report("virtual-cpufreq: served by the kernel");
        }
        return true;
    }

    if (s->serve == VIRTUAL_CPUFREQ_SERVER_KERNEL || ret != -EOPNOTSUPP) {
        error_propagate_prepend(errp, err, "serve=%s: ",
                                VirtualCpufreqServer_str(s->serve));
        return false;
    }

    info_report("virtual-cpufreq: served by QEMU (%s)", error_get_pretty(err));
    error_free(err);
    return true;
}

static bool virtual_cpufreq_start(VirtualCpufreqState *s, Error **errp)
{
    uint32_t i;

    for (i = 0; i < s->nr_pages; i++) {
        s->pages[i].cpu = qemu_get_cpu(i);
    }

    if (s->serve != VIRTUAL_CPUFREQ_SERVER_USER &&
        !virtual_cpufreq_start_kvm(s, errp)) {
        return false;
    }

    if (!s->served_by) {
        virtual_cpufreq_host_start(s);
        s->served_by = "user";
    }
    trace_virtual_cpufreq_served_by(s->served_by);
    return true;
}

/*
 * Runs before the board's notifier, which describes the device to the guest:
 * notifiers run in reverse order, and the board adds its own before there are
 * devices on its platform bus.
 */
static void virtual_cpufreq_machine_done(Notifier *notifier, void *data)
{
    VirtualCpufreqState *s = container_of(notifier, VirtualCpufreqState,
                                          machine_done);
    Error *err = NULL;

    if (!virtual_cpufreq_start(s, &err)) {
        error_reportf_err(err, "virtual-cpufreq: ");
        exit(1);
    }
}

/* Reset and migration */

/* Apply the registers of the page to whoever serves it. */
static int virtual_cpufreq_apply(VirtualCpufreqState *s, uint32_t index)
{
    if (s->kvm_regs) {
        return virtual_cpufreq_kvm_set_regs(s, index);
    }
    virtual_cpufreq_host_hint(s, index);
    return 0;
}

static void virtual_cpufreq_clear(VirtualCpufreqState *s)
{
    uint32_t i;
    int ret;

    for (i = 0; i < s->nr_pages; i++) {
        s->pages[i].regs = (VirtualCpufreqRegs) {};
        ret = virtual_cpufreq_apply(s, i);
        if (ret < 0) {
            warn_report("virtual-cpufreq: cannot reset CPU %" PRIu32 ": %s", i,
                        strerror(-ret));
        }
    }
}

static void virtual_cpufreq_reset_hold(Object *obj, ResetType type)
{
    trace_virtual_cpufreq_reset();
    virtual_cpufreq_clear(VIRTUAL_CPUFREQ(obj));
}

static int virtual_cpufreq_pre_save(void *opaque)
{
    VirtualCpufreqState *s = opaque;
    uint32_t i;

    for (i = 0; i < s->nr_pages; i++) {
        s->pages[i].saved.set_perf =
            virtual_cpufreq_get(s, i, VIRTUAL_CPUFREQ_SET_PERF);
        s->pages[i].saved.perftbl_sel =
            virtual_cpufreq_get(s, i, VIRTUAL_CPUFREQ_PERFTBL_SEL);
    }
    return 0;
}

/* A request is at most the highest performance, and the same in a domain. */
static bool virtual_cpufreq_saved_perf_is_valid(VirtualCpufreqState *s,
                                                uint32_t index)
{
    uint32_t perf = s->pages[index].saved.set_perf;
    uint32_t i;

    if (perf > virtual_cpufreq_highest(&s->config[index])) {
        error_report("virtual-cpufreq: set_perf of CPU %" PRIu32 ": %" PRIu32
                     " is not within 0..%" PRIu32, index, perf,
                     virtual_cpufreq_highest(&s->config[index]));
        return false;
    }

    for (i = 0; i < index; i++) {
        if (s->config[i].domain == s->config[index].domain &&
            s->pages[i].saved.set_perf != perf) {
            error_report("virtual-cpufreq: set_perf of CPU %" PRIu32 ": %"
                         PRIu32 " is not that of its domain, %" PRIu32,
                         index, perf, s->pages[i].saved.set_perf);
            return false;
        }
    }
    return true;
}

static int virtual_cpufreq_load(VirtualCpufreqState *s)
{
    uint32_t i;
    int ret;

    for (i = 0; i < s->nr_pages; i++) {
        if (!virtual_cpufreq_saved_perf_is_valid(s, i)) {
            return -EINVAL;
        }
    }

    for (i = 0; i < s->nr_pages; i++) {
        s->pages[i].regs = s->pages[i].saved;
        trace_virtual_cpufreq_load(i, s->pages[i].regs.set_perf,
                                   s->pages[i].regs.perftbl_sel);
        ret = virtual_cpufreq_apply(s, i);
        if (ret < 0) {
            error_report("virtual-cpufreq: cannot restore CPU %" PRIu32 ": %s",
                         i, strerror(-ret));
            return ret;
        }
    }
    return 0;
}

/* After a failure there is no request, as after a reset. */
static int virtual_cpufreq_post_load(void *opaque, int version_id)
{
    VirtualCpufreqState *s = opaque;
    int ret = virtual_cpufreq_load(s);

    if (ret < 0) {
        virtual_cpufreq_clear(s);
    }
    return ret;
}

static const VMStateDescription vmstate_virtual_cpufreq_page = {
    .name = "virtual-cpufreq/page",
    .version_id = 1,
    .minimum_version_id = 1,
    .fields = (const VMStateField[]) {
        VMSTATE_UINT32(saved.set_perf, VirtualCpufreqPage),
        VMSTATE_UINT32(saved.perftbl_sel, VirtualCpufreqPage),
        VMSTATE_END_OF_LIST()
    },
};

/* The same whoever serves the registers */
static const VMStateDescription vmstate_virtual_cpufreq = {
    .name = TYPE_VIRTUAL_CPUFREQ,
    .version_id = 1,
    .minimum_version_id = 1,
    .pre_save = virtual_cpufreq_pre_save,
    .post_load = virtual_cpufreq_post_load,
    .fields = (const VMStateField[]) {
        VMSTATE_STRUCT_VARRAY_POINTER_UINT32(pages, VirtualCpufreqState,
                                             nr_pages,
                                             vmstate_virtual_cpufreq_page,
                                             VirtualCpufreqPage),
        VMSTATE_END_OF_LIST()
    },
};

/*
 * The configuration, which the guest has read, must be the same on both sides.
 * It goes ahead of the guest's RAM, so that a destination that differs refuses
 * while the guest still runs at the source.
 */

static int virtual_cpufreq_config_pre_save(void *opaque)
{
    VirtualCpufreqState *s = opaque;

    s->incoming_nr_pages = s->nr_pages;
    memcpy(s->incoming, s->config, s->nr_pages * sizeof(*s->incoming));
    return 0;
}

static bool virtual_cpufreq_nr_pages_match(void *opaque, int version_id)
{
    VirtualCpufreqState *s = opaque;

    if (s->incoming_nr_pages != s->nr_pages) {
        error_report("virtual-cpufreq: %" PRIu32 " CPUs here, %" PRIu32
                     " at the source", s->nr_pages, s->incoming_nr_pages);
        return false;
    }
    return true;
}

static bool virtual_cpufreq_config_matches(const VirtualCpufreqConfig *own,
                                           const VirtualCpufreqConfig *source,
                                           uint32_t cpu)
{
    uint32_t i;

    if (own->domain != source->domain) {
        error_report("virtual-cpufreq: CPU %" PRIu32 " is in domains[%" PRIu32
                     "] here, in domains[%" PRIu32 "] at the source", cpu,
                     own->domain, source->domain);
        return false;
    }
    if (own->capacity != source->capacity) {
        error_report("virtual-cpufreq: domains[%" PRIu32 "].capacity: %" PRIu32
                     " here, %" PRIu32 " at the source", own->domain,
                     own->capacity, source->capacity);
        return false;
    }
    if (own->nr_perf != source->nr_perf) {
        error_report("virtual-cpufreq: domains[%" PRIu32 "].perf: %" PRIu32
                     " values here, %" PRIu32 " at the source", own->domain,
                     own->nr_perf, source->nr_perf);
        return false;
    }
    for (i = 0; i < own->nr_perf; i++) {
        if (own->perf[i] != source->perf[i]) {
            error_report("virtual-cpufreq: domains[%" PRIu32 "].perf[%" PRIu32
                         "]: %" PRIu32 " here, %" PRIu32 " at the source",
                         own->domain, i, own->perf[i], source->perf[i]);
            return false;
        }
    }
    return true;
}

static int virtual_cpufreq_config_post_load(void *opaque, int version_id)
{
    VirtualCpufreqState *s = opaque;
    uint32_t i;

    for (i = 0; i < s->nr_pages; i++) {
        if (!virtual_cpufreq_config_matches(&s->config[i], &s->incoming[i],
                                            i)) {
            return -EINVAL;
        }
    }
    return 0;
}

static const VMStateDescription vmstate_virtual_cpufreq_cpu_config = {
    .name = "virtual-cpufreq-config/cpu",
    .version_id = 1,
    .minimum_version_id = 1,
    .fields = (const VMStateField[]) {
        VMSTATE_UINT32(domain, VirtualCpufreqConfig),
        VMSTATE_UINT32(capacity, VirtualCpufreqConfig),
        VMSTATE_UINT32(nr_perf, VirtualCpufreqConfig),
        VMSTATE_UINT32_ARRAY(perf, VirtualCpufreqConfig,
                             VIRTUAL_CPUFREQ_MAX_PERF),
        VMSTATE_END_OF_LIST()
    },
};

static const VMStateDescription vmstate_virtual_cpufreq_config = {
    .name = "virtual-cpufreq-config",
    .version_id = 1,
    .minimum_version_id = 1,
    .early_setup = true,
    .pre_save = virtual_cpufreq_config_pre_save,
    .post_load = virtual_cpufreq_config_post_load,
    .fields = (const VMStateField[]) {
        VMSTATE_UINT32(incoming_nr_pages, VirtualCpufreqState),
        VMSTATE_VALIDATE("number of CPUs", virtual_cpufreq_nr_pages_match),
        VMSTATE_STRUCT_VARRAY_POINTER_UINT32(incoming, VirtualCpufreqState,
                                             nr_pages,
                                             vmstate_virtual_cpufreq_cpu_config,
                                             VirtualCpufreqConfig),
        VMSTATE_END_OF_LIST()
    },
};

/* QOM */

static void virtual_cpufreq_realize(DeviceState *dev, Error **errp)
{
    VirtualCpufreqState *s = VIRTUAL_CPUFREQ(dev);

    if (!virtual_cpufreq_find()) {
        error_setg(errp, "at most one virtual-cpufreq device is permitted");
        return;
    }
    if (s->shared_pages == ON_OFF_AUTO_ON &&
        s->serve != VIRTUAL_CPUFREQ_SERVER_KERNEL) {
        error_setg(errp, "shared-pages=on needs serve=kernel");
        return;
    }

    /* There is no hot-plug of vCPUs. */
    s->nr_pages = MACHINE(qdev_get_machine())->smp.cpus;
    s->config = g_new0(VirtualCpufreqConfig, s->nr_pages);
    s->incoming = g_new0(VirtualCpufreqConfig, s->nr_pages);
    s->pages = g_new0(VirtualCpufreqPage, s->nr_pages);
    if (!virtual_cpufreq_configure(s, errp)) {
        return;
    }

    memory_region_init_io(&s->mmio, OBJECT(s), &virtual_cpufreq_ops, s,
                          TYPE_VIRTUAL_CPUFREQ,
                          ROUND_UP(virtual_cpufreq_size(s), REGION_ALIGN));
    sysbus_init_mmio(SYS_BUS_DEVICE(s), &s->mmio);

    /* The host's CPUs decide what the guest reads. */
    replay_add_blocker(TYPE_VIRTUAL_CPUFREQ);

    vmstate_register_any(VMSTATE_IF(s), &vmstate_virtual_cpufreq_config, s);
    s->machine_done.notify = virtual_cpufreq_machine_done;
    qemu_add_machine_init_done_notifier(&s->machine_done);
}

static void virtual_cpufreq_finalize(Object *obj)
{
    VirtualCpufreqState *s = VIRTUAL_CPUFREQ(obj);

    g_free(s->pages);
    g_free(s->incoming);
    g_free(s->config);
}

static char *virtual_cpufreq_get_served_by(Object *obj, Error **errp)
{
    return g_strdup(VIRTUAL_CPUFREQ(obj)->served_by ?: "none");
}

/* A register, the offset of which is in opaque, of all pages */
static void virtual_cpufreq_get_registers(Object *obj, Visitor *v,
                                          const char *name, void *opaque,
                                          Error **errp)
{
    VirtualCpufreqState *s = VIRTUAL_CPUFREQ(obj);
    uint32List *list = NULL, **tail = &list;
    uint32_t i;

    for (i = 0; s->served_by && i < s->nr_pages; i++) {
        QAPI_LIST_APPEND(tail, virtual_cpufreq_get(s, i, (uintptr_t)opaque));
    }
    visit_type_uint32List(v, name, &list, errp);
    qapi_free_uint32List(list);
}

static void virtual_cpufreq_get_accesses(Object *obj, Visitor *v,
                                         const char *name, void *opaque,
                                         Error **errp)
{
    visit_type_uint64(v, name, &VIRTUAL_CPUFREQ(obj)->accesses, errp);
}

static const Property virtual_cpufreq_properties[] = {
    DEFINE_PROP_VIRTUAL_CPUFREQ_SERVER("serve", VirtualCpufreqState, serve,
                                       VIRTUAL_CPUFREQ_SERVER_AUTO),
    DEFINE_PROP_ON_OFF_AUTO("shared-pages", VirtualCpufreqState, shared_pages,
                            ON_OFF_AUTO_AUTO),
    DEFINE_PROP_VIRTUAL_CPUFREQ_HINT("hint", VirtualCpufreqState, hint,
                                     VIRTUAL_CPUFREQ_HINT_MIN),
    DEFINE_PROP_VIRTUAL_CPUFREQ_DOMAINS("domains", VirtualCpufreqState,
                                        domains),
};

static void virtual_cpufreq_class_init(ObjectClass *klass, void *data)
{
    ResettableClass *rc = RESETTABLE_CLASS(klass);
    DeviceClass *dc = DEVICE_CLASS(klass);

    dc->desc = "Virtual CPU frequency";
    dc->realize = virtual_cpufreq_realize;
    dc->vmsd = &vmstate_virtual_cpufreq;
    dc->hotpluggable = false;
    device_class_set_props(dc, virtual_cpufreq_properties);
    set_bit(DEVICE_CATEGORY_MISC, dc->categories);
    rc->phases.hold = virtual_cpufreq_reset_hold;

    object_class_property_add_str(klass, "served-by",
                                  virtual_cpufreq_get_served_by, NULL);
    object_class_property_set_description(klass, "served-by",
        "kernel, kernel-shared or user");
    object_class_property_add(klass, "requests", "uint32List",
                              virtual_cpufreq_get_registers, NULL, NULL,
                              (void *)VIRTUAL_CPUFREQ_SET_PERF);
    object_class_property_set_description(klass, "requests",
        "set_perf of each vCPU");
    object_class_property_add(klass, "cur-perfs", "uint32List",
                              virtual_cpufreq_get_registers, NULL, NULL,
                              (void *)VIRTUAL_CPUFREQ_CUR_PERF);
    object_class_property_set_description(klass, "cur-perfs",
        "cur_perf of each vCPU");
    object_class_property_add(klass, "x-accesses", "uint64",
                              virtual_cpufreq_get_accesses, NULL, NULL, NULL);
    object_class_property_set_description(klass, "x-accesses",
        "Loads and stores that QEMU has served");
}

static const TypeInfo virtual_cpufreq_info = {
    .name = TYPE_VIRTUAL_CPUFREQ,
    .parent = TYPE_DYNAMIC_SYS_BUS_DEVICE,
    .instance_size = sizeof(VirtualCpufreqState),
    .instance_finalize = virtual_cpufreq_finalize,
    .class_init = virtual_cpufreq_class_init,
};

static void virtual_cpufreq_register_types(void)
{
    type_register_static(&virtual_cpufreq_info);
}

type_init(virtual_cpufreq_register_types)
