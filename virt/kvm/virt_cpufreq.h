/* SPDX-License-Identifier: GPL-2.0-only */
#ifndef __KVM_VIRT_CPUFREQ_H__
#define __KVM_VIRT_CPUFREQ_H__

#include <linux/errno.h>
#include <linux/kvm_host.h>
#include <linux/kvm_types.h>
#include <linux/kvm_virt_cpufreq.h>
#include <linux/sched.h>
#include <linux/sched/uclamp.h>

#ifdef CONFIG_KVM_VIRT_CPUFREQ

u32 kvm_virt_cpufreq_supported(struct kvm *kvm);
int kvm_vm_ioctl_create_virt_cpufreq(struct kvm *kvm, void __user *argp);

/*
 * The current thread begins to run the vCPU. If its hint is another vCPU's, or the
 * vCPU's is on another thread, have that changed before the guest is entered.
 */
static inline void kvm_virt_cpufreq_run(struct kvm_vcpu *vcpu)
{
	if (sched_uclamp_hints_are_used() &&
	    unlikely(sched_uclamp_hint_id(current) != READ_ONCE(vcpu->virt_cpufreq_id)))
		kvm_make_request(KVM_REQ_VIRT_CPUFREQ, vcpu);
}

#else

static inline u32 kvm_virt_cpufreq_supported(struct kvm *kvm)
{
	return 0;
}

static inline int
kvm_vm_ioctl_create_virt_cpufreq(struct kvm *kvm, void __user *argp)
{
	return -ENOTTY;
}

static inline void kvm_virt_cpufreq_run(struct kvm_vcpu *vcpu) { }

#endif /* CONFIG_KVM_VIRT_CPUFREQ */

#endif /* __KVM_VIRT_CPUFREQ_H__ */
