/*
 * Virtual CPU frequency: stubs for targets without KVM
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qapi/error.h"
#include "hw/misc/virtual-cpufreq.h"

int virtual_cpufreq_kvm_start(VirtualCpufreqState *s, hwaddr gpa, Error **errp)
{
    error_setg(errp, "this QEMU is built without KVM");
    return -EOPNOTSUPP;
}

int virtual_cpufreq_kvm_set_regs(VirtualCpufreqState *s, uint32_t index)
{
    g_assert_not_reached();
}
