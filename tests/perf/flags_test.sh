#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# The command line of medley-perf: what is wrong is named and ends with status 2, before any rank starts.
. "${srcdir:-.}/tests/lib.sh"
. "${srcdir:-.}/tests/perf/lib.sh"
limit=20

# refused PATTERN ARG...
refused() {
  pattern=$1
  shift
  expect 2 "$@" || return
  said err "$pattern" "medley-perf $*"
  [ ! -s "$work/out" ] || fail "medley-perf $*: it printed before it refused"
}

refused 'which collective'
refused "'nonsense' is no collective" nonsense
refused "'extra' was not expected" all_reduce extra
refused '-q is no flag' all_reduce -q
refused 'nonsense is no flag' all_reduce --nonsense
refused '-b, --minbytes needs a value \(SIZE\)' all_reduce -b
refused 'matrix takes no value' --matrix=3

refused "-b, --minbytes: '12x' is not a size" all_reduce -b 12x
refused "-b, --minbytes: '-8' is not a size" all_reduce -b -8
refused "-e, --maxbytes: '0x10' is not a size" all_reduce -e 0x10
refused "-e, --maxbytes: '9999999999G' is not a size" all_reduce --maxbytes 9999999999G
refused 'minbytes 67108864 is more than -e, --maxbytes 33554432' all_reduce -b 64M
refused 'minbytes 0 does not grow' all_reduce -b 0 -f 2
refused 'stepbytes 0 leads nowhere' all_reduce -b 8 -e 16 -i 0
refused "-n, --iters: '0' is not a whole number from 1" all_reduce -n 0
refused "-n, --iters: '3.5' is not a whole number" all_reduce -n 3.5
refused "-a, --average: '4' is not a whole number from 0 to 3" all_reduce -a 4
refused "-o, --op: 'xor' is not sum, prod" all_reduce -o xor
refused "-d, --datatype: 'quad' is not" all_reduce -d quad
refused "-r, --root: 'x' is not a rank or all" reduce -r x
refused "--mem: 'disk' is not malloc or alloc" all_reduce --mem disk
refused "--local: '0' is not" all_reduce --local 0
refused '-K, --per_iter_skip needs -I 1' all_reduce -K 1
refused 'leaves none of 20 iterations' all_reduce -I 1 -K 20
refused 'needs -z 1, 2 or 3' all_reduce -I 1 -y 0
refused 'which -N 0 never reaches' all_reduce -J /tmp/never -N 0
refused 'needs -g 1' --matrix -g 2
refused "leave 'all_reduce' out" all_reduce --matrix
refused 'steps of hypercube need each other' hypercube -m 2
refused 'there is no such rank' reduce -r 3 -t 2
refused 'hypercube needs 2, 4, 8' hypercube -t 3
refused 'matrix needs at least 2' --matrix

# nccl-tests' flags that mean nothing here; what asks for nothing is taken.
refused '-G, --cudagraph 1 is refused: there are no CUDA graphs' all_reduce -G 1
refused '-x, --cta_policy 0 is refused: .*CTA' all_reduce -x 0
refused '-D, --device_implementation 2 is refused' all_reduce --device_implementation 2
refused '-V, --device_cta_count 16 is refused' all_reduce -V 16
expect 0 all_reduce -G 0 -D 0 -b 8 -e 8 -n 1

for name in MEDLEY_PERF_MIN_BW NCCL_TESTS_MIN_BW; do
  (export $name=fast; refused "$name='fast' is not a bandwidth" all_reduce; finish) || fail "$name"
done
(export MEDLEY_PERF_CORRUPT=x; refused "MEDLEY_PERF_CORRUPT='x' is not RANK" all_reduce; finish) || fail CORRUPT
(export MEDLEY_PERF_MINBW=1; expect 0 all_reduce -b 8 -e 8 -n 1; said err 'MEDLEY_PERF_MINBW is not known' unknown; finish) ||
  fail "unknown variable"
(export MEDLEY_PERF_LOCAL=x; expect 3 all_reduce; said err 'MEDLEY_PERF_LOCAL is set by --local' LOCAL; finish) || fail LOCAL
expect 3 all_reduce -b 100000G -e 100000G && said err 'not enough memory for -b' "no memory"

# Devices: a wrong name is said once, before there are ranks; blanks after commas are nothing.
for name in tpu cuda:+0 cuda:x 'host,,host' 'host, cuda:' '"host"'; do
  refused '--device: .* is not a device: it must be one of host' all_reduce --local 3 --device "$name" -b 8 -e 8 &&
    [ "$(grep -c '^medley-perf:' "$work/err")" = 1 ] || fail "--device '$name' is not refused once"
done
expect 0 all_reduce --local 2 --device 'host, host' -b 8 -e 8 -n 1
(export MEDLEY_DEVICE=tpu; refused 'MEDLEY_DEVICE: "tpu" is not a device' all_reduce --local 2; finish) || fail MEDLEY_DEVICE
refused 'output_file /nowhere/x.json: No such file' all_reduce -J /nowhere/x.json

expect 0 --help && {
  for word in all_reduce hypercube reduce_scatterv --minbytes --per_iter_timing --matrix --local cudagraph; do
    said out "$word" "--help"
  done
  [ ! -s "$work/err" ] || fail "--help wrote to stderr"
  awk 'length > 120 { print; bad = 1 } END { exit bad }' "$work/out" || fail "--help has long lines"
}
expect 0 -h all_reduce
expect 0 --version && said out '^medley-perf [0-9]+\.[0-9]+\.[0-9]+$' "--version"

# nccl-tests' programs are links to this one.
ln -s "$perf_program" "$work/all_gather_perf"
timeout 20 "$work/all_gather_perf" -b 64 -e 64 -n 1 >"$work/out" 2>"$work/err" || fail "all_gather_perf"
said out 'test starting: all_gather$' all_gather_perf
finish
