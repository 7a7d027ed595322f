// SPDX-License-Identifier: GPL-2.0-only
/*
 * KVM_CREATE_VIRT_CPUFREQ: the ioctl, its errors, the registers and the descriptor
 *
 * What the requests do to the threads is in virt_cpufreq_hint_test.c, the mapped pages
 * are in virt_cpufreq_page_test.c, and what a VMM does besides in virt_cpufreq_vmm_test.c.
 */
#include <assert.h>
#include <fcntl.h>
#include <stddef.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/wait.h>

#include <linux/sizes.h>

#include "kvm_test_harness.h"
#include "processor.h"
#include "ucall_common.h"
#include "virt_cpufreq.h"

/* What userspace has been built with */
static_assert(KVM_CAP_VIRT_CPUFREQ == 252);
static_assert(KVM_CREATE_VIRT_CPUFREQ == 0x4038aed6);
static_assert(KVM_VIRT_CPUFREQ_SET_REGS == 0x4010aed7);
static_assert(sizeof(struct kvm_virt_cpufreq_domain) == 264);
static_assert(offsetof(struct kvm_virt_cpufreq_domain, perf) == 8);
static_assert(sizeof(struct kvm_virt_cpufreq_vcpu) == 8);
static_assert(sizeof(struct kvm_create_virt_cpufreq) == 56);
static_assert(offsetof(struct kvm_create_virt_cpufreq, vcpus) == 16);
static_assert(offsetof(struct kvm_create_virt_cpufreq, notify_fd) == 36);
static_assert(sizeof(struct kvm_virt_cpufreq_regs) == 16);
static_assert(offsetof(struct kvm_virt_cpufreq_regs, perftbl_sel) == 8);

static int lowest_free_fd(void)
{
	int fd = dup(0);

	close(fd);
	return fd;
}

/* The VM has nothing at @gpa: a store arrives at the VMM. */
static bool store_exits(struct kvm_vcpu *vcpu, gpa_t gpa)
{
	bool done = __vcf_store(vcpu, gpa, 4, 1);
	bool exits = !done && vcpu->run->exit_reason == KVM_EXIT_MMIO &&
		     vcpu->run->mmio.phys_addr == gpa;

	if (!done)
		vcf_continue(vcpu, NULL);
	return exits;
}

/* The device works: two different requests, because one could be a leftover. */
static bool device_works(struct kvm_vcpu *vcpu, u32 page)
{
	gpa_t gpa = VCF_REG(page, REG_SET_PERF);

	vcf_store(vcpu, gpa, 128);
	if (vcf_load(vcpu, gpa) != 128)
		return false;
	vcf_store(vcpu, gpa, 1000);
	return vcf_load(vcpu, gpa) == 1000;
}

FIXTURE(vm) {
	struct kvm_vm *vm;
	struct kvm_vcpu *vcpus[2];
	struct vcf_args args;
};

FIXTURE_SETUP(vm)
{
	self->vm = vcf_vm_create(2, self->vcpus);
	vcf_args_init(&self->args, 2, KVM_VIRT_CPUFREQ_HINT_MIN);
}

FIXTURE_TEARDOWN(vm)
{
	kvm_vm_free(self->vm);
}

TEST_F(vm, capability_has_all_flags)
{
	EXPECT_EQ(VCF_ALL_FLAGS, vm_check_cap(self->vm, KVM_CAP_VIRT_CPUFREQ));
}

TEST_F(vm, each_set_of_served_flags_makes_a_device)
{
	int eventfd = kvm_new_eventfd(), fd;
	u32 flags;

	for (flags = 0; flags <= VCF_ALL_FLAGS; flags++) {
		if (flags & ~VCF_ALL_FLAGS)
			continue;
		self->args.create.flags = flags;
		self->args.create.notify_fd = flags & KVM_VIRT_CPUFREQ_NOTIFY ? eventfd : 0;
		fd = __vcf_create(self->vm, &self->args);
		ASSERT_LE(0, fd);
		EXPECT_TRUE(device_works(self->vcpus[0], 1));
		EXPECT_EQ(0, close(fd));
	}
}

TEST_F(vm, entries_beyond_nr_perf_are_ignored)
{
	int fd;

	memset(&self->args.domain[0].perf[8], 0xff, 56 * sizeof(u32));
	fd = __vcf_create(self->vm, &self->args);
	EXPECT_LE(0, fd);
	close(fd);
}

TEST_F(vm, device_may_begin_anywhere_in_a_host_page)
{
	int fd;

	self->args.create.gpa = VCF_GPA + 3 * VCF_PAGE_SIZE;
	fd = __vcf_create(self->vm, &self->args);
	ASSERT_LE(0, fd);
	EXPECT_TRUE(device_works(self->vcpus[1], 3));
	EXPECT_TRUE(store_exits(self->vcpus[0], VCF_REG(2, REG_SET_PERF)));
	EXPECT_TRUE(store_exits(self->vcpus[0], VCF_REG(5, REG_SET_PERF)));
	close(fd);
}

TEST_F(vm, highest_possible_region_is_accepted)
{
	int fd;

	/* The end must not overflow, so the very last page of all cannot be had. */
	self->args.create.gpa = -3UL * VCF_PAGE_SIZE;
	fd = __vcf_create(self->vm, &self->args);
	EXPECT_LE(0, fd);
	close(fd);
}

/* Its vCPUs are not run, so the VMM makes the requests. */
TEST_F(vm, device_may_have_a_page_for_each_vcpu_of_the_biggest_vm)
{
	u32 nr = kvm_check_cap(KVM_CAP_MAX_VCPUS), i;
	struct kvm_virt_cpufreq_vcpu *pages = calloc(nr, sizeof(*pages));
	struct kvm_vm *vm = vm_create_barebones();
	const void *map;
	int fd;

	kvm_set_files_rlimit(nr);
	self->args.create.vcpus = (uintptr_t)pages;
	self->args.create.nr_domains = 2;
	self->args.create.nr_vcpus = nr;
	for (i = 0; i < nr; i++) {
		__vm_vcpu_add(vm, i);
		pages[i].vcpu_id = nr - 1 - i;
		pages[i].domain = i % 2;
	}
	fd = vcf_create(vm, &self->args);
	map = vcf_map(fd, nr);

	vcf_set_regs(fd, nr - 1, 300, 1);
	EXPECT_EQ(-EINVAL, __vcf_set_regs(fd, nr, 300, 1));
	for (i = 0; i < nr; i++) {
		EXPECT_EQ(i % 2, vcf_map_reg(map, i, REG_PERF_DOMAIN));
		EXPECT_EQ(i % 2 == (nr - 1) % 2 ? 300 : 0, vcf_map_reg(map, i, REG_SET_PERF));
		EXPECT_EQ(i == nr - 1 ? 256 : 128, vcf_map_reg(map, i, REG_PERFTBL_RD));
	}

	vcf_unmap(map, nr);
	close(fd);
	free(pages);
	kvm_vm_free(vm);
}

TEST_F(vm, two_devices_of_a_vm_are_independent)
{
	struct vcf_args *args = &self->args;
	int fd[2];

	args->create.nr_vcpus = 1;
	fd[0] = vcf_create(self->vm, args);
	args->create.gpa += VCF_PAGE_SIZE;
	args->page[0].vcpu_id = 1;
	fd[1] = vcf_create(self->vm, args);

	vcf_set_perf(self->vcpus[0], 0, 300);
	vcf_set_perf(self->vcpus[0], 1, 700);
	EXPECT_EQ(300, vcf_load(self->vcpus[1], VCF_REG(0, REG_SET_PERF)));
	EXPECT_EQ(700, vcf_load(self->vcpus[1], VCF_REG(1, REG_SET_PERF)));

	close(fd[0]);
	EXPECT_TRUE(store_exits(self->vcpus[0], VCF_REG(0, REG_SET_PERF)));
	EXPECT_TRUE(device_works(self->vcpus[0], 1));
	close(fd[1]);
	EXPECT_TRUE(store_exits(self->vcpus[0], VCF_REG(1, REG_SET_PERF)));
}

/*
 * The administrator's switch. The old value is back even after a failed test,
 * hence in the parent.
 */
FIXTURE(module_param) {
	struct kvm_vm *vm;
	struct kvm_vcpu *vcpus[2];
	struct vcf_args args;
};

FIXTURE_SETUP(module_param)
{
	self->vm = vcf_vm_create(2, self->vcpus);
	vcf_args_init(&self->args, 1, KVM_VIRT_CPUFREQ_HINT_MIN);
	if (access(VCF_MODULE_PARAM, W_OK))
		SKIP(return, "cannot write %s", VCF_MODULE_PARAM);
}

FIXTURE_TEARDOWN_PARENT(module_param)
{
	vcf_switch_on();
}

TEST_F(module_param, off_refuses_new_devices_and_advertises_nothing)
{
	struct vcf_args *args = &self->args;

	vcf_write_file(VCF_MODULE_PARAM, "N");
	EXPECT_EQ(0, vm_check_cap(self->vm, KVM_CAP_VIRT_CPUFREQ));
	EXPECT_EQ(-EOPNOTSUPP, __vcf_create(self->vm, args));
	args->create.flags = 0;
	EXPECT_EQ(-EOPNOTSUPP, __vcf_create(self->vm, args));
}

TEST_F(module_param, off_leaves_an_existing_device_alone)
{
	int fd = vcf_create(self->vm, &self->args);

	vcf_write_file(VCF_MODULE_PARAM, "N");
	EXPECT_TRUE(device_works(self->vcpus[0], 0));
	EXPECT_EQ(1000, vcf_uclamp(vcf_gettid()).eff_min);
	close(fd);
	EXPECT_EQ(0, vcf_uclamp(vcf_gettid()).eff_min);
}

TEST_F(module_param, on_again_lets_devices_be_made_again)
{
	vcf_write_file(VCF_MODULE_PARAM, "0");
	vcf_write_file(VCF_MODULE_PARAM, "1");
	EXPECT_EQ(VCF_ALL_FLAGS, vm_check_cap(self->vm, KVM_CAP_VIRT_CPUFREQ));
	EXPECT_LE(0, __vcf_create(self->vm, &self->args));
}

/*
 * The errno table: what is wrong with a call that is otherwise good, and what it
 * returns. A refused call must leave the VM as it was.
 */
FIXTURE(refused) {
	struct kvm_vm *vm;
	struct kvm_vcpu *vcpus[2];
	struct vcf_args args;
};

FIXTURE_VARIANT(refused) {
	void (*spoil)(struct vcf_args *args);
	int error;
};

FIXTURE_SETUP(refused)
{
	self->vm = vcf_vm_create(2, self->vcpus);
	vcf_args_init(&self->args, 2, KVM_VIRT_CPUFREQ_HINT_MIN);
}

FIXTURE_TEARDOWN(refused)
{
	kvm_vm_free(self->vm);
}

TEST_F(refused, and_the_vm_is_as_it_was)
{
	struct vcf_args good = self->args;
	int fd_before;

	variant->spoil(&self->args);
	fd_before = lowest_free_fd();
	ASSERT_EQ(-variant->error, __vcf_create(self->vm, &self->args));

	EXPECT_EQ(fd_before, lowest_free_fd());
	EXPECT_TRUE(store_exits(self->vcpus[0], VCF_REG(0, REG_SET_PERF)));
	EXPECT_TRUE(store_exits(self->vcpus[1], VCF_REG(1, REG_SET_PERF)));

	vcf_args_bind(&good);
	ASSERT_LE(0, __vcf_create(self->vm, &good));
	EXPECT_TRUE(device_works(self->vcpus[0], 0));
	EXPECT_TRUE(device_works(self->vcpus[1], 1));
}

#define REFUSED(_error, what, spoiling)					\
static void spoil_##what(struct vcf_args *args)				\
{									\
	spoiling;							\
}									\
FIXTURE_VARIANT_ADD(refused, what##_##_error)				\
{									\
	.spoil = spoil_##what,						\
	.error = _error,						\
}

/* Flags */
REFUSED(EINVAL, first_unknown_flag, args->create.flags |= 1 << 4);
REFUSED(EINVAL, last_unknown_flag, args->create.flags |= 1U << 31);
/* Between the known ones: reserved for a hint on utilisation */
REFUSED(EINVAL, unknown_hint_alone, args->create.flags = 1 << 2);
REFUSED(EINVAL, unknown_hint_with_hint_min, args->create.flags |= 1 << 2);
REFUSED(EINVAL, notify_fd_without_notify, args->create.notify_fd = 1);
REFUSED(EINVAL, negative_notify_fd_without_notify, args->create.notify_fd = -1);

static void notify(struct vcf_args *args, int fd)
{
	args->create.flags |= KVM_VIRT_CPUFREQ_NOTIFY;
	args->create.notify_fd = fd;
}

REFUSED(EBADF, negative_notify_fd, notify(args, -1));
REFUSED(EBADF, notify_fd_that_is_not_open, notify(args, 1 << 20));
REFUSED(EBADF, notify_fd_that_is_a_path_only, notify(args, open("/", O_PATH)));
REFUSED(EINVAL, notify_fd_that_is_no_eventfd, notify(args, open("/dev/null", O_RDWR)));

/* The other members of struct kvm_create_virt_cpufreq */
REFUSED(EINVAL, first_reserved, args->create.reserved[0] = 1);
REFUSED(EINVAL, last_reserved, args->create.reserved[3] = 1U << 31);
REFUSED(EINVAL, gpa_of_a_register, args->create.gpa += 4);
REFUSED(EINVAL, gpa_in_the_middle_of_a_page, args->create.gpa += VCF_PAGE_SIZE / 2);
REFUSED(EINVAL, gpa_whose_end_overflows, args->create.gpa = -1UL * VCF_PAGE_SIZE);
REFUSED(EINVAL, gpa_whose_end_is_0, args->create.gpa = -2UL * VCF_PAGE_SIZE);
REFUSED(EINVAL, no_vcpus, args->create.nr_vcpus = 0);
REFUSED(EINVAL, more_vcpus_than_kvm_has, args->create.nr_vcpus = KVM_MAX_VCPUS + 1);
REFUSED(EINVAL, as_many_vcpus_as_can_be_said, args->create.nr_vcpus = -1U);
REFUSED(EINVAL, nr_vcpus_whose_size_overflows, args->create.nr_vcpus = 1U << 20);
REFUSED(EINVAL, no_domains, args->create.nr_domains = 0);
REFUSED(EINVAL, more_domains_than_kvm_has_vcpus, args->create.nr_domains = KVM_MAX_VCPUS + 1);
REFUSED(EINVAL, as_many_domains_as_can_be_said, args->create.nr_domains = -1U);
REFUSED(EFAULT, domains_null, args->create.domains = 0);
REFUSED(EFAULT, domains_not_of_the_user, args->create.domains = -1UL << 48);
REFUSED(EFAULT, domains_with_a_hole,
	void *mem = kvm_mmap(2 * getpagesize(), PROT_READ | PROT_WRITE,
			     MAP_PRIVATE | MAP_ANONYMOUS, -1);
	void *domains = mem + getpagesize() - sizeof(args->domain[0]);

	memcpy(domains, args->domain, sizeof(args->domain[0]));
	kvm_munmap(mem + getpagesize(), getpagesize());
	vcf_args_set_domain(args, 1, 1);
	args->create.domains = (u64)domains);
REFUSED(EFAULT, vcpus_null, args->create.vcpus = 0);
REFUSED(EFAULT, vcpus_not_of_the_user, args->create.vcpus = -1UL << 48);
REFUSED(EFAULT, vcpus_with_a_hole,
	void *mem = kvm_mmap(2 * getpagesize(), PROT_READ | PROT_WRITE,
			     MAP_PRIVATE | MAP_ANONYMOUS, -1);
	void *vcpus = mem + getpagesize() - sizeof(args->page[0]);

	memcpy(vcpus, args->page, sizeof(args->page[0]));
	kvm_munmap(mem + getpagesize(), getpagesize());
	args->create.vcpus = (u64)vcpus);

/* struct kvm_virt_cpufreq_domain, the last one: each of them is looked at */
static struct kvm_virt_cpufreq_domain *last_domain(struct vcf_args *args)
{
	vcf_args_set_domain(args, 1, 1);
	return &args->domain[1];
}

REFUSED(EINVAL, capacity_0, last_domain(args)->capacity = 0);
REFUSED(EINVAL, capacity_65536, last_domain(args)->capacity = 65536);
REFUSED(EINVAL, nr_perf_0, last_domain(args)->nr_perf = 0);
REFUSED(EINVAL, nr_perf_65, last_domain(args)->nr_perf = 65);
REFUSED(EINVAL, perf_0, last_domain(args)->perf[0] = 0);
REFUSED(EINVAL, only_perf_0,
	last_domain(args)->perf[0] = 0;
	last_domain(args)->nr_perf = 1);
REFUSED(EINVAL, perf_twice, last_domain(args)->perf[7] = 896);
REFUSED(EINVAL, perf_descending, last_domain(args)->perf[7] = 895);
REFUSED(EINVAL, perf_beyond_s32, last_domain(args)->perf[7] = 1U << 31);
REFUSED(EINVAL, only_perf_beyond_s32,
	last_domain(args)->perf[0] = -1U;
	last_domain(args)->nr_perf = 1);

/* struct kvm_virt_cpufreq_vcpu */
REFUSED(EINVAL, domain_that_is_none, args->page[1].domain = 1);
REFUSED(EINVAL, domain_whose_offset_overflows, args->page[1].domain = -1U);
REFUSED(EINVAL, domain_without_a_vcpu, args->create.nr_domains = 2);
REFUSED(ENOENT, no_such_vcpu, args->page[1].vcpu_id = 2);
REFUSED(ENOENT, no_vcpu_can_have_this_id, args->page[0].vcpu_id = -1U);
REFUSED(EEXIST, same_vcpu_twice, args->page[1].vcpu_id = 0);

TEST_F(vm, efault_when_the_argument_is_not_there)
{
	int fd_before = lowest_free_fd();

	EXPECT_EQ(-1, ioctl(self->vm->fd, KVM_CREATE_VIRT_CPUFREQ, NULL));
	EXPECT_EQ(EFAULT, errno);
	EXPECT_EQ(fd_before, lowest_free_fd());
	EXPECT_LE(0, __vcf_create(self->vm, &self->args));
}

TEST_F(vm, eexist_when_a_vcpu_is_in_another_device)
{
	struct vcf_args other = self->args;
	int fd;

	/* The second vCPU is the one in use: the first must be let go again. */
	self->args.create.nr_vcpus = 1;
	self->args.page[0].vcpu_id = 1;
	fd = vcf_create(self->vm, &self->args);

	other.create.gpa += 2 * VCF_PAGE_SIZE;
	vcf_args_bind(&other);
	EXPECT_EQ(-EEXIST, __vcf_create(self->vm, &other));
	EXPECT_TRUE(store_exits(self->vcpus[0], VCF_REG(2, REG_SET_PERF)));
	EXPECT_TRUE(device_works(self->vcpus[1], 0));

	close(fd);
	EXPECT_LE(0, __vcf_create(self->vm, &other));
	EXPECT_TRUE(device_works(self->vcpus[0], 2));
	EXPECT_TRUE(device_works(self->vcpus[1], 3));
}

TEST_F(vm, emfile_when_there_is_no_descriptor_left)
{
	struct rlimit old, new;

	getrlimit(RLIMIT_NOFILE, &old);
	new = old;
	new.rlim_cur = lowest_free_fd();
	setrlimit(RLIMIT_NOFILE, &new);
	EXPECT_EQ(-EMFILE, __vcf_create(self->vm, &self->args));
	setrlimit(RLIMIT_NOFILE, &old);

	EXPECT_TRUE(store_exits(self->vcpus[0], VCF_REG(0, REG_SET_PERF)));
	EXPECT_LE(0, __vcf_create(self->vm, &self->args));
}

TEST_F(vm, enospc_when_the_bus_is_full)
{
	struct kvm_coalesced_mmio_zone zone = { .addr = 1UL << 32, .size = 8 };
	int fd_before = lowest_free_fd(), n = 0;

	/* Whatever the vCPU's first run puts onto the bus must find room. */
	vcf_enter(self->vcpus[0]);

	while (!__vm_ioctl(self->vm, KVM_REGISTER_COALESCED_MMIO, &zone)) {
		zone.addr += 8;
		ASSERT_GT(10000, ++n);
	}
	ASSERT_EQ(ENOSPC, errno);

	EXPECT_EQ(-ENOSPC, __vcf_create(self->vm, &self->args));
	EXPECT_EQ(fd_before, lowest_free_fd());
	EXPECT_TRUE(store_exits(self->vcpus[0], VCF_REG(0, REG_SET_PERF)));

	kvm_vm_unregister_coalesced_io(self->vm, 1UL << 32, 8, false);
	EXPECT_LE(0, __vcf_create(self->vm, &self->args));
	EXPECT_TRUE(device_works(self->vcpus[0], 0));
}

TEST_F(vm, eio_for_a_process_that_does_not_own_the_vm)
{
	int status;
	pid_t pid;

	pid = fork();
	if (!pid)
		_exit(__vcf_create(self->vm, &self->args) != -EIO);
	ASSERT_EQ(pid, waitpid(pid, &status, 0));
	EXPECT_EQ(0, status);
}

/* What else there can be on the bus, seen from a device of two pages */
static const struct neighbour {
	gpa_t addr;
	u32 len;
	bool overlaps;
} neighbours[] = {
	{ VCF_GPA - 8,			8, false },
	{ VCF_GPA - 1,			1, false },
	{ VCF_GPA - 4,			8, true },
	{ VCF_GPA,			1, true },
	{ VCF_GPA + REG_SET_PERF,	4, true },
	{ VCF_GPA + 0x18,		8, true },
	{ VCF_GPA + 0xffc,		8, true },
	{ VCF_GPA + 0x1fff,		1, true },
	{ VCF_GPA + 0x1ffc,		8, true },
	{ VCF_GPA + 0x2000,		8, false },
};

static bool has_neighbour(int r, const struct neighbour *n, struct kvm_vm *vm,
			  struct vcf_args *args)
{
	int fd = __vcf_create(vm, args);

	if (fd >= 0)
		close(fd);
	if (!r && (n->overlaps ? fd == -EEXIST : fd >= 0))
		return true;

	pr_info("# %u bytes at %#lx: created with %d\n", n->len, (ulong)n->addr, r ? r : fd);
	return false;
}

TEST_F(vm, eexist_when_a_coalesced_zone_overlaps)
{
	const struct neighbour wide = { VCF_GPA - 0x1000, 0x4000, true };
	int i, r;

	for (i = 0; i <= ARRAY_SIZE(neighbours); i++) {
		const struct neighbour *n = i ? &neighbours[i - 1] : &wide;
		struct kvm_coalesced_mmio_zone zone = { .addr = n->addr, .size = n->len };

		r = __vm_ioctl(self->vm, KVM_REGISTER_COALESCED_MMIO, &zone);
		EXPECT_TRUE(has_neighbour(r, n, self->vm, &self->args));
		kvm_vm_unregister_coalesced_io(self->vm, n->addr, n->len, false);
	}

	EXPECT_LE(0, __vcf_create(self->vm, &self->args));
}

static int ioeventfd(struct kvm_vm *vm, gpa_t addr, u32 len, int fd, u32 flags)
{
	struct kvm_ioeventfd args = { .addr = addr, .len = len, .fd = fd, .flags = flags };

	return __vm_ioctl(vm, KVM_IOEVENTFD, &args);
}

TEST_F(vm, eexist_when_an_ioeventfd_overlaps)
{
	int fd = kvm_new_eventfd(), i, r;

	for (i = 0; i < ARRAY_SIZE(neighbours); i++) {
		const struct neighbour *n = &neighbours[i];

		r = ioeventfd(self->vm, n->addr, n->len, fd, 0);
		EXPECT_TRUE(has_neighbour(r, n, self->vm, &self->args));
		ioeventfd(self->vm, n->addr, n->len, fd, KVM_IOEVENTFD_FLAG_DEASSIGN);
	}

	EXPECT_LE(0, __vcf_create(self->vm, &self->args));
}

TEST_F(vm, eexist_when_an_ioeventfd_of_any_length_is_inside)
{
	const struct neighbour inside[] = {
		{ VCF_GPA - 1,		0, false },
		{ VCF_GPA,		0, true },
		{ VCF_GPA + 0x1fff,	0, true },
		{ VCF_GPA + 0x2000,	0, false },
	};
	int fd = kvm_new_eventfd(), i, r;

	if (!kvm_has_cap(KVM_CAP_IOEVENTFD_ANY_LENGTH))
		SKIP(return, "no KVM_CAP_IOEVENTFD_ANY_LENGTH");

	for (i = 0; i < ARRAY_SIZE(inside); i++) {
		const struct neighbour *n = &inside[i];

		r = ioeventfd(self->vm, n->addr, 0, fd, 0);
		EXPECT_TRUE(has_neighbour(r, n, self->vm, &self->args));
		ioeventfd(self->vm, n->addr, 0, fd, KVM_IOEVENTFD_FLAG_DEASSIGN);
	}
}

/* How they are found depends on how many others are on the bus. */
TEST_F(vm, ioeventfd_of_any_length_behind_takes_no_access_away)
{
	int fd, eventfd = kvm_new_eventfd(), i;

	if (!kvm_has_cap(KVM_CAP_IOEVENTFD_ANY_LENGTH))
		SKIP(return, "no KVM_CAP_IOEVENTFD_ANY_LENGTH");

	ASSERT_EQ(0, ioeventfd(self->vm, VCF_GPA + 0x2000, 0, eventfd, 0));
	for (i = 0; i < 16; i++) {
		fd = vcf_create(self->vm, &self->args);
		EXPECT_TRUE(device_works(self->vcpus[0], 0));
		EXPECT_TRUE(device_works(self->vcpus[0], 1));
		close(fd);
		ASSERT_EQ(0, ioeventfd(self->vm, VCF_GPA + 0x3000 + 8 * i, 8, eventfd, 0));
	}
}

TEST_F(vm, eexist_when_another_such_device_overlaps)
{
	struct vcf_args other = self->args;
	int fd;

	self->args.create.nr_vcpus = 1;
	fd = vcf_create(self->vm, &self->args);

	other.create.nr_vcpus = 1;
	vcf_args_bind(&other);
	other.page[0].vcpu_id = 1;
	EXPECT_EQ(-EEXIST, __vcf_create(self->vm, &other));

	close(fd);
	EXPECT_LE(0, __vcf_create(self->vm, &other));
}

#ifdef __aarch64__
#include "gic.h"
#include "vgic.h"

TEST_F(vm, eexist_when_the_interrupt_controller_overlaps)
{
	if (!self->vm->arch.has_gic)
		SKIP(return, "no GICv3");

	/* The distributor gets onto the bus when a vCPU first runs. */
	vcf_enter(self->vcpus[0]);

	self->args.create.gpa = GICD_BASE_GPA + 0xf000;
	EXPECT_EQ(-EEXIST, __vcf_create(self->vm, &self->args));
	self->args.create.gpa = GICR_BASE_GPA;
	EXPECT_EQ(-EEXIST, __vcf_create(self->vm, &self->args));
	self->args.create.gpa = GICD_BASE_GPA - 2 * VCF_PAGE_SIZE;
	EXPECT_LE(0, __vcf_create(self->vm, &self->args));
}

/* Before that it is the VMM's mistake: where accesses end is nobody's promise. */
TEST_F(vm, interrupt_controller_that_comes_over_it_does_no_harm)
{
	struct kvm_vcpu *vcpu = self->vcpus[0];
	u32 reg;
	u64 val;
	int fd;

	if (!self->vm->arch.has_gic)
		SKIP(return, "no GICv3");

	self->args.create.gpa = GICD_BASE_GPA + 0x1000;
	virt_map(self->vm, self->args.create.gpa, self->args.create.gpa, 1);
	fd = vcf_create(self->vm, &self->args);
	for (reg = 0; reg < REG_END + 8; reg += 4) {
		if (!__vcf_store(vcpu, self->args.create.gpa + reg, 4, 0))
			vcf_continue(vcpu, NULL);
		if (!__vcf_load(vcpu, self->args.create.gpa + reg, 4, &val))
			vcf_continue(vcpu, NULL);
	}
	close(fd);
	self->args.create.gpa = VCF_GPA;
	vcf_create(self->vm, &self->args);
	EXPECT_TRUE(device_works(vcpu, 0));
}
#endif

/* Access each register from each page; what comes of it is nobody's promise. */
static void touch_everything(struct kvm_vcpu *vcpu)
{
	u32 page, reg;
	u64 val;

	for (page = 0; page < 3; page++) {
		for (reg = 0; reg < REG_END + 8; reg += 4) {
			if (!__vcf_store(vcpu, VCF_REG(page, reg), 4, reg))
				vcf_continue(vcpu, NULL);
			if (!__vcf_load(vcpu, VCF_REG(page, reg), 4, &val))
				vcf_continue(vcpu, NULL);
		}
	}
}

TEST_F(vm, ioeventfd_inside_afterwards_does_no_harm)
{
	const u32 lens[] = { 4, 8, 0, 1 };
	int fd, i, j, eventfd = kvm_new_eventfd();

	for (i = 0; i < 2 * ARRAY_SIZE(lens); i++) {
		u32 len = lens[i / 2];

		fd = vcf_create(self->vm, &self->args);
		for (j = 0; j < 3; j++)
			ioeventfd(self->vm, VCF_REG(j, REG_SET_PERF), len, eventfd, 0);
		touch_everything(self->vcpus[0]);

		/* The one leaves first, then the other. */
		if (i % 2)
			close(fd);
		touch_everything(self->vcpus[1]);
		for (j = 0; j < 3; j++)
			ioeventfd(self->vm, VCF_REG(j, REG_SET_PERF), len, eventfd,
				  KVM_IOEVENTFD_FLAG_DEASSIGN);
		if (!(i % 2)) {
			EXPECT_TRUE(device_works(self->vcpus[0], 1));
			close(fd);
		}
		EXPECT_TRUE(store_exits(self->vcpus[0], VCF_REG(1, REG_SET_PERF)));
	}
}

TEST_F(vm, coalesced_zone_inside_afterwards_does_no_harm)
{
	int fd, i;

	for (i = 0; i < 2; i++) {
		fd = vcf_create(self->vm, &self->args);
		kvm_vm_register_coalesced_io(self->vm, VCF_GPA + REG_SET_PERF, 4, false);
		kvm_vm_register_coalesced_io(self->vm, VCF_GPA - 0x1000, 0x3000, false);
		touch_everything(self->vcpus[0]);

		if (i)
			close(fd);
		kvm_vm_unregister_coalesced_io(self->vm, VCF_GPA - 0x1000, 0x3000, false);
		touch_everything(self->vcpus[1]);
		kvm_vm_unregister_coalesced_io(self->vm, VCF_GPA + REG_SET_PERF, 4, false);
		if (!i) {
			EXPECT_TRUE(device_works(self->vcpus[0], 0));
			close(fd);
		}
		EXPECT_TRUE(store_exits(self->vcpus[0], VCF_REG(0, REG_SET_PERF)));
	}
}

TEST_F(vm, neighbours_on_the_bus_get_their_stores)
{
	int before = kvm_new_eventfd(), after = kvm_new_eventfd();
	u64 val;

	ASSERT_EQ(0, ioeventfd(self->vm, VCF_GPA - 4, 4, before, 0));
	vcf_create(self->vm, &self->args);
	ASSERT_EQ(0, ioeventfd(self->vm, VCF_GPA + 2 * VCF_PAGE_SIZE, 4, after, 0));
	virt_map(self->vm, VCF_GPA - self->vm->page_size, VCF_GPA - self->vm->page_size, 1);

	vcf_store(self->vcpus[0], VCF_GPA - 4, 1);
	vcf_store(self->vcpus[0], VCF_GPA + 2 * VCF_PAGE_SIZE, 1);
	EXPECT_EQ(sizeof(val), read(before, &val, sizeof(val)));
	EXPECT_EQ(1, val);
	EXPECT_EQ(sizeof(val), read(after, &val, sizeof(val)));
	EXPECT_EQ(1, val);
	EXPECT_TRUE(device_works(self->vcpus[0], 0));
	EXPECT_TRUE(device_works(self->vcpus[0], 1));
}

/*
 * The registers: pages 0 and 1 are one domain with a table, page 2 is another
 * without; vCPU 3 has no page.
 */
#define TABLE_DOMAIN	0
#define TABLE_LEN	5
#define TABLE_CAPACITY	700
#define TABLE_HIGHEST	1000
#define PLAIN_DOMAIN	1
#define PLAIN_HIGHEST	0x7fffffff

static const u32 table[TABLE_LEN] = { 1, 200, 300, 400, TABLE_HIGHEST };

FIXTURE(regs) {
	struct kvm_vm *vm;
	struct kvm_vcpu *vcpus[4];
	struct kvm_vcpu *vcpu;
	int fd;
};

FIXTURE_VARIANT(regs) {
	u32 flags;
};

FIXTURE_VARIANT_ADD(regs, without_hints) {
};

FIXTURE_VARIANT_ADD(regs, with_hints) {
	.flags = VCF_HINT_MINMAX,
};

FIXTURE_SETUP(regs)
{
	struct vcf_args args;

	self->vm = vcf_vm_create(4, self->vcpus);
	self->vcpu = self->vcpus[0];

	vcf_args_init(&args, 3, variant->flags);
	args.domain[TABLE_DOMAIN].capacity = TABLE_CAPACITY;
	args.domain[TABLE_DOMAIN].nr_perf = TABLE_LEN;
	memcpy(args.domain[TABLE_DOMAIN].perf, table, sizeof(table));
	args.domain[PLAIN_DOMAIN].nr_perf = 1;
	args.domain[PLAIN_DOMAIN].perf[0] = PLAIN_HIGHEST;
	vcf_args_set_domain(&args, 2, PLAIN_DOMAIN);
	self->fd = vcf_create(self->vm, &args);
}

FIXTURE_TEARDOWN(regs)
{
	kvm_vm_free(self->vm);
	close(self->fd);
}

#define LOAD(page, reg)		vcf_load(self->vcpu, VCF_REG(page, reg))
#define STORE(page, reg, val)	vcf_store(self->vcpu, VCF_REG(page, reg), val)

TEST_F(regs, initial_values_are_no_request_and_no_selection)
{
	int page;

	for (page = 0; page < 3; page++) {
		EXPECT_EQ(0, LOAD(page, REG_SET_PERF));
		EXPECT_EQ(0, LOAD(page, REG_PERFTBL_SEL));
		EXPECT_EQ(page < 2 ? table[0] : PLAIN_HIGHEST, LOAD(page, REG_PERFTBL_RD));
	}
}

TEST_F(regs, set_perf_has_the_last_accepted_request)
{
	const struct {
		u32 store, load;
	} requests[] = {
		{ 1, 1 },
		{ 200, 200 },
		{ 201, 201 },
		{ 999, 999 },
		{ TABLE_HIGHEST, TABLE_HIGHEST },
		{ 0, 1 },
		{ TABLE_HIGHEST + 1, TABLE_HIGHEST },
		{ 2, 2 },
		{ 1U << 31, TABLE_HIGHEST },
		{ 3, 3 },
		{ -1U, TABLE_HIGHEST },
	};
	int i;

	for (i = 0; i < ARRAY_SIZE(requests); i++) {
		STORE(0, REG_SET_PERF, requests[i].store);
		EXPECT_EQ(requests[i].load, LOAD(0, REG_SET_PERF));
	}
}

TEST_F(regs, set_perf_without_a_table_takes_any_value_up_to_the_highest)
{
	const u32 values[] = { 1, 2, 0x3fffffff, 0x40000000, PLAIN_HIGHEST - 1, PLAIN_HIGHEST };
	int i;

	for (i = 0; i < ARRAY_SIZE(values); i++) {
		STORE(2, REG_SET_PERF, values[i]);
		EXPECT_EQ(values[i], LOAD(2, REG_SET_PERF));
	}
	STORE(2, REG_SET_PERF, 0);
	EXPECT_EQ(1, LOAD(2, REG_SET_PERF));
}

TEST_F(regs, set_perf_is_shared_by_the_pages_of_a_domain_only)
{
	STORE(0, REG_SET_PERF, 300);
	EXPECT_EQ(300, LOAD(1, REG_SET_PERF));
	EXPECT_EQ(0, LOAD(2, REG_SET_PERF));

	STORE(1, REG_SET_PERF, 400);
	STORE(2, REG_SET_PERF, 5);
	EXPECT_EQ(400, LOAD(0, REG_SET_PERF));
	EXPECT_EQ(400, LOAD(1, REG_SET_PERF));
	EXPECT_EQ(5, LOAD(2, REG_SET_PERF));
}

TEST_F(regs, any_vcpu_may_use_any_page)
{
	int i;

	for (i = 0; i < 4; i++) {
		self->vcpu = self->vcpus[i];
		STORE(0, REG_SET_PERF, 100 + i);
		STORE(2, REG_SET_PERF, 200 + i);
		self->vcpu = self->vcpus[3 - i];
		EXPECT_EQ(100 + i, LOAD(1, REG_SET_PERF));
		EXPECT_EQ(200 + i, LOAD(2, REG_SET_PERF));
	}
}

TEST_F(regs, perftbl_len_is_nr_perf)
{
	EXPECT_EQ(TABLE_LEN, LOAD(0, REG_PERFTBL_LEN));
	EXPECT_EQ(TABLE_LEN, LOAD(1, REG_PERFTBL_LEN));
	EXPECT_EQ(1, LOAD(2, REG_PERFTBL_LEN));
}

TEST_F(regs, perftbl_sel_has_the_last_value_of_its_page)
{
	const u32 values[] = { 4, 5, 63, 64, 0x80000000, -1U, 0 };
	int i;

	STORE(1, REG_PERFTBL_SEL, 3);
	for (i = 0; i < ARRAY_SIZE(values); i++) {
		STORE(0, REG_PERFTBL_SEL, values[i]);
		EXPECT_EQ(values[i], LOAD(0, REG_PERFTBL_SEL));
		EXPECT_EQ(3, LOAD(1, REG_PERFTBL_SEL));
		EXPECT_EQ(0, LOAD(2, REG_PERFTBL_SEL));
	}
}

TEST_F(regs, perftbl_rd_is_the_selected_entry_or_0_beyond)
{
	const u32 beyond[] = { TABLE_LEN, 63, 64, 1000, 0x80000000, -1U };
	int i;

	for (i = 0; i < TABLE_LEN; i++) {
		STORE(0, REG_PERFTBL_SEL, i);
		EXPECT_EQ(table[i], LOAD(0, REG_PERFTBL_RD));
	}
	for (i = 0; i < ARRAY_SIZE(beyond); i++) {
		STORE(0, REG_PERFTBL_SEL, beyond[i]);
		EXPECT_EQ(0, LOAD(0, REG_PERFTBL_RD));
		STORE(2, REG_PERFTBL_SEL, beyond[i]);
		EXPECT_EQ(0, LOAD(2, REG_PERFTBL_RD));
	}

	STORE(2, REG_PERFTBL_SEL, 1);
	EXPECT_EQ(0, LOAD(2, REG_PERFTBL_RD));
	STORE(2, REG_PERFTBL_SEL, 0);
	EXPECT_EQ(PLAIN_HIGHEST, LOAD(2, REG_PERFTBL_RD));
}

TEST_F(regs, perf_domain_is_the_domain)
{
	EXPECT_EQ(TABLE_DOMAIN, LOAD(0, REG_PERF_DOMAIN));
	EXPECT_EQ(TABLE_DOMAIN, LOAD(1, REG_PERF_DOMAIN));
	EXPECT_EQ(PLAIN_DOMAIN, LOAD(2, REG_PERF_DOMAIN));
}

TEST_F(regs, cur_perf_is_at_least_1_and_at_most_the_highest)
{
	int page, run;

	/* Before the page's vCPU first ran, and after */
	for (run = 0; run < 2; run++) {
		for (page = 0; page < 3; page++) {
			u32 highest = page < 2 ? TABLE_HIGHEST : PLAIN_HIGHEST;

			EXPECT_LE(1, LOAD(page, REG_CUR_PERF));
			EXPECT_GE(highest, LOAD(page, REG_CUR_PERF));
			vcf_enter(self->vcpus[page]);
		}
	}
}

TEST_F(regs, cur_perf_is_the_capacity_of_a_cpu_without_frequencies)
{
	u32 capacity = 1024;
	char text[32];

	if (vcf_host_has_freqs())
		SKIP(return, "the CPUs have frequencies");
	if (vcf_read_file("/sys/devices/system/cpu/cpu0/cpu_capacity", text, sizeof(text)))
		capacity = atoi(text);
	pin_self_to_cpu(0);

	EXPECT_EQ(min(capacity * TABLE_HIGHEST / TABLE_CAPACITY, (u32)TABLE_HIGHEST),
		  LOAD(0, REG_CUR_PERF));
	EXPECT_EQ((u64)capacity * PLAIN_HIGHEST / 1024, LOAD(2, REG_CUR_PERF));
}

TEST_F(regs, other_stores_are_ignored)
{
	const u32 regs[] = { REG_CUR_PERF, REG_PERFTBL_LEN, REG_PERFTBL_RD, REG_PERF_DOMAIN };
	u32 before[REG_END / 4];
	int i, reg;

	STORE(0, REG_SET_PERF, 123);
	STORE(0, REG_PERFTBL_SEL, 2);
	for (reg = 0; reg < REG_END; reg += 4)
		before[reg / 4] = LOAD(0, reg);

	for (i = 0; i < ARRAY_SIZE(regs); i++) {
		STORE(0, regs[i], 0);
		STORE(0, regs[i], 77);
		STORE(0, regs[i], -1U);
		for (reg = 0; reg < REG_END; reg += 4)
			EXPECT_EQ(before[reg / 4], LOAD(0, reg));
	}
}

TEST_F(regs, table_of_64_entries_can_be_read_in_full)
{
	struct vcf_args args;
	int fd, i;

	vcf_args_init(&args, 1, variant->flags);
	args.create.gpa = VCF_GPA + 3 * VCF_PAGE_SIZE;
	args.page[0].vcpu_id = 3;
	args.domain[0].nr_perf = VCF_MAX_PERF;
	for (i = 0; i < VCF_MAX_PERF; i++)
		args.domain[0].perf[i] = 1000 + i * i;
	fd = vcf_create(self->vm, &args);

	EXPECT_EQ(VCF_MAX_PERF, LOAD(3, REG_PERFTBL_LEN));
	for (i = 0; i < VCF_MAX_PERF; i++) {
		STORE(3, REG_PERFTBL_SEL, i);
		EXPECT_EQ(1000 + i * i, LOAD(3, REG_PERFTBL_RD));
	}
	STORE(3, REG_PERFTBL_SEL, VCF_MAX_PERF);
	EXPECT_EQ(0, LOAD(3, REG_PERFTBL_RD));
	close(fd);
}

/* Accesses that are not the kernel's */
static const struct {
	u32 offset, size;
} not_registers[] = {
	{ REG_CUR_PERF,		1 },
	{ REG_CUR_PERF,		2 },
	{ REG_CUR_PERF,		8 },
	{ REG_CUR_PERF + 1,	4 },
	{ REG_CUR_PERF + 2,	4 },
	{ REG_CUR_PERF + 3,	1 },
	{ REG_SET_PERF,		1 },
	{ REG_SET_PERF,		2 },
	{ REG_SET_PERF + 1,	1 },
	{ REG_SET_PERF + 2,	2 },
	{ REG_SET_PERF + 1,	4 },
	{ REG_SET_PERF + 3,	4 },
	{ REG_PERFTBL_LEN,	8 },
	{ REG_PERFTBL_SEL,	1 },
	{ REG_PERFTBL_RD,	8 },
	{ REG_PERF_DOMAIN,	2 },
	{ REG_PERF_DOMAIN + 2,	4 },
	{ REG_END,		1 },
	{ REG_END,		4 },
	{ REG_END,		8 },
	{ 0x100,		4 },
	{ 0x804,		4 },
	{ 0xff8,		8 },
	{ 0xffc,		4 },
	{ 0xfff,		1 },
};

static u64 mask(u32 size)
{
	return -1UL >> (64 - 8 * size);
}

TEST_F(regs, other_widths_alignments_and_offsets_are_the_vmms)
{
	struct kvm_run *run = self->vcpu->run;
	const u64 pattern = 0x8877665544332211;
	u64 val;
	int i;

	STORE(2, REG_SET_PERF, 5);
	for (i = 0; i < 2 * ARRAY_SIZE(not_registers); i++) {
		u32 page = i % 2 ? 2 : 0, size = not_registers[i / 2].size;
		gpa_t gpa = VCF_REG(page, not_registers[i / 2].offset);

		ASSERT_FALSE(__vcf_store(self->vcpu, gpa, size, pattern));
		ASSERT_EQ(KVM_EXIT_MMIO, run->exit_reason);
		EXPECT_EQ(gpa, run->mmio.phys_addr);
		EXPECT_EQ(1, run->mmio.is_write);
		EXPECT_EQ(size, run->mmio.len);
		EXPECT_EQ(0, memcmp(run->mmio.data, &pattern, size));
		ASSERT_TRUE(vcf_continue(self->vcpu, NULL));

		ASSERT_FALSE(__vcf_load(self->vcpu, gpa, size, &val));
		ASSERT_EQ(KVM_EXIT_MMIO, run->exit_reason);
		EXPECT_EQ(gpa, run->mmio.phys_addr);
		EXPECT_EQ(0, run->mmio.is_write);
		EXPECT_EQ(size, run->mmio.len);
		memcpy(run->mmio.data, &pattern, size);
		ASSERT_TRUE(vcf_continue(self->vcpu, &val));
		EXPECT_EQ(pattern & mask(size), val);
	}

	/* And the kernel has taken no notice of them. */
	EXPECT_EQ(0, LOAD(0, REG_SET_PERF));
	EXPECT_EQ(5, LOAD(2, REG_SET_PERF));
	EXPECT_EQ(0, LOAD(0, REG_PERFTBL_SEL));
	EXPECT_EQ(0, LOAD(2, REG_PERFTBL_SEL));
}

#ifdef __aarch64__
/* Instructions that the hardware does not describe to the hypervisor */
static void access_without_syndrome(void *nth, const u32 *stop)
{
	u64 base = VCF_REG(0, REG_SET_PERF), val = 7;

	switch ((u64)nth) {
	case 0:
		asm volatile("str %w1, [%0], #4" : "+r"(base) : "r"(val) : "memory");
		break;
	case 1:
		asm volatile("stp %w1, %w1, [%0]" : : "r"(base), "r"(val) : "memory");
		break;
	case 2:
		asm volatile("ldp %w0, wzr, [%1]" : "=r"(val) : "r"(base) : "memory");
		break;
	case 3:
		asm volatile("ldr %w1, [%0], #4" : "+r"(base), "=r"(val) : : "memory");
		break;
	}
}

/* KVM cannot tell what they are, and asks neither the bus nor anybody else. */
TEST_F(regs, accesses_that_kvm_cannot_decode_are_not_the_devices)
{
	struct kvm_run *run = self->vcpu->run;
	u64 pc = ARM64_CORE_REG(regs.pc);
	u64 i;

	vm_enable_cap(self->vm, KVM_CAP_ARM_NISV_TO_USER, 1);
	STORE(0, REG_SET_PERF, 5);
	for (i = 0; i < 4; i++) {
		ASSERT_FALSE(__vcf_call(self->vcpu, access_without_syndrome, (void *)i));
		ASSERT_EQ(KVM_EXIT_ARM_NISV, run->exit_reason);
		EXPECT_EQ(VCF_REG(0, REG_SET_PERF), run->arm_nisv.fault_ipa);
		/* Behind the instruction */
		vcpu_set_reg(self->vcpu, pc, vcpu_get_reg(self->vcpu, pc) + 4);
		ASSERT_TRUE(vcf_continue(self->vcpu, NULL));
		EXPECT_EQ(5, LOAD(0, REG_SET_PERF));
	}
}
#endif

TEST_F(regs, pages_end_after_the_last_one)
{
	EXPECT_TRUE(store_exits(self->vcpu, VCF_REG(3, REG_SET_PERF)));
	EXPECT_TRUE(store_exits(self->vcpu, VCF_REG(3, REG_CUR_PERF)));
}

#ifdef __aarch64__
/* Accesses of a big-endian guest: EL0, so that EL1's page tables stay readable. */
extern char el0_big_endian[];
asm(".pushsection .text, \"ax\"\n"
"	.global el0_big_endian\n"
"el0_big_endian:\n"
"	movz	w1, #0x0102, lsl #16\n"
"	movk	w1, #0x0304\n"
"	str	w1, [x0, #4]\n"		/* set_perf, as the bytes 1, 2, 3, 4 */
"	ldr	w2, [x0, #4]\n"
"	ldr	w3, [x0, #8]\n"		/* perftbl_len */
"	svc	#0\n"
"	.popsection\n"
);

static u64 be_set_perf, be_perftbl_len;

static void el0_svc_handler(struct ex_regs *regs)
{
	be_set_perf = regs->regs[2];
	be_perftbl_len = regs->regs[3];
	GUEST_DONE();
}

static void big_endian_guest_code(void)
{
	u64 spsr = PSR_MODE_EL0t | PSR_D_BIT | PSR_A_BIT | PSR_I_BIT | PSR_F_BIT;

	write_sysreg(read_sysreg(sctlr_el1) | SCTLR_EL1_E0E, sctlr_el1);
	write_sysreg(el0_big_endian, elr_el1);
	write_sysreg(spsr, spsr_el1);
	isb();
	asm volatile("mov x0, %0\n"
		     "eret\n" : : "r"(VCF_REG(2, 0)) : "x0", "memory");
	__builtin_unreachable();
}

TEST_F(regs, registers_are_little_endian)
{
	u64 mmfr0 = vcpu_get_reg(self->vcpu, KVM_ARM64_SYS_REG(SYS_ID_AA64MMFR0_EL1));
	gva_t gva;

	if (!SYS_FIELD_GET(ID_AA64MMFR0_EL1, BIGEND, mmfr0) &&
	    !SYS_FIELD_GET(ID_AA64MMFR0_EL1, BIGENDEL0, mmfr0))
		SKIP(return, "no mixed-endian CPU");

	vcpu_arch_set_entry_point(self->vcpu, big_endian_guest_code);
	vm_init_descriptor_tables(self->vm);
	vcpu_init_descriptor_tables(self->vcpu);
	vm_install_sync_handler(self->vm, VECTOR_SYNC_LOWER_64, ESR_ELx_EC_SVC64,
				el0_svc_handler);
	for (gva = VCF_GPA; gva < VCF_GPA + VCF_SIZE; gva += self->vm->page_size)
		*virt_get_pte_hva(self->vm, gva) |= BIT(6);	/* AP[1]: EL0 may access */

	vcpu_run(self->vcpu);
	ASSERT_EQ(UCALL_DONE, get_ucall(self->vcpu, NULL));
	sync_global_from_guest(self->vm, be_set_perf);
	sync_global_from_guest(self->vm, be_perftbl_len);
	EXPECT_EQ(0x01020304, be_set_perf);
	EXPECT_EQ(0x01000000, be_perftbl_len);

	self->vcpu = self->vcpus[1];
	EXPECT_EQ(0x04030201, LOAD(2, REG_SET_PERF));
}
#endif

/* The descriptor */
FIXTURE(fd) {
	struct kvm_vm *vm;
	struct kvm_vcpu *vcpus[1];
	int fd;
};

FIXTURE_SETUP(fd)
{
	self->vm = vcf_vm_create(1, self->vcpus);
	self->fd = vcf_create_default(self->vm, 1, VCF_HINT_MINMAX);
}

FIXTURE_TEARDOWN(fd)
{
	kvm_vm_free(self->vm);
}

TEST_F(fd, is_closed_on_exec)
{
	EXPECT_EQ(FD_CLOEXEC, fcntl(self->fd, F_GETFD));
}

TEST_F(fd, is_not_readable_or_writable)
{
	char byte = 0;

	EXPECT_EQ(-1, read(self->fd, &byte, 1));
	EXPECT_EQ(EINVAL, errno);
	EXPECT_EQ(-1, write(self->fd, &byte, 1));
	EXPECT_EQ(EBADF, errno);
}

TEST_F(fd, has_no_ioctls_but_set_regs)
{
	const unsigned long cmds[] = {
		KVM_GET_API_VERSION, KVM_RUN, KVM_CREATE_VCPU, KVM_CREATE_VIRT_CPUFREQ,
		_IO(KVMIO, 0xd7), _IOR(KVMIO, 0xd7, struct kvm_virt_cpufreq_regs),
		_IOW(KVMIO, 0xd7, u32[5]), _IO(KVMIO, 0xff), TCGETS,
	};
	u64 buf[64] = {};
	int i;

	for (i = 0; i < ARRAY_SIZE(cmds); i++) {
		EXPECT_EQ(-1, ioctl(self->fd, cmds[i], buf));
		EXPECT_EQ(ENOTTY, errno);
	}
}

TEST_F(fd, close_ends_the_device)
{
	int i;

	for (i = 0; i < 20; i++) {
		EXPECT_TRUE(device_works(self->vcpus[0], 0));
		EXPECT_EQ(0, close(self->fd));
		EXPECT_TRUE(store_exits(self->vcpus[0], VCF_REG(0, REG_SET_PERF)));
		self->fd = vcf_create_default(self->vm, 1, VCF_HINT_MINMAX);
		EXPECT_EQ(0, vcf_load(self->vcpus[0], VCF_REG(0, REG_SET_PERF)));
	}
}

TEST_F(fd, last_close_of_a_copy_ends_the_device)
{
	int copy = dup(self->fd);

	close(self->fd);
	EXPECT_TRUE(device_works(self->vcpus[0], 0));
	close(copy);
	EXPECT_TRUE(store_exits(self->vcpus[0], VCF_REG(0, REG_SET_PERF)));
}

TEST_F(fd, device_lives_as_long_as_another_process_has_it)
{
	int status, ready[2], go[2];
	char byte;
	pid_t pid;

	ASSERT_EQ(0, pipe(ready));
	ASSERT_EQ(0, pipe(go));
	pid = fork();
	if (!pid) {
		close(go[1]);
		_exit(read(go[0], &byte, 1) != 0);
	}

	close(self->fd);
	EXPECT_TRUE(device_works(self->vcpus[0], 0));
	close(go[1]);
	ASSERT_EQ(pid, waitpid(pid, &status, 0));
	EXPECT_EQ(0, status);
	EXPECT_TRUE(store_exits(self->vcpus[0], VCF_REG(0, REG_SET_PERF)));
}

TEST_F(fd, device_may_outlive_the_other_descriptors_of_the_vm)
{
	vcf_set_perf(self->vcpus[0], 0, 512);
	kvm_vm_free(self->vm);
	EXPECT_EQ(0, close(self->fd));
	EXPECT_EQ(0, vcf_uclamp(vcf_gettid()).eff_min);

	self->vm = vcf_vm_create(1, self->vcpus);
	self->fd = vcf_create_default(self->vm, 1, VCF_HINT_MINMAX);
	EXPECT_TRUE(device_works(self->vcpus[0], 0));
}

TEST_F(fd, close_after_the_vcpu_is_gone_is_harmless)
{
	struct vcf_worker worker;

	/* The thread that the page is about is gone, too. */
	vcf_worker_start(&worker);
	vcf_worker_set_perf(&worker, self->vcpus[0], 0, 512);
	vcf_worker_stop(&worker);
	EXPECT_EQ(0, close(self->fd));
	EXPECT_TRUE(store_exits(self->vcpus[0], VCF_REG(0, REG_SET_PERF)));
}

#ifdef __aarch64__
#define PROTECTED_MEM	0x80000000ULL
#define PROTECTED_OUT	0x20000000ULL	/* nobody's */

/* What a protected VM runs, MMU off: store a request, load it, tell what it was. */
static const u32 protected_code[] = {
	0xb9000001,	/* str w1, [x0] */
	0xb9400002,	/* ldr w2, [x0] */
	0xb9000062,	/* str w2, [x3] */
};

static void set_core_reg(int vcpu, u64 id, u64 val)
{
	struct kvm_one_reg reg = { .id = id, .addr = (u64)(ulong)&val };

	kvm_ioctl(vcpu, KVM_SET_ONE_REG, &reg);
}

/*
 * A guest's memory is not ours when it has run, which the library is not made for, and
 * a read-only slot is refused: its loads exit.
 */
TEST(protected_vm_may_have_a_device_but_no_slot)
{
	struct kvm_userspace_memory_region mem = {
		.guest_phys_addr = PROTECTED_MEM,
		.memory_size = getpagesize(),
	}, slot = {
		.slot = 1,
		.flags = KVM_MEM_READONLY,
		.guest_phys_addr = VCF_GPA,
		.memory_size = vcf_map_size(1),
	};
	struct kvm_vcpu_init init;
	struct vcf_args args;
	struct kvm_run *run;
	int kvm, vm, vcpu, fd, run_size;
	const void *map;
	void *code;

	kvm = open_kvm_dev_path_or_exit();
	vm = ioctl(kvm, KVM_CREATE_VM, KVM_VM_TYPE_ARM_PROTECTED);
	if (vm < 0)
		SKIP(return, "no protected VMs");
	vcpu = ioctl(vm, KVM_CREATE_VCPU, 0);
	ASSERT_LE(0, vcpu);

	EXPECT_EQ(VCF_ALL_FLAGS, ioctl(vm, KVM_CHECK_EXTENSION, KVM_CAP_VIRT_CPUFREQ));
	vcf_args_init(&args, 1, VCF_HINT_MINMAX);
	fd = ioctl(vm, KVM_CREATE_VIRT_CPUFREQ, &args.create);
	ASSERT_LE(0, fd);
	map = vcf_map(fd, 1);
	vcf_set_regs(fd, 0, 256, 3);
	EXPECT_EQ(256, vcf_map_reg(map, 0, REG_SET_PERF));
	EXPECT_EQ(512, vcf_map_reg(map, 0, REG_PERFTBL_RD));

	slot.userspace_addr = (u64)(ulong)map;
	EXPECT_EQ(-1, ioctl(vm, KVM_SET_USER_MEMORY_REGION, &slot));
	EXPECT_EQ(EPERM, errno);

	code = kvm_mmap(mem.memory_size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1);
	memcpy(code, protected_code, sizeof(protected_code));
	mem.userspace_addr = (u64)(ulong)code;
	kvm_ioctl(vm, KVM_SET_USER_MEMORY_REGION, &mem);
	kvm_ioctl(vm, KVM_ARM_PREFERRED_TARGET, &init);
	kvm_ioctl(vcpu, KVM_ARM_VCPU_INIT, &init);
	set_core_reg(vcpu, ARM64_CORE_REG(regs.regs[0]), VCF_REG(0, REG_SET_PERF));
	set_core_reg(vcpu, ARM64_CORE_REG(regs.regs[1]), 512);
	set_core_reg(vcpu, ARM64_CORE_REG(regs.regs[3]), PROTECTED_OUT);
	set_core_reg(vcpu, ARM64_CORE_REG(regs.pc), PROTECTED_MEM);
	run_size = ioctl(kvm, KVM_GET_VCPU_MMAP_SIZE, NULL);
	run = kvm_mmap(run_size, PROT_READ | PROT_WRITE, MAP_SHARED, vcpu);

	ASSERT_EQ(0, ioctl(vcpu, KVM_RUN, NULL));
	ASSERT_EQ(KVM_EXIT_MMIO, run->exit_reason);
	EXPECT_EQ(PROTECTED_OUT, run->mmio.phys_addr);
	EXPECT_EQ(512, *(u32 *)run->mmio.data);
	EXPECT_EQ(512, vcf_map_reg(map, 0, REG_SET_PERF));
	EXPECT_EQ(512, vcf_uclamp(vcf_gettid()).eff_min);

	kvm_munmap(run, run_size);
	vcf_unmap(map, 1);
	close(fd);
	EXPECT_EQ(0, vcf_uclamp(vcf_gettid()).eff_min);
	close(vcpu);
	close(vm);
	close(kvm);
	kvm_munmap(code, mem.memory_size);
}
#endif

TEST(example_program_works)
{
	char path[512];
	ssize_t len;
	int status;
	pid_t pid;

	len = readlink("/proc/self/exe", path, sizeof(path));
	ASSERT_LT(0, len);
	while (path[len - 1] != '/')
		len--;
	snprintf(path + len, sizeof(path) - len, "virt_cpufreq_example");
	if (access(path, X_OK))
		SKIP(return, "no %s", path);

	pid = fork();
	if (!pid) {
		/* Its TAP is not the harness's. */
		dup2(open("/dev/null", O_WRONLY), STDOUT_FILENO);
		execl(path, path, NULL);
		_exit(127);
	}
	ASSERT_EQ(pid, waitpid(pid, &status, 0));
	EXPECT_EQ(0, status);
}

int main(int argc, char *argv[])
{
	TEST_REQUIRE(kvm_has_cap(KVM_CAP_VIRT_CPUFREQ));
	return test_harness_run(argc, argv);
}
