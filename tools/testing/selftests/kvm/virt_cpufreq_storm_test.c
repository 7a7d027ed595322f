// SPDX-License-Identifier: GPL-2.0-only
/*
 * KVM_CREATE_VIRT_CPUFREQ: a hostile guest
 *
 * Eight vCPUs load and store at full speed, with random widths, alignments, offsets and
 * values, on all pages, while their threads migrate, vCPUs change threads, and the
 * memslot comes and goes. That harms neither the host nor anybody's bookkeeping. It goes
 * on for VCF_FUZZ_SECONDS, in rounds, each with a seed of its own, from VCF_FUZZ_SEED on;
 * what such a guest costs others is in virt_cpufreq_victim_bench.c.
 */
#include <sys/eventfd.h>

#include "kvm_test_harness.h"
#include "processor.h"
#include "virt_cpufreq_fuzz.h"

#define NR		VCF_MAX_VCPUS	/* vCPUs and pages */
#define NR_THREADS	(NR + 1)	/* one of them runs no vCPU */
#define NR_DISTURBANCES	40
#define ROUND_MS	700		/* but no more of them after that time */
/* In seconds. Where they share one slow CPU, eight that spin have a turn now and then. */
#define MAX_WAIT	120

static const u32 domains[][NR] = {
	{ 0, 0, 0, 0, 0, 0, 0, 0 },
	{ 0, 0, 0, 0, 0, 1, 1, 2 },
	{ 1, 0, 1, 0, 1, 0, 1, 0 },
	{ 0, 1, 2, 3, 4, 5, 6, 7 },
};

/* In the guest */
static struct vcf_storm storms[NR];
static u32 calm, is_calm[NR];

static void guest_storm(void *arg, const u32 *stop)
{
	struct vcf_storm *storm = arg;

	while (!READ_ONCE(*stop)) {
		if (READ_ONCE(calm))
			WRITE_ONCE(is_calm[storm - storms], 1);
		else
			vcf_guest_storm(storm);
	}
}

FIXTURE(storm) {
	struct kvm_vm *vm;
	struct kvm_vcpu *vcpus[NR];
	struct vcf_worker threads[NR_THREADS];
	u32 thread_of[NR];
	u32 spare;
	struct vcf_args args;
	bool has_freqs;
	int nr_cpus;
	int nr_areas;
	bool slot;
	int eventfd;
	int fd;
	const void *map;
	u64 requests_before[NR], hints_before[NR];
	u32 nr_moves;
};

FIXTURE_SETUP(storm)
{
	int i;

	fuzz_begin();
	self->nr_cpus = vcf_nr_cpus();
	self->nr_areas = vcf_nr_areas();
	self->has_freqs = vcf_load_module("test_cpufreq", "");
	if (self->has_freqs)
		vcf_set_governor(self->nr_cpus, "schedutil");

	self->vm = vcf_vm_create(NR, self->vcpus);
	for (i = 0; i < NR_THREADS; i++)
		vcf_worker_start(&self->threads[i]);
	for (i = 0; i < NR; i++)
		self->thread_of[i] = i;
	self->spare = NR;
	self->eventfd = eventfd(0, EFD_NONBLOCK);
}

FIXTURE_TEARDOWN_PARENT(storm)
{
	if (!self->has_freqs || !vcf_host_has_freqs())
		return;
	vcf_set_governor(self->nr_cpus, "performance");
	vcf_unload_module("test_cpufreq");
}

static struct vcf_worker *thread_of(struct _test_data_storm *self, u32 vcpu)
{
	return &self->threads[self->thread_of[vcpu]];
}

static void begin(struct _test_data_storm *self, u32 vcpu)
{
	vcf_worker_begin_hostile(thread_of(self, vcpu), self->vcpus[vcpu], guest_storm,
				 &storms[vcpu]);
}

static void check_own_clamps(struct _test_data_storm *self, u32 thread)
{
	struct vcf_uclamp uclamp = vcf_uclamp(self->threads[thread].tid);

	TEST_ASSERT(uclamp.eff_min == 0 && uclamp.eff_max == 1024, "Thread %u has a hint: %u %u",
		    thread, uclamp.eff_min, uclamp.eff_max);
}

static void migrate(struct _test_data_storm *self)
{
	u32 thread = fuzz_rnd(NR_THREADS), cpu = fuzz_rnd(self->nr_cpus);

	fuzz_note("thread %u to CPU %u", thread, cpu);
	vcf_pin(self->threads[thread].tid, cpu);
}

/* The spare thread takes over the vCPU, and its hint. */
static void change_thread(struct _test_data_storm *self)
{
	u32 vcpu = fuzz_rnd(NR), old = self->thread_of[vcpu];

	fuzz_note("vCPU %u from thread %u to %u", vcpu, old, self->spare);
	vcf_stop(self->vcpus[vcpu]);
	vcf_worker_wait(&self->threads[old]);
	self->thread_of[vcpu] = self->spare;
	self->spare = old;
	self->nr_moves++;
	begin(self, vcpu);
	check_own_clamps(self, old);
}

static void toggle_slot(struct _test_data_storm *self)
{
	fuzz_note("slot: %d", !self->slot);
	if (self->slot)
		vcf_slot_remove(self->vm);
	else
		vcf_slot_add(self->vm, self->map, NR);
	self->slot = !self->slot;
}

static const struct kvm_virt_cpufreq_domain *domain_of(struct _test_data_storm *self, u32 page)
{
	return &self->args.domain[self->args.page[page].domain];
}

static u32 reg_of(struct _test_data_storm *self, u32 page, u32 reg)
{
	return vcf_map_reg(self->map, page, reg);
}

/* In the midst of it each register is in range, and there is nothing behind them. */
static void check_mapping(struct _test_data_storm *self)
{
	u32 i, reg;

	for (i = 0; i < NR; i++) {
		u32 highest = vcf_highest(domain_of(self, i));

		TEST_ASSERT(reg_of(self, i, REG_CUR_PERF) - 1 < highest, "cur_perf %u",
			    reg_of(self, i, REG_CUR_PERF));
		TEST_ASSERT(reg_of(self, i, REG_SET_PERF) <= highest, "set_perf %u",
			    reg_of(self, i, REG_SET_PERF));
		TEST_ASSERT(reg_of(self, i, REG_PERFTBL_RD) <= highest, "perftbl_rd %u",
			    reg_of(self, i, REG_PERFTBL_RD));
		TEST_ASSERT_EQ(reg_of(self, i, REG_PERFTBL_LEN), domain_of(self, i)->nr_perf);
		TEST_ASSERT_EQ(reg_of(self, i, REG_PERF_DOMAIN), self->args.page[i].domain);
		for (reg = REG_END; reg < VCF_PAGE_SIZE; reg += 4)
			TEST_ASSERT(!reg_of(self, i, reg), "%#x at %#x of page %u",
				    reg_of(self, i, reg), reg, i);
	}
}

static void (*const disturbances[])(struct _test_data_storm *self) = {
	migrate, migrate, change_thread, toggle_slot, check_mapping,
};

static void disturb(struct _test_data_storm *self)
{
	struct timespec start;
	u32 i;

	clock_gettime(CLOCK_MONOTONIC, &start);
	for (i = 0; i < NR_DISTURBANCES; i++) {
		if (timespec_to_ns(timespec_elapsed(start)) > ROUND_MS * 1000000LL)
			break;
		disturbances[fuzz_rnd(ARRAY_SIZE(disturbances))](self);
		usleep(fuzz_rnd(5000));
	}
}

static struct vcf_storm *storm_of(struct _test_data_storm *self, u32 vcpu)
{
	return addr_gva2hva(self->vm, (gva_t)&storms[vcpu]);
}

static void create_device(struct _test_data_storm *self)
{
	const u32 *domain = domains[fuzz_rnd(ARRAY_SIZE(domains))];
	u32 i;

	vcf_args_init(&self->args, NR, VCF_ALL_FLAGS);
	self->args.create.notify_fd = self->eventfd;
	for (i = 0; i < NR; i++)
		vcf_args_set_domain(&self->args, i, domain[i]);
	self->fd = vcf_create(self->vm, &self->args);
	self->map = vcf_map(self->fd, NR);
}

static u32 *guests_copy(struct _test_data_storm *self, u32 *var)
{
	return addr_gva2hva(self->vm, (gva_t)var);
}

static bool has_hint(struct _test_data_storm *self, u32 vcpu)
{
	u32 request = reg_of(self, vcpu, REG_SET_PERF);
	u32 util = vcf_util(domain_of(self, vcpu), request);
	struct vcf_uclamp uclamp = vcf_uclamp(thread_of(self, vcpu)->tid);

	return uclamp.eff_min == util && uclamp.eff_max == (request ? util : 1024);
}

/* Has the thread another hint, or has it not entered the guest? */
static void tell_why_not(struct _test_data_storm *self, u32 vcpu)
{
	struct vcf_uclamp uclamp;
	int i;

	for (i = 0; i < 3; i++) {
		uclamp = vcf_uclamp(thread_of(self, vcpu)->tid);
		pr_info("# vCPU %u: clamps %u %u, domain %u, %lu hints, %lu exits\n",
			vcpu, uclamp.eff_min, uclamp.eff_max, self->args.page[vcpu].domain,
			(ulong)vcpu_get_stat(self->vcpus[vcpu], virt_cpufreq_hints),
			(ulong)vcpu_get_stat(self->vcpus[vcpu], exits));
		sleep(1);
	}
}

/*
 * Now that no vCPU leaves the guest for a store, a last request for each page. It reaches the
 * threads that have been bound to the vCPUs all the time.
 */
static void calm_down(struct _test_data_storm *self)
{
	u32 i;

	WRITE_ONCE(*guests_copy(self, &calm), 1);
	for (i = 0; i < NR; i++)
		TEST_ASSERT(__VCF_WAIT_FOR(READ_ONCE(*guests_copy(self, &is_calm[i])), MAX_WAIT),
			    "vCPU %u storms on", i);
	for (i = 0; i < NR; i++)
		vcf_set_regs(self->fd, i, fuzz_rnd(vcf_highest(domain_of(self, i)) + 1),
			     reg_of(self, i, REG_PERFTBL_SEL));
	for (i = 0; i < NR; i++) {
		if (__VCF_WAIT_FOR(has_hint(self, i), MAX_WAIT))
			continue;
		tell_why_not(self, i);
		TEST_FAIL("vCPU %u: no hint for %u", i, reg_of(self, i, REG_SET_PERF));
	}
}

static void run_round(struct _test_data_storm *self)
{
	u32 i;

	self->nr_moves = 0;
	*guests_copy(self, &calm) = 0;
	memset(guests_copy(self, is_calm), 0, sizeof(is_calm));
	create_device(self);
	for (i = 0; i < NR; i++) {
		*storm_of(self, i) = (struct vcf_storm) {
			.random = fuzz.seed * NR + i + 1,
		};
		self->requests_before[i] = vcpu_get_stat(self->vcpus[i], virt_cpufreq_requests);
		self->hints_before[i] = vcpu_get_stat(self->vcpus[i], virt_cpufreq_hints);
		begin(self, i);
	}
	disturb(self);
	calm_down(self);
	for (i = 0; i < NR; i++)
		vcf_stop(self->vcpus[i]);
	for (i = 0; i < NR; i++)
		vcf_worker_wait(thread_of(self, i));
}

/* The page, and the thread of its vCPU, now that nothing happens any more */
static void check_page(struct _test_data_storm *self, u32 i)
{
	const struct kvm_virt_cpufreq_domain *domain = domain_of(self, i);
	u32 sel = reg_of(self, i, REG_PERFTBL_SEL), j;
	u32 request = reg_of(self, i, REG_SET_PERF);

	TEST_ASSERT(has_hint(self, i), "vCPU %u has lost its hint for %u", i, request);
	TEST_ASSERT_EQ(reg_of(self, i, REG_PERFTBL_RD), sel < domain->nr_perf ? domain->perf[sel] : 0);
	for (j = 0; j < NR; j++) {
		if (domain_of(self, j) == domain)
			TEST_ASSERT_EQ(reg_of(self, j, REG_SET_PERF), request);
	}
	TEST_ASSERT_EQ(vcf_load(self->vcpus[i], VCF_REG(i, REG_SET_PERF)), request);

	/* The load was made by another thread, which has the hint now. */
	check_own_clamps(self, self->thread_of[i]);
	vcf_worker_enter(thread_of(self, i), self->vcpus[i]);
	TEST_ASSERT(has_hint(self, i), "vCPU %u: no hint for %u", i, request);
}

static void check_statistics(struct _test_data_storm *self)
{
	u64 nr_requests = 0, nr_hints = 0, nr_signals = 0;
	u32 i;

	for (i = 0; i < NR; i++) {
		u64 requests = vcpu_get_stat(self->vcpus[i], virt_cpufreq_requests);

		TEST_ASSERT_EQ(requests - self->requests_before[i], storm_of(self, i)->nr_requests);
		nr_requests += storm_of(self, i)->nr_requests;
		nr_hints += vcpu_get_stat(self->vcpus[i], virt_cpufreq_hints) -
			    self->hints_before[i];
	}
	/*
	 * A hint for each request and vCPU at most, and one where it has another thread; the last
	 * requests came from the VMM.
	 */
	TEST_ASSERT(nr_requests && nr_hints &&
		    nr_hints <= NR * (nr_requests + NR + self->nr_moves + 1),
		    "%lu requests, %lu hints", (ulong)nr_requests, (ulong)nr_hints);
	TEST_ASSERT(read(self->eventfd, &nr_signals, sizeof(nr_signals)) == sizeof(nr_signals) &&
		    nr_signals <= nr_requests + NR, "%lu requests, %lu signals", (ulong)nr_requests,
		    (ulong)nr_signals);
}

static u64 nr_accesses(struct _test_data_storm *self)
{
	u64 sum = 0;
	u32 i;

	for (i = 0; i < NR; i++) {
		TEST_ASSERT(storm_of(self, i)->nr_accesses, "vCPU %u made no access", i);
		sum += storm_of(self, i)->nr_accesses;
	}
	return sum;
}

static void end_round(struct _test_data_storm *self)
{
	u32 i;

	if (self->slot)
		toggle_slot(self);
	vcf_unmap(self->map, NR);
	close(self->fd);
	for (i = 0; i < NR_THREADS; i++)
		check_own_clamps(self, i);
	TEST_ASSERT(VCF_WAIT_FOR(vcf_nr_areas() <= self->nr_areas), "%d areas, %d before",
		    vcf_nr_areas(), self->nr_areas);
}

TEST_F_TIMEOUT(storm, leaves_the_host_intact, 7200)
{
	u64 sum = 0, moves = 0;
	u32 i;

	do {
		fuzz_start_random(fuzz.seed);
		run_round(self);
		check_mapping(self);
		check_statistics(self);
		for (i = 0; i < NR; i++)
			check_page(self, i);
		check_own_clamps(self, self->spare);
		sum += nr_accesses(self);
		moves += self->nr_moves;
		end_round(self);
		fuzz.seed++;
	} while (fuzz_is_time_left());
	printf("# %lu accesses, %lu changes of threads, rounds up to %u\n", (ulong)sum,
	       (ulong)moves, fuzz.seed - 1);
	fuzz_end();
}

int main(int argc, char *argv[])
{
	TEST_REQUIRE(kvm_has_cap(KVM_CAP_VIRT_CPUFREQ));
	return test_harness_run(argc, argv);
}
