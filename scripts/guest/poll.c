// SPDX-License-Identifier: GPL-2.0-only
/*
 * A program that polls, as DPDK's do, and asks for performance by the length of its queue
 *
 * usage: poll guest_store OFFSET START	in a Linux guest: by a store to its vCPU's register
 *					page, which it has mapped by UIO
 *        poll daemon OFFSET START	in a Linux guest: by a message over virtio-serial
 *        poll serve SOCKET...		in the host: the daemon, as DPDK's vm_power_manager; the
 *					n-th socket is of the guest whose vCPU is on CPU n
 *        poll now			the counter, and its ticks in a second
 *
 * OFFSET is what the host's counter is ahead of the guest's; from START of the host's on, the
 * queue of a guest is empty and full in turns, of all guests at the same moments. What is printed
 * is the host's counter before each request for more.
 */
#define _GNU_SOURCE
#include <err.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/kvm_virt_cpufreq.h>
#include <linux/types.h>
#include <poll.h>
#include <sched.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#define UIO		"/dev/uio0"
#define PORT		"/dev/vport0p1"
#define SETSPEED	"/sys/devices/system/cpu/cpufreq/policy%d/scaling_setspeed"

#define MAX_GUESTS	7	/* a CPU each, the first one is for all else */
#define NR_ROUNDS	24
#define HALF_ROUND_US	1700	/* no multiple of a tick */
#define WARM_UP_US	20000	/* until the CPU looks busy */

#define LOW_KHZ		500000
#define HIGH_KHZ	2000000
#define QUEUE_FULL	32

/* What matters of DPDK's struct rte_power_channel_packet */
struct message {
	__u32 vcpu;
	__u32 khz;
};

static __u64 counter(void)
{
	__u64 now;

	asm volatile("isb; mrs %0, cntvct_el0" : "=r" (now) : : "memory");
	return now;
}

static __u64 counter_hz(void)
{
	__u64 hz;

	asm volatile("mrs %0, cntfrq_el0" : "=r" (hz));
	return hz;
}

static void store(__u32 *reg, __u32 val)
{
	asm volatile("str %w1, %0" : "=Q" (*reg) : "r" (val));
}

static __u64 parse(const char *text)
{
	char *end;
	__u64 n;

	errno = 0;
	n = strtoull(text, &end, 10);
	if (errno || end == text || *end || *text == '-')
		errx(1, "%s is no number", text);
	return n;
}

/* A vCPU's page is that of its number in the guest. */
static __u32 *map_set_perf(int vcpu)
{
	int fd = open(UIO, O_RDWR);
	char *regs;

	if (fd < 0)
		err(1, "cannot open %s: does uio_pdrv_genirq have the device?", UIO);
	regs = mmap(NULL, (vcpu + 1) * KVM_VIRT_CPUFREQ_PAGE_SIZE, PROT_READ | PROT_WRITE,
		    MAP_SHARED, fd, 0);
	if (regs == MAP_FAILED)
		err(1, "cannot map %s", UIO);
	return (void *)(regs + vcpu * KVM_VIRT_CPUFREQ_PAGE_SIZE + KVM_VIRT_CPUFREQ_SET_PERF);
}

static void send_message(int port, int vcpu, __u32 khz)
{
	struct message m = { .vcpu = vcpu, .khz = khz };

	if (write(port, &m, sizeof(m)) != sizeof(m))
		err(1, "cannot write to %s", PORT);
}

static void run_guest(bool uses_daemon, __u64 offset, __u64 start)
{
	__u64 half_round = counter_hz() * HALF_ROUND_US / 1000000;
	__u64 asked[NR_ROUNDS], warm_up, now = counter() + offset;
	__u32 *set_perf = NULL;
	int i, n = 0, port = -1, vcpu = sched_getcpu(), queue;
	bool high = true, full;
	__u32 khz;

	if (uses_daemon) {
		port = open(PORT, O_RDWR | O_NONBLOCK);	/* as DPDK does */
		if (port < 0)
			err(1, "cannot open %s", PORT);
	} else {
		set_perf = map_set_perf(vcpu);
	}
	warm_up = counter_hz() * WARM_UP_US / 1000000;
	if (now + warm_up >= start)
		errx(1, "START is %llu and it is %llu", start, now);
	usleep((start - warm_up - now) * 1000000 / counter_hz());

	while (n < NR_ROUNDS) {
		now = counter() + offset;
		queue = now >= start && (now - start) / half_round % 2 ? QUEUE_FULL : 0;
		full = queue >= QUEUE_FULL;
		if (full != high) {
			high = full;
			khz = high ? HIGH_KHZ : LOW_KHZ;
			if (high)
				asked[n++] = counter() + offset;
			if (uses_daemon)
				send_message(port, vcpu, khz);
			else
				store(set_perf, khz);
		}
		/* Emulated CPUs run one after the other: the next one's turn */
		asm volatile("yield" : : : "memory");
	}

	for (i = 0; i < n; i++)
		printf("%llu\n", asked[i]);
}

static void serve(int nr_guests, char **paths)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	struct pollfd fds[MAX_GUESTS];
	int setspeed[MAX_GUESTS];
	char text[64];
	struct message m;
	int i, len;

	for (i = 0; i < nr_guests; i++) {
		fds[i].fd = socket(AF_UNIX, SOCK_STREAM, 0);
		fds[i].events = POLLIN;
		if (strlen(paths[i]) >= sizeof(address.sun_path))
			errx(1, "%s: too long a name for a socket", paths[i]);
		strcpy(address.sun_path, paths[i]);
		if (connect(fds[i].fd, (struct sockaddr *)&address, sizeof(address)))
			err(1, "cannot connect to %s", paths[i]);

		snprintf(text, sizeof(text), SETSPEED, i + 1);
		setspeed[i] = open(text, O_WRONLY);
		if (setspeed[i] < 0)
			err(1, "cannot open %s", text);
	}

	for (;;) {
		if (poll(fds, nr_guests, -1) < 0)
			err(1, "poll");
		for (i = 0; i < nr_guests; i++) {
			if (!fds[i].revents)
				continue;
			if (read(fds[i].fd, &m, sizeof(m)) != sizeof(m))
				errx(1, "%s: no whole message", paths[i]);
			len = snprintf(text, sizeof(text), "%u", m.khz);
			if (pwrite(setspeed[i], text, len, 0) != len)
				err(1, "cannot set the frequency of CPU %d", i + 1);
		}
	}
}

int main(int argc, char **argv)
{
	const char *what = argc > 1 ? argv[1] : "";

	if (!strcmp(what, "now") && argc == 2) {
		printf("%llu %llu\n", counter(), counter_hz());
	} else if (!strcmp(what, "serve") && argc > 2 && argc <= 2 + MAX_GUESTS) {
		serve(argc - 2, argv + 2);
	} else if ((!strcmp(what, "guest_store") || !strcmp(what, "daemon")) && argc == 4) {
		run_guest(!strcmp(what, "daemon"), parse(argv[2]), parse(argv[3]));
	} else {
		fprintf(stderr, "usage: poll guest_store|daemon OFFSET START\n"
			"       poll serve SOCKET...	(1 to %d)\n"
			"       poll now\n", MAX_GUESTS);
		return 2;
	}
	return 0;
}
