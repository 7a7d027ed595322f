# SPDX-License-Identifier: GPL-2.0-only
# shellcheck shell=bash
# Results of tests: from the TAP lines of a program or a boot to the line that scripts/steps ends
# with; sourced instead of common.sh, not run.

# shellcheck source=scripts/common.sh
. "$(dirname "${BASH_SOURCE[0]}")/common.sh"

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
