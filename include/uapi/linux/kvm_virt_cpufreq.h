/* SPDX-License-Identifier: GPL-2.0 WITH Linux-syscall-note */
#ifndef _UAPI_LINUX_KVM_VIRT_CPUFREQ_H
#define _UAPI_LINUX_KVM_VIRT_CPUFREQ_H

#include <linux/types.h>

/**
 * DOC: Flags of KVM_CREATE_VIRT_CPUFREQ
 *
 * ``KVM_CHECK_EXTENSION(KVM_CAP_VIRT_CPUFREQ)`` on a VM returns the mask of
 * the flags that this kernel serves: 0 if it serves none, if the device is not
 * built in, or if the administrator has switched it off. In the first case a
 * device without flags can still be created.
 *
 * %KVM_VIRT_CPUFREQ_HINT_MIN
 *   A request becomes the minimum utilization clamp of the threads that run
 *   the vCPUs of the performance domain.
 *
 * %KVM_VIRT_CPUFREQ_HINT_MAX
 *   A request becomes their maximum utilization clamp, too, which makes for a
 *   vCPU that is smaller than the CPU it runs on.
 *
 * %KVM_VIRT_CPUFREQ_HINT_UTIL
 *   Reserved for a floor under the threads' utilization, which excludes the
 *   other hints. KVM_CREATE_VIRT_CPUFREQ fails with EOPNOTSUPP.
 *
 * %KVM_VIRT_CPUFREQ_NOTIFY
 *   Reserved for signalling ``notify_fd`` when the request of a performance
 *   domain has changed. KVM_CREATE_VIRT_CPUFREQ fails with EOPNOTSUPP.
 *
 * Without any hint flag requests are recorded and no task is touched.
 */
#define KVM_VIRT_CPUFREQ_HINT_MIN	(1U << 0)
#define KVM_VIRT_CPUFREQ_HINT_MAX	(1U << 1)
#define KVM_VIRT_CPUFREQ_HINT_UTIL	(1U << 2)
#define KVM_VIRT_CPUFREQ_NOTIFY		(1U << 3)

/**
 * struct kvm_virt_cpufreq_vcpu - one register page
 * @vcpu_id: the vCPU whose thread the requests made through the page are about
 * @domain: performance domain, any number; pages of one domain share their
 *	request and must agree on @capacity, @nr_perf and @perf
 * @capacity: host capacity, 1..1024, that the highest perf value stands for
 * @nr_perf: number of entries of @perf, 1..64; 1 means that there is no table
 *	and that any value from 1 to @perf[0] can be requested
 * @perf: performance values without a unit, strictly ascending, not 0; the
 *	entries from @nr_perf on are ignored
 */
struct kvm_virt_cpufreq_vcpu {
	__u32 vcpu_id;
	__u32 domain;
	__u32 capacity;
	__u32 nr_perf;
	__u32 perf[64];
};

/**
 * struct kvm_create_virt_cpufreq - argument of KVM_CREATE_VIRT_CPUFREQ
 * @gpa: guest physical address of the first register page, 4 KiB aligned;
 *	register page i follows at @gpa + i * 4096, whatever the page size of
 *	the host
 * @vcpus: user address of @nr_vcpus struct kvm_virt_cpufreq_vcpu, entry i for
 *	register page i
 * @nr_vcpus: number of register pages, at least 1
 * @flags: KVM_VIRT_CPUFREQ_*
 * @notify_fd: eventfd, with %KVM_VIRT_CPUFREQ_NOTIFY; otherwise 0
 * @reserved: 0
 */
struct kvm_create_virt_cpufreq {
	__u64 gpa;
	__u64 vcpus;
	__u32 nr_vcpus;
	__u32 flags;
	__s32 notify_fd;
	__u32 reserved[5];
};

#endif /* _UAPI_LINUX_KVM_VIRT_CPUFREQ_H */
