// SPDX-License-Identifier: GPL-2.0-only
/*
 * What the tests of KVM_CREATE_VIRT_CPUFREQ share
 */
#include <ctype.h>
#include <dirent.h>
#include <fcntl.h>
#include <limits.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>

#include <linux/sched.h>
#include <linux/sched/types.h>

#include "processor.h"
#include "ucall_common.h"
#include "virt_cpufreq.h"

#include <cgroup_util.h>

enum guest_op {
	GUEST_NOP,
	GUEST_LOAD,
	GUEST_STORE,
	GUEST_SET_AND_GET,
	GUEST_CALL,
	GUEST_SPIN,
	GUEST_STORE_FOREVER,
	GUEST_SLEEP,
};

/* A command to the vCPU; each VM has its own copy of these. */
struct guest_cmd {
	u32 op;
	u32 size;
	u64 addr;
	u64 val;
	struct vcf_moment moment;
	u32 running;
	u32 stop;
};

static struct guest_cmd guest_cmds[VCF_MAX_VCPUS];

#define VCF_SLOT	100	/* the library's own memslots are the first ones */

#define TRACING		"/sys/kernel/tracing/"
#define PROBE		"virt_cpufreq_test/probe"

static char trace[256 * 1024];

#ifdef __aarch64__
static u64 guest_counter(void)
{
	u64 val;

	isb();
	val = read_sysreg(cntvct_el0);
	isb();
	return val;
}

/*
 * With these instructions the CPU says what is accessed, and KVM can serve it. For C the
 * compiler may take others, which write back the address or load two registers.
 */
static u64 guest_load(u64 addr, u32 size)
{
	u32 val;

	switch (size) {
	case 1:
		asm volatile("ldrb %w0, [%1]" : "=r"(val) : "r"(addr) : "memory");
		return val;
	case 2:
		asm volatile("ldrh %w0, [%1]" : "=r"(val) : "r"(addr) : "memory");
		return val;
	case 4:
		return readl_relaxed((void *)addr);
	default:
		return readq_relaxed((void *)addr);
	}
}

static void guest_store(u64 addr, u32 size, u64 val)
{
	switch (size) {
	case 1:
		asm volatile("strb %w0, [%1]" : : "r"(val), "r"(addr) : "memory");
		break;
	case 2:
		asm volatile("strh %w0, [%1]" : : "r"(val), "r"(addr) : "memory");
		break;
	case 4:
		writel_relaxed(val, (void *)addr);
		break;
	default:
		writeq_relaxed(val, (void *)addr);
		break;
	}
}

/* The guest's counter is the host's. */
static void vcf_vm_arch_init(struct kvm_vm *vm)
{
	struct kvm_arm_counter_offset offset = { .counter_offset = 0 };

	if (vm_check_cap(vm, KVM_CAP_COUNTER_OFFSET))
		vm_ioctl(vm, KVM_ARM_SET_COUNTER_OFFSET, &offset);
}

bool vcf_host_has_fwb(struct kvm_vcpu *vcpu)
{
	u64 mmfr2 = vcpu_get_reg(vcpu, KVM_ARM64_SYS_REG(SYS_ID_AA64MMFR2_EL1));

	return SYS_FIELD_GET(ID_AA64MMFR2_EL1, FWB, mmfr2);
}
#else
#error "guest_counter() and friends are missing for this architecture"
#endif

static void guest_set_and_get_perf(struct guest_cmd *cmd)
{
	u64 set = cmd->addr + REG_SET_PERF, cur = cmd->addr + REG_CUR_PERF;
	u32 perf = cmd->val;

	cmd->moment.before = guest_counter();
	writel_relaxed(perf, (void *)set);
	cmd->moment.after = guest_counter();
	cmd->moment.cur_perf = readl_relaxed((void *)cur);
}

static void guest_call(struct guest_cmd *cmd)
{
	vcf_guest_fn fn = (void *)cmd->addr;

	WRITE_ONCE(cmd->running, 1);
	fn((void *)cmd->val, &cmd->stop);
}

static void guest_spin(struct guest_cmd *cmd)
{
	WRITE_ONCE(cmd->running, 1);
	while (!READ_ONCE(cmd->stop))
		;
}

static void guest_store_forever(struct guest_cmd *cmd)
{
	u32 perf = 0;

	WRITE_ONCE(cmd->running, 1);
	while (!READ_ONCE(cmd->stop)) {
		writel_relaxed(perf, (void *)cmd->addr);
		perf = (perf + 384) % 1025;
	}
}

/* The instruction is a hint: with an interrupt of the host pending it does nothing. */
static void guest_sleep(struct guest_cmd *cmd)
{
	WRITE_ONCE(cmd->running, 1);
	while (!READ_ONCE(cmd->stop))
		wfi();
}

static void guest_code(struct guest_cmd *cmd)
{
	for (;;) {
		switch (READ_ONCE(cmd->op)) {
		case GUEST_LOAD:
			cmd->val = guest_load(cmd->addr, cmd->size);
			break;
		case GUEST_STORE:
			guest_store(cmd->addr, cmd->size, cmd->val);
			break;
		case GUEST_SET_AND_GET:
			guest_set_and_get_perf(cmd);
			break;
		case GUEST_CALL:
			guest_call(cmd);
			break;
		case GUEST_SPIN:
			guest_spin(cmd);
			break;
		case GUEST_STORE_FOREVER:
			guest_store_forever(cmd);
			break;
		case GUEST_SLEEP:
			guest_sleep(cmd);
			break;
		}

		GUEST_SYNC(0);
	}
}

static struct guest_cmd *vcpu_cmd(struct kvm_vcpu *vcpu)
{
	return addr_gva2hva(vcpu->vm, (gva_t)&guest_cmds[vcpu->id]);
}

struct kvm_vm *vcf_vm_create(u32 nr_vcpus, struct kvm_vcpu *vcpus[])
{
	struct kvm_vm *vm;
	u32 i;

	TEST_ASSERT(nr_vcpus <= VCF_MAX_VCPUS, "Too many vCPUs: %u", nr_vcpus);

	vm = vm_create_with_vcpus(nr_vcpus, guest_code, vcpus);
	vcf_vm_arch_init(vm);
	virt_map(vm, VCF_GPA, VCF_GPA, VCF_SIZE / vm->page_size);
	for (i = 0; i < nr_vcpus; i++)
		vcpu_args_set(vcpus[i], 1, &guest_cmds[i]);

	return vm;
}

void vcf_args_init(struct vcf_args *args, u32 nr_pages, u32 flags)
{
	u32 i, j;

	TEST_ASSERT(nr_pages <= VCF_MAX_VCPUS, "Too many pages: %u", nr_pages);

	memset(args, 0, sizeof(*args));
	args->create.gpa = VCF_GPA;
	args->create.nr_domains = 1;
	args->create.nr_vcpus = nr_pages;
	args->create.flags = flags;
	vcf_args_bind(args);

	for (i = 0; i < VCF_MAX_VCPUS; i++) {
		args->page[i].vcpu_id = i;
		args->domain[i].capacity = 1024;
		args->domain[i].nr_perf = 8;
		for (j = 0; j < 8; j++)
			args->domain[i].perf[j] = (j + 1) * 128;
	}
}

void vcf_args_bind(struct vcf_args *args)
{
	args->create.domains = (u64)(ulong)args->domain;
	args->create.vcpus = (u64)(ulong)args->page;
}

void vcf_args_set_domain(struct vcf_args *args, u32 page, u32 domain)
{
	TEST_ASSERT(domain < VCF_MAX_VCPUS, "Too many domains: %u", domain);

	args->page[page].domain = domain;
	args->create.nr_domains = max(args->create.nr_domains, domain + 1);
}

int __vcf_create(struct kvm_vm *vm, struct vcf_args *args)
{
	int fd = __vm_ioctl(vm, KVM_CREATE_VIRT_CPUFREQ, &args->create);

	return fd < 0 ? -errno : fd;
}

int vcf_create(struct kvm_vm *vm, struct vcf_args *args)
{
	int fd = __vcf_create(vm, args);

	TEST_ASSERT(fd >= 0, "KVM_CREATE_VIRT_CPUFREQ failed: %s", strerror(-fd));
	return fd;
}

int vcf_create_default(struct kvm_vm *vm, u32 nr_pages, u32 flags)
{
	struct vcf_args args;

	vcf_args_init(&args, nr_pages, flags);
	return vcf_create(vm, &args);
}

int __vcf_set_regs(int fd, u32 index, u32 set_perf, u32 perftbl_sel)
{
	struct kvm_virt_cpufreq_regs regs = {
		.index = index,
		.set_perf = set_perf,
		.perftbl_sel = perftbl_sel,
	};

	return ioctl(fd, KVM_VIRT_CPUFREQ_SET_REGS, &regs) ? -errno : 0;
}

void vcf_set_regs(int fd, u32 index, u32 set_perf, u32 perftbl_sel)
{
	int r = __vcf_set_regs(fd, index, set_perf, perftbl_sel);

	TEST_ASSERT(!r, "KVM_VIRT_CPUFREQ_SET_REGS failed: %s", strerror(-r));
}

size_t vcf_map_size(u32 nr_pages)
{
	return align_up(nr_pages * VCF_PAGE_SIZE, getpagesize());
}

const void *vcf_map(int fd, u32 nr_pages)
{
	return kvm_mmap(vcf_map_size(nr_pages), PROT_READ, MAP_SHARED, fd);
}

void vcf_unmap(const void *map, u32 nr_pages)
{
	kvm_munmap((void *)map, vcf_map_size(nr_pages));
}

void vcf_slot_add(struct kvm_vm *vm, const void *map, u32 nr_pages)
{
	vm_set_user_memory_region(vm, VCF_SLOT, KVM_MEM_READONLY, VCF_GPA,
				  vcf_map_size(nr_pages), (void *)map);
}

void vcf_slot_remove(struct kvm_vm *vm)
{
	vm_set_user_memory_region(vm, VCF_SLOT, 0, VCF_GPA, 0, NULL);
}

static bool vcpu_run_cmd(struct kvm_vcpu *vcpu)
{
	struct ucall uc;
	int r;

	r = _vcpu_run(vcpu);
	TEST_ASSERT(!r, KVM_IOCTL_ERROR(KVM_RUN, r));

	switch (get_ucall(vcpu, &uc)) {
	case UCALL_SYNC:
		return true;
	case UCALL_ABORT:
		REPORT_GUEST_ASSERT(uc);
		return false;
	default:
		return false;
	}
}

static bool vcpu_do(struct kvm_vcpu *vcpu, struct guest_cmd cmd)
{
	*vcpu_cmd(vcpu) = cmd;
	return vcpu_run_cmd(vcpu);
}

static void vcpu_do_in_kernel(struct kvm_vcpu *vcpu, struct guest_cmd cmd)
{
	TEST_ASSERT(vcpu_do(vcpu, cmd), "Guest access to %#lx exited: %s",
		    (ulong)cmd.addr, exit_reason_str(vcpu->run->exit_reason));
}

bool __vcf_load(struct kvm_vcpu *vcpu, gpa_t gpa, u32 size, u64 *val)
{
	struct guest_cmd cmd = { .op = GUEST_LOAD, .size = size, .addr = gpa };
	bool done = vcpu_do(vcpu, cmd);

	*val = vcpu_cmd(vcpu)->val;
	return done;
}

bool __vcf_store(struct kvm_vcpu *vcpu, gpa_t gpa, u32 size, u64 val)
{
	struct guest_cmd cmd = { .op = GUEST_STORE, .size = size, .addr = gpa, .val = val };

	return vcpu_do(vcpu, cmd);
}

bool vcf_continue(struct kvm_vcpu *vcpu, u64 *val)
{
	bool done = vcpu_run_cmd(vcpu);

	if (val)
		*val = vcpu_cmd(vcpu)->val;
	return done;
}

u32 vcf_load(struct kvm_vcpu *vcpu, gpa_t gpa)
{
	struct guest_cmd cmd = { .op = GUEST_LOAD, .size = 4, .addr = gpa };

	vcpu_do_in_kernel(vcpu, cmd);
	return vcpu_cmd(vcpu)->val;
}

void vcf_store(struct kvm_vcpu *vcpu, gpa_t gpa, u32 val)
{
	struct guest_cmd cmd = { .op = GUEST_STORE, .size = 4, .addr = gpa, .val = val };

	vcpu_do_in_kernel(vcpu, cmd);
}

void vcf_set_perf(struct kvm_vcpu *vcpu, u32 page, u32 perf)
{
	vcf_store(vcpu, VCF_REG(page, REG_SET_PERF), perf);
}

void vcf_enter(struct kvm_vcpu *vcpu)
{
	struct guest_cmd cmd = { .op = GUEST_NOP };

	vcpu_do_in_kernel(vcpu, cmd);
}

struct vcf_moment vcf_set_and_get_perf(struct kvm_vcpu *vcpu, u32 page, u32 perf)
{
	struct guest_cmd cmd = {
		.op = GUEST_SET_AND_GET,
		.addr = VCF_REG(page, 0),
		.val = perf,
	};

	vcpu_do_in_kernel(vcpu, cmd);
	return vcpu_cmd(vcpu)->moment;
}

static struct guest_cmd call_cmd(vcf_guest_fn fn, void *arg)
{
	return (struct guest_cmd) {
		.op = GUEST_CALL,
		.addr = (ulong)fn,
		.val = (ulong)arg,
	};
}

void vcf_call(struct kvm_vcpu *vcpu, vcf_guest_fn fn, void *arg)
{
	vcpu_do_in_kernel(vcpu, call_cmd(fn, arg));
}

bool __vcf_call(struct kvm_vcpu *vcpu, vcf_guest_fn fn, void *arg)
{
	return vcpu_do(vcpu, call_cmd(fn, arg));
}

void vcf_spin(struct kvm_vcpu *vcpu)
{
	struct guest_cmd cmd = { .op = GUEST_SPIN };

	vcpu_do_in_kernel(vcpu, cmd);
}

void vcf_store_forever(struct kvm_vcpu *vcpu, u32 page)
{
	struct guest_cmd cmd = {
		.op = GUEST_STORE_FOREVER,
		.addr = VCF_REG(page, REG_SET_PERF),
	};

	vcpu_do_in_kernel(vcpu, cmd);
}

void vcf_wait_until_in_guest(struct kvm_vcpu *vcpu)
{
	TEST_ASSERT(VCF_WAIT_FOR(READ_ONCE(vcpu_cmd(vcpu)->running)),
		    "vCPU %u does not run", vcpu->id);
}

void vcf_stop(struct kvm_vcpu *vcpu)
{
	WRITE_ONCE(vcpu_cmd(vcpu)->stop, 1);
}

static void handle_sigusr1(int sig)
{
}

void vcf_sleep(struct kvm_vcpu *vcpu)
{
	struct guest_cmd cmd = { .op = GUEST_SLEEP };
	struct sigaction action = { .sa_handler = handle_sigusr1 };
	int r;

	sigaction(SIGUSR1, &action, NULL);
	*vcpu_cmd(vcpu) = cmd;
	r = __vcpu_run(vcpu);
	TEST_ASSERT(r == -1 && errno == EINTR, KVM_IOCTL_ERROR(KVM_RUN, r));
	vcf_stop(vcpu);
	TEST_ASSERT(vcpu_run_cmd(vcpu), "The guest does not go on");
}

static void *worker_main(void *arg)
{
	struct vcf_worker *worker = arg;

	worker->tid = vcf_gettid();
	sem_post(&worker->done);

	for (;;) {
		while (sem_wait(&worker->go))
			;
		if (!worker->fn)
			return NULL;
		worker->fn(worker->arg);
		sem_post(&worker->done);
	}
}

void vcf_worker_start(struct vcf_worker *worker)
{
	sem_init(&worker->go, 0, 0);
	sem_init(&worker->done, 0, 0);
	TEST_ASSERT(!pthread_create(&worker->thread, NULL, worker_main, worker),
		    "pthread_create() failed");
	vcf_worker_wait(worker);
}

void vcf_worker_post(struct vcf_worker *worker, void (*fn)(void *), void *arg)
{
	worker->fn = fn;
	worker->arg = arg;
	sem_post(&worker->go);
}

void vcf_worker_wait(struct vcf_worker *worker)
{
	while (sem_wait(&worker->done))
		TEST_ASSERT(errno == EINTR, "sem_wait() failed");
}

void vcf_worker_call(struct vcf_worker *worker, void (*fn)(void *), void *arg)
{
	vcf_worker_post(worker, fn, arg);
	vcf_worker_wait(worker);
}

void vcf_worker_stop(struct vcf_worker *worker)
{
	vcf_worker_post(worker, NULL, NULL);
	pthread_join(worker->thread, NULL);
}

struct set_perf_args {
	struct kvm_vcpu *vcpu;
	u32 page;
	u32 perf;
};

static void worker_set_perf(void *arg)
{
	struct set_perf_args *args = arg;

	vcf_set_perf(args->vcpu, args->page, args->perf);
}

void vcf_worker_set_perf(struct vcf_worker *worker, struct kvm_vcpu *vcpu,
			 u32 page, u32 perf)
{
	struct set_perf_args args = { vcpu, page, perf };

	vcf_worker_call(worker, worker_set_perf, &args);
}

static void worker_enter(void *vcpu)
{
	vcf_enter(vcpu);
}

void vcf_worker_enter(struct vcf_worker *worker, struct kvm_vcpu *vcpu)
{
	vcf_worker_call(worker, worker_enter, vcpu);
}

static void worker_spin(void *vcpu)
{
	vcf_spin(vcpu);
}

void vcf_worker_spin(struct vcf_worker *worker, struct kvm_vcpu *vcpu)
{
	vcpu_cmd(vcpu)->running = 0;
	vcf_worker_post(worker, worker_spin, vcpu);
	vcf_wait_until_in_guest(vcpu);
}

static void worker_store_forever(void *vcpu)
{
	vcf_store_forever(vcpu, 0);
}

void vcf_worker_store_forever(struct vcf_worker *worker, struct kvm_vcpu *vcpu)
{
	vcpu_cmd(vcpu)->running = 0;
	vcf_worker_post(worker, worker_store_forever, vcpu);
	vcf_wait_until_in_guest(vcpu);
}

void vcf_worker_stop_spin(struct vcf_worker *worker, struct kvm_vcpu *vcpu)
{
	vcf_stop(vcpu);
	vcf_worker_wait(worker);
}

static void worker_run_cmd(void *vcpu)
{
	TEST_ASSERT(vcpu_run_cmd(vcpu), "The guest's function exited");
}

static void worker_begin(struct vcf_worker *worker, struct kvm_vcpu *vcpu,
			 vcf_guest_fn fn, void *arg, void (*run)(void *vcpu))
{
	*vcpu_cmd(vcpu) = call_cmd(fn, arg);
	vcf_worker_post(worker, run, vcpu);
	vcf_wait_until_in_guest(vcpu);
}

void vcf_worker_begin(struct vcf_worker *worker, struct kvm_vcpu *vcpu,
		      vcf_guest_fn fn, void *arg)
{
	worker_begin(worker, vcpu, fn, arg, worker_run_cmd);
}

/* Would the kernel serve such an access? */
static bool is_register(u64 gpa, u32 size)
{
	return gpa - VCF_GPA < VCF_MAX_VCPUS * VCF_PAGE_SIZE && size == 4 && gpa % 4 == 0 &&
	       gpa % VCF_PAGE_SIZE < REG_END;
}

static void worker_run_hostile(void *arg)
{
	struct kvm_vcpu *vcpu = arg;
	struct kvm_run *run = vcpu->run;

	while (!vcpu_run_cmd(vcpu))
		TEST_ASSERT(run->exit_reason == KVM_EXIT_MMIO &&
			    !is_register(run->mmio.phys_addr, run->mmio.len),
			    "vCPU %u exits: %s, %u bytes at %#lx", vcpu->id,
			    exit_reason_str(run->exit_reason), run->mmio.len,
			    (ulong)run->mmio.phys_addr);
}

void vcf_worker_begin_hostile(struct vcf_worker *worker, struct kvm_vcpu *vcpu,
			      vcf_guest_fn fn, void *arg)
{
	worker_begin(worker, vcpu, fn, arg, worker_run_hostile);
}

static u64 storm_random(struct vcf_storm *storm)
{
	storm->random ^= storm->random << 13;
	storm->random ^= storm->random >> 7;
	storm->random ^= storm->random << 17;
	return storm->random;
}

void vcf_guest_storm(struct vcf_storm *storm)
{
	u64 random = storm_random(storm), val = storm_random(storm);
	u64 page = VCF_REG(random % (VCF_MAX_VCPUS + 1), 0);
	u32 offset = (random >> 12) % VCF_PAGE_SIZE;
	u32 size = 1 << (random >> 24) % 4;
	bool store = (random >> 26) % 2;

	switch ((random >> 27) % 4) {
	case 0:
		/* Anywhere, also across the page's end */
		break;
	case 1:
		offset %= REG_END + 8;
		break;
	case 2:
		offset = offset % (REG_END + 8) / 4 * 4;
		size = 4;
		break;
	case 3:
		offset = REG_SET_PERF;
		size = 4;
		break;
	}
	/* As random as the rest, or such as a table has */
	if ((random >> 29) % 2)
		val %= 2048;

	storm->nr_accesses++;
	if (store)
		guest_store(page + offset, size, val);
	else
		guest_load(page + offset, size);
	storm->nr_requests += store && offset == REG_SET_PERF &&
			      is_register(page + offset, size);
}

pid_t vcf_gettid(void)
{
	return syscall(SYS_gettid);
}

static u32 sched_value(const char *text, const char *name)
{
	const char *line = strstr(text, name);
	u32 val;

	TEST_ASSERT(line && sscanf(line + strlen(name), " : %u", &val) == 1,
		    "No '%s' in /proc/<tid>/sched", name + 1);
	return val;
}

bool __vcf_uclamp(pid_t tid, struct vcf_uclamp *uclamp)
{
	char path[64], text[16384];

	snprintf(path, sizeof(path), "/proc/%d/sched", tid);
	/* Empty if the thread exits meanwhile */
	if (!vcf_read_file(path, text, sizeof(text)) || !text[0])
		return false;

	uclamp->min = sched_value(text, "\nuclamp.min");
	uclamp->max = sched_value(text, "\nuclamp.max");
	uclamp->eff_min = sched_value(text, "\neffective uclamp.min");
	uclamp->eff_max = sched_value(text, "\neffective uclamp.max");
	uclamp->hint_min = sched_value(text, "\nhinted uclamp.min");
	uclamp->hint_max = sched_value(text, "\nhinted uclamp.max");
	return true;
}

struct vcf_uclamp vcf_uclamp(pid_t tid)
{
	struct vcf_uclamp uclamp;

	TEST_ASSERT(__vcf_uclamp(tid, &uclamp), "No thread %d", tid);
	return uclamp;
}

int vcf_set_uclamp(pid_t tid, int min, int max)
{
	struct sched_attr attr = {
		.size = sizeof(attr),
		.sched_flags = SCHED_FLAG_KEEP_ALL | SCHED_FLAG_UTIL_CLAMP,
		.sched_util_min = min,
		.sched_util_max = max,
	};

	return syscall(SYS_sched_setattr, tid, &attr, 0) ? -errno : 0;
}

bool vcf_read_file(const char *path, char *buf, size_t size)
{
	size_t len = 0;
	ssize_t n;
	int fd;

	fd = open(path, O_RDONLY);
	if (fd < 0)
		return false;
	while ((n = read(fd, buf + len, size - 1 - len)) > 0)
		len += n;
	close(fd);

	if (len && buf[len - 1] == '\n')
		len--;
	buf[len] = 0;
	return true;
}

void vcf_write_file(const char *path, const char *fmt, ...)
{
	char text[256];
	va_list ap;
	int fd, n;

	va_start(ap, fmt);
	n = vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);

	fd = open(path, O_WRONLY);
	TEST_ASSERT(fd >= 0 && write(fd, text, n) == n, "Cannot write '%s' to %s", text, path);
	close(fd);
}

void vcf_switch_on(void)
{
	if (!access(VCF_MODULE_PARAM, W_OK))
		vcf_write_file(VCF_MODULE_PARAM, "Y");
}

bool vcf_host_has_freqs(void)
{
	return !access(VCF_CPUFREQ "policy0", F_OK);
}

bool vcf_cgroup_name(char *path, size_t size, const char *name)
{
	char root[PATH_MAX], *full;

	if (cg_find_unified_root(root, sizeof(root), NULL))
		return false;
	/* Fails when that is so already, or when it cannot be. */
	cg_write(root, "cgroup.subtree_control", "+cpu");
	full = cg_name(root, name);
	snprintf(path, size, "%s", full);
	free(full);
	return true;
}

int vcf_nr_cpus(void)
{
	cpu_set_t cpus;

	TEST_ASSERT(!sched_getaffinity(0, sizeof(cpus), &cpus), "sched_getaffinity() failed");
	return CPU_COUNT(&cpus);
}

void vcf_write_policy(int cpu, const char *file, const char *text)
{
	char path[128];

	snprintf(path, sizeof(path), VCF_CPUFREQ "policy%d/%s", cpu, file);
	/* All CPUs have the policy of the first one if it is shared. */
	if (!cpu || !access(path, W_OK))
		vcf_write_file(path, "%s", text);
}

void vcf_set_governor(int nr_cpus, const char *governor)
{
	int cpu;

	for (cpu = 0; cpu < nr_cpus; cpu++)
		vcf_write_policy(cpu, "scaling_governor", governor);
}

void vcf_pin(pid_t tid, int cpu)
{
	cpu_set_t cpus;

	CPU_ZERO(&cpus);
	CPU_SET(cpu, &cpus);
	TEST_ASSERT(!sched_setaffinity(tid, sizeof(cpus), &cpus), "No CPU %d for the thread", cpu);
}

/* The event is enabled in an instance of its own, so that nobody else is disturbed. */
bool vcf_trace_begin(const char *event)
{
	char path[256];

	mkdir(VCF_TRACING, 0700);
	snprintf(path, sizeof(path), VCF_TRACING "events/%s/enable", event);
	if (access(path, W_OK))
		return false;
	vcf_trace_forget();
	vcf_write_file(path, "1");
	return true;
}

bool vcf_trace_begin_probe(const char *probe)
{
	if (access(TRACING "kprobe_events", W_OK))
		return false;
	/* A test that was killed may have left one behind. */
	vcf_trace_end();
	vcf_write_file(TRACING "kprobe_events", "p:" PROBE " %s\n", probe);
	TEST_ASSERT(vcf_trace_begin(PROBE), "No event " PROBE);
	return true;
}

void vcf_trace_forget(void)
{
	int fd = open(VCF_TRACING "trace", O_WRONLY | O_TRUNC);

	TEST_ASSERT(fd >= 0, "No trace");
	close(fd);
}

void vcf_trace_end(void)
{
	rmdir(VCF_TRACING);
	if (!access(TRACING "events/" PROBE, F_OK))
		vcf_write_file(TRACING "kprobe_events", "-:" PROBE "\n");
}

char *vcf_trace_first(void)
{
	TEST_ASSERT(vcf_read_file(VCF_TRACING "trace", trace, sizeof(trace)), "No trace");
	return strtok(trace, "\n");
}

char *vcf_trace_next(void)
{
	return strtok(NULL, "\n");
}

int vcf_trace_count(pid_t tid, const char *text)
{
	char who[32], *line;
	int n = 0;

	/* Lines begin with comm-tid. */
	snprintf(who, sizeof(who), "-%d ", tid);
	for (line = vcf_trace_first(); line; line = vcf_trace_next())
		n += strstr(line, who) && strstr(line, text);

	return n;
}

bool vcf_cleans_begin(void)
{
	return vcf_trace_begin_probe("dcache_clean_poc_nosync start=%x0 end=%x1 val=+0(%x0):x32");
}

int vcf_cleans(struct vcf_clean cleans[], int max)
{
	u64 start, end;
	char *line;
	u32 val;
	int n = 0;

	for (line = vcf_trace_first(); line && n < max; line = vcf_trace_next()) {
		line = strstr(line, " start=");
		if (line && sscanf(line, " start=%lx end=%lx val=%x", &start, &end, &val) == 3 &&
		    end == start + sizeof(val))
			cleans[n++] = (struct vcf_clean) { start, val };
	}
	vcf_trace_forget();

	return n;
}

/* Test modules are in test_modules, beside the test program. */
bool vcf_load_module(const char *name, const char *params)
{
	char path[512];
	ssize_t len;
	int fd, r;

	len = readlink("/proc/self/exe", path, sizeof(path));
	TEST_ASSERT(len > 0 && len < sizeof(path), "Cannot read /proc/self/exe");
	while (path[len - 1] != '/')
		len--;
	snprintf(path + len, sizeof(path) - len, "test_modules/%s.ko", name);

	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return false;
	/* A test that was killed may have left it behind. */
	syscall(SYS_delete_module, name, O_NONBLOCK);
	r = syscall(SYS_finit_module, fd, params, 0);
	TEST_ASSERT(!r, "Cannot load %s", path);
	close(fd);
	return true;
}

void vcf_unload_module(const char *name)
{
	int r = syscall(SYS_delete_module, name, O_NONBLOCK);

	TEST_ASSERT(!r, "Cannot unload %s", name);
}

int vcf_eventfd_id(int fd)
{
	int id = -1;
	char path[64], text[1024];
	const char *line;

	snprintf(path, sizeof(path), "/proc/self/fdinfo/%d", fd);
	TEST_ASSERT(vcf_read_file(path, text, sizeof(text)), "No %s", path);
	line = strstr(text, "eventfd-id:");
	TEST_ASSERT(line && sscanf(line, "eventfd-id: %d", &id) == 1, "No eventfd-id");
	return id;
}

int vcf_next_eventfd_id(void)
{
	int fd = kvm_new_eventfd(), id = vcf_eventfd_id(fd);

	close(fd);
	return id;
}

int vcf_count_entries(const char *path)
{
	DIR *dir = opendir(path);
	struct dirent *entry;
	int n = 0;

	if (!dir)
		return 0;
	while ((entry = readdir(dir)))
		n += !!isdigit(entry->d_name[0]);
	closedir(dir);
	return n;
}

int vcf_nr_vms(pid_t pid)
{
	DIR *dir = opendir("/sys/kernel/debug/kvm");
	struct dirent *entry;
	int n = 0, creator, fd;

	if (!dir)
		return 0;
	while ((entry = readdir(dir)))
		n += sscanf(entry->d_name, "%d-%d", &creator, &fd) == 2 && (!pid || pid == creator);
	closedir(dir);
	return n;
}

int vcf_nr_areas(void)
{
	char line[512];
	FILE *file = fopen("/proc/vmallocinfo", "r");
	int n = 0;

	if (!file)
		return -1;
	while (fgets(line, sizeof(line), file))
		n += !!strstr(line, "virt_cpufreq");
	fclose(file);
	return n;
}

/*
 * With VCF_HOLD_VM=1 in the environment a VM is there as long as the program. The first VM of
 * a host has KVM patch the scheduler, as has the end of the last one: emulated CPUs that run
 * in parallel may execute the old code then, and skip a preemption notifier.
 */
static void __attribute((constructor)) vcf_hold_vm(void)
{
	int kvm;

	if (!getenv("VCF_HOLD_VM"))
		return;
	kvm = open_kvm_dev_path_or_exit();
	TEST_ASSERT(ioctl(kvm, KVM_CREATE_VM, 0) >= 0, "KVM_CREATE_VM failed");
	close(kvm);
}
