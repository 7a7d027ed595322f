// SPDX-License-Identifier: GPL-2.0-only
/*
 * KVM_CREATE_VIRT_CPUFREQ: what devices, their threads and whole VMMs go through
 *
 * They come and go, are killed, moved, frozen and suspended; CPUs go away under them. After
 * each test the host is as it was before: memory, descriptors, VMs, the clamps of all
 * threads, and the room on the VM's bus. On a slow kernel VCF_LIFE_PERCENT (100) makes it
 * shorter.
 */
#include <dirent.h>
#include <fcntl.h>
#include <sched.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "kvm_test_harness.h"
#include "processor.h"
#include "virt_cpufreq.h"

#include <cgroup_util.h>

#define NR_CYCLES	percent_of(10000)
#define NR_KILLS	percent_of(1000)
#define NR_THREADS	percent_of(1000)
#define NR_EXECS	percent_of(100)
#define NR_MOVES	100
#define NR_FREEZES	20
#define NR_PLUGS	4
#define NR_SUSPENDS	3
#define NR_SWITCHES	percent_of(2000)
#define NR_MAKERS	8
#define NR_VCPUS	4

#define CGROUP_NAME	"virt_cpufreq_life"
#define KMEMLEAK	"/sys/kernel/debug/kmemleak"
#define DROP_CACHES	"/proc/sys/vm/drop_caches"
#define POWER_STATE	"/sys/power/state"
#define WAKEALARM	"/sys/class/rtc/rtc0/wakealarm"
#define WAKEUP_COUNT	"/sys/power/wakeup_count"

/* Argument of this program when a VMM has executed it */
#define EXPECT_NOTHING	"--expect-nothing"

static u32 percent_of(u32 nr)
{
	const char *percent = getenv("VCF_LIFE_PERCENT");

	return percent ? nr * atoi(percent) / 100 : nr;
}

/* What there is on the host; memory in KiB */
struct host {
	int nr_areas;
	int nr_fds;
	int nr_vms;
	int nr_hinted;
	int eventfd_id;
	int bus_room;
	long unreclaimable;
	long vmalloc;
	long stacks;
	long used;
};

FIXTURE(life) {
	struct kvm_vm *vm;
	struct kvm_vcpu *vcpus[NR_VCPUS];
	struct vcf_worker workers[NR_VCPUS];
	int nr_cpus;
	char base[64], limited[128];	/* cgroups */
	struct host before;
};

static long kib_of(const char *name)
{
	char text[4096], *line;

	TEST_ASSERT(vcf_read_file("/proc/meminfo", text, sizeof(text)), "No /proc/meminfo");
	line = strstr(text, name);
	TEST_ASSERT(line, "No %s in /proc/meminfo", name);
	return atol(line + strlen(name));
}

/* Threads of the whole host whose clamps in effect are not their own */
static int nr_hinted(void)
{
	struct dirent *process, *thread;
	DIR *proc = opendir("/proc"), *tasks;
	struct vcf_uclamp uclamp;
	char path[64];
	int n = 0;

	TEST_ASSERT(proc, "No /proc");
	while ((process = readdir(proc))) {
		if (!atoi(process->d_name))
			continue;
		snprintf(path, sizeof(path), "/proc/%d/task", atoi(process->d_name));
		tasks = opendir(path);
		while (tasks && (thread = readdir(tasks))) {
			if (__vcf_uclamp(atoi(thread->d_name), &uclamp))
				n += uclamp.eff_min != uclamp.min || uclamp.eff_max != uclamp.max;
		}
		if (tasks)
			closedir(tasks);
	}
	closedir(proc);
	return n;
}

/* The number of devices that have room on the VM's bus */
static int bus_room(struct kvm_vm *vm)
{
	struct kvm_coalesced_mmio_zone zone = { .addr = 1UL << 32, .size = 8 };
	int n = 0;

	while (!__vm_ioctl(vm, KVM_REGISTER_COALESCED_MMIO, &zone)) {
		zone.addr += 8;
		n++;
	}
	TEST_ASSERT_EQ(errno, ENOSPC);
	while (zone.addr > 1UL << 32) {
		zone.addr -= 8;
		vm_ioctl(vm, KVM_UNREGISTER_COALESCED_MMIO, &zone);
	}
	return n;
}

/* Free pages that the CPUs keep for themselves */
static long free_pages_of_cpus(void)
{
	char text[64 * 1024], *line = text;
	long pages = 0;

	TEST_ASSERT(vcf_read_file("/proc/zoneinfo", text, sizeof(text)), "No /proc/zoneinfo");
	while ((line = strstr(line, " count:"))) {
		line += strlen(" count:");
		pages += atol(line);
	}
	return pages;
}

/*
 * The kernel's records of areas of vmalloc, which it keeps after these are freed until there
 * are thousands of them
 */
static long kib_of_vmap_areas(void)
{
	char text[64 * 1024], *line;
	long slabs, pages;

	if (!vcf_read_file("/proc/slabinfo", text, sizeof(text)))
		return 0;
	line = strstr(text, "\nvmap_area ");
	if (!line || sscanf(line, " %*s %*d %*d %*d %*d %ld : %*s %*d %*d %*d : %*s %*d %ld",
			    &pages, &slabs) != 2)
		return 0;
	return slabs * pages * getpagesize() / 1024;
}

static void look_at(struct host *host)
{
	long kept;

	vcf_write_file(DROP_CACHES, "3");
	host->nr_areas = vcf_nr_areas();
	host->nr_fds = vcf_count_entries("/proc/self/fd");
	host->nr_vms = vcf_nr_vms(0);
	host->nr_hinted = nr_hinted();
	host->eventfd_id = vcf_next_eventfd_id();
	kept = kib_of_vmap_areas();
	host->unreclaimable = kib_of("\nSUnreclaim:") - kept;
	host->vmalloc = kib_of("\nVmallocUsed:");
	host->stacks = kib_of("\nKernelStack:");
	kept += free_pages_of_cpus() * getpagesize() / 1024;
	host->used = -kib_of("\nMemFree:") - kept;
}

/*
 * Caches grow by themselves, and each CPU has its own: with one CPU and pages of 4K this finds
 * what 1000 rounds leak if that is some 400 bytes or more each. A debug kernel keeps what was
 * freed, but finds by itself, and to the byte, what was not.
 */
static bool is_memory_as_before(const struct host *before, const struct host *now)
{
	long slack = (64 + 32 * vcf_nr_cpus()) * (getpagesize() / 1024);

	if (!access(KMEMLEAK, F_OK))
		return true;
	return now->unreclaimable < before->unreclaimable + slack &&
	       now->vmalloc < before->vmalloc + slack &&
	       now->stacks < before->stacks + slack &&
	       now->used < before->used + 4 * slack;
}

static bool is_as_before(const struct host *before, struct host *now)
{
	look_at(now);
	return now->nr_areas == before->nr_areas && now->nr_fds == before->nr_fds &&
	       now->nr_vms == before->nr_vms && now->nr_hinted == before->nr_hinted &&
	       now->eventfd_id == before->eventfd_id &&
	       is_memory_as_before(before, now);
}

static void expect_host_as_before(struct __test_metadata *_metadata, struct _test_data_life *self)
{
	const struct host *before = &self->before;
	struct host now = {};

	/* The last VM goes, and memory is freed, after grace periods. */
	EXPECT_TRUE(VCF_WAIT_FOR(is_as_before(before, &now)));
	EXPECT_EQ(before->bus_room, bus_room(self->vm));
	TH_LOG("before, now: areas %d %d, descriptors %d %d, VMs %d %d, hinted threads %d %d",
	       before->nr_areas, now.nr_areas, before->nr_fds, now.nr_fds, before->nr_vms,
	       now.nr_vms, before->nr_hinted, now.nr_hinted);
	TH_LOG("next eventfd %d %d", before->eventfd_id, now.eventfd_id);
	TH_LOG("more KiB: unreclaimable %ld, vmalloc %ld, stacks %ld, all %ld",
	       now.unreclaimable - before->unreclaimable, now.vmalloc - before->vmalloc,
	       now.stacks - before->stacks, now.used - before->used);
}

#define EXPECT_CLAMPS(tid, eff_min_, eff_max_)				\
do {									\
	struct vcf_uclamp __have = vcf_uclamp(tid);			\
									\
	EXPECT_EQ(eff_min_, __have.eff_min);				\
	EXPECT_EQ(eff_max_, __have.eff_max);				\
} while (0)

#define EXPECT_HINT(tid, util)						\
do {									\
	u32 __util = (util);						\
									\
	EXPECT_CLAMPS(tid, __util, __util);				\
} while (0)

#define EXPECT_NO_HINT(tid)	EXPECT_CLAMPS(tid, 0, 1024)

static bool is_hinted(pid_t tid, u32 util)
{
	struct vcf_uclamp uclamp = vcf_uclamp(tid);

	return uclamp.eff_min == util && uclamp.eff_max == util;
}

/* A VMM of its own, step by step, until it is killed or told what else */
enum step {
	BEGUN,
	HAS_VM,
	HAS_DEVICE,
	HAS_MAPPING,
	HAS_SLOT,
	HAS_THREADS,
	IS_SERVING,
	HAS_CLOSED,
	NR_STEPS,
};

#define NR_VMM_VCPUS	2

struct vmm {
	struct kvm_vm *vm;
	struct kvm_vcpu *vcpus[NR_VMM_VCPUS];
	struct vcf_worker workers[NR_VMM_VCPUS];
	const void *map;
	int eventfd;
	int fd;
};

/* How far the VMM has come, for the process that started it */
static u32 *vmm_step;

static void reach(enum step step)
{
	if (*vmm_step < step)
		WRITE_ONCE(*vmm_step, step);
}

static void vmm_make_device(struct vmm *vmm)
{
	struct vcf_args args;

	vcf_args_init(&args, NR_VMM_VCPUS, VCF_ALL_FLAGS);
	args.create.notify_fd = vmm->eventfd;
	vmm->fd = vcf_create(vmm->vm, &args);
	reach(HAS_DEVICE);
	vmm->map = vcf_map(vmm->fd, NR_VMM_VCPUS);
	vcf_map_reg(vmm->map, 0, REG_CUR_PERF);
	reach(HAS_MAPPING);
	vcf_slot_add(vmm->vm, vmm->map, NR_VMM_VCPUS);
	reach(HAS_SLOT);
}

static void vmm_run(struct vmm *vmm)
{
	int i;

	for (i = 0; i < NR_VMM_VCPUS; i++)
		vcf_worker_store_forever(&vmm->workers[i], vmm->vcpus[i]);
	reach(IS_SERVING);
}

static void vmm_begin(struct vmm *vmm)
{
	int i;

	vmm->vm = vcf_vm_create(NR_VMM_VCPUS, vmm->vcpus);
	vmm->eventfd = eventfd(0, EFD_NONBLOCK);
	reach(HAS_VM);
	vmm_make_device(vmm);
	for (i = 0; i < NR_VMM_VCPUS; i++)
		vcf_worker_start(&vmm->workers[i]);
	reach(HAS_THREADS);
	vmm_run(vmm);
}

/* Stop the guest, which the device must not be taken from while it stores to it. */
static void vmm_close_device(struct vmm *vmm)
{
	int i;

	for (i = 0; i < NR_VMM_VCPUS; i++)
		vcf_worker_stop_spin(&vmm->workers[i], vmm->vcpus[i]);
	vcf_slot_remove(vmm->vm);
	vcf_unmap(vmm->map, NR_VMM_VCPUS);
	close(vmm->fd);
	reach(HAS_CLOSED);
}

static void vmm_main(void)
{
	struct vmm vmm;
	u32 n;

	for (vmm_begin(&vmm);; vmm_run(&vmm)) {
		for (n = 0; n < 32; n++)
			vcf_set_regs(vmm.fd, n % NR_VMM_VCPUS, n * 32, n);
		vmm_close_device(&vmm);
		vmm_make_device(&vmm);
	}
}

static void start_vmm_and_kill_it(struct __test_metadata *_metadata, u32 *seed)
{
	enum step step = rand_r(seed) % NR_STEPS;
	u32 delay = rand_r(seed) % 3000;
	int status;
	pid_t pid;

	*vmm_step = BEGUN;
	pid = fork();
	if (!pid) {
		vmm_main();
		_exit(0);
	}
	ASSERT_TRUE(VCF_WAIT_FOR(READ_ONCE(*vmm_step) >= step));
	usleep(delay);
	kill(pid, SIGKILL);
	ASSERT_EQ(pid, waitpid(pid, &status, 0));
	EXPECT_TRUE(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL)
		TH_LOG("step %u, %u us: status %#x", step, delay, status);
}

/* On its own thread: what is made, used and closed again and again */
struct maker {
	struct vcf_worker worker;
	struct kvm_vm *vm;
	struct kvm_vcpu *vcpu;
	u32 nr_cycles;
	bool may_be_refused;
	u32 nr_made;
	u32 nr_refused;
};

static void use_and_close(struct maker *maker, int fd, u32 n)
{
	u32 request = 1 + n % 1024;
	const void *map = NULL;

	if (n % 2)
		map = vcf_map(fd, 1);
	if (n % 8 == 1)
		vcf_slot_add(maker->vm, map, 1);
	vcf_set_perf(maker->vcpu, 0, request);
	if (n % 64 < 2)
		TEST_ASSERT(is_hinted(vcf_gettid(), request), "No hint in cycle %u", n);
	if (map)
		TEST_ASSERT_EQ(vcf_map_reg(map, 0, REG_SET_PERF), request);
	if (n % 8 == 1)
		vcf_slot_remove(maker->vm);
	if (n % 4 == 1)
		vcf_unmap(map, 1);
	close(fd);
	if (n % 4 == 3)
		vcf_unmap(map, 1);
	if (n % 64 < 2)
		TEST_ASSERT(vcf_uclamp(vcf_gettid()).eff_max == 1024, "A hint after cycle %u", n);
}

static void make_use_and_close(void *arg)
{
	struct maker *maker = arg;
	struct vcf_args args;
	u32 n;
	int fd;

	vcf_args_init(&args, 1, VCF_ALL_FLAGS);
	for (n = 0; n < maker->nr_cycles; n++) {
		/* One for each, so that a reference that is kept keeps its number. */
		args.create.notify_fd = eventfd(0, EFD_NONBLOCK);
		fd = __vcf_create(maker->vm, &args);
		if (fd >= 0) {
			use_and_close(maker, fd, n);
			maker->nr_made++;
		} else {
			TEST_ASSERT(maker->may_be_refused && fd == -EOPNOTSUPP,
				    "Cycle %u: %s", n, strerror(-fd));
			maker->nr_refused++;
			/* It may be on again soon. */
			usleep(500);
		}
		close(args.create.notify_fd);
	}
}

static void start_makers(struct maker makers[NR_MAKERS])
{
	int i;

	memset(makers, 0, NR_MAKERS * sizeof(*makers));
	for (i = 0; i < NR_MAKERS; i++) {
		makers[i].vm = vcf_vm_create(1, &makers[i].vcpu);
		vcf_worker_start(&makers[i].worker);
	}
}

static void post_makers(struct maker makers[NR_MAKERS], u32 nr_cycles)
{
	int i;

	for (i = 0; i < NR_MAKERS; i++) {
		makers[i].nr_cycles = nr_cycles;
		vcf_worker_post(&makers[i].worker, make_use_and_close, &makers[i]);
	}
}

static void wait_for_makers(struct maker makers[NR_MAKERS])
{
	int i;

	for (i = 0; i < NR_MAKERS; i++)
		vcf_worker_wait(&makers[i].worker);
}

static void stop_makers(struct maker makers[NR_MAKERS])
{
	int i;

	for (i = 0; i < NR_MAKERS; i++) {
		vcf_worker_stop(&makers[i].worker);
		kvm_vm_free(makers[i].vm);
	}
}

FIXTURE_SETUP(life)
{
	int i;

	self->nr_cpus = vcf_nr_cpus();
	self->vm = vcf_vm_create(NR_VCPUS, self->vcpus);
	for (i = 0; i < NR_VCPUS; i++)
		vcf_worker_start(&self->workers[i]);
	/* Whatever a vCPU's first run puts onto the bus */
	vcf_enter(self->vcpus[0]);
	vmm_step = kvm_mmap(getpagesize(), PROT_READ | PROT_WRITE,
			    MAP_SHARED | MAP_ANONYMOUS, -1);
}

FIXTURE_TEARDOWN_PARENT(life)
{
	char path[128];
	int i;

	vcf_switch_on();
	for (i = 1; i < self->nr_cpus; i++) {
		snprintf(path, sizeof(path), "/sys/devices/system/cpu/cpu%d/online", i);
		if (!access(path, W_OK))
			vcf_write_file(path, "1");
	}
	if (self->limited[0])
		cg_destroy(self->limited);
	if (self->base[0])
		cg_destroy(self->base);
}

/* After the test has done everything once: what stays from then on is no leak. */
static void remember_host(struct _test_data_life *self)
{
	self->before.bus_room = bus_room(self->vm);
	look_at(&self->before);
}

static int create(struct _test_data_life *self)
{
	return vcf_create_default(self->vm, NR_VCPUS, VCF_HINT_MINMAX);
}

TEST_F_TIMEOUT(life, of_ten_thousand_devices_leaves_nothing, 3600)
{
	struct maker makers[NR_MAKERS];
	int i, room;

	start_makers(makers);
	post_makers(makers, NR_CYCLES / NR_MAKERS / 10);
	wait_for_makers(makers);
	remember_host(self);
	room = bus_room(makers[0].vm);

	for (i = 0; i < NR_MAKERS; i++)
		makers[i].nr_made = 0;
	post_makers(makers, NR_CYCLES / NR_MAKERS);
	wait_for_makers(makers);
	for (i = 0; i < NR_MAKERS; i++)
		EXPECT_EQ(NR_CYCLES / NR_MAKERS, makers[i].nr_made);
	EXPECT_EQ(room, bus_room(makers[0].vm));
	expect_host_as_before(_metadata, self);
	stop_makers(makers);
}

TEST_F_TIMEOUT(life, of_a_thousand_vmms_that_are_killed_leaves_nothing, 3600)
{
	u32 seed = 1;
	int i;

	create(self);
	vcf_set_perf(self->vcpus[0], 0, 512);
	for (i = 0; i < NR_KILLS / 10; i++)
		start_vmm_and_kill_it(_metadata, &seed);
	remember_host(self);

	for (i = 0; i < NR_KILLS; i++)
		start_vmm_and_kill_it(_metadata, &seed);

	/* They leave others alone. */
	EXPECT_HINT(vcf_gettid(), 512);
	expect_host_as_before(_metadata, self);
	vcf_enter(self->vcpus[0]);
	EXPECT_HINT(vcf_gettid(), 512);
}

/* Each thread begins where the one before it has ended. */
static void run_on_threads(struct __test_metadata *_metadata, struct _test_data_life *self, int nr)
{
	struct vcf_worker worker;
	int i;

	for (i = 0; i < nr; i++) {
		vcf_worker_start(&worker);
		vcf_worker_enter(&worker, self->vcpus[0]);
		if (i % 50 == 0)
			EXPECT_HINT(worker.tid, 512);
		vcf_worker_stop(&worker);
	}
}

TEST_F_TIMEOUT(life, of_threads_that_serve_a_vcpu_in_turn_leaves_nothing, 600)
{
	int fd = create(self);

	vcf_worker_set_perf(&self->workers[1], self->vcpus[1], 1, 512);
	run_on_threads(_metadata, self, NR_THREADS / 10);
	remember_host(self);

	run_on_threads(_metadata, self, NR_THREADS);
	expect_host_as_before(_metadata, self);

	/* The last one is gone, and so is its hint. */
	vcf_worker_enter(&self->workers[0], self->vcpus[0]);
	EXPECT_HINT(self->workers[0].tid, 512);
	close(fd);
	EXPECT_NO_HINT(self->workers[0].tid);
}

static void execute_this_program(void *unused)
{
	execl("/proc/self/exe", "life", EXPECT_NOTHING, NULL);
	_exit(127);
}

/* The VMM's first thread executes it, or one that has a hint, while the guest runs. */
static void start_vmm_that_executes(struct __test_metadata *_metadata, bool vcpu_thread)
{
	int status;
	pid_t pid;

	pid = fork();
	if (!pid) {
		struct vmm vmm;

		vmm_begin(&vmm);
		if (vcpu_thread) {
			vcf_worker_stop_spin(&vmm.workers[0], vmm.vcpus[0]);
			vcf_worker_call(&vmm.workers[0], execute_this_program, NULL);
		}
		execute_this_program(NULL);
	}
	ASSERT_EQ(pid, waitpid(pid, &status, 0));
	EXPECT_EQ(0, status)
		TH_LOG("exec by %s: status %#x", vcpu_thread ? "a vCPU's thread" : "the first",
		       status);
}

/* What it executes: neither device nor VM, no hint, no other thread */
static int expect_nothing(void)
{
	struct vcf_uclamp uclamp = vcf_uclamp(vcf_gettid());
	char path[64], target[64];
	int i;

	for (i = 0; i < 64; i++) {
		snprintf(path, sizeof(path), "/proc/self/fd/%d", i);
		memset(target, 0, sizeof(target));
		if (readlink(path, target, sizeof(target) - 1) > 0 &&
		    strstr(target, "kvm-virt-cpufreq"))
			return 1;
	}
	if (uclamp.eff_min != uclamp.min || uclamp.eff_max != uclamp.max)
		return 2;
	return vcf_count_entries("/proc/self/task") == 1 ? 0 : 3;
}

TEST_F_TIMEOUT(life, of_a_vmm_that_executes_another_program_ends, 600)
{
	int i;

	for (i = 0; i < NR_EXECS / 5; i++)
		start_vmm_that_executes(_metadata, i % 2);
	remember_host(self);

	for (i = 0; i < NR_EXECS; i++)
		start_vmm_that_executes(_metadata, i % 2);
	expect_host_as_before(_metadata, self);
}

/* A cgroup for the test, which it enters, and one below it that takes single threads */
static bool enter_cgroup(struct _test_data_life *self)
{
	if (!vcf_cgroup_name(self->base, sizeof(self->base), CGROUP_NAME))
		return false;
	snprintf(self->limited, sizeof(self->limited), "%s/limited", self->base);

	return !cg_create(self->base) && !cg_enter_current(self->base) &&
	       !cg_create(self->limited) && !cg_write(self->limited, "cgroup.type", "threaded") &&
	       !cg_write(self->base, "cgroup.subtree_control", "+cpu") &&
	       !cg_write(self->limited, "cpu.uclamp.max", "max");
}

static void move_thread(const char *cgroup, pid_t tid)
{
	TEST_ASSERT(!cg_write_numeric(cgroup, "cgroup.threads", tid),
		    "Cannot move a thread to %s", cgroup);
}

/* With all threads */
static void leave_cgroup(void)
{
	TEST_ASSERT(!cg_enter_current("/sys/fs/cgroup"), "Cannot leave the cgroup");
}

/*
 * In the one cgroup clamps are at least half of the biggest CPU, in the other one at most that,
 * which is below one request and above the other.
 */
static void expect_moves_to_count(struct __test_metadata *_metadata, struct _test_data_life *self,
				  int nr)
{
	pid_t tid = self->workers[0].tid;
	u32 request, at_least, at_most;
	int i;

	for (i = 0; i < nr; i++) {
		request = i % 2 ? 256 : 768;
		at_least = max(request, 512U);
		at_most = min(request, 512U);

		vcf_set_perf(self->vcpus[1], 1, request);
		EXPECT_TRUE(VCF_WAIT_FOR(is_hinted(tid, at_least)));
		move_thread(self->limited, tid);
		EXPECT_HINT(tid, at_most);
		/* Another request, and the same again */
		vcf_set_perf(self->vcpus[1], 1, 1024 - request);
		EXPECT_TRUE(VCF_WAIT_FOR(is_hinted(tid, min(1024 - request, 512U))));
		vcf_set_perf(self->vcpus[1], 1, request);
		EXPECT_TRUE(VCF_WAIT_FOR(is_hinted(tid, at_most)));
		move_thread(self->base, tid);
		EXPECT_HINT(tid, at_least);
	}
}

TEST_F_TIMEOUT(life, in_changing_cgroups_is_within_their_limits, 600)
{
	int fd;

	if (!enter_cgroup(self))
		SKIP(return, "no cgroup with cpu.uclamp.max for threads");
	ASSERT_EQ(0, cg_write(self->base, "cpu.uclamp.min", "50"));
	ASSERT_EQ(0, cg_write(self->limited, "cpu.uclamp.max", "50"));

	fd = create(self);
	vcf_worker_spin(&self->workers[0], self->vcpus[0]);
	expect_moves_to_count(_metadata, self, 4);
	remember_host(self);
	expect_moves_to_count(_metadata, self, NR_MOVES);
	expect_host_as_before(_metadata, self);

	/* The device may end while the thread is limited. */
	move_thread(self->limited, self->workers[0].tid);
	close(fd);
	EXPECT_CLAMPS(self->workers[0].tid, 0, 512);
	vcf_worker_stop_spin(&self->workers[0], self->vcpus[0]);
	leave_cgroup();
	EXPECT_NO_HINT(self->workers[0].tid);
}

static void set_frozen(const char *cgroup, bool frozen)
{
	const char *event = frozen ? "frozen 1" : "frozen 0";

	TEST_ASSERT(!cg_write(cgroup, "cgroup.freeze", frozen ? "1" : "0"), "Cannot freeze");
	TEST_ASSERT(VCF_WAIT_FOR(!cg_read_strstr(cgroup, "cgroup.events", event)),
		    "The cgroup is not as it should be: %s", event);
}

/* A request comes while the vCPU's thread is frozen; sometimes the device goes. */
static void expect_request_after_thaw(struct __test_metadata *_metadata,
				      struct _test_data_life *self, int *fd, int i)
{
	pid_t tid = self->workers[0].tid;
	u32 before = 200 + i, pending = i % 2 ? 100 : 900;

	vcf_set_perf(self->vcpus[1], 1, before);
	EXPECT_TRUE(VCF_WAIT_FOR(is_hinted(tid, before)));
	set_frozen(self->limited, true);
	if (i % 5 == 4) {
		close(*fd);
		EXPECT_NO_HINT(tid);
		*fd = create(self);
	}
	if (i % 3)
		vcf_set_perf(self->vcpus[1], 1, pending);
	else
		vcf_set_regs(*fd, 0, pending, 0);
	usleep(2000);
	if (i % 5 == 4)
		EXPECT_NO_HINT(tid);
	else
		EXPECT_HINT(tid, before);
	set_frozen(self->limited, false);
	EXPECT_TRUE(VCF_WAIT_FOR(is_hinted(tid, pending)));
}

static void freeze_and_kill(struct __test_metadata *_metadata, const char *cgroup)
{
	int status;
	pid_t pid;

	*vmm_step = BEGUN;
	pid = fork();
	if (!pid) {
		if (!cg_enter_current_thread(cgroup))
			vmm_main();
		_exit(1);
	}
	ASSERT_TRUE(VCF_WAIT_FOR(READ_ONCE(*vmm_step) >= IS_SERVING));
	set_frozen(cgroup, true);
	kill(pid, SIGKILL);
	ASSERT_EQ(pid, waitpid(pid, &status, 0));
	EXPECT_EQ(SIGKILL, WTERMSIG(status));
	set_frozen(cgroup, false);
}

TEST_F_TIMEOUT(life, in_a_frozen_cgroup_goes_on_after_it, 600)
{
	int i, fd;

	if (!enter_cgroup(self) || cg_write(self->limited, "cgroup.freeze", "0"))
		SKIP(return, "no cgroup that can be frozen");

	fd = create(self);
	move_thread(self->limited, self->workers[0].tid);
	vcf_worker_spin(&self->workers[0], self->vcpus[0]);
	expect_request_after_thaw(_metadata, self, &fd, 4);
	freeze_and_kill(_metadata, self->limited);
	remember_host(self);

	for (i = 0; i < NR_FREEZES; i++)
		expect_request_after_thaw(_metadata, self, &fd, i);
	freeze_and_kill(_metadata, self->limited);
	expect_host_as_before(_metadata, self);

	vcf_worker_stop_spin(&self->workers[0], self->vcpus[0]);
	leave_cgroup();
}

static bool plug(int cpu, bool online)
{
	char path[64];

	snprintf(path, sizeof(path), "/sys/devices/system/cpu/cpu%d/online", cpu);
	if (access(path, W_OK))
		return false;
	vcf_write_file(path, "%d", online);
	return true;
}

static u64 nr_requests(struct kvm_vcpu *vcpu)
{
	return vcpu_get_stat(vcpu, virt_cpufreq_requests);
}

/* The vCPUs store all the time, each on a CPU of its own as long as that is there. */
static void expect_stores_without(struct __test_metadata *_metadata, struct _test_data_life *self,
				  int cpu, int *fd)
{
	u64 before;
	int i;

	for (i = 0; i < NR_VCPUS - 1; i++)
		vcf_pin(self->workers[i].tid, i == 0 ? cpu : (cpu + i) % self->nr_cpus);
	ASSERT_TRUE(plug(cpu, false));
	for (i = 0; i < NR_VCPUS - 1; i++) {
		before = nr_requests(self->vcpus[i]);
		EXPECT_TRUE(VCF_WAIT_FOR(nr_requests(self->vcpus[i]) > before));
	}
	if (cpu == 1) {
		for (i = 0; i < NR_VCPUS - 1; i++)
			vcf_worker_stop_spin(&self->workers[i], self->vcpus[i]);
		close(*fd);
		*fd = create(self);
		for (i = 0; i < NR_VCPUS - 1; i++)
			vcf_worker_store_forever(&self->workers[i], self->vcpus[i]);
	}
	ASSERT_TRUE(plug(cpu, true));
	before = nr_requests(self->vcpus[0]);
	vcf_pin(self->workers[0].tid, cpu);
	EXPECT_TRUE(VCF_WAIT_FOR(nr_requests(self->vcpus[0]) > before));
}

TEST_F_TIMEOUT(life, on_cpus_that_go_and_come_goes_on, 600)
{
	int i, cpu, fd;

	if (self->nr_cpus < 2)
		SKIP(return, "needs 2 CPUs");
	if (!plug(1, false))
		SKIP(return, "no CPU can be taken away");
	plug(1, true);

	fd = create(self);
	for (i = 0; i < NR_VCPUS - 1; i++)
		vcf_worker_store_forever(&self->workers[i], self->vcpus[i]);
	expect_stores_without(_metadata, self, 1, &fd);
	vcf_enter(self->vcpus[3]);
	remember_host(self);

	for (i = 0; i < NR_PLUGS; i++) {
		for (cpu = 1; cpu < self->nr_cpus; cpu++)
			expect_stores_without(_metadata, self, cpu, &fd);
	}
	for (i = 0; i < NR_VCPUS - 1; i++)
		vcf_worker_stop_spin(&self->workers[i], self->vcpus[i]);
	vcf_set_perf(self->vcpus[3], 3, 512);
	for (i = 0; i < NR_VCPUS - 1; i++) {
		vcf_worker_enter(&self->workers[i], self->vcpus[i]);
		EXPECT_HINT(self->workers[i].tid, 512);
	}
	expect_host_as_before(_metadata, self);
}

/* Suspend to idle, until the clock's alarm; false: the host does not. */
static bool suspend(void)
{
	char states[64], count[32];
	int fd, r;

	if (!vcf_read_file(POWER_STATE, states, sizeof(states)) || !strstr(states, "freeze") ||
	    access(WAKEALARM, W_OK) || access(WAKEUP_COUNT, W_OK))
		return false;

	fd = open(POWER_STATE, O_WRONLY);
	TEST_ASSERT(fd >= 0, "Cannot open " POWER_STATE);
	do {
		/* With the count written, an alarm that comes too early is not lost: EBUSY. */
		vcf_write_file(WAKEALARM, "0");
		TEST_ASSERT(vcf_read_file(WAKEUP_COUNT, count, sizeof(count)), "No wakeup count");
		vcf_write_file(WAKEUP_COUNT, "%s", count);
		vcf_write_file(WAKEALARM, "+2");
		r = write(fd, "freeze", strlen("freeze"));
	} while (r < 0 && errno == EBUSY);
	TEST_ASSERT(r > 0, "Cannot write to " POWER_STATE);
	close(fd);
	return true;
}

TEST_F_TIMEOUT(life, in_a_suspended_host_goes_on_after_it, 600)
{
	int i, fd = create(self);
	u64 before;

	vcf_worker_spin(&self->workers[0], self->vcpus[0]);
	vcf_worker_store_forever(&self->workers[1], self->vcpus[1]);
	if (!suspend())
		SKIP(return, "no suspend to idle");
	vcf_worker_stop_spin(&self->workers[1], self->vcpus[1]);
	remember_host(self);

	for (i = 0; i < NR_SUSPENDS; i++) {
		vcf_set_regs(fd, 0, 500 + i, 0);
		EXPECT_TRUE(VCF_WAIT_FOR(is_hinted(self->workers[0].tid, 500 + i)));
		ASSERT_TRUE(suspend());
		EXPECT_HINT(self->workers[0].tid, 500 + i);

		/* And with a guest that stores */
		vcf_worker_store_forever(&self->workers[1], self->vcpus[1]);
		ASSERT_TRUE(suspend());
		before = nr_requests(self->vcpus[1]);
		EXPECT_TRUE(VCF_WAIT_FOR(nr_requests(self->vcpus[1]) > before));
		vcf_worker_stop_spin(&self->workers[1], self->vcpus[1]);
	}
	vcf_set_regs(fd, 0, 700, 0);
	EXPECT_TRUE(VCF_WAIT_FOR(is_hinted(self->workers[0].tid, 700)));
	vcf_worker_stop_spin(&self->workers[0], self->vcpus[0]);
	vcf_worker_enter(&self->workers[1], self->vcpus[1]);
	expect_host_as_before(_metadata, self);
	close(fd);
}

static void switch_on_and_off(struct __test_metadata *_metadata, struct _test_data_life *self,
			      int nr)
{
	int i;

	for (i = 0; i < nr; i++) {
		vcf_write_file(VCF_MODULE_PARAM, i % 2 ? "Y" : "N");
		if (i % 25)
			continue;
		/* Let it be off, or on, for a while. A device that is there does not care. */
		usleep(2000);
		vcf_set_perf(self->vcpus[0], 0, 100 + i % 900);
		EXPECT_HINT(vcf_gettid(), 100 + i % 900);
	}
}

TEST_F_TIMEOUT(life, is_not_ended_by_the_administrators_switch, 600)
{
	u32 i, nr_made = 0, nr_refused = 0;
	struct maker makers[NR_MAKERS];

	if (access(VCF_MODULE_PARAM, W_OK))
		SKIP(return, "cannot write " VCF_MODULE_PARAM);

	create(self);
	start_makers(makers);
	for (i = 0; i < NR_MAKERS; i++)
		makers[i].may_be_refused = true;
	post_makers(makers, 16);
	switch_on_and_off(_metadata, self, 50);
	wait_for_makers(makers);
	remember_host(self);

	post_makers(makers, 200);
	switch_on_and_off(_metadata, self, NR_SWITCHES);
	wait_for_makers(makers);
	for (i = 0; i < NR_MAKERS; i++) {
		nr_made += makers[i].nr_made;
		nr_refused += makers[i].nr_refused;
	}
	EXPECT_LT(0, nr_made);
	EXPECT_LT(0, nr_refused);
	TH_LOG("%u devices made, %u refused", nr_made, nr_refused);
	expect_host_as_before(_metadata, self);
	stop_makers(makers);
}

/* New user, mount and process namespaces, in which the caller's children are */
static void enter_namespaces(void)
{
	TEST_ASSERT(!unshare(CLONE_NEWUSER | CLONE_NEWNS | CLONE_NEWPID), "unshare() failed");
	vcf_write_file("/proc/self/setgroups", "deny");
	vcf_write_file("/proc/self/uid_map", "0 0 1");
	vcf_write_file("/proc/self/gid_map", "0 0 1");
}

/*
 * Without CAP_SYS_NICE, and in a cgroup that allows up to half of the biggest CPU: hints are
 * what the thread could set for itself.
 */
static void expect_no_more_than_own_clamps(void)
{
	const u32 perfs[] = { 1024, 512, 100, 700 };
	struct vcf_uclamp hinted, own;
	struct kvm_vcpu *vcpu;
	struct kvm_vm *vm;
	int i, fd;

	TEST_ASSERT(!mount("proc", "/proc", "proc", 0, NULL), "Cannot mount /proc");
	TEST_ASSERT(vcf_gettid() == 1, "Not the first process of a namespace");
	TEST_ASSERT(setpriority(PRIO_PROCESS, 0, -1), "This has CAP_SYS_NICE");

	vm = vcf_vm_create(1, &vcpu);
	for (i = 0; i < ARRAY_SIZE(perfs); i++) {
		fd = vcf_create_default(vm, 1, VCF_HINT_MINMAX);
		vcf_set_perf(vcpu, 0, perfs[i]);
		hinted = vcf_uclamp(1);
		close(fd);
		TEST_ASSERT(!vcf_set_uclamp(0, perfs[i], perfs[i]), "sched_setattr() failed");
		own = vcf_uclamp(1);
		TEST_ASSERT(hinted.eff_min == own.eff_min && hinted.eff_max == own.eff_max &&
			    own.eff_max <= 512, "Hinted %u, %u, set by itself %u, %u",
			    hinted.eff_min, hinted.eff_max, own.eff_min, own.eff_max);
		TEST_ASSERT(!vcf_set_uclamp(0, -1, -1), "sched_setattr() failed");
	}
	kvm_vm_free(vm);
}

/* The first process of the namespaces, with its status or killed while the guest runs */
static int run_in_namespaces(bool killed)
{
	bool serves = true;
	int status;
	pid_t pid;

	enter_namespaces();
	pid = fork();
	if (!pid) {
		if (killed)
			vmm_main();
		expect_no_more_than_own_clamps();
		_exit(0);
	}
	if (killed) {
		serves = VCF_WAIT_FOR(READ_ONCE(*vmm_step) >= IS_SERVING);
		kill(pid, SIGKILL);
	}
	if (waitpid(pid, &status, 0) != pid || !serves)
		return 1;
	if (killed)
		return !WIFSIGNALED(status);
	return !WIFEXITED(status) || WEXITSTATUS(status);
}

static void expect_namespaces_to_work(struct __test_metadata *_metadata, bool killed)
{
	int status;
	pid_t pid;

	*vmm_step = BEGUN;
	pid = fork();
	if (!pid)
		_exit(run_in_namespaces(killed));
	ASSERT_EQ(pid, waitpid(pid, &status, 0));
	EXPECT_EQ(0, status);
}

TEST_F_TIMEOUT(life, in_namespaces_is_that_of_an_ordinary_owner, 600)
{
	int i;

	if (access("/proc/self/ns/user", F_OK) || access("/proc/self/ns/pid", F_OK))
		SKIP(return, "no user or process namespaces");
	if (!enter_cgroup(self) || cg_write(self->base, "cpu.uclamp.max", "50"))
		SKIP(return, "no cgroup with cpu.uclamp.max");
	for (i = 0; i < 2; i++)
		expect_namespaces_to_work(_metadata, i);
	remember_host(self);

	for (i = 0; i < 10; i++)
		expect_namespaces_to_work(_metadata, i % 2);
	expect_host_as_before(_metadata, self);
	leave_cgroup();
}

int main(int argc, char *argv[])
{
	if (argc == 2 && !strcmp(argv[1], EXPECT_NOTHING))
		return expect_nothing();

	TEST_REQUIRE(kvm_has_cap(KVM_CAP_VIRT_CPUFREQ));
	return test_harness_run(argc, argv);
}
