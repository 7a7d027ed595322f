// SPDX-License-Identifier: GPL-2.0-only
/*
 * KVM_CREATE_VIRT_CPUFREQ: random operations, one at a time, as a model foretells
 *
 * An operation succeeds exactly if it breaks no documented rule, otherwise its error is
 * that of a rule which it breaks. Registers, signals, statistics and the threads' clamps
 * are the model's, and at the end nothing is left. See include/virt_cpufreq_fuzz.h.
 */
#include <fcntl.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/wait.h>

#include "kvm_test_harness.h"
#include "processor.h"
#include "virt_cpufreq_fuzz.h"

#define NR_DEVS		6	/* also those that are closed and still mapped */
#define NR_FDS		3	/* of a device */
#define NR_VIEWS	24
#define NR_IOEVENTFDS	3
#define FIRST_SLOT	200
#define EPISODE_OPS	250

/* The model of a device; it is there as long as anything of the device is. */
struct dev {
	struct kvm_create_virt_cpufreq create;
	struct fuzz_desc desc;
	u32 request[FUZZ_PAGES];
	u32 sel[FUZZ_PAGES];
	u32 applied[FUZZ_PAGES];
	int fds[NR_FDS];
	u32 nr_fds;
	u32 nr_handed;			/* descriptors that the other process has */
	u32 nr_views;
	int eventfd;
	void *slot;			/* the mapping that is one */
};

/* A host page of a mapping */
struct view {
	struct dev *dev;
	void *addr;
	u32 pgoff;
	int prot;
};

/* A thread that runs vCPUs, and whose hint it has */
struct thread {
	struct vcf_worker worker;
	struct dev *dev;
	u32 page;
	u32 own_min, own_max;
};

static struct fuzz_args args;
static struct dev devs[NR_DEVS];
static struct view views[NR_VIEWS];
static struct thread threads[FUZZ_VCPUS];
static struct kvm_ioeventfd ioeventfds[NR_IOEVENTFDS];	/* fd 0: not there */
static bool enabled;
static bool requested[FUZZ_VCPUS];	/* the vCPU is to look at its hint */
static u64 nr_requests[FUZZ_VCPUS], nr_hints[FUZZ_VCPUS];
static int peer;

/* A mapping holds it as a descriptor does. */
static bool is_live(const struct dev *dev)
{
	return dev->nr_fds || dev->nr_handed || dev->nr_views || dev->slot;
}

static size_t dev_size(const struct dev *dev)
{
	return vcf_map_size(dev->create.nr_vcpus);
}

static u32 index_of(const struct dev *dev)
{
	return dev - devs;
}

/* The live device whose registers are at @gpa */
static struct dev *dev_at(u64 gpa)
{
	struct dev *dev;

	for (dev = devs; dev < devs + NR_DEVS; dev++) {
		if (is_live(dev) && gpa - dev->create.gpa < dev->create.nr_vcpus * VCF_PAGE_SIZE)
			return dev;
	}
	return NULL;
}

static struct dev *slot_at(u64 gpa)
{
	struct dev *dev;

	for (dev = devs; dev < devs + NR_DEVS; dev++) {
		if (dev->slot && gpa - dev->create.gpa < dev_size(dev))
			return dev;
	}
	return NULL;
}

/* The live device that has a page for the vCPU */
static struct dev *dev_of_vcpu(u32 id, u32 *page)
{
	struct dev *dev;

	for (dev = devs; dev < devs + NR_DEVS; dev++) {
		for (*page = 0; is_live(dev) && *page < dev->create.nr_vcpus; ++*page) {
			if (dev->desc.page[*page].vcpu_id == id)
				return dev;
		}
	}
	return NULL;
}

static struct dev *random_dev(bool live)
{
	u32 i, begin = fuzz_rnd(NR_DEVS);

	for (i = 0; i < NR_DEVS; i++) {
		struct dev *dev = &devs[(begin + i) % NR_DEVS];

		if (live ? dev->nr_fds : !is_live(dev))
			return dev;
	}
	return NULL;
}

static int random_fd(const struct dev *dev)
{
	return dev->fds[fuzz_rnd(dev->nr_fds)];
}

static int util_of(const struct dev *dev, u32 page, u32 request)
{
	return request ? (int)vcf_util(fuzz_domain(&dev->desc, page), request) : -1;
}

static void model_apply(struct dev *dev, u32 page)
{
	dev->applied[page] = dev->request[page];
	nr_hints[dev->desc.page[page].vcpu_id]++;
}

/* @id: the vCPU that stores, or FUZZ_VCPUS */
static void model_request(struct dev *dev, u32 page, u32 request, u32 id)
{
	bool changed = dev->create.flags & VCF_HINT_MINMAX &&
		       util_of(dev, page, request) != util_of(dev, page, dev->request[page]);
	u32 i;

	if (dev->request[page] == request)
		return;
	for (i = 0; i < dev->create.nr_vcpus; i++) {
		if (dev->desc.page[i].domain != dev->desc.page[page].domain)
			continue;
		dev->request[i] = request;
		if (changed && dev->desc.page[i].vcpu_id == id)
			model_apply(dev, i);
		else if (changed)
			requested[dev->desc.page[i].vcpu_id] = true;
	}
	if (dev->eventfd >= 0)
		fuzz.eventfds[dev->eventfd].signals++;
}

/* The thread runs this vCPU. */
static void model_run(struct thread *thread, u32 id)
{
	struct dev *dev;
	u32 i, page;

	dev = dev_of_vcpu(id, &page);
	if (dev && !(dev->create.flags & VCF_HINT_MINMAX))
		dev = NULL;
	if (!requested[id] && thread->dev == dev && (!dev || thread->page == page))
		return;

	requested[id] = false;
	for (i = 0; dev && i < FUZZ_VCPUS; i++) {
		if (threads[i].dev == dev && threads[i].page == page)
			threads[i].dev = NULL;
	}
	thread->dev = dev;
	thread->page = page;
	if (dev)
		model_apply(dev, page);
}

/* Some reference to the device is gone. */
static void model_put(struct dev *dev)
{
	u32 i;

	for (i = 0; i < FUZZ_VCPUS && !is_live(dev); i++) {
		if (threads[i].dev == dev)
			threads[i].dev = NULL;
	}
}

/* cur_perf is the host's affair, if it is in range. */
static bool is_reg(const struct dev *dev, u32 page, u32 reg, u32 val)
{
	const struct kvm_virt_cpufreq_domain *domain;
	u32 sel;

	if (page >= dev->create.nr_vcpus)
		return !val;

	domain = fuzz_domain(&dev->desc, page);
	sel = dev->sel[page];
	switch (reg) {
	case REG_CUR_PERF:
		return val >= 1 && val <= vcf_highest(domain);
	case REG_SET_PERF:
		return val == dev->request[page];
	case REG_PERFTBL_LEN:
		return val == domain->nr_perf;
	case REG_PERFTBL_SEL:
		return val == sel;
	case REG_PERFTBL_RD:
		return val == (sel < domain->nr_perf ? domain->perf[sel] : 0);
	case REG_PERF_DOMAIN:
		return val == dev->desc.page[page].domain;
	default:
		return !val;
	}
}

static void check_mapping(const struct dev *dev, const void *map, u32 first, size_t size)
{
	u32 offset, reg;

	for (offset = 0; offset < size; offset += VCF_PAGE_SIZE) {
		for (reg = 0; reg < REG_END + 4; reg += 4) {
			u32 at = reg < REG_END ? reg : REG_END + 4 * fuzz_rnd(1000);
			u32 val = vcf_map_reg(map + offset, 0, at);

			TEST_ASSERT(is_reg(dev, first + offset / VCF_PAGE_SIZE, at, val),
				    "%#x in register %#x of page %u mapped", val, at,
				    first + offset / VCF_PAGE_SIZE);
		}
	}
}

static void check_views(void)
{
	struct view *view;

	for (view = views; view < views + NR_VIEWS; view++) {
		if (view->dev && view->prot & PROT_READ)
			check_mapping(view->dev, view->addr,
				      view->pgoff * getpagesize() / VCF_PAGE_SIZE, getpagesize());
	}
}

static void check_thread(const struct thread *thread)
{
	u32 min = thread->own_min, max = thread->own_max;
	const struct dev *dev = thread->dev;
	struct vcf_uclamp uclamp;

	if (dev && dev->applied[thread->page]) {
		u32 util = util_of(dev, thread->page, dev->applied[thread->page]);

		if (dev->create.flags & KVM_VIRT_CPUFREQ_HINT_MIN)
			min = max(thread->own_min, min(util, thread->own_max));
		if (dev->create.flags & KVM_VIRT_CPUFREQ_HINT_MAX)
			max = min(thread->own_max, max(util, thread->own_min));
	}
	uclamp = vcf_uclamp(thread->worker.tid);
	TEST_ASSERT(uclamp.min == thread->own_min && uclamp.max == thread->own_max &&
		    uclamp.eff_min == min && uclamp.eff_max == max,
		    "Thread %ld: effective clamps %u %u, expected %u %u (own %u %u, %u %u)",
		    thread - threads, uclamp.eff_min, uclamp.eff_max, min, max,
		    uclamp.min, uclamp.max, thread->own_min, thread->own_max);
}

static void check_threads(void)
{
	u32 i;

	for (i = 0; i < FUZZ_VCPUS; i++)
		check_thread(&threads[i]);
}

static void check_stats(void)
{
	u32 i;

	for (i = 0; i < FUZZ_VCPUS; i++) {
		TEST_ASSERT_EQ(vcpu_get_stat(fuzz.vcpus[i], virt_cpufreq_requests), nr_requests[i]);
		TEST_ASSERT_EQ(vcpu_get_stat(fuzz.vcpus[i], virt_cpufreq_hints), nr_hints[i]);
	}
}

/* The ioctl */
static bool overlaps(u64 addr, u64 len)
{
	struct dev *dev;
	u32 i;

	for (dev = devs; dev < devs + NR_DEVS; dev++) {
		if (is_live(dev) && addr < dev->create.gpa + dev->create.nr_vcpus * VCF_PAGE_SIZE &&
		    dev->create.gpa < addr + len)
			return true;
	}
	for (i = 0; i < NR_IOEVENTFDS; i++) {
		if (ioeventfds[i].fd && ioeventfds[i].addr < addr + len &&
		    addr < ioeventfds[i].addr + max(ioeventfds[i].len, 1U))
			return true;
	}
	return false;
}

static u64 create_errors(struct dev *dev)
{
	u32 i, page;
	u64 errors;

	errors = fuzz_args_errors(&args, &dev->desc) | fuzz_notify_errors(&args.create);
	if (!enabled)
		errors |= fuzz_error(EOPNOTSUPP);
	if (errors)
		return errors;
	for (i = 0; i < args.create.nr_vcpus; i++)
		errors |= dev_of_vcpu(dev->desc.page[i].vcpu_id, &page) ? fuzz_error(EEXIST) : 0;
	if (overlaps(args.create.gpa, args.create.nr_vcpus * VCF_PAGE_SIZE))
		errors |= fuzz_error(EEXIST);
	return errors;
}

static void model_create(struct dev *dev, int fd)
{
	struct fuzz_desc desc = dev->desc;
	u32 i;

	memset(dev, 0, sizeof(*dev));
	dev->desc = desc;
	dev->create = args.create;
	dev->fds[dev->nr_fds++] = fd;
	dev->eventfd = -1;
	for (i = 0; i < FUZZ_EVENTFDS; i++) {
		if (args.create.flags & KVM_VIRT_CPUFREQ_NOTIFY &&
		    args.create.notify_fd == fuzz.eventfds[i].fd)
			dev->eventfd = i;
	}
}

static void create(u32 nr_mutations)
{
	u32 order[FUZZ_VCPUS], i, page, nr_free = 0, nr_busy = 0;
	int fd, free_fd = fuzz_lowest_free_fd();
	struct dev *dev;
	u64 errors;

	dev = random_dev(false);
	if (!dev)
		return;
	/* Those that are free come first. */
	for (i = 0; i < FUZZ_VCPUS; i++) {
		if (dev_of_vcpu(i, &page))
			order[FUZZ_VCPUS - ++nr_busy] = i;
		else
			order[nr_free++] = i;
	}
	/* That they are in use comes last of the errors. */
	fuzz_make_args(&args, 1 + fuzz_rnd(nr_mutations ? FUZZ_VCPUS : max(nr_free, 1U)), order);
	for (i = 0; i < nr_mutations; i++)
		fuzz_mutate(&args);
	errors = create_errors(dev);
	fd = fuzz_result(__vm_ioctl(fuzz.vm, KVM_CREATE_VIRT_CPUFREQ, &args.create));
	fuzz_note("dev %u of %u pages at %#lx, flags %#x, notify_fd %d, %u mutations: %d",
		  index_of(dev), args.create.nr_vcpus, (ulong)args.create.gpa, args.create.flags,
		  args.create.notify_fd, nr_mutations, fd);
	fuzz_expect(fd, errors);
	if (fd < 0) {
		TEST_ASSERT_EQ(fuzz_lowest_free_fd(), free_fd);
		return;
	}
	model_create(dev, fd);
	TEST_ASSERT(fcntl(fd, F_GETFD) == FD_CLOEXEC, "Not closed on exec");
}

static void op_create(void)
{
	u32 i;

	create(0);
	for (i = 0; i < 4; i++)
		create(1 + fuzz_rnd(2));
}

static void op_create_at_bad_address(void)
{
	void *const addresses[] = { NULL, (void *)(-1UL << 48), args.page_hole - 4, args.page_hole };
	void *address = addresses[fuzz_rnd(ARRAY_SIZE(addresses))];

	fuzz_note("create from %p", address);
	fuzz_try(ioctl(fuzz.vm->fd, KVM_CREATE_VIRT_CPUFREQ, address), fuzz_error(EFAULT));
}

/* Descriptors */
static void op_close(void)
{
	struct dev *dev = random_dev(true);
	u32 i;

	if (!dev)
		return;
	i = fuzz_rnd(dev->nr_fds);
	fuzz_note("close %d of dev %u", dev->fds[i], index_of(dev));
	fuzz_try(close(dev->fds[i]), 0);
	dev->fds[i] = dev->fds[--dev->nr_fds];
	model_put(dev);
}

static void op_dup(void)
{
	struct dev *dev = random_dev(true), *other = random_dev(true);
	u32 i;

	if (!dev)
		return;
	if (dev == other && dev->nr_fds < NR_FDS) {
		dev->fds[dev->nr_fds] = dup(dev->fds[0]);
		fuzz_note("dup dev %u: %d", index_of(dev), dev->fds[dev->nr_fds]);
		fuzz_try(dev->fds[dev->nr_fds++], 0);
	} else if (dev != other && other->nr_fds < NR_FDS) {
		i = --dev->nr_fds;
		fuzz_note("dup2 dev %u onto %d of dev %u", index_of(other), dev->fds[i],
			  index_of(dev));
		fuzz_try(dup2(other->fds[0], dev->fds[i]), 0);
		other->fds[other->nr_fds++] = dev->fds[i];
		model_put(dev);
	}
}

static void op_set_regs(void)
{
	struct dev *dev = random_dev(true);
	struct kvm_virt_cpufreq_regs regs;
	void *address = &regs;
	u32 nr;
	u64 errors = 0;
	bool fits;
	long r;

	if (!dev)
		return;
	nr = dev->create.nr_vcpus;
	regs = (struct kvm_virt_cpufreq_regs) {
		.index = fuzz_rnd(8) ? fuzz_rnd(nr) : nr + fuzz_rnd(2) * fuzz_rnd_u32(),
		.set_perf = fuzz_rnd(2) ? fuzz_highest(&dev->desc, 0) : fuzz_rnd_u32(),
		.perftbl_sel = fuzz_rnd(2) ? fuzz_rnd(65) : fuzz_rnd_u32(),
		.reserved = fuzz_rnd(16) ? 0 : fuzz_rnd_u32(),
	};
	fits = regs.index < nr;
	if (!fits || regs.reserved || regs.set_perf > fuzz_highest(&dev->desc, regs.index))
		errors |= fuzz_error(EINVAL);
	if (!fuzz_rnd(16)) {
		address = fuzz_rnd(2) ? NULL : args.page_hole - 4;
		errors = fuzz_error(EFAULT);
	}
	r = fuzz_result(ioctl(random_fd(dev), KVM_VIRT_CPUFREQ_SET_REGS, address));
	fuzz_note("set_regs dev %u page %u: %u %u: %ld", index_of(dev), regs.index, regs.set_perf,
		  regs.perftbl_sel, r);
	fuzz_expect(r, errors);
	if (r)
		return;
	model_request(dev, regs.index, regs.set_perf, FUZZ_VCPUS);
	dev->sel[regs.index] = regs.perftbl_sel;
}

/* What the descriptor is not for */
static void op_misuse(void)
{
	static const u32 ioctls[] = {
		KVM_RUN, KVM_GET_API_VERSION, KVM_CREATE_VIRT_CPUFREQ, KVM_IOEVENTFD, 0, -1U,
		_IO(KVMIO, 0xd7), _IOW(KVMIO, 0xd7, u64), _IOR(KVMIO, 0xd7, u64[2]),
	};
	struct dev *dev = random_dev(true);
	char path[64], buf[16] = "";
	u32 cmd = ioctls[fuzz_rnd(ARRAY_SIZE(ioctls))];
	int fd, what = fuzz_rnd(9);

	if (!dev)
		return;
	fd = random_fd(dev);
	fuzz_note("misuse %d of dev %u", what, index_of(dev));
	switch (what) {
	case 0:
		fuzz_try(read(fd, buf, sizeof(buf)), fuzz_error(EINVAL));
		break;
	case 1:
		fuzz_try(write(fd, buf, sizeof(buf)), fuzz_error(EBADF));
		break;
	case 2:
		fuzz_try(pread(fd, buf, sizeof(buf), 4), fuzz_error(EINVAL) | fuzz_error(ESPIPE));
		break;
	case 3:
		TEST_ASSERT_EQ(lseek(fd, 4, SEEK_SET), 0);
		break;
	case 4:
		fuzz_try(ftruncate(fd, 0), fuzz_error(EINVAL));
		break;
	case 5:
		snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
		fuzz_try(open(path, fuzz_rnd(2) ? O_RDWR : O_RDONLY), fuzz_error(ENXIO));
		break;
	case 6:
		fuzz_try(fcntl(fd, F_SETFL, O_RDWR), 0);
		TEST_ASSERT_EQ(fcntl(fd, F_GETFL) & O_ACCMODE, O_RDONLY);
		break;
	default:
		fuzz_try(ioctl(fd, cmd, &args.create), fuzz_error(ENOTTY));
	}
}

/* Mappings */
static struct view *new_view(struct dev *dev, void *addr, u32 pgoff, int prot)
{
	struct view *view;

	for (view = views; view < views + NR_VIEWS; view++) {
		if (view->dev)
			continue;
		*view = (struct view) { dev, addr, pgoff, prot };
		dev->nr_views++;
		return view;
	}
	munmap(addr, getpagesize());
	return NULL;
}

static void op_mmap(void)
{
	static const int prots[] = {
		PROT_READ, PROT_READ, PROT_READ, PROT_READ, PROT_NONE, PROT_WRITE,
		PROT_READ | PROT_WRITE, PROT_READ | PROT_EXEC, PROT_EXEC,
	};
	static const int types[] = { MAP_SHARED, MAP_SHARED, MAP_SHARED_VALIDATE, MAP_PRIVATE };
	struct dev *dev = random_dev(true);
	const size_t page = getpagesize();
	size_t size, offset = 0, i;
	int prot, type, populate = fuzz_rnd(4) ? 0 : MAP_POPULATE;
	u64 errors = 0;
	void *map;

	if (!dev)
		return;
	size = dev_size(dev);
	if (!fuzz_rnd(2)) {
		const size_t sizes[] = { 0, 1, page, size + 1, size + page, 1UL << 40, -1UL };

		size = sizes[fuzz_rnd(ARRAY_SIZE(sizes))];
	}
	if (!fuzz_rnd(8)) {
		const size_t offsets[] = { 1, VCF_PAGE_SIZE / 2, page, dev_size(dev), 1UL << 40 };

		offset = offsets[fuzz_rnd(ARRAY_SIZE(offsets))];
	}
	prot = prots[fuzz_rnd(ARRAY_SIZE(prots))];
	type = types[fuzz_rnd(ARRAY_SIZE(types))];
	if (offset || type == MAP_PRIVATE || !size || size > dev_size(dev))
		errors |= fuzz_error(EINVAL);
	if (size >= 1UL << 40)
		errors |= fuzz_error(ENOMEM);
	if (prot & PROT_WRITE)
		errors |= fuzz_error(EACCES);
	if (prot & PROT_EXEC)
		errors |= fuzz_error(EPERM);

	map = mmap(NULL, size, prot, type | populate, random_fd(dev), offset);
	fuzz_note("mmap dev %u: %#lx at %#lx, prot %d, flags %d: %p", index_of(dev), size, offset,
		  prot, type, map);
	fuzz_expect(map == MAP_FAILED ? -errno : 0, errors);
	for (i = 0; map != MAP_FAILED && i * page < size; i++)
		new_view(dev, map + i * page, i, prot);
}

static void unmap(struct view *view)
{
	fuzz_note("munmap %p", view->addr);
	fuzz_try(munmap(view->addr, getpagesize()), 0);
	view->dev->nr_views--;
	model_put(view->dev);
	view->dev = NULL;
}

static void protect(struct view *view)
{
	int prot = fuzz_rnd(8);
	bool fits = !(prot & ~PROT_READ);

	fuzz_note("mprotect %p: %d", view->addr, prot);
	fuzz_try(mprotect(view->addr, getpagesize(), prot), fits ? 0 : fuzz_error(EACCES));
	if (fits)
		view->prot = prot;
}

static void remap(struct view *view)
{
	const size_t page = getpagesize();
	void *to;
	int how = fuzz_rnd(4);

	fuzz_note("mremap %p: %d", view->addr, how);
	switch (how) {
	case 0:
		to = mremap(view->addr, page, 2 * page, fuzz_rnd(2) * MREMAP_MAYMOVE);
		break;
	case 1:
		to = mremap(view->addr, 0, page, MREMAP_MAYMOVE);
		break;
	case 2:
		to = mremap(view->addr, page, page, MREMAP_MAYMOVE | MREMAP_DONTUNMAP);
		break;
	default:
		to = kvm_mmap(page, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1);
		view->addr = mremap(view->addr, page, page, MREMAP_MAYMOVE | MREMAP_FIXED, to);
		TEST_ASSERT(view->addr == to, "mremap() failed");
		return;
	}
	TEST_ASSERT(to == MAP_FAILED, "The mapping has become more");
	fuzz_expect(-errno, fuzz_error(EFAULT) | fuzz_error(EINVAL));
}

static void advise(struct view *view)
{
	static const struct {
		int advice;
		u64 errors;
	} rows[] = {
		{ MADV_DONTNEED },
		{ MADV_DONTFORK },
		{ MADV_DONTDUMP },
		{ MADV_DOFORK,		1ULL << EINVAL },
		{ MADV_DODUMP,		1ULL << EINVAL },
		{ MADV_WIPEONFORK,	1ULL << EINVAL },
		{ MADV_FREE,		1ULL << EINVAL },
		{ MADV_REMOVE,		1ULL << EACCES | 1ULL << EINVAL },
		{ MADV_POPULATE_WRITE,	1ULL << EINVAL },
	};
	u32 i = fuzz_rnd(ARRAY_SIZE(rows));

	fuzz_note("madvise %p: %d", view->addr, rows[i].advice);
	fuzz_try(madvise(view->addr, getpagesize(), rows[i].advice), rows[i].errors);
}

/* By way of the kernel, which can write where userspace cannot. */
static void write_to(struct view *view)
{
	int fd = open("/proc/self/mem", O_RDWR | O_CLOEXEC);
	u32 word = -1;

	fuzz_note("write to %p", view->addr);
	fuzz_try(pwrite(fd, &word, sizeof(word), (off_t)view->addr + REG_SET_PERF),
		 fuzz_error(EIO) | fuzz_error(EFAULT));
	close(fd);
	fd = open("/dev/zero", O_RDONLY | O_CLOEXEC);
	fuzz_try(read(fd, view->addr, sizeof(word)), fuzz_error(EFAULT));
	close(fd);
}

/* Make the mapping of the first page anew, at the side of the next ones. */
static void replace(struct view *view)
{
	struct dev *dev = view->dev;
	void *addr = view->addr, *map;

	if (view->pgoff || !dev->nr_fds)
		return;
	fuzz_note("make %p anew, of dev %u", addr, index_of(dev));
	unmap(view);
	map = mmap(addr, getpagesize(), PROT_READ, MAP_SHARED | MAP_FIXED_NOREPLACE,
		   random_fd(dev), 0);
	TEST_ASSERT(map == addr, "Cannot map the page again");
	new_view(dev, addr, 0, PROT_READ);
}

static void op_view(void)
{
	static void (*const fns[])(struct view *view) = {
		unmap, unmap, protect, protect, remap, advise, write_to, replace,
	};
	u32 i, begin = fuzz_rnd(NR_VIEWS);

	for (i = 0; i < NR_VIEWS; i++) {
		struct view *view = &views[(begin + i) % NR_VIEWS];

		if (!view->dev)
			continue;
		fns[fuzz_rnd(ARRAY_SIZE(fns))](view);
		return;
	}
}

static void remove_slot(struct dev *dev)
{
	vm_set_user_memory_region(fuzz.vm, FIRST_SLOT + index_of(dev), 0, dev->create.gpa, 0, NULL);
	munmap(dev->slot, dev_size(dev));
	dev->slot = NULL;
	model_put(dev);
}

static void op_slot(void)
{
	struct dev *dev = &devs[fuzz_rnd(NR_DEVS)], *other;
	u64 errors = 0;
	void *map;
	int r;

	if (dev->slot) {
		fuzz_note("remove slot of dev %u", index_of(dev));
		remove_slot(dev);
		return;
	}
	if (!dev->nr_fds || dev->create.gpa - VCF_GPA >= VCF_SIZE)
		return;

	if (dev->create.gpa % getpagesize())
		errors |= fuzz_error(EINVAL);
	for (other = devs; other < devs + NR_DEVS; other++) {
		if (other->slot && other->create.gpa < dev->create.gpa + dev_size(dev) &&
		    dev->create.gpa < other->create.gpa + dev_size(other))
			errors |= fuzz_error(EEXIST);
	}
	map = mmap(NULL, dev_size(dev), PROT_READ, MAP_SHARED, random_fd(dev), 0);
	r = __vm_set_user_memory_region(fuzz.vm, FIRST_SLOT + index_of(dev), KVM_MEM_READONLY,
					dev->create.gpa, dev_size(dev), map);
	r = fuzz_result(r);
	fuzz_note("add slot of dev %u: %d", index_of(dev), r);
	fuzz_expect(r, errors);
	if (r)
		munmap(map, dev_size(dev));
	else
		dev->slot = map;
}

/* The guest */
static void check_load(const struct fuzz_access *a)
{
	u32 page = (a->gpa - VCF_GPA) / VCF_PAGE_SIZE, reg = a->gpa % VCF_PAGE_SIZE;
	struct dev *dev = dev_at(a->gpa), *slot = slot_at(a->gpa);
	bool is_register = a->size == 4 && reg % 4 == 0 && reg < REG_END;
	u64 val = 0, reply = FUZZ_REPLY << (64 - 8 * a->size) >> (64 - 8 * a->size);

	if (slot) {
		TEST_ASSERT(a->served, "A load from the slot has exited");
		memcpy(&val, slot->slot + (a->gpa - slot->create.gpa), a->size);
		TEST_ASSERT(a->val == val || reg < REG_SET_PERF, "Loaded %#lx, mapped %#lx",
			    (ulong)a->val, (ulong)val);
		dev = slot;
	} else if (!dev || !is_register) {
		TEST_ASSERT(!a->served && a->right, "A load has not exited, or wrongly");
		TEST_ASSERT_EQ(a->val, reply);
		return;
	}
	page = (a->gpa - dev->create.gpa) / VCF_PAGE_SIZE;
	TEST_ASSERT(a->served && (!is_register || is_reg(dev, page, reg, a->val)),
		    "Loaded %#lx from register %#x of page %u", (ulong)a->val, reg, page);
}

static bool model_ioeventfd(const struct fuzz_access *a)
{
	u32 i, j;

	for (i = 0; i < NR_IOEVENTFDS; i++) {
		const struct kvm_ioeventfd *e = &ioeventfds[i];

		if (!e->fd || e->addr != a->gpa || (e->len && e->len != a->size))
			continue;
		for (j = 0; j < FUZZ_EVENTFDS; j++)
			fuzz.eventfds[j].signals += fuzz.eventfds[j].fd == e->fd;
		return true;
	}
	return false;
}

static void check_store(const struct fuzz_access *a)
{
	u32 page, reg = a->gpa % VCF_PAGE_SIZE, val = a->val;
	struct dev *dev = dev_at(a->gpa);
	bool is_register = a->size == 4 && reg % 4 == 0 && reg < REG_END;

	if (!dev || !is_register) {
		TEST_ASSERT_EQ(model_ioeventfd(a), a->served);
		TEST_ASSERT(a->served || a->right, "A store has exited wrongly");
		return;
	}
	TEST_ASSERT(a->served, "A store to %#lx has exited", (ulong)a->gpa);
	page = (a->gpa - dev->create.gpa) / VCF_PAGE_SIZE;
	if (reg == REG_SET_PERF) {
		nr_requests[a->vcpu->id]++;
		model_request(dev, page, clamp(val, 1U, fuzz_highest(&dev->desc, page)),
			      a->vcpu->id);
	} else if (reg == REG_PERFTBL_SEL) {
		dev->sel[page] = val;
	}
}

static u64 random_page(void)
{
	struct dev *dev = random_dev(true);
	u32 i = fuzz_rnd(NR_IOEVENTFDS);

	if (dev && fuzz_rnd(8) && dev->create.gpa - VCF_GPA < VCF_SIZE)
		return dev->create.gpa + fuzz_rnd(dev->create.nr_vcpus) * VCF_PAGE_SIZE;
	if (ioeventfds[i].fd && fuzz_rnd(4))
		return ioeventfds[i].addr / VCF_PAGE_SIZE * VCF_PAGE_SIZE;
	return VCF_REG(fuzz_rnd(FUZZ_WINDOW), 0);
}

static void op_guest(void)
{
	struct fuzz_access a = { .vcpu = fuzz.vcpus[fuzz_rnd(FUZZ_VCPUS)] };
	u32 i = fuzz_rnd(FUZZ_VCPUS);

	fuzz_make_access(&a, random_page());
	fuzz_note("vCPU %u on thread %u: %s %u bytes at %#lx: %#lx", a.vcpu->id, i,
		  a.store ? "store" : "load", a.size, (ulong)a.gpa, (ulong)a.val);
	model_run(&threads[i], a.vcpu->id);
	vcf_worker_call(&threads[i].worker, fuzz_do_access, &a);
	if (a.store)
		check_store(&a);
	else
		check_load(&a);
	model_run(&threads[i], a.vcpu->id);
	check_thread(&threads[i]);
}

static void op_own_clamps(void)
{
	struct thread *thread = &threads[fuzz_rnd(FUZZ_VCPUS)];

	thread->own_min = fuzz_rnd(2) * fuzz_rnd(1025);
	thread->own_max = fuzz_rnd(2) ? 1024 : thread->own_min + fuzz_rnd(1025 - thread->own_min);
	fuzz_note("own clamps of thread %ld: %u %u", thread - threads, thread->own_min,
		  thread->own_max);
	fuzz_expect(vcf_set_uclamp(thread->worker.tid, thread->own_min, thread->own_max), 0);
	check_thread(thread);
}

static void start_thread(struct thread *thread)
{
	vcf_worker_start(&thread->worker);
	thread->dev = NULL;
	thread->own_min = 0;
	thread->own_max = 1024;
}

static void op_thread(void)
{
	struct thread *thread = &threads[fuzz_rnd(FUZZ_VCPUS)];

	fuzz_note("another thread %ld", thread - threads);
	vcf_worker_stop(&thread->worker);
	start_thread(thread);
}

/* Surroundings */
static void op_ioeventfd(void)
{
	struct kvm_ioeventfd *e = &ioeventfds[fuzz_rnd(NR_IOEVENTFDS)];
	static const u32 lens[] = { 0, 0, 1, 4, 8 }, offsets[] = { 0, REG_SET_PERF, 0xff8 };

	if (e->fd) {
		fuzz_note("ioeventfd at %#lx ends", (ulong)e->addr);
		e->flags = KVM_IOEVENTFD_FLAG_DEASSIGN;
		fuzz_try(__vm_ioctl(fuzz.vm, KVM_IOEVENTFD, e), 0);
		e->fd = 0;
		return;
	}
	*e = (struct kvm_ioeventfd) {
		.addr = VCF_REG(fuzz_rnd(FUZZ_WINDOW), offsets[fuzz_rnd(3)]),
		.len = lens[fuzz_rnd(ARRAY_SIZE(lens))],
	};
	/* Inside a device it is the VMM's mistake, which the racing threads make. */
	if (overlaps(e->addr, max(e->len, 1U)))
		return;
	e->fd = fuzz.eventfds[fuzz_rnd(FUZZ_EVENTFDS)].fd;
	fuzz_note("ioeventfd at %#lx, %u bytes, fd %d", (ulong)e->addr, e->len, e->fd);
	fuzz_try(__vm_ioctl(fuzz.vm, KVM_IOEVENTFD, e), 0);
}

/* Whoever signals the old one goes on with it. */
static void op_eventfd(void)
{
	u32 i = fuzz_rnd(FUZZ_EVENTFDS), j;
	struct dev *dev;

	for (j = 0; j < NR_IOEVENTFDS; j++) {
		if (ioeventfds[j].fd == fuzz.eventfds[i].fd)
			return;
	}
	fuzz_note("another eventfd %u", i);
	close(fuzz.eventfds[i].fd);
	fuzz.eventfds[i].fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
	for (dev = devs; dev < devs + NR_DEVS; dev++) {
		if (dev->eventfd == i)
			dev->eventfd = -1;
	}
}

static void op_switch(void)
{
	if (access(VCF_MODULE_PARAM, W_OK))
		return;
	/* Rather on than off. */
	enabled = !enabled || fuzz_rnd(4);
	fuzz_note("enabled: %d", enabled);
	vcf_write_file(VCF_MODULE_PARAM, enabled ? "Y" : "N");
	TEST_ASSERT_EQ(vm_check_cap(fuzz.vm, KVM_CAP_VIRT_CPUFREQ), enabled ? VCF_ALL_FLAGS : 0);
}

/* Other processes */
static bool is_unmapped(void *addr)
{
	return msync(addr, getpagesize(), MS_ASYNC) && errno == ENOMEM;
}

static bool child_has_nothing(void)
{
	struct view *view;
	struct dev *dev;
	bool right = true;

	for (view = views; view < views + NR_VIEWS; view++)
		right &= !view->dev || is_unmapped(view->addr);
	for (dev = devs; dev < devs + NR_DEVS; dev++) {
		right &= !dev->slot || is_unmapped(dev->slot);
		if (dev->nr_fds)
			right &= __vcf_set_regs(dev->fds[0], 0, 0, 0) == -EIO;
	}
	right &= __vm_ioctl(fuzz.vm, KVM_CREATE_VIRT_CPUFREQ, &args.create) < 0 && errno == EIO;
	return right;
}

static void op_fork(void)
{
	int status;
	pid_t pid;

	fuzz_note("fork");
	pid = fork();
	if (!pid)
		_exit(!child_has_nothing());
	TEST_ASSERT(waitpid(pid, &status, 0) == pid && !status, "The child has something");
}

/* A VMM that dies with all that it has */
static void op_die(void)
{
	struct kvm_vcpu *vcpu;
	struct kvm_vm *other;
	int status, fd;
	pid_t pid;

	if (!enabled)
		return;
	fuzz_note("a VMM that dies");
	pid = fork();
	if (!pid) {
		other = vcf_vm_create(1, &vcpu);
		fd = vcf_create_default(other, 1, VCF_HINT_MINMAX);
		vcf_slot_add(other, vcf_map(fd, 1), 1);
		vcf_set_perf(vcpu, 0, 300);
		kill(getpid(), SIGKILL);
	}
	TEST_ASSERT(waitpid(pid, &status, 0) == pid && WIFSIGNALED(status), "It could not live");
}

/* The peer gets descriptors, and keeps them until it is told to close them. */
struct message {
	bool close;
	u32 dev, nr;
	int set_regs;
	u32 regs[FUZZ_PAGES][REG_END / 4];
};

static void peer_main(int socket)
{
	int fd, fds[NR_DEVS] = {};
	struct message message;
	const void *map;
	u32 i;

	while ((fd = fuzz_receive(socket, &message, sizeof(message))) != -2) {
		if (message.close) {
			close(fds[message.dev]);
		} else {
			fds[message.dev] = fd;
			message.set_regs = __vcf_set_regs(fd, 0, 1, 1);
			map = vcf_map(fd, message.nr);
			for (i = 0; i < message.nr; i++)
				memcpy(message.regs[i], map + i * VCF_PAGE_SIZE, REG_END);
			vcf_unmap(map, message.nr);
		}
		fuzz_send(socket, &message, sizeof(struct message), -1);
	}
	_exit(0);
}

static void start_peer(void)
{
	int sockets[2];

	TEST_ASSERT(!socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, sockets),
		    "socketpair() failed");
	if (!fork()) {
		close(sockets[0]);
		peer_main(sockets[1]);
	}
	close(sockets[1]);
	peer = sockets[0];
}

static void tell_peer(struct dev *dev, struct message *message, int fd)
{
	*message = (struct message) {
		.close = fd < 0,
		.dev = index_of(dev),
		.nr = dev->create.nr_vcpus,
	};
	fuzz_send(peer, message, sizeof(struct message), fd);
	TEST_ASSERT(fuzz_receive(peer, message, sizeof(*message)) == -1, "The peer is gone");
}

static void op_hand_over(void)
{
	struct dev *dev = &devs[fuzz_rnd(NR_DEVS)];
	struct message message;
	u32 i, reg;

	if (dev->nr_handed) {
		fuzz_note("the peer closes dev %u", index_of(dev));
		tell_peer(dev, &message, -1);
		dev->nr_handed = 0;
		model_put(dev);
	} else if (dev->nr_fds) {
		fuzz_note("dev %u is handed to the peer", index_of(dev));
		tell_peer(dev, &message, random_fd(dev));
		dev->nr_handed = 1;
		fuzz_expect(message.set_regs, fuzz_error(EIO));
		for (i = 0; i < dev->create.nr_vcpus; i++) {
			for (reg = 0; reg < REG_END; reg += 4)
				TEST_ASSERT(is_reg(dev, i, reg, message.regs[i][reg / 4]),
					    "The peer has mapped %#x", message.regs[i][reg / 4]);
		}
	}
}

static void op_check(void)
{
	fuzz_note("check");
	check_views();
	check_threads();
	check_stats();
}

static struct fuzz_op ops[] = {
	{ "create",			16, op_create },
	{ "create_at_bad_address",	1, op_create_at_bad_address },
	{ "close",			8, op_close },
	{ "dup",			3, op_dup },
	{ "set_regs",			12, op_set_regs },
	{ "misuse",			6, op_misuse },
	{ "mmap",			10, op_mmap },
	{ "view",			20, op_view },
	{ "slot",			6, op_slot },
	{ "guest",			40, op_guest },
	{ "own_clamps",			3, op_own_clamps },
	{ "thread",			2, op_thread },
	{ "ioeventfd",			4, op_ioeventfd },
	{ "eventfd",			2, op_eventfd },
	{ "switch",			2, op_switch },
	{ "fork",			1, op_fork },
	{ "die",			1, op_die },
	{ "hand_over",			5, op_hand_over },
	{ "check",			6, op_check },
};

static void close_all(void)
{
	struct message message;
	struct dev *dev;
	u32 i;

	fuzz_note("close all");
	for (i = 0; i < NR_IOEVENTFDS; i++) {
		if (!ioeventfds[i].fd)
			continue;
		ioeventfds[i].flags = KVM_IOEVENTFD_FLAG_DEASSIGN;
		fuzz_try(__vm_ioctl(fuzz.vm, KVM_IOEVENTFD, &ioeventfds[i]), 0);
		ioeventfds[i].fd = 0;
	}
	for (dev = devs; dev < devs + NR_DEVS; dev++) {
		while (dev->nr_fds)
			close(dev->fds[--dev->nr_fds]);
		if (dev->nr_handed)
			tell_peer(dev, &message, -1);
		dev->nr_handed = 0;
		model_put(dev);
	}
	/* What is mapped stays as it was. */
	check_views();
	check_threads();
	for (dev = devs; dev < devs + NR_DEVS; dev++) {
		if (dev->slot)
			remove_slot(dev);
	}
	for (i = 0; i < NR_VIEWS; i++) {
		if (views[i].dev)
			unmap(&views[i]);
	}
}

FIXTURE(model) {
};

FIXTURE_SETUP(model)
{
	fuzz_begin();
	fuzz_alloc_args(&args);
	start_peer();
}

FIXTURE_TEARDOWN_PARENT(model)
{
	vcf_switch_on();
}

TEST_F_TIMEOUT(model, foretells_every_operation, 7200)
{
	u32 i;

	do {
		fuzz_start_random(fuzz.seed);
		fuzz_begin_episode();
		enabled = true;
		memset(nr_requests, 0, sizeof(nr_requests));
		memset(nr_hints, 0, sizeof(nr_hints));
		memset(requested, 0, sizeof(requested));
		for (i = 0; i < FUZZ_VCPUS; i++)
			start_thread(&threads[i]);

		for (i = 0; i < EPISODE_OPS; i++) {
			fuzz_do_random_op(ops, ARRAY_SIZE(ops));
			fuzz_check_signals();
		}
		op_check();

		close_all();
		for (i = 0; i < FUZZ_VCPUS; i++)
			vcf_worker_stop(&threads[i].worker);
		fuzz_end_episode();
	} while (fuzz_is_time_left());
	fuzz_print_counts(ops, ARRAY_SIZE(ops));
	fuzz_end();
}

int main(int argc, char *argv[])
{
	TEST_REQUIRE(kvm_has_cap(KVM_CAP_VIRT_CPUFREQ));
	return test_harness_run(argc, argv);
}
