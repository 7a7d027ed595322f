/* SPDX-License-Identifier: ((GPL-2.0 WITH Linux-syscall-note) OR BSD-3-Clause) */
#ifndef _UAPI_LINUX_KVM_VIRT_CPUFREQ_H
#define _UAPI_LINUX_KVM_VIRT_CPUFREQ_H

#include <linux/ioctl.h>
#include <linux/kvm.h>
#include <linux/types.h>

/**
 * DOC: Flags of KVM_CREATE_VIRT_CPUFREQ
 *
 * ``KVM_CHECK_EXTENSION(KVM_CAP_VIRT_CPUFREQ)`` on a VM returns the mask of
 * the flags that this kernel serves: 0 if the device is not built in, or if the
 * administrator has switched it off.
 *
 * %KVM_VIRT_CPUFREQ_HINT_MIN
 *   A request becomes the minimum utilization clamp of the threads that run
 *   the vCPUs of the performance domain.
 *
 * %KVM_VIRT_CPUFREQ_HINT_MAX
 *   A request becomes the maximum utilization clamp of the same threads, so that
 *   the vCPU is smaller than the CPU it runs on. May be set with or without
 *   %KVM_VIRT_CPUFREQ_HINT_MIN.
 *
 * %KVM_VIRT_CPUFREQ_NOTIFY
 *   ``notify_fd`` is signalled once for each change of a performance domain's
 *   request, by a guest or by KVM_VIRT_CPUFREQ_SET_REGS, after the register pages
 *   show it. The threads may not have applied it yet.
 *
 * Without any hint flag requests are recorded and no task is touched.
 */
#define KVM_VIRT_CPUFREQ_HINT_MIN	(1U << 0)
#define KVM_VIRT_CPUFREQ_HINT_MAX	(1U << 1)
#define KVM_VIRT_CPUFREQ_NOTIFY		(1U << 3)

/**
 * DOC: Registers
 *
 * Offsets within a register page, of which there is one every
 * %KVM_VIRT_CPUFREQ_PAGE_SIZE bytes. All registers are of 32 bits and
 * little-endian. Each is consistent by itself: perftbl_rd follows perftbl_sel, but
 * not in one step for those who look at the mapped page.
 */
#define KVM_VIRT_CPUFREQ_PAGE_SIZE	4096

#define KVM_VIRT_CPUFREQ_CUR_PERF	0x00
#define KVM_VIRT_CPUFREQ_SET_PERF	0x04
#define KVM_VIRT_CPUFREQ_PERFTBL_LEN	0x08
#define KVM_VIRT_CPUFREQ_PERFTBL_SEL	0x0c
#define KVM_VIRT_CPUFREQ_PERFTBL_RD	0x10
#define KVM_VIRT_CPUFREQ_PERF_DOMAIN	0x14

#define KVM_VIRT_CPUFREQ_MAX_PERF	64

/**
 * struct kvm_virt_cpufreq_domain - a performance domain
 * @capacity: host capacity, 1..65535, that the highest perf value stands for. 1024
 *	is all of the host's biggest CPU; above that, the vCPUs are bigger than any
 *	CPU, and what they ask for beyond 1024 counts as 1024.
 * @nr_perf: number of entries of @perf, 1..64; 1 means that there is no table
 * @perf: performance values without a unit, strictly ascending, 1..2147483647
 *	(Linux guests take them for kHz in a signed integer); the entries from
 *	@nr_perf on are ignored. The table informs the guest, whose requests may be
 *	any values from 1 to the last entry; others count as the nearest of these.
 *
 * The vCPUs of a domain share one request.
 */
struct kvm_virt_cpufreq_domain {
	__u32 capacity;
	__u32 nr_perf;
	__u32 perf[KVM_VIRT_CPUFREQ_MAX_PERF];
};

/**
 * struct kvm_virt_cpufreq_vcpu - one register page
 * @vcpu_id: the vCPU whose thread the requests made through the page are about
 * @domain: index of its performance domain
 */
struct kvm_virt_cpufreq_vcpu {
	__u32 vcpu_id;
	__u32 domain;
};

/**
 * struct kvm_create_virt_cpufreq - argument of KVM_CREATE_VIRT_CPUFREQ
 * @gpa: guest physical address of the first register page, 4 KiB aligned;
 *	register page i follows at @gpa + i * 4096, whatever the page size of
 *	the host. If the mapped pages are to be the memory of a memslot there,
 *	it has to be aligned to the page size of the host.
 * @domains: user address of @nr_domains struct kvm_virt_cpufreq_domain, each of
 *	which has at least one register page
 * @vcpus: user address of @nr_vcpus struct kvm_virt_cpufreq_vcpu, entry i for
 *	register page i
 * @nr_domains: number of performance domains, at least 1
 * @nr_vcpus: number of register pages, at least 1
 * @flags: KVM_VIRT_CPUFREQ_*
 * @notify_fd: eventfd, with %KVM_VIRT_CPUFREQ_NOTIFY; otherwise 0
 * @reserved: 0
 */
struct kvm_create_virt_cpufreq {
	__u64 gpa;
	__u64 domains;
	__u64 vcpus;
	__u32 nr_domains;
	__u32 nr_vcpus;
	__u32 flags;
	__s32 notify_fd;
	__u32 reserved[4];
};

/**
 * struct kvm_virt_cpufreq_regs - argument of KVM_VIRT_CPUFREQ_SET_REGS
 * @index: number of the register page
 * @set_perf: request of the page's performance domain, up to its highest perf
 *	value, or 0 for none, which is what a new device has. It is that of all
 *	pages of the domain: of several calls the last one stands.
 * @perftbl_sel: selected entry of the table, any value
 * @reserved: 0
 *
 * The registers of a page that are not given by KVM_CREATE_VIRT_CPUFREQ or by the
 * host's CPUs. They are saved by reading the mapped page.
 */
struct kvm_virt_cpufreq_regs {
	__u32 index;
	__u32 set_perf;
	__u32 perftbl_sel;
	__u32 reserved;
};

/* On a VM, with KVM_CAP_VIRT_CPUFREQ; the second on the descriptor of the first */
#define KVM_CREATE_VIRT_CPUFREQ	_IOW(KVMIO, 0xd6, struct kvm_create_virt_cpufreq)
#define KVM_VIRT_CPUFREQ_SET_REGS	_IOW(KVMIO, 0xd7, struct kvm_virt_cpufreq_regs)

#endif /* _UAPI_LINUX_KVM_VIRT_CPUFREQ_H */
