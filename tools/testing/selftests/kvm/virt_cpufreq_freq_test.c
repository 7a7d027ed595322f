// SPDX-License-Identifier: GPL-2.0-only
/*
 * KVM_CREATE_VIRT_CPUFREQ: from the guest's request to the host's frequency and back
 *
 * The frequencies are those of test_modules/test_cpufreq.c, which also tells when
 * and by whom they were changed.
 */
#include <ctype.h>
#include <limits.h>
#include <sched.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include "arch_timer.h"
#include "kvm_test_harness.h"
#include "processor.h"
#include "virt_cpufreq.h"

#include <cgroup_util.h>

#define TRANSITIONS	"/sys/kernel/debug/test_cpufreq/transitions"

/* In kHz, and the perf values of the guest: the capacities 256, 512, 768, 1024 */
static const u32 freqs[] = { 500000, 1000000, 1500000, 2000000 };

#define LOWEST	500000
#define MIDDLE	1000000
#define HIGHEST	2000000

struct transition {
	u64 counter;
	u32 policy, old, new, cpu;
	pid_t pid;
	char context[16];
};

static void forget_transitions(void)
{
	vcf_write_file(TRANSITIONS, "\n");
}

/*
 * Find a transition that happened between two moments, of a certain policy or, with
 * -1, of any; false if there is none.
 */
static bool find_transition(u64 after, u64 before, int policy, u32 new, struct transition *t)
{
	bool found = false;
	char line[256];
	FILE *file;
	u32 nr;

	file = fopen(TRANSITIONS, "r");
	TEST_ASSERT(file, "No " TRANSITIONS);
	while (!found && fgets(line, sizeof(line), file)) {
		found = sscanf(line, "%u %lu %u %u %u %u %d %15s", &nr, &t->counter,
			       &t->policy, &t->old, &t->new, &t->cpu, &t->pid,
			       t->context) == 8 &&
			t->counter > after && t->counter < before &&
			(policy < 0 || t->policy == policy) && t->new == new;
	}
	fclose(file);

	return found;
}

/*
 * Clamps as such, of threads that are busy or visit them on their CPU, the last one of
 * the host.
 */
FIXTURE(clamps) {
	struct vcf_worker workers[2], visitor;
	int cpu;
	struct busy {
		bool started;
		bool stop;
	} busy[2];
	char cgroup[PATH_MAX];
};

#define NEXT_TO_HIGHEST	1800000

FIXTURE_SETUP(clamps)
{
	int i, nr_cpus = vcf_nr_cpus();

	/* Who looks on, here, has a say on its CPU. */
	if (nr_cpus < 2)
		SKIP(return, "needs 2 CPUs");
	if (!vcf_load_module("test_cpufreq", "freqs=500000,1000000,1800000,2000000 shared=0"))
		SKIP(return, "no test_cpufreq.ko");
	if (access(TRANSITIONS, W_OK))
		SKIP(return, "no debugfs");
	vcf_set_governor(nr_cpus, "schedutil");
	vcf_write_file(VCF_CPUFREQ "schedutil/rate_limit_us", "0");

	self->cpu = nr_cpus - 1;
	vcf_pin(0, 0);
	for (i = 0; i < 2; i++) {
		vcf_worker_start(&self->workers[i]);
		vcf_pin(self->workers[i].tid, self->cpu);
	}
	vcf_worker_start(&self->visitor);
	vcf_pin(self->visitor.tid, self->cpu);
}

FIXTURE_TEARDOWN_PARENT(clamps)
{
	if (self->cgroup[0])
		cg_destroy(self->cgroup);
	if (!vcf_host_has_freqs())
		return;
	vcf_set_governor(vcf_nr_cpus(), "performance");
	vcf_unload_module("test_cpufreq");
}

static void be_busy(void *data)
{
	struct busy *busy = data;

	WRITE_ONCE(busy->started, true);
	while (!READ_ONCE(busy->stop))
		;
}

static void keep_busy(struct _test_data_clamps *self, int worker)
{
	struct busy *busy = &self->busy[worker];

	memset(busy, 0, sizeof(*busy));
	vcf_worker_post(&self->workers[worker], be_busy, busy);
	while (!READ_ONCE(busy->started))
		usleep(1000);
}

static void stop_being_busy(struct _test_data_clamps *self, int worker)
{
	WRITE_ONCE(self->busy[worker].stop, true);
	vcf_worker_wait(&self->workers[worker]);
}

static void be_busy_for_a_moment(void *unused)
{
	struct timespec start;

	clock_gettime(CLOCK_MONOTONIC, &start);
	while (timespec_to_ns(timespec_elapsed(start)) < 1000000)
		;
}

/* The frequency that a policy has now */
static u32 cur_freq(int policy)
{
	char path[128], text[32];

	snprintf(path, sizeof(path), VCF_CPUFREQ "policy%d/scaling_cur_freq", policy);
	TEST_ASSERT(vcf_read_file(path, text, sizeof(text)), "No %s", path);
	return atoi(text);
}

/* The CPU has that frequency, now or soon. */
static bool becomes(struct _test_data_clamps *self, u32 freq)
{
	int tries;

	for (tries = 0; tries < 100; tries++) {
		if (cur_freq(self->cpu) == freq)
			return true;
		usleep(20000);
	}
	return false;
}

/* It needs clamps that have not been used since the host booted, so it comes first. */
TEST_F(clamps, that_go_on_count_a_task_that_never_sleeps)
{
	struct transition t;

	keep_busy(self, 0);
	ASSERT_TRUE(becomes(self, HIGHEST));

	/* Another one, which is held down: it must not take the first one along. */
	keep_busy(self, 1);
	ASSERT_EQ(0, vcf_set_uclamp(self->workers[1].tid, 0, 256));
	forget_transitions();
	usleep(400000);
	EXPECT_FALSE(find_transition(0, -1UL, self->cpu, LOWEST, &t));

	/* Until it is alone. */
	stop_being_busy(self, 0);
	EXPECT_TRUE(becomes(self, LOWEST));
	stop_being_busy(self, 1);
}

/*
 * A busy CPU's frequency falls only while the maximum holds the utilization down, which
 * grows to 921 at NEXT_TO_HIGHEST. The maximum is of the last one of five buckets if
 * these are of one size.
 */
TEST_F(clamps, with_a_high_maximum_hold_down_again_after_an_ordinary_task_ran)
{
	struct transition up;
	int i, raised = 0;

	ASSERT_EQ(0, vcf_set_uclamp(self->workers[0].tid, 0, 820));
	keep_busy(self, 0);
	ASSERT_TRUE(becomes(self, NEXT_TO_HIGHEST));
	for (i = 0; i < 30; i++) {
		forget_transitions();
		vcf_worker_call(&self->visitor, be_busy_for_a_moment, NULL);
		raised += find_transition(0, -1UL, self->cpu, HIGHEST, &up);
		EXPECT_TRUE(becomes(self, NEXT_TO_HIGHEST));
	}
	EXPECT_LE(1, raised);
	stop_being_busy(self, 0);
}

/* What sched-util-clamp.rst says of a bucket; both values are of the same one. */
TEST_F(clamps, that_fall_within_a_bucket_stay_until_it_is_empty)
{
	struct transition t;
	int i;

	for (i = 0; i < 2; i++) {
		ASSERT_EQ(0, vcf_set_uclamp(self->workers[i].tid, 0, 538));
		keep_busy(self, i);
	}
	ASSERT_TRUE(becomes(self, NEXT_TO_HIGHEST));
	forget_transitions();
	for (i = 0; i < 2; i++)
		ASSERT_EQ(0, vcf_set_uclamp(self->workers[i].tid, 0, 512));
	usleep(400000);
	EXPECT_FALSE(find_transition(0, -1UL, self->cpu, MIDDLE, &t));

	for (i = 0; i < 2; i++)
		stop_being_busy(self, i);
	for (i = 0; i < 2; i++)
		keep_busy(self, i);
	EXPECT_TRUE(becomes(self, MIDDLE));
	for (i = 0; i < 2; i++)
		stop_being_busy(self, i);
}

/* A cgroup whose tasks run for a ms each second; false if there is none */
static bool create_throttled_cgroup(char *cgroup)
{
	return vcf_cgroup_name(cgroup, PATH_MAX, "virt_cpufreq_freq_test") &&
	       (!cg_create(cgroup) || errno == EEXIST) &&
	       !cg_write(cgroup, "cpu.max", "1000 1000000");
}

/* A visit of a ms in 20, after a while of these: is the CPU at its highest frequency? */
static bool is_highest_for_visitors(struct _test_data_clamps *self)
{
	int i;

	for (i = 0; i < 25; i++) {
		usleep(20000);
		vcf_worker_call(&self->visitor, be_busy_for_a_moment, NULL);
	}
	return cur_freq(self->cpu) == HIGHEST;
}

/*
 * The scheduler takes a task out of its run queue when its group is throttled, without
 * taking back its clamps: they are others', too, until the task sleeps.
 */
TEST_F(clamps, of_a_task_go_on_while_its_group_is_throttled)
{
	pid_t pid;
	int go[2];
	char c;

	if (!create_throttled_cgroup(self->cgroup))
		SKIP(return, "no cgroup with cpu.max");

	ASSERT_FALSE(is_highest_for_visitors(self));

	ASSERT_EQ(0, pipe(go));
	pid = fork();
	if (!pid) {
		vcf_pin(0, self->cpu);
		if (cg_enter_current(self->cgroup) || vcf_set_uclamp(0, 1024, 1024) ||
		    write(go[1], "", 1) != 1)
			_exit(1);
		for (;;)
			;
	}
	ASSERT_EQ(1, read(go[0], &c, 1));
	EXPECT_TRUE(is_highest_for_visitors(self));
	EXPECT_LE(1, cg_read_key_long(self->cgroup, "cpu.stat", "nr_throttled "));

	kill(pid, SIGKILL);
	ASSERT_EQ(pid, waitpid(pid, NULL, 0));
	EXPECT_FALSE(is_highest_for_visitors(self));
}

/* A vCPU, its thread, and the CPU that it is pinned to */
FIXTURE(freq) {
	struct kvm_vm *vm;
	struct kvm_vcpu *vcpus[2];
	struct vcf_worker workers[2];
	struct vcf_args args;
	int fd;
	const void *map;
	int nr_cpus;
	int cpus[2];
};

FIXTURE_VARIANT(freq) {
	const char *params;
	bool shared;	/* one policy for all CPUs */
	bool slot;	/* the guest loads the registers without an exit */
};

FIXTURE_VARIANT_ADD(freq, policy_for_each_cpu) {
	.params = "freqs=500000,1000000,1500000,2000000 shared=0",
};

FIXTURE_VARIANT_ADD(freq, policy_for_each_cpu_and_slot) {
	.params = "freqs=500000,1000000,1500000,2000000 shared=0",
	.slot = true,
};

FIXTURE_VARIANT_ADD(freq, shared_policy) {
	.params = "freqs=500000,1000000,1500000,2000000 shared=1",
	.shared = true,
};

static void set_speed(int policy, u32 freq)
{
	char text[16];

	snprintf(text, sizeof(text), "%u", freq);
	vcf_write_policy(policy, "scaling_setspeed", text);
}

/* False: that cannot be done with this CPU. */
static bool set_online(int cpu, bool online)
{
	char path[128];

	snprintf(path, sizeof(path), "/sys/devices/system/cpu/cpu%d/online", cpu);
	if (!cpu || access(path, W_OK))
		return false;
	vcf_write_file(path, "%d", online);
	return true;
}

/* The test is on the first CPU, vCPU 0 on the last and vCPU 1 on the one before. */
FIXTURE_SETUP(freq)
{
	int i;

	self->nr_cpus = vcf_nr_cpus();
	if (!vcf_load_module("test_cpufreq", variant->params))
		SKIP(return, "no test_cpufreq.ko");
	if (access(TRANSITIONS, W_OK))
		SKIP(return, "no debugfs");
	vcf_set_governor(self->nr_cpus, "schedutil");
	vcf_write_file(VCF_CPUFREQ "schedutil/rate_limit_us", "0");

	self->vm = vcf_vm_create(2, self->vcpus);
	vcf_pin(0, 0);
	for (i = 0; i < 2; i++) {
		self->cpus[i] = max(self->nr_cpus - 1 - i, 0);
		vcf_worker_start(&self->workers[i]);
		vcf_pin(self->workers[i].tid, self->cpus[i]);
	}
	/* Who looks on, which is work for a slow host, has no say. */
	if (variant->shared)
		TEST_ASSERT_EQ(vcf_set_uclamp(0, 0, 0), 0);

	vcf_args_init(&self->args, 2, VCF_HINT_MINMAX);
	for (i = 0; i < 2; i++) {
		vcf_args_set_domain(&self->args, i, i);
		self->args.domain[i].nr_perf = ARRAY_SIZE(freqs);
		memcpy(self->args.domain[i].perf, freqs, sizeof(freqs));
	}
}

FIXTURE_TEARDOWN_PARENT(freq)
{
	vcf_trace_end();
	set_online(self->cpus[0], true);
	vcf_write_file(VCF_UCLAMP_MIN_RT, "1024");
	if (!vcf_host_has_freqs())
		return;
	vcf_set_governor(self->nr_cpus, "performance");
	vcf_unload_module("test_cpufreq");
}

static void make_device(struct _test_data_freq *self, bool slot)
{
	u32 nr_pages = self->args.create.nr_vcpus;

	self->fd = vcf_create(self->vm, &self->args);
	self->map = vcf_map(self->fd, nr_pages);
	if (slot)
		vcf_slot_add(self->vm, self->map, nr_pages);
}

static void end_device(struct _test_data_freq *self, bool slot)
{
	if (slot)
		vcf_slot_remove(self->vm);
	vcf_unmap(self->map, self->args.create.nr_vcpus);
	close(self->fd);
}

/* What runs on a worker */
struct task {
	struct _test_data_freq *self;
	struct kvm_vcpu *vcpu;
	bool slot;
	u32 page, perf, val;
	struct vcf_moment moment;
};

static void task_set_and_get(void *arg)
{
	struct task *task = arg;

	task->moment = vcf_set_and_get_perf(task->vcpu, task->page, task->perf);
}

static void task_cur_perf(void *arg)
{
	struct task *task = arg;

	task->val = vcf_load(task->vcpu, VCF_REG(task->page, REG_CUR_PERF));
}

/* cur_perf of a page as a vCPU reads it */
static u32 cur_perf(struct _test_data_freq *self, int i, u32 page)
{
	struct task task = { .vcpu = self->vcpus[i], .page = page };

	vcf_worker_call(&self->workers[i], task_cur_perf, &task);
	return task.val;
}

/*
 * vCPU 0 requests @perf. True if its own thread, and not an interrupt, changed the
 * frequency before the guest's next instruction, which saw it.
 */
static bool switches_at_once(struct _test_data_freq *self, u32 perf)
{
	struct vcf_worker *worker = &self->workers[0];
	struct task task = { .vcpu = self->vcpus[0], .perf = perf };
	struct transition t;

	forget_transitions();
	vcf_worker_call(worker, task_set_and_get, &task);

	return find_transition(task.moment.before, task.moment.after, -1, perf, &t) &&
	       t.pid == worker->tid && t.cpu == self->cpus[0] &&
	       !strcmp(t.context, "task") && task.moment.cur_perf == perf;
}

/*
 * Another thread on the CPU, or in a shared policy on any, has a say, too, and what
 * it has done counts for a while. So give the others time to become quiet.
 */
static void wait_until_quiet(struct _test_data_freq *self)
{
	vcf_worker_spin(&self->workers[0], self->vcpus[0]);
	usleep(20000);
	vcf_worker_stop_spin(&self->workers[0], self->vcpus[0]);
}

static bool switches_at_once_when_quiet(struct _test_data_freq *self, u32 from, u32 to)
{
	int tries;

	for (tries = 0; tries < 40; tries++) {
		vcf_worker_set_perf(&self->workers[0], self->vcpus[0], 0, from);
		if (switches_at_once(self, to))
			return true;
		wait_until_quiet(self);
	}

	return false;
}

/*
 * Up and down without sleeping in between, many times as another runnable thread has
 * a say until the next ticks.
 */
static void task_first_requests(void *arg)
{
	struct task *task = arg;
	int tries;

	vcf_enter(task->vcpu);
	make_device(task->self, task->slot);
	for (tries = 0; tries < 400 && !task->val; tries++) {
		u32 up = vcf_set_and_get_perf(task->vcpu, 0, HIGHEST).cur_perf;
		u32 down = vcf_set_and_get_perf(task->vcpu, 0, LOWEST).cur_perf;

		task->val = up == HIGHEST && down == LOWEST;
	}
}

/*
 * Clamps are not counted before anybody has used one, so a thread that was enqueued
 * before that is not. Tests that only if nobody has in this boot: to be the first.
 */
TEST_F(freq, follows_the_very_first_requests_of_a_running_thread)
{
	struct task task = { .self = self, .vcpu = self->vcpus[0], .slot = variant->slot };

	if (variant->shared)
		SKIP(return, "the other CPUs have a say");

	vcf_worker_call(&self->workers[0], task_first_requests, &task);
	EXPECT_TRUE(task.val);
}

TEST_F(freq, changes_before_the_guests_next_instruction)
{
	int i, j;

	make_device(self, variant->slot);
	for (i = 0; i < ARRAY_SIZE(freqs); i++) {
		for (j = 0; j < ARRAY_SIZE(freqs); j++) {
			if (i != j)
				EXPECT_TRUE(switches_at_once_when_quiet(self, freqs[i], freqs[j]));
		}
	}
}

/* vCPU 0 now and then does a little; true when the frequency has come down. */
static bool comes_down_to(struct _test_data_freq *self, bool shared, u32 freq)
{
	int tries;

	/* Ever less often, because on a slow host looking is a load, too. */
	for (tries = 0; tries < 100; tries++) {
		vcf_worker_enter(&self->workers[0], self->vcpus[0]);
		if (cur_freq(shared ? 0 : self->cpus[0]) <= freq)
			return true;
		usleep(20000 + tries * 4000);
	}

	return false;
}

TEST_F(freq, rises_at_once_and_falls_in_time_with_hint_min)
{
	struct task task = { .vcpu = self->vcpus[0], .perf = HIGHEST };
	struct transition t;
	bool rises = false;
	int tries;

	/* PREEMPT_RT has a real-time thread for timers, which has the frequency go up. */
	vcf_write_file(VCF_UCLAMP_MIN_RT, "0");
	self->args.create.flags = KVM_VIRT_CPUFREQ_HINT_MIN;
	make_device(self, variant->slot);

	/* Where others are busy, it may be up again before the request. */
	for (tries = 0; tries < 10 && !rises; tries++) {
		vcf_worker_set_perf(&self->workers[0], self->vcpus[0], 0, LOWEST);
		ASSERT_TRUE(comes_down_to(self, variant->shared, MIDDLE));
		forget_transitions();
		vcf_worker_call(&self->workers[0], task_set_and_get, &task);
		EXPECT_EQ(HIGHEST, task.moment.cur_perf);
		/* On its way to sleep it may have come down, and up to this again before. */
		rises = find_transition(0, task.moment.after, -1, HIGHEST, &t);
	}
	EXPECT_TRUE(rises);

	vcf_worker_set_perf(&self->workers[0], self->vcpus[0], 0, LOWEST);
	EXPECT_TRUE(comes_down_to(self, variant->shared, MIDDLE));
}

/* Whether the frequency is nearly always this one while vCPU 0 is busy */
static bool is_busy_at(struct _test_data_freq *self, bool shared, u32 freq)
{
	int tries, i, n = 0;

	vcf_worker_spin(&self->workers[0], self->vcpus[0]);
	/* The samples are work for a CPU, too, which counts in a shared policy: fewer and fewer. */
	for (tries = 0; tries < 10 && n < 40; tries++) {
		usleep(200000);
		for (i = n = 0; i < 50; i++) {
			n += cur_freq(shared ? 0 : self->cpus[0]) == freq;
			usleep(2000 << min(tries, 4));
		}
	}
	vcf_worker_stop_spin(&self->workers[0], self->vcpus[0]);

	return n >= 40;
}

TEST_F(freq, is_held_down_under_load_by_hint_max)
{
	if (self->nr_cpus < 2)
		SKIP(return, "needs 2 CPUs");

	self->args.create.flags = KVM_VIRT_CPUFREQ_HINT_MAX;
	make_device(self, variant->slot);
	vcf_worker_set_perf(&self->workers[0], self->vcpus[0], 0, LOWEST);
	EXPECT_TRUE(is_busy_at(self, variant->shared, LOWEST));

	end_device(self, variant->slot);
	EXPECT_TRUE(is_busy_at(self, variant->shared, HIGHEST));
}

#define RATE_LIMIT_US	300000

/* Two requests within the rate limit; false if others have changed the frequency. */
static bool is_held_back(struct _test_data_freq *self, struct transition *middle,
			 struct transition *highest)
{
	bool comes;

	vcf_write_file(VCF_CPUFREQ "schedutil/rate_limit_us", "0");
	vcf_worker_set_perf(&self->workers[0], self->vcpus[0], 0, LOWEST);
	vcf_write_file(VCF_CPUFREQ "schedutil/rate_limit_us", "%u", RATE_LIMIT_US);
	usleep(RATE_LIMIT_US);
	forget_transitions();
	vcf_worker_set_perf(&self->workers[0], self->vcpus[0], 0, MIDDLE);
	vcf_worker_set_perf(&self->workers[0], self->vcpus[0], 0, HIGHEST);
	vcf_worker_spin(&self->workers[0], self->vcpus[0]);
	comes = VCF_WAIT_FOR(find_transition(0, -1UL, self->cpus[0], HIGHEST, highest));
	vcf_worker_stop_spin(&self->workers[0], self->vcpus[0]);

	return comes && find_transition(0, highest->counter, self->cpus[0], MIDDLE, middle);
}

/*
 * What the governor drops for its rate limit it does when somebody asks it again, which
 * is the tick if nobody else does. A nohz_full CPU has none, as documented.
 */
TEST_F(freq, that_the_rate_limit_holds_back_comes_with_a_tick)
{
	struct transition middle, highest;
	char text[64];
	int tries = 0;

	if (variant->shared)
		SKIP(return, "the other CPUs have a say");
	if (self->nr_cpus < 2)
		SKIP(return, "needs 2 CPUs");
	if (vcf_read_file("/sys/devices/system/cpu/nohz_full", text, sizeof(text)) &&
	    isdigit(text[0]))
		SKIP(return, "no tick");

	make_device(self, variant->slot);
	while (!is_held_back(self, &middle, &highest) && ++tries < 10)
		;
	ASSERT_GT(10, tries);
	/* The limit counts from when the governor began, the record from when it was done. */
	EXPECT_LE(RATE_LIMIT_US * 9 / 10, (highest.counter - middle.counter) *
		  USEC_PER_SEC / timer_get_cntfrq());
}

/* vCPU 0 requests for vCPU 1, whose thread is inside the guest. */
static bool is_raised_by_its_own_thread(struct _test_data_freq *self)
{
	struct transition t;

	vcf_worker_set_perf(&self->workers[0], self->vcpus[0], 0, LOWEST);
	usleep(20000);
	forget_transitions();
	vcf_worker_set_perf(&self->workers[0], self->vcpus[0], 0, HIGHEST);

	return __VCF_WAIT_FOR(find_transition(0, -1UL, self->cpus[1], HIGHEST, &t), 5) &&
	       t.pid == self->workers[1].tid && !strcmp(t.context, "task");
}

TEST_F(freq, of_a_vcpu_inside_the_guest_is_raised_by_its_own_thread)
{
	int tries = 0;

	if (variant->shared)
		SKIP(return, "vCPU 0 changes the frequency of both");
	if (self->nr_cpus < 3)
		SKIP(return, "needs 3 CPUs");

	self->args.page[1].domain = 0;
	self->args.create.nr_domains = 1;
	make_device(self, variant->slot);
	vcf_worker_spin(&self->workers[1], self->vcpus[1]);
	/* Another thread on that CPU may have raised it just then. */
	while (!is_raised_by_its_own_thread(self) && ++tries < 10)
		;
	EXPECT_GT(10, tries);
	EXPECT_EQ(HIGHEST, cur_perf(self, 0, 1));
	vcf_worker_stop_spin(&self->workers[1], self->vcpus[1]);
}

TEST_F(freq, is_what_cur_perf_says)
{
	int i;

	make_device(self, variant->slot);
	vcf_set_governor(self->nr_cpus, "userspace");
	for (i = 0; i < 2 * ARRAY_SIZE(freqs); i++) {
		u32 freq = freqs[i % ARRAY_SIZE(freqs)];

		set_speed(variant->shared ? 0 : self->cpus[0], freq);
		EXPECT_EQ(freq, cur_perf(self, 0, 0));
	}
}

TEST_F(freq, in_cur_perf_is_that_of_the_cpu_the_vcpu_last_entered_on)
{
	if (variant->shared)
		SKIP(return, "all CPUs have the same");
	if (self->nr_cpus < 3)
		SKIP(return, "needs 3 CPUs");

	vcf_set_governor(self->nr_cpus, "userspace");
	set_speed(0, 500000);
	set_speed(self->cpus[0], 1000000);
	set_speed(self->cpus[1], 1500000);

	/* Before vCPU 1 has run: that of the CPU which made the device. */
	make_device(self, variant->slot);
	EXPECT_EQ(1000000, cur_perf(self, 0, 0));
	EXPECT_EQ(500000, cur_perf(self, 0, 1));

	/* Whoever reads it */
	EXPECT_EQ(1500000, cur_perf(self, 1, 1));
	EXPECT_EQ(1500000, cur_perf(self, 0, 1));
	EXPECT_EQ(1000000, cur_perf(self, 1, 0));

	/* And when the thread has moved, but not before the vCPU runs again */
	vcf_pin(self->workers[1].tid, 0);
	EXPECT_EQ(1500000, cur_perf(self, 0, 1));
	EXPECT_EQ(1500000, vcf_map_reg(self->map, 1, REG_CUR_PERF));
	vcf_worker_enter(&self->workers[1], self->vcpus[1]);
	EXPECT_EQ(500000, vcf_map_reg(self->map, 1, REG_CUR_PERF));
	EXPECT_EQ(500000, cur_perf(self, 1, 1));
	EXPECT_EQ(500000, cur_perf(self, 0, 1));
}

/* cur_perf on vCPU 0's page after the next entry */
static u32 cur_perf_at_entry(struct _test_data_freq *self)
{
	vcf_worker_enter(&self->workers[0], self->vcpus[0]);
	return vcf_map_reg(self->map, 0, REG_CUR_PERF);
}

TEST_F(freq, is_on_the_page_as_of_the_vcpus_last_entry)
{
	int policy = variant->shared ? 0 : self->cpus[0], i;

	make_device(self, variant->slot);
	vcf_set_governor(self->nr_cpus, "userspace");
	set_speed(policy, HIGHEST);
	EXPECT_EQ(HIGHEST, cur_perf_at_entry(self));
	for (i = 0; i < 2 * ARRAY_SIZE(freqs); i++) {
		u32 before = vcf_map_reg(self->map, 0, REG_CUR_PERF);

		set_speed(policy, freqs[i % ARRAY_SIZE(freqs)]);
		EXPECT_EQ(before, vcf_map_reg(self->map, 0, REG_CUR_PERF));
		EXPECT_EQ(freqs[i % ARRAY_SIZE(freqs)], cur_perf_at_entry(self));
	}
}

TEST_F(freq, is_soon_on_the_page_of_a_vcpu_inside_the_guest)
{
	int policy = variant->shared ? 0 : self->cpus[0], i;

	if (self->nr_cpus < 2)
		SKIP(return, "needs 2 CPUs");
	make_device(self, variant->slot);
	vcf_set_governor(self->nr_cpus, "userspace");
	vcf_worker_spin(&self->workers[0], self->vcpus[0]);
	for (i = 0; i < 2 * ARRAY_SIZE(freqs); i++) {
		u32 freq = freqs[i % ARRAY_SIZE(freqs)];

		set_speed(policy, freq);
		EXPECT_TRUE(VCF_WAIT_FOR(vcf_map_reg(self->map, 0, REG_CUR_PERF) == freq));
	}
	vcf_worker_stop_spin(&self->workers[0], self->vcpus[0]);
}

TEST_F(freq, on_the_page_is_right_when_the_vcpus_cpu_went_offline)
{
	int cpu;

	if (variant->shared)
		SKIP(return, "all CPUs have the same");
	if (self->nr_cpus < 2)
		SKIP(return, "needs 2 CPUs");
	vcf_set_governor(self->nr_cpus, "userspace");
	for (cpu = 0; cpu < self->nr_cpus; cpu++)
		set_speed(cpu, LOWEST);
	set_speed(self->cpus[0], MIDDLE);
	make_device(self, variant->slot);
	EXPECT_EQ(MIDDLE, cur_perf_at_entry(self));

	if (!set_online(self->cpus[0], false))
		SKIP(return, "no CPU can be taken away");
	EXPECT_EQ(LOWEST, cur_perf_at_entry(self));
	EXPECT_EQ(LOWEST, cur_perf(self, 0, 0));
	EXPECT_TRUE(set_online(self->cpus[0], true));
	set_speed(self->cpus[0], HIGHEST);
	vcf_pin(self->workers[0].tid, self->cpus[0]);
	EXPECT_EQ(HIGHEST, cur_perf_at_entry(self));
	EXPECT_EQ(HIGHEST, cur_perf(self, 0, 0));
}

/*
 * A request by vCPU 0 and a load of cur_perf after it. True if the load was right and
 * there was no exit but the store's and the one to the VMM at the end.
 */
static bool is_there_without_another_exit(struct _test_data_freq *self, u32 perf)
{
	struct task task = { .vcpu = self->vcpus[0], .perf = perf };
	u64 exits = vcpu_get_stat(self->vcpus[0], exits);

	vcf_worker_call(&self->workers[0], task_set_and_get, &task);
	exits = vcpu_get_stat(self->vcpus[0], exits) - exits;
	return exits == 2 && task.moment.cur_perf == perf;
}

TEST_F(freq, is_on_the_page_when_the_vcpus_own_request_has_changed_it)
{
	int i, tries;

	if (!variant->slot)
		SKIP(return, "the load would be another exit");
	make_device(self, variant->slot);
	cur_perf(self, 0, 0);
	for (i = 0; i < ARRAY_SIZE(freqs); i++) {
		/* A tick of the host, or another thread on that CPU, may come between. */
		for (tries = 0; tries < 40; tries++) {
			vcf_worker_set_perf(&self->workers[0], self->vcpus[0], 0,
					    i ? LOWEST : HIGHEST);
			if (is_there_without_another_exit(self, freqs[i]))
				break;
			wait_until_quiet(self);
		}
		EXPECT_GT(40, tries)
			TH_LOG("frequency %u", freqs[i]);
	}
}

/* How often cur_perf was cleaned to the point of coherency, with this value */
static int nr_cleans_of_cur_perf(u32 val)
{
	struct vcf_clean cleans[16];
	int i, n = vcf_cleans(cleans, ARRAY_SIZE(cleans)), found = 0;

	for (i = 0; i < n; i++)
		found += cleans[i].addr % VCF_PAGE_SIZE == REG_CUR_PERF && cleans[i].val == val;
	return found;
}

TEST_F(freq, on_the_page_is_cleaned_once_when_it_changed)
{
	int policy = variant->shared ? 0 : self->cpus[0], i;
	bool fwb = vcf_host_has_fwb(self->vcpus[0]);

	make_device(self, variant->slot);
	vcf_set_governor(self->nr_cpus, "userspace");
	set_speed(policy, HIGHEST);
	cur_perf_at_entry(self);
	if (!vcf_cleans_begin())
		SKIP(return, "needs kprobe events");
	for (i = 0; i < ARRAY_SIZE(freqs); i++) {
		set_speed(policy, freqs[i]);
		cur_perf_at_entry(self);
		cur_perf_at_entry(self);
		EXPECT_EQ(fwb ? 0 : 1, nr_cleans_of_cur_perf(freqs[i]));
	}
}

TEST_F(freq, in_cur_perf_is_scaled_to_the_table_and_kept_in_it)
{
	const struct {
		u32 capacity, highest, at_lowest, at_highest;
	} rows[] = {
		{ 1024, 1024,	256,		1024 },
		{ 1024, 1000,	250,		1000 },
		{ 512,	1000,	500,		1000 },
		{ 200,	1000,	1000,		1000 },
		{ 1000, 1000,	256,		1000 },
		{ 1024, 3,	1,		3 },
		{ 1024, 1,	1,		1 },
		{ 2048, 1000,	125,		500 },
		{ 65535, 1000,	3,		15 },
		{ 65535, 1,	1,		1 },
		{ 1024, INT_MAX, 536870911,	INT_MAX },
		{ 1,	INT_MAX, INT_MAX,	INT_MAX },
	};
	int i;

	vcf_set_governor(self->nr_cpus, "userspace");
	for (i = 0; i < ARRAY_SIZE(rows); i++) {
		self->args.create.nr_domains = 1;
		self->args.create.nr_vcpus = 1;
		self->args.domain[0].capacity = rows[i].capacity;
		self->args.domain[0].nr_perf = 1;
		self->args.domain[0].perf[0] = rows[i].highest;
		make_device(self, variant->slot);

		set_speed(variant->shared ? 0 : self->cpus[0], LOWEST);
		EXPECT_EQ(rows[i].at_lowest, cur_perf(self, 0, 0));
		set_speed(variant->shared ? 0 : self->cpus[0], HIGHEST);
		EXPECT_EQ(rows[i].at_highest, cur_perf(self, 0, 0));
		end_device(self, variant->slot);
	}
}

TEST_F(freq, limits_of_the_administrator_are_seen_in_cur_perf)
{
	int policy = variant->shared ? 0 : self->cpus[0], tries = 0;
	struct task task = { .vcpu = self->vcpus[0] };

	make_device(self, variant->slot);
	ASSERT_TRUE(switches_at_once_when_quiet(self, LOWEST, HIGHEST));

	vcf_write_policy(policy, "scaling_max_freq", "1000000");
	EXPECT_TRUE(VCF_WAIT_FOR(cur_perf(self, 0, 0) == MIDDLE));
	do {
		vcf_worker_set_perf(&self->workers[0], self->vcpus[0], 0, LOWEST);
		task.perf = HIGHEST;
		vcf_worker_call(&self->workers[0], task_set_and_get, &task);
		EXPECT_GE(MIDDLE, task.moment.cur_perf);
	} while (++tries < 10);

	vcf_write_policy(policy, "scaling_max_freq", "2000000");
	EXPECT_TRUE(switches_at_once_when_quiet(self, LOWEST, HIGHEST));
}

int main(int argc, char *argv[])
{
	TEST_REQUIRE(kvm_has_cap(KVM_CAP_VIRT_CPUFREQ));
	return test_harness_run(argc, argv);
}
