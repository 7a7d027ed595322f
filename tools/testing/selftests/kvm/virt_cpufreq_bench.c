// SPDX-License-Identifier: GPL-2.0-only
/*
 * What an access to a register page of virtual CPU frequency costs, beside the
 * other ways out of a guest and beside the same job done by a VMM.
 *
 * The unit is a count of instructions of everything that runs, host and guest. It
 * is meaningful on an emulated machine whose clock is its instruction count only:
 * QEMU with -icount shift=0, one instruction a nanosecond, one CPU. The guest
 * counts a batch of accesses by its virtual counter, and the smallest of many
 * batches stands: a batch is shorter than the host's tick, also where an exit takes
 * 20,000 instructions. The cost of the loop around the access is the row "empty" and
 * is taken off all others.
 */
#include <fcntl.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <linux/kvm.h>
#include <linux/sched.h>
#include <linux/sched/types.h>
#include <linux/sizes.h>

#include "arch_timer.h"
#include "gic.h"
#include "gic_v3.h"
#include "kvm_util.h"
#include "processor.h"
#include "test_util.h"
#include "ucall_common.h"
#include "virt_cpufreq.h"

#define NR_BATCHES		10

#define DEV_GPA			0x40000000ULL	/* the device, a page a vCPU */
#define IOEVENTFD_GPA		0x40100000ULL
#define USER_GPA		0x40110000ULL	/* served by nobody in the kernel */

#define DEV_SLOT		10

#define PERF_LOW		300
#define PERF_HIGH		700
#define PERF_MAX		1024

/* What the guest does n times, and then tells how long it took. */
enum guest_op {
	OP_EMPTY,
	OP_HYPERCALL,
	OP_STORE,		/* value, which is then xored with toggle */
	OP_LOAD,
};

static struct guest_args {
	u64 op;
	u64 n;
	u64 addr;
	u64 value;
	u64 toggle;
} guest_args;

/* Run insns n times; w3 is the value, toggled after each time. */
#define GUEST_LOOP(args, insns)							\
({										\
	const struct guest_args *__args = (args);				\
										\
	asm volatile(								\
	"	mov	x9, %[n]\n"						\
	"	mov	x10, %[addr]\n"						\
	"	mov	w12, %w[value]\n"					\
	"1:\n"									\
	insns									\
	"	eor	w12, w12, %w[toggle]\n"					\
	"	subs	x9, x9, #1\n"						\
	"	b.ne	1b\n"							\
	: : [n] "r" (__args->n), [addr] "r" (__args->addr),			\
	    [value] "r" (__args->value), [toggle] "r" (__args->toggle),		\
	    [fn] "r" (0x80000000UL /* SMCCC_VERSION */)				\
	: "x0", "x1", "x2", "x3", "x9", "x10", "x12", "cc", "memory");		\
})

static void guest_batch(struct guest_args *args)
{
	switch (args->op) {
	case OP_EMPTY:
		GUEST_LOOP(args, "");
		break;
	case OP_HYPERCALL:
		GUEST_LOOP(args, "mov	w0, %w[fn]\n hvc	#0\n");
		break;
	case OP_STORE:
		GUEST_LOOP(args, "str	w12, [x10]\n");
		break;
	case OP_LOAD:
		GUEST_LOOP(args, "ldr	w0, [x10]\n");
		break;
	}
}

static void guest_code(void)
{
	for (;;) {
		u64 start = timer_get_cntct(VIRTUAL);

		guest_batch(&guest_args);
		GUEST_SYNC(timer_get_cntct(VIRTUAL) - start);
	}
}

/* A VM, and what serves the accesses of its vCPU 0 that reach the VMM. */
struct bench {
	struct kvm_vm *vm;
	struct kvm_vcpu *vcpus[VCF_MAX_VCPUS + 1];
	u32 nr_pages;		/* of the device, one for each vCPU */
	int dev_fd;
	void *regs;		/* the device's registers, while they are a memslot */
	void (*serve)(struct bench *b, struct kvm_run *run);
};

static const char *results_dir;
static double empty_loop;
static const char cur_freq_path[] = "/sys/devices/system/cpu/cpu0/cpufreq/scaling_cur_freq";

static void bench_init(struct bench *b, u32 nr_vcpus)
{
	memset(b, 0, sizeof(*b));
	b->nr_pages = nr_vcpus;
	b->dev_fd = -1;
	b->vm = vm_create_with_vcpus(nr_vcpus, guest_code, b->vcpus);
	virt_map(b->vm, DEV_GPA, DEV_GPA, VCF_MAX_VCPUS);
	virt_map(b->vm, IOEVENTFD_GPA, IOEVENTFD_GPA, 1);
	virt_map(b->vm, USER_GPA, USER_GPA, 1);
}

static size_t bench_regs_size(struct bench *b)
{
	return align_up(b->nr_pages * VCF_PAGE_SIZE, getpagesize());
}

static void bench_set_slot(struct bench *b, void *regs)
{
	vm_set_user_memory_region(b->vm, DEV_SLOT, KVM_MEM_READONLY, DEV_GPA,
				  regs ? bench_regs_size(b) : 0, regs);
}

/* Give the guest the device's registers as memory. */
static void bench_share_regs(struct bench *b)
{
	b->regs = kvm_mmap(bench_regs_size(b), PROT_READ, MAP_SHARED, b->dev_fd);
	bench_set_slot(b, b->regs);
}

static void bench_close_device(struct bench *b)
{
	if (b->regs) {
		bench_set_slot(b, NULL);
		kvm_munmap(b->regs, bench_regs_size(b));
		b->regs = NULL;
	}
	if (b->dev_fd >= 0)
		close(b->dev_fd);
	b->dev_fd = -1;
}

/* One domain; a perf value is a capacity. */
static void bench_open_device(struct bench *b, u32 flags, u32 first_vcpu)
{
	struct vcf_args args;
	u32 i;

	bench_close_device(b);
	vcf_args_init(&args, b->nr_pages, flags);
	args.create.gpa = DEV_GPA;
	args.domain[0].nr_perf = 1;
	args.domain[0].perf[0] = PERF_MAX;
	for (i = 0; i < b->nr_pages; i++)
		args.page[i].vcpu_id = first_vcpu + i;
	b->dev_fd = vcf_create(b->vm, &args);
}

static void bench_free(struct bench *b)
{
	bench_close_device(b);
	kvm_vm_free(b->vm);
}

static void guest_args_set(struct bench *b, enum guest_op op, u64 addr, u32 toggle,
			   u64 n)
{
	struct guest_args *args = addr_gva2hva(b->vm, (gva_t)&guest_args);

	*args = (struct guest_args) {
		.op = op,
		.n = n,
		.addr = addr,
		.value = PERF_LOW,
		.toggle = toggle,
	};
}

/* Run vCPU 0 until its batch is over: the ticks it took. */
static u64 run_batch(struct bench *b)
{
	struct kvm_vcpu *vcpu = b->vcpus[0];
	struct ucall uc;

	for (;;) {
		vcpu_run(vcpu);
		if (vcpu->run->exit_reason == KVM_EXIT_MMIO &&
		    vcpu->run->mmio.phys_addr == USER_GPA) {
			if (b->serve)
				b->serve(b, vcpu->run);
			continue;
		}
		TEST_ASSERT(get_ucall(vcpu, &uc) == UCALL_SYNC, "Unexpected exit: %s",
			    exit_reason_str(vcpu->run->exit_reason));
		return uc.args[1];
	}
}

/* Instructions for one access, with the loop. */
static double measure(struct bench *b, enum guest_op op, u64 addr, u32 toggle, u64 n)
{
	static double insns_per_tick;
	u64 ticks, best = UINT64_MAX;
	int i;

	if (!insns_per_tick)
		insns_per_tick = (double)NSEC_PER_SEC / timer_get_cntfrq();

	guest_args_set(b, op, addr, toggle, n);
	for (i = 0; i < NR_BATCHES; i++) {
		ticks = run_batch(b);
		if (i && ticks < best)
			best = ticks;
	}

	return best * insns_per_tick / n;
}

static void serve_nothing(struct bench *b, struct kvm_run *run)
{
}

/* A VMM without this device: the request becomes both clamps of its thread. */
static void serve_set_perf(struct bench *b, struct kvm_run *run)
{
	u32 util = *(u32 *)run->mmio.data * 1024 / PERF_MAX;
	struct sched_attr attr = {
		.size = sizeof(attr),
		.sched_flags = SCHED_FLAG_KEEP_ALL | SCHED_FLAG_UTIL_CLAMP,
		.sched_util_min = util,
		.sched_util_max = util,
	};

	TEST_ASSERT(!syscall(SYS_sched_setattr, 0, &attr, 0), "sched_setattr");
}

/* A VMM without this device: the frequency is what sysfs says it is. */
static void serve_cur_perf(struct bench *b, struct kvm_run *run)
{
	char buf[32];
	ssize_t len;
	int fd;

	fd = open(cur_freq_path, O_RDONLY);
	TEST_ASSERT(fd >= 0, "Cannot open %s", cur_freq_path);
	len = read(fd, buf, sizeof(buf) - 1);
	TEST_ASSERT(len > 0, "Cannot read %s", cur_freq_path);
	close(fd);
	buf[len] = 0;
	*(u32 *)run->mmio.data = strtoul(buf, NULL, 10) / 1000;
}

static void add_ioeventfd(struct bench *b)
{
	struct kvm_ioeventfd ioeventfd = {
		.addr = IOEVENTFD_GPA,
		.len = 4,
		.fd = eventfd(0, EFD_CLOEXEC),
	};

	TEST_ASSERT(ioeventfd.fd >= 0, "eventfd");
	vm_ioctl(b->vm, KVM_IOEVENTFD, &ioeventfd);
}

/* A host without frequencies gets some; no governor is at work before. */
static void load_cpufreq(struct bench *b)
{
	TEST_ASSERT(access(cur_freq_path, R_OK) == 0 || vcf_load_module("test_cpufreq", ""),
		    "user_cur_perf needs a cpufreq driver, and there is no test_cpufreq.ko");
}

static void need_hint_min(struct bench *b)
{
	bench_open_device(b, KVM_VIRT_CPUFREQ_HINT_MIN, 0);
}

static void need_slot(struct bench *b)
{
	need_hint_min(b);
	bench_share_regs(b);
}

static void need_hint_minmax(struct bench *b)
{
	bench_open_device(b, KVM_VIRT_CPUFREQ_HINT_MIN | KVM_VIRT_CPUFREQ_HINT_MAX, 0);
}

#define TOGGLE	(PERF_LOW ^ PERF_HIGH)

/* In this order: the device and its slot stay, cpufreq comes last. */
static const struct bench_case {
	const char *path;
	void (*prepare)(struct bench *b);
	enum guest_op op;
	u64 addr;
	u32 toggle;
	void (*serve)(struct bench *b, struct kvm_run *run);
	u32 n;
	bool without_device;
} cases[] = {
	{ "empty", need_hint_min, OP_EMPTY, 0, 0, NULL, 200, true },
	{ "hypercall", NULL, OP_HYPERCALL, 0, 0, NULL, 200, true },
	{ "ioeventfd", NULL, OP_STORE, IOEVENTFD_GPA, TOGGLE, NULL, 200, true },
	{ "vgic_load", NULL, OP_LOAD, GICD_BASE_GPA + GICD_TYPER, 0, NULL, 200, true },
	{ "set_perf_same", NULL, OP_STORE, DEV_GPA + REG_SET_PERF, 0, NULL, 200 },
	{ "set_perf_changed", NULL, OP_STORE, DEV_GPA + REG_SET_PERF, TOGGLE, NULL, 200 },
	{ "set_perf_changed_minmax", need_hint_minmax, OP_STORE, DEV_GPA + REG_SET_PERF,
	  TOGGLE, NULL, 200 },
	{ "cur_perf_exit", need_hint_min, OP_LOAD, DEV_GPA + REG_CUR_PERF, 0, NULL, 200 },
	{ "cur_perf_shared", need_slot, OP_LOAD, DEV_GPA + REG_CUR_PERF, 0, NULL, 200 },
	{ "set_perf_changed_slot", NULL, OP_STORE, DEV_GPA + REG_SET_PERF, TOGGLE, NULL, 200 },
	{ "user_null", need_hint_min, OP_STORE, USER_GPA, TOGGLE, serve_nothing, 100, true },
	{ "user_set_perf", NULL, OP_STORE, USER_GPA, TOGGLE, serve_set_perf, 100 },
	{ "user_cur_perf", load_cpufreq, OP_LOAD, USER_GPA, 0, serve_cur_perf, 50 },
};

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

static void bench_exit_cost(bool with_device)
{
	double insns[ARRAY_SIZE(cases)], ioeventfd = 0;
	struct bench b;
	FILE *f;
	u32 i;

	bench_init(&b, 1);
	add_ioeventfd(&b);

	for (i = 0; i < ARRAY_SIZE(cases); i++) {
		const struct bench_case *c = &cases[i];

		if (!with_device && !c->without_device)
			continue;
		if (with_device && c->prepare)
			c->prepare(&b);
		b.serve = c->serve;
		insns[i] = measure(&b, c->op, c->addr, c->toggle, c->n);
		if (c->op == OP_EMPTY)
			empty_loop = insns[i];
		else
			insns[i] -= empty_loop;
		if (c->op == OP_STORE && c->addr == IOEVENTFD_GPA)
			ioeventfd = insns[i];
	}
	bench_free(&b);

	f = open_results("exit-cost.csv",
			 "path,instructions,ratio_to_ioeventfd");
	for (i = 0; i < ARRAY_SIZE(cases); i++) {
		if (!with_device && !cases[i].without_device)
			continue;
		fprintf(f, "%s,%.0f,%.3f\n", cases[i].path, insns[i], insns[i] / ioeventfd);
		ksft_test_result_pass("%-24s %8.0f instructions, %6.3f x ioeventfd\n",
				      cases[i].path, insns[i], insns[i] / ioeventfd);
	}
	fclose(f);
}

/* What the entry hook adds to an exit that has nothing to do with the device. */
static void bench_entry_cost(void)
{
	struct bench b, other;
	double none, beside, with, no_hint;
	FILE *f;

	bench_init(&b, 1);
	bench_init(&other, 1);

	empty_loop = measure(&b, OP_EMPTY, 0, 0, 200);
	none = measure(&b, OP_HYPERCALL, 0, 0, 200);
	bench_open_device(&other, KVM_VIRT_CPUFREQ_HINT_MIN, 0);
	beside = measure(&b, OP_HYPERCALL, 0, 0, 200);
	bench_open_device(&b, KVM_VIRT_CPUFREQ_HINT_MIN, 0);
	with = measure(&b, OP_HYPERCALL, 0, 0, 200);
	/* Nobody applies requests, and there has been one. */
	bench_open_device(&b, 0, 0);
	measure(&b, OP_STORE, DEV_GPA + REG_SET_PERF, 0, 1);
	no_hint = measure(&b, OP_HYPERCALL, 0, 0, 200);

	bench_free(&other);
	bench_free(&b);

	f = open_results("entry-cost.csv", "device,hypercall,more");
	fprintf(f, "none,%.0f,0\n", none - empty_loop);
	fprintf(f, "other_vm,%.0f,%.0f\n", beside - empty_loop, beside - none);
	fprintf(f, "same_vm,%.0f,%.0f\n", with - empty_loop, with - none);
	fprintf(f, "same_vm_no_hint,%.0f,%.0f\n", no_hint - empty_loop, no_hint - none);
	fclose(f);
	ksft_test_result_pass("hypercall %.0f, other VM +%.0f, this +%.0f, no hints +%.0f\n",
			      none - empty_loop, beside - none, with - none,
			      no_hint - none);
}

static void serve_set_regs(struct bench *b, struct kvm_run *run)
{
	struct kvm_virt_cpufreq_regs regs = {
		.set_perf = *(u32 *)run->mmio.data,
	};

	TEST_ASSERT(!ioctl(b->dev_fd, KVM_VIRT_CPUFREQ_SET_REGS, &regs), "SET_REGS");
}

/* What it costs vCPU 0 that the VMM changes the request while it is out there. */
static double measure_set_regs(struct bench *b, u32 first_vcpu)
{
	double insns;

	bench_open_device(b, KVM_VIRT_CPUFREQ_HINT_MIN, first_vcpu);
	b->serve = serve_set_regs;
	insns = measure(b, OP_STORE, USER_GPA, TOGGLE, 100);
	return insns - measure(b, OP_STORE, USER_GPA, 0, 100);
}

/*
 * How a changed request grows with its domain. For the vCPU that stores, while no
 * other is inside the guest; and for each of the others, what applying the request
 * adds to its next entry: what a vCPU of the domain pays for a change by somebody
 * else, beyond one that is not in the domain.
 */
static void bench_domain_cost(FILE *f, u32 nr_pages)
{
	double changed, other;
	struct bench b;

	bench_init(&b, nr_pages + 1);
	b.nr_pages = nr_pages;
	bench_open_device(&b, KVM_VIRT_CPUFREQ_HINT_MIN, 0);
	changed = measure(&b, OP_STORE, DEV_GPA + REG_SET_PERF, TOGGLE, 200) - empty_loop;
	other = measure_set_regs(&b, 0) - measure_set_regs(&b, 1);
	bench_free(&b);

	fprintf(f, "%u,%.0f,%.0f\n", nr_pages, changed, other);
	ksft_test_result_pass("domain of %u: the storing vCPU %.0f, each other +%.0f\n",
			      nr_pages, changed, other);
}

static void help(const char *name)
{
	printf("usage: %s [-n] [-o DIR]\n"
	       "  -n, --no-device   measure only what needs no device\n"
	       "  -o, --output DIR  where the tables go (default: .)\n", name);
	exit(KSFT_FAIL);
}

int main(int argc, char **argv)
{
	static const struct option options[] = {
		{ "no-device", no_argument, NULL, 'n' },
		{ "output", required_argument, NULL, 'o' },
		{ }
	};
	bool with_device = true;
	u32 i, nr = 0;
	FILE *f;
	int c;

	results_dir = ".";
	while ((c = getopt_long(argc, argv, "no:", options, NULL)) != -1) {
		switch (c) {
		case 'n':
			with_device = false;
			break;
		case 'o':
			results_dir = optarg;
			break;
		default:
			help(argv[0]);
		}
	}

	ksft_print_header();
	if (with_device)
		TEST_REQUIRE(kvm_check_cap(KVM_CAP_VIRT_CPUFREQ) & KVM_VIRT_CPUFREQ_HINT_MIN);

	for (i = 0; i < ARRAY_SIZE(cases); i++)
		nr += with_device || cases[i].without_device;
	ksft_set_plan(nr + (with_device ? 5 : 0));

	if (with_device) {
		bench_entry_cost();
		f = open_results("domain-cost.csv", "vcpus,storing,others");
		for (i = 1; i <= VCF_MAX_VCPUS; i *= 2)
			bench_domain_cost(f, i);
		fclose(f);
	}
	/* Last, because it leaves the thread with clamps and the host with cpufreq. */
	bench_exit_cost(with_device);

	ksft_finished();
}
