# One rank in each of two virtual machines, over rxe0 and the cable between them. Machine 0 serves and machine 1 calls,
# except for OpenMPI, whose launcher on machine 0 reaches machine 1 by ssh.
. "$(dirname "$0")/functions.sh"
first=192.168.100.1 second=192.168.100.2
# BYTES:COUNT
work="8:500 8192:1000 65536:100 524288:40 4194304:20"

if [ "$RANK" = 1 ] && wanted openmpi; then
  mkdir -p /run/sshd
  /usr/sbin/sshd -f "$SSH/sshd_config" || exit 1
fi

measure_ib_write_lat() {
  wanted ib_write_lat || return 0
  for bytes in 8 8192 65536 524288 4194304; do write_lat "$bytes" "$first"; done
}

measure_exchange() {
  wanted exchange || wanted exchange_sum || wanted exchange_flag_sum || return 0
  "$EXCHANGE" --rank "$RANK" --rendezvous "$first:29520" --address "$ADDRESS" $work || exit 1
}

# halo BYTES:COUNT...
halo() {
  wanted halo || return 0
  "$HALO_RANK" --rank "$RANK" --world 2 --rendezvous "$first:29510" --transport rdma "$@" >/run/halo.out || exit 1
  tagged halo </run/halo.out
}

measure_halo() { halo ${work% *}; }

# The largest takes as long as a spell of the host, so it is cut into pieces that alternate with those of its peer.
measure_streams() {
  for piece in 1 2 3 4; do
    halo 4194304:5
    if wanted ib_write_bw; then write_bw ib_write_bw 2 5 "$first" -b; fi
  done
}

measure_openmpi() {
  wanted openmpi || return 0
  if [ "$RANK" = 1 ]; then
    until [ -e "/run/openmpi.$round" ]; do sleep 0.2; done
    return 0
  fi
  "$OPENMPI/bin/mpirun" --allow-run-as-root --bind-to none -np 2 --host "$first:1,$second:1" \
    --prefix "$OPENMPI" --prtemca plm_ssh_args "-F $SSH/ssh_config" --prtemca prte_if_include 192.168.100.0/24 \
    --mca pml ob1 --mca btl self,tcp --mca btl_tcp_if_include 192.168.100.0/24 \
    "$OPENMPI/all_reduce" $work >/run/openmpi.out 2>/run/openmpi.err
  status=$?
  tagged openmpi </run/openmpi.out
  # Machine 1 only has to stay until here.
  ssh -F "$SSH/ssh_config" "$second" touch "/run/openmpi.$round"
  [ "$status" = 0 ] || { cat /run/openmpi.err >&2; exit 1; }
}

rounds_of measure_ib_write_lat measure_exchange measure_halo measure_streams measure_openmpi
