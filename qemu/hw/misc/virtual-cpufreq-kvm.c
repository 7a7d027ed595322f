/*
 * Virtual CPU frequency: registers that are served by KVM
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qapi/error.h"
#include "hw/boards.h"
#include "hw/core/cpu.h"
#include "hw/misc/virtual-cpufreq.h"
#include "system/kvm.h"

#include <linux/kvm_virt_cpufreq.h>
#include <sys/mman.h>

QEMU_BUILD_BUG_ON(VIRTUAL_CPUFREQ_PAGE_SIZE != KVM_VIRT_CPUFREQ_PAGE_SIZE);
QEMU_BUILD_BUG_ON(VIRTUAL_CPUFREQ_MAX_PERF != KVM_VIRT_CPUFREQ_MAX_PERF);

static uint32_t hint_flags(VirtualCpufreqHint hint)
{
    switch (hint) {
    case VIRTUAL_CPUFREQ_HINT_NONE:
        return 0;
    case VIRTUAL_CPUFREQ_HINT_MIN:
        return KVM_VIRT_CPUFREQ_HINT_MIN;
    case VIRTUAL_CPUFREQ_HINT_MIN_MAX:
        return KVM_VIRT_CPUFREQ_HINT_MIN | KVM_VIRT_CPUFREQ_HINT_MAX;
    default:
        g_assert_not_reached();
    }
}

static bool kvm_serves(VirtualCpufreqState *s, Error **errp)
{
    uint32_t served;

    if (!kvm_enabled()) {
        error_setg(errp, "KVM is not in use");
        return false;
    }

    served = kvm_vm_check_extension(kvm_state, KVM_CAP_VIRT_CPUFREQ);
    if (!served) {
        error_setg(errp, "this kernel does not serve virtual CPU frequency "
                   "(KVM_CAP_VIRT_CPUFREQ)");
        return false;
    }

    if (hint_flags(s->hint) & ~served) {
        error_setg(errp, "this kernel does not serve hint=%s",
                   VirtualCpufreqHint_str(s->hint));
        return false;
    }
    return true;
}

static int create(VirtualCpufreqState *s, hwaddr gpa, Error **errp)
{
    ERRP_GUARD();
    g_autofree struct kvm_virt_cpufreq_domain *domains =
        g_new0(struct kvm_virt_cpufreq_domain, s->nr_pages);
    g_autofree struct kvm_virt_cpufreq_vcpu *vcpus =
        g_new0(struct kvm_virt_cpufreq_vcpu, s->nr_pages);
    struct kvm_create_virt_cpufreq args = {
        .gpa = gpa,
        .domains = (uintptr_t)domains,
        .vcpus = (uintptr_t)vcpus,
        .nr_vcpus = s->nr_pages,
        .flags = hint_flags(s->hint),
    };
    uint32_t i;
    int fd;

    for (i = 0; i < s->nr_pages; i++) {
        const VirtualCpufreqConfig *config = &s->config[i];
        struct kvm_virt_cpufreq_domain *domain = &domains[config->domain];

        vcpus[i].vcpu_id = kvm_arch_vcpu_id(s->pages[i].cpu);
        vcpus[i].domain = config->domain;

        /* The same for all pages of a domain; each domain has one. */
        domain->capacity = config->capacity;
        domain->nr_perf = config->nr_perf;
        memcpy(domain->perf, config->perf, sizeof(domain->perf));
        args.nr_domains = MAX(args.nr_domains, config->domain + 1);
    }

    fd = kvm_vm_ioctl(kvm_state, KVM_CREATE_VIRT_CPUFREQ, &args);
    if (fd < 0) {
        error_setg_errno(errp, -fd, "the kernel refuses to serve "
                         "%" PRIu32 " vCPUs at 0x%" HWADDR_PRIx
                         " (KVM_CREATE_VIRT_CPUFREQ)", s->nr_pages, gpa);
        if (fd == -EPERM || fd == -EACCES) {
            error_append_hint(errp, "QEMU must be allowed to set its own "
                              "scheduling attributes, unless hint=none.\n");
        }
    }
    return fd;
}

static size_t regs_size(VirtualCpufreqState *s)
{
    return ROUND_UP(virtual_cpufreq_size(s), qemu_real_host_page_size());
}

/* What keeps the guest from reading the registers as memory, or NULL */
static const char *obstacle_to_sharing(void)
{
    if (!kvm_readonly_mem_enabled()) {
        return "this kernel has no read-only memory slots";
    }
    if (MACHINE(qdev_get_machine())->cgs) {
        return "host memory cannot be shared with a confidential guest";
    }
    return NULL;
}

/* Stores still exit. The ones that KVM does not serve get to the device. */
static void share_regs(VirtualCpufreqState *s)
{
    memory_region_init_rom_device_ptr(&s->shared, OBJECT(s),
                                      &virtual_cpufreq_ops, s,
                                      "virtual-cpufreq-shared",
                                      regs_size(s), s->kvm_regs);
    memory_region_add_subregion(&s->mmio, 0, &s->shared);
    s->pages_are_shared = true;
}

/*
 * Returns 0, -EOPNOTSUPP if KVM cannot serve the device for this QEMU, or
 * another error that should not happen. KVM is without the device then.
 */
int virtual_cpufreq_kvm_start(VirtualCpufreqState *s, hwaddr gpa, Error **errp)
{
    const char *obstacle;
    void *regs;
    int fd;

    if (!kvm_serves(s, errp)) {
        return -EOPNOTSUPP;
    }

    obstacle = obstacle_to_sharing();
    if (s->shared_pages == ON_OFF_AUTO_ON && obstacle) {
        error_setg(errp, "shared-pages=on: %s", obstacle);
        return -EINVAL;
    }

    fd = create(s, gpa, errp);
    if (fd == -ENOTTY || fd == -EPERM || fd == -EACCES) {
        return -EOPNOTSUPP;
    }
    if (fd < 0) {
        return fd;
    }

    /*
     * Reads of the mapping are those of the guest: there is no other way to
     * save the registers.
     */
    regs = mmap(NULL, regs_size(s), PROT_READ, MAP_SHARED, fd, 0);
    if (regs == MAP_FAILED) {
        error_setg_errno(errp, errno, "cannot map the registers that the "
                         "kernel serves");
        close(fd);
        return -EINVAL;
    }

    s->kvm_fd = fd;
    s->kvm_regs = regs;
    if (s->shared_pages != ON_OFF_AUTO_OFF && !obstacle) {
        share_regs(s);
    }
    return 0;
}

int virtual_cpufreq_kvm_set_regs(VirtualCpufreqState *s, uint32_t index)
{
    struct kvm_virt_cpufreq_regs regs = {
        .index = index,
        .set_perf = s->pages[index].regs.set_perf,
        .perftbl_sel = s->pages[index].regs.perftbl_sel,
    };

    return kvm_device_ioctl(s->kvm_fd, KVM_VIRT_CPUFREQ_SET_REGS, &regs);
}
