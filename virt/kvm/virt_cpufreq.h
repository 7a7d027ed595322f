/* SPDX-License-Identifier: GPL-2.0-only */
#ifndef __KVM_VIRT_CPUFREQ_H__
#define __KVM_VIRT_CPUFREQ_H__

#include <linux/errno.h>
#include <linux/kvm_types.h>

struct module;

#ifdef CONFIG_KVM_VIRT_CPUFREQ

u32 kvm_virt_cpufreq_supported(void);
int kvm_vm_ioctl_create_virt_cpufreq(struct kvm *kvm, void __user *argp);
void kvm_virt_cpufreq_init(struct module *module);
void kvm_virt_cpufreq_exit(void);

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

static inline void kvm_virt_cpufreq_init(struct module *module) { }
static inline void kvm_virt_cpufreq_exit(void) { }

#endif /* CONFIG_KVM_VIRT_CPUFREQ */

#endif /* __KVM_VIRT_CPUFREQ_H__ */
