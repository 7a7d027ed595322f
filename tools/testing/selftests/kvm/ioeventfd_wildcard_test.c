// SPDX-License-Identifier: GPL-2.0-only
/*
 * An ioeventfd of any length (KVM_CAP_IOEVENTFD_ANY_LENGTH) right behind another range of
 * KVM's MMIO bus, a zone of coalesced MMIO: stores reach the one and the other, whichever
 * came first and whatever else is on the bus.
 */
#include <stdint.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <linux/kvm.h>

#include "kvm_util.h"
#include "processor.h"
#include "ucall_common.h"

#define ZONE_GPA	0x10000000ul
#define ZONE_SIZE	0x1000ul
#define WILDCARD_GPA	(ZONE_GPA + ZONE_SIZE)

/* Others, on both sides, so that a search begins at each place of the bus. */
#define MAX_OTHERS	3
#define LOWER_GPA(i)	(ZONE_GPA - (1 + (i)) * ZONE_SIZE)
#define HIGHER_GPA(i)	(WILDCARD_GPA + (1 + (i)) * ZONE_SIZE)

static void guest_code(void)
{
	for (;;) {
		WRITE_ONCE(*(u32 *)ZONE_GPA, 1);
		WRITE_ONCE(*(u32 *)(ZONE_GPA + ZONE_SIZE - 4), 2);
		WRITE_ONCE(*(u32 *)WILDCARD_GPA, 3);
		GUEST_SYNC(0);
	}
}

static void set_zone(struct kvm_vm *vm, u64 gpa, bool on)
{
	struct kvm_coalesced_mmio_zone zone = {
		.addr = gpa,
		.size = ZONE_SIZE,
	};

	vm_ioctl(vm, on ? KVM_REGISTER_COALESCED_MMIO : KVM_UNREGISTER_COALESCED_MMIO, &zone);
}

static void set_wildcard(struct kvm_vm *vm, int fd, bool on)
{
	struct kvm_ioeventfd ioeventfd = {
		.addr = WILDCARD_GPA,
		.fd = fd,
		.flags = on ? 0 : KVM_IOEVENTFD_FLAG_DEASSIGN,
	};

	vm_ioctl(vm, KVM_IOEVENTFD, &ioeventfd);
}

static void set_others(struct kvm_vm *vm, int lower, int higher, bool on)
{
	int i;

	for (i = 0; i < lower; i++)
		set_zone(vm, LOWER_GPA(i), on);
	for (i = 0; i < higher; i++)
		set_zone(vm, HIGHER_GPA(i), on);
}

static void check_stores(struct kvm_vcpu *vcpu, struct kvm_coalesced_mmio_ring *ring, int fd,
			 const char *order, int lower, int higher)
{
	const u32 ring_size = (getpagesize() - sizeof(*ring)) / sizeof(ring->coalesced_mmio[0]);
	eventfd_t signals = 0;
	struct ucall uc;

	WRITE_ONCE(ring->first, ring->last);
	vcpu_run(vcpu);
	TEST_ASSERT(get_ucall(vcpu, &uc) == UCALL_SYNC,
		    "%s, %d ranges below, %d above: want no exit, got exit reason %u at %#lx",
		    order, lower, higher, vcpu->run->exit_reason,
		    (unsigned long)vcpu->run->mmio.phys_addr);
	TEST_ASSERT_EQ((ring->last + ring_size - ring->first) % ring_size, 2);
	TEST_ASSERT(!eventfd_read(fd, &signals), "%s: the ioeventfd was not signalled", order);
	TEST_ASSERT_EQ(signals, 1);
}

int main(void)
{
	struct kvm_coalesced_mmio_ring *ring;
	int lower, higher, page, fd;
	struct kvm_vcpu *vcpu;
	struct kvm_vm *vm;

	TEST_REQUIRE(kvm_has_cap(KVM_CAP_IOEVENTFD_ANY_LENGTH));
	page = kvm_check_cap(KVM_CAP_COALESCED_MMIO);
	TEST_REQUIRE(page > 0);

	vm = vm_create_with_one_vcpu(&vcpu, guest_code);
	virt_map(vm, ZONE_GPA, ZONE_GPA, 2 * ZONE_SIZE / vm->page_size ?: 1);
	ring = (void *)vcpu->run + page * getpagesize();
	fd = eventfd(0, EFD_NONBLOCK);
	TEST_ASSERT(fd >= 0, "eventfd");

	for (lower = 0; lower <= MAX_OTHERS; lower++) {
		for (higher = 0; higher <= MAX_OTHERS; higher++) {
			set_others(vm, lower, higher, true);

			set_zone(vm, ZONE_GPA, true);
			set_wildcard(vm, fd, true);
			check_stores(vcpu, ring, fd, "zone first", lower, higher);
			set_zone(vm, ZONE_GPA, false);

			set_zone(vm, ZONE_GPA, true);
			check_stores(vcpu, ring, fd, "ioeventfd first", lower, higher);
			set_wildcard(vm, fd, false);
			set_zone(vm, ZONE_GPA, false);

			set_others(vm, lower, higher, false);
		}
	}

	close(fd);
	kvm_vm_free(vm);
	return 0;
}
