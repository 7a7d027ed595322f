/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What the tests of KVM_CREATE_VIRT_CPUFREQ share
 */
#ifndef SELFTEST_KVM_VIRT_CPUFREQ_H
#define SELFTEST_KVM_VIRT_CPUFREQ_H

#include <pthread.h>
#include <semaphore.h>
#include <sys/types.h>
#include <time.h>

#include <linux/kvm.h>
#include <linux/kvm_virt_cpufreq.h>

#include "kvm_util.h"

/* The harness's 30 s are too few for a test on a slow host, emulated and debugging. */
#undef TEST_TIMEOUT_DEFAULT
#define TEST_TIMEOUT_DEFAULT	300

#define VCF_MAX_VCPUS	8
#define VCF_PAGE_SIZE	0x1000
#define VCF_MAX_PERF	64

/* Where the register pages are, for the guest at the same virtual address. */
#define VCF_GPA		0x10000000UL
#define VCF_SIZE	(16 * VCF_PAGE_SIZE)

#define REG_CUR_PERF	0x00
#define REG_SET_PERF	0x04
#define REG_PERFTBL_LEN	0x08
#define REG_PERFTBL_SEL	0x0c
#define REG_PERFTBL_RD	0x10
#define REG_PERF_DOMAIN	0x14
#define REG_END		0x18

#define VCF_REG(page, reg)	(VCF_GPA + (page) * VCF_PAGE_SIZE + (reg))

#define VCF_CPUFREQ	"/sys/devices/system/cpu/cpufreq/"
#define VCF_UCLAMP_MIN_RT	"/proc/sys/kernel/sched_util_clamp_min_rt_default"

/* The administrator's switch */
#define VCF_MODULE_PARAM	"/sys/module/kvm/parameters/virt_cpufreq"

/* As it is by default, for a teardown; nothing if it cannot be written */
void vcf_switch_on(void);

#define VCF_HINT_MINMAX	(KVM_VIRT_CPUFREQ_HINT_MIN | KVM_VIRT_CPUFREQ_HINT_MAX)
#define VCF_ALL_FLAGS	(VCF_HINT_MINMAX | KVM_VIRT_CPUFREQ_NOTIFY)

/*
 * A VM whose vCPUs do what vcf_*() below tell them to: each call is one command
 * and runs the vCPU on the calling thread until that is done.
 */
struct kvm_vm *vcf_vm_create(u32 nr_vcpus, struct kvm_vcpu *vcpus[]);

/* The argument of KVM_CREATE_VIRT_CPUFREQ and what it points to */
struct vcf_args {
	struct kvm_create_virt_cpufreq create;
	struct kvm_virt_cpufreq_domain domain[VCF_MAX_VCPUS];
	struct kvm_virt_cpufreq_vcpu page[VCF_MAX_VCPUS];
};

/*
 * One page for each of the vCPUs 0..nr_pages - 1, all of them in the one domain, with
 * the perf values 128, 256, ... 1024, which stand for the same capacities. The other
 * domains are described likewise, for who puts pages into them.
 */
void vcf_args_init(struct vcf_args *args, u32 nr_pages, u32 flags);

/* Have @args point to its own arrays, after a copy. */
void vcf_args_bind(struct vcf_args *args);

/* Put a page into a domain of a number that may be new. */
void vcf_args_set_domain(struct vcf_args *args, u32 page, u32 domain);

/* Return the device's descriptor or, with __, an error code. */
int __vcf_create(struct kvm_vm *vm, struct vcf_args *args);
int vcf_create(struct kvm_vm *vm, struct vcf_args *args);
int vcf_create_default(struct kvm_vm *vm, u32 nr_pages, u32 flags);

static inline u32 vcf_highest(const struct kvm_virt_cpufreq_domain *domain)
{
	return domain->perf[domain->nr_perf - 1];
}

static inline u32 vcf_util(const struct kvm_virt_cpufreq_domain *domain, u32 perf)
{
	u64 util = (u64)perf * domain->capacity / vcf_highest(domain);

	return util < 1024 ? util : 1024;
}

/* Restore registers; with __ return 0 or an error code. */
int __vcf_set_regs(int fd, u32 index, u32 set_perf, u32 perftbl_sel);
void vcf_set_regs(int fd, u32 index, u32 set_perf, u32 perftbl_sel);

/* The register pages as the VMM has them, mapped in whole host pages */
size_t vcf_map_size(u32 nr_pages);
const void *vcf_map(int fd, u32 nr_pages);
void vcf_unmap(const void *map, u32 nr_pages);

static inline u32 vcf_map_reg(const void *map, u32 page, u32 reg)
{
	return READ_ONCE(*(const u32 *)(map + page * VCF_PAGE_SIZE + reg));
}

/* Make the mapping the guest's read-only memory at VCF_GPA, and undo it. */
void vcf_slot_add(struct kvm_vm *vm, const void *map, u32 nr_pages);
void vcf_slot_remove(struct kvm_vm *vm);

/* Commands that must not leave the kernel */
u32 vcf_load(struct kvm_vcpu *vcpu, gpa_t gpa);
void vcf_store(struct kvm_vcpu *vcpu, gpa_t gpa, u32 val);
void vcf_set_perf(struct kvm_vcpu *vcpu, u32 page, u32 perf);
void vcf_enter(struct kvm_vcpu *vcpu);

/* What a set_perf with a load of cur_perf after it looks like from the guest */
struct vcf_moment {
	u64 before;	/* counter before the store */
	u64 after;	/* and between the store and the load */
	u32 cur_perf;
};

struct vcf_moment vcf_set_and_get_perf(struct kvm_vcpu *vcpu, u32 page, u32 perf);

/*
 * Call a function of the test program, in the guest and with the guest's copy of the
 * global variable @arg. If it is to last, it returns when *@stop is set.
 */
typedef void (*vcf_guest_fn)(void *arg, const u32 *stop);

void vcf_call(struct kvm_vcpu *vcpu, vcf_guest_fn fn, void *arg);

/*
 * Commands that may exit to the VMM. They return false if they did, with vcpu->run
 * telling why; vcf_continue() goes on and does the same again.
 */
bool __vcf_load(struct kvm_vcpu *vcpu, gpa_t gpa, u32 size, u64 *val);
bool __vcf_store(struct kvm_vcpu *vcpu, gpa_t gpa, u32 size, u64 val);
bool __vcf_call(struct kvm_vcpu *vcpu, vcf_guest_fn fn, void *arg);
bool vcf_continue(struct kvm_vcpu *vcpu, u64 *val);

/* Commands that last: run until vcf_stop(), which any thread may call */
void vcf_spin(struct kvm_vcpu *vcpu);
void vcf_store_forever(struct kvm_vcpu *vcpu, u32 page);
void vcf_wait_until_in_guest(struct kvm_vcpu *vcpu);
void vcf_stop(struct kvm_vcpu *vcpu);

/* Wait for an interrupt that never comes; ends when the thread gets SIGUSR1. */
void vcf_sleep(struct kvm_vcpu *vcpu);

/* A thread that does what it is told to, a function at a time */
struct vcf_worker {
	pthread_t thread;
	pid_t tid;
	sem_t go, done;
	void (*fn)(void *arg);
	void *arg;
};

void vcf_worker_start(struct vcf_worker *worker);
void vcf_worker_post(struct vcf_worker *worker, void (*fn)(void *), void *arg);
void vcf_worker_wait(struct vcf_worker *worker);
void vcf_worker_call(struct vcf_worker *worker, void (*fn)(void *), void *arg);
void vcf_worker_stop(struct vcf_worker *worker);

/* The same commands, on a worker */
void vcf_worker_set_perf(struct vcf_worker *worker, struct kvm_vcpu *vcpu,
			 u32 page, u32 perf);
void vcf_worker_enter(struct vcf_worker *worker, struct kvm_vcpu *vcpu);
void vcf_worker_spin(struct vcf_worker *worker, struct kvm_vcpu *vcpu);
void vcf_worker_stop_spin(struct vcf_worker *worker, struct kvm_vcpu *vcpu);
/* The same, but storing to the first page all the time */
void vcf_worker_store_forever(struct vcf_worker *worker, struct kvm_vcpu *vcpu);
/* Like vcf_worker_spin(), with a function that lasts */
void vcf_worker_begin(struct vcf_worker *worker, struct kvm_vcpu *vcpu,
		      vcf_guest_fn fn, void *arg);
/*
 * The same with a VMM that answers all accesses which are not the kernel's, if the device
 * has VCF_MAX_VCPUS pages; loads get what there is.
 */
void vcf_worker_begin_hostile(struct vcf_worker *worker, struct kvm_vcpu *vcpu,
			      vcf_guest_fn fn, void *arg);

/*
 * A hostile guest's accesses, one a call: loads and stores of any width, alignment and
 * value, at any offset in any of VCF_MAX_VCPUS pages and in the one behind them, but rather
 * where there are registers. Most of them are not the kernel's.
 */
struct vcf_storm {
	u64 random;		/* not 0 */
	u32 nr_requests;	/* so many of them must have been requests */
	u64 nr_accesses;
};

void vcf_guest_storm(struct vcf_storm *storm);

/* uclamp values as /proc/<tid>/sched has them */
struct vcf_uclamp {
	u32 min, max;
	u32 eff_min, eff_max;
	u32 hint_min, hint_max;
};

pid_t vcf_gettid(void);
struct vcf_uclamp vcf_uclamp(pid_t tid);
bool __vcf_uclamp(pid_t tid, struct vcf_uclamp *uclamp);	/* false: no such thread */
int vcf_set_uclamp(pid_t tid, int min, int max);	/* -1: back to the default */

/* The file's content without the newline at its end; false if there is none */
bool vcf_read_file(const char *path, char *buf, size_t size);
void vcf_write_file(const char *path, const char *fmt, ...) __printf(2, 3);

/* Entries of a directory with numbers for names, as descriptors and tasks have them */
int vcf_count_entries(const char *path);
/* VMs that a process has created, by debugfs; 0: all of the host */
int vcf_nr_vms(pid_t pid);

/* Memory of register pages, as /proc/vmallocinfo has it; -1: it has not */
int vcf_nr_areas(void);

/* What an eventfd is called in fdinfo; a new one: a higher number than before if one has leaked */
int vcf_eventfd_id(int fd);
int vcf_next_eventfd_id(void);

/* A path for a new cgroup below the root, with the cpu controller; false: no cgroups */
bool vcf_cgroup_name(char *path, size_t size, const char *name);

int vcf_nr_cpus(void);
/* A cpufreq driver, so that cur_perf is not the same all the time */
bool vcf_host_has_freqs(void);

/* A file of a cpufreq policy, if the CPU has one of its own */
void vcf_write_policy(int cpu, const char *file, const char *text);
void vcf_set_governor(int nr_cpus, const char *governor);
void vcf_pin(pid_t tid, int cpu);

/*
 * A trace of one event from now on; false if there is none. The event is one of the
 * kernel's, or a probe: what follows the event's name in kprobe_events.
 */
#define VCF_TRACING	"/sys/kernel/tracing/instances/virt_cpufreq_test/"

bool vcf_trace_begin(const char *event);
bool vcf_trace_begin_probe(const char *probe);
void vcf_trace_forget(void);
void vcf_trace_end(void);

/* The number of lines of a thread that have this text */
int vcf_trace_count(pid_t tid, const char *text);
/* The next line, after the first call, which takes all that there is; NULL: the end */
char *vcf_trace_first(void);
char *vcf_trace_next(void);

/*
 * Words that were cleaned to the point of coherency, since vcf_cleans_begin() or the
 * last look at them.
 */
struct vcf_clean {
	u64 addr;
	u32 val;	/* as it was then */
};

bool vcf_cleans_begin(void);
int vcf_cleans(struct vcf_clean cleans[], int max);

/* Stage 2 makes the guest's accesses cacheable, so that nothing need be cleaned. */
bool vcf_host_has_fwb(struct kvm_vcpu *vcpu);

/* Load and unload a test module; false if there is none. */
bool vcf_load_module(const char *name, const char *params);
void vcf_unload_module(const char *name);

/* Wait for what no event tells, but not forever; false: it did not come true. */
#define __VCF_WAIT_FOR(cond, seconds)					\
({									\
	struct timespec __begin;					\
	bool __done;							\
									\
	clock_gettime(CLOCK_MONOTONIC, &__begin);			\
	while (!(__done = (cond)) && timespec_elapsed(__begin).tv_sec < (seconds)) \
		usleep(500);						\
	__done;								\
})

#define VCF_WAIT_FOR(cond)	__VCF_WAIT_FOR(cond, 60)

#endif /* SELFTEST_KVM_VIRT_CPUFREQ_H */
