// SPDX-License-Identifier: GPL-2.0-only
/*
 * KVM virtual CPU frequency
 *
 * In-kernel backend of the guest driver drivers/cpufreq/virtual-cpufreq.c. The
 * guest writes the performance that it needs to set_perf. KVM records it for the
 * performance domain, and the threads that run the domain's vCPUs apply it to
 * themselves, as a utilization clamp: the storing vCPU's at once, the others upon
 * KVM_REQ_VIRT_CPUFREQ. cur_perf is the performance of the CPU on which the vCPU
 * last entered the guest, as of that entry.
 *
 * The registers are in memory that userspace can map, and give to the guest as a
 * read-only memslot at the device's address: then guest loads do not exit.
 *
 * Who protects what:
 *  - domain->lock protects a domain's request, util and hint, and set_perf,
 *    perftbl_sel and perftbl_rd of its pages. The registers and the hint are read
 *    without it.
 *  - vcpu->virt_cpufreq and ->virt_cpufreq_id are written under kvm->slots_lock, and
 *    read by the vCPU's own thread under RCU: SRCU is not held on each
 *    architecture where requests are handled and where the guest is entered.
 *  - page->task, ->entry_state, and cur_perf of its registers are written by the
 *    vCPU's thread, under vcpu->mutex. Release reads page->task when none of that
 *    can happen any more.
 */

#include <linux/anon_inodes.h>
#include <linux/compiler.h>
#include <linux/eventfd.h>
#include <linux/file.h>
#include <linux/fs.h>
#include <linux/idr.h>
#include <linux/kvm_host.h>
#include <linux/kvm_virt_cpufreq.h>
#include <linux/list.h>
#include <linux/math64.h>
#include <linux/minmax.h>
#include <linux/mm.h>
#include <linux/moduleparam.h>
#include <linux/nospec.h>
#include <linux/rcupdate.h>
#include <linux/sched.h>
#include <linux/sched/mm.h>
#include <linux/sched/task.h>
#include <linux/sched/topology.h>
#include <linux/sched/uclamp.h>
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

#define REGS_END	(KVM_VIRT_CPUFREQ_PERF_DOMAIN + sizeof(u32))

#define VIRT_CPUFREQ_HINTS	(KVM_VIRT_CPUFREQ_HINT_MIN | KVM_VIRT_CPUFREQ_HINT_MAX)
#define VIRT_CPUFREQ_FLAGS	(VIRT_CPUFREQ_HINTS | KVM_VIRT_CPUFREQ_NOTIFY)

#define NO_UTIL		(-1)

/**
 * struct virt_cpufreq_domain - a performance domain
 * @desc: the VMM's description
 * @pages: the register pages of the domain
 * @lock: protects @request, @util, @hint, and the registers of @pages except cur_perf
 * @request: last accepted value of set_perf, 0 before the first
 * @util: the host capacity that @request asks for, NO_UTIL if there is none
 * @hint: what comes of @util for the threads that run the domain's vCPUs, but for
 *	the id
 */
struct virt_cpufreq_domain {
	struct kvm_virt_cpufreq_domain desc;
	struct list_head pages;
	spinlock_t lock;	/* see above */
	u32 request;
	int util;
	union uclamp_hint hint;
};

/**
 * struct kvm_virt_cpufreq_page - a register page and the vCPU it is about
 * @dev: the device
 * @domain: the performance domain
 * @list: in the domain's list of pages
 * @vcpu: the vCPU
 * @id: of the hint given to the thread that runs @vcpu, 0 if the device gives none
 * @regs: the registers, in the memory that userspace can map
 * @task: the thread that has last applied the hint, or NULL
 * @entry_state: the CPU on which @vcpu last entered the guest, and its capacity at
 *	that time, as from entry_state_now()
 */
struct kvm_virt_cpufreq_page {
	struct kvm_virt_cpufreq *dev;
	struct virt_cpufreq_domain *domain;
	struct list_head list;
	struct kvm_vcpu *vcpu;
	u32 id;
	__le32 *regs;
	struct task_struct *task;
	u64 entry_state;
};

/**
 * struct kvm_virt_cpufreq - a device: consecutive register pages
 * @io: on KVM_MMIO_BUS
 * @kvm: the VM
 * @gpa: guest physical address of the first page
 * @flags: KVM_VIRT_CPUFREQ_*
 * @notify: signalled for each changed request, or NULL
 * @regs: the memory of the register pages
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
	void *regs;
	struct virt_cpufreq_domain *domains;
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

static DEFINE_IDA(virt_cpufreq_ids);

/* What the capability returns */
u32 kvm_virt_cpufreq_supported(void)
{
	u32 flags = KVM_VIRT_CPUFREQ_NOTIFY;

	if (!READ_ONCE(enabled))
		return 0;

	if (IS_ENABLED(CONFIG_UCLAMP_HINT))
		flags |= VIRT_CPUFREQ_HINTS;

	return flags;
}

/* Bytes of the register pages, with what the host's last page has beyond them */
static size_t virt_cpufreq_regs_size(const struct kvm_virt_cpufreq *dev)
{
	return PAGE_ALIGN(dev->nr_pages * KVM_VIRT_CPUFREQ_PAGE_SIZE);
}

static u32 highest_perf(const struct virt_cpufreq_domain *domain)
{
	return domain->desc.perf[domain->desc.nr_perf - 1];
}

/* The host capacity that a request asks for; no headroom is added or removed. */
static int request_to_util(const struct virt_cpufreq_domain *domain, u32 request)
{
	u64 util;

	if (!request)
		return NO_UTIL;

	util = div_u64((u64)request * domain->desc.capacity, highest_perf(domain));

	return min(util, SCHED_CAPACITY_SCALE);
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

static void virt_cpufreq_set_cur_perf(struct kvm_virt_cpufreq_page *page, u64 entry_state)
{
	const struct virt_cpufreq_domain *domain = page->domain;
	u64 perf = lower_32_bits(entry_state) >> SCHED_CAPACITY_SHIFT;

	perf = div_u64(perf * highest_perf(domain), domain->desc.capacity);

	page->entry_state = entry_state;
	virt_cpufreq_set_reg(page, KVM_VIRT_CPUFREQ_CUR_PERF,
			     clamp_t(u64, perf, 1, highest_perf(domain)));
	kvm_arch_clean_guest_memory_sync();
}

/**
 * __kvm_virt_cpufreq_enter - update cur_perf of a vCPU that enters the guest
 * @page: its register page
 *
 * Context: the vCPU's thread. IRQs off, RCU watching.
 */
void __kvm_virt_cpufreq_enter(struct kvm_virt_cpufreq_page *page)
{
	u64 entry_state = entry_state_now(smp_processor_id());

	if (unlikely(entry_state != page->entry_state))
		virt_cpufreq_set_cur_perf(page, entry_state);
}

static union uclamp_hint util_to_hint(const struct kvm_virt_cpufreq *dev, int util)
{
	union uclamp_hint hint = { .max = SCHED_CAPACITY_SCALE };

	if (util != NO_UTIL && dev->flags & KVM_VIRT_CPUFREQ_HINT_MIN)
		hint.min = util;
	if (util != NO_UTIL && dev->flags & KVM_VIRT_CPUFREQ_HINT_MAX)
		hint.max = util;

	return hint;
}

/*
 * Have the current thread, the one that runs the page's vCPU, apply the hint. IRQs are
 * off, as the scheduler wants it.
 */
static __always_inline void virt_cpufreq_apply(struct kvm_virt_cpufreq_page *page)
{
	struct task_struct *old = page->task;
	union uclamp_hint hint;

	if (unlikely(old != current)) {
		page->task = get_task_struct(current);
		if (old) {
			sched_clear_uclamp_hint(old, page->id);
			put_task_struct(old);
		}
	}

	/* Also if there is nothing to hint: it replaces another vCPU's hint. */
	hint.word = READ_ONCE(page->domain->hint.word);
	hint.id = page->id;
	sched_set_uclamp_hint(hint);
	page->vcpu->stat.generic.virt_cpufreq_hints++;
}

/**
 * kvm_virt_cpufreq_update_hint - give the current thread its vCPU's hint
 * @vcpu: the vCPU that it runs
 *
 * To be called upon KVM_REQ_VIRT_CPUFREQ. Without a device that gives hints about
 * the vCPU, the thread loses the hint that it has from another one.
 *
 * Context: the vCPU's thread. Process context, IRQs on.
 */
void kvm_virt_cpufreq_update_hint(struct kvm_vcpu *vcpu)
{
	struct kvm_virt_cpufreq_page *page;

	guard(irq)();

	page = rcu_dereference_sched(vcpu->virt_cpufreq);
	if (page && page->id)
		virt_cpufreq_apply(page);
	else
		sched_clear_uclamp_hint(current, sched_uclamp_hint_id(current));
}

/*
 * Publish a new request of the page's domain: on the register pages, to the vCPUs'
 * threads, to userspace. 0 is none. @vcpu: who runs on the current thread, or NULL
 */
static void virt_cpufreq_request(struct kvm_vcpu *vcpu,
				 struct kvm_virt_cpufreq_page *page, u32 request)
{
	struct kvm_virt_cpufreq_page *p, *own = NULL;
	struct virt_cpufreq_domain *domain = page->domain;
	struct kvm_virt_cpufreq *dev = page->dev;
	int util = request_to_util(domain, request);
	bool changed, kick;

	scoped_guard(spinlock, &domain->lock) {
		if (domain->request == request)
			return;

		changed = dev->flags & VIRT_CPUFREQ_HINTS && domain->util != util;
		/* A lower one can wait for the next entry, but none may end a maximum. */
		kick = changed && (util > domain->util || util == NO_UTIL);
		domain->request = request;
		domain->util = util;
		WRITE_ONCE(domain->hint.word, util_to_hint(dev, util).word);

		list_for_each_entry(p, &domain->pages, list) {
			virt_cpufreq_set_reg(p, KVM_VIRT_CPUFREQ_SET_PERF, request);
			if (p->vcpu == vcpu)
				own = p;
			else if (changed)
				kvm_make_request(KVM_REQ_VIRT_CPUFREQ, p->vcpu);
		}
		kvm_arch_clean_guest_memory_sync();
	}

	trace_kvm_virt_cpufreq((vcpu ?: page->vcpu)->vcpu_id, domain - dev->domains,
			       request, max(util, 0));

	if (changed && own) {
		scoped_guard(irq)
			virt_cpufreq_apply(own);
	}

	if (kick) {
		/*
		 * Pairs with smp_store_mb(vcpu->mode, IN_GUEST_MODE): either the vCPU
		 * sees the request before it enters the guest, or this sees that it is
		 * there. Others need no kick, nor does one that sleeps.
		 */
		smp_mb__after_atomic();
		list_for_each_entry(p, &domain->pages, list) {
			if (p != own && READ_ONCE(p->vcpu->mode) == IN_GUEST_MODE)
				kvm_vcpu_kick(p->vcpu);
		}
	}

	if (dev->notify)
		eventfd_signal(dev->notify);
}

static void virt_cpufreq_select(struct kvm_virt_cpufreq_page *page, u32 sel)
{
	struct virt_cpufreq_domain *domain = page->domain;
	u32 nr_perf = domain->desc.nr_perf, perf = 0;

	if (sel < nr_perf)
		perf = domain->desc.perf[array_index_nospec(sel, nr_perf)];

	guard(spinlock)(&domain->lock);
	virt_cpufreq_set_reg(page, KVM_VIRT_CPUFREQ_PERFTBL_SEL, sel);
	virt_cpufreq_set_reg(page, KVM_VIRT_CPUFREQ_PERFTBL_RD, perf);
	kvm_arch_clean_guest_memory_sync();
}

/*
 * NULL unless it is an aligned 32-bit access to a register. The bus has checked that
 * addr is in the device's range.
 */
static struct kvm_virt_cpufreq_page *
virt_cpufreq_decode(struct kvm_io_device *io, gpa_t addr, int len, u32 *reg)
{
	struct kvm_virt_cpufreq *dev = container_of(io, struct kvm_virt_cpufreq, io);
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
	u32 reg;

	page = virt_cpufreq_decode(io, addr, len, &reg);
	if (!page)
		return -EOPNOTSUPP;

	put_unaligned_le32(virt_cpufreq_get_reg(page, reg), val);
	return 0;
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

static void virt_cpufreq_free(struct kvm_virt_cpufreq *dev)
{
	u32 i;

	for (i = 0; i < dev->nr_pages; i++) {
		if (dev->pages[i].id)
			ida_free(&virt_cpufreq_ids, dev->pages[i].id);
	}
	if (dev->notify)
		eventfd_ctx_put(dev->notify);
	vfree(dev->regs);
	kvfree(dev->domains);
	kvfree(dev);
}

/*
 * Also cleans up after a failed attach, i.e. tolerates a device that is not on the
 * bus, and leaves alone the vCPUs that another device has a page for. May run as task
 * work of a vCPU thread, so must not take vcpu->mutex or kvm->lock.
 */
static int virt_cpufreq_release(struct inode *inode, struct file *file)
{
	struct kvm_virt_cpufreq *dev = file->private_data;
	struct kvm *kvm = dev->kvm;
	unsigned int noreclaim;
	u32 i;

	mutex_lock(&kvm->slots_lock);
	/*
	 * On failure the bus is gone altogether, so the device has left it anyway. But the
	 * last holder may be another process than the VMM, and die for lack of memory:
	 * that is not to cost the VM its bus. No handler is running any more.
	 */
	noreclaim = memalloc_noreclaim_save();
	kvm_io_bus_unregister_dev(kvm, KVM_MMIO_BUS, &dev->io);
	memalloc_noreclaim_restore(noreclaim);
	for (i = 0; i < dev->nr_pages; i++) {
		struct kvm_vcpu *vcpu = dev->pages[i].vcpu;

		if (rcu_access_pointer(vcpu->virt_cpufreq) == &dev->pages[i]) {
			RCU_INIT_POINTER(vcpu->virt_cpufreq, NULL);
			WRITE_ONCE(vcpu->virt_cpufreq_id, 0);
		}
	}
	mutex_unlock(&kvm->slots_lock);

	/* That has waited for handlers; wait for who handles a request or enters the guest. */
	synchronize_rcu();

	for (i = 0; i < dev->nr_pages; i++) {
		struct kvm_virt_cpufreq_page *page = &dev->pages[i];

		if (page->task) {
			sched_clear_uclamp_hint(page->task, page->id);
			put_task_struct(page->task);
		}
	}

	virt_cpufreq_free(dev);
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
	virt_cpufreq_request(NULL, page, regs.set_perf);
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
	struct kvm_virt_cpufreq *dev = vmf->vma->vm_file->private_data;

	vmf->page = vmalloc_to_page(dev->regs + (vmf->pgoff << PAGE_SHIFT));
	get_page(vmf->page);
	return 0;
}

static const struct vm_operations_struct virt_cpufreq_vm_ops = {
	.fault = virt_cpufreq_fault,
};

/*
 * The file is read-only, so that a shared mapping is and stays that. It must not be
 * merged with another, nor grow: VMA_DONTEXPAND.
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
	return 0;
}

static const struct file_operations virt_cpufreq_fops = {
	.owner = THIS_MODULE,
	.release = virt_cpufreq_release,
	.unlocked_ioctl = virt_cpufreq_ioctl,
	.mmap_prepare = virt_cpufreq_mmap_prepare,
	.llseek = noop_llseek,
};

static int virt_cpufreq_init_domain(struct virt_cpufreq_domain *domain,
				    const struct kvm_virt_cpufreq_domain __user *udesc)
{
	struct kvm_virt_cpufreq_domain *desc = &domain->desc;
	u32 i;

	if (copy_from_user(desc, udesc, sizeof(*desc)))
		return -EFAULT;

	if (!desc->capacity || desc->capacity > U16_MAX)
		return -EINVAL;
	if (!desc->nr_perf || desc->nr_perf > ARRAY_SIZE(desc->perf))
		return -EINVAL;
	if (!desc->perf[0] || highest_perf(domain) > S32_MAX)
		return -EINVAL;
	for (i = 1; i < desc->nr_perf; i++) {
		if (desc->perf[i] <= desc->perf[i - 1])
			return -EINVAL;
	}

	INIT_LIST_HEAD(&domain->pages);
	spin_lock_init(&domain->lock);
	domain->util = NO_UTIL;
	domain->hint.max = SCHED_CAPACITY_SCALE;
	return 0;
}

static int virt_cpufreq_init_page(struct kvm_virt_cpufreq *dev, u32 index, u32 nr_domains,
				  const struct kvm_virt_cpufreq_vcpu __user *uvcpu)
{
	struct kvm_virt_cpufreq_page *page = &dev->pages[index];
	struct kvm_virt_cpufreq_vcpu desc;
	int id;

	if (copy_from_user(&desc, uvcpu, sizeof(desc)))
		return -EFAULT;

	if (desc.domain >= nr_domains)
		return -EINVAL;
	desc.domain = array_index_nospec(desc.domain, nr_domains);

	page->dev = dev;
	page->domain = &dev->domains[desc.domain];
	list_add_tail(&page->list, &page->domain->pages);

	page->vcpu = kvm_get_vcpu_by_id(dev->kvm, desc.vcpu_id);
	if (!page->vcpu)
		return -ENOENT;

	if (dev->flags & VIRT_CPUFREQ_HINTS) {
		id = ida_alloc_min(&virt_cpufreq_ids, 1, GFP_KERNEL_ACCOUNT);
		if (id < 0)
			return id;
		page->id = id;
	}

	/* Nothing to clean: that is done when the guest's first access maps the page. */
	page->regs = dev->regs + index * KVM_VIRT_CPUFREQ_PAGE_SIZE;
	virt_cpufreq_set_reg(page, KVM_VIRT_CPUFREQ_PERFTBL_LEN, page->domain->desc.nr_perf);
	virt_cpufreq_set_reg(page, KVM_VIRT_CPUFREQ_PERFTBL_RD, page->domain->desc.perf[0]);
	virt_cpufreq_set_reg(page, KVM_VIRT_CPUFREQ_PERF_DOMAIN, desc.domain);
	/* Until the vCPU enters: of a CPU that this thread is, or was, on */
	virt_cpufreq_set_cur_perf(page, entry_state_now(task_cpu(current)));
	return 0;
}

static int virt_cpufreq_init(struct kvm_virt_cpufreq *dev,
			     const struct kvm_create_virt_cpufreq *args)
{
	struct kvm_virt_cpufreq_domain __user *udomains = u64_to_user_ptr(args->domains);
	struct kvm_virt_cpufreq_vcpu __user *uvcpus = u64_to_user_ptr(args->vcpus);
	int r;
	u32 i;

	dev->domains = kvcalloc(args->nr_domains, sizeof(*dev->domains), GFP_KERNEL_ACCOUNT);
	/* Userspace and the guest see all of it. */
	dev->regs = __vmalloc(virt_cpufreq_regs_size(dev), GFP_KERNEL_ACCOUNT | __GFP_ZERO);
	if (!dev->domains || !dev->regs)
		return -ENOMEM;

	for (i = 0; i < args->nr_domains; i++) {
		r = virt_cpufreq_init_domain(&dev->domains[i], &udomains[i]);
		if (r)
			return r;
	}

	for (i = 0; i < dev->nr_pages; i++) {
		r = virt_cpufreq_init_page(dev, i, args->nr_domains, &uvcpus[i]);
		if (r)
			return r;
	}

	for (i = 0; i < args->nr_domains; i++) {
		if (list_empty(&dev->domains[i].pages))
			return -EINVAL;
	}

	if (args->flags & KVM_VIRT_CPUFREQ_NOTIFY) {
		struct eventfd_ctx *notify = eventfd_ctx_fdget(args->notify_fd);

		if (IS_ERR(notify))
			return PTR_ERR(notify);
		dev->notify = notify;
	}

	return 0;
}

/* On failure the file's release undoes what was done. */
static int virt_cpufreq_attach(struct kvm_virt_cpufreq *dev)
{
	u32 size = dev->nr_pages * KVM_VIRT_CPUFREQ_PAGE_SIZE;
	u32 i;

	guard(mutex)(&dev->kvm->slots_lock);

	if (!kvm_io_bus_range_is_free(dev->kvm, KVM_MMIO_BUS, dev->gpa, size))
		return -EEXIST;

	for (i = 0; i < dev->nr_pages; i++) {
		struct kvm_vcpu *vcpu = dev->pages[i].vcpu;

		if (rcu_access_pointer(vcpu->virt_cpufreq))
			return -EEXIST;
		rcu_assign_pointer(vcpu->virt_cpufreq, &dev->pages[i]);
		WRITE_ONCE(vcpu->virt_cpufreq_id, dev->pages[i].id);
	}

	return kvm_io_bus_register_dev(dev->kvm, KVM_MMIO_BUS, dev->gpa, size, &dev->io);
}

static int virt_cpufreq_check_args(const struct kvm_create_virt_cpufreq *args)
{
	u32 supported = kvm_virt_cpufreq_supported();
	gpa_t size = args->nr_vcpus * KVM_VIRT_CPUFREQ_PAGE_SIZE;

	if (args->flags & ~VIRT_CPUFREQ_FLAGS)
		return -EINVAL;
	if (args->notify_fd && !(args->flags & KVM_VIRT_CPUFREQ_NOTIFY))
		return -EINVAL;
	if (memchr_inv(args->reserved, 0, sizeof(args->reserved)))
		return -EINVAL;
	if (!args->nr_vcpus || args->nr_vcpus > KVM_MAX_VCPUS ||
	    !args->nr_domains || args->nr_domains > KVM_MAX_VCPUS)
		return -EINVAL;
	if (!IS_ALIGNED(args->gpa, KVM_VIRT_CPUFREQ_PAGE_SIZE) ||
	    args->gpa + size < args->gpa)
		return -EINVAL;

	if (!supported || args->flags & ~supported)
		return -EOPNOTSUPP;

	/* As for sched_setattr(); the threads that run the vCPUs are of this process. */
	return args->flags & VIRT_CPUFREQ_HINTS ? security_task_setscheduler(current) : 0;
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

	if (copy_from_user(&args, argp, sizeof(args)))
		return -EFAULT;

	r = virt_cpufreq_check_args(&args);
	if (r)
		return r;

	dev = kvzalloc_flex(*dev, pages, args.nr_vcpus, GFP_KERNEL_ACCOUNT);
	if (!dev)
		return -ENOMEM;

	kvm_iodevice_init(&dev->io, &virt_cpufreq_ops);
	dev->kvm = kvm;
	dev->gpa = args.gpa;
	dev->flags = args.flags;
	dev->nr_pages = args.nr_vcpus;

	r = virt_cpufreq_init(dev, &args);
	if (r)
		goto err_free;

	fd = get_unused_fd_flags(O_CLOEXEC);
	if (fd < 0) {
		r = fd;
		goto err_free;
	}

	file = anon_inode_getfile("kvm-virt-cpufreq", &virt_cpufreq_fops, dev, O_RDONLY);
	if (IS_ERR(file)) {
		r = PTR_ERR(file);
		goto err_fd;
	}

	/* From here on the device is the file's, and its release undoes the rest. */
	kvm_get_kvm(kvm);
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
