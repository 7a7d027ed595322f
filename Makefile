# SPDX-License-Identifier: GPL-2.0-only
#
# The interface for people. Every target does its own set-up, shows each step
# and may be run again: what has not changed is neither fetched nor built.

steps := scripts/steps
host  := setup linux 'kernel patched' selftests initramfs
parts := $(patsubst scripts/check-long.d/%,check-long-%,$(wildcard scripts/check-long.d/*))

.DEFAULT_GOAL := help
.PHONY: demo check bench series static shell kernel kernel-pristine selftests check-long $(parts) clean distclean help

demo: ## build all, boot the emulated host, print what each access costs
	@$(steps) $(host) demo

check: ## every test: static checks, selftests on each kind of host, limits
	@$(steps) $(host) 'kernel pristine' static tests bench

bench: ## what each access costs, against its limits and the pristine kernel
	@$(steps) $(host) 'kernel pristine' bench

series: ## the mail-ready patch series in build/series (SIGNOFF='Name <mail>')
	@$(steps) setup linux series

static: ## checkpatch, sparse, W=1, kernel-doc, shellcheck
	@$(steps) setup linux static

shell: ## a root shell on the emulated host (BOOT='-c 4 -m nvhe': options of scripts/boot)
	@$(steps) $(host)
	@scripts/boot $(BOOT)

kernel: ## the kernel with the series
	@$(steps) setup linux 'kernel patched'

kernel-pristine: ## the kernel without it
	@$(steps) setup linux 'kernel pristine'

selftests: ## kernel, selftests, initramfs: ready for scripts/boot
	@$(steps) $(host)

check-long: ## what is too long for check, part by part; a part alone: make check-long-PART
	@scripts/check-long

$(parts): check-long-%:
	@scripts/check-long $*

clean: ## remove what was built, keep what was fetched and unpacked
	rm -rf $(addprefix $(or $(BUILD),build)/,kernel selftests* test_modules headers rootfs initramfs* series static logs results bench)

distclean: ## remove everything made
	rm -rf $(or $(BUILD),build)

help: ## this list
	@awk -F':.*## ' '/^[a-z-]+:.*## / { printf "make %-16s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))
	@printf 'make %s\n' $(parts)
	@echo 'Variables: BUILD=DIR (build), KSRC=DIR (an unpacked kernel source), KVER=X.Y (only that version)'
