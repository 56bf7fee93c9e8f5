#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Under launchers, without further flags: Open MPI (PMIx), MPICH (PMI), what torchrun sets, and what is wrong.
. "${srcdir:-.}/tests/lib.sh"
. "${srcdir:-.}/tests/perf/lib.sh"
# In a build with AddressSanitizer: what libpmix leaks is not ours.
echo "leak:libpmix" >"$work/suppressions"
export LSAN_OPTIONS="suppressions=$work/suppressions:print_suppressions=0"

# launched PATTERN COMMAND...: its table is right, and its head says who started it
launched() {
  pattern=$1
  shift
  timeout -k 5 60 "$@" >"$work/out" 2>"$work/err" </dev/null
  status=$?
  [ $status = 0 ] || { show; fail "$*: exit status $status"; return; }
  said out "$pattern" "$*"
  [ "$(rows | awk '$9 == 0 && $13 == 0' | wc -l)" = 2 ] || { show; fail "$*: no right rows"; }
}
args="all_reduce -b 64 -e 4K -f 64 -n 3"

# shellcheck disable=SC2086
if command -v mpirun.openmpi >/dev/null 2>&1; then
  export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1
  mpi="mpirun.openmpi --oversubscribe"
  if "$build/medley-info" | grep -q 'PMIx  *yes'; then
    launched '4 ranks in 4 processes started by Open MPI' $mpi -n 4 "$perf_program" $args
    launched '4 ranks in 2 processes started by Open MPI' $mpi -n 2 "$perf_program" $args -t 2
    launched '1 ranks in 1 processes started by Open MPI' $mpi -n 1 "$perf_program" $args
    # PMIx alone names rank and size too.
    launched '2 ranks in 2 processes started by PMIx' $mpi -n 2 env -u OMPI_COMM_WORLD_RANK -u OMPI_COMM_WORLD_SIZE \
      "$perf_program" $args
    MEDLEY_PERF_CORRUPT=1 timeout 60 $mpi -n 2 "$perf_program" $args >"$work/out" 2>"$work/err" </dev/null
    [ $? = 1 ] || { show; fail "wrong data under Open MPI: exit status"; }
    # Without PMIx, but with an address of the user's: what Open MPI says of rank and size is enough.
    launched '2 ranks in 2 processes started by Open MPI' $mpi -n 2 env -u PMIX_NAMESPACE MEDLEY_COMM_ID=127.0.0.1:$((20000 + ($$ * 7 + 3) % 10000)) \
      "$perf_program" $args
    timeout 60 $mpi -n 2 env -u PMIX_NAMESPACE "$perf_program" $args >"$work/out" 2>"$work/err" </dev/null
    [ $? = 3 ] || { show; fail "Open MPI without PMIx: exit status"; }
    said err 'Open MPI started 2 processes but offers no way to hand the id around.*MEDLEY_COMM_ID' "Open MPI without PMIx"
  else
    echo "not tried: Open MPI, for want of PMIx"
  fi
  unset OMPI_ALLOW_RUN_AS_ROOT OMPI_ALLOW_RUN_AS_ROOT_CONFIRM
else
  echo "not tried: Open MPI is not installed"
fi

# shellcheck disable=SC2086
if command -v mpirun.mpich >/dev/null 2>&1; then
  launched '4 ranks in 4 processes started by MPICH' mpirun.mpich -n 4 "$perf_program" $args
  launched '1 ranks in 1 processes started by MPICH' mpirun.mpich -n 1 "$perf_program" $args
  MEDLEY_PERF_CORRUPT=1 timeout 60 mpirun.mpich -n 2 "$perf_program" $args >"$work/out" 2>"$work/err" </dev/null
  [ $? = 1 ] || { show; fail "wrong data under MPICH: exit status"; }
else
  echo "not tried: MPICH is not installed"
fi

# What torchrun sets; MEDLEY_COMM_ID is derived from the master's address.
free_port() { echo $((20000 + ($$ * 7 + $1) % 10000)); }
torch() {
  port=$(free_port $1)
  for rank in 1 0; do
    env TORCHELASTIC_RUN_ID=x RANK=$rank WORLD_SIZE=2 LOCAL_RANK=$rank LOCAL_WORLD_SIZE=2 MASTER_ADDR=$2 \
      MASTER_PORT="$port" timeout -k 5 60 "$perf_program" $args >"$work/out.$rank" 2>"$work/err.$rank" </dev/null &
    [ $rank = 0 ] || other=$!
  done
  wait $!
  first=$?
  wait "$other"
  second=$?
  cp "$work/out.0" "$work/out"
  cat "$work/err.0" "$work/err.1" >"$work/err"
}
torch 1 127.0.0.1
[ $first = 0 ] && [ $second = 0 ] || { show; fail "torchrun's variables: exit status $first and $second"; }
said out '2 ranks in 2 processes started by torchrun' "torchrun's variables"
[ ! -s "$work/out.1" ] || fail "rank 1 printed"

# What srun sets without PMIx or PMI: the root is the first host of the step, at a port of the job's own.
for rank in 1 0; do
  env SLURM_JOB_ID=$$ SLURM_STEP_ID=0 SLURM_PROCID=$rank SLURM_STEP_NUM_TASKS=2 SLURM_LOCALID=$rank SLURM_NODEID=0 \
    SLURM_STEP_TASKS_PER_NODE=2 SLURM_STEP_NODELIST=localhost timeout -k 5 60 "$perf_program" $args \
    >"$work/out.$rank" 2>"$work/err.$rank" </dev/null &
  [ $rank = 0 ] || other=$!
done
wait $! && wait "$other" || { cat "$work"/out.? "$work"/err.?; fail "srun's variables"; }
cp "$work/out.0" "$work/out"
said out '2 ranks in 2 processes started by srun' "srun's variables"

# Off loopback an address alone lets nobody in: the key is asked for.
torch 2 192.0.2.1
[ $first = 3 ] && [ $second = 3 ] || { show; fail "without a key: exit status $first and $second"; }
said err 'MEDLEY_COMM_KEY' "without a key"

# A launcher that offers nothing, and damaged variables.
(export PMI_RANK=0 PMI_SIZE=2; limit=20; expect 3 all_reduce; said err 'no way to hand the id around.*MEDLEY_COMM_ID' "PMI without PMI_FD"; finish) ||
  fail "PMI without PMI_FD"
(export OMPI_COMM_WORLD_RANK=5 OMPI_COMM_WORLD_SIZE=2; limit=20; expect 3 all_reduce; said err 'does not fit' "rank out of range"; finish) ||
  fail "rank out of range"
(export PMI_RANK=1 PMI_SIZE=2 PMI_FD=77; limit=20; expect 3 all_reduce; said err 'PMI: ' "PMI_FD that is closed"; finish) ||
  fail "PMI_FD that is closed"
finish
