#!/usr/bin/env python3
"""How long qmail-inject takes as a process, next to /bin/true and to the queueing itself.

    benches/start_time.py [--rounds N] QMAIL

QMAIL is the multi-call program. Three things are started in turns, N times (300): /bin/true; the queue program alone, given a
message and an envelope; qmail-inject with the same message and that queue program. Printed are the median and the least
microseconds of each, and qmail-inject without its queueing in units of /bin/true. The goal is 1.5 (least times: others may
use the machine meanwhile).
"""
import argparse
import os
import pathlib
import statistics
import tempfile
import time

MESSAGE = b"To: ann@a.test\nSubject: hello\n\nbody\n"
QUEUE = "#!/bin/sh\ncat >/dev/null\ncat <&1 >/dev/null\n"


def spawned(argv, environment, actions):
    """Microseconds from the start of a program to its end."""
    start = time.perf_counter()
    pid = os.posix_spawn(argv[0], argv, environment, file_actions=actions)
    _, status = os.waitpid(pid, 0)
    elapsed = (time.perf_counter() - start) * 1e6
    assert status == 0, f"{argv[0]}: {status}"
    return elapsed


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=300)
    parser.add_argument("qmail", type=pathlib.Path)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        home = pathlib.Path(scratch)
        (home / "control").mkdir()
        (home / "control/me").write_text("here.test\n")
        (home / "queue").write_text(QUEUE)
        (home / "queue").chmod(0o755)
        (home / "message").write_bytes(MESSAGE)
        (home / "envelope").write_bytes(b"Fjoe@here.test\0Tann@a.test\0\0")
        (home / "qmail-inject").symlink_to(options.qmail.resolve())
        environment = {"QMAIL_HOME": scratch, "QMAILQUEUE": f"{scratch}/queue", "USER": "joe", "PATH": "/usr/bin:/bin"}
        message = (os.POSIX_SPAWN_OPEN, 0, f"{scratch}/message", os.O_RDONLY, 0)
        envelope = (os.POSIX_SPAWN_OPEN, 1, f"{scratch}/envelope", os.O_RDONLY, 0)
        runs = {
            "/bin/true": (["/bin/true"], [message]),
            "the queue program": ([f"{scratch}/queue"], [message, envelope]),
            "qmail-inject": ([f"{scratch}/qmail-inject"], [message]),
            "qmail-inject -n": ([f"{scratch}/qmail-inject", "-n"], [message, (os.POSIX_SPAWN_OPEN, 1, "/dev/null", os.O_WRONLY, 0)]),
        }
        times = {name: [] for name in runs}
        for _ in range(options.rounds):
            for name, (argv, actions) in runs.items():
                times[name].append(spawned(argv, environment, actions))
    least = {name: min(taken) for name, taken in times.items()}
    for name, taken in times.items():
        print(f"{name:20} median {statistics.median(taken):6.0f} us, least {least[name]:6.0f} us")
    alone = least["qmail-inject"] - least["the queue program"]
    print(f"qmail-inject without its queueing: {alone / least['/bin/true']:.2f} times /bin/true; "
          f"printing instead of queueing: {least['qmail-inject -n'] / least['/bin/true']:.2f} times")


main()
