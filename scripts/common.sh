# SPDX-License-Identifier: GPL-2.0-only
# shellcheck shell=bash disable=SC2034
# What every script here shares; sourced, not run.

set -euo pipefail
shopt -s inherit_errexit nullglob

TOP=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd -P)
BUILD=$(realpath -m "${BUILD:-$TOP/build}")
export BUILD

# The tools that scripts/setup installs, not others of the same name.
export PATH=/usr/sbin:/usr/bin:/sbin:/bin:$PATH
unset MAKEFLAGS MFLAGS MAKELEVEL	# the inner makes are not parts of the outer one
LINUX=$BUILD/linux			# source trees: pristine, patched
QEMU_SOURCE=$BUILD/qemu			# the same of QEMU, and where it is built
LOGS=$BUILD/logs
RESULTS=$BUILD/results
JOBS=$(nproc)
QEMU=${QEMU:-qemu-system-aarch64}
mkdir -p "$LINUX" "$QEMU_SOURCE" "$LOGS" "$RESULTS"

# Directories of this repository that mirror the kernel tree.
MIRRORED=(virt include tools Documentation)

# One kernel make for all: same compiler, nothing of the machine in the result.
# To fill a cache takes a third of a build's time: only one that the user asks for.
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

# Files of this repository that go into the kernel tree.
mirrored_files()
{
	(cd "$TOP" && find "$@" -type f ! -name '.*' ! -name '*~' 2>/dev/null | sort) || :
}

patches() { find "$TOP/patches/$1" -name '[0-9]*.patch' 2>/dev/null | sort; }

# A key of the series: the source it is for, the patches, the files below the named directories.
series_key()
{
	cat "$LINUX/version"
	(cd "$TOP" && { patches linux; mirrored_files "$@"; } | xargs -r sha256sum)
}

changed_files() { sed -n 's,^+++ b/\([^\t]*\).*,\1,p' "$@" | sort -u; }

# "FROM TO" for each file of this repository that patches name: New-file: has the same
# path in both places, Copy-file: has another.
named_files() { sed -n 's/^New-file: *\(.*\)/\1 \1/p; s/^Copy-file: *//p' "$@"; }

put_files()	# DIR: "FROM TO" on standard input; QEMU has headers as make headers_install leaves them
{
	local from to
	while read -r from to; do
		[ -f "$TOP/$from" ] || die "no file $from"
		mkdir -p "$(dirname "$1/$to")"
		case $to in
		linux-headers/*) sed -E 's,^(#(ifndef|define|endif */\*)) *_UAPI,\1 ,' "$TOP/$from" >"$1/$to" ;;
		*) cp "$TOP/$from" "$1/$to" ;;
		esac
	done
}

apply_patch()	# PATCH DIR: only exactly as written, though lines may have moved
{
	grep -q '^+++ ' "$1" || return 0
	patch -p1 -F0 -s -f --no-backup-if-mismatch -r - -d "$2" <"$1"
}

# What the source in DIR/pristine is, for people and for the keys of what is made from it.
record() { printf '%s\n' "${@:2}" >"$1/version"; }		# DIR 'NAME VALUE'...
field() { sed -n "s/^$2 //p" "$1/version" 2>/dev/null || :; }	# DIR NAME

# Of the names and contents of all files.
tree_sum() { (cd "$1" && find . -type f -print0 | sort -z | xargs -0 sha256sum) | sha256sum | cut -d' ' -f1; }

copy_given()	# DIR NAME=GIVEN: make DIR/pristine like GIVEN and print its checksum
{
	local dir=$1 given=${2#*=} sum=''
	[ "$(field "$dir" from)" != "$2" ] || sum=$(field "$dir" sha256)
	rm -f "$dir/version"
	rsync -ai --delete --exclude=.git "$given/" "$dir/pristine/" >"$dir/copy.log"
	if [ -s "$dir/copy.log" ] || [ -z "$sum" ]; then
		rm -rf "$dir/patched" "$dir/first"
		note "computing the checksum of $given" >&2
		sum=$(tree_sum "$dir/pristine")
	fi
	echo "$sum"
}

# Hard-linked copy of DIR/pristine with patches; files that they change are replaced in
# it, never written to, and only when their content differs: make sees no others.
# Standard input has "FROM TO" of files of this repository to put there, too.
make_tree()	# DIR TREE WHAT-THE-SERIES-IS-FOR PATCH...
{
	local pristine=$1/pristine stage=$1/stage tree=$1/$2 made_for=$3 file patch
	shift 3
	rm -rf "$stage"
	mkdir "$stage"
	if [ ! -d "$tree" ]; then
		rm -rf "$tree.new"
		cp -al "$pristine" "$tree.new"
		: >"$tree.files"
		mv "$tree.new" "$tree"
	fi
	for file in $([ $# = 0 ] || changed_files "$@"); do
		[ ! -e "$pristine/$file" ] || (cd "$pristine" && cp --parents "$file" "$stage")
	done
	for patch; do
		apply_patch "$patch" "$stage" || die "${patch#"$TOP"/} does not fit:
the series is for $made_for, this source is $(field "${stage%/*}" version) ($(field "${stage%/*}" from))"
	done
	put_files "$stage"
	(cd "$stage" && find . -type f | sort) >"$stage.files"
	while read -r file; do
		cmp -s "$stage/$file" "$tree/$file" && continue
		mkdir -p "$(dirname "$tree/$file")"
		cp --remove-destination "$stage/$file" "$tree/$file"
	done <"$stage.files"
	comm -13 "$stage.files" "$tree.files" | while read -r file; do
		rm -f "$tree/$file"
		[ ! -e "$pristine/$file" ] || cp "$pristine/$file" "$tree/$file"
	done
	mv "$stage.files" "$tree.files"
}

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

# One result for the line that scripts/steps ends with; failures are shown at once.
result()	# passed|failed|skipped WHAT
{
	printf '%s\t%s\n' "$1" "$2" >>"${TALLY:-/dev/null}"
	[ "$1" != failed ] || note "FAILED: $2"
}

# The same where the script itself fails if anything has; it has a variable failures.
verdict()	# passed|failed|skipped WHAT
{
	result "$1" "$2"
	[ "$1" != failed ] || failures=$((failures + 1))
}

# The programs below a directory, by their names there
programs_in() { (cd "$1" && find . -type f -perm -u+x -printf '%P\n' | sort); }

# What programs wrote to the console, which the kernel may have interrupted in midst of a line
without_kernel_messages()
{
	awk '{ i = match($0, /\[ *[0-9]+[.][0-9][0-9][0-9][0-9][0-9][0-9]\] /)
	       if (i) printf "%s", substr($0, 1, i - 1); else print }' "$1"
}

# For what reasons, as "WHERE: REASON", count() lets a test be skipped, and which program as a
# whole; a caller may be stricter.
good_reasons=. may_be_skipped=''

# The TAP lines of one log, as results; a run that ends early or badly is a failure. The
# caller has a variable failures, and finds the numbers in summary.
count()	# LOG STATUS WHERE
{
	local line planned seen=0 bad=0 n_ok=0 n_skip=0
	planned=$(sed -n 's/^1\.\.\([0-9]*\).*/\1/p' "$1" | tail -n 1)
	while read -r line; do
		seen=$((seen + 1))
		[[ $line != *'# SKIP'* || "$3:${line#*# SKIP}" =~ $good_reasons ]] || line="not $line"
		case $line in
		not\ ok*) bad=$((bad + 1)); result failed "$3: $line" ;;
		*'# SKIP'*) n_skip=$((n_skip + 1)); result skipped "$3: $line" ;;
		*) n_ok=$((n_ok + 1)); result passed "$3: $line" ;;
		esac
	done < <(without_kernel_messages "$1" | grep -E '^(not )?ok [0-9]+')
	if [ "$seen" -lt "${planned:-0}" ]; then
		bad=$((bad + 1))
		result failed "$3: $seen of $planned tests came to their end"
	elif [ "$bad" = 0 ]; then
		case $seen-$2 in
		0-0) n_ok=1; result passed "$3" ;;
		*-0) ;;
		0-4)
			if [[ $may_be_skipped && $3 == $may_be_skipped,* ]]; then
				n_skip=1; result skipped "$3"
			else
				bad=1; result failed "$3: skipped as a whole"
			fi ;;
		*) bad=1; result failed "$3: exit status $2" ;;
		esac
	fi
	failures=$((failures + bad))
	summary="$n_ok passed, $bad failed, $n_skip skipped"
}

# Tests on a boot of their own each, as many at a time as there are CPUs; the results come in
# order. The caller has variables n and failures, and ends with test_results.
boots=()

test_boot()	# LOG WHERE OPTION...
{
	local log=$1 where=$2 start rc=0
	shift 2
	while [ "$(jobs -rp | wc -l)" -ge "$JOBS" ]; do wait -n || :; done
	while [ ${#boots[@]} -gt 0 ] && ! kill -0 "${boots[0]%%$'\t'*}" 2>/dev/null; do first_result; done
	rm -f "$log.ran"
	start=$SECONDS
	{
		"$TOP/scripts/boot" -l "$log" "$@" >/dev/null || rc=$?
		echo "$rc $((SECONDS - start))" >"$log.ran"
	} &
	boots+=("$!"$'\t'"$log"$'\t'"$where")
}

first_result()
{
	local pid log where rc seconds
	IFS=$'\t' read -r pid log where <<<"${boots[0]}"
	boots=("${boots[@]:1}")
	wait "$pid" || :
	read -r rc seconds <"$log.ran"
	rm "$log.ran"
	count "$log" "$rc" "$where"
	note "$((n += 1)) $where: $summary, $(duration "$seconds"), ${log#"$TOP"/}"
}

test_results() { while [ ${#boots[@]} -gt 0 ]; do first_result; done; }

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
