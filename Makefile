# SPDX-License-Identifier: GPL-2.0-only
#
# The interface for people. Every target does its own set-up, shows each step
# and may be run again: what has not changed is neither fetched nor built.

steps := scripts/steps
host  := build/setup build/linux 'build/kernel patched' build/selftests build/initramfs
guest := build/qemu 'build/initramfs guest'

.DEFAULT_GOAL := help
.PHONY: $(shell sed -n 's/^\([a-z][a-z0-9.-]*\):.*\#\# .*/\1/p' $(firstword $(MAKEFILE_LIST)))

demo: ## build all, show how a Linux guest drives the host's frequency, what each access costs, what the guest gains
	@$(steps) $(host) $(guest) measure/demo

check: ## every test: static checks, selftests on each kind of host, limits
	@$(steps) $(host) $(guest) 'build/kernel pristine' 'build/kernel debug' check/static check/qtest check/tests 'check/upstream check' check/guests check/gain check/debug measure/bench measure/storm measure/cost

check-debug: ## of check, the selftests on a kernel with KASAN, lock debugging, kmemleak
	@$(steps) $(host) 'build/kernel debug' check/debug

bench: ## what each access costs, against its limits and the pristine kernel
	@$(steps) $(host) 'build/kernel pristine' measure/bench

sched-cost: ## what hints cost the scheduler: perf bench sched pipe, in instructions
	@$(steps) $(host) 'build/kernel pristine' 'build/kernel plain' build/perf measure/sched

storm: ## what a hostile guest costs others on its CPUs, against its limits
	@$(steps) $(host) measure/storm

cost: ## what the signalling costs a Linux guest, against its limits
	@$(steps) $(host) $(guest) measure/cost

workloads: ## what a guest gains on a host whose frequencies matter (WORKLOADS='-p 500000': options of scripts/measure/workloads)
	@$(steps) $(host) $(guest) 'measure/workloads $(WORKLOADS)' measure/timeline measure/poll

workloads-polling: ## the disk's rows with KVM's default halt polling, which hides much of the gain
	@$(steps) $(host) $(guest) 'measure/workloads -o polling -p 500000 -w fio-seqwrite,fio-randwrite,fio-seqread,fio-randread'

workloads-protected: ## the main rows on a pKVM host, where an exit is dear
	@$(steps) $(host) $(guest) 'measure/workloads -o protected -m protected -w fio-seqread,fio-randread,infer-8ms,frames-moving,hackbench'

series: ## the mail-ready patch series in build/series, build/series-qemu (SIGNOFF='Name <mail>')
	@$(steps) build/setup build/linux 'build/qemu --source' 'series linux' 'series qemu'

apply: ## the series onto a Linux or QEMU source of yours (TREE=DIR; commits if it is a git tree)
	@scripts/apply '$(TREE)'

static: ## checkpatch, sparse, W=1, kernel-doc, shellcheck
	@$(steps) build/setup build/linux 'build/qemu --source' check/static

shell: ## a root shell on the emulated host (BOOT='-c 4 -m nvhe': options of scripts/boot)
	@$(steps) $(host) $(guest)
	@scripts/boot -g $(BOOT)

kernel: ## the kernel with the series
	@$(steps) build/setup build/linux 'build/kernel patched'

kernel-pristine: ## the kernel without it
	@$(steps) build/setup build/linux 'build/kernel pristine'

qemu: ## QEMU with the device, for the emulated host (build/qemu-arm64)
	@$(steps) build/setup build/qemu

guest: ## what Linux guests in the emulated host need, too
	@$(steps) $(host) $(guest)

selftests: ## kernel, selftests, initramfs: ready for scripts/boot
	@$(steps) $(host)

check-long: ## what is too long for check: all of these parts
	@scripts/check/long

check-long-linux-7.2: ## the series fits Linux 7.2 and passes there (in build-7.2)
	@scripts/check/long linux-7.2

check-long-every-patch: ## each patch builds by itself, with the feature and without
	@scripts/check/long every-patch

check-long-qemu-every-patch: ## each of QEMU's patches builds by itself
	@scripts/check/long qemu-every-patch

check-long-life: ## the life cycle at full length: 10,000 devices, 1,000 VMMs killed
	@scripts/check/long life

check-long-sched-ext: ## the selftests on a kernel with sched_ext
	@scripts/check/long sched-ext

check-long-debug: ## check-debug on VHE and nVHE, with 1 and 4 CPUs, also in parallel, and more guests
	@scripts/check/long debug

check-long-fuzz: ## random operations for half an hour, and the lines of the device they execute
	@scripts/check/long fuzz

check-long-preempt-rt: ## the selftests on a kernel with PREEMPT_RT and lock debugging
	@scripts/check/long preempt-rt

check-long-nohz-full: ## the selftests where the vCPUs' CPUs have no tick
	@scripts/check/long nohz-full

check-long-kcsan: ## the selftests on a kernel that looks for data races
	@scripts/check/long kcsan

check-long-pages-16k: ## the selftests on a kernel with pages of 16K
	@scripts/check/long pages-16k

check-long-pages-64k: ## the selftests on a kernel with pages of 64K
	@scripts/check/long pages-64k

check-long-storm-nvhe: ## what a hostile guest costs others on a host without VHE
	@scripts/check/long storm-nvhe

check-long-pkvm: ## all selftests, and Linux guests, on a pKVM host
	@scripts/check/long pkvm

check-long-upstream: ## all of upstream's KVM selftests, and the list of those that pass without the series
	@scripts/check/long upstream

check-long-cpu-max: ## the selftests on the newest CPU that QEMU has
	@scripts/check/long cpu-max

check-long-mttcg: ## the selftests on host CPUs that run in parallel (a newer QEMU on Debian 12)
	@scripts/check/long mttcg

check-long-debian-13: ## make check in a fresh Debian 13 (debootstrap, root)
	@scripts/check/long debian-13

clean: ## remove what was built, keep what was fetched and unpacked
	rm -rf $(addprefix $(or $(BUILD),build)/,kernel qemu/build-* qemu-arm64 selftests* headers* rootfs* initramfs* guest.* upstream.* workloads series* static logs results bench)

distclean: ## remove everything made
	rm -rf $(or $(BUILD),build)

help: ## this list
	@awk -F':.*## ' '/^[a-z0-9.-]+:.*## / { printf "make %-28s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))
	@echo 'Variables: BUILD=DIR (build), KSRC=DIR (an unpacked kernel source), KVER=X.Y (only that version), QSRC=DIR (of QEMU), CCACHE_DIR=DIR (a ccache; without it none is used)'
