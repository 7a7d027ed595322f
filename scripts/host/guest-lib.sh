# shellcheck shell=dash disable=SC3045,SC2154
# SPDX-License-Identifier: GPL-2.0-only
# For scripts in the emulated host, sourced: guests that do what they are told while
# the host looks at them.
#
#	vm_start a '' -s kernel -c 2 && vm_run 'uname -r'
#	hmp 'info status'
#	vm_quit
#
# Several guests, of which one is meant: vm NAME. The functions say what went wrong
# by their status; what there is to read is in /tmp/vm-NAME.

cr=$(printf '\r') esc=$(printf '\033')
all_seconds=120	# that the guest or the monitor may be silent, on a busy machine

# What the guest runs: lines from its console, each with its status at the end.
# shellcheck disable=SC2016
agent='stty -echo; echo @ready; while read -r line; do eval "$line"; echo "@done $?"; done'

fail()
{
	echo "${0##*/}: $*" >&2
	exit 1
}

cpufreq=/sys/devices/system/cpu/cpufreq

# Of all CPUs of the host; leaves the last one's directory in $policy.
governor()
{
	for policy in "$cpufreq"/policy*; do
		echo "$1" >"$policy/scaling_governor"
	done
}

# Files of schedutil: of all policies, or one each
rate_limit()
{
	for file in "$cpufreq"/schedutil/rate_limit_us "$cpufreq"/policy*/schedutil/rate_limit_us; do
		[ ! -e "$file" ] || echo "$1" >"$file"
	done
}

# Frequencies for the host, test_cpufreq.ko's default ones, which schedutil picks
host_with_frequencies()
{
	insmod /tests/test_modules/test_cpufreq.ko || return
	governor schedutil
}

vm() { d=/tmp/vm-$1; }

# A guest with these options of scripts/host/guest, in front of more arguments for QEMU.
vm_launch()	# NAME 'QEMU-ARGUMENT...' OPTION...
{
	vm "$1"
	qemu_arguments=$2
	shift 2
	rm -rf "$d"
	mkdir "$d"
	mkfifo "$d/stdin" "$d/console" "$d/monitor.in" "$d/monitor.out"
	: >"$d/log"
	# Both ends of the pipes are kept open: nobody waits for the other, and nothing is
	# lost that one says before the other listens.
	{
		: >"$d/open"
		status=0
		QEMU_MONITOR=$d/monitor guest "$@" -d "-pidfile $d/pid $qemu_arguments" -- "$agent" \
			2>"$d/messages" || status=$?
		echo @gone	# for who reads; the pipe keeps it for nobody else
		: >"$d/gone"
		exit $status
	} <>"$d/stdin" 1<>"$d/console" 3<>"$d/monitor.in" 4<>"$d/monitor.out" &
	echo $! >"$d/job"
	wait_for 20 test -e "$d/open"
}

vm_start()	# as vm_launch, and wait until it takes commands
{
	vm_launch "$@"
	vm_ready
}

vm_ready() { console_until @ready >/dev/null; }

# What the guest prints before a line that has this in it. Leaves the line in $line.
console_until()	# TEXT
{
	while IFS= read -r -t $all_seconds line; do
		line=${line%"$cr"}
		echo "$line" >>"$d/log"
		case $line in
		*"$1"*)
			[ -z "${line%%"$1"*}" ] || echo "${line%%"$1"*}"
			return 0 ;;
		*@gone) break ;;
		esac
		echo "$line"
	done <>"$d/console"
	return 1
}

# Run a command in the guest: its output, its status.
vm_run()	# COMMAND
{
	vm_tell "$1"
	console_until '@done ' && return "${line##*@done }"
	return 125
}

# The same in two halves, for what the host does meanwhile. To the guest it is one line.
vm_tell() { echo "$1" | tr '\n' ' ' | sed 's/ *$/\n/' 1<>"$d/stdin"; }
vm_answer() { console_until '@done '; }

# A command of QEMU's monitor and what it answers.
hmp()	# COMMAND
{
	printf '%s\nprint/d 4711\n' "$1" 1<>"$d/monitor.in"
	while IFS= read -r -t $all_seconds line; do
		line=${line%"$cr"}
		case $line in
		4711) return 0 ;;
		*"$esc"[* | 'QEMU '*) ;;	# what was typed, and the greeting
		*) echo "$line" ;;
		esac
	done <>"$d/monitor.out"
	return 1
}

# A property of the device, as words
vcf() { hmp "qom-get /machine/peripheral/vcf $1" | tr -d '[]", ' | xargs; }

vm_pid() { cat "$d/pid"; }
vcpu_tids() { hmp 'info cpus' | sed -n 's/.*thread_id=//p'; }

# The effective clamps of the vCPU threads
vcpu_clamps()	# min|max
{
	for tid in $(vcpu_tids); do
		sed -n "s/^effective uclamp.$1 *: *//p" "/proc/$tid/sched"
	done | xargs
}

vm_quit()
{
	echo quit 1<>"$d/monitor.in"
	vm_wait
}

# Does QEMU end by itself?
vm_gone() { wait_for $all_seconds test -e "$d/gone"; }

# The end of the guest: QEMU's status
vm_wait() { wait "$(cat "$d/job")"; }

vm_kill()
{
	kill -9 "$(vm_pid)" 2>/dev/null
	vm_wait 2>/dev/null
}

# Try until a command succeeds, 20 times a second.
wait_for()	# SECONDS COMMAND...
{
	tries=$(($1 * 20))
	shift
	until "$@"; do
		[ $((tries -= 1)) -gt 0 ] || return 1
		sleep 0.05
	done
}
