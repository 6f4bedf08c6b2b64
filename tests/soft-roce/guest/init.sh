#!/bin/sh
# Process 1 in the initramfs: loads modules, mounts the machine's root file system read-only with a tmpfs over it, and
# hands over to stage2.sh there.
B=/bin/busybox
$B mount -t proc proc /proc
$B mount -t sysfs sysfs /sys
$B mount -t devtmpfs dev /dev
for list in boot rdma; do
  while read -r module; do $B insmod "/modules/$module" 2>/dev/null; done <"/modules/$list.list"
done
options=trans=virtio,version=9p2000.L,msize=512000
$B mount -t 9p -o ro,$options,cache=loose machine /lower
$B mount -t 9p -o rw,$options,cache=none rig /rig
$B mount -t tmpfs -o size=75% tmpfs /upper
$B mkdir /upper/data /upper/work
if ! $B mount -t overlay -o lowerdir=/lower,upperdir=/upper/data,workdir=/upper/work overlay /root; then
  $B echo "the machine's root file system could not be mounted"
  $B poweroff -f
fi
for folder in proc sys dev; do $B mkdir -p /root/$folder; $B mount --move /$folder /root/$folder; done
$B mkdir -p /root/run /root/tmp
$B mount -t tmpfs tmpfs /root/run
$B mkdir -p /root/run/rig /root/run/rig-bin
$B mount --move /rig /root/run/rig
$B cp /bin/busybox /root/run/rig-bin/busybox
exec $B switch_root /root /bin/sh /run/rig/stage2.sh
