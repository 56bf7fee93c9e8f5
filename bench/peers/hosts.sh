#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# hosts.sh GBIT COMMAND...: two hosts, node1 and node2, joined by rail0 (10.77.0.1, 10.77.0.2), that end with the
# command. GBIT: both ends send at most so much (0: as fast as it goes). bench/compare runs itself in here.
#
# The hosts are those of the tests: network namespaces. Each has a host name and System V and POSIX IPC of its own too,
# so that no library takes them for one host. COMPARE_ENTER HOST COMMAND... enters one; COMPARE_AGENT is called as ssh
# is, for mpirun.
#
# The burst of the token bucket lets so many bytes through at full speed after a pause: messages of that size and less
# look faster than the line. With 64 KB at 1 Gbit/s, less than what the kernel hands over at once, bare sockets lose
# packets and reach 0.07 of 0.12 GB/s both ways; with 256 KB, all of it.
srcdir=$COMPARE_TOP
. "$COMPARE_TOP/tests/hosts/lib.sh"
gbit=$1
shift
host node1 node2
network 0 rail0 4 node1 node2
printf '127.0.0.1 localhost\n10.77.0.1 node1\n10.77.0.2 node2\n' >"$work/hosts"
mount --bind "$work/hosts" /etc/hosts || skip "/etc/hosts cannot be replaced here"
case $gbit in
0) ;;
1) burst=256kb ;;
*) burst=1mb ;;
esac
for h in node1 node2; do
  : >"$work/uts-$h"
  : >"$work/ipc-$h"
  unshare --uts="$work/uts-$h" --ipc="$work/ipc-$h" hostname "$h" 2>"$work/why" ||
    skip "a host's own name and IPC cannot be had here: $(cat "$work/why")"
  [ "$gbit" = 0 ] && continue
  on "$h" tc qdisc add dev rail0 root tbf rate "${gbit}gbit" burst $burst latency 20ms 2>"$work/why" ||
    skip "traffic cannot be shaped here: $(cat "$work/why")"
done
cat >"$work/enter" <<ENTER
#!/bin/sh
h=\$1
shift
exec ip netns exec "\$h" nsenter --uts="$work/uts-\$h" --ipc="$work/ipc-\$h" "\$@"
ENTER
# As ssh is called: options, a host, the words of a command.
cat >"$work/agent" <<AGENT
#!/bin/sh
while [ "\${1#-}" != "\$1" ]; do shift; done
h=\$1
shift
exec "$work/enter" "\$h" sh -c "\$*"
AGENT
chmod +x "$work/enter" "$work/agent"
COMPARE_ENTER=$work/enter COMPARE_AGENT=$work/agent TMPDIR=/run/tmp "$@"
status=$?
umount "$work"/uts-* "$work"/ipc-*
exit $status
