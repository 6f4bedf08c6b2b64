# Process 1 on the overlay root: sets the guest up, runs the command, leaves its status in /run/rig/status.
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root TERM=dumb
B=/run/rig-bin/busybox
. /run/rig/environment
$B mkdir -p /dev/pts /dev/shm
$B mount -t devpts devpts /dev/pts 2>/dev/null
$B mount -t tmpfs shm /dev/shm
[ -e /dev/fd ] || $B ln -s /proc/self/fd /dev/fd
[ -e /dev/stdin ] || { $B ln -s /proc/self/fd/0 /dev/stdin; $B ln -s /proc/self/fd/1 /dev/stdout; $B ln -s /proc/self/fd/2 /dev/stderr; }
$B hostname "vm$RANK"
echo "$ADDRESS vm$RANK" >>/etc/hosts
$B ip link set lo up
ulimit -l unlimited
ulimit -n 65536
cable=0
while [ $cable -lt "$RIG_CABLES" ]; do
  echo 1 >/proc/sys/net/ipv6/conf/eth$cable/disable_ipv6
  $B ip link set eth$cable mtu "$RIG_MTU" up
  $B ip addr add "192.168.$((100 + cable)).${ADDRESS##*.}/24" dev eth$cable
  rdma link add rxe$cable type rxe netdev eth$cable
  cable=$((cable + 1))
done
for port in /sys/class/virtio-ports/*; do
  case $($B cat "$port/name") in out) out=/dev/${port##*/} ;; err) err=/dev/${port##*/} ;; esac
done
/bin/bash /run/rig/command </dev/null >"$out" 2>"$err"
echo $? >/run/rig/status.new
$B mv /run/rig/status.new /run/rig/status
$B sync
$B poweroff -f
