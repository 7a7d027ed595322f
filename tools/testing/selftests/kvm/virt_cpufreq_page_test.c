// SPDX-License-Identifier: GPL-2.0-only
/*
 * KVM_CREATE_VIRT_CPUFREQ: the register pages as the VMM maps them, and as a memslot
 *
 * That cur_perf on the pages is fresh is tested in virt_cpufreq_freq_test.c.
 */
#include <fcntl.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/uio.h>
#include <sys/wait.h>

#include "kvm_test_harness.h"
#include "processor.h"
#include "virt_cpufreq.h"

#include <cgroup_util.h>

/* The table of vcf_args_init() */
#define PERF(i)	(128 * ((i) + 1))
#define NR_PERF	8

/*
 * Each register of each page as a vCPU loads it and as the mapping has it. Where there
 * are frequencies, cur_perf may be another one by the next load.
 */
static bool guest_and_map_agree(struct kvm_vcpu *vcpu, const void *map, u32 nr_pages)
{
	u32 page, reg;

	for (page = 0; page < nr_pages; page++) {
		for (reg = 0; reg < REG_END; reg += 4) {
			u32 loaded = vcf_load(vcpu, VCF_REG(page, reg));
			u32 mapped = vcf_map_reg(map, page, reg);

			if (loaded == mapped || (reg == REG_CUR_PERF && vcf_host_has_freqs()))
				continue;
			pr_info("# page %u, register %#x: loaded %#x, mapped %#x\n",
				page, reg, loaded, mapped);
			return false;
		}
	}

	return true;
}

/* Nothing is in the mapping but registers, to the end of the host's page. */
static bool rest_is_zero(const void *map, u32 nr_pages)
{
	u32 offset;

	for (offset = 0; offset < vcf_map_size(nr_pages); offset += 4) {
		u32 page = offset / VCF_PAGE_SIZE, reg = offset % VCF_PAGE_SIZE;

		if (page < nr_pages && reg < REG_END)
			continue;
		if (vcf_map_reg(map, page, reg)) {
			pr_info("# %#x at %#x of the mapping\n", vcf_map_reg(map, page, reg),
				offset);
			return false;
		}
	}

	return true;
}

/* How a child ended that did this: its status as of waitpid() */
static int status_of_child(void (*fn)(void *arg), void *arg)
{
	int status;
	pid_t pid;

	pid = fork();
	if (!pid) {
		fn(arg);
		_exit(0);
	}
	TEST_ASSERT(waitpid(pid, &status, 0) == pid, "waitpid() failed");
	return status;
}

/* A device of eight pages, two to a domain, and its mapping */
#define NR_PAGES	8

FIXTURE(map) {
	struct kvm_vm *vm;
	struct kvm_vcpu *vcpus[NR_PAGES];
	struct vcf_args args;
	const void *map;
	size_t size;
	int fd;
};

FIXTURE_SETUP(map)
{
	int i;

	self->vm = vcf_vm_create(NR_PAGES, self->vcpus);
	vcf_args_init(&self->args, NR_PAGES, 0);
	for (i = 0; i < NR_PAGES; i++)
		vcf_args_set_domain(&self->args, i, i / 2);
	self->fd = vcf_create(self->vm, &self->args);
	self->map = vcf_map(self->fd, NR_PAGES);
	self->size = vcf_map_size(NR_PAGES);
}

FIXTURE_TEARDOWN(map)
{
	kvm_vm_free(self->vm);
}

TEST_F(map, has_what_the_guest_loads)
{
	struct kvm_vcpu *vcpu = self->vcpus[3];
	int i;

	EXPECT_TRUE(guest_and_map_agree(vcpu, self->map, NR_PAGES));
	for (i = 0; i < NR_PAGES; i++) {
		vcf_set_perf(vcpu, i, 100 * i);
		vcf_store(vcpu, VCF_REG(i, REG_PERFTBL_SEL), i + 3);
		vcf_enter(self->vcpus[i]);
	}
	EXPECT_TRUE(guest_and_map_agree(vcpu, self->map, NR_PAGES));

	EXPECT_EQ(300, vcf_map_reg(self->map, 2, REG_SET_PERF));
	EXPECT_EQ(300, vcf_map_reg(self->map, 3, REG_SET_PERF));
	EXPECT_EQ(NR_PERF, vcf_map_reg(self->map, 3, REG_PERFTBL_LEN));
	EXPECT_EQ(6, vcf_map_reg(self->map, 3, REG_PERFTBL_SEL));
	EXPECT_EQ(PERF(6), vcf_map_reg(self->map, 3, REG_PERFTBL_RD));
	EXPECT_EQ(0, vcf_map_reg(self->map, 7, REG_PERFTBL_RD));
	EXPECT_EQ(1, vcf_map_reg(self->map, 3, REG_PERF_DOMAIN));
}

TEST_F(map, has_nothing_but_the_registers)
{
	u32 nr_pages;
	int i;

	for (nr_pages = 1; nr_pages <= NR_PAGES; nr_pages++) {
		kvm_munmap((void *)self->map, self->size);
		close(self->fd);
		self->args.create.nr_domains = (nr_pages + 1) / 2;
		self->args.create.nr_vcpus = nr_pages;
		self->fd = vcf_create(self->vm, &self->args);
		self->size = vcf_map_size(nr_pages);
		self->map = vcf_map(self->fd, nr_pages);
		EXPECT_TRUE(rest_is_zero(self->map, nr_pages));

		for (i = 0; i < nr_pages; i++) {
			vcf_set_perf(self->vcpus[i], i, -1U);
			vcf_store(self->vcpus[i], VCF_REG(i, REG_PERFTBL_SEL), -1U);
			vcf_set_regs(self->fd, i, 1, -1U);
		}
		EXPECT_TRUE(rest_is_zero(self->map, nr_pages));
		EXPECT_TRUE(guest_and_map_agree(self->vcpus[0], self->map, nr_pages));
	}
}

TEST_F(map, may_be_shorter_than_the_pages)
{
	void *part = kvm_mmap(getpagesize(), PROT_READ, MAP_SHARED, self->fd);

	vcf_set_perf(self->vcpus[0], 0, 512);
	EXPECT_EQ(512, vcf_map_reg(part, 0, REG_SET_PERF));
	kvm_munmap(part, getpagesize());
	EXPECT_EQ(512, vcf_map_reg(self->map, 0, REG_SET_PERF));
}

TEST_F(map, is_refused_unless_shared_and_read_only_and_within_the_pages)
{
	const off_t host_page = getpagesize();
	const struct {
		int prot, flags;
		off_t offset;
		size_t size;
		int error;
	} rows[] = {
		{ PROT_READ,			MAP_PRIVATE,	0, self->size,	EINVAL },
		{ PROT_NONE,			MAP_PRIVATE,	0, self->size,	EINVAL },
		{ PROT_WRITE,			MAP_SHARED,	0, self->size,	EACCES },
		{ PROT_READ | PROT_WRITE,	MAP_SHARED,	0, self->size,	EACCES },
		{ PROT_READ | PROT_EXEC,	MAP_SHARED,	0, self->size,	EPERM },
		{ PROT_READ, MAP_SHARED, host_page,	host_page,		EINVAL },
		{ PROT_READ, MAP_SHARED, self->size,	host_page,		EINVAL },
		{ PROT_READ, MAP_SHARED, 1L << 40,	host_page,		EINVAL },
		{ PROT_READ, MAP_SHARED, 0,		self->size + host_page,	EINVAL },
		{ PROT_READ, MAP_SHARED, 0,		self->size + 1,		EINVAL },
		{ PROT_READ, MAP_SHARED, 0,		1UL << 40,		EINVAL },
	};
	int i;

	for (i = 0; i < ARRAY_SIZE(rows); i++) {
		errno = 0;
		EXPECT_EQ(MAP_FAILED, mmap(NULL, rows[i].size, rows[i].prot, rows[i].flags,
					   self->fd, rows[i].offset));
		EXPECT_EQ(rows[i].error, errno)
			TH_LOG("row %d", i);
	}
}

TEST_F(map, cannot_be_made_writable_or_executable)
{
	void *map = (void *)self->map;

	EXPECT_EQ(-1, mprotect(map, self->size, PROT_READ | PROT_WRITE));
	EXPECT_EQ(EACCES, errno);
	EXPECT_EQ(-1, mprotect(map, getpagesize(), PROT_WRITE));
	EXPECT_EQ(EACCES, errno);
	EXPECT_EQ(-1, mprotect(map, self->size, PROT_READ | PROT_EXEC));
	EXPECT_EQ(EACCES, errno);

	/* Nor after it was nothing. */
	EXPECT_EQ(0, mprotect(map, self->size, PROT_NONE));
	EXPECT_EQ(-1, mprotect(map, self->size, PROT_WRITE));
	EXPECT_EQ(EACCES, errno);
	EXPECT_EQ(0, mprotect(map, self->size, PROT_READ));
	EXPECT_EQ(NR_PERF, vcf_map_reg(map, 0, REG_PERFTBL_LEN));
}

TEST_F(map, cannot_grow)
{
	size_t bigger = self->size + getpagesize();

	EXPECT_EQ(MAP_FAILED, mremap((void *)self->map, self->size, bigger, MREMAP_MAYMOVE));
	EXPECT_EQ(EFAULT, errno);
	EXPECT_EQ(MAP_FAILED, mremap((void *)self->map, self->size, bigger, 0));
	EXPECT_EQ(EFAULT, errno);

	/* Also not the beginning of it, though the rest of the pages would do. */
	kvm_munmap((void *)self->map, self->size);
	self->map = kvm_mmap(getpagesize(), PROT_READ, MAP_SHARED, self->fd);
	EXPECT_EQ(MAP_FAILED, mremap((void *)self->map, getpagesize(), 2 * getpagesize(),
				     MREMAP_MAYMOVE));
	EXPECT_EQ(EFAULT, errno);
}

TEST_F(map, cannot_be_written_by_way_of_the_kernel)
{
	u32 word = 0x12345678, set_perf = 512;
	const struct iovec from = { &word, sizeof(word) };
	const struct iovec to = { (void *)self->map + REG_SET_PERF, sizeof(word) };
	int pipes[2], mem;

	vcf_set_perf(self->vcpus[0], 0, set_perf);

	mem = open("/proc/self/mem", O_RDWR);
	ASSERT_LE(0, mem);
	EXPECT_EQ(-1, pwrite(mem, &word, sizeof(word), (off_t)to.iov_base));
	EXPECT_TRUE(errno == EIO || errno == EFAULT);
	close(mem);

	ASSERT_EQ(0, pipe(pipes));
	ASSERT_EQ(sizeof(word), write(pipes[1], &word, sizeof(word)));
	EXPECT_EQ(-1, read(pipes[0], to.iov_base, sizeof(word)));
	EXPECT_EQ(EFAULT, errno);

	EXPECT_EQ(-1, process_vm_writev(getpid(), &from, 1, &to, 1, 0));

	EXPECT_EQ(set_perf, vcf_map_reg(self->map, 0, REG_SET_PERF));
	EXPECT_EQ(set_perf, vcf_load(self->vcpus[0], VCF_REG(0, REG_SET_PERF)));
}

static void read_map(void *map)
{
	/* The library has a handler. */
	signal(SIGSEGV, SIG_DFL);
	vcf_map_reg(map, 0, REG_SET_PERF);
}

TEST_F(map, is_not_inherited_by_a_child)
{
	int status = status_of_child(read_map, (void *)self->map);

	EXPECT_TRUE(WIFSIGNALED(status));
	EXPECT_EQ(SIGSEGV, WTERMSIG(status));
}

/* The flags of the mapping that begins at @addr, as two letters each; false: unknown */
static bool vm_flags(const void *addr, char *flags, size_t size)
{
	char begin[32], line[512] = "";
	bool found = false;
	FILE *smaps;

	snprintf(begin, sizeof(begin), "%lx-", (ulong)addr);
	smaps = fopen("/proc/self/smaps", "r");
	if (!smaps)
		return false;
	while (fgets(line, sizeof(line), smaps)) {
		found |= !strncmp(line, begin, strlen(begin));
		if (found && !strncmp(line, "VmFlags:", 8))
			break;
	}
	fclose(smaps);
	snprintf(flags, size, "%s", line);
	return found;
}

TEST_F(map, is_neither_writable_nor_copied_nor_grown_nor_dumped)
{
	char flags[512];

	if (!vm_flags(self->map, flags, sizeof(flags)))
		SKIP(return, "no /proc/self/smaps");
	EXPECT_NE(NULL, strstr(flags, " mr"));
	EXPECT_NE(NULL, strstr(flags, " ms"));
	EXPECT_EQ(NULL, strstr(flags, " mw"));
	EXPECT_EQ(NULL, strstr(flags, " me"));
	EXPECT_NE(NULL, strstr(flags, " dc"));
	EXPECT_NE(NULL, strstr(flags, " de"));
	EXPECT_NE(NULL, strstr(flags, " dd"));
}

static void map_and_expect_request(void *arg)
{
	struct _test_data_map *self = arg;
	const void *map = vcf_map(self->fd, NR_PAGES);

	_exit(vcf_map_reg(map, 1, REG_SET_PERF) != 512);
}

TEST_F(map, can_be_made_by_a_process_that_was_handed_the_descriptor)
{
	vcf_set_perf(self->vcpus[0], 0, 512);
	EXPECT_EQ(0, status_of_child(map_and_expect_request, self));
}

TEST_F(map, keeps_the_device_until_it_is_gone)
{
	const void *other = vcf_map(self->fd, NR_PAGES);
	u64 val;

	close(self->fd);
	vcf_set_perf(self->vcpus[0], 2, 300);
	EXPECT_EQ(300, vcf_map_reg(self->map, 3, REG_SET_PERF));
	EXPECT_EQ(-EEXIST, __vcf_create(self->vm, &self->args));

	/* A part of the last mapping is enough. */
	vcf_unmap(other, NR_PAGES);
	kvm_munmap((void *)self->map + getpagesize(), self->size - getpagesize());
	vcf_set_perf(self->vcpus[0], 0, 400);
	EXPECT_EQ(400, vcf_map_reg(self->map, 0, REG_SET_PERF));

	kvm_munmap((void *)self->map, getpagesize());
	ASSERT_FALSE(__vcf_load(self->vcpus[0], VCF_REG(2, REG_SET_PERF), 4, &val));
	EXPECT_EQ(KVM_EXIT_MMIO, self->vcpus[0]->run->exit_reason);
	vcf_continue(self->vcpus[0], NULL);
	EXPECT_LE(0, __vcf_create(self->vm, &self->args));
}

/* The descriptor is closed, but not by who has a mapping of it. */
TEST_F(map, of_another_process_keeps_the_device_as_long_as_that_lives)
{
	int ready[2], go[2];
	char byte;
	pid_t pid;

	ASSERT_EQ(0, pipe(ready));
	ASSERT_EQ(0, pipe(go));
	pid = fork();
	if (!pid) {
		vcf_map(self->fd, NR_PAGES);
		close(self->fd);
		close(go[1]);
		_exit(write(ready[1], "", 1) != 1 || read(go[0], &byte, 1));
	}
	ASSERT_EQ(1, read(ready[0], &byte, 1));
	vcf_unmap(self->map, NR_PAGES);
	close(self->fd);
	vcf_set_perf(self->vcpus[0], 2, 300);
	EXPECT_EQ(300, vcf_load(self->vcpus[0], VCF_REG(3, REG_SET_PERF)));

	close(go[1]);
	ASSERT_EQ(pid, waitpid(pid, NULL, 0));
	EXPECT_LE(0, __vcf_create(self->vm, &self->args));
}

/* As do buffers of io_uring and direct I/O. */
TEST_F(map, outlives_everything_while_a_pipe_has_its_pages)
{
	static u8 piped[NR_PAGES * VCF_PAGE_SIZE];
	struct iovec regs = { .iov_base = (void *)self->map, .iov_len = sizeof(piped) };
	int fds[2], nr_areas = vcf_nr_areas();
	u32 i;

	vcf_set_perf(self->vcpus[0], 0, PERF(2));
	ASSERT_EQ(0, pipe(fds));
	ASSERT_EQ(sizeof(piped), vmsplice(fds[1], &regs, 1, 0));
	vcf_unmap(self->map, NR_PAGES);
	close(self->fd);
	/* The memory is there, though it is no longer the device's. */
	EXPECT_TRUE(nr_areas < 0 || VCF_WAIT_FOR(vcf_nr_areas() < nr_areas));

	ASSERT_EQ(sizeof(piped), read(fds[0], piped, sizeof(piped)));
	for (i = 0; i < NR_PAGES; i++) {
		EXPECT_EQ(NR_PERF, vcf_map_reg(piped, i, REG_PERFTBL_LEN));
		EXPECT_EQ(i < 2 ? PERF(2) : 0, vcf_map_reg(piped, i, REG_SET_PERF));
	}
	close(fds[0]);
	close(fds[1]);
}

TEST_F(map, need_not_be_touched_before_the_descriptor_is_closed)
{
	const void *map = vcf_map(self->fd, NR_PAGES);

	vcf_set_perf(self->vcpus[0], NR_PAGES - 1, 300);
	close(self->fd);
	EXPECT_EQ(300, vcf_map_reg(map, NR_PAGES - 1, REG_SET_PERF));
	EXPECT_TRUE(rest_is_zero(map, NR_PAGES));
}

/* What the pages cost, and whom */
FIXTURE(charge) {
	struct kvm_vm *vm;
	struct kvm_vcpu *vcpus[NR_PAGES];
	char cgroup[PATH_MAX];
};

FIXTURE_SETUP(charge)
{
	char root[PATH_MAX], *name;

	self->vm = vcf_vm_create(NR_PAGES, self->vcpus);
	if (cg_find_unified_root(root, sizeof(root), NULL))
		SKIP(return, "no cgroup2");
	/* Fails when that is so already, or when it cannot be. */
	cg_write(root, "cgroup.subtree_control", "+memory");
	name = cg_name(root, "virt_cpufreq_page_test");
	snprintf(self->cgroup, sizeof(self->cgroup), "%s", name);
	free(name);
	cg_create(self->cgroup);
	if (cg_read_key_long(self->cgroup, "memory.stat", "vmalloc ") < 0)
		SKIP(return, "no memory cgroups");
}

FIXTURE_TEARDOWN_PARENT(charge)
{
	if (self->cgroup[0])
		cg_destroy(self->cgroup);
}

/* The kernel sums small changes up every two seconds only. */
static bool charge_is(struct _test_data_charge *self, size_t size)
{
	const char *cgroup = self->cgroup;
	bool is = VCF_WAIT_FOR(cg_read_key_long(cgroup, "memory.stat", "vmalloc ") == size);

	if (!is)
		pr_info("# vmalloc %ld, not %ld\n",
			cg_read_key_long(cgroup, "memory.stat", "vmalloc "), size);
	return is;
}

TEST_F(charge, of_the_cgroup_is_exactly_the_pages_until_they_are_unmapped)
{
	size_t size = vcf_map_size(NR_PAGES);
	const void *map;
	int fd;

	ASSERT_EQ(0, cg_enter_current(self->cgroup));
	EXPECT_TRUE(charge_is(self, 0));
	fd = vcf_create_default(self->vm, NR_PAGES, 0);
	EXPECT_TRUE(charge_is(self, size));

	map = vcf_map(fd, NR_PAGES);
	close(fd);
	/* A grace period and more */
	sleep(3);
	EXPECT_TRUE(charge_is(self, size));
	vcf_unmap(map, NR_PAGES);
	EXPECT_TRUE(charge_is(self, 0));
}

/*
 * The mapping as a memslot. Pages 0 and 1 are one domain, page 2 is another; the last
 * vCPU has no page.
 */
#define NR_SLOT_PAGES	3

FIXTURE(slot) {
	struct kvm_vm *vm;
	struct kvm_vcpu *vcpus[NR_SLOT_PAGES + 1];
	struct kvm_vcpu *vcpu;
	struct vcf_worker worker;
	const void *map;
	int fd;
};

FIXTURE_SETUP(slot)
{
	struct vcf_args args;

	self->vm = vcf_vm_create(ARRAY_SIZE(self->vcpus), self->vcpus);
	self->vcpu = self->vcpus[0];
	vcf_args_init(&args, NR_SLOT_PAGES, VCF_HINT_MINMAX);
	vcf_args_set_domain(&args, 2, 1);
	self->fd = vcf_create(self->vm, &args);
	self->map = vcf_map(self->fd, NR_SLOT_PAGES);
	vcf_worker_start(&self->worker);
}

FIXTURE_TEARDOWN(slot)
{
	kvm_vm_free(self->vm);
}

/* Many loads of the same, as one command */
#define NR_LOADS	1000

static struct guest_loads {
	u64 addr;
	u64 val;
	u32 nr_others;	/* values that differed from the first */
} guest_loads;

static void guest_load_often(void *arg, const u32 *stop)
{
	struct guest_loads *loads = arg;
	const void *reg = (void *)loads->addr;
	u32 i;

	loads->val = readl_relaxed(reg);
	for (i = 1; i < NR_LOADS; i++)
		loads->nr_others += readl_relaxed(reg) != loads->val;
}

/* What NR_LOADS loads of a register were, and whether they left the guest for it */
struct result {
	u32 val;
	u32 nr_others;
	u64 exits;
	u64 mmio_exits;
};

static struct result load_often(struct kvm_vcpu *vcpu, u32 page, u32 reg)
{
	struct result result;

	guest_loads = (struct guest_loads) { .addr = VCF_REG(page, reg) };
	sync_global_to_guest(vcpu->vm, guest_loads);
	result.exits = vcpu_get_stat(vcpu, exits);
	result.mmio_exits = vcpu_get_stat(vcpu, mmio_exit_kernel);
	vcf_call(vcpu, guest_load_often, &guest_loads);
	sync_global_from_guest(vcpu->vm, guest_loads);
	result.exits = vcpu_get_stat(vcpu, exits) - result.exits;
	result.mmio_exits = vcpu_get_stat(vcpu, mmio_exit_kernel) - result.mmio_exits;
	result.val = guest_loads.val;
	result.nr_others = guest_loads.nr_others;
	return result;
}

TEST_F(slot, loads_of_every_register_do_not_exit_and_are_as_those_that_do)
{
	u32 page, reg, requests = 0;

	for (page = 0; page < NR_SLOT_PAGES; page++) {
		for (reg = 0; reg < REG_END; reg += 4) {
			struct result without, with;

			vcf_set_perf(self->vcpu, page, 500 + requests++);
			vcf_store(self->vcpu, VCF_REG(page, REG_PERFTBL_SEL), requests % 10);
			vcf_enter(self->vcpus[page]);
			without = load_often(self->vcpu, page, reg);
			EXPECT_LE(NR_LOADS, without.mmio_exits);
			EXPECT_EQ(0, without.nr_others);

			vcf_slot_add(self->vm, self->map, NR_SLOT_PAGES);
			with = load_often(self->vcpu, page, reg);
			EXPECT_EQ(0, with.mmio_exits);
			EXPECT_GE(NR_LOADS / 5, with.exits);
			EXPECT_EQ(0, with.nr_others);
			if (reg != REG_CUR_PERF || !vcf_host_has_freqs())
				EXPECT_EQ(without.val, with.val);
			vcf_slot_remove(self->vm);
		}
	}
}

TEST_F(slot, loads_of_any_width_and_offset_are_the_pages_bytes)
{
	const u32 offsets[] = {
		0x00, 0x01, 0x02, 0x03, 0x04, 0x05, 0x06, 0x07, 0x08, 0x0c, 0x0d, 0x10, 0x13,
		0x14, 0x16, 0x17, 0x18, 0x1c, 0x100, 0x7fc, 0xff8,
	};
	u64 val, expected;
	u32 page, size;
	int i;

	vcf_set_perf(self->vcpu, 0, 0x234);
	vcf_store(self->vcpu, VCF_REG(0, REG_PERFTBL_SEL), 0x87654321);
	vcf_slot_add(self->vm, self->map, NR_SLOT_PAGES);
	for (page = 0; page < NR_SLOT_PAGES; page++) {
		for (i = 0; i < ARRAY_SIZE(offsets); i++) {
			for (size = 1; size <= 8; size *= 2) {
				gpa_t gpa = VCF_REG(page, offsets[i]);

				expected = 0;
				memcpy(&expected, self->map + (gpa - VCF_GPA), size);
				ASSERT_TRUE(__vcf_load(self->vcpu, gpa, size, &val));
				EXPECT_EQ(expected, val);
				EXPECT_TRUE(offsets[i] < REG_END || !val);
			}
		}
	}
}

TEST_F(slot, stores_reach_the_device)
{
	const u32 ignored[] = { REG_CUR_PERF, REG_PERFTBL_LEN, REG_PERFTBL_RD, REG_PERF_DOMAIN };
	u32 page, before[REG_END / 4], i;

	vcf_slot_add(self->vm, self->map, NR_SLOT_PAGES);

	/* Of the first store the guest has not loaded the page yet, later it has. */
	for (i = 0; i < 10; i++) {
		page = i % NR_SLOT_PAGES;
		vcf_set_perf(self->vcpu, page, 200 + i);
		EXPECT_EQ(200 + i, vcf_load(self->vcpu, VCF_REG(page, REG_SET_PERF)));
		if (page < 2)
			EXPECT_EQ(200 + i, vcf_uclamp(vcf_gettid()).eff_min);
		vcf_store(self->vcpu, VCF_REG(page, REG_PERFTBL_SEL), i);
		EXPECT_EQ(i, vcf_load(self->vcpu, VCF_REG(page, REG_PERFTBL_SEL)));
		EXPECT_EQ(i < NR_PERF ? PERF(i) : 0,
			  vcf_load(self->vcpu, VCF_REG(page, REG_PERFTBL_RD)));
	}

	memcpy(before, self->map, REG_END);
	for (i = 0; i < ARRAY_SIZE(ignored); i++)
		vcf_store(self->vcpu, VCF_REG(0, ignored[i]), -1U);
	EXPECT_EQ(0, memcmp(before, self->map, REG_END));
}

TEST_F(slot, other_stores_are_the_vmms)
{
	const struct {
		u32 offset, size;
	} rows[] = {
		{ REG_SET_PERF,		1 },
		{ REG_SET_PERF,		2 },
		{ REG_SET_PERF + 2,	2 },
		{ REG_SET_PERF + 2,	4 },
		{ REG_CUR_PERF,		8 },
		{ REG_PERFTBL_SEL,	8 },
		{ REG_END,		4 },
		{ 0x100,		1 },
		{ 0xffc,		4 },
	};
	struct kvm_run *run = self->vcpu->run;
	u32 before[VCF_PAGE_SIZE / 4];
	int i;

	vcf_slot_add(self->vm, self->map, NR_SLOT_PAGES);
	vcf_load(self->vcpu, VCF_REG(1, REG_SET_PERF));
	memcpy(before, self->map + VCF_PAGE_SIZE, VCF_PAGE_SIZE);
	for (i = 0; i < ARRAY_SIZE(rows); i++) {
		gpa_t gpa = VCF_REG(1, rows[i].offset);

		ASSERT_FALSE(__vcf_store(self->vcpu, gpa, rows[i].size, -1UL));
		EXPECT_EQ(KVM_EXIT_MMIO, run->exit_reason);
		EXPECT_EQ(gpa, run->mmio.phys_addr);
		EXPECT_EQ(rows[i].size, run->mmio.len);
		EXPECT_EQ(1, run->mmio.is_write);
		vcf_continue(self->vcpu, NULL);
		EXPECT_EQ(0, memcmp(before, self->map + VCF_PAGE_SIZE, VCF_PAGE_SIZE));
	}
}

/* Store to page 0 and look at once what it and its neighbour, of one domain, have. */
static struct guest_check {
	u32 rounds;
	u32 rounds_max;
	u32 wrong;
} guest_check;

static u32 guest_reg(u32 page, u32 reg)
{
	return readl_relaxed((void *)VCF_REG(page, reg));
}

static void guest_store_and_check(void *arg, const u32 *stop)
{
	struct guest_check *check = arg;
	u32 i, perf = 1, sel;

	for (i = 0; i < check->rounds_max && !READ_ONCE(*stop); i++) {
		perf = perf % 1024 + 1;
		writel_relaxed(perf, (void *)VCF_REG(0, REG_SET_PERF));
		check->wrong += guest_reg(0, REG_SET_PERF) != perf;
		check->wrong += guest_reg(1, REG_SET_PERF) != perf;

		sel = i % (NR_PERF + 2);
		writel_relaxed(sel, (void *)VCF_REG(1, REG_PERFTBL_SEL));
		check->wrong += guest_reg(1, REG_PERFTBL_SEL) != sel;
		check->wrong += guest_reg(1, REG_PERFTBL_RD) != (sel < NR_PERF ? PERF(sel) : 0);
		check->wrong += guest_reg(0, REG_PERFTBL_SEL) != 0;
		check->wrong += guest_reg(2, REG_SET_PERF) != 0;
		WRITE_ONCE(check->rounds, i + 1);
	}
}

TEST_F(slot, shows_a_store_on_all_pages_before_the_next_instruction)
{
	guest_check = (struct guest_check) { .rounds_max = 3000 };
	sync_global_to_guest(self->vm, guest_check);
	vcf_slot_add(self->vm, self->map, NR_SLOT_PAGES);
	vcf_call(self->vcpu, guest_store_and_check, &guest_check);
	sync_global_from_guest(self->vm, guest_check);
	EXPECT_EQ(3000, guest_check.rounds);
	EXPECT_EQ(0, guest_check.wrong);
}

TEST_F(slot, may_come_and_go_while_the_guest_runs)
{
	struct guest_check *check = addr_gva2hva(self->vm, (gva_t)&guest_check);
	int i;

	guest_check = (struct guest_check) { .rounds_max = -1U };
	sync_global_to_guest(self->vm, guest_check);
	vcf_worker_begin(&self->worker, self->vcpu, guest_store_and_check, &guest_check);
	for (i = 0; i < 60; i++) {
		u32 before = READ_ONCE(check->rounds);

		if (i % 2)
			vcf_slot_remove(self->vm);
		else
			vcf_slot_add(self->vm, self->map, NR_SLOT_PAGES);
		ASSERT_TRUE(VCF_WAIT_FOR(READ_ONCE(check->rounds) > before + 1));
	}
	vcf_worker_stop_spin(&self->worker, self->vcpu);
	EXPECT_EQ(0, check->wrong);
	EXPECT_TRUE(guest_and_map_agree(self->vcpu, self->map, NR_SLOT_PAGES));
}

TEST_F(slot, goes_on_when_the_descriptor_is_closed)
{
	vcf_set_perf(self->vcpu, 0, 300);
	vcf_slot_add(self->vm, self->map, NR_SLOT_PAGES);
	EXPECT_EQ(300, vcf_load(self->vcpu, VCF_REG(1, REG_SET_PERF)));
	close(self->fd);
	vcf_set_perf(self->vcpu, 1, 400);
	EXPECT_EQ(400, vcf_load(self->vcpu, VCF_REG(0, REG_SET_PERF)));
	EXPECT_EQ(400, vcf_uclamp(vcf_gettid()).eff_min);
}

/* Then the device is gone, too. The VMM should have removed the slot first. */
TEST_F(slot, whose_memory_is_unmapped_does_no_harm)
{
	vcf_set_perf(self->vcpu, 0, 300);
	vcf_slot_add(self->vm, self->map, NR_SLOT_PAGES);
	EXPECT_EQ(300, vcf_load(self->vcpu, VCF_REG(1, REG_SET_PERF)));
	vcf_unmap(self->map, NR_SLOT_PAGES);
	vcf_set_perf(self->vcpu, 0, 400);
	close(self->fd);
	EXPECT_EQ(0, vcf_uclamp(vcf_gettid()).eff_min);
	ASSERT_FALSE(__vcf_store(self->vcpu, VCF_REG(0, REG_SET_PERF), 4, 700));
	EXPECT_EQ(KVM_EXIT_MMIO, self->vcpu->run->exit_reason);
	vcf_continue(self->vcpu, NULL);
}

/*
 * Cleans to the point of coherency. The device makes them for every word that changes,
 * mapped or not, unless the guest's accesses are made cacheable by FEAT_S2FWB.
 */
FIXTURE(cleans) {
	struct kvm_vm *vm;
	struct kvm_vcpu *vcpus[4];
	struct kvm_vcpu *vcpu;
	bool fwb;
	int fd;
};

FIXTURE_SETUP(cleans)
{
	struct vcf_args args;
	int i;

	self->vm = vcf_vm_create(4, self->vcpus);
	self->vcpu = self->vcpus[0];
	self->fwb = vcf_host_has_fwb(self->vcpu);
	vcf_args_init(&args, 4, VCF_HINT_MINMAX);
	vcf_args_set_domain(&args, 3, 1);
	self->fd = vcf_create(self->vm, &args);
	for (i = 0; i < 4; i++)
		vcf_enter(self->vcpus[i]);
	if (!vcf_cleans_begin())
		SKIP(return, "needs kprobe events");
}

FIXTURE_TEARDOWN_PARENT(cleans)
{
	vcf_trace_end();
}

/* Without those of cur_perf, which change when the host's frequency does */
static int take_cleans(struct vcf_clean cleans[], int max)
{
	int i, n = vcf_cleans(cleans, max), taken = 0;

	for (i = 0; i < n; i++) {
		if (cleans[i].addr % VCF_PAGE_SIZE != REG_CUR_PERF)
			cleans[taken++] = cleans[i];
	}

	return taken;
}

/*
 * Since the last look this register was cleaned once on each of so many pages, after it
 * had the new value; nothing was on a host with FWB.
 */
static bool cleaned(struct _test_data_cleans *self, u32 nr_pages, u32 reg, u32 val)
{
	struct vcf_clean cleans[64];
	int i, j, n, good = 0;

	n = take_cleans(cleans, ARRAY_SIZE(cleans));
	for (i = 0; i < n; i++) {
		for (j = 0; j < i && cleans[j].addr != cleans[i].addr; j++)
			;
		good += j == i && cleans[i].addr % VCF_PAGE_SIZE == reg && cleans[i].val == val;
	}

	if (n == good && n == (self->fwb ? 0 : nr_pages))
		return true;
	pr_info("# %d cleans, %d of them as expected, FWB %d\n", n, good, self->fwb);
	return false;
}

static bool nothing_cleaned(struct _test_data_cleans *self)
{
	return cleaned(self, 0, 0, 0);
}

TEST_F(cleans, are_one_for_each_page_of_the_domain_whose_request_changed)
{
	int i;

	for (i = 0; i < 5; i++) {
		vcf_set_perf(self->vcpus[i % 4], 1, 100 + i);
		EXPECT_TRUE(cleaned(self, 3, REG_SET_PERF, 100 + i));
		vcf_set_perf(self->vcpus[i % 4], 3, 200 + i);
		EXPECT_TRUE(cleaned(self, 1, REG_SET_PERF, 200 + i));
	}
	vcf_set_perf(self->vcpu, 0, -1U);
	EXPECT_TRUE(cleaned(self, 3, REG_SET_PERF, 1024));
}

TEST_F(cleans, are_one_for_each_word_that_a_selection_changed)
{
	struct vcf_clean cleans[8];

	/* Beyond the table perftbl_rd stays 0. */
	vcf_store(self->vcpu, VCF_REG(2, REG_PERFTBL_SEL), NR_PERF);
	EXPECT_EQ(self->fwb ? 0 : 2, take_cleans(cleans, ARRAY_SIZE(cleans)));
	vcf_store(self->vcpu, VCF_REG(2, REG_PERFTBL_SEL), NR_PERF + 1);
	EXPECT_TRUE(cleaned(self, 1, REG_PERFTBL_SEL, NR_PERF + 1));
	vcf_store(self->vcpu, VCF_REG(2, REG_PERFTBL_SEL), 3);
	EXPECT_EQ(self->fwb ? 0 : 2, take_cleans(cleans, ARRAY_SIZE(cleans)));
}

TEST_F(cleans, are_none_when_nothing_changed)
{
	int i;

	vcf_set_perf(self->vcpu, 0, 300);
	vcf_store(self->vcpu, VCF_REG(0, REG_PERFTBL_SEL), 5);
	vcf_trace_forget();

	vcf_set_perf(self->vcpu, 1, 300);
	vcf_store(self->vcpu, VCF_REG(0, REG_PERFTBL_SEL), 5);
	vcf_store(self->vcpu, VCF_REG(0, REG_CUR_PERF), 5);
	vcf_load(self->vcpu, VCF_REG(0, REG_SET_PERF));
	for (i = 0; i < 4; i++)
		vcf_enter(self->vcpus[i]);
	vcf_set_regs(self->fd, 0, 300, 5);
	EXPECT_TRUE(nothing_cleaned(self));
}

TEST_F(cleans, follow_set_regs_too)
{
	vcf_set_regs(self->fd, 1, 300, 0);
	EXPECT_TRUE(cleaned(self, 3, REG_SET_PERF, 300));
	vcf_set_regs(self->fd, 2, 0, 0);
	EXPECT_TRUE(cleaned(self, 3, REG_SET_PERF, 0));
	vcf_store(self->vcpu, VCF_REG(3, REG_PERFTBL_SEL), NR_PERF);
	vcf_trace_forget();
	vcf_set_regs(self->fd, 3, 0, -1U);
	EXPECT_TRUE(cleaned(self, 1, REG_PERFTBL_SEL, -1U));
}

int main(int argc, char *argv[])
{
	TEST_REQUIRE(kvm_has_cap(KVM_CAP_VIRT_CPUFREQ));
	return test_harness_run(argc, argv);
}
