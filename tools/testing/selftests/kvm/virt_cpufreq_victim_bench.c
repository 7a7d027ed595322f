// SPDX-License-Identifier: GPL-2.0-only
/*
 * What a hostile guest costs the others on its CPUs
 *
 * A victim does a fixed amount of work in userspace, and a timer task wakes up, beside
 * the eight vCPU threads of a guest, on the same CPU and with the same nice value. What
 * such a guest may take is what one takes that does nothing but null hypercalls, as any
 * guest can. So that is measured with the same threads, and then
 *
 *	store	each vCPU stores requests at full speed, alternately low and high ones and
 *		no two of them alike, so that each is a new one for all vCPUs of the domain
 *	random	any accesses, see vcf_guest_storm()
 *
 * The unit is a count of instructions of everything that runs. It is meaningful on an
 * emulated machine whose clock is its instruction count only: QEMU with -icount shift=0.
 *
 * With several CPUs there is one thing more that a guest could take: the vCPUs on other
 * CPUs kick those on the victim's CPU out of the guest, "remote_" of the above, where
 * these only compute. An interrupt is paid by the thread that it hits, which must not be
 * the victim. Emulated CPUs run one after the other, on one clock, and the one that sends
 * an interrupt gives way, so that times tell nothing here: what can be told is how many
 * such interrupts the victim's CPU took, and how many of them in the victim's time. So
 * that there are as many as if the CPUs ran in parallel, all loops give way to the next CPU
 * after about the time that an access takes, by the instruction YIELD.
 */
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "arch_timer.h"
#include "kvm_util.h"
#include "processor.h"
#include "virt_cpufreq.h"

#define NR		VCF_MAX_VCPUS

#define STEP_INSNS	1600		/* of the victim, between a hypercall and a request */
#define NR_STEPS	15000		/* that are its work */
#define NR_KICK_STEPS	5000		/* with several CPUs */
#define PREEMPTED_MS	1		/* rather than interrupted */
#define HIGH		0x3f0		/* set in each other request */
#define NR_WAKES	1000
#define PERIOD_NS	180000		/* between them, and at random up to so much more: */
#define JITTER_NS	40000		/* they must not keep step with the stores */
#define NR_BATCHES	20
#define BATCH		200

/* A vCPU */
static struct guest {
	u32 request;		/* the next one */
	struct vcf_storm storm;
	void (*access)(struct guest *guest);
	u64 ticks;		/* of the fastest batch */
} guests[NR];

static u64 counter(void)
{
	return timer_get_cntct(VIRTUAL);
}

static void give_way(void)
{
	asm volatile("yield" : : : "memory");
}

static void guest_compute(struct guest *guest)
{
	u64 n = STEP_INSNS / 2;

	asm volatile("1: subs %0, %0, #1\n b.ne 1b" : "+r" (n) : : "cc");
}

static void guest_hypercall(struct guest *guest)
{
	struct arm_smccc_res res;

	smccc_hvc(0x80000000 /* SMCCC_VERSION */, 0, 0, 0, 0, 0, 0, 0, &res);
}

static void guest_store(struct guest *guest)
{
	writel_relaxed(guest->request, (void *)VCF_REG(0, REG_SET_PERF));
	guest->request ^= HIGH;
}

static void guest_random(struct guest *guest)
{
	vcf_guest_storm(&guest->storm);
}

static void guest_run(void *arg, const u32 *stop)
{
	struct guest *guest = arg;

	while (!READ_ONCE(*stop)) {
		guest->access(guest);
		give_way();
	}
}

static void guest_time(void *arg, const u32 *stop)
{
	struct guest *guest = arg;
	u64 start;
	int i, j;

	guest->ticks = UINT64_MAX;
	for (i = 0; i < NR_BATCHES; i++) {
		start = counter();
		for (j = 0; j < BATCH; j++)
			guest->access(guest);
		guest->ticks = min(guest->ticks, counter() - start);
	}
}

struct bench {
	struct kvm_vm *vm;
	struct kvm_vcpu *vcpus[NR];
	struct vcf_worker workers[NR], victim;
	int nr_cpus;
	int fd;
	bool in_steps;			/* the victim counts steps rather than rounds */
	u64 work;			/* of the victim, in steps */
	u64 ticks;			/* that it took */
	u64 latencies[NR_WAKES];	/* ns */
};

static struct guest *guest_of(struct bench *b, u32 vcpu)
{
	return addr_gva2hva(b->vm, (gva_t)&guests[vcpu]);
}

static u32 cpu_of(struct bench *b, u32 vcpu)
{
	return vcpu % b->nr_cpus;
}

static u32 victim_cpu(struct bench *b)
{
	return b->nr_cpus - 1;
}

static void bench_init(struct bench *b)
{
	struct vcf_args args;
	u32 i;

	memset(b, 0, sizeof(*b));
	b->nr_cpus = vcf_nr_cpus();
	b->work = b->nr_cpus > 1 ? NR_KICK_STEPS : NR_STEPS;
	b->vm = vcf_vm_create(NR, b->vcpus);

	vcf_args_init(&args, NR, VCF_ALL_FLAGS);
	args.create.notify_fd = eventfd(0, 0);
	args.domain[0].nr_perf = 1;
	args.domain[0].perf[0] = 1024;
	for (i = 0; i < NR; i++) {
		vcf_worker_start(&b->workers[i]);
		vcf_pin(b->workers[i].tid, cpu_of(b, i));
	}
	b->fd = vcf_create(b->vm, &args);
	vcf_worker_start(&b->victim);
	vcf_pin(b->victim.tid, victim_cpu(b));
	vcf_pin(0, 0);
}

/* What the vCPUs on the victim's CPU do, and the others; NULL: they do not run. */
struct mode {
	const char *name;
	void (*here)(struct guest *guest);
	void (*there)(struct guest *guest);
};

static const struct mode modes[] = {
	{ "nothing" },
	{ "hypercall", guest_hypercall },
	{ "store", guest_store },
	{ "random", guest_random },
};

static const struct mode remote_modes[] = {
	{ "hypercall", guest_hypercall, guest_hypercall },
	{ "store", guest_store, guest_store },
	{ "random", guest_random, guest_random },
	{ "remote_hypercall", guest_compute, guest_hypercall },
	{ "remote_store", guest_compute, guest_store },
	{ "remote_random", guest_compute, guest_random },
};

static bool begin_vcpu(struct bench *b, const struct mode *mode, u32 vcpu)
{
	bool here = cpu_of(b, vcpu) == victim_cpu(b);

	*guest_of(b, vcpu) = (struct guest) {
		.request = vcpu + 1,
		.storm.random = vcpu + 1,
		.access = here ? mode->here : mode->there,
	};
	return guest_of(b, vcpu)->access;
}

static void begin(struct bench *b, const struct mode *mode)
{
	u32 i;

	b->in_steps = !mode->here || b->nr_cpus > 1;
	for (i = 0; i < NR; i++) {
		if (begin_vcpu(b, mode, i))
			vcf_worker_begin_hostile(&b->workers[i], b->vcpus[i], guest_run,
						 &guests[i]);
	}
}

static void end(struct bench *b)
{
	u32 i;

	for (i = 0; i < NR; i++) {
		if (guest_of(b, i)->access)
			vcf_stop(b->vcpus[i]);
	}
	for (i = 0; i < NR; i++) {
		if (guest_of(b, i)->access)
			vcf_worker_wait(&b->workers[i]);
	}
}

/*
 * Tasks on a CPU take turns of a tick: count whole rounds of them, from the end of a
 * preemption to the end of another, and scale that to the amount of work.
 */
static void do_work(void *arg)
{
	u64 now, last = counter(), start = last, steps = 0;
	struct bench *b = arg;
	bool in_round = b->in_steps;

	for (;;) {
		guest_compute(NULL);
		give_way();
		steps++;
		now = counter();
		if (b->in_steps ? steps == b->work : now - last > msec_to_cycles(PREEMPTED_MS)) {
			if (in_round && steps >= b->work)
				break;
			if (!in_round) {
				start = now;
				steps = 0;
				in_round = true;
			}
		}
		last = now;
	}
	b->ticks = (now - start) * b->work / steps;
}

static int compare(const void *a, const void *b)
{
	return *(const u64 *)a < *(const u64 *)b ? -1 : *(const u64 *)a > *(const u64 *)b;
}

static void wake_up(void *arg)
{
	const struct sched_param fifo = { .sched_priority = 50 }, other = { 0 };
	struct bench *b = arg;
	struct timespec now, at;
	u32 random = 1;
	int i;

	TEST_ASSERT(!sched_setscheduler(0, SCHED_FIFO, &fifo), "No SCHED_FIFO");
	clock_gettime(CLOCK_MONOTONIC, &at);
	for (i = 0; i < NR_WAKES; i++) {
		random = random * 1664525 + 1013904223;
		at = timespec_add_ns(at, PERIOD_NS + (random >> 8) % JITTER_NS);
		clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &at, NULL);
		clock_gettime(CLOCK_MONOTONIC, &now);
		b->latencies[i] = timespec_to_ns(timespec_sub(now, at));
	}
	sched_setscheduler(0, SCHED_OTHER, &other);
	qsort(b->latencies, NR_WAKES, sizeof(b->latencies[0]), compare);
}

/* Instructions of one access of vCPU 0, by itself; those to the VMM are not counted. */
static u64 measure_access(struct bench *b, const struct mode *mode)
{
	if (!mode->here || mode->here == guest_random || !begin_vcpu(b, mode, 0))
		return 0;
	vcf_call(b->vcpus[0], guest_time, &guests[0]);
	return guest_of(b, 0)->ticks * (NSEC_PER_SEC / timer_get_cntfrq()) / BATCH;
}

static const char *results_dir = ".";

static FILE *open_results(const char *name, const char *header)
{
	char path[256];
	FILE *f;

	snprintf(path, sizeof(path), "%s/%s", results_dir, name);
	f = fopen(path, "w");
	TEST_ASSERT(f, "Cannot write %s", path);
	fprintf(f, "%s\n", header);
	return f;
}

static void bench_victim(struct bench *b, const char *governor, FILE *f)
{
	u64 ticks[ARRAY_SIZE(modes)];
	u32 i;

	for (i = 0; i < ARRAY_SIZE(modes); i++) {
		begin(b, &modes[i]);
		vcf_worker_call(&b->victim, do_work, b);
		end(b);
		ticks[i] = b->ticks;
		fprintf(f, "%s,%s,%lu,%.3f,%.3f\n", governor, modes[i].name, (ulong)ticks[i],
			(double)ticks[i] / ticks[0], (double)ticks[i] / ticks[min(i, 1U)]);
		ksft_test_result_pass("governor %s, victim beside %s: %.3f\n", governor,
				      modes[i].name, (double)ticks[i] / ticks[0]);
	}
}

static void bench_latency(struct bench *b, const char *governor, FILE *f)
{
	u32 i;

	for (i = 0; i < ARRAY_SIZE(modes); i++) {
		u64 access = measure_access(b, &modes[i]);

		begin(b, &modes[i]);
		vcf_worker_call(&b->victim, wake_up, b);
		end(b);
		fprintf(f, "%s,%s,%lu,%lu,%lu,%lu,%lu\n", governor, modes[i].name, (ulong)access,
			(ulong)b->latencies[0], (ulong)b->latencies[NR_WAKES / 2],
			(ulong)b->latencies[NR_WAKES * 99 / 100],
			(ulong)b->latencies[NR_WAKES - 1]);
		ksft_test_result_pass("governor %s, timer beside %s: at most %lu\n", governor,
				      modes[i].name, (ulong)b->latencies[NR_WAKES - 1]);
	}
}

/* Interrupts that one CPU got from others */
static u64 nr_kicks(u32 cpu)
{
	char text[16384], *pos;
	u64 n = 0;

	TEST_ASSERT(vcf_read_file("/proc/interrupts", text, sizeof(text)), "No interrupts");
	pos = strstr(text, "IPI0:");
	TEST_ASSERT(pos, "No IPI0 in /proc/interrupts");
	for (pos += 5; cpu != -1U; cpu--)
		n = strtoul(pos, &pos, 10);
	return n;
}

static u64 nr_requests(struct bench *b)
{
	u64 n = 0;
	u32 i;

	for (i = 0; i < NR; i++)
		n += vcpu_get_stat(b->vcpus[i], virt_cpufreq_requests);
	return n;
}

static void bench_kicks(struct bench *b, const char *governor, FILE *f)
{
	u64 requests, kicks;
	u32 i, stolen;	/* so many at least: the trace has an end */

	for (i = 0; i < ARRAY_SIZE(remote_modes); i++) {
		begin(b, &remote_modes[i]);
		requests = nr_requests(b);
		kicks = nr_kicks(victim_cpu(b));
		TEST_ASSERT(vcf_trace_begin("ipi/ipi_entry"), "No event ipi_entry");
		vcf_write_file(VCF_TRACING "events/ipi/ipi_entry/filter", "common_pid == %d",
			       b->victim.tid);
		vcf_worker_call(&b->victim, do_work, b);
		kicks = nr_kicks(victim_cpu(b)) - kicks;
		requests = nr_requests(b) - requests;
		stolen = vcf_trace_count(b->victim.tid, "ipi_entry: (Rescheduling");
		vcf_trace_end();
		end(b);
		fprintf(f, "%s,%s,%lu,%lu,%u,%u\n", governor, remote_modes[i].name, (ulong)requests,
			(ulong)kicks, stolen, NR_KICK_STEPS * STEP_INSNS);
		ksft_test_result_pass("governor %s, victim beside %s: %u of %lu kicks\n", governor,
				      remote_modes[i].name, stolen, (ulong)kicks);
	}
}

struct tables {
	FILE *victim, *latency, *kicks;
};

static void bench_all(struct bench *b, const char *governor, struct tables *tables)
{
	if (b->nr_cpus > 1) {
		bench_kicks(b, governor, tables->kicks);
	} else {
		bench_victim(b, governor, tables->victim);
		bench_latency(b, governor, tables->latency);
	}
}

int main(int argc, char **argv)
{
	static const struct option options[] = {
		{ "output", required_argument, NULL, 'o' },
		{ }
	};
	struct tables tables;
	struct bench b;
	int c;

	while ((c = getopt_long(argc, argv, "o:", options, NULL)) != -1) {
		if (c != 'o') {
			printf("usage: %s [-o DIR]\n"
			       "  -o, --output DIR  where the tables go (default: .)\n", argv[0]);
			exit(KSFT_FAIL);
		}
		results_dir = optarg;
	}

	ksft_print_header();
	TEST_REQUIRE((kvm_check_cap(KVM_CAP_VIRT_CPUFREQ) & VCF_ALL_FLAGS) == VCF_ALL_FLAGS);

	bench_init(&b);
	if (b.nr_cpus > 1) {
		tables.kicks = open_results("kicks.csv",
					    "governor,beside,requests,kicks,stolen,work");
		ksft_set_plan(2 * ARRAY_SIZE(remote_modes));
	} else {
		tables.victim = open_results("victim.csv",
					     "governor,beside,ticks,slowdown,ratio_to_hypercall");
		tables.latency = open_results("latency.csv",
					      "governor,beside,access,min,median,p99,max");
		ksft_set_plan(6 * ARRAY_SIZE(modes));
	}
	bench_all(&b, "none", &tables);
	TEST_ASSERT(vcf_load_module("test_cpufreq", ""), "There is no test_cpufreq.ko");
	vcf_set_governor(b.nr_cpus, "schedutil");
	vcf_write_file(VCF_CPUFREQ "schedutil/rate_limit_us", "0");
	bench_all(&b, "schedutil", &tables);

	/* A driver for which a kthread switches, as often as the governor has it by default */
	if (b.nr_cpus == 1) {
		vcf_set_governor(b.nr_cpus, "performance");
		TEST_ASSERT(vcf_load_module("test_cpufreq", "fast_switch=0"), "No module");
		vcf_set_governor(b.nr_cpus, "schedutil");
		bench_all(&b, "schedutil-slow", &tables);
	}
	fcloseall();

	ksft_finished();
}
