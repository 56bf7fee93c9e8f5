#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# medley-perf on two hosts, started by mpirun of Open MPI and of MPICH, without a flag or a variable for Medley: rank,
# size and id come through PMIx and PMI. In place of ssh an agent enters the other host.
. "${srcdir:-.}/tests/hosts/lib.sh"
perf=$build/medley-perf
[ -x "$perf" ] || skip "medley-perf was not built"
command -v mpirun.openmpi >/dev/null 2>&1 || command -v mpirun.mpich >/dev/null 2>&1 ||
  skip "neither mpirun.openmpi nor mpirun.mpich is installed"
host node1 node2
network 0 rail0 4 node1 node2
network 1 rail1 4 node1 node2
printf '127.0.0.1 localhost\n10.77.0.1 node1\n10.77.0.2 node2\n' >"$work/hosts"
mount --bind "$work/hosts" /etc/hosts || skip "/etc/hosts cannot be replaced here"
# As ssh is called: options, a host, the words of a command.
cat >"$work/agent" <<'AGENT'
#!/bin/sh
while [ "${1#-}" != "$1" ]; do shift; done
host=$1
shift
exec ip netns exec "$host" unshare --uts sh -c 'hostname "$0"; eval "$*"' "$host" "$@"
AGENT
chmod +x "$work/agent"

# launched PATTERN COMMAND...: on node1. Two ranks on each host; three right rows; shm inside, TCP over both networks
# across.
launched() {
  pattern=$1
  shift
  echo "== $1"
  # shellcheck disable=SC2016
  on node1 unshare --uts sh -c 'hostname node1; exec "$@"' sh timeout -k 5 60 "$@" "$perf" all_reduce -b 64 -e 64K \
    -f 32 -n 20 -J "$work/json" >"$work/out" 2>"$work/err" </dev/null
  status=$?
  [ $status = 0 ] && grep -q "$pattern" "$work/out" &&
    [ "$(awk '$3 == "float" && $9 == 0 && $13 == 0' "$work/out" | wc -l)" = 3 ] || {
    tail -n 20 "$work/out" "$work/err"
    fail "$1: exit status $status, or no right rows"
    return
  }
  for words in '"host": *"node1"' '"host": *"node2"' '"transport": *"tcp", *"interface": *"rail0,rail1"' '"transport": *"shm"'; do
    grep -q "$words" "$work/json" || { cat "$work/json"; fail "$1: no $words in JSON"; }
  done
}

export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1
# In a build with AddressSanitizer: what libpmix leaks is not ours.
echo "leak:libpmix" >"$work/suppressions"
export LSAN_OPTIONS="suppressions=$work/suppressions:print_suppressions=0"
if ! command -v mpirun.openmpi >/dev/null 2>&1; then
  echo "not tried: Open MPI is not installed"
elif ! "$build/medley-info" | grep -q 'PMIx  *yes'; then
  echo "not tried: Open MPI, for want of PMIx"
else
  launched '4 ranks in 4 processes started by Open MPI' mpirun.openmpi --host node1:2,node2:2 -n 4 \
    --mca plm_rsh_agent "$work/agent" --mca oob_tcp_if_include rail0
fi
if command -v mpirun.mpich >/dev/null 2>&1; then
  launched '4 ranks in 4 processes started by MPICH' mpirun.mpich -launcher ssh -launcher-exec "$work/agent" \
    -iface rail0 -hosts node1:2,node2:2 -n 4
else
  echo "not tried: MPICH is not installed"
fi
finish
