# Two ranks in one virtual machine, each on a processor of its own and before everything else (chrt -i 0 makes their
# time slices long, so that the two are not interrupted by each other's housekeeping).
. "$(dirname "$0")/functions.sh"
sizes="8 8192 16384 49152"
work="8:1000 8192:1000 16384:1000 49152:1000"

# pair PROGRAM [ARGUMENT...]: both ranks of a program.
pair() {
  chrt -i 0 "$@" --rank 1 $work >/dev/null &
  chrt -i 0 "$@" --rank 0 $work || exit 1
  wait $! || exit 1
}

measure_ib() {
  wanted ib_write_lat || return 0
  for bytes in $sizes; do write_lat_pinned "$bytes"; done
}

measure_exchange() {
  wanted exchange || wanted exchange_sum || wanted exchange_flag_sum || return 0
  pair "$EXCHANGE" --rendezvous "$ADDRESS:29520" --address "$ADDRESS"
}

measure_halo() {
  wanted halo || return 0
  pair "$HALO_RANK" --world 2 --rendezvous "$ADDRESS:29510" --transport rdma >/run/halo.out
  tagged halo </run/halo.out
}

rounds_of measure_ib measure_exchange measure_halo
