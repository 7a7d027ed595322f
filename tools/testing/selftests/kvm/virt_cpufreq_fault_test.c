// SPDX-License-Identifier: GPL-2.0-only
/*
 * KVM_CREATE_VIRT_CPUFREQ: every allocation and every copy from userspace fails once
 *
 * By /proc/<pid>/fail-nth, with 1, 2, 3, ... until nothing is left to fail. It needs a
 * kernel with CONFIG_FAULT_INJECTION, _DEBUG_FS and _USERCOPY, CONFIG_FAILSLAB and
 * CONFIG_FAIL_PAGE_ALLOC, and is best run on one with CONFIG_KASAN and CONFIG_DEBUG_KMEMLEAK.
 */
#include <dirent.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <sys/mman.h>

#include "kvm_test_harness.h"
#include "processor.h"
#include "virt_cpufreq.h"

#define FAIL_NTH	"/proc/thread-self/fail-nth"
#define DEBUGFS		"/sys/kernel/debug/"
#define KMEMLEAK	DEBUGFS "kmemleak"

/* Pages 0 and 1 are one domain, page 2 is another. */
#define NR_PAGES	3
#define MAX_FAILURES	1000

#define KMSG_SIZE	8192

/*
 * The calls in virt_cpufreq.c that allocate or copy when a device is created: the argument,
 * a page, the device, a domain, the registers, their file, the device's file, the bus
 */
#define NR_CALLS_IN_CREATE	8
#define NR_COPIES_IN_CREATE	(1 + NR_PAGES)
#define MAX_CALLS		32
#define MAX_SWEEPS		10

FIXTURE(fault) {
	struct kvm_vm *vm;
	struct kvm_vcpu *vcpus[NR_PAGES];
	struct vcf_args args;
	int eventfd;
	int fail_nth;
	int kmsg;
	u32 nr_errors;		/* failures that the operation returned */
	char failed_call[64];	/* of virt_cpufreq.c, that has failed in the operation */
	/* Those whose failure was returned */
	char calls[MAX_CALLS][64];
	u32 nr_calls;
	bool bus_is_lost;	/* as KVM says */
	u32 nr_buses_lost;
	u32 nr_efaults;
	int nr_areas;
	int eventfd_id;
	char fds[1024];
	/* Of the operation that is to fail */
	int fd;
	void *map;
};

static const struct {
	const char *file, *val;
} settings[] = {
	{ DEBUGFS "failslab/ignore-gfp-wait",			"N" },
	{ DEBUGFS "fail_page_alloc/ignore-gfp-wait",		"N" },
	{ DEBUGFS "fail_page_alloc/ignore-gfp-highmem",		"N" },
	{ DEBUGFS "fail_page_alloc/min-order",			"0" },
	/* With a backtrace, which tells what call it was that failed */
	{ DEBUGFS "failslab/verbose",				"2" },
	{ DEBUGFS "fail_page_alloc/verbose",			"2" },
	{ DEBUGFS "fail_usercopy/verbose",			"2" },
};

/* The names of all open descriptors */
static void list_fds(char *list, size_t size)
{
	struct dirent *entry;
	size_t len = 0;
	DIR *dir;

	dir = opendir("/proc/self/fd");
	TEST_ASSERT(dir, "No /proc/self/fd");
	while ((entry = readdir(dir)))
		len += snprintf(list + len, size - len, "%s ", entry->d_name);
	closedir(dir);
	TEST_ASSERT(len < size, "Too many descriptors");
}

static u64 signals(int eventfd)
{
	u64 n;

	return read(eventfd, &n, sizeof(n)) == sizeof(n) ? n : 0;
}

static int create(struct _test_data_fault *self)
{
	self->fd = __vcf_create(self->vm, &self->args);
	return self->fd < 0 ? self->fd : 0;
}

static void new_vm(struct _test_data_fault *self)
{
	int i;

	self->vm = vcf_vm_create(NR_PAGES, self->vcpus);
	/* What a first run needs is allocated then. */
	for (i = 0; i < NR_PAGES; i++)
		vcf_enter(self->vcpus[i]);
}

FIXTURE_SETUP(fault)
{
	int i;

	for (i = 0; i < ARRAY_SIZE(settings); i++)
		vcf_write_file(settings[i].file, "%s", settings[i].val);
	self->fail_nth = open(FAIL_NTH, O_RDWR);
	ASSERT_LE(0, self->fail_nth);
	self->kmsg = open("/dev/kmsg", O_RDONLY | O_NONBLOCK);
	ASSERT_LE(0, self->kmsg);
	ASSERT_EQ(0, lseek(self->kmsg, 0, SEEK_END));

	new_vm(self);
	self->eventfd_id = vcf_next_eventfd_id();
	self->eventfd = eventfd(0, EFD_NONBLOCK);
	vcf_args_init(&self->args, NR_PAGES, VCF_ALL_FLAGS);
	self->args.create.notify_fd = self->eventfd;
	vcf_args_set_domain(&self->args, 2, 1);
	self->nr_areas = vcf_nr_areas();
	list_fds(self->fds, sizeof(self->fds));
}

/* The kernel may say that it had no memory, but not that something is wrong. */
static bool is_complaint(const char *line)
{
	static const char * const words[] = {
		"BUG: ", "WARNING: ", "UBSAN: ", "INFO: ", "Oops", "refcount_t",
	};
	int i;

	for (i = 0; i < ARRAY_SIZE(words); i++) {
		if (strstr(line, words[i]))
			return true;
	}
	return false;
}

/* The device's function in a line of a backtrace, and where it is in there */
static void read_call(const char *line, char call[64])
{
	const char *text = strchr(line, ';');
	char name[48];
	u32 offset;

	if (!text || sscanf(text, "; %47[A-Za-z0-9_.]+0x%x/0x", name, &offset) != 2 ||
	    !strstr(name, "virt_cpufreq"))
		return;
	snprintf(call, 64, "%s+%#x", name, offset);
}

static void check_log(struct _test_data_fault *self)
{
	char line[KMSG_SIZE];
	ssize_t len;

	self->failed_call[0] = 0;
	self->bus_is_lost = false;
	while ((len = read(self->kmsg, line, sizeof(line) - 1)) > 0) {
		line[len] = 0;
		TEST_ASSERT(!is_complaint(line), "The kernel says: %s", line);
		if (!self->failed_call[0])
			read_call(line, self->failed_call);
		self->bus_is_lost |= !!strstr(line, "failed to shrink bus");
	}
	TEST_ASSERT(errno == EAGAIN, "Some of the log is lost");
}

static void note_failed_call(struct _test_data_fault *self)
{
	u32 i;

	if (!self->failed_call[0])
		return;
	for (i = 0; i < self->nr_calls; i++) {
		if (!strcmp(self->calls[i], self->failed_call))
			return;
	}
	TEST_ASSERT(i < MAX_CALLS, "Too many calls");
	strcpy(self->calls[self->nr_calls++], self->failed_call);
}

FIXTURE_TEARDOWN(fault)
{
	kvm_vm_free(self->vm);
	close(self->eventfd);
	EXPECT_EQ(self->nr_areas, vcf_nr_areas());
	EXPECT_TRUE(VCF_WAIT_FOR(vcf_next_eventfd_id() <= self->eventfd_id));
	check_log(self);
}

/* Have the @n-th chance to fail be taken; 0: none. That copies, too, hence may fail itself. */
static void fail_nth(struct _test_data_fault *self, u32 n)
{
	char text[16];

	snprintf(text, sizeof(text), "%u", n);
	if (write(self->fail_nth, text, strlen(text)) < 0)
		TEST_ASSERT(!n && errno == EFAULT, "Cannot write " FAIL_NTH);
}

/* Has it been taken? If reading that fails, then it is taken by the reading. */
static bool has_failed(struct _test_data_fault *self)
{
	char text[16] = "";

	return pread(self->fail_nth, text, sizeof(text) - 1, 0) > 0 && !atoi(text);
}

/*
 * Call @fn with each of its chances failing, and @after after that; returns how many
 * there are. What falls back to something else succeeds nevertheless. As the first one:
 * not to fail.
 */
static u32 fail_each(struct _test_data_fault *self, int (*fn)(struct _test_data_fault *self),
		     void (*after)(struct _test_data_fault *self, int r))
{
	bool failed = true;
	u32 n;
	int r;

	self->nr_errors = 0;
	self->nr_efaults = 0;
	for (n = 0; failed; n++) {
		TEST_ASSERT(n < MAX_FAILURES, "Always something to fail");
		fail_nth(self, n);
		r = fn(self);
		failed = !n || has_failed(self);
		fail_nth(self, 0);
		TEST_ASSERT(!r || (n && failed && (r == -ENOMEM || r == -EFAULT)),
			    "Failure %u: %s", n, strerror(-r));
		self->nr_errors += !!r;
		self->nr_efaults += r == -EFAULT;
		check_log(self);
		if (r)
			note_failed_call(self);
		after(self, r);
	}

	return n - 2;
}

/* Two different requests, because one could be a leftover; others make one of 300. */
static bool device_works(struct _test_data_fault *self)
{
	const u32 perfs[] = { 400, 700 };
	bool works = true;
	int i, vcpu;

	signals(self->eventfd);
	for (vcpu = 0; vcpu < NR_PAGES; vcpu++) {
		for (i = 0; i < ARRAY_SIZE(perfs); i++) {
			vcf_set_perf(self->vcpus[vcpu], vcpu, perfs[i]);
			works &= perfs[i] == vcf_load(self->vcpus[0], VCF_REG(vcpu, REG_SET_PERF));
			vcf_enter(self->vcpus[vcpu]);
			works &= perfs[i] == vcf_uclamp(vcf_gettid()).eff_min;
			works &= signals(self->eventfd) == 1;
		}
	}
	return works;
}

/* Nothing is there: a store arrives at the VMM. */
static bool nothing_is_there(struct _test_data_fault *self)
{
	struct kvm_vcpu *vcpu;
	bool exits = true;
	char fds[1024];
	int i;

	for (i = 0; i < NR_PAGES; i++) {
		vcpu = self->vcpus[i];
		if (__vcf_store(vcpu, VCF_REG(i, REG_SET_PERF), 4, 1))
			return false;
		exits &= vcpu->run->exit_reason == KVM_EXIT_MMIO;
		vcf_continue(vcpu, NULL);
	}
	list_fds(fds, sizeof(fds));
	return exits && !strcmp(fds, self->fds) && !vcf_uclamp(vcf_gettid()).eff_min &&
	       !signals(self->eventfd);
}

static void close_device(struct _test_data_fault *self)
{
	signals(self->eventfd);
	TEST_ASSERT(!close(self->fd), "close() failed");
	TEST_ASSERT(nothing_is_there(self), "Something is left");
}

static void after_create(struct _test_data_fault *self, int r)
{
	if (r) {
		TEST_ASSERT(nothing_is_there(self), "The VM is not as it was");
		TEST_ASSERT(!create(self), "And does not work any more");
	}
	TEST_ASSERT(device_works(self), "The device does not work");
	close_device(self);
}

TEST_F(fault, in_create_leaves_the_vm_as_it_was)
{
	u32 i, n, sweep;

	/* What looks for mistakes allocates, too, but not always as often: some may be missed. */
	for (sweep = 1; sweep <= MAX_SWEEPS; sweep++) {
		n = fail_each(self, create, after_create);
		pr_info("# %u failures, %u of them returned\n", n, self->nr_errors);
		if (self->nr_calls >= NR_CALLS_IN_CREATE && self->nr_efaults >= NR_COPIES_IN_CREATE)
			break;
	}
	for (i = 0; i < self->nr_calls; i++)
		pr_info("# returned: the failure of %s\n", self->calls[i]);
	EXPECT_LE(NR_CALLS_IN_CREATE, self->nr_calls);
	EXPECT_LE(NR_COPIES_IN_CREATE, self->nr_efaults);
}

/* When the bus is full, what has been allocated goes back. */
static int create_on_full_bus(struct _test_data_fault *self)
{
	int r = create(self);

	return r == -ENOSPC ? 0 : r ?: -EINVAL;
}

static void after_refusal(struct _test_data_fault *self, int r)
{
	TEST_ASSERT(nothing_is_there(self), "The VM is not as it was");
}

TEST_F(fault, in_a_create_that_is_refused_leaves_the_vm_as_it_was)
{
	struct kvm_coalesced_mmio_zone zone = { .addr = 1UL << 32, .size = 8 };

	for (; !__vm_ioctl(self->vm, KVM_REGISTER_COALESCED_MMIO, &zone); zone.addr += 8)
		;
	EXPECT_LE(NR_COPIES_IN_CREATE, fail_each(self, create_on_full_bus, after_refusal));
}

static int map(struct _test_data_fault *self)
{
	self->map = mmap(NULL, vcf_map_size(NR_PAGES), PROT_READ, MAP_SHARED, self->fd, 0);
	return self->map == MAP_FAILED ? -errno : 0;
}

static bool map_works(const void *map, u32 request)
{
	return vcf_map_reg(map, 0, REG_SET_PERF) == request &&
	       vcf_map_reg(map, NR_PAGES - 1, REG_PERF_DOMAIN) == 1;
}

static void after_map(struct _test_data_fault *self, int r)
{
	TEST_ASSERT(r || map_works(self->map, 300), "The mapping does not work");
	if (!r)
		vcf_unmap(self->map, NR_PAGES);
	TEST_ASSERT(vcf_load(self->vcpus[0], VCF_REG(1, REG_SET_PERF)) == 300, "Nor the device");
}

TEST_F(fault, in_mmap_leaves_the_device_as_it_was)
{
	ASSERT_EQ(0, create(self));
	vcf_set_perf(self->vcpus[0], 0, 300);
	EXPECT_LE(1, fail_each(self, map, after_map));
	EXPECT_TRUE(device_works(self));
	close_device(self);
}

/* The kernel tries again when it had no memory for page tables. */
static int touch(struct _test_data_fault *self)
{
	return map_works(self->map, 300) ? 0 : -EINVAL;
}

static void map_elsewhere(struct _test_data_fault *self, int r)
{
	static const size_t far = 1UL << 30;
	static void *addr = (void *)(1UL << 40);

	vcf_unmap(self->map, NR_PAGES);
	addr += far;
	self->map = mmap(addr, vcf_map_size(NR_PAGES), PROT_READ, MAP_SHARED, self->fd, 0);
	TEST_ASSERT(self->map == addr, "mmap() failed");
}

TEST_F(fault, in_the_first_access_to_the_mapping_is_made_good)
{
	ASSERT_EQ(0, create(self));
	vcf_set_perf(self->vcpus[0], 0, 300);
	ASSERT_EQ(0, map(self));
	map_elsewhere(self, 0);
	EXPECT_LE(1, fail_each(self, touch, map_elsewhere));
	EXPECT_TRUE(device_works(self));
	vcf_unmap(self->map, NR_PAGES);
	close_device(self);
}

static int unmap(struct _test_data_fault *self)
{
	return munmap(self->map, vcf_map_size(NR_PAGES)) ? -errno : 0;
}

static void map_again(struct _test_data_fault *self, int r)
{
	TEST_ASSERT(!r || map_works(self->map, 300), "Neither mapped nor not");
	TEST_ASSERT(!r || !unmap(self), "Cannot be unmapped");
	TEST_ASSERT(!map(self) && map_works(self->map, 300), "Cannot be mapped again");
}

TEST_F(fault, in_munmap_leaves_the_mapping_as_it_was)
{
	ASSERT_EQ(0, create(self));
	vcf_set_perf(self->vcpus[0], 0, 300);
	ASSERT_EQ(0, map(self));
	EXPECT_LE(1, fail_each(self, unmap, map_again));
	vcf_unmap(self->map, NR_PAGES);
	close_device(self);
}

static int set_regs(struct _test_data_fault *self)
{
	return __vcf_set_regs(self->fd, 1, 300, 3);
}

static void after_set_regs(struct _test_data_fault *self, int r)
{
	struct kvm_vcpu *vcpu = self->vcpus[0];

	TEST_ASSERT_EQ(vcf_load(vcpu, VCF_REG(0, REG_SET_PERF)), r ? 0 : 300);
	TEST_ASSERT_EQ(vcf_load(vcpu, VCF_REG(1, REG_PERFTBL_SEL)), r ? 0 : 3);
	TEST_ASSERT_EQ(vcf_load(vcpu, VCF_REG(1, REG_PERFTBL_RD)), r ? 128 : 512);
	TEST_ASSERT_EQ(vcf_uclamp(vcf_gettid()).eff_min, r ? 0 : 300);
	TEST_ASSERT_EQ(signals(self->eventfd), !r);
	vcf_set_regs(self->fd, 1, 0, 0);
	signals(self->eventfd);
}

TEST_F(fault, in_set_regs_leaves_the_registers_as_they_were)
{
	ASSERT_EQ(0, create(self));
	EXPECT_EQ(1, fail_each(self, set_regs, after_set_regs));
	EXPECT_TRUE(device_works(self));
	close_device(self);
}

/* Nothing of what a guest does allocates or copies, so that it cannot fail. */
static int access_as_guest(struct _test_data_fault *self)
{
	u32 page, reg;

	for (page = 0; page < NR_PAGES; page++) {
		for (reg = 0; reg < REG_END; reg += 4) {
			vcf_store(self->vcpus[page], VCF_REG(page, reg), 100 + page);
			vcf_load(self->vcpus[page], VCF_REG(page, reg));
			vcf_store(self->vcpus[page], VCF_REG(page, reg), 200 + page);
		}
	}
	return 0;
}

static void after_access(struct _test_data_fault *self, int r)
{
}

TEST_F(fault, is_not_to_be_had_in_what_a_guest_does)
{
	ASSERT_EQ(0, create(self));
	EXPECT_EQ(0, fail_each(self, access_as_guest, after_access));
	close_device(self);
}

static int close_fd(struct _test_data_fault *self)
{
	return close(self->fd) ? -errno : 0;
}

static void after_close(struct _test_data_fault *self, int r)
{
	int created;

	TEST_ASSERT(nothing_is_there(self), "Something is left");
	created = create(self);
	/*
	 * KVM gives a VM's bus up when it cannot allocate a smaller one: the VM goes on
	 * without anything on it.
	 */
	TEST_ASSERT_EQ(created, self->bus_is_lost ? -ENOMEM : 0);
	if (self->bus_is_lost) {
		self->nr_buses_lost++;
		kvm_vm_free(self->vm);
		new_vm(self);
		created = create(self);
	}
	TEST_ASSERT(!created, "Cannot be created again: %s", strerror(-created));
	TEST_ASSERT(device_works(self), "And does not work");
}

TEST_F(fault, in_close_ends_the_device_nevertheless)
{
	ASSERT_EQ(0, create(self));
	ASSERT_TRUE(device_works(self));
	EXPECT_LE(1, fail_each(self, close_fd, after_close));
	EXPECT_EQ(1, self->nr_buses_lost);
	close_device(self);
}

/* Last: what all of them have left behind */
TEST_F(fault, has_leaked_nothing)
{
	const size_t size = 1 << 20;	/* too big for what the guest gets a copy of */
	char *leaks = malloc(size);
	int i;

	if (access(KMEMLEAK, W_OK))
		SKIP(return, "needs kmemleak");
	/* It looks only at what is some seconds old. */
	for (i = 0; i < 2; i++) {
		sleep(6);
		vcf_write_file(KMEMLEAK, "scan");
	}
	ASSERT_TRUE(vcf_read_file(KMEMLEAK, leaks, size));
	EXPECT_EQ(NULL, strstr(leaks, "virt_cpufreq"))
		TH_LOG("%s", leaks);
	free(leaks);
}

int main(int argc, char *argv[])
{
	int i;

	TEST_REQUIRE(kvm_has_cap(KVM_CAP_VIRT_CPUFREQ));
	__TEST_REQUIRE(!access(FAIL_NTH, W_OK), "No fault injection: no " FAIL_NTH);
	for (i = 0; i < ARRAY_SIZE(settings); i++)
		__TEST_REQUIRE(!access(settings[i].file, W_OK), "No %s", settings[i].file);
	return test_harness_run(argc, argv);
}
