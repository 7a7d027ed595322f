// SPDX-License-Identifier: GPL-2.0-only
/*
 * KVM_CREATE_VIRT_CPUFREQ: how a VMM follows the requests, and how it sets them
 */
#include <fcntl.h>
#include <poll.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/wait.h>

#include "kvm_test_harness.h"
#include "processor.h"
#include "virt_cpufreq.h"

#define NO_HINT_MIN	0
#define NO_HINT_MAX	1024

/* Pages 0 and 1 are one domain, page 2 is another; vCPU 3 has no page. */
#define NR_PAGES	3
#define NR_VCPUS	4

static void make_args(struct vcf_args *args, u32 flags, int notify_fd)
{
	vcf_args_init(args, NR_PAGES, flags);
	args->create.notify_fd = notify_fd;
	vcf_args_set_domain(args, 2, 1);
}

static int new_eventfd(int flags)
{
	int fd = eventfd(0, EFD_NONBLOCK | flags);

	TEST_ASSERT(fd >= 0, "eventfd() failed");
	return fd;
}

/* The number of times that it was signalled since the last call */
static u64 signals(int eventfd)
{
	u64 n;

	return read(eventfd, &n, sizeof(n)) == sizeof(n) ? n : 0;
}

FIXTURE(notify) {
	struct kvm_vm *vm;
	struct kvm_vcpu *vcpus[NR_VCPUS];
	struct kvm_vcpu *vcpu;
	struct vcf_args args;
	int eventfd;
	int fd;
};

FIXTURE_VARIANT(notify) {
	u32 hints;
};

FIXTURE_VARIANT_ADD(notify, without_hints) {
};

FIXTURE_VARIANT_ADD(notify, with_hints) {
	.hints = VCF_HINT_MINMAX,
};

FIXTURE_SETUP(notify)
{
	self->vm = vcf_vm_create(NR_VCPUS, self->vcpus);
	self->vcpu = self->vcpus[0];
	self->eventfd = new_eventfd(0);
	make_args(&self->args, KVM_VIRT_CPUFREQ_NOTIFY | variant->hints, self->eventfd);
	self->fd = vcf_create(self->vm, &self->args);
}

FIXTURE_TEARDOWN(notify)
{
	kvm_vm_free(self->vm);
}

TEST_F(notify, is_once_for_each_changed_request)
{
	const struct {
		u32 page, perf, signals;
	} rows[] = {
		{ 0, 300,	1 },
		{ 0, 300,	0 },
		{ 1, 300,	0 },
		{ 1, 301,	1 },
		{ 0, 1024,	1 },
		{ 0, 1025,	0 },
		{ 1, -1U,	0 },
		{ 0, 1,		1 },
		{ 0, 0,		0 },
		{ 2, 300,	1 },
		{ 2, 300,	0 },
		{ 2, -1U,	1 },
		{ 0, 0,		0 },
		{ 1, -1U,	1 },
	};
	int i, vcpu;

	for (vcpu = 0; vcpu < NR_VCPUS; vcpu++) {
		vcf_set_regs(self->fd, 0, 0, 0);
		vcf_set_regs(self->fd, 2, 0, 0);
		signals(self->eventfd);
		for (i = 0; i < ARRAY_SIZE(rows); i++) {
			vcf_set_perf(self->vcpus[vcpu], rows[i].page, rows[i].perf);
			EXPECT_EQ(rows[i].signals, signals(self->eventfd))
				TH_LOG("row %d, vCPU %d", i, vcpu);
		}
	}
}

TEST_F(notify, adds_up_until_it_is_read)
{
	int i;

	for (i = 1; i <= 100; i++)
		vcf_set_perf(self->vcpus[i % NR_VCPUS], i % NR_PAGES, i);
	EXPECT_EQ(100, signals(self->eventfd));
	EXPECT_EQ(0, signals(self->eventfd));
}

TEST_F(notify, is_for_nothing_but_requests)
{
	int i;

	EXPECT_EQ(0, signals(self->eventfd));
	for (i = 0; i < NR_VCPUS; i++) {
		vcf_enter(self->vcpus[i]);
		vcf_load(self->vcpus[i], VCF_REG(0, REG_CUR_PERF));
		vcf_store(self->vcpus[i], VCF_REG(0, REG_CUR_PERF), i);
		vcf_store(self->vcpus[i], VCF_REG(1, REG_PERFTBL_SEL), i + 1);
	}
	vcf_set_regs(self->fd, 2, 0, 3);
	EXPECT_EQ(0, signals(self->eventfd));
	close(self->fd);
	EXPECT_EQ(0, signals(self->eventfd));
}

TEST_F(notify, is_once_for_each_request_that_set_regs_changed)
{
	const struct {
		u32 page, perf, signals;
	} rows[] = {
		{ 0, 0,		0 },
		{ 0, 300,	1 },
		{ 1, 300,	0 },
		{ 1, 0,		1 },
		{ 0, 0,		0 },
		{ 2, 1024,	1 },
		{ 2, 1,		1 },
	};
	int i;

	for (i = 0; i < ARRAY_SIZE(rows); i++) {
		vcf_set_regs(self->fd, rows[i].page, rows[i].perf, i);
		EXPECT_EQ(rows[i].signals, signals(self->eventfd))
			TH_LOG("row %d", i);
	}
}

/* At each signal a probe reads the registers where the VMM has them mapped. */
TEST_F(notify, comes_after_all_pages_of_the_domain_show_the_request)
{
	const void *map = vcf_map(self->fd, NR_PAGES);
	const void *set_perf = map + REG_SET_PERF;
	char text[128];
	int i;

	/* The probe reads only what is there already. */
	for (i = 0; i < NR_PAGES; i++)
		vcf_map_reg(map, i, REG_SET_PERF);
	snprintf(text, sizeof(text), "eventfd_signal_mask a=+u0(\\%#lx):u32 b=+u0(\\%#lx):u32",
		 (ulong)set_perf, (ulong)set_perf + VCF_PAGE_SIZE);
	if (!vcf_trace_begin_probe(text))
		SKIP(return, "needs kprobe events");

	for (i = 0; i < 6; i++) {
		if (i < 4)
			vcf_set_perf(self->vcpus[i], i % 2, 100 + i);
		else
			vcf_set_regs(self->fd, i % 2, 100 + i, 0);
		snprintf(text, sizeof(text), " a=%d b=%d", 100 + i, 100 + i);
		EXPECT_EQ(1, vcf_trace_count(vcf_gettid(), text));
	}
	EXPECT_EQ(6, vcf_trace_count(vcf_gettid(), " a="));
	vcf_trace_end();
}

/*
 * An observer who has nothing but the two descriptors. The requests of each domain are
 * 1, 2, 3, ... so that their sum is the number of signals, or more as long as some are
 * still to be read.
 */
struct observer {
	int fd;
	int eventfd;
	u64 nr_requests;
	bool good;
};

static void observe(void *arg)
{
	struct observer *observer = arg;
	const void *map = vcf_map(observer->fd, NR_PAGES);
	struct pollfd pollfd = { .fd = observer->eventfd, .events = POLLIN };
	u64 seen = 0, sum[2] = {};

	while (seen < observer->nr_requests && poll(&pollfd, 1, 60000) == 1) {
		seen += signals(observer->eventfd);
		sum[0] = vcf_map_reg(map, 0, REG_SET_PERF) + vcf_map_reg(map, 2, REG_SET_PERF);
		sum[1] = vcf_map_reg(map, 1, REG_SET_PERF) + vcf_map_reg(map, 2, REG_SET_PERF);
		if (sum[0] < seen || sum[1] < seen)
			break;
	}
	observer->good = seen == observer->nr_requests && sum[0] == seen && sum[1] == seen;
	if (!observer->good)
		pr_info("# signals %lu, requests %lu %lu of %lu\n", (ulong)seen,
			(ulong)sum[0], (ulong)sum[1], (ulong)observer->nr_requests);
	vcf_unmap(map, NR_PAGES);
}

#define NR_REQUESTS	500

static void guest_request_1_2_3(void *set_perf, const u32 *stop)
{
	u32 perf;

	for (perf = 1; perf <= NR_REQUESTS; perf++)
		writel_relaxed(perf, set_perf);
}

struct requester {
	struct vcf_worker worker;
	struct kvm_vcpu *vcpu;
	u32 page;
};

static void request_1_2_3(void *arg)
{
	struct requester *requester = arg;

	vcf_call(requester->vcpu, guest_request_1_2_3,
		 (void *)VCF_REG(requester->page, REG_SET_PERF));
}

/* One vCPU for each domain */
static void start_requesters(struct _test_data_notify *self, struct requester requesters[2])
{
	int i;

	for (i = 0; i < 2; i++) {
		requesters[i].vcpu = self->vcpus[2 * i];
		requesters[i].page = 2 * i;
		vcf_worker_start(&requesters[i].worker);
		vcf_worker_post(&requesters[i].worker, request_1_2_3, &requesters[i]);
	}
}

TEST_F(notify, and_the_mapping_are_all_that_an_observing_thread_needs)
{
	struct observer observer = { self->fd, self->eventfd, 2 * NR_REQUESTS };
	struct requester requesters[2];
	int i;

	start_requesters(self, requesters);
	observe(&observer);
	EXPECT_TRUE(observer.good);
	for (i = 0; i < 2; i++)
		vcf_worker_wait(&requesters[i].worker);
}

TEST_F(notify, and_the_mapping_are_all_that_an_observing_process_needs)
{
	struct observer observer = { self->fd, self->eventfd, 2 * NR_REQUESTS };
	struct requester requesters[2];
	int status, i;
	pid_t pid;

	pid = fork();
	if (!pid) {
		observe(&observer);
		_exit(!observer.good);
	}
	start_requesters(self, requesters);
	for (i = 0; i < 2; i++)
		vcf_worker_wait(&requesters[i].worker);
	ASSERT_EQ(pid, waitpid(pid, &status, 0));
	EXPECT_EQ(0, status);
}

TEST_F(notify, alone_touches_no_task)
{
	struct vcf_uclamp uclamp;

	vcf_set_perf(self->vcpu, 0, 512);
	vcf_set_regs(self->fd, 0, 300, 0);
	vcf_enter(self->vcpu);
	uclamp = vcf_uclamp(vcf_gettid());
	EXPECT_EQ(variant->hints ? 300 : NO_HINT_MIN, uclamp.eff_min);
	EXPECT_EQ(variant->hints ? 300 : NO_HINT_MAX, uclamp.eff_max);
	/* One of them when the thread began to run the vCPU */
	EXPECT_EQ(variant->hints ? 3 : 0, vcpu_get_stat(self->vcpu, virt_cpufreq_hints));
	EXPECT_EQ(2, signals(self->eventfd));
}

TEST_F(notify, goes_on_when_the_vmm_has_closed_the_eventfd)
{
	int copy = dup(self->eventfd);

	/* The number may be something else's then. */
	close(self->eventfd);
	ASSERT_EQ(self->eventfd, open("/dev/null", O_RDWR));
	vcf_set_perf(self->vcpu, 0, 512);
	EXPECT_EQ(1, signals(copy));

	close(copy);
	vcf_set_perf(self->vcpu, 0, 300);
	EXPECT_EQ(300, vcf_load(self->vcpu, VCF_REG(1, REG_SET_PERF)));
	close(self->fd);
}

TEST_F(notify, may_share_its_eventfd_with_another_device_and_ends_with_its_own)
{
	struct vcf_args args = self->args;
	int fd;

	vcf_args_bind(&args);
	args.create.gpa = VCF_REG(NR_PAGES, 0);
	args.create.nr_domains = 1;
	args.create.nr_vcpus = 1;
	args.page[0].vcpu_id = 3;
	fd = vcf_create(self->vm, &args);
	vcf_set_perf(self->vcpu, 0, 512);
	vcf_set_perf(self->vcpu, NR_PAGES, 512);
	EXPECT_EQ(2, signals(self->eventfd));

	close(self->fd);
	vcf_set_perf(self->vcpu, NR_PAGES, 300);
	EXPECT_EQ(1, signals(self->eventfd));
	close(fd);
	EXPECT_EQ(0, signals(self->eventfd));
}

/* What else eventfds are and do */
static void renew(struct _test_data_notify *self, int eventfd)
{
	close(self->fd);
	close(self->eventfd);
	self->eventfd = eventfd;
	self->args.create.notify_fd = eventfd;
	self->fd = vcf_create(self->vm, &self->args);
}

TEST_F(notify, may_be_by_a_semaphore)
{
	renew(self, new_eventfd(EFD_SEMAPHORE));
	vcf_set_perf(self->vcpu, 0, 100);
	vcf_set_perf(self->vcpu, 1, 200);
	EXPECT_EQ(1, signals(self->eventfd));
	EXPECT_EQ(1, signals(self->eventfd));
	EXPECT_EQ(0, signals(self->eventfd));
}

TEST_F(notify, does_not_wait_for_room_in_the_counter)
{
	const u64 full = -2UL;

	renew(self, eventfd(0, 0));
	ASSERT_EQ(sizeof(full), write(self->eventfd, &full, sizeof(full)));
	vcf_set_perf(self->vcpu, 0, 100);
	vcf_set_perf(self->vcpu, 0, 200);
	EXPECT_EQ(200, vcf_load(self->vcpu, VCF_REG(0, REG_SET_PERF)));
	EXPECT_LE(full, signals(self->eventfd));
}

TEST_F(notify, wakes_a_nest_of_epolls)
{
	struct epoll_event event = { .events = EPOLLIN };
	int i, outer, inner;

	outer = epoll_create1(EPOLL_CLOEXEC);
	inner = epoll_create1(EPOLL_CLOEXEC);
	ASSERT_EQ(0, epoll_ctl(inner, EPOLL_CTL_ADD, self->eventfd, &event));
	ASSERT_EQ(0, epoll_ctl(outer, EPOLL_CTL_ADD, inner, &event));
	ASSERT_EQ(0, epoll_ctl(outer, EPOLL_CTL_ADD, self->eventfd, &event));
	EXPECT_EQ(0, epoll_wait(outer, &event, 1, 0));
	for (i = 1; i < 10; i++) {
		vcf_set_perf(self->vcpu, 0, i);
		EXPECT_EQ(1, epoll_wait(outer, &event, 1, 0));
		EXPECT_EQ(1, signals(self->eventfd));
		EXPECT_EQ(0, epoll_wait(inner, &event, 1, 0));
	}
}

TEST_F(notify, may_be_an_interrupt_of_the_same_vm)
{
	int i;

	if (!kvm_arch_has_default_irqchip())
		SKIP(return, "no interrupt controller in the kernel");
	kvm_assign_irqfd(self->vm, 10, self->eventfd);
	for (i = 1; i < 10; i++) {
		vcf_set_perf(self->vcpus[i % NR_VCPUS], 1, i);
		EXPECT_EQ(i, vcf_load(self->vcpu, VCF_REG(0, REG_SET_PERF)));
		vcf_set_regs(self->fd, 1, 100 + i, 0);
	}
	/* Whoever takes the interrupt takes the count. */
	EXPECT_EQ(0, signals(self->eventfd));
	kvm_deassign_irqfd(self->vm, 10, self->eventfd);
	vcf_set_perf(self->vcpu, 1, 500);
	EXPECT_EQ(1, signals(self->eventfd));
}

/* KVM_VIRT_CPUFREQ_SET_REGS */
FIXTURE(set_regs) {
	struct kvm_vm *vm;
	struct kvm_vcpu *vcpus[NR_VCPUS];
	struct kvm_vcpu *vcpu;
	struct vcf_worker workers[NR_VCPUS];
	struct vcf_args args;
	const void *map;
	int fd;
};

FIXTURE_SETUP(set_regs)
{
	int i;

	self->vm = vcf_vm_create(NR_VCPUS, self->vcpus);
	self->vcpu = self->vcpus[3];
	for (i = 0; i < NR_VCPUS; i++)
		vcf_worker_start(&self->workers[i]);
	make_args(&self->args, KVM_VIRT_CPUFREQ_HINT_MIN, 0);
	self->fd = vcf_create(self->vm, &self->args);
	self->map = vcf_map(self->fd, NR_PAGES);
}

FIXTURE_TEARDOWN(set_regs)
{
	kvm_vm_free(self->vm);
}

static u32 hint(struct _test_data_set_regs *self, int i)
{
	return vcf_uclamp(self->workers[i].tid).eff_min;
}

static void enter(struct _test_data_set_regs *self, int i)
{
	vcf_worker_enter(&self->workers[i], self->vcpus[i]);
}

/* A register for the guest, if the mapping has the same */
static u32 reg(struct _test_data_set_regs *self, u32 page, u32 reg)
{
	u32 mapped = vcf_map_reg(self->map, page, reg);
	u32 loaded = vcf_load(self->vcpu, VCF_REG(page, reg));

	TEST_ASSERT(loaded == mapped, "Register %#x of page %u is %u, but mapped %u",
		    reg, page, loaded, mapped);
	return loaded;
}

TEST_F(set_regs, is_refused_for_values_out_of_range)
{
	const struct kvm_virt_cpufreq_regs rows[] = {
		{ .index = NR_PAGES },
		{ .index = NR_PAGES, .set_perf = 300 },
		{ .index = -1U },
		{ .set_perf = 1025 },
		{ .set_perf = -1U },
		{ .set_perf = 300, .reserved = 1 },
		{ .set_perf = 300, .reserved = 1U << 31 },
	};
	int i;

	vcf_set_perf(self->vcpu, 0, 512);
	vcf_store(self->vcpu, VCF_REG(0, REG_PERFTBL_SEL), 2);
	for (i = 0; i < ARRAY_SIZE(rows); i++) {
		EXPECT_EQ(-1, ioctl(self->fd, KVM_VIRT_CPUFREQ_SET_REGS, &rows[i]));
		EXPECT_EQ(EINVAL, errno)
			TH_LOG("row %d", i);
		EXPECT_EQ(512, reg(self, 0, REG_SET_PERF));
		EXPECT_EQ(2, reg(self, 0, REG_PERFTBL_SEL));
	}
	EXPECT_EQ(-1, ioctl(self->fd, KVM_VIRT_CPUFREQ_SET_REGS, NULL));
	EXPECT_EQ(EFAULT, errno);
	EXPECT_EQ(512, reg(self, 0, REG_SET_PERF));
}

static bool fails_with_eio_in_a_child(int fd)
{
	int status;
	pid_t pid;

	pid = fork();
	if (!pid)
		_exit(__vcf_set_regs(fd, 0, 300, 3) != -EIO);
	return waitpid(pid, &status, 0) == pid && !status;
}

TEST_F(set_regs, is_refused_to_a_process_that_does_not_own_the_vm)
{
	EXPECT_TRUE(fails_with_eio_in_a_child(self->fd));
	EXPECT_EQ(0, reg(self, 0, REG_SET_PERF));
	EXPECT_EQ(0, reg(self, 0, REG_PERFTBL_SEL));
}

TEST_F(set_regs, sets_the_request_of_the_domain_and_the_selection_of_the_page)
{
	const u32 sels[] = { 0, 7, 8, 64, 0x80000000, -1U, 3 };
	int i;

	vcf_set_perf(self->vcpu, 2, 77);
	vcf_store(self->vcpu, VCF_REG(0, REG_PERFTBL_SEL), 5);
	for (i = 0; i < ARRAY_SIZE(sels); i++) {
		vcf_set_regs(self->fd, 1, 300 + i, sels[i]);
		EXPECT_EQ(300 + i, reg(self, 0, REG_SET_PERF));
		EXPECT_EQ(300 + i, reg(self, 1, REG_SET_PERF));
		EXPECT_EQ(77, reg(self, 2, REG_SET_PERF));
		EXPECT_EQ(sels[i], reg(self, 1, REG_PERFTBL_SEL));
		EXPECT_EQ(sels[i] < 8 ? 128 * (sels[i] + 1) : 0, reg(self, 1, REG_PERFTBL_RD));
		EXPECT_EQ(5, reg(self, 0, REG_PERFTBL_SEL));
		EXPECT_EQ(0, reg(self, 2, REG_PERFTBL_SEL));
	}
	vcf_set_regs(self->fd, 2, 1024, 0);
	EXPECT_EQ(1024, reg(self, 2, REG_SET_PERF));
	vcf_set_regs(self->fd, 2, 1, 0);
	EXPECT_EQ(1, reg(self, 2, REG_SET_PERF));
}

TEST_F(set_regs, is_applied_by_every_vcpu_of_the_domain_when_it_enters)
{
	int i;

	for (i = 0; i < NR_VCPUS; i++)
		enter(self, i);
	vcf_set_regs(self->fd, 0, 512, 0);
	for (i = 0; i < NR_VCPUS; i++) {
		EXPECT_EQ(NO_HINT_MIN, hint(self, i));
		enter(self, i);
		EXPECT_EQ(i < 2 ? 512 : NO_HINT_MIN, hint(self, i));
	}
	/* It is the guest's request from now on, as if that had written it. */
	vcf_worker_set_perf(&self->workers[1], self->vcpus[1], 1, 300);
	EXPECT_EQ(300, hint(self, 1));
}

TEST_F(set_regs, of_0_takes_the_hints_when_the_vcpus_enter)
{
	int i;

	for (i = 0; i < NR_PAGES; i++)
		vcf_worker_set_perf(&self->workers[i], self->vcpus[i], i, 512);
	vcf_set_regs(self->fd, 1, 0, 0);
	EXPECT_EQ(0, reg(self, 0, REG_SET_PERF));
	EXPECT_EQ(0, reg(self, 1, REG_SET_PERF));
	for (i = 0; i < NR_PAGES; i++) {
		EXPECT_EQ(512, hint(self, i));
		enter(self, i);
		EXPECT_EQ(i < 2 ? NO_HINT_MIN : 512, hint(self, i));
	}
	vcf_worker_set_perf(&self->workers[0], self->vcpus[0], 0, 400);
	EXPECT_EQ(400, hint(self, 0));
	enter(self, 1);
	EXPECT_EQ(400, hint(self, 1));
}

TEST_F(set_regs, of_0_takes_the_hint_also_if_another_device_is_created)
{
	struct vcf_args args;
	int fd;

	vcf_worker_set_perf(&self->workers[0], self->vcpus[0], 0, 512);
	vcf_set_regs(self->fd, 0, 0, 0);
	vcf_args_init(&args, 1, KVM_VIRT_CPUFREQ_HINT_MIN);
	args.create.gpa = VCF_REG(NR_PAGES, 0);
	args.page[0].vcpu_id = 3;
	fd = vcf_create(self->vm, &args);
	enter(self, 0);
	EXPECT_EQ(NO_HINT_MIN, hint(self, 0));
	close(fd);
}

TEST_F(set_regs, of_0_is_no_cap_with_hint_max)
{
	struct vcf_uclamp uclamp;

	vcf_unmap(self->map, NR_PAGES);
	close(self->fd);
	self->args.create.flags = VCF_HINT_MINMAX;
	self->fd = vcf_create(self->vm, &self->args);
	vcf_set_perf(self->vcpus[0], 0, 300);
	vcf_set_regs(self->fd, 0, 0, 0);
	vcf_enter(self->vcpus[0]);
	uclamp = vcf_uclamp(vcf_gettid());
	EXPECT_EQ(NO_HINT_MIN, uclamp.eff_min);
	EXPECT_EQ(NO_HINT_MAX, uclamp.eff_max);
}

TEST_F(set_regs, kicks_vcpus_out_of_the_guest_to_apply_it)
{
	int i, kicks;

	if (vcf_nr_cpus() < 2)
		SKIP(return, "needs 2 CPUs");
	if (!vcf_trace_begin_probe("__kvm_vcpu_kick"))
		SKIP(return, "needs kprobe events");

	vcf_worker_spin(&self->workers[0], self->vcpus[0]);
	for (i = 0; i < 40; i++) {
		u32 perf = i % 2 ? 0 : 512 + i;

		/* By its own page and by that of another */
		vcf_set_regs(self->fd, i / 2 % 2, perf, 0);
		EXPECT_TRUE(VCF_WAIT_FOR(hint(self, 0) == perf));
	}
	/* It has been in there all the time. */
	EXPECT_EQ(-1, sem_trywait(&self->workers[0].done));
	vcf_worker_stop_spin(&self->workers[0], self->vcpus[0]);

	/*
	 * Now and then it is outside just then, for a host's tick; half are for a 0,
	 * and half by its own page.
	 */
	kicks = vcf_trace_count(vcf_gettid(), "probe:");
	EXPECT_LE(26, kicks);
	vcf_trace_end();
}

TEST_F(set_regs, is_traced_but_not_counted_as_a_request)
{
	int i;

	if (!vcf_trace_begin("kvm/kvm_virt_cpufreq"))
		SKIP(return, "needs tracefs");
	vcf_set_regs(self->fd, 1, 512, 0);
	vcf_set_regs(self->fd, 0, 512, 1);
	vcf_set_regs(self->fd, 0, 0, 0);
	EXPECT_EQ(1, vcf_trace_count(vcf_gettid(), ": vcpu 1 domain 0 perf 512 util 512"));
	EXPECT_EQ(1, vcf_trace_count(vcf_gettid(), ": vcpu 0 domain 0 perf 0 util 0"));
	EXPECT_EQ(2, vcf_trace_count(vcf_gettid(), "kvm_virt_cpufreq:"));
	vcf_trace_end();
	for (i = 0; i < NR_VCPUS; i++)
		EXPECT_EQ(0, vcpu_get_stat(self->vcpus[i], virt_cpufreq_requests));
}

TEST_F(set_regs, works_after_the_vcpus_threads_are_gone)
{
	vcf_worker_set_perf(&self->workers[0], self->vcpus[0], 0, 512);
	vcf_worker_stop(&self->workers[0]);
	vcf_set_regs(self->fd, 0, 300, 0);
	vcf_set_regs(self->fd, 0, 0, 0);
	vcf_worker_enter(&self->workers[1], self->vcpus[0]);
	EXPECT_EQ(NO_HINT_MIN, hint(self, 1));
}

TEST_F(set_regs, and_the_mapping_take_the_device_to_another_vm)
{
	u32 saved[NR_PAGES][REG_END / 4];
	int i, r;

	vcf_worker_set_perf(&self->workers[1], self->vcpus[1], 0, 700);
	vcf_worker_set_perf(&self->workers[2], self->vcpus[2], 2, 2000);
	vcf_store(self->vcpu, VCF_REG(0, REG_PERFTBL_SEL), 3);
	vcf_store(self->vcpu, VCF_REG(2, REG_PERFTBL_SEL), 0xffff);
	for (i = 0; i < NR_PAGES; i++)
		enter(self, i);

	/* Stop, save, and begin anew */
	for (i = 0; i < NR_PAGES; i++)
		memcpy(saved[i], self->map + i * VCF_PAGE_SIZE, REG_END);
	vcf_unmap(self->map, NR_PAGES);
	close(self->fd);
	kvm_vm_free(self->vm);
	for (i = 0; i < NR_PAGES; i++)
		EXPECT_EQ(NO_HINT_MIN, hint(self, i));
	self->vm = vcf_vm_create(NR_VCPUS, self->vcpus);
	self->vcpu = self->vcpus[3];
	self->fd = vcf_create(self->vm, &self->args);
	self->map = vcf_map(self->fd, NR_PAGES);

	for (i = 0; i < NR_PAGES; i++)
		vcf_set_regs(self->fd, i, saved[i][REG_SET_PERF / 4],
			     saved[i][REG_PERFTBL_SEL / 4]);
	for (i = 0; i < NR_PAGES; i++) {
		enter(self, i);
		EXPECT_EQ(i < 2 ? 700 : 1024, hint(self, i));
		for (r = 0; r < REG_END; r += 4) {
			if (r != REG_CUR_PERF || !vcf_host_has_freqs())
				EXPECT_EQ(saved[i][r / 4], reg(self, i, r));
		}
	}
	vcf_worker_set_perf(&self->workers[0], self->vcpus[0], 1, 200);
	EXPECT_EQ(200, hint(self, 0));
}

int main(int argc, char *argv[])
{
	TEST_REQUIRE(kvm_has_cap(KVM_CAP_VIRT_CPUFREQ));
	return test_harness_run(argc, argv);
}
