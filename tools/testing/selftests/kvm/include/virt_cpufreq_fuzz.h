/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What the tests of KVM_CREATE_VIRT_CPUFREQ by random operations share
 *
 * They go on for VCF_FUZZ_SECONDS, in episodes, each with a VM and a seed of its own. The
 * first one has the seed VCF_FUZZ_SEED (1) and the next ones count on from there: to repeat
 * the one that failed, give its seed.
 */
#ifndef SELFTEST_KVM_VIRT_CPUFREQ_FUZZ_H
#define SELFTEST_KVM_VIRT_CPUFREQ_FUZZ_H

#include "kvm_util.h"
#include "virt_cpufreq.h"

#define FUZZ_VCPUS	4
#define FUZZ_PAGES	8	/* entries of the description that can be read */
#define FUZZ_EVENTFDS	3
#define FUZZ_WINDOW	16	/* register pages that the guest can reach */

/* What all operations are about */
extern struct fuzz {
	u32 seed;
	struct kvm_vm *vm;
	struct kvm_vcpu *vcpus[FUZZ_VCPUS];
	struct {
		int fd;
		u64 signals;	/* since the last check */
	} eventfds[FUZZ_EVENTFDS];
} fuzz;

/* The whole test */
void fuzz_begin(void);
bool fuzz_is_time_left(void);
void fuzz_end(void);

/* One episode; at its end everything must be closed and unmapped. */
void fuzz_begin_episode(void);
void fuzz_end_episode(void);

/* Each thread has its own sequence. */
void fuzz_start_random(u32 seed);
u32 fuzz_rnd(u32 n);	/* 0..n - 1 */
u32 fuzz_rnd_u32(void);	/* rather at the limits */

struct fuzz_op {
	const char *name;
	u32 weight;
	void (*fn)(void);
	u32 count;
};

void fuzz_do_random_op(struct fuzz_op ops[], u32 nr);
void fuzz_print_counts(const struct fuzz_op ops[], u32 nr);

/* What an operation was; the last ones are shown when the test fails. */
void fuzz_note(const char *fmt, ...) __printf(1, 2);

/*
 * A result or an error code must be one of a set of errors, those of the rules that have
 * been broken, or not an error if it is empty.
 */
u64 fuzz_error(int error);
void fuzz_expect(long r, u64 errors);

static inline long fuzz_result(long r)
{
	return r < 0 ? -errno : r;
}

/* What a system call has returned */
static inline void fuzz_try(long r, u64 errors)
{
	fuzz_expect(fuzz_result(r), errors);
}

/* The signals that have been foretold, no more and no less */
void fuzz_check_signals(void);
int fuzz_lowest_free_fd(void);

/* The argument of the ioctl, with each array where readable memory ends */
struct fuzz_args {
	struct kvm_create_virt_cpufreq create;
	struct kvm_virt_cpufreq_domain *domain;
	struct kvm_virt_cpufreq_vcpu *page;
	void *domain_hole, *page_hole;
};

/* What the kernel reads by them */
struct fuzz_desc {
	struct kvm_virt_cpufreq_domain domain[FUZZ_PAGES];
	struct kvm_virt_cpufreq_vcpu page[FUZZ_PAGES];
};

void fuzz_alloc_args(struct fuzz_args *args);
/* A good argument; @vcpus is a permutation of the vCPUs. */
void fuzz_make_args(struct fuzz_args *args, u32 nr, const u32 vcpus[FUZZ_VCPUS]);
/* Change something, mostly for the worse. */
void fuzz_mutate(struct fuzz_args *args);
/* What is wrong with the argument as such, whatever else there is in the VM */
u64 fuzz_args_errors(const struct fuzz_args *args, struct fuzz_desc *desc);
/* And with its notify_fd, at the moment */
u64 fuzz_notify_errors(const struct kvm_create_virt_cpufreq *create);

static inline const struct kvm_virt_cpufreq_domain *
fuzz_domain(const struct fuzz_desc *desc, u32 page)
{
	return &desc->domain[desc->page[page].domain];
}

static inline u32 fuzz_highest(const struct fuzz_desc *desc, u32 page)
{
	return vcf_highest(fuzz_domain(desc, page));
}

/* An access of the guest to the page at @gpa */
struct fuzz_access {
	struct kvm_vcpu *vcpu;
	u64 gpa, val;
	u32 size;
	bool store;
	bool served;		/* without an exit to us */
	bool right;		/* the exit was that of the access */
};

#define FUZZ_REPLY	0x5a5aa5a5c3c33c3cULL	/* to a load that exits */

void fuzz_make_access(struct fuzz_access *a, u64 gpa);
void fuzz_do_access(void *a);

/* Send something, and with it a descriptor unless that is -1. */
void fuzz_send(int socket, void *data, size_t size, int fd);
/* Returns the descriptor that has come with it, or -1; the other end is gone: -2 */
int fuzz_receive(int socket, void *data, size_t size);

#endif /* SELFTEST_KVM_VIRT_CPUFREQ_FUZZ_H */
