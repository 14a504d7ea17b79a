#!/usr/bin/env python3
"""What an idle SMTP session costs `qmail serve` in memory, by ten thousand of them.

    idle.py --qmail target/release/qmail [--sessions N] [--most OCTETS]

Prints the octets for each session: the difference of the process's proportional set size (Pss of /proc/PID/smaps_rollup) before
and after, divided by the sessions. Each has sent EHLO and read the answer. Fails above 8192, or if the next client is not served.
`qmail serve` sets two open files aside for each session: where a process may not have that many, there are fewer sessions.
"""
import argparse
import pathlib
import re
import resource
import smtplib
import socket
import time

from world import HOST, World

# Descriptors beside those of the sessions, for each of us.
SPARE = 200
# A loopback address has ports for this many clients of one server.
CLIENTS_OF_AN_ADDRESS = 5000


def pss(pid):
    return int(re.search(r"^Pss:\s+(\d+) kB", pathlib.Path(f"/proc/{pid}/smaps_rollup").read_text(), re.M)[1]) * 1024


def send(w):
    with smtplib.SMTP("127.0.0.1", w.smtp, timeout=30) as s:
        s.sendmail("s@client.test", [f"alice@{HOST}"], b"Subject: idle\r\n\r\n")


def connect(w, n):
    s = socket.create_connection(("127.0.0.1", w.smtp), 30, (f"127.0.1.{1 + n // CLIENTS_OF_AN_ADDRESS}", 0))
    s.sendall(b"EHLO idle\r\n")
    return s


def read_ehlo(s):
    data = b""
    while b"\r\n250 " not in data:
        piece = s.recv(4096)
        assert piece, f"closed after {data!r}"
        data += piece


def allowed(sessions):
    """How many of these sessions the limit of open files allows, which is raised for them as far as it may be."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    if most != resource.RLIM_INFINITY:
        sessions = min(sessions, (most - SPARE) // 2)
    # The server is our child, and has our limits.
    resource.setrlimit(resource.RLIMIT_NOFILE, (2 * sessions + SPARE, most))
    return sessions


def main(arguments):
    sessions = allowed(arguments.sessions)
    control = {"concurrencyincoming": str(sessions + 10), "concurrencypop3": "10"}
    with World(arguments.qmail, "idle", control=control) as w:
        for _ in range(20):
            send(w)
        w.wait_mails(20)
        before, started = pss(w.process.pid), time.monotonic()
        idle = []
        for start in range(0, sessions, 500):
            some = [connect(w, n) for n in range(start, min(start + 500, sessions))]
            for s in some:
                read_ehlo(s)
            idle += some
        each = (pss(w.process.pid) - before) / sessions
        print(f"{sessions} idle sessions: {each:.0f} octets each ({time.monotonic() - started:.1f} s to connect)")
        send(w)
        w.wait_mails(21)
        assert each <= arguments.most, f"more than {arguments.most}"
        for s in idle:
            s.close()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--qmail", required=True)
    parser.add_argument("--sessions", type=int, default=10_000)
    parser.add_argument("--most", type=int, default=8192)
    main(parser.parse_args())
