// SPDX-License-Identifier: GPL-2.0-only
/*
 * The smallest VMM with a virtual CPU frequency device (arm64)
 *
 * Its guest is one vCPU that asks for perf 600 of 1000 and then tells the VMM, by
 * a store that is nobody else's, which request the register holds.
 */
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>
#include <linux/kvm_virt_cpufreq.h>

#define RAM_GPA		0x40000000
#define REGS_GPA	0x10000000
#define EXIT_GPA	0x20000000

static const __u32 guest_code[] = {
	0xd2a20000,	/* mov x0, #REGS_GPA */
	0x52804b01,	/* mov w1, #600 */
	0xb9000401,	/* str w1, [x0, #4]	set_perf */
	0xb9400402,	/* ldr w2, [x0, #4] */
	0xd2a40003,	/* mov x3, #EXIT_GPA */
	0xb9000062,	/* str w2, [x3] */
};

static int check(int ret, const char *what)
{
	if (ret >= 0)
		return ret;
	perror(what);
	exit(1);
}

/* What it takes: a description of domains and vCPUs, the flags, and one ioctl. */
static int create_virt_cpufreq(int vm)
{
	struct kvm_virt_cpufreq_domain domain = {
		.capacity = 1024,	/* what 1000 stands for: all of the biggest CPU */
		.nr_perf = 3,
		.perf = { 200, 600, 1000 },
	};
	struct kvm_virt_cpufreq_vcpu vcpu = {
		.vcpu_id = 0,
		.domain = 0,
	};
	struct kvm_create_virt_cpufreq args = {
		.gpa = REGS_GPA,
		.domains = (uintptr_t)&domain,
		.vcpus = (uintptr_t)&vcpu,
		.nr_domains = 1,
		.nr_vcpus = 1,
		.flags = KVM_VIRT_CPUFREQ_HINT_MIN,
	};
	int flags = ioctl(vm, KVM_CHECK_EXTENSION, KVM_CAP_VIRT_CPUFREQ);

	if (flags < 0 || (args.flags & ~flags)) {
		printf("1..0 # SKIP this kernel serves flags %#x only\n", flags);
		exit(4);
	}

	return ioctl(vm, KVM_CREATE_VIRT_CPUFREQ, &args);
}

/* Optional: the registers as memory of the guest, so that loads do not exit. */
static const __u32 *share_registers(int vm, int virt_cpufreq)
{
	size_t size = sysconf(_SC_PAGESIZE);	/* 4096 a vCPU, rounded up to that */
	void *regs = mmap(NULL, size, PROT_READ, MAP_SHARED, virt_cpufreq, 0);
	struct kvm_userspace_memory_region slot = {
		.slot = 1,
		.flags = KVM_MEM_READONLY,
		.guest_phys_addr = REGS_GPA,
		.memory_size = size,
		.userspace_addr = (uintptr_t)regs,
	};

	check(regs == MAP_FAILED ? -1 : 0, "mmap");
	check(ioctl(vm, KVM_SET_USER_MEMORY_REGION, &slot), "KVM_SET_USER_MEMORY_REGION");
	return regs;
}

int main(void)
{
	struct kvm_one_reg pc = {
		.id = KVM_REG_ARM64 | KVM_REG_SIZE_U64 | KVM_REG_ARM_CORE |
		      KVM_REG_ARM_CORE_REG(regs.pc),
		.addr = (uintptr_t)&(uint64_t){ RAM_GPA },
	};
	int kvm = check(open("/dev/kvm", O_RDWR | O_CLOEXEC), "/dev/kvm");
	int vm = check(ioctl(kvm, KVM_CREATE_VM, 0), "KVM_CREATE_VM");
	int vcpu = check(ioctl(vm, KVM_CREATE_VCPU, 0), "KVM_CREATE_VCPU");
	int virt_cpufreq = check(create_virt_cpufreq(vm), "KVM_CREATE_VIRT_CPUFREQ");
	const __u32 *regs = share_registers(vm, virt_cpufreq);
	size_t size = ioctl(kvm, KVM_GET_VCPU_MMAP_SIZE, 0);
	struct kvm_run *run = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, vcpu, 0);
	void *ram = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	struct kvm_userspace_memory_region slot = {
		.guest_phys_addr = RAM_GPA,
		.memory_size = size,
		.userspace_addr = (uintptr_t)ram,
	};
	struct kvm_vcpu_init init;
	__u32 request;

	memcpy(ram, guest_code, sizeof(guest_code));
	check(ioctl(vm, KVM_SET_USER_MEMORY_REGION, &slot), "KVM_SET_USER_MEMORY_REGION");
	check(ioctl(vm, KVM_ARM_PREFERRED_TARGET, &init), "KVM_ARM_PREFERRED_TARGET");
	check(ioctl(vcpu, KVM_ARM_VCPU_INIT, &init), "KVM_ARM_VCPU_INIT");
	check(ioctl(vcpu, KVM_SET_ONE_REG, &pc), "KVM_SET_ONE_REG");

	/* The store to set_perf ends in the kernel; this returns for the last one. */
	check(ioctl(vcpu, KVM_RUN, 0), "KVM_RUN");
	memcpy(&request, run->mmio.data, sizeof(request));

	printf("TAP version 13\n1..2\n# descriptor %d, request %u, of 1000 now %u\n",
	       virt_cpufreq, request, regs[0]);
	printf("%s 1 set_perf was served by the kernel\n", request == 600 ? "ok" : "not ok");
	printf("%s 2 the VMM can see it\n", regs[1] == 600 ? "ok" : "not ok");
	return request != 600 || regs[1] != 600;
}
