// SPDX-License-Identifier: GPL-2.0-only
/*
 * How soon a guest that polls gets the frequency that it asks for
 *
 * A poll-mode program, as DPDK's are, never sleeps: its CPU looks busy to any governor. It asks
 * for performance by the length of its queue, and then wants it at once. Here it is all that
 * runs in a guest whose vCPU is pinned to a host CPU, and it asks in two ways:
 *
 *	guest_store	it stores to set_perf in its vCPU's register page, which it has mapped;
 *			both clamps follow, and by them schedutil
 *	daemon		it leaves a message and rings a doorbell, an ioeventfd as that of a
 *			virtio device; its VMM's I/O thread passes the message on to a socket, and
 *			a daemon at the other end writes scaling_setspeed, on another host CPU. So
 *			goes DPDK's vm_power_manager, which has a guest kernel in the way, too.
 *
 * The time is from before the store until the host's frequency is the new one, as test_cpufreq
 * records it, and it is a count of instructions of everything that runs: QEMU with -icount
 * shift=0. As nobody sleeps while it runs, virtual time and instructions are the same. With
 * several guests all have the full queue at the same moment.
 */
#include <getopt.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include "arch_timer.h"
#include "kvm_util.h"
#include "processor.h"
#include "virt_cpufreq.h"

#define TRANSITIONS	"/sys/kernel/debug/test_cpufreq/transitions"

#define MAX_VMS		7	/* a CPU each, the first one is for all else */
#define NR_ROUNDS	40

#define LOW_KHZ		500000
#define HIGH_KHZ	2000000
#define QUEUE_FULL	32

#define DOORBELL_GPA	VCF_REG(15, 0)

/* What the guest's program has in its memory */
static struct app {
	u32 queue;		/* packets that wait: the host says so */
	u32 uses_daemon;
	u32 message;		/* kHz */
	u64 asked;		/* counter before the request for more */
} app;

static void guest_poll(void *arg, const u32 *stop)
{
	struct app *a = arg;
	bool high = true, full;

	while (!READ_ONCE(*stop)) {
		full = READ_ONCE(a->queue) >= QUEUE_FULL;
		if (full != high) {
			high = full;
			WRITE_ONCE(a->message, high ? HIGH_KHZ : LOW_KHZ);
			WRITE_ONCE(a->asked, timer_get_cntct(VIRTUAL));
			if (a->uses_daemon)
				writel(1, (void *)DOORBELL_GPA);
			else
				writel(a->message, (void *)VCF_REG(0, REG_SET_PERF));
		}
		/* Emulated CPUs run one after the other: the next one's turn */
		asm volatile("yield" : : : "memory");
	}
}

struct vm {
	struct kvm_vm *vm;
	struct kvm_vcpu *vcpu;
	struct vcf_worker worker;
	pthread_t io;
	pid_t io_tid;
	struct app *app;
	int cpu;
	int fd;			/* the device */
	int doorbell;
	int sockets[2];		/* the VMM's end, the daemon's end */
	int setspeed;
};

static struct vm vms[MAX_VMS];
static pid_t daemon_tid;

static void *io_main(void *arg)
{
	struct vm *v = arg;
	u64 n;
	u32 khz;

	v->io_tid = vcf_gettid();
	for (;;) {
		TEST_ASSERT_EQ(read(v->doorbell, &n, sizeof(n)), sizeof(n));
		khz = READ_ONCE(v->app->message);
		TEST_ASSERT_EQ(write(v->sockets[0], &khz, sizeof(khz)), sizeof(khz));
	}
	return NULL;
}

static void *daemon_main(void *arg)
{
	struct pollfd fds[MAX_VMS];
	char text[16];
	int i, len;
	u32 khz;

	daemon_tid = vcf_gettid();
	for (i = 0; i < MAX_VMS; i++) {
		fds[i].fd = vms[i].sockets[1];
		fds[i].events = POLLIN;
	}
	for (;;) {
		TEST_ASSERT(poll(fds, MAX_VMS, -1) > 0, "poll");
		for (i = 0; i < MAX_VMS; i++) {
			if (!(fds[i].revents & POLLIN))
				continue;
			TEST_ASSERT_EQ(read(fds[i].fd, &khz, sizeof(khz)), sizeof(khz));
			len = snprintf(text, sizeof(text), "%u", khz);
			TEST_ASSERT_EQ(pwrite(vms[i].setspeed, text, len, 0), len);
		}
	}
	return NULL;
}

static void vm_init(struct vm *v, int cpu)
{
	struct kvm_ioeventfd doorbell = { .addr = DOORBELL_GPA, .len = 4 };
	struct vcf_args args;
	char path[128];

	v->cpu = cpu;
	v->vm = vcf_vm_create(1, &v->vcpu);
	v->app = addr_gva2hva(v->vm, (gva_t)&app);
	vcf_args_init(&args, 1, VCF_HINT_MINMAX);
	args.domain[0].nr_perf = 1;
	args.domain[0].perf[0] = HIGH_KHZ;
	v->fd = vcf_create(v->vm, &args);

	v->doorbell = eventfd(0, 0);
	doorbell.fd = v->doorbell;
	vm_ioctl(v->vm, KVM_IOEVENTFD, &doorbell);
	TEST_ASSERT_EQ(socketpair(AF_UNIX, SOCK_STREAM, 0, v->sockets), 0);
	snprintf(path, sizeof(path), VCF_CPUFREQ "policy%d/scaling_setspeed", cpu);
	v->setspeed = open(path, O_RDWR);
	TEST_ASSERT(v->setspeed >= 0, "Cannot open %s", path);

	vcf_worker_start(&v->worker);
	vcf_pin(v->worker.tid, cpu);
	TEST_ASSERT_EQ(pthread_create(&v->io, NULL, io_main, v), 0);
	TEST_ASSERT(VCF_WAIT_FOR(READ_ONCE(v->io_tid)), "No I/O thread");
}

/* The counter when the frequency of a CPU became the highest; 0: it did not */
static u64 became_high(int cpu)
{
	unsigned int policy, new;
	u64 counter, found = 0;
	char line[128];
	FILE *f = fopen(TRANSITIONS, "r");

	TEST_ASSERT(f, "Cannot read " TRANSITIONS);
	while (fgets(line, sizeof(line), f)) {
		if (sscanf(line, "%*u %lu %u %*u %u", &counter, &policy, &new) == 3 &&
		    policy == cpu && new == HIGH_KHZ)
			found = counter;
	}
	fclose(f);
	return found;
}

static u32 freq_of(int cpu)
{
	char path[128], text[16];

	snprintf(path, sizeof(path), VCF_CPUFREQ "policy%d/scaling_cur_freq", cpu);
	TEST_ASSERT(vcf_read_file(path, text, sizeof(text)), "Cannot read %s", path);
	return atoi(text);
}

static u64 cpu_time(pid_t tid)
{
	char path[64], text[64];

	snprintf(path, sizeof(path), "/proc/self/task/%d/schedstat", tid);
	TEST_ASSERT(vcf_read_file(path, text, sizeof(text)), "Cannot read %s", path);
	return strtoull(text, NULL, 10);
}

static u64 cpu_time_of_others(int nr_vms)
{
	u64 t = cpu_time(daemon_tid);
	int i;

	for (i = 0; i < nr_vms; i++)
		t += cpu_time(vms[i].io_tid);
	return t;
}

static void set_queues(int nr_vms, u32 queue)
{
	int i;

	for (i = 0; i < nr_vms; i++)
		WRITE_ONCE(vms[i].app->queue, queue);
}

static int compare(const void *a, const void *b)
{
	u64 x = *(const u64 *)a, y = *(const u64 *)b;

	return x < y ? -1 : x > y;
}

static void bench(FILE *out, const char *path, bool uses_daemon, int nr_vms)
{
	static u64 times[NR_ROUNDS * MAX_VMS];
	u64 others, high;
	int i, round, n = 0;

	for (i = 0; i < nr_vms; i++) {
		vcf_write_policy(vms[i].cpu, "scaling_governor",
				 uses_daemon ? "userspace" : "schedutil");
		vms[i].app->uses_daemon = uses_daemon;
		vms[i].app->queue = QUEUE_FULL;
		vcf_worker_begin(&vms[i].worker, vms[i].vcpu, guest_poll, &app);
	}
	if (!uses_daemon)
		vcf_write_file(VCF_CPUFREQ "schedutil/rate_limit_us", "0");

	others = cpu_time_of_others(nr_vms);
	for (round = 0; round < NR_ROUNDS; round++) {
		set_queues(nr_vms, 0);
		for (i = 0; i < nr_vms; i++)
			TEST_ASSERT(VCF_WAIT_FOR(freq_of(vms[i].cpu) == LOW_KHZ),
				    "%s: CPU %d does not get slow", path, vms[i].cpu);
		usleep(2000);
		vcf_write_file(TRANSITIONS, "0");
		set_queues(nr_vms, QUEUE_FULL);
		for (i = 0; i < nr_vms; i++) {
			TEST_ASSERT(VCF_WAIT_FOR(freq_of(vms[i].cpu) == HIGH_KHZ),
				    "%s: CPU %d does not get fast", path, vms[i].cpu);
			high = became_high(vms[i].cpu);
			TEST_ASSERT(high > vms[i].app->asked, "%s: no transition after the request",
				    path);
			times[n++] = (high - vms[i].app->asked) * 1000000000 / timer_get_cntfrq();
		}
	}
	/* Each round has two requests. */
	others = (cpu_time_of_others(nr_vms) - others) / (2 * n);

	for (i = 0; i < nr_vms; i++)
		vcf_stop(vms[i].vcpu);
	for (i = 0; i < nr_vms; i++)
		vcf_worker_wait(&vms[i].worker);

	qsort(times, n, sizeof(times[0]), compare);
	fprintf(out, "%s,bare,%d,%lu,%lu,%lu,%lu,%lu\n", path, nr_vms, times[0], times[n / 2],
		times[n * 99 / 100], times[n - 1], others);
	ksft_test_result_pass("%s, %d guests\n", path, nr_vms);
}

int main(int argc, char **argv)
{
	const char *dir = ".";
	pthread_t thread;
	char path[256];
	FILE *out;
	int c, i;

	while ((c = getopt(argc, argv, "o:")) != -1) {
		if (c != 'o') {
			printf("usage: %s [-o DIR]\n"
			       "  -o DIR  where poll-cost.csv goes (default: .)\n", argv[0]);
			exit(KSFT_FAIL);
		}
		dir = optarg;
	}

	ksft_print_header();
	TEST_REQUIRE(kvm_has_cap(KVM_CAP_VIRT_CPUFREQ));
	if (vcf_nr_cpus() <= MAX_VMS)
		ksft_exit_skip("needs %d CPUs\n", MAX_VMS + 1);
	if (!vcf_load_module("test_cpufreq", ""))
		ksft_exit_skip("no test_cpufreq.ko\n");
	ksft_set_plan(4);

	vcf_pin(0, 0);
	vcf_set_governor(vcf_nr_cpus(), "userspace");
	for (i = 0; i < MAX_VMS; i++)
		vm_init(&vms[i], i + 1);
	TEST_ASSERT_EQ(pthread_create(&thread, NULL, daemon_main, NULL), 0);
	TEST_ASSERT(VCF_WAIT_FOR(READ_ONCE(daemon_tid)), "No daemon");

	snprintf(path, sizeof(path), "%s/poll-cost.csv", dir);
	out = fopen(path, "w");
	TEST_ASSERT(out, "Cannot write %s", path);
	fprintf(out, "path,guest,guests,lowest,median,p99,highest,others\n");
	bench(out, "guest_store", false, 1);
	bench(out, "guest_store", false, MAX_VMS);
	bench(out, "daemon", true, 1);
	bench(out, "daemon", true, MAX_VMS);
	fclose(out);
	ksft_finished();
}
