// SPDX-License-Identifier: GPL-2.0-only
/*
 * test_modules/test_dvfs.c: a CPU takes as long as it should at each frequency, and as much
 * energy, in the host and in a guest
 *
 * All is compared on a clock that counts instructions: QEMU with -icount shift=0.
 */
#include <math.h>

#include "arch_timer.h"
#include "kvm_test_harness.h"
#include "processor.h"
#include "virt_cpufreq.h"

#define STATS		"/sys/kernel/debug/test_dvfs/stats"

#define LOOPS		10000000	/* of two instructions */

/* What the device trees have, once more: the module is not to be compared with itself. */
struct opp {
	u32 khz;
	double volt;
};

/* A vCPU and its thread, which is also the one that loops in the host, pinned to the last CPU */
FIXTURE(dvfs) {
	struct kvm_vm *vm;
	struct kvm_vcpu *vcpu;
	struct vcf_worker worker;
	int cpu;
	bool loaded;
	u64 fastest;		/* ns for the loop without the module, in the host */
};

FIXTURE_VARIANT(dvfs) {
	const char *params;
	u32 coefficient;
	double slower;		/* than the emulated CPU, at the highest frequency */
	struct opp opps[8];
};

FIXTURE_VARIANT_ADD(dvfs, kirin960_a53) {
	.params = "table=kirin960-a53",
	.coefficient = 110,
	.slower = 1,
	.opps = {
		{ 533000, 0.7 }, { 999000, 0.8 }, { 1402000, 0.9 }, { 1709000, 1.0 },
		{ 1844000, 1.1 },
	},
};

FIXTURE_VARIANT_ADD(dvfs, rk3588_a76_shared) {
	.params = "table=rk3588-a76 shared=1",
	.coefficient = 416,
	.slower = 1,
	.opps = {
		{ 1200000, 0.675 }, { 1416000, 0.725 }, { 1608000, 0.7625 }, { 1800000, 0.85 },
		{ 2016000, 0.925 }, { 2208000, 0.9875 }, { 2400000, 1.0 },
	},
};

/* A little CPU in a system with a big one */
FIXTURE_VARIANT_ADD(dvfs, kirin960_a53_beside_a73) {
	.params = "table=kirin960-a73,kirin960-a53 shared=1",
	.coefficient = 110,
	.slower = 1024. / 592 * 2362 / 1844,
	.opps = {
		{ 533000, 0.7 }, { 999000, 0.8 }, { 1402000, 0.9 }, { 1709000, 1.0 },
		{ 1844000, 1.1 },
	},
};

static u64 ns(u64 ticks)
{
	return ticks * 1000000000 / timer_get_cntfrq();
}

/* In the host or in the guest */
static struct loop {
	u64 ticks;
} loop;

static void run_loop(void *arg, const u32 *stop)
{
	struct loop *l = arg;
	u64 start = timer_get_cntct(VIRTUAL), n = LOOPS;

	asm volatile("1: subs %0, %0, #1\n b.ne 1b" : "+r" (n) : : "cc");
	l->ticks = timer_get_cntct(VIRTUAL) - start;
}

static void worker_host_loop(void *arg)
{
	run_loop(&loop, NULL);
}

static void worker_guest_loop(void *vcpu)
{
	vcf_call(vcpu, run_loop, &loop);
}

static u64 host_loop(struct vcf_worker *worker)
{
	vcf_worker_call(worker, worker_host_loop, NULL);
	return ns(loop.ticks);
}

static u64 guest_loop(struct vcf_worker *worker, struct kvm_vcpu *vcpu)
{
	struct loop *l = addr_gva2hva(vcpu->vm, (gva_t)&loop);

	vcf_worker_call(worker, worker_guest_loop, vcpu);
	return ns(l->ticks);
}

static void write_cpufreq(int cpu, const char *file, const char *text)
{
	char path[128];

	/* That of the CPU, whose policy may be that of another one */
	snprintf(path, sizeof(path), "/sys/devices/system/cpu/cpu%d/cpufreq/%s", cpu, file);
	vcf_write_file(path, "%s", text);
}

static void set_speed(int cpu, u32 khz)
{
	char text[16];

	snprintf(text, sizeof(text), "%u", khz);
	write_cpufreq(cpu, "scaling_setspeed", text);
}

/* The other CPUs, whose instructions count on the same clock, are to be done soon. */
static void set_governors(int cpu)
{
	int i;

	for (i = 0; i < vcf_nr_cpus(); i++)
		write_cpufreq(i, "scaling_governor", "performance");
	write_cpufreq(cpu, "scaling_governor", "userspace");
}

/* Energy of a CPU, and for how long it was busy at one of its frequencies */
static void read_stats(int cpu, u32 khz, u64 *nj, u64 *busy)
{
	unsigned long long t, e, uw;
	unsigned int c, f;
	FILE *file = fopen(STATS, "r");

	TEST_ASSERT(file, "Cannot read " STATS);
	*nj = 0;
	*busy = 0;
	while (fscanf(file, "%u %u %llu %llu %llu", &c, &f, &uw, &t, &e) == 5) {
		if (c != cpu)
			continue;
		*nj += e;
		if (f == khz)
			*busy = t;
	}
	fclose(file);
}

FIXTURE_SETUP(dvfs)
{
	int i;

	self->cpu = vcf_nr_cpus() - 1;
	if (variant->slower != 1 && !self->cpu)
		SKIP(return, "needs 2 CPUs");

	self->vm = vcf_vm_create(1, &self->vcpu);
	vcf_worker_start(&self->worker);
	vcf_pin(self->worker.tid, self->cpu);

	/* Without what is left to do of making the VM */
	self->fastest = host_loop(&self->worker);
	for (i = 0; i < 5; i++)
		self->fastest = min(self->fastest, host_loop(&self->worker));
	if (fabs(self->fastest / 2. / LOOPS - 1) > 0.02)
		SKIP(return, "the clock does not count instructions");

	self->loaded = vcf_load_module("test_dvfs", variant->params);
	if (!self->loaded)
		SKIP(return, "no test_dvfs.ko");
	set_governors(self->cpu);
}

FIXTURE_TEARDOWN(dvfs)
{
	if (!self->vm)
		return;
	if (self->loaded)
		vcf_unload_module("test_dvfs");
	vcf_worker_stop(&self->worker);
	kvm_vm_free(self->vm);
}

static u32 highest(const struct opp *opp)
{
	while (opp[1].khz)
		opp++;
	return opp->khz;
}

/*
 * The loop at each operating point, in the guest if there is a vCPU. What others do meanwhile,
 * as printing, takes time of it.
 */
static void measure(struct vcf_worker *worker, struct kvm_vcpu *vcpu, int cpu,
		    const struct opp *opps, u64 times[])
{
	for (; opps->khz; opps++, times++) {
		set_speed(cpu, opps->khz);
		usleep(10000);
		*times = vcpu ? guest_loop(worker, vcpu) : host_loop(worker);
	}
}

/* In percent of what the loop takes on the fastest of all CPUs */
static void expect(struct __test_metadata *_metadata, const struct opp *opps, const u64 times[],
		   double fastest, double limit)
{
	u32 max = highest(opps);
	double off;

	for (; opps->khz; opps++, times++) {
		off = 100 * (*times / (fastest * max / opps->khz) - 1);
		TH_LOG("%u kHz: %llu us, %+.2f %% off, limit %.0f", opps->khz,
		       (unsigned long long)*times / 1000, off, limit);
		EXPECT_LT(fabs(off), limit);
	}
}

TEST_F(dvfs, host_loop_takes_what_the_frequency_says)
{
	u64 times[ARRAY_SIZE(variant->opps)];

	measure(&self->worker, NULL, self->cpu, variant->opps, times);
	expect(_metadata, variant->opps, times, self->fastest * variant->slower, 1);
}

TEST_F(dvfs, guest_loop_takes_what_the_frequency_says)
{
	u64 times[ARRAY_SIZE(variant->opps)];

	guest_loop(&self->worker, self->vcpu);
	measure(&self->worker, self->vcpu, self->cpu, variant->opps, times);
	expect(_metadata, variant->opps, times, self->fastest * variant->slower, 2);
}

TEST_F(dvfs, energy_is_busy_time_by_f_and_v_squared)
{
	const struct opp *opp;
	u64 t, nj, busy;
	double watt;

	for (opp = variant->opps; opp->khz; opp++) {
		set_speed(self->cpu, opp->khz);
		vcf_write_file(STATS, "0");
		t = host_loop(&self->worker);
		read_stats(self->cpu, opp->khz, &nj, &busy);
		watt = variant->coefficient / 1e9 * opp->khz * opp->volt * opp->volt;
		TH_LOG("%u kHz: busy %llu us, loop %llu us, energy %llu nJ, %+.2f %%", opp->khz,
		       (unsigned long long)busy / 1000, (unsigned long long)t / 1000,
		       (unsigned long long)nj, 100 * (nj / (watt * t) - 1));
		EXPECT_LT(fabs(nj / (watt * t) - 1), 0.01);
		EXPECT_LT(fabs((double)busy / t - 1), 0.01);
	}
}

TEST_F(dvfs, sleeping_takes_no_energy)
{
	u64 nj, busy;

	set_speed(self->cpu, variant->opps[0].khz);
	usleep(10000);
	vcf_write_file(STATS, "0");
	usleep(100000);
	read_stats(self->cpu, variant->opps[0].khz, &nj, &busy);
	/* This thread, and ticks until the CPU believes that it is idle */
	EXPECT_LT(busy, 2000000);
}

TEST_F(dvfs, unloading_leaves_nothing)
{
	int i;

	for (i = 0; i < 3; i++) {
		set_speed(self->cpu, variant->opps[0].khz);
		vcf_worker_begin(&self->worker, self->vcpu, run_loop, &loop);
		usleep(1000);
		self->loaded = false;
		vcf_unload_module("test_dvfs");
		vcf_worker_wait(&self->worker);
		EXPECT_LT(fabs((double)host_loop(&self->worker) / self->fastest - 1), 0.01);
		self->loaded = vcf_load_module("test_dvfs", variant->params);
		ASSERT_TRUE(self->loaded);
		set_governors(self->cpu);
	}
}

TEST_HARNESS_MAIN
