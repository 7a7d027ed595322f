// SPDX-License-Identifier: GPL-2.0-only
/*
 * KVM_CREATE_VIRT_CPUFREQ: random operations by several threads at once
 *
 * They share descriptors, vCPUs, a memslot and the eventfds. Errors are of those that are
 * possible, and at the end nothing is left. See include/virt_cpufreq_fuzz.h; what an
 * operation by itself does is in virt_cpufreq_fuzz_test.c.
 */
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/wait.h>

#include "kvm_test_harness.h"
#include "processor.h"
#include "virt_cpufreq_fuzz.h"

#define NR_RACERS	4
#define NR_RACE_FDS	5
#define SLOT		200
#define NR_RACE_OPS	100
/* The number of a descriptor may have become that of another by the time it is used. */
#define NOT_A_DEVICE	(fuzz_error(EBADF) | fuzz_error(ENOTTY))

static struct racer {
	struct vcf_worker worker;
	struct fuzz_args args;
	struct kvm_ioeventfd ioeventfd;
	u32 seed;
} racers[NR_RACERS];

static __thread struct racer *racer;
static int race_fds[NR_RACE_FDS];
static pthread_mutex_t vcpu_locks[FUZZ_VCPUS];
static pthread_mutex_t slot_lock = PTHREAD_MUTEX_INITIALIZER;
static void *race_slot_map;
/* What has been done, and what has succeeded; a child's parent sees it, too. */
static struct {
	u32 ops, created, mapped, received;
	int eventfd_ids[FUZZ_EVENTFDS];
} *nr;

#define say(fmt, ...)	fuzz_note("racer %ld: " fmt, racer - racers, ##__VA_ARGS__)

static void count(u32 *n)
{
	__atomic_add_fetch(n, 1, __ATOMIC_RELAXED);
}

static int race_fd(void)
{
	return __atomic_load_n(&race_fds[fuzz_rnd(NR_RACE_FDS)], __ATOMIC_RELAXED);
}

/* Let others use it, instead of another one; -1: just close that. */
static void publish(int fd)
{
	int old = __atomic_exchange_n(&race_fds[fuzz_rnd(NR_RACE_FDS)], fd, __ATOMIC_RELAXED);

	if (old >= 0)
		close(old);
}

static void race_create(void)
{
	struct kvm_create_virt_cpufreq *create = &racer->args.create;
	struct fuzz_desc desc;
	u32 i, first = fuzz_rnd(FUZZ_VCPUS), order[FUZZ_VCPUS];
	u64 errors, possible = fuzz_error(EEXIST) | fuzz_error(EOPNOTSUPP);
	int fd;

	for (i = 0; i < FUZZ_VCPUS; i++)
		order[i] = (first + i) % FUZZ_VCPUS;
	fuzz_make_args(&racer->args, 1 + fuzz_rnd(2), order);
	for (i = fuzz_rnd(2) ? fuzz_rnd(3) : 0; i; i--)
		fuzz_mutate(&racer->args);

	errors = fuzz_args_errors(&racer->args, &desc);
	fd = fuzz_result(__vm_ioctl(fuzz.vm, KVM_CREATE_VIRT_CPUFREQ, create));
	say("create: %d", fd);
	if (create->flags & KVM_VIRT_CPUFREQ_NOTIFY)
		possible |= fuzz_error(EBADF) | fuzz_error(EINVAL);
	if (fd < 0 || errors) {
		fuzz_expect(fd, errors | possible);
	} else {
		count(&nr->created);
		publish(fd);
	}
}

static void race_close(void)
{
	say("close");
	publish(-1);
}

static void race_dup(void)
{
	int fd = dup(race_fd());

	if (fd < 0)
		return;
	say("dup: %d", fd);
	publish(fd);
}

static void race_set_regs(void)
{
	u32 page = fuzz_rnd(3), request = fuzz_rnd(2) ? fuzz_rnd(1025) : fuzz_rnd_u32();
	int r = __vcf_set_regs(race_fd(), page, request, fuzz_rnd_u32());

	say("set_regs: %d", r);
	if (r)
		fuzz_expect(r, fuzz_error(EINVAL) | NOT_A_DEVICE);
}

static void race_mmap(void)
{
	size_t size = getpagesize() * (1 + fuzz_rnd(2));
	void *map = mmap(NULL, size, PROT_READ, MAP_SHARED, race_fd(), 0);

	say("mmap: %p", map);
	if (map == MAP_FAILED) {
		fuzz_expect(-errno, fuzz_error(EINVAL) | fuzz_error(EBADF) | fuzz_error(ENODEV) |
				    fuzz_error(EACCES));
		return;
	}
	count(&nr->mapped);
	if (fuzz_rnd(2))
		publish(-1);
	TEST_ASSERT(vcf_map_reg(map, 0, REG_CUR_PERF) && !vcf_map_reg(map, 0, REG_END) &&
		    vcf_map_reg(map, 0, REG_PERFTBL_LEN) - 1 < 64, "No register page");
	if (fuzz_rnd(2))
		madvise(map, size, MADV_DONTNEED);
	fuzz_try(mprotect(map, getpagesize(), PROT_READ | PROT_WRITE), fuzz_error(EACCES));
	vcf_map_reg(map, 0, REG_SET_PERF);
	munmap(map, size);
}

/* Not necessarily where the device is */
static void race_slot(void)
{
	size_t size = getpagesize();
	u64 gpa = VCF_GPA + fuzz_rnd(VCF_SIZE / size) * size;
	void *map;

	if (pthread_mutex_trylock(&slot_lock))
		return;
	say("slot");
	if (race_slot_map) {
		vm_set_user_memory_region(fuzz.vm, SLOT, 0, 0, 0, NULL);
		munmap(race_slot_map, size);
		race_slot_map = NULL;
	} else {
		map = mmap(NULL, size, PROT_READ, MAP_SHARED, race_fd(), 0);
		if (map != MAP_FAILED) {
			vm_set_user_memory_region(fuzz.vm, SLOT, KVM_MEM_READONLY, gpa, size, map);
			race_slot_map = map;
		}
	}
	pthread_mutex_unlock(&slot_lock);
}

static void race_guest(void)
{
	u32 i = fuzz_rnd(FUZZ_VCPUS), n;
	struct fuzz_access a;

	if (pthread_mutex_trylock(&vcpu_locks[i]))
		return;
	say("vCPU %u", i);
	for (n = 0; n < 5; n++) {
		a.vcpu = fuzz.vcpus[i];
		fuzz_make_access(&a, VCF_REG(fuzz_rnd(FUZZ_WINDOW), 0));
		fuzz_do_access(&a);
		TEST_ASSERT(a.served || a.right, "An access to %#lx has exited wrongly",
			    (ulong)a.gpa);
	}
	pthread_mutex_unlock(&vcpu_locks[i]);
}

/* A thread that ends with its hint */
static void race_thread(void)
{
	u32 i = fuzz_rnd(FUZZ_VCPUS);
	struct vcf_worker worker;
	struct fuzz_access a;

	a.vcpu = fuzz.vcpus[i];
	fuzz_make_access(&a, VCF_REG(fuzz_rnd(FUZZ_WINDOW), 0));
	say("a thread");
	vcf_worker_start(&worker);
	if (!pthread_mutex_trylock(&vcpu_locks[i])) {
		vcf_worker_call(&worker, fuzz_do_access, &a);
		pthread_mutex_unlock(&vcpu_locks[i]);
	}
	vcf_worker_stop(&worker);
}

static void race_own_clamps(void)
{
	u32 min = fuzz_rnd(1025);

	say("own clamps");
	fuzz_expect(vcf_set_uclamp(0, min, min + fuzz_rnd(1025 - min)), 0);
}

static void race_switch(void)
{
	if (access(VCF_MODULE_PARAM, W_OK))
		return;
	say("switch");
	vcf_write_file(VCF_MODULE_PARAM, fuzz_rnd(4) ? "Y" : "N");
}

static void race_ioeventfd(void)
{
	struct kvm_ioeventfd *e = &racer->ioeventfd;
	int r;

	say("ioeventfd");
	if (e->fd) {
		e->flags = KVM_IOEVENTFD_FLAG_DEASSIGN;
		fuzz_try(__vm_ioctl(fuzz.vm, KVM_IOEVENTFD, e), 0);
		e->fd = 0;
		return;
	}
	*e = (struct kvm_ioeventfd) {
		.addr = VCF_REG(fuzz_rnd(FUZZ_WINDOW), 4 * fuzz_rnd(REG_END / 4)),
		.len = 4 * fuzz_rnd(3),
		.fd = fuzz.eventfds[fuzz_rnd(FUZZ_EVENTFDS)].fd,
	};
	r = fuzz_result(__vm_ioctl(fuzz.vm, KVM_IOEVENTFD, e));
	if (r) {
		fuzz_expect(r, fuzz_error(EEXIST));
		e->fd = 0;
	}
}

static void race_fork(void)
{
	int r, i, status;
	pid_t pid;

	say("fork");
	pid = fork();
	if (!pid) {
		for (i = 0; i < NR_RACE_FDS; i++) {
			r = __vcf_set_regs(race_fds[i], 0, 0, 0);
			if (!r || !((fuzz_error(EIO) | NOT_A_DEVICE) & fuzz_error(-r)))
				_exit(1);
		}
		_exit(0);
	}
	TEST_ASSERT(waitpid(pid, &status, 0) == pid && !status, "The child may use the device");
}

/* Half of the descriptors are received by nobody. */
static void race_hand_over(void)
{
	char message[1] = "";
	int sockets[2], fd = dup(race_fd());

	if (fd < 0)
		return;
	say("hand over %d", fd);
	TEST_ASSERT(!socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, sockets),
		    "socketpair() failed");
	fuzz_send(sockets[0], message, sizeof(message), fd);
	close(fd);
	publish(-1);
	if (fuzz_rnd(2)) {
		fd = fuzz_receive(sockets[1], message, sizeof(message));
		TEST_ASSERT(fd >= 0, "Nothing is received");
		count(&nr->received);
		publish(fd);
	}
	close(sockets[0]);
	close(sockets[1]);
}

static struct fuzz_op race_ops[] = {
	{ "create",	16, race_create },
	{ "close",	4, race_close },
	{ "dup",	4, race_dup },
	{ "set_regs",	12, race_set_regs },
	{ "mmap",	8, race_mmap },
	{ "slot",	6, race_slot },
	{ "guest",	24, race_guest },
	{ "thread",	2, race_thread },
	{ "own_clamps",	2, race_own_clamps },
	{ "switch",	2, race_switch },
	{ "ioeventfd",	3, race_ioeventfd },
	{ "fork",	1, race_fork },
	{ "hand_over",	3, race_hand_over },
};

static void race(void *arg)
{
	u32 i;

	racer = arg;
	fuzz_start_random(racer->seed);
	for (i = 0; i < NR_RACE_OPS; i++) {
		fuzz_do_random_op(race_ops, ARRAY_SIZE(race_ops));
		count(&nr->ops);
	}
	if (racer->ioeventfd.fd)
		race_ioeventfd();
}

static void close_race(void)
{
	u32 i;
	u64 n;

	for (i = 0; i < NR_RACE_FDS; i++) {
		if (race_fds[i] >= 0)
			close(race_fds[i]);
		race_fds[i] = -1;
	}
	if (race_slot_map)
		race_slot();
	for (i = 0; i < FUZZ_EVENTFDS; i++) {
		if (read(fuzz.eventfds[i].fd, &n, sizeof(n)) < 0)
			TEST_ASSERT_EQ(errno, EAGAIN);
		fuzz.eventfds[i].signals = 0;
	}
}

static void check_clamps(pid_t tid)
{
	struct vcf_uclamp uclamp = vcf_uclamp(tid);

	TEST_ASSERT(uclamp.eff_min == uclamp.min && uclamp.eff_max == uclamp.max,
		    "A hint is left: %u %u", uclamp.eff_min, uclamp.eff_max);
}

FIXTURE(race) {
};

FIXTURE_SETUP(race)
{
	u32 i;

	fuzz_begin();
	nr = kvm_mmap(sizeof(*nr), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1);
	memset(race_fds, -1, sizeof(race_fds));
	for (i = 0; i < FUZZ_VCPUS; i++)
		pthread_mutex_init(&vcpu_locks[i], NULL);
	for (i = 0; i < NR_RACERS; i++)
		fuzz_alloc_args(&racers[i].args);
}

FIXTURE_TEARDOWN_PARENT(race)
{
	vcf_switch_on();
}

static void start_race(void)
{
	u32 i;

	for (i = 0; i < NR_RACERS; i++) {
		racers[i].seed = fuzz.seed * NR_RACERS + i;
		vcf_worker_start(&racers[i].worker);
		vcf_worker_post(&racers[i].worker, race, &racers[i]);
	}
}

TEST_F_TIMEOUT(race, leaves_nothing, 7200)
{
	u32 i;

	do {
		fuzz_begin_episode();
		start_race();
		for (i = 0; i < NR_RACERS; i++)
			vcf_worker_wait(&racers[i].worker);
		close_race();
		for (i = 0; i < NR_RACERS; i++) {
			check_clamps(racers[i].worker.tid);
			vcf_worker_stop(&racers[i].worker);
		}
		fuzz_end_episode();
	} while (fuzz_is_time_left() || !nr->received);
	fuzz_print_counts(race_ops, ARRAY_SIZE(race_ops));
	EXPECT_NE(0, nr->created);
	EXPECT_NE(0, nr->mapped);
	fuzz_end();
}

static void race_until_killed(void)
{
	u32 i;

	fuzz_begin_episode();
	for (i = 0; i < FUZZ_EVENTFDS; i++)
		nr->eventfd_ids[i] = vcf_eventfd_id(fuzz.eventfds[i].fd);
	start_race();
	for (;;)
		pause();
}

/*
 * The numbers that its eventfds had, unless 0, are those of new ones: the lowest that are free
 * are taken.
 */
static bool eventfds_are_gone(void)
{
	int fds[64], last = 0, i, id, n, left = 0;

	for (i = 0; i < FUZZ_EVENTFDS; i++) {
		last = max(last, nr->eventfd_ids[i]);
		left += !!nr->eventfd_ids[i];
	}
	for (n = 0, id = -1; n < ARRAY_SIZE(fds) && id < last; n++) {
		fds[n] = kvm_new_eventfd();
		id = vcf_eventfd_id(fds[n]);
		for (i = 0; i < FUZZ_EVENTFDS; i++)
			left -= id && id == nr->eventfd_ids[i];
	}
	while (n--)
		close(fds[n]);
	return !left;
}

/* Whatever the threads do when their process dies */
TEST_F_TIMEOUT(race, leaves_nothing_when_it_is_killed, 7200)
{
	u32 nr_killed = 0, nr_with_devices = 0, after;
	int nr_areas = vcf_nr_areas(), status;
	pid_t pid;

	do {
		fuzz_start_random(fuzz.seed);
		after = fuzz_rnd(NR_RACERS * NR_RACE_OPS);
		memset(nr, 0, sizeof(*nr));
		pid = fork();
		TEST_ASSERT(pid >= 0, "fork() failed");
		if (!pid)
			race_until_killed();
		while (READ_ONCE(nr->ops) < after) {
			TEST_ASSERT(!waitpid(pid, &status, WNOHANG), "It has ended by itself");
			usleep(100);
		}
		TEST_ASSERT(!kill(pid, SIGKILL), "kill() failed");
		TEST_ASSERT(waitpid(pid, &status, 0) == pid, "waitpid() failed");
		TEST_ASSERT(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL,
			    "It has ended by itself: %#x", status);
		TEST_ASSERT(VCF_WAIT_FOR(vcf_nr_areas() <= nr_areas), "%d areas, %d before",
			    vcf_nr_areas(), nr_areas);
		TEST_ASSERT(VCF_WAIT_FOR(!vcf_nr_vms(pid)), "Something keeps the VM");
		TEST_ASSERT(VCF_WAIT_FOR(eventfds_are_gone()), "Something keeps an eventfd");
		vcf_switch_on();
		fuzz.seed++;
		nr_killed++;
		nr_with_devices += !!nr->created;
	} while (fuzz_is_time_left() || !nr_with_devices);
	pr_info("# %u killed, %u of them had made a device\n", nr_killed, nr_with_devices);

	/* Others are served as before. */
	fuzz_begin_episode();
	fuzz_end_episode();
	fuzz_end();
}

int main(int argc, char *argv[])
{
	TEST_REQUIRE(kvm_has_cap(KVM_CAP_VIRT_CPUFREQ));
	return test_harness_run(argc, argv);
}
