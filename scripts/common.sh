# SPDX-License-Identifier: GPL-2.0-only
# shellcheck shell=bash disable=SC2034
# What every script here shares; sourced, not run.

set -euo pipefail
shopt -s inherit_errexit nullglob

TOP=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd -P)
BUILD=$(realpath -m "${BUILD:-$TOP/build}")
export BUILD

# The tools that scripts/build/setup installs, not others of the same name.
export PATH=/usr/sbin:/usr/bin:/sbin:/bin:$PATH
unset MAKEFLAGS MFLAGS MAKELEVEL	# the inner makes are not parts of the outer one
LINUX=$BUILD/linux			# source trees: pristine, patched
QEMU_SOURCE=$BUILD/qemu			# the same of QEMU, and where it is built
LOGS=$BUILD/logs
RESULTS=$BUILD/results
JOBS=$(nproc)
QEMU=${QEMU:-qemu-system-aarch64}
mkdir -p "$LINUX" "$QEMU_SOURCE" "$LOGS" "$RESULTS"

# One kernel make for all: same compiler, nothing of the machine in the result.
# To fill a cache takes time: only one that the user asks for.
if [ "${CCACHE_DIR:-}" ]; then
	CCACHE_DIR=$(realpath -m "$CCACHE_DIR")
	export CCACHE_DIR
else
	export CCACHE_DISABLE=1
fi
export CCACHE_BASEDIR=$BUILD
export KBUILD_BUILD_TIMESTAMP=@0 KBUILD_BUILD_USER=kvm KBUILD_BUILD_HOST=virt-cpufreq
CROSS_COMPILE=aarch64-linux-gnu-
KMAKE=(make -j"$JOBS" ARCH=arm64 CROSS_COMPILE="$CROSS_COMPILE"
       CC="ccache ${CROSS_COMPILE}gcc" LOCALVERSION=)

note() { printf '      %s\n' "$*"; }

die()
{
	printf '%s: %s\n' "${0##*/}" "$*" >&2
	exit 1
}

duration() { printf '%dm%02ds' $(($1 / 60)) $(($1 % 60)); }

# One writer at a time; released when the script ends.
lock()
{
	local fd
	exec {fd}>"$BUILD/.lock-$1"
	flock "$fd"
}

# A key that changes when the content of any of the named files or strings does.
key_of()
{
	local arg
	for arg; do
		if [ -f "$arg" ]; then
			sha256sum <"$arg"
		else
			printf '%s\n' "$arg"
		fi
	done | sha256sum | cut -d' ' -f1
}

# Is the thing that STAMP stands for still made from the same inputs?
made_from() { [ -f "$1" ] && [ "$(cat "$1")" = "$2" ]; }

# The programs below a directory, by their names there
programs_in() { (cd "$1" && find . -type f -perm -u+x -printf '%P\n' | sort); }

# What the source in DIR/pristine is, as recorded: version, from, sha256, asked
field() { sed -n "s/^$2 //p" "$1/version" 2>/dev/null || :; }	# DIR NAME

# Run a command with its output in a log and say every 20 s how far it is.
logged()	# LOG-NAME EXPECTED-LINES COMMAND...
{
	local log=$LOGS/$1 expected=$2 ticker rc=0
	shift 2
	exec {ticker}> >(progress "$log" "$expected")
	"$@" >"$log" 2>&1 {ticker}>&- || rc=$?
	exec {ticker}>&-
	wait $! || :
	[ "$rc" = 0 ] && return
	tail -n 25 "$log" >&2
	die "failed; the whole log is $log"
}

progress()	# LOG EXPECTED-LINES: until standard input ends
{
	local lines status start=$SECONDS
	while read -rt 20; status=$?; [ $status -gt 128 ]; do	# timed out, not ended
		lines=$(wc -l <"$1")
		note "$lines${2:+ of about $2} lines in ${1#"$TOP"/}, $(duration $((SECONDS - start)))"
	done
}

# A CSV file as an aligned table, numbers to the right.
table()
{
	awk -F, '{ for (i = 1; i <= NF; i++) { cell[NR, i] = $i; if (length($i) > w[i]) w[i] = length($i) } n = NF }
		 END { for (r = 1; r <= NR; r++) {
				line = ""
				for (i = 1; i <= n; i++)
					line = line sprintf(i > 1 ? "  %" w[i] "s" : "%-" w[i] "s", cell[r, i])
				print line } }' "$1"
}

qemu_version() { "$QEMU" --version | sed -n 's/.*version \([0-9.]*\).*/\1/p'; }

# What the figures depend on.
toolchain()
{
	echo "Linux $(sed -n 's/^version //p' "$LINUX/version")," \
	     "gcc $("${CROSS_COMPILE}gcc" -dumpfullversion)," \
	     "QEMU $(qemu_version)"
}
