// SPDX-License-Identifier: GPL-2.0-only
/*
 * KVM_CREATE_VIRT_CPUFREQ: what a guest's requests do to the threads of its vCPUs
 *
 * A thread's clamps are read from /proc/<tid>/sched, which shows those in effect
 * beside the thread's own.
 */
#include <limits.h>
#include <fcntl.h>
#include <sched.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include <linux/bpf.h>
#include <linux/btf.h>
#include <linux/sched.h>
#include <linux/sched/types.h>

#include "kvm_test_harness.h"
#include "processor.h"
#include "virt_cpufreq.h"

#include <cgroup_util.h>

#define SYSCTL	"/proc/sys/kernel/"

#define NO_HINT_MIN	0
#define NO_HINT_MAX	1024

/* Argument of a test program that was executed by a hinted thread: its descriptor follows */
#define EXPECT_HINT_UNTIL_CLOSE	"--expect-hint-until-close"

/* The rule by which a hint and the thread's own clamps make the effective ones */
static struct vcf_uclamp expected_uclamp(u32 min, u32 max, u32 flags, u32 util)
{
	struct vcf_uclamp uclamp = { min, max, min, max };

	if (flags & KVM_VIRT_CPUFREQ_HINT_MIN)
		uclamp.eff_min = min(max(min, util), max);
	if (flags & KVM_VIRT_CPUFREQ_HINT_MAX)
		uclamp.eff_max = max(min(max, util), min);

	return uclamp;
}

#define EXPECT_UCLAMP(tid, expected)					\
do {									\
	struct vcf_uclamp __want = expected, __have = vcf_uclamp(tid);	\
									\
	EXPECT_EQ(__want.min, __have.min);				\
	EXPECT_EQ(__want.max, __have.max);				\
	EXPECT_EQ(__want.eff_min, __have.eff_min);			\
	EXPECT_EQ(__want.eff_max, __have.eff_max);			\
} while (0)

/* A thread without clamps of its own */
#define EXPECT_HINT(tid, flags, util)	\
	EXPECT_UCLAMP(tid, expected_uclamp(NO_HINT_MIN, NO_HINT_MAX, flags, util))
/* The hint as such, whatever becomes of it */
#define EXPECT_SHOWN(tid, flags, util)						\
do {										\
	struct vcf_uclamp __have = vcf_uclamp(tid);				\
	u32 __flags = (flags), __util = (util);					\
										\
	EXPECT_EQ(__flags & KVM_VIRT_CPUFREQ_HINT_MIN ? __util : NO_HINT_MIN,	\
		  __have.hint_min);						\
	EXPECT_EQ(__flags & KVM_VIRT_CPUFREQ_HINT_MAX ? __util : NO_HINT_MAX,	\
		  __have.hint_max);						\
} while (0)

#define EXPECT_HINT_MIN(tid, util)	EXPECT_HINT(tid, KVM_VIRT_CPUFREQ_HINT_MIN, util)
#define EXPECT_NO_HINT_ON(tid)		EXPECT_HINT(tid, 0, 0)

static int set_policy(int policy, int priority)
{
	struct sched_param param = { .sched_priority = priority };

	return sched_setscheduler(0, policy, &param);
}

/*
 * Enough runtime not to be throttled. What an earlier deadline gave back comes free
 * later only: try again.
 */
static bool set_deadline(void)
{
	struct sched_attr attr = {
		.size = sizeof(attr),
		.sched_policy = SCHED_DEADLINE,
		.sched_runtime = 20 * 1000 * 1000,
		.sched_deadline = 100 * 1000 * 1000,
		.sched_period = 100 * 1000 * 1000,
	};

	return VCF_WAIT_FOR(!syscall(SYS_sched_setattr, 0, &attr, 0));
}

/* One vCPU, run by the test's own thread, with each set of flags */
FIXTURE(hint) {
	struct kvm_vm *vm;
	struct kvm_vcpu *vcpus[1];
	struct kvm_vcpu *vcpu;
	pid_t tid;
	int fd;
};

FIXTURE_VARIANT(hint) {
	u32 flags;
};

FIXTURE_VARIANT_ADD(hint, none) { };
FIXTURE_VARIANT_ADD(hint, min) { .flags = KVM_VIRT_CPUFREQ_HINT_MIN };
FIXTURE_VARIANT_ADD(hint, max) { .flags = KVM_VIRT_CPUFREQ_HINT_MAX };
FIXTURE_VARIANT_ADD(hint, minmax) { .flags = VCF_HINT_MINMAX };

FIXTURE_SETUP(hint)
{
	self->vm = vcf_vm_create(1, self->vcpus);
	self->vcpu = self->vcpus[0];
	self->fd = vcf_create_default(self->vm, 1, variant->flags);
	self->tid = vcf_gettid();
}

FIXTURE_TEARDOWN(hint)
{
	close(self->fd);
	kvm_vm_free(self->vm);
}

TEST_F(hint, is_not_there_before_the_first_request)
{
	vcf_enter(self->vcpu);
	EXPECT_NO_HINT_ON(self->tid);
}

TEST_F(hint, is_the_last_request)
{
	const u32 perfs[] = { 1024, 1, 512, 513, 300, 1023 };
	int i;

	for (i = 0; i < ARRAY_SIZE(perfs); i++) {
		vcf_set_perf(self->vcpu, 0, perfs[i]);
		EXPECT_HINT(self->tid, variant->flags, perfs[i]);
		vcf_enter(self->vcpu);
		EXPECT_HINT(self->tid, variant->flags, perfs[i]);
	}
}

TEST_F(hint, is_gone_when_the_device_is)
{
	int i;

	for (i = 0; i < 10; i++) {
		vcf_set_perf(self->vcpu, 0, 512);
		close(self->fd);
		EXPECT_NO_HINT_ON(self->tid);

		/* And a new device does not bring it back. */
		self->fd = vcf_create_default(self->vm, 1, variant->flags);
		vcf_enter(self->vcpu);
		EXPECT_NO_HINT_ON(self->tid);
	}
}

TEST_F(hint, leaves_the_threads_own_attributes_alone)
{
	struct sched_attr before = {}, after = {};

	ASSERT_EQ(0, syscall(SYS_sched_getattr, 0, &before, sizeof(before), 0));
	vcf_set_perf(self->vcpu, 0, 512);
	ASSERT_EQ(0, syscall(SYS_sched_getattr, 0, &after, sizeof(after), 0));
	EXPECT_EQ(0, memcmp(&before, &after, sizeof(before)));
	close(self->fd);
	ASSERT_EQ(0, syscall(SYS_sched_getattr, 0, &after, sizeof(after), 0));
	EXPECT_EQ(0, memcmp(&before, &after, sizeof(before)));
}

static const struct {
	u32 min, max;
} own_clamps[] = {
	{ 0, 1024 }, { 0, 300 }, { 400, 1024 }, { 200, 600 }, { 500, 500 }, { 0, 0 },
	{ 1024, 1024 },
};

TEST_F(hint, stays_within_the_threads_own_clamps)
{
	const u32 perfs[] = { 1024, 100, 250, 500, 700 };
	int i, j;

	for (i = 0; i < ARRAY_SIZE(own_clamps); i++) {
		u32 min = own_clamps[i].min, max = own_clamps[i].max;

		/* Set while there is a hint, and then the hint changes. */
		ASSERT_EQ(0, vcf_set_uclamp(0, min, max));
		for (j = 0; j < ARRAY_SIZE(perfs); j++) {
			vcf_set_perf(self->vcpu, 0, perfs[j]);
			EXPECT_UCLAMP(self->tid,
				      expected_uclamp(min, max, variant->flags, perfs[j]));
			EXPECT_SHOWN(self->tid, variant->flags, perfs[j]);
		}
	}
}

TEST_F(hint, lets_the_thread_set_and_keep_its_own_clamps)
{
	int i;

	vcf_set_perf(self->vcpu, 0, 450);
	for (i = 0; i < ARRAY_SIZE(own_clamps); i++) {
		u32 min = own_clamps[i].min, max = own_clamps[i].max;

		ASSERT_EQ(0, vcf_set_uclamp(0, min, max));
		EXPECT_UCLAMP(self->tid, expected_uclamp(min, max, variant->flags, 450));
	}

	ASSERT_EQ(0, vcf_set_uclamp(0, 200, 600));
	close(self->fd);
	EXPECT_UCLAMP(self->tid, expected_uclamp(200, 600, 0, 0));
	ASSERT_EQ(0, vcf_set_uclamp(0, -1, -1));
	EXPECT_NO_HINT_ON(self->tid);
}

TEST_F(hint, survives_changes_of_scheduling_class)
{
	int i;

	vcf_set_perf(self->vcpu, 0, 400);
	for (i = 0; i < 3; i++) {
		u32 perf = 500 + i;

		ASSERT_EQ(0, set_policy(SCHED_FIFO, 1));
		vcf_set_perf(self->vcpu, 0, perf);
		ASSERT_EQ(0, set_policy(SCHED_OTHER, 0));
		EXPECT_HINT(self->tid, variant->flags, perf);

		ASSERT_TRUE(set_deadline());
		vcf_set_perf(self->vcpu, 0, perf + 100);
		ASSERT_EQ(0, set_policy(SCHED_BATCH, 0));
		EXPECT_HINT(self->tid, variant->flags, perf + 100);

		/* From one to the other, with the hint unchanged */
		ASSERT_TRUE(set_deadline());
		ASSERT_EQ(0, set_policy(SCHED_RR, 1));
		vcf_enter(self->vcpu);
		ASSERT_EQ(0, set_policy(SCHED_IDLE, 0));
		EXPECT_HINT(self->tid, variant->flags, perf + 100);
		ASSERT_EQ(0, set_policy(SCHED_OTHER, 0));
	}
}

TEST_F(hint, is_harmless_on_a_deadline_thread)
{
	ASSERT_TRUE(set_deadline());
	vcf_set_perf(self->vcpu, 0, 512);
	vcf_set_perf(self->vcpu, 0, 700);
	close(self->fd);
	ASSERT_EQ(0, set_policy(SCHED_OTHER, 0));
	EXPECT_NO_HINT_ON(self->tid);
}

TEST_F(hint, does_not_lower_the_floor_of_a_realtime_thread)
{
	ASSERT_EQ(0, set_policy(SCHED_FIFO, 1));
	vcf_set_perf(self->vcpu, 0, 100);
	EXPECT_UCLAMP(self->tid, expected_uclamp(1024, 1024, variant->flags, 100));
	close(self->fd);
	EXPECT_UCLAMP(self->tid, expected_uclamp(1024, 1024, 0, 0));
}

TEST_F(hint, is_counted)
{
	const bool has_hints = variant->flags;

	vcf_set_perf(self->vcpu, 0, 512);
	vcf_set_perf(self->vcpu, 0, 512);
	vcf_set_perf(self->vcpu, 0, 300);
	vcf_set_perf(self->vcpu, 0, 2000);
	vcf_set_perf(self->vcpu, 0, 1024);
	vcf_load(self->vcpu, VCF_REG(0, REG_SET_PERF));
	vcf_store(self->vcpu, VCF_REG(0, REG_PERFTBL_SEL), 3);

	EXPECT_EQ(5, vcpu_get_stat(self->vcpu, virt_cpufreq_requests));
	/* One when the thread begins to run the vCPU: it is none then. */
	EXPECT_EQ(has_hints ? 4 : 0, vcpu_get_stat(self->vcpu, virt_cpufreq_hints));
}

TEST_F(hint, is_not_inherited_by_a_child)
{
	struct vcf_worker worker;
	int status;
	pid_t pid;

	vcf_set_perf(self->vcpu, 0, 512);

	pid = fork();
	if (!pid) {
		struct vcf_uclamp uclamp = vcf_uclamp(vcf_gettid());

		_exit(uclamp.eff_min != NO_HINT_MIN || uclamp.eff_max != NO_HINT_MAX ||
		      uclamp.hint_min != NO_HINT_MIN || uclamp.hint_max != NO_HINT_MAX);
	}
	ASSERT_EQ(pid, waitpid(pid, &status, 0));
	EXPECT_EQ(0, status);

	vcf_worker_start(&worker);
	EXPECT_NO_HINT_ON(worker.tid);
	vcf_worker_stop(&worker);

	EXPECT_HINT(self->tid, variant->flags, 512);
}

/* As the thread's own clamps do */
TEST_F(hint, survives_exec_until_the_device_ends)
{
	char fd_text[16], flags_text[16];
	int status;
	pid_t pid;

	pid = fork();
	if (!pid) {
		struct kvm_vm *vm = vcf_vm_create(1, self->vcpus);
		int fd = vcf_create_default(vm, 1, variant->flags);

		/* The device lives on, in the new program. */
		fcntl(fd, F_SETFD, 0);
		vcf_set_perf(self->vcpus[0], 0, 512);
		snprintf(fd_text, sizeof(fd_text), "%d", fd);
		snprintf(flags_text, sizeof(flags_text), "%u", variant->flags);
		execl("/proc/self/exe", "exec", EXPECT_HINT_UNTIL_CLOSE, fd_text, flags_text, NULL);
		_exit(127);
	}
	ASSERT_EQ(pid, waitpid(pid, &status, 0));
	EXPECT_EQ(0, status);
}

static bool has_hint(u32 flags, u32 util)
{
	struct vcf_uclamp want = expected_uclamp(NO_HINT_MIN, NO_HINT_MAX, flags, util);
	struct vcf_uclamp have = vcf_uclamp(vcf_gettid());

	return have.eff_min == want.eff_min && have.eff_max == want.eff_max;
}

/* A thread that was hinted has executed this program. */
static int expect_hint_until_close(int fd, u32 flags)
{
	if (!has_hint(flags, 512))
		return 1;
	close(fd);
	return !has_hint(0, 0);
}

/* The table of utilisations: perf * capacity / highest perf, rounded down */
TEST(util_is_rounded_down_without_headroom)
{
	const struct {
		u32 capacity, highest, perf, util;
	} rows[] = {
		{ 1024, 1024,		1,		1 },
		{ 1024, 1000,		333,		340 },
		{ 1024, 1000,		999,		1022 },
		{ 1024, 1000,		1000,		1024 },
		{ 700,	1000,		333,		233 },
		{ 700,	1000,		0,		0 },
		{ 160,	1800000,	1200000,	106 },
		{ 512,	3,		1,		170 },
		{ 512,	3,		2,		341 },
		{ 512,	3,		4,		512 },
		{ 1,	3,		2,		0 },
		{ 1,	3,		3,		1 },
		{ 1024, 1,		1,		1024 },
		{ 1024, INT_MAX,	1,		0 },
		{ 1024, INT_MAX,	0x3fffffff,	511 },
		{ 1024, INT_MAX,	0x40000000,	512 },
		{ 1024, INT_MAX,	INT_MAX - 1,	1023 },
		{ 1024, INT_MAX,	INT_MAX,	1024 },
		{ 1023, INT_MAX,	INT_MAX - 1,	1022 },
		/* Bigger than any CPU of the host */
		{ 2048, 1000,		333,		681 },
		{ 2048, 1000,		500,		1024 },
		{ 2048, 1000,		501,		1024 },
		{ 2048, 1000,		1000,		1024 },
		{ 65535, 1000,		15,		983 },
		{ 65535, 1000,		16,		1024 },
		{ 65535, INT_MAX,	INT_MAX,	1024 },
	};
	struct kvm_vcpu *vcpu;
	struct vcf_args args;
	struct kvm_vm *vm;
	int fd, i;

	vm = vcf_vm_create(1, &vcpu);
	for (i = 0; i < 2 * ARRAY_SIZE(rows); i++) {
		u32 capacity = rows[i / 2].capacity, highest = rows[i / 2].highest;
		bool table = i % 2 && highest > 1;

		vcf_args_init(&args, 1, VCF_HINT_MINMAX);
		args.domain[0].capacity = capacity;
		args.domain[0].nr_perf = table ? 2 : 1;
		args.domain[0].perf[0] = table ? 1 : highest;
		args.domain[0].perf[1] = highest;
		fd = vcf_create(vm, &args);

		vcf_set_perf(vcpu, 0, rows[i / 2].perf);
		EXPECT_HINT(vcf_gettid(), VCF_HINT_MINMAX, rows[i / 2].util);
		close(fd);
	}
	kvm_vm_free(vm);
}

/* Limits that others set, put back in the parent whatever happens */
FIXTURE(limit) {
	struct kvm_vm *vm;
	struct kvm_vcpu *vcpus[1];
	struct kvm_vcpu *vcpu;
	pid_t tid;
	int fd;
	char cgroup[PATH_MAX];
};

FIXTURE_SETUP(limit)
{
	self->vm = vcf_vm_create(1, self->vcpus);
	self->vcpu = self->vcpus[0];
	self->fd = vcf_create_default(self->vm, 1, VCF_HINT_MINMAX);
	self->tid = vcf_gettid();
}

FIXTURE_TEARDOWN_PARENT(limit)
{
	vcf_write_file(SYSCTL "sched_util_clamp_max", "1024");
	vcf_write_file(SYSCTL "sched_util_clamp_min", "1024");
	vcf_write_file(VCF_UCLAMP_MIN_RT, "1024");
	if (!access(SYSCTL "sched_autogroup_enabled", W_OK))
		vcf_write_file(SYSCTL "sched_autogroup_enabled", "1");
	if (self->cgroup[0])
		cg_destroy(self->cgroup);
}

TEST_F(limit, of_the_sysctls_is_kept)
{
	struct vcf_uclamp uclamp;

	vcf_set_perf(self->vcpu, 0, 512);
	vcf_write_file(SYSCTL "sched_util_clamp_min", "300");
	vcf_write_file(SYSCTL "sched_util_clamp_max", "400");

	/* A change of the sysctl counts from the task's next request on. */
	vcf_set_perf(self->vcpu, 0, 513);
	uclamp = vcf_uclamp(self->tid);
	EXPECT_EQ(300, uclamp.eff_min);
	EXPECT_EQ(400, uclamp.eff_max);

	vcf_set_perf(self->vcpu, 0, 200);
	EXPECT_HINT(self->tid, VCF_HINT_MINMAX, 200);
}

TEST_F(limit, of_the_realtime_default_is_a_floor)
{
	vcf_write_file(VCF_UCLAMP_MIN_RT, "200");
	ASSERT_EQ(0, set_policy(SCHED_FIFO, 1));

	vcf_set_perf(self->vcpu, 0, 100);
	EXPECT_UCLAMP(self->tid, expected_uclamp(200, 1024, VCF_HINT_MINMAX, 100));
	vcf_set_perf(self->vcpu, 0, 500);
	EXPECT_UCLAMP(self->tid, expected_uclamp(200, 1024, VCF_HINT_MINMAX, 500));
}

/* The test moves to a new cgroup with uclamp files; false if there are none. */
static bool enter_new_cgroup(char *cgroup)
{
	if (!vcf_cgroup_name(cgroup, PATH_MAX, "virt_cpufreq_test"))
		return false;
	if (cg_create(cgroup) && errno != EEXIST)
		return false;
	if (cg_write(cgroup, "cpu.uclamp.max", "max"))
		return false;

	return !cg_enter_current(cgroup);
}

TEST_F(limit, of_the_cgroup_is_kept)
{
	if (!enter_new_cgroup(self->cgroup))
		SKIP(return, "no cgroup with cpu.uclamp.max");

	vcf_set_perf(self->vcpu, 0, 512);
	EXPECT_HINT(self->tid, VCF_HINT_MINMAX, 512);

	/* In percent; a limit counts at once, and for requests to come. */
	ASSERT_EQ(0, cg_write(self->cgroup, "cpu.uclamp.max", "30"));
	EXPECT_EQ(307, vcf_uclamp(self->tid).eff_min);
	EXPECT_EQ(307, vcf_uclamp(self->tid).eff_max);
	vcf_set_perf(self->vcpu, 0, 700);
	EXPECT_EQ(307, vcf_uclamp(self->tid).eff_min);
	EXPECT_EQ(307, vcf_uclamp(self->tid).eff_max);
	vcf_set_perf(self->vcpu, 0, 250);
	EXPECT_EQ(250, vcf_uclamp(self->tid).eff_min);
	EXPECT_EQ(250, vcf_uclamp(self->tid).eff_max);

	ASSERT_EQ(0, cg_write(self->cgroup, "cpu.uclamp.min", "20"));
	vcf_set_perf(self->vcpu, 0, 100);
	EXPECT_EQ(205, vcf_uclamp(self->tid).eff_min);
	EXPECT_EQ(205, vcf_uclamp(self->tid).eff_max);

	/* What the hint was limited by was not written into it. */
	ASSERT_EQ(0, cg_enter_current("/sys/fs/cgroup"));
	EXPECT_HINT(self->tid, VCF_HINT_MINMAX, 100);
}

TEST_F(limit, is_none_in_an_autogroup_or_the_root_group)
{
	char group[64];

	if (access(SYSCTL "sched_autogroup_enabled", W_OK))
		SKIP(return, "no autogroups");

	/* A new session has an autogroup of its own. */
	vcf_write_file(SYSCTL "sched_autogroup_enabled", "1");
	ASSERT_NE(-1, setsid());
	ASSERT_TRUE(vcf_read_file("/proc/self/autogroup", group, sizeof(group)));
	EXPECT_EQ(0, strncmp(group, "/autogroup-", 11));
	vcf_set_perf(self->vcpu, 0, 512);
	EXPECT_HINT(self->tid, VCF_HINT_MINMAX, 512);

	vcf_write_file(SYSCTL "sched_autogroup_enabled", "0");
	vcf_set_perf(self->vcpu, 0, 700);
	EXPECT_HINT(self->tid, VCF_HINT_MINMAX, 700);
	vcf_enter(self->vcpu);
	EXPECT_HINT(self->tid, VCF_HINT_MINMAX, 700);
}

/* Several vCPUs, each with a thread to run it */
FIXTURE(threads) {
	struct kvm_vm *vm;
	struct kvm_vcpu *vcpus[VCF_MAX_VCPUS];
	struct vcf_worker workers[VCF_MAX_VCPUS];
	struct vcf_args args;
	int nr_cpus;
};

FIXTURE_SETUP(threads)
{
	int i;

	self->nr_cpus = vcf_nr_cpus();
	self->vm = vcf_vm_create(VCF_MAX_VCPUS, self->vcpus);
	for (i = 0; i < VCF_MAX_VCPUS; i++)
		vcf_worker_start(&self->workers[i]);
	vcf_args_init(&self->args, 2, KVM_VIRT_CPUFREQ_HINT_MIN);
}

FIXTURE_TEARDOWN(threads)
{
	kvm_vm_free(self->vm);
}

static pid_t tid(struct _test_data_threads *self, int i)
{
	return self->workers[i].tid;
}

static void enter(struct _test_data_threads *self, int i)
{
	vcf_worker_enter(&self->workers[i], self->vcpus[i]);
}

static void set_perf(struct _test_data_threads *self, int i, u32 page, u32 perf)
{
	vcf_worker_set_perf(&self->workers[i], self->vcpus[i], page, perf);
}

/* Domains of @size vCPUs each, the last one maybe smaller */
static void try_domains(struct __test_metadata *_metadata, struct _test_data_threads *self,
			int nr_vcpus, int size, bool entered)
{
	int fd, i;

	self->args.create.nr_vcpus = nr_vcpus;
	self->args.create.nr_domains = 1;
	for (i = 0; i < nr_vcpus; i++)
		vcf_args_set_domain(&self->args, i, i / size);
	fd = vcf_create(self->vm, &self->args);

	for (i = 0; entered && i < nr_vcpus; i++)
		enter(self, i);
	for (i = 0; i < nr_vcpus; i += size)
		set_perf(self, i, i, 100 + i);

	/* Whoever stored has it at once, the others when they enter the guest. */
	for (i = 0; i < nr_vcpus; i++) {
		if (i % size == 0)
			EXPECT_HINT_MIN(tid(self, i), 100 + i);
		else
			EXPECT_NO_HINT_ON(tid(self, i));
		enter(self, i);
		EXPECT_HINT_MIN(tid(self, i), 100 + i - i % size);
	}

	close(fd);
	for (i = 0; i < nr_vcpus; i++)
		EXPECT_NO_HINT_ON(tid(self, i));
}

TEST_F(threads, of_a_domain_share_its_request)
{
	int nr_vcpus, size;

	for (nr_vcpus = 1; nr_vcpus <= VCF_MAX_VCPUS; nr_vcpus++) {
		for (size = 1; size <= nr_vcpus; size++)
			try_domains(_metadata, self, nr_vcpus, size, size % 2);
	}
}

TEST_F(threads, that_first_run_later_get_the_request_then)
{
	int i;

	self->args.create.nr_vcpus = 4;
	vcf_create(self->vm, &self->args);
	set_perf(self, 0, 0, 300);
	set_perf(self, 0, 0, 400);
	for (i = 1; i < 4; i++) {
		EXPECT_NO_HINT_ON(tid(self, i));
		enter(self, i);
		EXPECT_HINT_MIN(tid(self, i), 400);
	}
}

TEST_F(threads, outside_the_pages_domain_get_nothing_from_a_store_to_it)
{
	vcf_args_set_domain(&self->args, 1, 1);
	vcf_create(self->vm, &self->args);

	/* vCPU 1 is in another domain, vCPU 2 in none. */
	set_perf(self, 1, 0, 300);
	EXPECT_NO_HINT_ON(tid(self, 1));
	enter(self, 0);
	EXPECT_HINT_MIN(tid(self, 0), 300);

	set_perf(self, 2, 0, 400);
	EXPECT_NO_HINT_ON(tid(self, 2));
	enter(self, 0);
	EXPECT_HINT_MIN(tid(self, 0), 400);

	set_perf(self, 1, 1, 700);
	set_perf(self, 1, 0, 500);
	EXPECT_HINT_MIN(tid(self, 1), 700);
	enter(self, 0);
	EXPECT_HINT_MIN(tid(self, 0), 500);
}

TEST_F(threads, pass_the_hint_on_with_the_vcpu)
{
	int i;

	vcf_create(self->vm, &self->args);
	set_perf(self, 0, 0, 512);
	for (i = 1; i < 20; i++) {
		struct vcf_worker *old = &self->workers[(i - 1) % 3];
		struct vcf_worker *new = &self->workers[i % 3];

		EXPECT_HINT_MIN(old->tid, 512);
		EXPECT_NO_HINT_ON(new->tid);
		vcf_worker_enter(new, self->vcpus[0]);
		EXPECT_NO_HINT_ON(old->tid);
		EXPECT_HINT_MIN(new->tid, 512);
	}
}

TEST_F(threads, that_serve_two_vcpus_have_the_hint_of_the_one_entered_last)
{
	struct vcf_worker *worker = &self->workers[0], *other = &self->workers[1];
	int fd, i;

	vcf_args_set_domain(&self->args, 1, 1);
	fd = vcf_create(self->vm, &self->args);
	vcf_worker_set_perf(worker, self->vcpus[0], 0, 300);
	EXPECT_HINT_MIN(worker->tid, 300);
	vcf_worker_set_perf(worker, self->vcpus[1], 1, 700);
	EXPECT_HINT_MIN(worker->tid, 700);
	for (i = 0; i < 6; i++) {
		vcf_worker_enter(worker, self->vcpus[i % 2]);
		EXPECT_HINT_MIN(worker->tid, i % 2 ? 700 : 300);
	}

	/* When the other one of them leaves, the hint stays... */
	vcf_worker_enter(other, self->vcpus[0]);
	EXPECT_HINT_MIN(worker->tid, 700);
	EXPECT_HINT_MIN(other->tid, 300);
	/* ...and when that comes back, it is its own again. */
	vcf_worker_enter(worker, self->vcpus[0]);
	EXPECT_HINT_MIN(worker->tid, 300);
	EXPECT_NO_HINT_ON(other->tid);
	/* When the one entered last leaves, none is left until the next entry. */
	vcf_worker_enter(other, self->vcpus[0]);
	EXPECT_NO_HINT_ON(worker->tid);
	vcf_worker_enter(worker, self->vcpus[1]);
	EXPECT_HINT_MIN(worker->tid, 700);

	close(fd);
	EXPECT_NO_HINT_ON(worker->tid);
	EXPECT_NO_HINT_ON(other->tid);
}

TEST_F(threads, that_serve_two_devices_have_the_hint_of_the_vcpu_entered_last)
{
	struct vcf_worker *worker = &self->workers[0];
	int fd[2], i;

	for (i = 0; i < 2; i++) {
		self->args.create.gpa = VCF_REG(i, 0);
		self->args.create.nr_vcpus = 1;
		self->args.page[0].vcpu_id = i;
		fd[i] = vcf_create(self->vm, &self->args);
		vcf_worker_set_perf(worker, self->vcpus[i], i, 300 + 100 * i);
	}
	EXPECT_HINT_MIN(worker->tid, 400);
	vcf_worker_enter(worker, self->vcpus[0]);
	EXPECT_HINT_MIN(worker->tid, 300);

	/* The end of a device takes its own hint only. */
	close(fd[1]);
	EXPECT_HINT_MIN(worker->tid, 300);
	close(fd[0]);
	EXPECT_NO_HINT_ON(worker->tid);
}

TEST_F(threads, that_run_a_vcpu_without_a_device_have_no_hint)
{
	struct vcf_worker *worker = &self->workers[0];
	struct kvm_vcpu *vcpu;
	struct kvm_vm *vm;
	int fd, i;

	fd = vcf_create(self->vm, &self->args);
	vm = vcf_vm_create(1, &vcpu);
	for (i = 0; i < 5; i++) {
		vcf_worker_set_perf(worker, self->vcpus[0], 0, 512 + i);
		EXPECT_HINT_MIN(worker->tid, 512 + i);
		/* Of the same VM, and of another one */
		vcf_worker_enter(worker, self->vcpus[2]);
		EXPECT_NO_HINT_ON(worker->tid);
		vcf_worker_enter(worker, self->vcpus[0]);
		EXPECT_HINT_MIN(worker->tid, 512 + i);
		vcf_worker_enter(worker, vcpu);
		EXPECT_NO_HINT_ON(worker->tid);
	}
	close(fd);
	kvm_vm_free(vm);
}

TEST_F(threads, whose_hint_is_replaced_have_it_again_when_they_run_the_vcpu)
{
	struct vcf_worker *worker = &self->workers[0];
	struct vcf_args args;
	struct kvm_vcpu *vcpu;
	struct kvm_vm *vm;
	int fd;

	vcf_create(self->vm, &self->args);
	vcf_worker_set_perf(worker, self->vcpus[0], 0, 300);

	/* Another VM's device, which is closed while it has given the last hint */
	vm = vcf_vm_create(1, &vcpu);
	vcf_args_init(&args, 1, KVM_VIRT_CPUFREQ_HINT_MIN);
	fd = vcf_create(vm, &args);
	vcf_worker_set_perf(worker, vcpu, 0, 700);
	EXPECT_HINT_MIN(worker->tid, 700);
	close(fd);
	EXPECT_NO_HINT_ON(worker->tid);
	vcf_worker_enter(worker, self->vcpus[0]);
	EXPECT_HINT_MIN(worker->tid, 300);
	kvm_vm_free(vm);
}

/* Requests that ask for the same capacity change the registers only. */
TEST_F(threads, of_the_domain_are_left_alone_when_the_util_stays)
{
	const u32 perf = 1500000;
	u64 hints[4];
	int fd, i, kicks;

	if (!vcf_trace_begin_probe("__kvm_vcpu_kick"))
		SKIP(return, "needs kprobe events");

	self->args.create.nr_vcpus = 4;
	self->args.domain[0].capacity = 273;
	self->args.domain[0].nr_perf = 1;
	self->args.domain[0].perf[0] = 2000000;
	fd = vcf_create(self->vm, &self->args);
	set_perf(self, 0, 0, perf);
	for (i = 1; i < 4; i++) {
		vcf_worker_spin(&self->workers[i], self->vcpus[i]);
		EXPECT_HINT_MIN(tid(self, i), 204);
	}
	for (i = 0; i < 4; i++)
		hints[i] = vcpu_get_stat(self->vcpus[i], virt_cpufreq_hints);
	vcf_trace_forget();
	for (i = 1; i <= 200; i++)
		set_perf(self, 0, 0, perf + i);
	for (i = 1; i < 4; i++)
		vcf_worker_stop_spin(&self->workers[i], self->vcpus[i]);

	kicks = vcf_trace_count(tid(self, 0), "probe:");
	vcf_trace_end();
	EXPECT_EQ(0, kicks);
	for (i = 0; i < 4; i++) {
		EXPECT_EQ(hints[i], vcpu_get_stat(self->vcpus[i], virt_cpufreq_hints));
		EXPECT_HINT_MIN(tid(self, i), 204);
		EXPECT_EQ(perf + 200, vcf_load(self->vcpus[0], VCF_REG(i, REG_SET_PERF)));
	}
	close(fd);
}

TEST_F(threads, may_exit_before_the_device_does)
{
	int fd = vcf_create(self->vm, &self->args);

	set_perf(self, 0, 0, 512);
	set_perf(self, 1, 1, 512);
	vcf_worker_stop(&self->workers[0]);
	vcf_worker_stop(&self->workers[1]);

	vcf_worker_enter(&self->workers[2], self->vcpus[0]);
	EXPECT_HINT_MIN(tid(self, 2), 512);
	close(fd);
	EXPECT_NO_HINT_ON(tid(self, 2));
}

TEST_F(threads, inside_the_guest_lose_the_hint_with_the_device)
{
	int fd = vcf_create(self->vm, &self->args), i;

	set_perf(self, 0, 0, 512);
	for (i = 0; i < 2; i++)
		vcf_worker_spin(&self->workers[i], self->vcpus[i]);
	for (i = 0; i < 2; i++)
		EXPECT_HINT_MIN(tid(self, i), 512);
	close(fd);
	for (i = 0; i < 2; i++) {
		EXPECT_NO_HINT_ON(tid(self, i));
		vcf_worker_stop_spin(&self->workers[i], self->vcpus[i]);
	}
}

TEST_F(threads, inside_the_guest_serve_a_device_made_after_they_entered)
{
	vcf_worker_spin(&self->workers[0], self->vcpus[0]);
	vcf_create(self->vm, &self->args);
	set_perf(self, 1, 1, 700);
	EXPECT_TRUE(VCF_WAIT_FOR(vcf_uclamp(tid(self, 0)).eff_min == 700));
	set_perf(self, 1, 1, 300);
	EXPECT_TRUE(VCF_WAIT_FOR(vcf_uclamp(tid(self, 0)).eff_min == 300));

	/* It has been in there all the time. */
	EXPECT_EQ(-1, sem_trywait(&self->workers[0].done));
	vcf_worker_stop_spin(&self->workers[0], self->vcpus[0]);
}

TEST_F(threads, that_migrate_take_the_hint_along)
{
	u32 perf = 512;
	cpu_set_t cpus;
	int i;

	if (self->nr_cpus < 2)
		SKIP(return, "needs 2 CPUs");

	vcf_create(self->vm, &self->args);
	set_perf(self, 0, 0, perf);
	vcf_worker_spin(&self->workers[0], self->vcpus[0]);
	for (i = 0; i < 50; i++) {
		CPU_ZERO(&cpus);
		CPU_SET(i % self->nr_cpus, &cpus);
		ASSERT_EQ(0, sched_setaffinity(tid(self, 0), sizeof(cpus), &cpus));
		EXPECT_HINT_MIN(tid(self, 0), perf);
		set_perf(self, 1, 1, i % 2 ? 300 : 900);
		/* One that it has not had: those before are over when it is there. */
		set_perf(self, 1, 1, ++perf);
		EXPECT_TRUE(VCF_WAIT_FOR(vcf_uclamp(tid(self, 0)).eff_min == perf));
	}
	vcf_worker_stop_spin(&self->workers[0], self->vcpus[0]);
}

TEST_F(threads, whose_vcpu_sleeps_are_not_woken)
{
	struct vcf_worker *sleeper = &self->workers[0];
	struct kvm_vcpu *vcpu = self->vcpus[0];
	u64 wakeups;

	vcf_create(self->vm, &self->args);
	set_perf(self, 0, 0, 100);
	vcf_worker_post(sleeper, (void *)vcf_sleep, vcpu);
	ASSERT_TRUE(VCF_WAIT_FOR(vcpu_get_stat(vcpu, blocking)));
	wakeups = vcpu_get_stat(vcpu, halt_wakeup);

	set_perf(self, 1, 1, 700);
	/* Nothing is to happen: give it the time to. */
	usleep(20000);
	EXPECT_EQ(1, vcpu_get_stat(vcpu, blocking));
	EXPECT_EQ(wakeups, vcpu_get_stat(vcpu, halt_wakeup));
	EXPECT_HINT_MIN(tid(self, 0), 100);

	pthread_kill(sleeper->thread, SIGUSR1);
	vcf_worker_wait(sleeper);
	EXPECT_HINT_MIN(tid(self, 0), 700);
}

/* All but the beginnings of this is in the tests above; here is the kick itself. */
TEST_F(threads, inside_the_guest_are_kicked_out_when_the_request_rises)
{
	int i, kicks;

	if (self->nr_cpus < 2)
		SKIP(return, "needs 2 CPUs");
	if (!vcf_trace_begin_probe("__kvm_vcpu_kick"))
		SKIP(return, "needs kprobe events");

	vcf_create(self->vm, &self->args);
	vcf_worker_spin(&self->workers[0], self->vcpus[0]);
	for (i = 0; i < 20; i++) {
		set_perf(self, 1, 1, 100);
		set_perf(self, 1, 1, 700 + i);
		EXPECT_TRUE(VCF_WAIT_FOR(vcf_uclamp(tid(self, 0)).eff_min == 700 + i));
	}
	vcf_worker_stop_spin(&self->workers[0], self->vcpus[0]);

	/* Not each time: now and then it is outside just then, for a host's tick. */
	kicks = vcf_trace_count(tid(self, 1), "probe:");
	EXPECT_LE(10, kicks);
	vcf_trace_end();
}

TEST_F(threads, leave_a_trace_of_each_new_request)
{
	if (!vcf_trace_begin("kvm/kvm_virt_cpufreq"))
		SKIP(return, "needs tracefs");

	vcf_args_set_domain(&self->args, 0, 1);
	self->args.domain[1].capacity = 700;
	self->args.domain[1].nr_perf = 1;
	self->args.domain[1].perf[0] = 1000;
	vcf_create(self->vm, &self->args);

	set_perf(self, 0, 0, 333);
	set_perf(self, 0, 0, 333);
	set_perf(self, 5, 0, 5000);
	set_perf(self, 1, 1, 512);

	EXPECT_EQ(1, vcf_trace_count(tid(self, 0), ": vcpu 0 domain 1 perf 333 util 233"));
	EXPECT_EQ(1, vcf_trace_count(tid(self, 5), ": vcpu 5 domain 1 perf 1000 util 700"));
	EXPECT_EQ(1, vcf_trace_count(tid(self, 1), ": vcpu 1 domain 0 perf 512 util 512"));
	EXPECT_EQ(1, vcf_trace_count(tid(self, 0), "kvm_virt_cpufreq:"));
	vcf_trace_end();
}

TEST_F(threads, count_for_the_vcpu_that_stored_or_applied)
{
	vcf_create(self->vm, &self->args);
	set_perf(self, 2, 0, 300);
	enter(self, 0);
	enter(self, 0);
	set_perf(self, 1, 0, 400);

	EXPECT_EQ(0, vcpu_get_stat(self->vcpus[0], virt_cpufreq_requests));
	EXPECT_EQ(1, vcpu_get_stat(self->vcpus[1], virt_cpufreq_requests));
	EXPECT_EQ(1, vcpu_get_stat(self->vcpus[2], virt_cpufreq_requests));
	/* vCPU 1 has applied what was there when it began to run, and its own. */
	EXPECT_EQ(1, vcpu_get_stat(self->vcpus[0], virt_cpufreq_hints));
	EXPECT_EQ(2, vcpu_get_stat(self->vcpus[1], virt_cpufreq_hints));
	EXPECT_EQ(0, vcpu_get_stat(self->vcpus[2], virt_cpufreq_hints));
}

/* A thread that may not set its own attributes */
#define REFUSED_COMM	"vcf-refused"
#define REFUSED_PARAMS	"/sys/module/test_setscheduler/parameters/"

FIXTURE(refused) {
	struct kvm_vm *vm;
	struct kvm_vcpu *vcpus[2];
	struct vcf_worker refused, allowed;
	struct vcf_args args;
	int fd;
};

static void set_refused_name(void *unused)
{
	prctl(PR_SET_NAME, REFUSED_COMM);
}

FIXTURE_SETUP(refused)
{
	if (!vcf_load_module("test_setscheduler", "comm=" REFUSED_COMM))
		SKIP(return, "no test_setscheduler.ko");

	self->vm = vcf_vm_create(2, self->vcpus);
	vcf_args_init(&self->args, 2, KVM_VIRT_CPUFREQ_HINT_MIN);
	vcf_worker_start(&self->allowed);
	vcf_worker_start(&self->refused);
	vcf_worker_call(&self->refused, set_refused_name, NULL);
}

FIXTURE_TEARDOWN_PARENT(refused)
{
	if (!access(REFUSED_PARAMS, F_OK))
		vcf_unload_module("test_setscheduler");
}

static void create_on_worker(void *arg)
{
	struct _test_data_refused *self = arg;

	self->fd = __vcf_create(self->vm, &self->args);
}

TEST_F(refused, thread_cannot_make_a_device_that_hints)
{
	vcf_worker_call(&self->refused, create_on_worker, self);
	EXPECT_EQ(-EPERM, self->fd);

	vcf_write_file(REFUSED_PARAMS "error", "%d", -EACCES);
	vcf_worker_call(&self->refused, create_on_worker, self);
	EXPECT_EQ(-EACCES, self->fd);

	vcf_worker_call(&self->allowed, create_on_worker, self);
	EXPECT_LE(0, self->fd);
}

/* The threads of a VM are all of the process that was asked when it made the device. */
TEST_F(refused, thread_has_the_hint_of_a_device_that_another_has_made)
{
	vcf_create(self->vm, &self->args);
	vcf_worker_set_perf(&self->refused, self->vcpus[0], 0, 512);
	EXPECT_HINT_MIN(self->refused.tid, 512);
	vcf_worker_enter(&self->allowed, self->vcpus[0]);
	EXPECT_NO_HINT_ON(self->refused.tid);
	EXPECT_HINT_MIN(self->allowed.tid, 512);
}

TEST_F(refused, thread_can_make_a_device_without_hints)
{
	self->args.create.flags = 0;
	vcf_worker_call(&self->refused, create_on_worker, self);
	EXPECT_LE(0, self->fd);
}

/*
 * sched_ext: a scheduler that leaves everything to the defaults, made without libbpf.
 * All it takes from the kernel's type information is where its name is stored.
 */
struct scx {
	u32 value_type;	/* struct bpf_struct_ops_sched_ext_ops */
	u32 value_size;
	u32 name_offset;
};

static size_t btf_type_extra(const struct btf_type *type)
{
	u32 vlen = BTF_INFO_VLEN(type->info);

	switch (BTF_INFO_KIND(type->info)) {
	case BTF_KIND_INT:
	case BTF_KIND_VAR:
	case BTF_KIND_DECL_TAG:
		return sizeof(u32);
	case BTF_KIND_ARRAY:
		return sizeof(struct btf_array);
	case BTF_KIND_STRUCT:
	case BTF_KIND_UNION:
		return vlen * sizeof(struct btf_member);
	case BTF_KIND_ENUM:
		return vlen * sizeof(struct btf_enum);
	case BTF_KIND_ENUM64:
		return vlen * sizeof(struct btf_enum64);
	case BTF_KIND_FUNC_PROTO:
		return vlen * sizeof(struct btf_param);
	case BTF_KIND_DATASEC:
		return vlen * sizeof(struct btf_var_secinfo);
	default:
		return 0;
	}
}

/* The structure of that name and its number */
static const struct btf_type *btf_find_struct(const struct btf_header *btf,
					      const char *name, u32 *id)
{
	const void *types = (void *)btf + btf->hdr_len + btf->type_off;
	const char *strings = (void *)btf + btf->hdr_len + btf->str_off;
	const struct btf_type *type = types;

	for (*id = 1; (void *)type < types + btf->type_len; (*id)++) {
		if (BTF_INFO_KIND(type->info) == BTF_KIND_STRUCT &&
		    !strcmp(strings + type->name_off, name))
			return type;
		type = (void *)(type + 1) + btf_type_extra(type);
	}

	return NULL;
}

static u32 btf_member_offset(const struct btf_header *btf, const struct btf_type *type,
			     const char *name)
{
	const char *strings = (void *)btf + btf->hdr_len + btf->str_off;
	const struct btf_member *member = (void *)(type + 1);

	while (strcmp(strings + member->name_off, name))
		member++;
	return BTF_MEMBER_BIT_OFFSET(member->offset) / 8;
}

static bool scx_find(struct scx *scx)
{
	const size_t size = 64 << 20;
	const struct btf_type *value, *ops;
	struct btf_header *btf;
	u32 id;

	btf = kvm_mmap(size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1);
	if (!vcf_read_file("/sys/kernel/btf/vmlinux", (char *)btf, size))
		return false;
	value = btf_find_struct(btf, "bpf_struct_ops_sched_ext_ops", &scx->value_type);
	ops = btf_find_struct(btf, "sched_ext_ops", &id);
	if (value && ops) {
		scx->value_size = value->size;
		scx->name_offset = btf_member_offset(btf, value, "data") +
				   btf_member_offset(btf, ops, "name");
	}
	kvm_munmap(btf, size);

	return value && ops;
}

static int sys_bpf(int cmd, union bpf_attr *attr)
{
	return syscall(SYS_bpf, cmd, attr, sizeof(*attr));
}

/* The kernel insists on type information of the program, and takes as little as an int. */
static int load_btf(void)
{
	const struct {
		struct btf_header header;
		struct btf_type type;
		u32 encoding;
		char strings[5];
	} btf = {
		.header = {
			.magic = BTF_MAGIC,
			.version = BTF_VERSION,
			.hdr_len = sizeof(btf.header),
			.type_len = sizeof(btf.type) + sizeof(btf.encoding),
			.str_off = sizeof(btf.type) + sizeof(btf.encoding),
			.str_len = sizeof(btf.strings),
		},
		.type = { .name_off = 1, .info = BTF_KIND_INT << 24, .size = 4 },
		.encoding = BTF_INT_SIGNED << 24 | 32,
		.strings = "\0int",
	};
	union bpf_attr attr = {};

	attr.btf = (u64)(ulong)&btf;
	attr.btf_size = offsetof(typeof(btf), strings) + sizeof(btf.strings);
	return sys_bpf(BPF_BTF_LOAD, &attr);
}

/* Make all threads sched_ext ones, until the descriptor is closed; -1: cannot. */
static int scx_enable(void)
{
	union bpf_attr map = {}, elem = {}, link = {};
	struct scx scx;
	void *value;
	u32 key = 0;
	int btf, fd, r;

	if (!scx_find(&scx))
		return -1;
	btf = load_btf();
	TEST_ASSERT(btf >= 0, "Cannot load type information");

	map.map_type = BPF_MAP_TYPE_STRUCT_OPS;
	map.key_size = sizeof(key);
	map.value_size = scx.value_size;
	map.max_entries = 1;
	map.map_flags = BPF_F_LINK;
	map.btf_fd = btf;
	map.btf_vmlinux_value_type_id = scx.value_type;
	fd = sys_bpf(BPF_MAP_CREATE, &map);
	TEST_ASSERT(fd >= 0, "Cannot make a scheduler");

	value = calloc(1, scx.value_size);
	memcpy(value + scx.name_offset, "all_defaults", sizeof("all_defaults"));
	elem.map_fd = fd;
	elem.key = (u64)(ulong)&key;
	elem.value = (u64)(ulong)value;
	r = sys_bpf(BPF_MAP_UPDATE_ELEM, &elem);
	TEST_ASSERT(!r, "Cannot fill the scheduler in");
	free(value);

	link.link_create.map_fd = fd;
	link.link_create.attach_type = BPF_STRUCT_OPS;
	r = sys_bpf(BPF_LINK_CREATE, &link);
	TEST_ASSERT(r >= 0, "Cannot enable the scheduler");
	close(fd);
	close(btf);
	return r;
}

static bool scx_is(const char *state)
{
	char text[32];

	return vcf_read_file("/sys/kernel/sched_ext/state", text, sizeof(text)) &&
	       !strcmp(text, state);
}

TEST_F(hint, is_the_same_on_a_sched_ext_thread)
{
	int fd;

	if (!scx_is("disabled"))
		SKIP(return, "no sched_ext");

	/* It comes and goes while there is a hint. */
	vcf_set_perf(self->vcpu, 0, 512);
	fd = scx_enable();
	if (fd < 0)
		SKIP(return, "no type information for sched_ext");
	ASSERT_TRUE(scx_is("enabled"));
	EXPECT_HINT(self->tid, variant->flags, 512);
	vcf_set_perf(self->vcpu, 0, 700);
	EXPECT_HINT(self->tid, variant->flags, 700);
	ASSERT_EQ(0, vcf_set_uclamp(0, 200, 600));
	EXPECT_UCLAMP(self->tid, expected_uclamp(200, 600, variant->flags, 700));
	ASSERT_EQ(0, vcf_set_uclamp(0, -1, -1));

	ASSERT_EQ(0, set_policy(SCHED_FIFO, 1));
	vcf_set_perf(self->vcpu, 0, 300);
	ASSERT_EQ(0, set_policy(SCHED_OTHER, 0));
	EXPECT_HINT(self->tid, variant->flags, 300);

	close(fd);
	ASSERT_TRUE(VCF_WAIT_FOR(scx_is("disabled")));
	EXPECT_HINT(self->tid, variant->flags, 300);
	vcf_set_perf(self->vcpu, 0, 100);
	EXPECT_HINT(self->tid, variant->flags, 100);

	/* And here is one that begins and ends in it. */
	fd = scx_enable();
	vcf_set_perf(self->vcpu, 0, 400);
	EXPECT_HINT(self->tid, variant->flags, 400);
	close(self->fd);
	EXPECT_NO_HINT_ON(self->tid);
	close(fd);
	EXPECT_NO_HINT_ON(self->tid);
}

int main(int argc, char *argv[])
{
	if (argc == 4 && !strcmp(argv[1], EXPECT_HINT_UNTIL_CLOSE))
		return expect_hint_until_close(atoi(argv[2]), atoi(argv[3]));

	TEST_REQUIRE(kvm_has_cap(KVM_CAP_VIRT_CPUFREQ));
	TEST_REQUIRE(!access(SYSCTL "sched_util_clamp_min", W_OK));
	return test_harness_run(argc, argv);
}
