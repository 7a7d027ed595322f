// SPDX-License-Identifier: GPL-2.0-only
/*
 * KVM virtual CPU frequency
 *
 * In-kernel backend of the guest driver drivers/cpufreq/virtual-cpufreq.c. The
 * guest writes the performance that it needs to set_perf. KVM records it for the
 * performance domain, and each thread that runs a vCPU of the domain applies it to
 * itself, as a utilization clamp, on its next guest entry. cur_perf reads as the
 * performance of the CPU on which the vCPU last entered the guest.
 *
 * The registers are in memory that userspace can map, and give to the guest as a
 * read-only memslot at the device's address: then guest loads do not exit.
 *
 * Who protects what:
 *  - domain->lock protects the request of a domain and its copies, and set_perf,
 *    perftbl_sel and perftbl_rd of its pages. They are read without it.
 *  - vcpu->virt_cpufreq is written under kvm->slots_lock, and read by the vCPU's
 *    own thread under RCU: with IRQs off on the way into the guest, where SRCU is
 *    not held on every architecture.
 *  - page->task, ->owner, ->refused, ->applied and ->entry_state, and cur_perf of its
 *    registers are written by the vCPU's thread, under vcpu->mutex. Release reads
 *    page->task without, after detaching the page and a grace period.
 */

#include <linux/anon_inodes.h>
#include <linux/compiler.h>
#include <linux/eventfd.h>
#include <linux/file.h>
#include <linux/fs.h>
#include <linux/jump_label_ratelimit.h>
#include <linux/kvm_host.h>
#include <linux/list.h>
#include <linux/math64.h>
#include <linux/minmax.h>
#include <linux/mm.h>
#include <linux/moduleparam.h>
#include <linux/nospec.h>
#include <linux/rcupdate.h>
#include <linux/sched.h>
#include <linux/sched/task.h>
#include <linux/sched/topology.h>
#include <linux/security.h>
#include <linux/slab.h>
#include <linux/spinlock.h>
#include <linux/string.h>
#include <linux/uaccess.h>
#include <linux/unaligned.h>
#include <linux/vmalloc.h>
#include <linux/wordpart.h>
#include <kvm/iodev.h>
#include <trace/events/kvm.h>

#include "virt_cpufreq.h"

#define REGS_END	(KVM_VIRT_CPUFREQ_PERF_DOMAIN + sizeof(u32))

#define VIRT_CPUFREQ_HINTS	(KVM_VIRT_CPUFREQ_HINT_MIN | \
				 KVM_VIRT_CPUFREQ_HINT_MAX | \
				 KVM_VIRT_CPUFREQ_HINT_UTIL)
#define VIRT_CPUFREQ_FLAGS	(VIRT_CPUFREQ_HINTS | KVM_VIRT_CPUFREQ_NOTIFY)

/**
 * struct kvm_virt_cpufreq_domain - a performance domain
 * @list: in the device's list of domains
 * @pages: the register pages of the domain
 * @lock: protects @request, @shown, and of @pages the copies of @request and the
 *	registers except cur_perf
 * @id: number given by the VMM
 * @request: last accepted value of set_perf, 0 before the first
 * @shown: the request that all @pages show; not @request while that is published
 * @capacity: host capacity that the highest perf value stands for
 * @nr_perf: number of entries of @perf
 * @perf: strictly ascending perf values
 */
struct kvm_virt_cpufreq_domain {
	struct list_head list;
	struct list_head pages;
	spinlock_t lock;	/* see above */
	u32 id;
	u32 request;
	u32 shown;
	u32 capacity;
	u32 nr_perf;
	u32 perf[] __counted_by(nr_perf);
};

/**
 * struct kvm_virt_cpufreq_page - a register page and the vCPU it is about
 * @dev: the device
 * @domain: the performance domain
 * @list: in the domain's list of pages
 * @vcpu: the vCPU
 * @regs: the registers, in the memory that userspace can map
 * @task: the thread bound to the page: the one that runs @vcpu; NULL before it
 *	first runs and if the device gives no hints
 * @owner: owner of the hint that @task should have: the page itself, or NULL as
 *	long as there is no @task, which the entry hook thus need not look at
 * @refused: @task may not set its own attributes and so gets no hint
 * @request: copy of the domain's, kept if the device gives hints
 * @applied: the request that @task has applied to itself
 * @entry_state: the CPU on which @vcpu last entered the guest, and its capacity at
 *	that time, as from entry_state_now()
 */
struct kvm_virt_cpufreq_page {
	struct kvm_virt_cpufreq *dev;
	struct kvm_virt_cpufreq_domain *domain;
	struct list_head list;
	struct kvm_vcpu *vcpu;
	__le32 *regs;
	struct task_struct *task;
	const void *owner;
	bool refused;
	u32 request;
	u32 applied;
	u64 entry_state;
};

/**
 * struct kvm_virt_cpufreq - a device: consecutive register pages
 * @io: on KVM_MMIO_BUS
 * @kvm: the VM
 * @gpa: guest physical address of the first page
 * @flags: KVM_VIRT_CPUFREQ_*
 * @notify: signalled for each changed request, or NULL
 * @regs_file: the file behind userspace's mappings, which owns the register pages
 * @domains: the performance domains
 * @nr_pages: number of @pages
 * @pages: the register pages
 */
struct kvm_virt_cpufreq {
	struct kvm_io_device io;
	struct kvm *kvm;
	gpa_t gpa;
	u32 flags;
	struct eventfd_ctx *notify;
	struct file *regs_file;
	struct list_head domains;
	u32 nr_pages;
	struct kvm_virt_cpufreq_page pages[] __counted_by(nr_pages);
};

/* Without frequency invariance, assume the highest frequency. */
#ifndef arch_scale_freq_capacity
static unsigned long arch_scale_freq_capacity(int cpu)
{
	return SCHED_CAPACITY_SCALE;
}
#endif

static bool enabled = true;
module_param_named(virt_cpufreq, enabled, bool, 0644);
MODULE_PARM_DESC(virt_cpufreq, "Let VMMs create virtual CPU frequency devices");

/* Enabled while any device exists; disabling is deferred, as VMs come and go. */
DEFINE_STATIC_KEY_DEFERRED_FALSE(kvm_virt_cpufreq_used, HZ);

u32 kvm_virt_cpufreq_supported(void)
{
	u32 flags = KVM_VIRT_CPUFREQ_NOTIFY;

	if (!READ_ONCE(enabled))
		return 0;

	if (IS_ENABLED(CONFIG_UCLAMP_HINT))
		flags |= KVM_VIRT_CPUFREQ_HINT_MIN | KVM_VIRT_CPUFREQ_HINT_MAX;

	return flags;
}

/* Bytes of the register pages, with what the host's last page has beyond them */
static size_t virt_cpufreq_regs_size(const struct kvm_virt_cpufreq *dev)
{
	return PAGE_ALIGN(dev->nr_pages * KVM_VIRT_CPUFREQ_PAGE_SIZE);
}

static u32 highest_perf(const struct kvm_virt_cpufreq_domain *domain)
{
	return domain->perf[domain->nr_perf - 1];
}

/* The host capacity that a request asks for; no headroom is added or removed. */
static u32 request_to_util(const struct kvm_virt_cpufreq_domain *domain, u32 request)
{
	return div_u64((u64)request * domain->capacity, highest_perf(domain));
}

/*
 * A CPU (upper half) and its present capacity, as the host's own load tracking sees
 * it, times 1024 (lower half): all that cur_perf depends on, to be compared at once.
 */
static __always_inline u64 entry_state_now(unsigned int cpu)
{
	u64 capacity;

	/* Another CPU may change the frequency just now; the next entry looks again. */
	capacity = data_race(arch_scale_cpu_capacity(cpu) * arch_scale_freq_capacity(cpu));

	return (u64)cpu << 32 | capacity;
}

static u32 entry_state_to_perf(const struct kvm_virt_cpufreq_domain *domain,
			       u64 entry_state)
{
	u64 perf = lower_32_bits(entry_state) >> SCHED_CAPACITY_SHIFT;

	perf = div_u64(perf * highest_perf(domain), domain->capacity);

	return clamp_t(u64, perf, 1, highest_perf(domain));
}

/* The performance, now, of the CPU on which the vCPU last entered the guest */
static u32 virt_cpufreq_cur_perf(const struct kvm_virt_cpufreq_page *page)
{
	unsigned int cpu = upper_32_bits(READ_ONCE(page->entry_state));

	return entry_state_to_perf(page->domain, entry_state_now(cpu));
}

static u32 virt_cpufreq_get_reg(const struct kvm_virt_cpufreq_page *page, u32 reg)
{
	return le32_to_cpu(READ_ONCE(page->regs[reg / sizeof(u32)]));
}

/*
 * Whoever shares the page sees the new value, the guest after
 * kvm_arch_clean_guest_memory_sync().
 */
static void virt_cpufreq_set_reg(struct kvm_virt_cpufreq_page *page, u32 reg, u32 val)
{
	__le32 *p = &page->regs[reg / sizeof(u32)];

	if (le32_to_cpu(*p) == val)
		return;

	WRITE_ONCE(*p, cpu_to_le32(val));
	kvm_arch_clean_guest_memory(p, sizeof(*p));
}

static struct kvm_virt_cpufreq *to_virt_cpufreq(struct kvm_io_device *io)
{
	return container_of(io, struct kvm_virt_cpufreq, io);
}

/*
 * NULL unless it is an aligned 32-bit access to a register. The bus has checked that
 * addr is in the device's range.
 */
static struct kvm_virt_cpufreq_page *
virt_cpufreq_decode(struct kvm_io_device *io, gpa_t addr, int len, u32 *reg)
{
	struct kvm_virt_cpufreq *dev = to_virt_cpufreq(io);
	gpa_t offset = addr - dev->gpa;

	*reg = offset & (KVM_VIRT_CPUFREQ_PAGE_SIZE - 1);
	if (len != sizeof(u32) || *reg % sizeof(u32) || *reg >= REGS_END)
		return NULL;

	return &dev->pages[array_index_nospec(offset / KVM_VIRT_CPUFREQ_PAGE_SIZE,
					      dev->nr_pages)];
}

static int virt_cpufreq_read(struct kvm_vcpu *vcpu, struct kvm_io_device *io,
			     gpa_t addr, int len, void *val)
{
	struct kvm_virt_cpufreq_page *page;
	u32 reg, data;

	page = virt_cpufreq_decode(io, addr, len, &reg);
	if (!page)
		return -EOPNOTSUPP;

	if (reg == KVM_VIRT_CPUFREQ_CUR_PERF)
		data = virt_cpufreq_cur_perf(page);
	else
		data = virt_cpufreq_get_reg(page, reg);

	put_unaligned_le32(data, val);
	return 0;
}

/*
 * Kick the domain's vCPUs out of the guest, so that they apply the request when
 * they reenter it. A sleeping vCPU needs no kick, and none needs a KVM_REQ_*, since
 * the entry hook compares requests anyway.
 */
static void virt_cpufreq_kick(struct kvm_virt_cpufreq_domain *domain)
{
	struct kvm_virt_cpufreq_page *page;

	/*
	 * Pairs with smp_store_mb(vcpu->mode, IN_GUEST_MODE): either the entry hook
	 * sees the new request, or this sees IN_GUEST_MODE.
	 */
	smp_mb();
	list_for_each_entry(page, &domain->pages, list) {
		if (READ_ONCE(page->vcpu->mode) == IN_GUEST_MODE)
			kvm_vcpu_kick(page->vcpu);
	}
}

/*
 * Publish a new request of the page's domain: on the register pages, to the vCPUs'
 * threads, to userspace. 0 is none.
 */
static void virt_cpufreq_request(struct kvm_vcpu *vcpu,
				 struct kvm_virt_cpufreq_page *page, u32 request)
{
	struct kvm_virt_cpufreq_domain *domain = page->domain;
	struct kvm_virt_cpufreq *dev = page->dev;
	bool repeated, hints = dev->flags & VIRT_CPUFREQ_HINTS;
	struct kvm_virt_cpufreq_page *p;
	u32 old;

	/*
	 * A repeated request needs no lock. It is not one if the guest has seen
	 * another on a page since: pairs with smp_wmb() below, by way of the guest,
	 * whose exit has a full barrier in srcu_read_lock().
	 */
	repeated = smp_load_acquire(&domain->request) == request;
	/* All pages show it; pairs with smp_store_release() below. */
	if (repeated && smp_load_acquire(&domain->shown) == request)
		return;

	scoped_guard(spinlock, &domain->lock) {
		old = domain->request;
		if (old == request)
			return;

		WRITE_ONCE(domain->request, request);
		/* Before any page shows it; pairs with the check above. */
		smp_wmb();
		list_for_each_entry(p, &domain->pages, list) {
			virt_cpufreq_set_reg(p, KVM_VIRT_CPUFREQ_SET_PERF, request);
			if (hints)
				WRITE_ONCE(p->request, request);
		}
		kvm_arch_clean_guest_memory_sync();
		/* After all pages show it; pairs with the check above. */
		smp_store_release(&domain->shown, request);
	}

	trace_kvm_virt_cpufreq(vcpu->vcpu_id, domain->id, request,
			       request_to_util(domain, request));

	/* A lower request can wait for the next entry, but 0 may end a maximum. */
	if (hints && (request > old || !request))
		virt_cpufreq_kick(domain);

	if (dev->notify)
		eventfd_signal(dev->notify);
}

static void virt_cpufreq_select(struct kvm_virt_cpufreq_page *page, u32 sel)
{
	struct kvm_virt_cpufreq_domain *domain = page->domain;
	u32 perf = 0;

	if (sel < domain->nr_perf)
		perf = domain->perf[array_index_nospec(sel, domain->nr_perf)];

	guard(spinlock)(&domain->lock);
	virt_cpufreq_set_reg(page, KVM_VIRT_CPUFREQ_PERFTBL_SEL, sel);
	virt_cpufreq_set_reg(page, KVM_VIRT_CPUFREQ_PERFTBL_RD, perf);
	kvm_arch_clean_guest_memory_sync();
}

static int virt_cpufreq_write(struct kvm_vcpu *vcpu, struct kvm_io_device *io,
			      gpa_t addr, int len, const void *val)
{
	struct kvm_virt_cpufreq_page *page;
	u32 reg, data;

	page = virt_cpufreq_decode(io, addr, len, &reg);
	if (!page)
		return -EOPNOTSUPP;

	data = get_unaligned_le32(val);
	switch (reg) {
	case KVM_VIRT_CPUFREQ_SET_PERF:
		vcpu->stat.generic.virt_cpufreq_requests++;
		virt_cpufreq_request(vcpu, page,
				     clamp(data, 1, highest_perf(page->domain)));
		break;
	case KVM_VIRT_CPUFREQ_PERFTBL_SEL:
		virt_cpufreq_select(page, data);
		break;
	}

	return 0;
}

/* No destructor: the device belongs to its file, not to the bus. */
static const struct kvm_io_device_ops virt_cpufreq_ops = {
	.read = virt_cpufreq_read,
	.write = virt_cpufreq_write,
};

/* Apply the domain's request to the current thread, the one bound to the page. */
static void virt_cpufreq_apply(struct kvm_virt_cpufreq_page *page, u32 request)
{
	struct kvm_vcpu_stat_generic *stat = &page->vcpu->stat.generic;
	u32 min = 0, max = SCHED_CAPACITY_SCALE;
	bool changed = request != page->applied;

	page->applied = request;

	if (page->refused) {
		stat->virt_cpufreq_refused += changed;
	} else {
		u32 util = request_to_util(page->domain, request);

		if (page->dev->flags & KVM_VIRT_CPUFREQ_HINT_MIN)
			min = util;
		if (page->dev->flags & KVM_VIRT_CPUFREQ_HINT_MAX && request)
			max = util;
		stat->virt_cpufreq_hints += changed;
	}

	/* Also if there is nothing to hint: it replaces another vCPU's hint. */
	sched_set_uclamp_hint(page, min, max);
}

/*
 * The cold half of the entry hook. noinline keeps the other one free of a stack
 * frame.
 */
static noinline void virt_cpufreq_enter_slow(struct kvm_virt_cpufreq_page *page,
					     u32 request, unsigned int cpu)
{
	u64 entry_state;

	/* No hints, or not bound yet, in which case KVM_REQ_VIRT_CPUFREQ is pending. */
	if (page->task == current &&
	    (request != page->applied || sched_uclamp_hint_owner(current) != page))
		virt_cpufreq_apply(page, request);

	/* Only now: the hint may have changed the CPU's frequency. */
	entry_state = entry_state_now(cpu);
	if (entry_state == page->entry_state)
		return;

	WRITE_ONCE(page->entry_state, entry_state);
	virt_cpufreq_set_reg(page, KVM_VIRT_CPUFREQ_CUR_PERF,
			     entry_state_to_perf(page->domain, entry_state));
	kvm_arch_clean_guest_memory_sync();
}

/**
 * __kvm_virt_cpufreq_enter - prepare the current thread for the guest
 * @page: the register page of the vCPU that is about to enter the guest, in
 *	IN_GUEST_MODE
 *
 * Applies the performance domain's request if that is new, or if the thread has
 * run another vCPU since, and updates cur_perf on the page.
 *
 * Context: the vCPU's thread. IRQs off, RCU watching.
 */
void __kvm_virt_cpufreq_enter(struct kvm_virt_cpufreq_page *page)
{
	u32 request = READ_ONCE(page->request);
	unsigned int cpu = smp_processor_id();

	if (unlikely(request != page->applied ||
		     sched_uclamp_hint_owner(current) != page->owner ||
		     entry_state_now(cpu) != page->entry_state))
		virt_cpufreq_enter_slow(page, request, cpu);
}

/**
 * kvm_virt_cpufreq_bind - bind a vCPU's register page to the current thread
 * @vcpu: the vCPU that the thread has begun to run
 *
 * Clears the hint of the thread that ran the vCPU before. The current thread gets
 * its hint on guest entry, if the LSM lets it set its own attributes.
 *
 * Context: the vCPU's thread. Process context, may sleep.
 */
void kvm_virt_cpufreq_bind(struct kvm_vcpu *vcpu)
{
	struct kvm_virt_cpufreq_page *page;
	struct task_struct *old = NULL;
	bool refused;

	if (!rcu_access_pointer(vcpu->virt_cpufreq))
		return;

	refused = security_task_setscheduler(current);

	rcu_read_lock();
	page = rcu_dereference(vcpu->virt_cpufreq);
	if (page && page->dev->flags & VIRT_CPUFREQ_HINTS &&
	    (page->task != current || page->refused != refused)) {
		old = page->task;
		if (old)
			sched_clear_uclamp_hint(old, page);
		page->task = get_task_struct(current);
		page->owner = page;
		page->refused = refused;
		page->applied = 0;
	}
	rcu_read_unlock();

	if (old)
		put_task_struct(old);
}

static void virt_cpufreq_free(struct kvm_virt_cpufreq *dev)
{
	struct kvm_virt_cpufreq_domain *domain, *tmp;

	list_for_each_entry_safe(domain, tmp, &dev->domains, list)
		kfree(domain);
	if (dev->notify)
		eventfd_ctx_put(dev->notify);
	if (dev->regs_file)
		fput(dev->regs_file);
	kvfree(dev);
}

/* Leaves alone the vCPUs that another device has a page for. */
static void virt_cpufreq_detach(struct kvm_virt_cpufreq *dev)
{
	u32 i;

	lockdep_assert_held(&dev->kvm->slots_lock);

	for (i = 0; i < dev->nr_pages; i++) {
		struct kvm_virt_cpufreq_page *page = &dev->pages[i];

		if (rcu_access_pointer(page->vcpu->virt_cpufreq) == page)
			RCU_INIT_POINTER(page->vcpu->virt_cpufreq, NULL);
	}
}

/*
 * Also cleans up after a failed attach, i.e. tolerates a device that is not on the
 * bus. May run as task work of a vCPU thread, so must not take vcpu->mutex or
 * kvm->lock.
 */
static int virt_cpufreq_release(struct inode *inode, struct file *file)
{
	struct kvm_virt_cpufreq *dev = file->private_data;
	struct kvm *kvm = dev->kvm;
	u32 i;

	mutex_lock(&kvm->slots_lock);
	/* On failure the bus is gone altogether, so the device has left it anyway. */
	kvm_io_bus_unregister_dev(kvm, KVM_MMIO_BUS, &dev->io);
	virt_cpufreq_detach(dev);
	mutex_unlock(&kvm->slots_lock);

	/* From here on no thread binds itself or applies a hint of this device. */
	synchronize_rcu();

	for (i = 0; i < dev->nr_pages; i++) {
		struct kvm_virt_cpufreq_page *page = &dev->pages[i];

		if (page->task) {
			sched_clear_uclamp_hint(page->task, page);
			put_task_struct(page->task);
		}
	}

	virt_cpufreq_free(dev);
	static_branch_slow_dec_deferred(&kvm_virt_cpufreq_used);
	kvm_put_kvm(kvm);
	return 0;
}

static int virt_cpufreq_set_regs(struct kvm_virt_cpufreq *dev, void __user *argp)
{
	struct kvm_virt_cpufreq_regs regs;
	struct kvm_virt_cpufreq_page *page;

	if (copy_from_user(&regs, argp, sizeof(regs)))
		return -EFAULT;

	if (regs.index >= dev->nr_pages || regs.reserved)
		return -EINVAL;

	page = &dev->pages[array_index_nospec(regs.index, dev->nr_pages)];
	if (regs.set_perf > highest_perf(page->domain))
		return -EINVAL;

	virt_cpufreq_select(page, regs.perftbl_sel);
	virt_cpufreq_request(page->vcpu, page, regs.set_perf);
	return 0;
}

static long virt_cpufreq_ioctl(struct file *file, unsigned int ioctl,
			       unsigned long arg)
{
	struct kvm_virt_cpufreq *dev = file->private_data;

	if (dev->kvm->mm != current->mm || dev->kvm->vm_dead)
		return -EIO;

	switch (ioctl) {
	case KVM_VIRT_CPUFREQ_SET_REGS:
		return virt_cpufreq_set_regs(dev, (void __user *)arg);
	default:
		return -ENOTTY;
	}
}

/* mmap_prepare has seen to it that the offset is within the register pages. */
static vm_fault_t virt_cpufreq_fault(struct vm_fault *vmf)
{
	void *regs = vmf->vma->vm_file->private_data;

	vmf->page = vmalloc_to_page(regs + (vmf->pgoff << PAGE_SHIFT));
	get_page(vmf->page);
	return 0;
}

static const struct vm_operations_struct virt_cpufreq_vm_ops = {
	.fault = virt_cpufreq_fault,
};

/*
 * The mapping is one of the registers' file, so that it keeps the pages and not the
 * device. That it is read-only, and stays so, is due to the descriptor. It must not
 * be merged with another, nor grow: VMA_DONTEXPAND.
 */
static int virt_cpufreq_mmap_prepare(struct vm_area_desc *desc)
{
	struct kvm_virt_cpufreq *dev = desc->file->private_data;

	if (!vma_desc_test(desc, VMA_MAYSHARE_BIT) || desc->pgoff ||
	    vma_desc_size(desc) > virt_cpufreq_regs_size(dev))
		return -EINVAL;

	vma_desc_set_flags(desc, VMA_DONTCOPY_BIT, VMA_DONTDUMP_BIT,
			   VMA_DONTEXPAND_BIT);
	desc->vm_ops = &virt_cpufreq_vm_ops;
	desc->vm_file = get_file(dev->regs_file);
	return 0;
}

static const struct file_operations virt_cpufreq_fops = {
	.owner = THIS_MODULE,
	.release = virt_cpufreq_release,
	.unlocked_ioctl = virt_cpufreq_ioctl,
	.compat_ioctl = compat_ptr_ioctl,
	.mmap_prepare = virt_cpufreq_mmap_prepare,
	.llseek = noop_llseek,
};

static int virt_cpufreq_regs_release(struct inode *inode, struct file *file)
{
	vfree(file->private_data);
	return 0;
}

static const struct file_operations virt_cpufreq_regs_fops = {
	.owner = THIS_MODULE,
	.release = virt_cpufreq_regs_release,
};

static int virt_cpufreq_alloc_regs(struct kvm_virt_cpufreq *dev)
{
	struct file *file;
	void *regs;
	u32 i;

	/* Userspace and the guest see all of it. */
	regs = __vmalloc(virt_cpufreq_regs_size(dev), GFP_KERNEL_ACCOUNT | __GFP_ZERO);
	if (!regs)
		return -ENOMEM;

	file = anon_inode_getfile("kvm-virt-cpufreq-regs", &virt_cpufreq_regs_fops,
				  regs, O_RDONLY);
	if (IS_ERR(file)) {
		vfree(regs);
		return PTR_ERR(file);
	}
	dev->regs_file = file;

	/* Nothing to clean: that is done when the guest's first access maps them. */
	for (i = 0; i < dev->nr_pages; i++) {
		struct kvm_virt_cpufreq_page *page = &dev->pages[i];
		struct kvm_virt_cpufreq_domain *domain = page->domain;

		page->regs = regs + i * KVM_VIRT_CPUFREQ_PAGE_SIZE;
		/* Until the vCPU enters: of a CPU that this thread is, or was, on */
		page->entry_state = entry_state_now(task_cpu(current));
		virt_cpufreq_set_reg(page, KVM_VIRT_CPUFREQ_CUR_PERF, virt_cpufreq_cur_perf(page));
		virt_cpufreq_set_reg(page, KVM_VIRT_CPUFREQ_PERFTBL_LEN, domain->nr_perf);
		virt_cpufreq_set_reg(page, KVM_VIRT_CPUFREQ_PERFTBL_RD, domain->perf[0]);
		virt_cpufreq_set_reg(page, KVM_VIRT_CPUFREQ_PERF_DOMAIN, domain->id);
	}

	return 0;
}

static int virt_cpufreq_check_vcpu(const struct kvm_virt_cpufreq_vcpu *vcpu)
{
	u32 i;

	if (!vcpu->capacity || vcpu->capacity > SCHED_CAPACITY_SCALE)
		return -EINVAL;
	if (!vcpu->nr_perf || vcpu->nr_perf > ARRAY_SIZE(vcpu->perf))
		return -EINVAL;
	if (!vcpu->perf[0])
		return -EINVAL;
	for (i = 1; i < vcpu->nr_perf; i++) {
		if (vcpu->perf[i] <= vcpu->perf[i - 1])
			return -EINVAL;
	}

	return 0;
}

static struct kvm_virt_cpufreq_domain *
virt_cpufreq_find_or_add_domain(struct kvm_virt_cpufreq *dev,
				const struct kvm_virt_cpufreq_vcpu *vcpu)
{
	struct kvm_virt_cpufreq_domain *domain;
	size_t size = vcpu->nr_perf * sizeof(vcpu->perf[0]);

	list_for_each_entry(domain, &dev->domains, list) {
		if (domain->id != vcpu->domain)
			continue;
		if (domain->capacity != vcpu->capacity ||
		    domain->nr_perf != vcpu->nr_perf ||
		    memcmp(domain->perf, vcpu->perf, size))
			return ERR_PTR(-EINVAL);
		return domain;
	}

	domain = kzalloc_flex(*domain, perf, vcpu->nr_perf, GFP_KERNEL_ACCOUNT);
	if (!domain)
		return ERR_PTR(-ENOMEM);

	INIT_LIST_HEAD(&domain->pages);
	spin_lock_init(&domain->lock);
	domain->id = vcpu->domain;
	domain->capacity = vcpu->capacity;
	domain->nr_perf = vcpu->nr_perf;
	memcpy(domain->perf, vcpu->perf, size);
	list_add_tail(&domain->list, &dev->domains);
	return domain;
}

static int virt_cpufreq_check_args(const struct kvm_create_virt_cpufreq *args)
{
	u32 hints = args->flags & VIRT_CPUFREQ_HINTS;
	gpa_t size = args->nr_vcpus * KVM_VIRT_CPUFREQ_PAGE_SIZE;

	if (args->flags & ~VIRT_CPUFREQ_FLAGS)
		return -EINVAL;
	if (hints & KVM_VIRT_CPUFREQ_HINT_UTIL && hints != KVM_VIRT_CPUFREQ_HINT_UTIL)
		return -EINVAL;
	if (args->notify_fd && !(args->flags & KVM_VIRT_CPUFREQ_NOTIFY))
		return -EINVAL;
	if (memchr_inv(args->reserved, 0, sizeof(args->reserved)))
		return -EINVAL;
	if (!args->nr_vcpus || args->nr_vcpus > KVM_MAX_VCPUS)
		return -EINVAL;
	if (!IS_ALIGNED(args->gpa, KVM_VIRT_CPUFREQ_PAGE_SIZE) ||
	    args->gpa + size < args->gpa)
		return -EINVAL;

	return 0;
}

/* Allocate the device from userspace's description; nothing refers to it yet. */
static struct kvm_virt_cpufreq *
virt_cpufreq_alloc(struct kvm *kvm, const struct kvm_create_virt_cpufreq *args)
{
	struct kvm_virt_cpufreq_vcpu __user *uvcpus = u64_to_user_ptr(args->vcpus);
	struct kvm_virt_cpufreq_vcpu vcpu;
	struct kvm_virt_cpufreq *dev;
	int r;
	u32 i;

	dev = kvzalloc_flex(*dev, pages, args->nr_vcpus, GFP_KERNEL_ACCOUNT);
	if (!dev)
		return ERR_PTR(-ENOMEM);

	kvm_iodevice_init(&dev->io, &virt_cpufreq_ops);
	INIT_LIST_HEAD(&dev->domains);
	dev->kvm = kvm;
	dev->gpa = args->gpa;
	dev->flags = args->flags;
	dev->nr_pages = args->nr_vcpus;

	for (i = 0; i < dev->nr_pages; i++) {
		struct kvm_virt_cpufreq_page *page = &dev->pages[i];

		r = -EFAULT;
		if (copy_from_user(&vcpu, &uvcpus[i], sizeof(vcpu)))
			goto err;

		r = virt_cpufreq_check_vcpu(&vcpu);
		if (r)
			goto err;

		page->domain = virt_cpufreq_find_or_add_domain(dev, &vcpu);
		if (IS_ERR(page->domain)) {
			r = PTR_ERR(page->domain);
			goto err;
		}

		page->dev = dev;
		page->vcpu = kvm_get_vcpu_by_id(kvm, vcpu.vcpu_id);
		list_add_tail(&page->list, &page->domain->pages);
	}

	r = virt_cpufreq_alloc_regs(dev);
	if (r)
		goto err;

	return dev;

err:
	virt_cpufreq_free(dev);
	return ERR_PTR(r);
}

/*
 * The bus allows overlapping ranges, but its lookup does not cope with them, so
 * check here. Length 0 is a wildcard ioeventfd.
 */
static bool virt_cpufreq_range_is_free(struct kvm *kvm, gpa_t addr, gpa_t end)
{
	struct kvm_io_bus *bus = kvm_get_bus(kvm, KVM_MMIO_BUS);
	int i;

	for (i = 0; bus && i < bus->dev_count; i++) {
		struct kvm_io_range *range = &bus->range[i];

		if (range->addr < end && addr < range->addr + max(range->len, 1))
			return false;
	}

	return true;
}

static int virt_cpufreq_attach(struct kvm_virt_cpufreq *dev)
{
	u32 size = dev->nr_pages * KVM_VIRT_CPUFREQ_PAGE_SIZE;
	u32 i;
	int r;

	guard(mutex)(&dev->kvm->slots_lock);

	if (!virt_cpufreq_range_is_free(dev->kvm, dev->gpa, dev->gpa + size))
		return -EEXIST;

	for (i = 0; i < dev->nr_pages; i++) {
		struct kvm_virt_cpufreq_page *page = &dev->pages[i];

		r = -EEXIST;
		if (rcu_access_pointer(page->vcpu->virt_cpufreq))
			goto err;
		rcu_assign_pointer(page->vcpu->virt_cpufreq, page);
	}

	r = kvm_io_bus_register_dev(dev->kvm, KVM_MMIO_BUS, dev->gpa, size, &dev->io);
	if (r)
		goto err;

	/* A vCPU that already runs binds its thread when it sees this. */
	kvm_make_all_cpus_request(dev->kvm, KVM_REQ_VIRT_CPUFREQ);
	return 0;

err:
	virt_cpufreq_detach(dev);
	return r;
}

/**
 * kvm_vm_ioctl_create_virt_cpufreq - create a virtual CPU frequency device
 * @kvm: the VM
 * @argp: user address of a struct kvm_create_virt_cpufreq
 *
 * Context: process context, may sleep. The caller holds no lock of the VM.
 * Return: a file descriptor that owns the device, or an error code as documented
 * for KVM_CREATE_VIRT_CPUFREQ, with the VM as it was.
 */
int kvm_vm_ioctl_create_virt_cpufreq(struct kvm *kvm, void __user *argp)
{
	struct kvm_create_virt_cpufreq args;
	struct kvm_virt_cpufreq *dev;
	struct file *file;
	int r, fd;
	u32 i;

	if (copy_from_user(&args, argp, sizeof(args)))
		return -EFAULT;

	r = virt_cpufreq_check_args(&args);
	if (r)
		return r;

	dev = virt_cpufreq_alloc(kvm, &args);
	if (IS_ERR(dev))
		return PTR_ERR(dev);

	r = -EOPNOTSUPP;
	if (!READ_ONCE(enabled) || args.flags & ~kvm_virt_cpufreq_supported())
		goto err_free;

	if (args.flags & VIRT_CPUFREQ_HINTS) {
		r = security_task_setscheduler(current);
		if (r)
			goto err_free;
	}

	/* Only now, because EOPNOTSUPP takes precedence. */
	r = -ENOENT;
	for (i = 0; i < dev->nr_pages; i++) {
		if (!dev->pages[i].vcpu)
			goto err_free;
	}

	if (args.flags & KVM_VIRT_CPUFREQ_NOTIFY) {
		struct eventfd_ctx *notify = eventfd_ctx_fdget(args.notify_fd);

		r = PTR_ERR_OR_ZERO(notify);
		if (r)
			goto err_free;
		dev->notify = notify;
	}

	r = get_unused_fd_flags(O_CLOEXEC);
	if (r < 0)
		goto err_free;
	fd = r;

	file = anon_inode_getfile("kvm-virt-cpufreq", &virt_cpufreq_fops, dev, O_RDONLY);
	if (IS_ERR(file)) {
		r = PTR_ERR(file);
		goto err_fd;
	}

	/* From here on the device is the file's, and its release undoes the rest. */
	kvm_get_kvm(kvm);
	static_branch_deferred_inc(&kvm_virt_cpufreq_used);
	if (args.flags & VIRT_CPUFREQ_HINTS)
		sched_enable_uclamp_hints();

	r = virt_cpufreq_attach(dev);
	if (r) {
		put_unused_fd(fd);
		fput(file);
		return r;
	}

	fd_install(fd, file);
	return fd;

err_fd:
	put_unused_fd(fd);
err_free:
	virt_cpufreq_free(dev);
	return r;
}
