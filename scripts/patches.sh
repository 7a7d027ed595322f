# SPDX-License-Identifier: GPL-2.0-only
# shellcheck shell=bash
# The series in patches/ and the trees they make; sourced instead of common.sh, not run.
#
# patches/linux and patches/qemu are to be sent, patches/tests has what only this repository's
# tests need of the kernel's tree. A patch is a commit message, a line for each file of this
# repository that it adds, and a diff of what it changes besides:
#
#	New-file: PATH		the file of the same path here, QEMU's below qemu/
#	Copy-file: FROM TO	of another path here
#
# These files stand here as the whole series leaves them: a later patch that changes one of
# them is taken back to get what an earlier patch adds.

# shellcheck source=scripts/common.sh
. "$(dirname "${BASH_SOURCE[0]}")/common.sh"

# Files of this repository below directories that mirror a source tree
mirrored_files()	# DIRECTORY...
{
	(cd "$TOP" && find "$@" -type f ! -name '.*' ! -name '*~' 2>/dev/null | sort) || :
}

patches()	# SERIES...
{
	local series
	for series; do
		find "$TOP/patches/$series" -name '[0-9]*.patch' 2>/dev/null | sort
	done
}

# A key of all that makes the kernel's tree what it is below the named directories.
series_key()	# DIRECTORY...
{
	cat "$LINUX/version"
	(cd "$TOP" && { patches linux tests; mirrored_files "$@"; } | xargs -r sha256sum)
}

# Whose series it is, for MAINTAINERS too; nobody's as long as it is only built
SIGNED='A. Draft <draft@example.org>'

sign_off()	# DRAFT: if that is empty, by SIGNOFF='Name <mail>' or by git's user
{
	local name='' mail=''
	if [ -z "$1" ]; then
		SIGNED=${SIGNOFF:-}
		if [ -z "$SIGNED" ]; then
			name=$(git -C "$TOP" config user.name) mail=$(git -C "$TOP" config user.email) || :
			SIGNED="$name <$mail>"
		fi
	fi
	[[ $SIGNED =~ ^([^<]+)\ \<([^@]+@[^@]+)\>$ ]] ||
		die "who signs off? set git's user.name and user.email, or SIGNOFF='Name <mail>'"
	export GIT_CONFIG_GLOBAL=/dev/null GIT_CONFIG_NOSYSTEM=1
	export GIT_AUTHOR_NAME=${BASH_REMATCH[1]} GIT_AUTHOR_EMAIL=${BASH_REMATCH[2]}
	export GIT_COMMITTER_NAME=$GIT_AUTHOR_NAME GIT_COMMITTER_EMAIL=$GIT_AUTHOR_EMAIL
}

patch_text()
{
	local text
	text=$(cat "$1")
	printf '%s\n' "${text//@SIGNOFF@/"$SIGNED"}"
}

changed_files() { sed -n 's,^+++ b/\([^\t]*\).*,\1,p' "$@" | sort -u; }

# "FROM TO" for each file of this repository that patches add
named_files()	# PATCH...
{
	local patch root
	for patch; do
		root=''
		[[ $patch != */patches/qemu/* ]] || root=qemu/
		sed -n "s,^New-file: *\(.*\),$root\1 \1,p; s,^Copy-file: *,,p" "$patch"
	done
}

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

# Of a diff what is about other files than the named ones, one a line
without()	# FILES
{
	FILES=$1 awk '
		BEGIN { n = split(ENVIRON["FILES"], names, "\n"); for (i = 1; i <= n; i++) named[names[i]] }
		/^--- a\// || /^--- \/dev\/null/ { from = $0; next }
		/^\+\+\+ b\// { show = !(substr($2, 3) in named); if (show) print from }
		show && !/^diff --git/'
}

# Only exactly as written, though lines may have moved; what does not fit is told on standard output
apply_diff()	# DIR [-R]
{
	local diff said
	diff=$(cat)
	[ -n "$diff" ] || return 0
	said=$(patch -p1 -F0 -f --no-backup-if-mismatch -r - -d "$@" <<<"$diff" 2>&1) && return
	awk '	/^patching file / { file = $3 }
		/^\|\+\+\+ b\// { file = substr($2, 3) }
		/FAILED at/ { print file ": " $0 }
		/No file to patch/ { print file ": no such file" }' <<<"$said"
	return 1
}

# Make DIR the files that a series touches, as the whole of it leaves them. Status 1: PATCH does not
# fit, whose name and complaint are in $misfit.
stage_series()	# DIR PRISTINE PATCH...
{
	local dir=$1 pristine=$2 file patch own
	shift 2
	own=$(named_files "$@" | cut -d' ' -f2)
	for file in $(changed_files "$@"); do
		[ ! -e "$pristine/$file" ] || (cd "$pristine" && cp --parents "$file" "$dir")
	done
	for patch; do
		misfit=$(patch_text "$patch" | without "$own" | apply_diff "$dir") || {
			misfit="${patch#"$TOP"/}: $misfit"
			return 1
		}
	done
	named_files "$@" | put_files "$dir"
}

# The same as it was before its last patch, which must come off as exactly as the others went on
unstage()	# DIR PATCH
{
	misfit=$(patch_text "$2" | without '' | apply_diff "$1" -R) || {
		misfit="${2#"$TOP"/} does not come off: $misfit"
		return 1
	}
	named_files "$2" | while read -r _ file; do rm "$1/$file"; done
}

# A repository of the files that a series touches, with a commit for each patch on top of the tag
# base: it is quick, and its diffs are those of the whole tree. Fails like stage_series.
commit_series()	# REPOSITORY PRISTINE PATCH...
{
	local repo=$1 pristine=$2 file i base trees=()
	shift 2
	local series=("$@")
	git -C "$repo" init -q -b main
	for file in $(changed_files "$@"); do
		[ ! -e "$pristine/$file" ] || (cd "$pristine" && cp --parents "$file" "$repo")
	done
	git -C "$repo" add -A
	base=$(git -C "$repo" write-tree)
	stage_series "$repo" "$pristine" "$@" || return
	for ((i = $#; i >= 0; i--)); do
		git -C "$repo" add -A
		trees[i]=$(git -C "$repo" write-tree)
		[ "$i" = 0 ] || unstage "$repo" "${series[i - 1]}" || return
	done
	if [ "${trees[0]}" != "$base" ]; then
		misfit='without the series the files are not those of the source'
		return 1
	fi
	git -C "$repo" commit -q --allow-empty -m base
	git -C "$repo" tag base
	for ((i = 1; i <= $#; i++)); do
		git -C "$repo" read-tree "${trees[i]}"
		sed -nE '/^---$/q; /^(New|Copy)-file:/d; s/^Subject: *//; p' "${series[i - 1]}" |
			git -C "$repo" commit -q -s -F -
	done
	git -C "$repo" reset -q --hard
}

# What the source in DIR/pristine is, for people and for the keys of what is made from it; field() reads it.
record() { printf '%s\n' "${@:2}" >"$1/version"; }		# DIR 'NAME VALUE'...

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

# Hard-linked copy of DIR/pristine with a series, or its first patches; files that they change
# are replaced in it, never written to, and only when their content differs: make sees no others.
make_tree()	# DIR TREE WHAT-THE-SERIES-IS-FOR COUNT PATCH...
{
	local pristine=$1/pristine stage=$1/stage tree=$1/$2 made_for=$3 count=$4 file i
	shift 4
	local series=("$@")
	rm -rf "$stage"
	mkdir "$stage"
	if [ ! -d "$tree" ]; then
		rm -rf "$tree.new"
		cp -al "$pristine" "$tree.new"
		: >"$tree.files"
		mv "$tree.new" "$tree"
	fi
	stage_series "$stage" "$pristine" "$@" || die "$misfit
the series is for $made_for, this source is $(field "${stage%/*}" version) ($(field "${stage%/*}" from))"
	for ((i = $#; i > count; i--)); do
		unstage "$stage" "${series[i - 1]}" || die "$misfit"
	done
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
