#!/bin/busybox sh
# Process 1 of the emulated machine: runs the program with the arguments that it was given itself, and tells how that
# ended.
B=/bin/busybox
$B mount -t proc proc /proc
for feature in avx512f avx512bw avx512vl avx512dq; do
  $B grep -qw $feature /proc/cpuinfo || $B echo "emulated: without $feature"
done
/program "$@"
status=$?
$B echo
$B echo "emulated: status $status"
# The emulator is ended from outside; if this process ended, the kernel would panic.
exec $B sleep 1000000
