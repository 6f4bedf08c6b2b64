"""The traffic classes of RoCE v2 packets by sender, as they pass the interface that is named, until SIGTERM."""

import signal
import socket
import sys

ETH_P_ALL = 3
IPV4 = 0x0800
UDP = 17
ROCE_V2 = 4791

seen: dict[str, set[int]] = {}


def end(*_: object) -> None:
    """Prints what was seen."""
    for sender, classes in sorted(seen.items()):
        print(f"{sender}:", *sorted(classes), flush=True)
    sys.exit(0)


signal.signal(signal.SIGTERM, end)
wire = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ETH_P_ALL))
wire.bind((sys.argv[1], 0))
print("listening", flush=True)
while True:
    packet = wire.recv(64)
    kind, port = int.from_bytes(packet[12:14], "big"), int.from_bytes(packet[36:38], "big")
    if kind == IPV4 and packet[23] == UDP and port == ROCE_V2:
        seen.setdefault(socket.inet_ntoa(packet[26:30]), set()).add(packet[15])
