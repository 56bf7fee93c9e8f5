#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Proves that the tests of the device adapters can fail: makes one mistake at a time in an adapter (mutants.list), builds
# the contract's tests with it, and demands that they fail on the emulated runtimes (OpenCL: on what is installed).
#   tests/emul/mutate.sh            a few, drawn by MDL_TEST_SEED or by the time; the seed is printed
#   tests/emul/mutate.sh -a         all, and first each runtime without a mistake, which must pass
#   tests/emul/mutate.sh -v NAME... these, with what the tests say
#   tests/emul/mutate.sh -p 2/5 ... the second of five parts of these
# In the build tree, after `make programs`. Only the mutated file is compiled, or, of a header, the file that the list
# names for it, and linked before the library. A mistake whose text is not in the file, that does not compile, or that
# no test notices is an error.
. "${srcdir:-.}/tests/lib.sh"
few=8 all= loud= names= part=1/1
while [ $# -gt 0 ]; do
  case $1 in
  -a) all=1 ;;
  -v) loud=1 ;;
  -p) shift; part=${1-} ;;
  -*) echo "usage: mutate.sh [-a] [-v] [-p PART/PARTS] [NAME...]"; exit 2 ;;
  *) names="$names $1" ;;
  esac
  shift
done
list=$top/tests/emul/mutants.list
grep -q 'fsanitize' "$build/GNUmakefile" && skip "the adapters' mistakes are tried in an ordinary build"
[ -e "$build/.libs/libmedley-all.a" ] || skip "there is no .libs/libmedley-all.a: make libmedley-all.la"
ops=tests/unit/test_dev_ops-test_dev_ops.o device=tests/hetero/test_device.o
[ -e "$build/$ops" ] || skip "tests/unit/test_dev_ops was not built: Check is missing"
[ -e "$build/$device" ] || skip "tests/hetero/test_device was not built"
native=tests/hetero/test_native.o
settings=$(make -s -C "$build" mutate-settings | grep '^MUTATE_') || { fail "make mutate-settings"; finish; }
eval "$settings"
export EMUL_REQUIRE_ENTER=1 EMUL_DELAY_US=100 EMUL_DEVICES=2 EMUL_LEAKS=2 POCL_DEVICES="pthread pthread"
export CK_DEFAULT_TIMEOUT=20 MEDLEY_DEBUG=NONE
ulimit -c 0

# field NAME: of the mutant $mutant, which is a paragraph of the list; the first one is what the list says of itself
field() { printf '%s\n' "$mutant" | sed -n "s/^$1\( \|\$\)//p" | head -n 1; }

# The file with the first occurrence of the old text replaced by the new one; no file if it is not there.
change() {
  old="$1" new="$2" awk '
    !done && (at = index($0, ENVIRON["old"])) {
      $0 = substr($0, 1, at - 1) ENVIRON["new"] substr($0, at + length(ENVIRON["old"])); done = 1
    }
    { print }
    END { exit !done }' "$3" >"$4"
}

# link PROGRAM OBJECT FIRST: with $3, "" for none, before the library
link() {
  beside=
  [ "$2" != $native ] || beside="$build/tests/coll/check.o $build/tests/coll/home.o $build/tests/coll/ranks.o $build/tests/hetero/native_thread.o"
  # shellcheck disable=SC2086
  $MUTATE_CC -o "$1" "$build/$2" $beside $3 "$build/.libs/libmedley-all.a" $MUTATE_LIBS
}

# notices PROGRAM RUN: does it fail there? RUN is a folder of tests/emul, perhaps with faults: cnrt(busy), or opencl.
notices() {
  folder=${2%%(*} faults=
  case $2 in *"("*) faults=${2#*(} && faults=${faults%)} ;; esac
  vendor=$(echo "${folder%%_*}" | sed 's/[0-9]*$//') path=
  [ "$vendor" = opencl ] || path=$vendor=$build/tests/emul/$folder
  caps=$(sed -n "s/^$folder //p" "$top/tests/emul/caps.list")
  [ -z "$faults" ] || caps=
  MDL_TEST_CAPS=$caps MEDLEY_DEVICE_PATH=$path EMUL_FAULT=$faults timeout -k 1 40 "$1" "$vendor:0" >"$work/said" 2>&1 </dev/null
  status=$?
  [ -z "$loud" ] || sed 's/^/  /' "$work/said"
  [ $status != 0 ]
}
# notices_native PROGRAM FOLDER LIBRARY:SCENE[,SCENE]: three ranks, whose numbers are not those of their devices. What
# must pass through to the library is in caps.list.
notices_native() {
  vendor=$(echo "${2%%_*}" | sed 's/[0-9]*$//') scenes=$(echo "${3#*:}" | tr , ' ')
  passed=$(sed -n "s/^${3%%:*} on $2 //p" "$top/tests/emul/caps.list")
  leaks=2
  case $3 in hccl:late | *:one_thread) leaks=0 ;; esac # a call under way stays without an abort; one_thread gives nothing back
  # shellcheck disable=SC2086
  EMUL_LEAKS=$leaks MEDLEY_NATIVE=1 MEDLEY_DEVICE_DIRECT=0 MEDLEY_DEVICE_STAGING=8M EMUL_DEVICES=3 EMUL_CCL_SECOND=50 MDL_TEST_NATIVE=${3%%:*} \
    MDL_TEST_DEVICES=$vendor:2,$vendor:0,$vendor:1 MEDLEY_DEVICE_PATH=$vendor=$build/tests/emul/$2 MDL_TEST_PASSED=$passed \
    timeout -k 1 60 "$1" $scenes >"$work/said" 2>&1 </dev/null
  status=$?
  [ -z "$loud" ] || sed 's/^/  /' "$work/said"
  [ $status != 0 ]
}
have_opencl() { MEDLEY_DEVICE_PATH='' timeout 20 "$build/tests/hetero/test_device" opencl >/dev/null 2>&1; }

note_caught() {
  caught=$((caught + 1))
  [ $status != 124 ] || hung="$hung $name"
}
try() {
  name=$(field mutant) file=$(field in) runs=$(field on)
  case $runs in opencl*) have_opencl || { echo "left out: $name: no OpenCL device here"; left=$((left + 1)); return; } ;; esac
  case $runs in *spare*) # what stands in a register depends on the compiler
    notices "$build/tests/unit/test_dev_ops" "$runs" &&
      { echo "left out: $name: $runs cannot tell in this build"; left=$((left + 1)); return; } ;;
  esac
  changed=$work/changed/$file source=$(field of)
  rm -rf "$work/changed"
  mkdir -p "$(dirname "$changed")"
  change "$(field -)" "$(field +)" "$top/$file" "$changed" || { fail "$name: $file has not the text: $(field -)"; return; }
  source=${source:+$top/$source}
  # shellcheck disable=SC2086
  $MUTATE_CC -I"$work/changed" $MUTATE_CFLAGS -c "${source:-$changed}" -o "$work/mutant.o" 2>"$work/said" ||
    { cat "$work/said"; fail "$name: does not compile"; return; }
  scenes=$(field native)
  if [ -n "$scenes" ]; then
    link "$work/program" $native "$work/mutant.o" >"$work/said" 2>&1 || { cat "$work/said"; fail "$name: does not link"; return; }
    [ -z "$loud" ] || echo "$name: ${scenes#*:} on $runs"
    notices_native "$work/program" "$runs" "$scenes" && { note_caught; return; }
    fail "$name survives: $file with '$(field +)' for '$(field -)', on $runs, $scenes"
    return
  fi
  for object in $device $ops; do
    link "$work/program" "$object" "$work/mutant.o" >"$work/said" 2>&1 || { cat "$work/said"; fail "$name: does not link"; return; }
    for run in $runs; do
      [ -z "$loud" ] || echo "$name: $(basename "$object" .o) on $run"
      notices "$work/program" "$run" || continue
      note_caught
      return
    done
  done
  fail "$name survives: $file with '$(field +)' for '$(field -)', on $runs"
}

# Is the next one of many in this part?
turn=0
mine() {
  turn=$((turn + 1))
  [ $((turn % ${part#*/})) = $((${part%/*} % ${part#*/})) ]
}
paragraph() { awk -v RS= -v n="$1" 'NR == n' "$list"; }
count=$(awk -v RS= 'END { print NR }' "$list")
# An adapter that changed takes its mistakes along, whether they are tried today or not.
awk '/^mutant / { name = $2 } /^in / { file = $2 } /^- / { print name "\t" file "\t" substr($0, 3) }' "$list" |
  while IFS="$(printf '\t')" read -r name file old; do
    grep -qF -e "$old" "$top/$file" || echo "$name: $file has not the text: $old"
  done >"$work/stale"
while read -r line; do fail "$line"; done <"$work/stale"
tried=0 caught=0 left=0 hung=
if [ -n "$names" ]; then
  wanted=$(for name in $names; do awk -v RS= -v name="$name" '$2 == name { print NR }' "$list"; done)
elif [ -n "$all" ]; then
  wanted=$(seq "$count")
  awk -v RS= -F '\n' '{ for (i = 1; i <= NF; i++) { if ($i ~ /^on /) on = substr($i, 4); if ($i ~ /^native /) print on, substr($i, 8) } }' \
    "$list" | sort -u >"$work/natives"
  while read -r run scenes; do
    mine || continue
    notices_native "$build/tests/hetero/test_native" "$run" "$scenes" &&
      { tail -n 20 "$work/said"; fail "test_native on $run fails without a mistake: $scenes"; }
  done <"$work/natives"
  for run in $(awk -v RS= '!/\nnative /' "$list" | sed -n 's/^on //p' | tr ' ' '\n' | sort -u); do
    mine || continue
    case $run in opencl*) have_opencl || continue ;; *spare*) continue ;; esac
    for program in tests/hetero/test_device tests/unit/test_dev_ops; do
      notices "$build/$program" "$run" && { tail -n 20 "$work/said"; fail "$program on $run fails without a mistake"; }
    done
  done
else
  seed=${MDL_TEST_SEED:-$(date +%s)}
  echo "seed $seed: MDL_TEST_SEED=$seed tests/emul/mutate.sh tries the same $few of $((count - 1))"
  wanted=$(awk -v seed="$seed" -v n="$count" -v few=$few 'BEGIN { srand(seed); while (few > 0) { k = 2 + int(rand() * (n - 1)); if (!(k in s)) { s[k]; few--; print k } } }')
fi
for number in $wanted; do
  [ -n "$names" ] || mine || continue
  mutant=$(paragraph "$number")
  case $mutant in mutant*) ;; *) continue ;; esac
  tried=$((tried + 1))
  try
done
echo "$tried mistakes, $caught noticed, $left left out${hung:+, by a hang:$hung}"
[ $tried -gt 0 ] || fail "no such mistake in $list"
finish
