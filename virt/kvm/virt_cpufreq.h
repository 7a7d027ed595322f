/* SPDX-License-Identifier: GPL-2.0-only */
#ifndef __KVM_VIRT_CPUFREQ_H__
#define __KVM_VIRT_CPUFREQ_H__

#include <linux/errno.h>
#include <linux/kvm_types.h>

#ifdef CONFIG_KVM_VIRT_CPUFREQ

u32 kvm_virt_cpufreq_supported(void);
int kvm_vm_ioctl_create_virt_cpufreq(struct kvm *kvm, void __user *argp);

#else

static inline u32 kvm_virt_cpufreq_supported(void)
{
	return 0;
}

static inline int
kvm_vm_ioctl_create_virt_cpufreq(struct kvm *kvm, void __user *argp)
{
	return -ENOTTY;
}

#endif /* CONFIG_KVM_VIRT_CPUFREQ */

#endif /* __KVM_VIRT_CPUFREQ_H__ */
