// SPDX-License-Identifier: GPL-2.0-only
/*
 * What the tests of KVM_CREATE_VIRT_CPUFREQ by random operations share
 */
#include <fcntl.h>
#include <stdarg.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>

#include "virt_cpufreq_fuzz.h"

#define NR_LAST		24

struct fuzz fuzz;

static char last_ops[NR_LAST][128];
static u32 nr_notes;
static bool good;
static struct timespec begin;
static int nr_areas, first_free_fd;
static char debugfs_dir[64];

static __thread u32 random_state;
static __thread bool noted;

void fuzz_note(const char *fmt, ...)
{
	u32 i = __atomic_fetch_add(&nr_notes, 1, __ATOMIC_RELAXED) % NR_LAST;
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(last_ops[i], sizeof(last_ops[i]), fmt, ap);
	va_end(ap);
	noted = true;
}

static void print_last_ops(void)
{
	u32 i = nr_notes > NR_LAST ? nr_notes - NR_LAST : 0;

	if (good)
		return;
	printf("# VCF_FUZZ_SEED=%u; the last operations:\n", fuzz.seed);
	for (; i < nr_notes; i++)
		printf("# %6u %s\n", i, last_ops[i % NR_LAST]);
}

void fuzz_start_random(u32 s)
{
	random_state = s * 2654435761u + 1;
}

u32 fuzz_rnd(u32 n)
{
	random_state ^= random_state << 13;
	random_state ^= random_state >> 17;
	random_state ^= random_state << 5;
	return (random_state >> 4) % n;
}

u32 fuzz_rnd_u32(void)
{
	static const u32 vals[] = {
		0, 1, 2, 3, 63, 64, 65, 1023, 1024, 1025, ~(1U << 31), 1U << 31, -1U,
	};

	if (fuzz_rnd(4))
		return vals[fuzz_rnd(ARRAY_SIZE(vals))];
	return fuzz_rnd(1U << 28) << 4 | fuzz_rnd(16);
}

/* Sets of errors; those here differ modulo 64. */
u64 fuzz_error(int error)
{
	return 1ULL << (error % 64);
}

void fuzz_expect(long r, u64 errors)
{
	bool fits = r < 0 ? errors & fuzz_error(-r) : !errors;

	/* An assertion that fails with EACCES there would only skip the test. */
	errno = 0;
	TEST_ASSERT(fits, "Got %ld (%s), expected %s (set %#lx)", r, r < 0 ? strerror(-r) : "",
		    errors ? "an error" : "success", (ulong)errors);
}

int fuzz_lowest_free_fd(void)
{
	int fd = dup(0);

	close(fd);
	return fd;
}

/* The end of so many bytes is that of readable memory. */
static void *alloc_before_hole(size_t bytes, void **hole)
{
	size_t size = getpagesize();
	void *mem = kvm_mmap(2 * size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1);

	*hole = mem + size;
	mprotect(*hole, size, PROT_NONE);
	return *hole - bytes;
}

void fuzz_alloc_args(struct fuzz_args *args)
{
	args->domain = alloc_before_hole(FUZZ_PAGES * sizeof(*args->domain), &args->domain_hole);
	args->page = alloc_before_hole(FUZZ_PAGES * sizeof(*args->page), &args->page_hole);
}

static void make_domain(struct kvm_virt_cpufreq_domain *domain)
{
	static const u32 lens[] = { 1, 2, 8, 63, 64 };
	u32 i, step = 1 + fuzz_rnd(1000);

	domain->capacity = fuzz_rnd(3) ? 1024 : 1 + fuzz_rnd(fuzz_rnd(4) ? 1024 : 65535);
	domain->nr_perf = lens[fuzz_rnd(ARRAY_SIZE(lens))];
	for (i = 0; i < ARRAY_SIZE(domain->perf); i++)
		domain->perf[i] = (i ? domain->perf[i - 1] : 0) + 1 + fuzz_rnd(step);
	if (!fuzz_rnd(8))
		domain->perf[domain->nr_perf - 1] = 0x7fffffff;
}

void fuzz_make_args(struct fuzz_args *args, u32 nr, const u32 vcpus[FUZZ_VCPUS])
{
	u32 i, nr_domains = 1 + fuzz_rnd(nr);

	args->create = (struct kvm_create_virt_cpufreq) {
		.gpa = VCF_REG(fuzz_rnd(FUZZ_WINDOW - nr + 1), 0),
		.domains = (u64)(ulong)args->domain,
		.vcpus = (u64)(ulong)args->page,
		.nr_domains = nr_domains,
		.nr_vcpus = nr,
		.flags = fuzz_rnd(VCF_ALL_FLAGS + 1) & VCF_ALL_FLAGS,
	};
	if (args->create.flags & KVM_VIRT_CPUFREQ_NOTIFY)
		args->create.notify_fd = fuzz.eventfds[fuzz_rnd(FUZZ_EVENTFDS)].fd;
	if (!fuzz_rnd(16))
		args->create.gpa = fuzz_rnd(2) ? 1UL << 40 : -(nr + 1UL) * VCF_PAGE_SIZE;

	for (i = 0; i < FUZZ_PAGES; i++) {
		make_domain(&args->domain[i]);
		args->page[i].domain = i % nr_domains;
		args->page[i].vcpu_id = i < FUZZ_VCPUS ? vcpus[i] : i;
	}
}

void fuzz_mutate(struct fuzz_args *args)
{
	static const u64 gpas[] = {
		0, 4, VCF_GPA + 4, VCF_GPA + 0x800, -1UL, -0x1000UL, -0x2000UL, 1UL << 63,
	};
	static const u32 nrs[] = { 0, 1, 7, 8, 9, KVM_MAX_VCPUS, KVM_MAX_VCPUS + 1, 1U << 20, -1U };
	static const u32 capacities[] = { 0, 1024, 65535, 65536, -1U }, lens[] = { 0, 1, 64, 65 };
	struct kvm_create_virt_cpufreq *create = &args->create;
	u32 i = fuzz_rnd(min(create->nr_vcpus, 3U) + 1);
	struct kvm_virt_cpufreq_vcpu *page = &args->page[i ? i - 1 : fuzz_rnd(FUZZ_PAGES)];
	struct kvm_virt_cpufreq_domain *domain = &args->domain[fuzz_rnd(2) ? 0 : fuzz_rnd(FUZZ_PAGES)];
	const u64 pages[] = {
		0, -1UL << 48, create->vcpus + 1, create->vcpus + sizeof(*page),
		(ulong)args->page_hole - 4, (ulong)args->page_hole,
	};
	const u64 domains[] = {
		0, -1UL << 48, create->domains + 1, create->domains + sizeof(*domain),
		(ulong)args->domain_hole - 4, (ulong)args->domain_hole,
	};
	const int fds[] = { -1, 1 << 20, 0, 1, create->notify_fd + 1 };

	switch (fuzz_rnd(15)) {
	case 0:
		create->gpa = gpas[fuzz_rnd(ARRAY_SIZE(gpas))];
		break;
	case 1:
		create->vcpus = pages[fuzz_rnd(ARRAY_SIZE(pages))];
		break;
	case 2:
		create->nr_vcpus = nrs[fuzz_rnd(ARRAY_SIZE(nrs))];
		break;
	case 3:
		create->flags ^= 1U << fuzz_rnd(fuzz_rnd(2) ? 5 : 32);
		break;
	case 4:
		create->notify_fd = fds[fuzz_rnd(ARRAY_SIZE(fds))];
		break;
	case 5:
		create->reserved[fuzz_rnd(4)] = fuzz_rnd_u32();
		break;
	case 6:
		page->vcpu_id = fuzz_rnd(2) ? fuzz_rnd(FUZZ_VCPUS + 1) : fuzz_rnd_u32();
		break;
	case 7:
		page->domain = fuzz_rnd(2) ? fuzz_rnd(2) : fuzz_rnd_u32();
		break;
	case 8:
		domain->capacity = capacities[fuzz_rnd(ARRAY_SIZE(capacities))];
		break;
	case 9:
		domain->nr_perf = lens[fuzz_rnd(ARRAY_SIZE(lens))];
		break;
	case 10:
		create->domains = domains[fuzz_rnd(ARRAY_SIZE(domains))];
		break;
	case 11:
		create->nr_domains = fuzz_rnd(2) ? fuzz_rnd(4) : nrs[fuzz_rnd(ARRAY_SIZE(nrs))];
		break;
	default:
		i = fuzz_rnd(min(domain->nr_perf, 64U) + 1) % 64;
		domain->perf[i] = fuzz_rnd(4) ? domain->perf[i] + fuzz_rnd(3) - 1 : fuzz_rnd_u32();
	}
}

static bool is_good_domain(const struct kvm_virt_cpufreq_domain *domain)
{
	u32 i;

	if (domain->capacity - 1 >= 65535 || domain->nr_perf - 1 >= 64 || !domain->perf[0])
		return false;
	for (i = 1; i < domain->nr_perf; i++) {
		if (domain->perf[i] <= domain->perf[i - 1])
			return false;
	}
	return vcf_highest(domain) <= 0x7fffffff;
}

/* False if there is no memory; then nobody can tell about what is behind it. */
static bool read_entry(void *to, u64 from, size_t size, const void *begin, const void *hole)
{
	if (from < (ulong)begin || from + size > (ulong)hole)
		return false;
	memcpy(to, (void *)from, size);
	return true;
}

u64 fuzz_args_errors(const struct fuzz_args *args, struct fuzz_desc *desc)
{
	const struct kvm_create_virt_cpufreq *create = &args->create;
	u64 size = create->nr_vcpus * (u64)VCF_PAGE_SIZE, errors = 0;
	u32 i, j, used = 0;

	for (i = 0; i < 4; i++)
		errors |= create->reserved[i] ? fuzz_error(EINVAL) : 0;
	if (create->flags & ~VCF_ALL_FLAGS ||
	    (create->notify_fd && !(create->flags & KVM_VIRT_CPUFREQ_NOTIFY)) ||
	    create->gpa % VCF_PAGE_SIZE || create->gpa + size < create->gpa ||
	    create->nr_vcpus - 1 >= KVM_MAX_VCPUS || create->nr_domains - 1 >= KVM_MAX_VCPUS)
		errors |= fuzz_error(EINVAL);
	if (errors)
		return errors;

	for (i = 0; i < create->nr_domains; i++) {
		if (!read_entry(&desc->domain[i], create->domains + i * sizeof(desc->domain[i]),
				sizeof(desc->domain[i]), args->domain, args->domain_hole))
			return errors | fuzz_error(EFAULT);
		if (!is_good_domain(&desc->domain[i]))
			errors |= fuzz_error(EINVAL);
	}
	for (i = 0; i < create->nr_vcpus; i++) {
		const struct kvm_virt_cpufreq_vcpu *page = &desc->page[i];

		if (!read_entry(&desc->page[i], create->vcpus + i * sizeof(*page), sizeof(*page),
				args->page, args->page_hole))
			return errors | fuzz_error(EFAULT);
		if (page->domain >= create->nr_domains)
			errors |= fuzz_error(EINVAL);
		else
			used |= 1U << page->domain;
		if (page->vcpu_id >= FUZZ_VCPUS)
			errors |= fuzz_error(ENOENT);
		for (j = 0; j < i; j++)
			errors |= desc->page[j].vcpu_id == page->vcpu_id ? fuzz_error(EEXIST) : 0;
	}
	if (used != (1U << create->nr_domains) - 1)
		errors |= fuzz_error(EINVAL);
	return errors;
}

static u64 notify_error(int fd)
{
	char path[64], target[64] = "";
	int flags = fcntl(fd, F_GETFL);

	if (flags < 0 || flags & O_PATH)
		return fuzz_error(EBADF);
	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	readlink(path, target, sizeof(target) - 1);
	return strcmp(target, "anon_inode:[eventfd]") ? fuzz_error(EINVAL) : 0;
}

u64 fuzz_notify_errors(const struct kvm_create_virt_cpufreq *create)
{
	return create->flags & KVM_VIRT_CPUFREQ_NOTIFY ? notify_error(create->notify_fd) : 0;
}

void fuzz_do_access(void *arg)
{
	struct fuzz_access *a = arg;
	struct kvm_run *run = a->vcpu->run;

	if (a->store)
		a->served = __vcf_store(a->vcpu, a->gpa, a->size, a->val);
	else
		a->served = __vcf_load(a->vcpu, a->gpa, a->size, &a->val);
	if (a->served)
		return;
	a->right = run->exit_reason == KVM_EXIT_MMIO && run->mmio.phys_addr == a->gpa &&
		   run->mmio.len == a->size && run->mmio.is_write == a->store &&
		   (!a->store || !memcmp(run->mmio.data, &a->val, a->size));
	*(u64 *)run->mmio.data = FUZZ_REPLY;
	a->right &= vcf_continue(a->vcpu, a->store ? NULL : &a->val);
}

void fuzz_do_random_op(struct fuzz_op ops[], u32 nr)
{
	u32 i, sum = 0, at;

	for (i = 0; i < nr; i++)
		sum += ops[i].weight;
	at = fuzz_rnd(sum);
	for (i = 0; at >= ops[i].weight; i++)
		at -= ops[i].weight;
	noted = false;
	ops[i].fn();
	/* Otherwise there was nothing to do it with. */
	if (noted)
		__atomic_fetch_add(&ops[i].count, 1, __ATOMIC_RELAXED);
}

void fuzz_print_counts(const struct fuzz_op ops[], u32 nr)
{
	u32 i, sum = 0;

	for (i = 0; i < nr; i++)
		sum += ops[i].count;
	printf("# %u operations, episodes up to %u:", sum, fuzz.seed);
	for (i = 0; i < nr; i++)
		printf(" %s %u", ops[i].name, ops[i].count);
	printf("\n");
}

void fuzz_check_signals(void)
{
	u32 i;
	u64 n;

	for (i = 0; i < FUZZ_EVENTFDS; i++) {
		if (read(fuzz.eventfds[i].fd, &n, sizeof(n)) != sizeof(n))
			n = 0;
		TEST_ASSERT(n == fuzz.eventfds[i].signals, "%lu signals on eventfd %u, not %lu",
			    (ulong)n, i, (ulong)fuzz.eventfds[i].signals);
		fuzz.eventfds[i].signals = 0;
	}
}

void fuzz_make_access(struct fuzz_access *a, u64 gpa)
{
	static const u32 offsets[] = {
		REG_END, REG_END + 4, 0x1fc, 0x800, 0xff8, 0xffc, 1, 2, 5, 6, 9, 0x11, 0x13, 0x17,
	};
	u32 offset = 4 * fuzz_rnd(REG_END / 4);

	if (!fuzz_rnd(8))
		offset = offsets[fuzz_rnd(ARRAY_SIZE(offsets))];
	a->size = fuzz_rnd(4) ? 4 : 1U << fuzz_rnd(4);
	a->store = fuzz_rnd(2);
	if (a->store && fuzz_rnd(2))
		offset = REG_SET_PERF;
	/* Across the end of a page it would be two accesses. */
	a->gpa = gpa + min(offset, VCF_PAGE_SIZE - a->size);
	a->val = fuzz_rnd(2) ? fuzz_rnd(2) * fuzz_rnd(2000) : fuzz_rnd_u32();
}

void fuzz_send(int socket, void *data, size_t size, int fd)
{
	union {
		struct cmsghdr header;
		char space[CMSG_SPACE(sizeof(int))];
	} control = {
		.header = {
			.cmsg_len = CMSG_LEN(sizeof(int)),
			.cmsg_level = SOL_SOCKET,
			.cmsg_type = SCM_RIGHTS,
		},
	};
	struct iovec iov = { data, size };
	struct msghdr msg = { .msg_iov = &iov, .msg_iovlen = 1 };

	if (fd >= 0) {
		memcpy(CMSG_DATA(&control.header), &fd, sizeof(fd));
		msg.msg_control = &control;
		msg.msg_controllen = sizeof(control);
	}
	TEST_ASSERT(sendmsg(socket, &msg, 0) == size, "sendmsg() failed");
}

int fuzz_receive(int socket, void *data, size_t size)
{
	char control[CMSG_SPACE(sizeof(int))];
	struct iovec iov = { data, size };
	struct msghdr msg = {
		.msg_iov = &iov,
		.msg_iovlen = 1,
		.msg_control = control,
		.msg_controllen = sizeof(control),
	};
	int fd = -1;

	if (recvmsg(socket, &msg, MSG_CMSG_CLOEXEC) != size)
		return -2;
	if (CMSG_FIRSTHDR(&msg))
		memcpy(&fd, CMSG_DATA(CMSG_FIRSTHDR(&msg)), sizeof(fd));
	return fd;
}

static u32 env(const char *name, u32 otherwise)
{
	const char *val = getenv(name);

	return val ? strtoul(val, NULL, 0) : otherwise;
}

void fuzz_begin(void)
{
	setvbuf(stdout, NULL, _IOLBF, 0);
	fuzz.seed = env("VCF_FUZZ_SEED", 1);
	atexit(print_last_ops);
	nr_areas = vcf_nr_areas();
	clock_gettime(CLOCK_MONOTONIC, &begin);
}

bool fuzz_is_time_left(void)
{
	return timespec_elapsed(begin).tv_sec < env("VCF_FUZZ_SECONDS", 3);
}

void fuzz_end(void)
{
	good = true;
}

void fuzz_begin_episode(void)
{
	u32 i;

	first_free_fd = fuzz_lowest_free_fd();
	fuzz.vm = vcf_vm_create(FUZZ_VCPUS, fuzz.vcpus);
	snprintf(debugfs_dir, sizeof(debugfs_dir), "/sys/kernel/debug/kvm/%d-%d", getpid(),
		 fuzz.vm->fd);
	for (i = 0; i < FUZZ_EVENTFDS; i++) {
		fuzz.eventfds[i].fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
		fuzz.eventfds[i].signals = 0;
	}
}

/* A device over all of the vCPUs works and is alone. */
static void check_new_device(void)
{
	struct vcf_args args;
	u32 i;
	int fd;

	vcf_args_init(&args, FUZZ_VCPUS, VCF_ALL_FLAGS);
	args.create.notify_fd = fuzz.eventfds[0].fd;
	fd = vcf_create(fuzz.vm, &args);
	for (i = 0; i < FUZZ_VCPUS; i++) {
		TEST_ASSERT_EQ(vcf_load(fuzz.vcpus[i], VCF_REG(i, REG_SET_PERF)), 128 * i);
		vcf_set_perf(fuzz.vcpus[i], (i + 1) % FUZZ_VCPUS, 128 * (i + 1));
		TEST_ASSERT_EQ(vcf_uclamp(vcf_gettid()).eff_min, 128 * (i + 1));
	}
	close(fd);
	TEST_ASSERT_EQ(vcf_uclamp(vcf_gettid()).eff_min, 0);
	fuzz.eventfds[0].signals = FUZZ_VCPUS;
	fuzz_check_signals();
}

void fuzz_end_episode(void)
{
	u32 i;

	vcf_switch_on();
	fuzz_check_signals();
	TEST_ASSERT(VCF_WAIT_FOR(vcf_nr_areas() <= nr_areas), "%d areas, %d before",
		    vcf_nr_areas(), nr_areas);
	check_new_device();
	for (i = 0; i < FUZZ_EVENTFDS; i++)
		close(fuzz.eventfds[i].fd);
	kvm_vm_free(fuzz.vm);
	TEST_ASSERT_EQ(fuzz_lowest_free_fd(), first_free_fd);
	TEST_ASSERT(access(debugfs_dir, F_OK), "Something keeps the VM: %s", debugfs_dir);
	fuzz.seed++;
}
