#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# The tarball of `make dist` builds without autotools: commands of their names that only complain stand first in PATH.
. "${srcdir:-.}/tests/lib.sh"
need xz
cd "$build" || exit 99
quietly make dist || finish
mv medley-*.tar.xz "$work/" && cd "$work" || exit 99
tar xf medley-*.tar.xz && rm medley-*.tar.xz && cd medley-* || exit 99

mkdir "$work/bin"
for tool in autoconf autoheader autom4te autoreconf automake aclocal libtoolize; do
  printf '#!/bin/sh\necho "%s $*" >>"%s"\nexit 1\n' $tool "$work/autotools.used" >"$work/bin/$tool"
  chmod +x "$work/bin/$tool"
  for versioned in $tool-1.15 $tool-1.16 $tool-1.17; do ln -s $tool "$work/bin/$versioned"; done
done
PATH=$work/bin:$PATH
export PATH

quietly ./configure -q --disable-static CFLAGS=-O0 && quietly make -j"$jobs" && quietly make install DESTDIR="$work/stage"
[ ! -e "$work/autotools.used" ] || { cat "$work/autotools.used"; fail "autotools were called"; }
for file in README.md LICENSE NEWS HACKING.md docs/design.md build-aux/setup tests/lib.sh; do
  [ -e $file ] || fail "$file is not in the tarball"
done
[ -n "$(find "$work/stage" -name 'libmedley.so.*')" ] || fail "the tarball's make install installs no library"

# Everything that git knows is in the tarball, but for what only git needs.
if [ -e "$top/.git" ] && command -v git >/dev/null 2>&1; then
  git -C "$top" ls-files | grep -vE '^(\.gitignore|m4/\.keep)$' | while read -r file; do
    [ ! -e "$top/$file" ] || [ -e "$file" ] || echo "$file"
  done >"$work/absent"
  while read -r file; do fail "$file is in git but not in the tarball (EXTRA_DIST)"; done <"$work/absent"
fi
finish
