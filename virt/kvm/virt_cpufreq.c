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
 * Who protects what:
 *  - The register handlers run inside kvm->srcu and take no lock. What they
 *    change is a word each: the request of a domain, the table index of a page.
 *  - vcpu->virt_cpufreq is written under kvm->slots_lock, and read by the vCPU's
 *    own thread under RCU: with IRQs off on the way into the guest, where SRCU is
 *    not held on every architecture.
 *  - page->task, ->refused and ->applied are protected by vcpu->mutex. Release
 *    touches them without, after detaching the page and a grace period.
 */

#include <linux/anon_inodes.h>
#include <linux/file.h>
#include <linux/jump_label_ratelimit.h>
#include <linux/kvm_host.h>
#include <linux/list.h>
#include <linux/math64.h>
#include <linux/minmax.h>
#include <linux/moduleparam.h>
#include <linux/nospec.h>
#include <linux/rcupdate.h>
#include <linux/sched.h>
#include <linux/sched/task.h>
#include <linux/sched/topology.h>
#include <linux/security.h>
#include <linux/slab.h>
#include <linux/string.h>
#include <linux/uaccess.h>
#include <linux/unaligned.h>
#include <kvm/iodev.h>
#include <trace/events/kvm.h>

#include "virt_cpufreq.h"

/* Layout of a register page, set by the guest driver */
#define VIRT_CPUFREQ_PAGE_SHIFT		12
#define VIRT_CPUFREQ_PAGE_SIZE		BIT(VIRT_CPUFREQ_PAGE_SHIFT)

#define REG_CUR_PERF			0x00
#define REG_SET_PERF			0x04
#define REG_PERFTBL_LEN			0x08
#define REG_PERFTBL_SEL			0x0c
#define REG_PERFTBL_RD			0x10
#define REG_PERF_DOMAIN			0x14
#define REG_END				0x18

#define VIRT_CPUFREQ_HINTS	(KVM_VIRT_CPUFREQ_HINT_MIN | \
				 KVM_VIRT_CPUFREQ_HINT_MAX | \
				 KVM_VIRT_CPUFREQ_HINT_UTIL)
#define VIRT_CPUFREQ_FLAGS	(VIRT_CPUFREQ_HINTS | KVM_VIRT_CPUFREQ_NOTIFY)

/**
 * struct kvm_virt_cpufreq_domain - a performance domain
 * @list: in the device's list of domains
 * @pages: the register pages of the domain
 * @id: number given by the VMM
 * @request: last accepted value of set_perf, 0 before the first
 * @capacity: host capacity that the highest perf value stands for
 * @nr_perf: number of entries of @perf
 * @perf: strictly ascending perf values
 */
struct kvm_virt_cpufreq_domain {
	struct list_head list;
	struct list_head pages;
	u32 id;
	u32 request;
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
 * @task: the thread bound to the page: the one that runs @vcpu; NULL before it
 *	first runs and if the device gives no hints
 * @refused: @task may not set its own attributes and so gets no hint
 * @applied: the request that @task has applied to itself
 * @cpu: the CPU on which @vcpu last entered the guest
 * @sel: perftbl_sel
 */
struct kvm_virt_cpufreq_page {
	struct kvm_virt_cpufreq *dev;
	struct kvm_virt_cpufreq_domain *domain;
	struct list_head list;
	struct kvm_vcpu *vcpu;
	struct task_struct *task;
	bool refused;
	u32 applied;
	u32 cpu;
	u32 sel;
};

/**
 * struct kvm_virt_cpufreq - a device: consecutive register pages
 * @io: on KVM_MMIO_BUS
 * @kvm: the VM
 * @gpa: guest physical address of the first page
 * @flags: KVM_VIRT_CPUFREQ_*
 * @domains: the performance domains
 * @nr_pages: number of @pages
 * @pages: the register pages
 */
struct kvm_virt_cpufreq {
	struct kvm_io_device io;
	struct kvm *kvm;
	gpa_t gpa;
	u32 flags;
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
	if (!READ_ONCE(enabled) || !IS_ENABLED(CONFIG_UCLAMP_HINT))
		return 0;

	return KVM_VIRT_CPUFREQ_HINT_MIN | KVM_VIRT_CPUFREQ_HINT_MAX;
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
 * The performance of the CPU on which the page's vCPU last entered the guest, as
 * the host's own load tracking sees it.
 */
static u32 page_cur_perf(const struct kvm_virt_cpufreq_page *page)
{
	const struct kvm_virt_cpufreq_domain *domain = page->domain;
	unsigned int cpu = READ_ONCE(page->cpu);
	u64 perf = arch_scale_cpu_capacity(cpu);

	perf = (perf * arch_scale_freq_capacity(cpu)) >> SCHED_CAPACITY_SHIFT;
	perf = div_u64(perf * highest_perf(domain), domain->capacity);

	return clamp_t(u64, perf, 1, highest_perf(domain));
}

static struct kvm_virt_cpufreq *to_virt_cpufreq(struct kvm_io_device *io)
{
	return container_of(io, struct kvm_virt_cpufreq, io);
}

/* NULL unless it is an aligned 32-bit access to a register, within the bus's range. */
static struct kvm_virt_cpufreq_page *
virt_cpufreq_decode(struct kvm_io_device *io, gpa_t addr, int len, u32 *reg)
{
	struct kvm_virt_cpufreq *dev = to_virt_cpufreq(io);
	gpa_t offset = addr - dev->gpa;

	*reg = offset & (VIRT_CPUFREQ_PAGE_SIZE - 1);
	if (len != sizeof(u32) || *reg % sizeof(u32) || *reg >= REG_END)
		return NULL;

	return &dev->pages[array_index_nospec(offset >> VIRT_CPUFREQ_PAGE_SHIFT,
					      dev->nr_pages)];
}

static int virt_cpufreq_read(struct kvm_vcpu *vcpu, struct kvm_io_device *io,
			     gpa_t addr, int len, void *val)
{
	struct kvm_virt_cpufreq_domain *domain;
	struct kvm_virt_cpufreq_page *page;
	u32 reg, sel, data = 0;

	page = virt_cpufreq_decode(io, addr, len, &reg);
	if (!page)
		return -EOPNOTSUPP;

	domain = page->domain;
	switch (reg) {
	case REG_CUR_PERF:
		data = page_cur_perf(page);
		break;
	case REG_SET_PERF:
		data = READ_ONCE(domain->request);
		break;
	case REG_PERFTBL_LEN:
		data = domain->nr_perf;
		break;
	case REG_PERFTBL_SEL:
		data = READ_ONCE(page->sel);
		break;
	case REG_PERFTBL_RD:
		sel = READ_ONCE(page->sel);
		if (sel < domain->nr_perf)
			data = domain->perf[array_index_nospec(sel, domain->nr_perf)];
		break;
	case REG_PERF_DOMAIN:
		data = domain->id;
		break;
	}

	put_unaligned_le32(data, val);
	return 0;
}

/*
 * Kick the domain's vCPUs out of the guest, so that they apply the request when
 * they reenter it. A sleeping vCPU needs no kick.
 */
static void virt_cpufreq_kick(struct kvm_virt_cpufreq_domain *domain,
			      struct kvm_vcpu *self)
{
	struct kvm_virt_cpufreq_page *page;

	list_for_each_entry(page, &domain->pages, list) {
		if (page->vcpu != self && READ_ONCE(page->vcpu->mode) == IN_GUEST_MODE)
			kvm_vcpu_kick(page->vcpu);
	}
}

static void virt_cpufreq_request(struct kvm_vcpu *vcpu,
				 struct kvm_virt_cpufreq_page *page, u32 request)
{
	struct kvm_virt_cpufreq_domain *domain = page->domain;
	u32 old;

	request = clamp(request, 1, highest_perf(domain));
	vcpu->stat.generic.virt_cpufreq_requests++;

	/* Don't dirty the cache line for a repeated request. */
	if (READ_ONCE(domain->request) == request)
		return;

	/*
	 * The full barrier of xchg() pairs with smp_store_mb(vcpu->mode,
	 * IN_GUEST_MODE): either the entry hook sees the new request, or
	 * virt_cpufreq_kick() sees IN_GUEST_MODE.
	 */
	old = xchg(&domain->request, request);
	if (old == request)
		return;

	trace_kvm_virt_cpufreq(vcpu->vcpu_id, domain->id, request,
			       request_to_util(domain, request));

	if (request > old && page->dev->flags & VIRT_CPUFREQ_HINTS)
		virt_cpufreq_kick(domain, vcpu);
}

static int virt_cpufreq_write(struct kvm_vcpu *vcpu, struct kvm_io_device *io,
			      gpa_t addr, int len, const void *val)
{
	struct kvm_virt_cpufreq_page *page;
	u32 reg;

	page = virt_cpufreq_decode(io, addr, len, &reg);
	if (!page)
		return -EOPNOTSUPP;

	switch (reg) {
	case REG_SET_PERF:
		virt_cpufreq_request(vcpu, page, get_unaligned_le32(val));
		break;
	case REG_PERFTBL_SEL:
		WRITE_ONCE(page->sel, get_unaligned_le32(val));
		break;
	}

	return 0;
}

/* No destructor: the device belongs to its file, not to the bus. */
static const struct kvm_io_device_ops virt_cpufreq_ops = {
	.read = virt_cpufreq_read,
	.write = virt_cpufreq_write,
};

/*
 * Apply the domain's request to the current thread, the one bound to the page.
 * noinline keeps the fast path of the entry hook free of a stack frame.
 */
static noinline void virt_cpufreq_apply(struct kvm_vcpu *vcpu,
					struct kvm_virt_cpufreq_page *page,
					u32 request)
{
	u32 min = 0, max = SCHED_CAPACITY_SCALE;
	bool changed = request != page->applied;

	page->applied = request;

	if (page->refused) {
		vcpu->stat.generic.virt_cpufreq_refused += changed;
	} else {
		u32 util = request_to_util(page->domain, request);

		if (page->dev->flags & KVM_VIRT_CPUFREQ_HINT_MIN)
			min = util;
		if (page->dev->flags & KVM_VIRT_CPUFREQ_HINT_MAX && request)
			max = util;
		vcpu->stat.generic.virt_cpufreq_hints += changed;
	}

	/* Also if there is nothing to hint: it replaces another vCPU's hint. */
	sched_set_uclamp_hint(page, min, max);
}

/**
 * __kvm_virt_cpufreq_enter - prepare the current thread for the guest
 * @vcpu: the vCPU that is about to enter the guest, in IN_GUEST_MODE
 *
 * Applies the performance domain's request if that is new, or if the thread has
 * run another vCPU since.
 *
 * Context: the vCPU's thread. IRQs off, RCU watching.
 */
void __kvm_virt_cpufreq_enter(struct kvm_vcpu *vcpu)
{
	struct kvm_virt_cpufreq_page *page;
	u32 cpu, request;

	page = rcu_dereference_sched(vcpu->virt_cpufreq);
	if (!page)
		return;

	cpu = smp_processor_id();
	if (page->cpu != cpu)
		WRITE_ONCE(page->cpu, cpu);

	/* No hints, or not bound yet, in which case KVM_REQ_VIRT_CPUFREQ is pending. */
	if (page->task != current)
		return;

	request = READ_ONCE(page->domain->request);
	if (unlikely(request != page->applied ||
		     sched_uclamp_hint_owner(current) != page))
		virt_cpufreq_apply(vcpu, page, request);
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
	if (page && page->dev->flags & VIRT_CPUFREQ_HINTS) {
		old = page->task;
		if (old && (old != current || refused))
			sched_clear_uclamp_hint(old, page);
		page->task = get_task_struct(current);
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
 * bus. May run as task work of a vCPU thread, so
 * must not take vcpu->mutex or kvm->lock.
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

static const struct file_operations virt_cpufreq_fops = {
	.owner = THIS_MODULE,
	.release = virt_cpufreq_release,
	.llseek = noop_llseek,
};

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
	gpa_t size = args->nr_vcpus * VIRT_CPUFREQ_PAGE_SIZE;

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
	if (!IS_ALIGNED(args->gpa, VIRT_CPUFREQ_PAGE_SIZE) ||
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
		page->cpu = raw_smp_processor_id();
		page->vcpu = kvm_get_vcpu_by_id(kvm, vcpu.vcpu_id);
		list_add_tail(&page->list, &page->domain->pages);
	}

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
	u32 size = dev->nr_pages * VIRT_CPUFREQ_PAGE_SIZE;
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

	r = get_unused_fd_flags(O_CLOEXEC);
	if (r < 0)
		goto err_free;
	fd = r;

	file = anon_inode_getfile("kvm-virt-cpufreq", &virt_cpufreq_fops, dev, O_RDWR);
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
