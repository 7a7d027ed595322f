// SPDX-License-Identifier: GPL-2.0-only
/*
 * KVM_CREATE_VIRT_CPUFREQ: everything at once, checked against a model
 *
 * Eight vCPUs store to and load from all pages, while the frequencies change, the
 * vCPUs' threads migrate, the memslot comes and goes, the VMM sets registers, and an
 * observer follows the requests. It goes through the rounds as often as
 * VCF_STRESS_ROUNDS says (1); its seed is the number of the round.
 */
#include <poll.h>
#include <stdlib.h>
#include <sys/eventfd.h>

#include "kvm_test_harness.h"
#include "processor.h"
#include "virt_cpufreq.h"

#define NR		VCF_MAX_VCPUS	/* vCPUs, pages, and at most so many domains */
#define NR_PERF		8
#define NR_DISTURBANCES	60
#define ROUND_MS	1000		/* but no more of them after that time */

/*
 * Each request tells who may have it: its lower bits are made of the upper ones and the
 * domain, so that a value which nobody stored, or for another domain, shows. Those of
 * the table's end and 1 are what requests that are out of range become.
 */
#define HIGHEST		0x00ffffffU

static u32 make_request(u32 domain, u32 random)
{
	u32 upper = random & 0xfffe;

	return upper << 8 | ((upper * 167 + domain * 29 + 5) & 0xff);
}

static bool is_request(u32 domain, u32 val)
{
	return val <= 1 || val == HIGHEST || val == make_request(domain, val >> 8);
}

static u32 table_entry(u32 i)
{
	return i == NR_PERF - 1 ? HIGHEST : i + 1;
}

/* A selection tells which page it is for. */
static u32 make_sel(u32 page, u32 random)
{
	return random % 2 ? random / 2 % NR_PERF : random % 1024 * 256 + page * 16 + NR_PERF;
}

static bool is_sel(u32 page, u32 val)
{
	return val < NR_PERF || val % 256 == page * 16 + NR_PERF;
}

static bool is_table_entry(u32 val)
{
	return val < NR_PERF || val == HIGHEST;
}

static u32 next_random(u32 *state)
{
	*state ^= *state << 13;
	*state ^= *state >> 17;
	*state ^= *state << 5;
	return *state;
}

/* What the guest knows, and what a vCPU found */
static u32 nr_domains;

static u32 domain_of(u32 page)
{
	return page % nr_domains;
}

static struct guest {
	u32 random;
	u32 nr_requests;
	u32 nr_loads;
	u32 nr_wrong;
	u32 wrong_page;
	u32 wrong_reg;
	u32 wrong_val;
} guests[NR];

static bool is_possible(u32 page, u32 reg, u32 val)
{
	switch (reg) {
	case REG_CUR_PERF:
		return val >= 1 && val <= HIGHEST;
	case REG_SET_PERF:
		return is_request(domain_of(page), val);
	case REG_PERFTBL_LEN:
		return val == NR_PERF;
	case REG_PERFTBL_SEL:
		return is_sel(page, val);
	case REG_PERFTBL_RD:
		return is_table_entry(val);
	default:
		return val == domain_of(page);
	}
}

static void guest_store(struct guest *guest, u32 page)
{
	u32 random = next_random(&guest->random);
	u32 set_perf = make_request(domain_of(page), random >> 8);

	switch (random % 8) {
	case 0:
		writel_relaxed(make_sel(page, random >> 8), (void *)VCF_REG(page, REG_PERFTBL_SEL));
		return;
	case 1:
		set_perf = 0;
		break;
	case 2:
		set_perf = HIGHEST + 1 + (random >> 8);
		break;
	}
	writel_relaxed(set_perf, (void *)VCF_REG(page, REG_SET_PERF));
	guest->nr_requests++;
}

static void guest_load(struct guest *guest, u32 page, u32 reg)
{
	u32 val = readl_relaxed((void *)VCF_REG(page, reg));

	guest->nr_loads++;
	if (is_possible(page, reg, val))
		return;
	guest->wrong_page = page;
	guest->wrong_reg = reg;
	guest->wrong_val = val;
	guest->nr_wrong++;
}

static void guest_stress(void *arg, const u32 *stop)
{
	struct guest *guest = arg;

	while (!READ_ONCE(*stop)) {
		u32 random = next_random(&guest->random);
		u32 page = random / 8 % NR;

		if (random % 2)
			guest_store(guest, page);
		else
			guest_load(guest, page, random / 64 % (REG_END / 4) * 4);
	}
}

FIXTURE(stress) {
	struct kvm_vm *vm;
	struct kvm_vcpu *vcpus[NR];
	struct vcf_worker workers[NR], observer;
	u32 requests_before[NR];
	u32 random;
	int nr_cpus;
	bool has_freqs;
	bool slot;
	int eventfd;
	int fd;
	const void *map;
	/* What the observer saw */
	u64 nr_signals;
	u32 nr_wrong;
	u32 seen[NR];
	bool over;
	u32 nr_set_regs;
};

FIXTURE_SETUP(stress)
{
	int i;

	self->nr_cpus = vcf_nr_cpus();
	self->has_freqs = vcf_load_module("test_cpufreq",
					  "freqs=500000,1000000,1500000,2000000");
	if (self->has_freqs)
		vcf_set_governor(self->nr_cpus, "schedutil");

	self->vm = vcf_vm_create(NR, self->vcpus);
	for (i = 0; i < NR; i++)
		vcf_worker_start(&self->workers[i]);
	vcf_worker_start(&self->observer);
	self->eventfd = eventfd(0, EFD_NONBLOCK);
}

FIXTURE_TEARDOWN_PARENT(stress)
{
	if (!self->has_freqs || !vcf_host_has_freqs())
		return;
	vcf_set_governor(self->nr_cpus, "performance");
	vcf_unload_module("test_cpufreq");
}

static void create_device(struct _test_data_stress *self)
{
	struct vcf_args args;
	int i, j;

	vcf_args_init(&args, NR, VCF_ALL_FLAGS);
	args.create.notify_fd = self->eventfd;
	for (i = 0; i < NR; i++) {
		vcf_args_set_domain(&args, i, domain_of(i));
		for (j = 0; j < NR_PERF; j++)
			args.domain[i].perf[j] = table_entry(j);
	}
	self->fd = vcf_create(self->vm, &args);
	self->map = vcf_map(self->fd, NR);
}

/* Only what follows a signal counts as seen. */
static void take_signals(struct _test_data_stress *self)
{
	u32 page;
	u64 n;

	if (read(self->eventfd, &n, sizeof(n)) != sizeof(n))
		return;
	self->nr_signals += n;
	for (page = 0; page < NR; page++)
		self->seen[page] = vcf_map_reg(self->map, page, REG_SET_PERF);
}

static void check_mapping(struct _test_data_stress *self)
{
	u32 page, reg;

	for (page = 0; page < NR; page++) {
		for (reg = 0; reg < REG_END; reg += 4) {
			u32 val = vcf_map_reg(self->map, page, reg);

			if (is_possible(page, reg, val))
				continue;
			if (!self->nr_wrong++)
				pr_info("# page %u, register %#x mapped: %#x\n", page, reg, val);
		}
	}
}

/* On a thread of its own, until the round is over */
static void observe(void *arg)
{
	struct _test_data_stress *self = arg;
	struct pollfd pollfd = { .fd = self->eventfd, .events = POLLIN };

	/* Over means that there will be no more signals than those that are there. */
	while (!READ_ONCE(self->over) || poll(&pollfd, 1, 0)) {
		poll(&pollfd, 1, 10);
		take_signals(self);
		check_mapping(self);
	}
}

static void change_frequency(struct _test_data_stress *self)
{
	static const char * const freqs[] = { "500000", "1000000", "1500000", "2000000" };

	if (self->has_freqs)
		vcf_write_policy(next_random(&self->random) % self->nr_cpus,
				 "scaling_max_freq",
				 freqs[next_random(&self->random) % ARRAY_SIZE(freqs)]);
}

static void migrate(struct _test_data_stress *self)
{
	vcf_pin(self->workers[next_random(&self->random) % NR].tid,
		next_random(&self->random) % self->nr_cpus);
}

static void toggle_slot(struct _test_data_stress *self)
{
	if (self->slot)
		vcf_slot_remove(self->vm);
	else
		vcf_slot_add(self->vm, self->map, NR);
	self->slot = !self->slot;
}

static void set_registers(struct _test_data_stress *self)
{
	u32 page = next_random(&self->random) % NR, random = next_random(&self->random);
	u32 set_perf = random % 4 ? make_request(domain_of(page), random >> 8) : 0;

	vcf_set_regs(self->fd, page, set_perf, make_sel(page, random >> 8));
	self->nr_set_regs++;
}

static void (*const disturbances[])(struct _test_data_stress *self) = {
	change_frequency, migrate, toggle_slot, set_registers,
};

static void disturb(struct _test_data_stress *self)
{
	struct timespec begin;
	int i;

	clock_gettime(CLOCK_MONOTONIC, &begin);
	for (i = 0; i < NR_DISTURBANCES; i++) {
		u32 random = next_random(&self->random);

		if (timespec_to_ns(timespec_elapsed(begin)) > ROUND_MS * 1000000LL)
			break;
		disturbances[random % ARRAY_SIZE(disturbances)](self);
		usleep(random / 16 % 3000);
	}
}

static struct guest *guest_of(struct _test_data_stress *self, int i)
{
	return addr_gva2hva(self->vm, (gva_t)&guests[i]);
}

static void run_round(struct _test_data_stress *self, u32 seed)
{
	int i;

	nr_domains = seed % NR + 1;
	sync_global_to_guest(self->vm, nr_domains);
	self->random = seed * 2654435761u + 1;
	self->nr_signals = 0;
	self->nr_set_regs = 0;
	self->nr_wrong = 0;
	self->over = false;
	memset(self->seen, 0, sizeof(self->seen));
	create_device(self);

	vcf_worker_post(&self->observer, observe, self);
	for (i = 0; i < NR; i++) {
		*guest_of(self, i) = (struct guest) { .random = self->random + i * 7919 };
		self->requests_before[i] = vcpu_get_stat(self->vcpus[i], virt_cpufreq_requests);
		vcf_worker_begin(&self->workers[i], self->vcpus[i], guest_stress, &guests[i]);
	}
	disturb(self);
	for (i = 0; i < NR; i++)
		vcf_stop(self->vcpus[i]);
	for (i = 0; i < NR; i++)
		vcf_worker_wait(&self->workers[i]);
	WRITE_ONCE(self->over, true);
	vcf_worker_wait(&self->observer);
}

/* What one vCPU did and found */
static void check_vcpu(struct __test_metadata *_metadata, struct _test_data_stress *self, int i)
{
	struct guest *guest = guest_of(self, i);

	EXPECT_EQ(0, guest->nr_wrong)
		TH_LOG("vCPU %d loaded %#x from register %#x of page %u", i, guest->wrong_val,
		       guest->wrong_reg, guest->wrong_page);
	EXPECT_EQ(guest->nr_requests, vcpu_get_stat(self->vcpus[i], virt_cpufreq_requests) -
		  self->requests_before[i]);
}

/* Page @i now that nothing happens any more */
static void check_page(struct __test_metadata *_metadata, struct _test_data_stress *self, int i)
{
	u32 request = vcf_map_reg(self->map, i, REG_SET_PERF);
	u32 sel = vcf_map_reg(self->map, i, REG_PERFTBL_SEL);
	u32 util = (u64)request * 1024 / HIGHEST;
	struct vcf_uclamp uclamp;

	/* By the thread that has run it all the time: another one would begin anew. */
	vcf_worker_enter(&self->workers[i], self->vcpus[i]);
	uclamp = vcf_uclamp(self->workers[i].tid);
	EXPECT_EQ(util, uclamp.eff_min);
	EXPECT_EQ(request ? util : 1024, uclamp.eff_max);

	EXPECT_EQ(request, vcf_map_reg(self->map, domain_of(i), REG_SET_PERF));
	EXPECT_EQ(request, vcf_load(self->vcpus[i], VCF_REG(i, REG_SET_PERF)));
	EXPECT_EQ(sel < NR_PERF ? table_entry(sel) : 0,
		  vcf_map_reg(self->map, i, REG_PERFTBL_RD));
	/* The observer saw the last request, for that was signalled. */
	EXPECT_EQ(request, self->seen[i]);
}

static void check_round(struct __test_metadata *_metadata, struct _test_data_stress *self)
{
	u64 nr_requests = self->nr_set_regs, nr_loads = 0;
	int i;

	EXPECT_EQ(0, self->nr_wrong);
	for (i = 0; i < NR; i++) {
		check_vcpu(_metadata, self, i);
		nr_requests += guest_of(self, i)->nr_requests;
		nr_loads += guest_of(self, i)->nr_loads;
	}
	EXPECT_LT(0, nr_loads);
	EXPECT_LT(0, self->nr_signals);
	EXPECT_GE(nr_requests, self->nr_signals);
	for (i = 0; i < NR; i++)
		check_page(_metadata, self, i);
}

static void end_round(struct __test_metadata *_metadata, struct _test_data_stress *self)
{
	struct vcf_uclamp uclamp;
	int i;

	if (self->slot)
		toggle_slot(self);
	vcf_unmap(self->map, NR);
	close(self->fd);
	for (i = 0; i < NR; i++) {
		uclamp = vcf_uclamp(self->workers[i].tid);
		EXPECT_EQ(0, uclamp.eff_min);
		EXPECT_EQ(1024, uclamp.eff_max);
	}
}

TEST_F_TIMEOUT(stress, agrees_with_the_model, 3600)
{
	const char *rounds = getenv("VCF_STRESS_ROUNDS");
	u32 i;

	for (i = 0; i < NR * (rounds ? atoi(rounds) : 1); i++) {
		run_round(self, i);
		check_round(_metadata, self);
		end_round(_metadata, self);
		ASSERT_EQ(0, _metadata->exit_code)
			TH_LOG("round %u", i);
	}
}

int main(int argc, char *argv[])
{
	TEST_REQUIRE(kvm_has_cap(KVM_CAP_VIRT_CPUFREQ));
	return test_harness_run(argc, argv);
}
