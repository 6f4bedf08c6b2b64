# Two ranks in one virtual machine, each on a processor of its own and before everything else (chrt -i 0 makes their
# time slices long, so that the two are not interrupted by each other's housekeeping).
. "$(dirname "$0")/functions.sh"

for round in $(seq "$ROUNDS"); do
  echo "@ round $round"
  if wanted ib_write_lat; then
    for bytes in 8 8192 16384 49152; do write_lat_pinned "$bytes"; done
  fi
  if wanted exchange || wanted exchange_sum || wanted exchange_flag_sum; then
    set -- --rendezvous "$ADDRESS:29520" --address "$ADDRESS" 8:1000 8192:1000 16384:1000 49152:1000
    chrt -i 0 "$EXCHANGE" --rank 1 "$@" &
    chrt -i 0 "$EXCHANGE" --rank 0 "$@" || exit 1
    wait $! || exit 1
  fi
  if wanted halo; then
    work="8:1000 8192:1000 16384:1000 49152:1000"
    set -- --world 2 --rendezvous "$ADDRESS:29510" --transport rdma
    chrt -i 0 "$HALO_RANK" --rank 1 "$@" $work &
    chrt -i 0 "$HALO_RANK" --rank 0 "$@" $work >/run/halo.out || exit 1
    wait $! || exit 1
    tagged halo </run/halo.out
  fi
done
