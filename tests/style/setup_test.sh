#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# build-aux/setup where it cannot install: it names the packages for apt and for dnf and fails; what only tests need is
# no error. The folder of commands given to it has no package manager and no compiler.
. "${srcdir:-.}/tests/lib.sh"
mkdir "$work/bin"
for tool in sh dirname id mktemp tail rm; do
  ln -s "$(command -v $tool)" "$work/bin/$tool"
done
run_setup() { PATH=$work/bin "$work/bin/sh" "$top/build-aux/setup" "$@" >"$work/log" 2>&1; }

run_setup && fail "setup succeeded without a compiler"
for word in "apt-get install" "dnf install" gcc libsodium-dev libsodium-devel pkgconf-pkg-config check-devel; do
  grep -q -e "$word" "$work/log" || fail "setup does not name $word"
done
run_setup --nonsense && fail "setup took an unknown option"
grep -q usage "$work/log" || fail "no usage for an unknown option"

# With all that is required there, but nothing of what is optional.
cat >"$work/bin/pkg-config" <<'FAKE'
#!/bin/sh
case $2 in libsodium | check) exit 0 ;; *) exit 1 ;; esac
FAKE
chmod +x "$work/bin/pkg-config"
for tool in gcc make autoreconf automake libtoolize; do
  ln -s /bin/true "$work/bin/$tool"
done
run_setup || fail "setup failed although all that is required is there"
[ ! -s "$work/log" ] || fail "setup is not silent when there is nothing to do"
run_setup --tests || fail "missing optional packages are an error"
for word in libhwloc-dev mpich-devel universal-ctags; do
  grep -q -e "$word" "$work/log" || fail "setup --tests does not name $word"
done
finish
