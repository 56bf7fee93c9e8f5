#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# medley-perf on two hosts, whose processes a launcher, or a user, has started: MEDLEY_COMM_ID with a key, and what is
# said without one or with another one; torchrun's and srun's variables.
. "${srcdir:-.}/tests/hosts/lib.sh"
perf=$build/medley-perf
[ -x "$perf" ] || skip "medley-perf was not built"
host node1 node2
network 0 rail0 4 node1 node2
network 1 rail1 6 node1 node2
# srun names hosts by their names.
printf '127.0.0.1 localhost\n10.77.0.1 node1\n10.77.0.2 node2\n' >"$work/hosts"
mount --bind "$work/hosts" /etc/hosts || skip "/etc/hosts cannot be replaced here"
unset RANK WORLD_SIZE LOCAL_RANK LOCAL_WORLD_SIZE MASTER_ADDR MASTER_PORT TORCHELASTIC_RUN_ID JOB_COMPLETION_INDEX

key=0123456789abcdef0123456789abcdef
args="all_reduce -b 64 -e 64K -f 32 -n 3"

# process NUMBER HOST VARIABLE=VALUE...: starts medley-perf there
process() {
  number=$1 name=$2
  shift 2
  # shellcheck disable=SC2016,SC2086
  ip netns exec "$name" unshare --uts sh -c 'hostname "$1"; shift; exec "$@"' sh "$name" \
    env "$@" timeout -k 5 30 "$perf" $args -J "$work/json.$number" >"$work/out.$number" 2>"$work/err.$number" </dev/null &
}

# ended STATUS0 STATUS1 WHAT: the two processes started last
ended() {
  wait "$first"
  s0=$?
  wait "$second"
  s1=$?
  [ $s0 = "$1" ] && [ $s1 = "$2" ] && return
  tail -n 20 "$work"/out.? "$work"/err.?
  fail "$3: exit status $s0 and $s1, not $1 and $2"
}
said() {
  grep -q -e "$2" "$work/err.$1" || {
    cat "$work/err.$1"
    fail "process $1 does not say '$2'"
  }
}

# two WHAT VARIABLES0 VARIABLES1: two processes, each with its own variables
two() {
  what=$1
  echo "== $what"
  # shellcheck disable=SC2086
  process 0 node1 $2
  first=$!
  # shellcheck disable=SC2086
  process 1 node2 $3
  second=$!
}
# right WORDS: they have the right rows, and the first says WORDS; the links are what they shall be
right() {
  ended 0 0 "$what"
  [ "$(awk '$3 == "float" && $9 == 0 && $13 == 0' "$work/out.0" | wc -l)" = 3 ] || { cat "$work/out.0"; fail "$what: no right rows"; }
  grep -q "$1" "$work/out.0" || { cat "$work/out.0"; fail "$what: no '$1'"; }
  for words in '"host": *"node1"' '"host": *"node2"' '"transport": *"tcp"' '"interface": *"[a-z0-9,]*rail0'; do
    grep -q "$words" "$work/json.0" || { cat "$work/json.0"; fail "$what: no $words in JSON"; }
  done
  grep -q "$key" "$work/json.0" "$work"/out.? "$work"/err.? && fail "$what: the key was printed"
}

plain="WORLD_SIZE=2 MEDLEY_COMM_ID=10.77.0.1:29400"
two "MEDLEY_COMM_ID and MEDLEY_COMM_KEY" "$plain RANK=0 MEDLEY_COMM_KEY=$key" "$plain RANK=1 MEDLEY_COMM_KEY=$key"
right '2 ranks in 2 processes'
echo $key >"$work/key"
chmod 600 "$work/key"
v6="WORLD_SIZE=2 MEDLEY_COMM_ID=[fd77:0:0:1::1]:29400 MEDLEY_COMM_KEY_FILE=$work/key"
two "an IPv6 address and MEDLEY_COMM_KEY_FILE" "$v6 RANK=0" "$v6 RANK=1"
right '2 ranks in 2 processes'

two "no key" "$plain RANK=0" "$plain RANK=1"
ended 3 3 "$what"
for p in 0 1; do said $p 'is not loopback: set MEDLEY_COMM_KEY or MEDLEY_COMM_KEY_FILE to the same secret'; done

plain="$plain MEDLEY_INIT_TIMEOUT=1500ms"
start=$(date +%s)
two "two keys" "$plain RANK=0 MEDLEY_COMM_KEY=$key" "$plain RANK=1 MEDLEY_COMM_KEY=another-key-0123456789"
ended 3 3 "$what"
said 0 '1 of 2 ranks are missing: 1'
said 1 'hung up during the handshake: it does not serve this communicator (yet), or has another key'
[ $(($(date +%s) - start)) -lt 20 ] || fail "two keys: not ended within MEDLEY_INIT_TIMEOUT"

two "one rank is missing" "$plain RANK=0 MEDLEY_COMM_KEY=$key" "RANK=5 WORLD_SIZE=2"
ended 3 3 "$what"
said 0 '1 of 2 ranks are missing: 1'
said 1 'RANK=5 does not fit WORLD_SIZE=2'

# Launchers: their addresses are off loopback, so the key is needed, and nothing else.
torch="TORCHELASTIC_RUN_ID=x WORLD_SIZE=2 LOCAL_RANK=0 LOCAL_WORLD_SIZE=1 MASTER_ADDR=10.77.0.1 MASTER_PORT=29500"
two "torchrun" "$torch RANK=0 MEDLEY_COMM_KEY=$key" "$torch RANK=1 MEDLEY_COMM_KEY=$key"
right '2 ranks in 2 processes started by torchrun'
srun="SLURM_JOB_ID=77 SLURM_STEP_ID=0 SLURM_STEP_NUM_TASKS=2 SLURM_NTASKS=2 SLURM_LOCALID=0 SLURM_STEP_TASKS_PER_NODE=1(x2)"
srun="$srun SLURM_STEP_NODELIST=node[1-2] MEDLEY_COMM_KEY=$key"
two "srun" "$srun SLURM_PROCID=0 SLURM_NODEID=0" "$srun SLURM_PROCID=1 SLURM_NODEID=1"
right '2 ranks in 2 processes started by srun'
finish
