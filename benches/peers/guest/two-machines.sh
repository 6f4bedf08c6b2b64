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

for round in $(seq "$ROUNDS"); do
  echo "@ round $round"
  if wanted ib_write_lat; then
    for bytes in 8 8192 65536 524288 4194304; do write_lat "$bytes" "$first"; done
  fi
  if wanted exchange || wanted exchange_sum || wanted exchange_flag_sum; then
    "$EXCHANGE" --rank "$RANK" --rendezvous "$first:29520" --address "$ADDRESS" $work || exit 1
  fi
  if wanted halo; then
    "$HALO_RANK" --rank "$RANK" --world 2 --rendezvous "$first:29510" --transport rdma $work >/run/halo.out || exit 1
    tagged halo </run/halo.out
  fi
  if wanted ib_write_bw; then write_bw ib_write_bw 2 20 "$first" -b; fi
  if wanted openmpi; then
    if [ "$RANK" = 0 ]; then
      "$OPENMPI/bin/mpirun" --allow-run-as-root --bind-to none -np 2 --host "$first:1,$second:1" \
        --prefix "$OPENMPI" --prtemca plm_ssh_args "-F $SSH/ssh_config" --prtemca prte_if_include 192.168.100.0/24 \
        --mca pml ob1 --mca btl self,tcp --mca btl_tcp_if_include 192.168.100.0/24 \
        "$OPENMPI/all_reduce" $work >/run/openmpi.out 2>/run/openmpi.err
      status=$?
      tagged openmpi </run/openmpi.out
      # Machine 1 only has to stay until here.
      ssh -F "$SSH/ssh_config" "$second" touch "/run/openmpi.$round"
      [ "$status" = 0 ] || { cat /run/openmpi.err >&2; exit 1; }
    else
      until [ -e "/run/openmpi.$round" ]; do sleep 0.2; done
    fi
  fi
done
