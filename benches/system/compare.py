#!/usr/bin/env python3
"""The whole comparison with Postfix on this machine, in one run, as one table.

  benches/system/compare.py --qmail target/release/qmail --work DIR [--spool journal|split] [--runs 5] [--only WORD]

Each row is a scenario of run.py, run in turns (ours, Postfix, ours, ...); a ratio is the median of those of the pairs. The disk of
DIR is what is measured, in the same minutes. A second table has what needs no other system: the spool without SMTP, idle sessions,
and with --queued N a queue of so many messages (a million takes minutes, 500 MB as a journal and 8 GB as files). Wants root, Postfix
and smtp-source and smtp-sink (Debian: postfix), strace, and beside the program the examples of qmail-queue
(cargo build --release -p qmail-queue --examples).
docs/benchmarks.md tells how to read the tables. Ends with 1 if a row misses what it must reach.
"""
import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
import time

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, HERE)
from mtabench import load  # noqa: E402
from mtabench.util import free_port, median, wait_port  # noqa: E402

ACCEPT, LOCAL, RELAY, FANOUT = "accept", "local", "relay", "fanout"
RATE, CPU, TIME = ("msgs_per_s", "more"), ("cpu_s_per_1000", "less"), ("wall_s", "less")
# What it is called, scenario, its case, what is compared and whether more or less of it is better, what it must reach, the goal.
ROWS = {
    "journal": [
        ("accept, 50 sessions, one connection each", ACCEPT, "sessions=50 one-per-conn", RATE, 6, 10),
        ("accept, 10 sessions", ACCEPT, "sessions=10 one-per-conn", RATE, 4, 6),
        ("accept, 1 session", ACCEPT, "sessions=1 one-per-conn", RATE, 2, 3),
        ("SMTP to SMTP, 20 sessions", RELAY, "sessions=20 reuse", RATE, 5, 10),
        ("SMTP to Maildir, 50 sessions", LOCAL, "sessions=50 reuse", RATE, 3, 5),
        ("one message to 1,000 recipients, time", FANOUT, "recipients=1000", TIME, 0.7, 0.3),
        ("CPU per message accepted, 50 sessions", ACCEPT, "sessions=50 one-per-conn", CPU, 0.2, 0.1),
        ("CPU per message relayed, 20 sessions", RELAY, "sessions=20 reuse", CPU, 0.25, 0.15),
    ],
    "split": [
        ("accept, 50 sessions, one connection each", ACCEPT, "sessions=50 one-per-conn", RATE, 2, 5),
        ("accept, 20 sessions", ACCEPT, "sessions=20 one-per-conn", RATE, 2, 5),
        ("SMTP to SMTP, 20 sessions", RELAY, "sessions=20 reuse", RATE, 2, 5),
        ("SMTP to Maildir, 20 sessions", LOCAL, "sessions=20 reuse", RATE, 2, 5),
        ("SMTP to Maildir, 50 sessions", LOCAL, "sessions=50 reuse", RATE, 2, 5),
        ("one message to 1,000 recipients, time", FANOUT, "recipients=1000", TIME, 1, 0.3),
        ("CPU per message accepted, 50 sessions", ACCEPT, "sessions=50 one-per-conn", CPU, 0.5, 0.2),
        ("CPU per message relayed, 20 sessions", RELAY, "sessions=20 reuse", CPU, 0.5, 0.25),
        ("CPU per message to a Maildir, 20 sessions", LOCAL, "sessions=20 reuse", CPU, 0.5, 0.25),
    ],
}
MESSAGES = {ACCEPT: "2000", LOCAL: "2000", RELAY: "2000", FANOUT: "1"}
REUSE = {ACCEPT: "0", LOCAL: "1", RELAY: "1", FANOUT: "1"}


def options():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--qmail", required=True, help="the program, built with --release")
    parser.add_argument("--work", required=True, help="directory on the disk that is measured")
    parser.add_argument("--spool", default="journal", choices=["journal", "split"])
    parser.add_argument("--runs", type=int, default=5, help="pairs of runs for each row")
    parser.add_argument("--only", default="", help="only scenarios whose name contains this; without the second table")
    parser.add_argument("--queued", type=int, default=0, help="messages of the queue that is started on, 0 for none")
    return parser.parse_args()


def environment(qmail, spool):
    serve = f"{os.path.abspath(qmail)} serve --home {{home}} --smtp 127.0.0.1:{{port}} --pop3 none --spool {spool}"
    return dict(
        os.environ,
        OURS_SMTPD_CMD=f"{serve} --no-deliver",
        OURS_SERVE_CMD=f"{serve} --mailbox {{user}}={{maildir}}",
        OURS_COUNT_CMD=f"{os.path.abspath(qmail)} queue count --home {{home}}",
    )


def run(scenario, arguments, env, work):
    """What run.py measured: its JSON."""
    with tempfile.NamedTemporaryFile(suffix=".json") as out:
        command = [sys.executable, f"{HERE}/run.py", "--scenario", scenario, "--work", work, "--json", out.name, *arguments]
        subprocess.run(command, env=env, check=True, stdout=sys.stderr)
        return json.load(open(out.name))


def sessions(rows, scenario):
    """As run.py wants them: 20,50."""
    found = {int(case.split("=")[1].split()[0]) for _, which, case, *_ in rows if which == scenario and case.startswith("sessions=")}
    return ",".join(map(str, sorted(found or {1})))


def ceiling(runs, sessions):
    """Messages a second that the load generator gives to a server that keeps nothing."""
    port, rates = free_port(), []
    sink = subprocess.Popen([load.need("smtp-sink"), "-4", "-u", "nobody", f"127.0.0.1:{port}", "1024"])
    try:
        wait_port(port)
        for _ in range(runs):
            start, messages = time.monotonic(), int(MESSAGES[ACCEPT])
            load.smtp_source(port, messages, sessions, 2048, "sink@bench.test", False)
            rates.append(messages / (time.monotonic() - start))
    finally:
        sink.terminate()
        sink.wait()
    return median(rates)


def example(o, name, *arguments):
    """What an example of qmail-queue prints."""
    command = [os.path.join(os.path.dirname(os.path.abspath(o.qmail)), "examples", name), *arguments]
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout


def seconds(text):
    """A duration as Rust prints it: 1.5s, 20.1ms."""
    number, unit = re.fullmatch(r"([\d.]+)(s|ms|µs)", text).groups()
    return float(number) / {"s": 1, "ms": 1e3, "µs": 1e6}[unit]


def alone(o, env, disk):
    """Rows that need no other system: what, ours, must, goal, whether it is missed."""
    batches = disk["group_append batch=50"]
    rates = []
    for _ in range(o.runs):
        table = example(o, "spool_rate", o.work, "0.4")
        # Writers, then the disk's syncfs and fsync, split and its life, the disk's log, journal and its life.
        columns = re.search(r"^ 50 writers(.*)$", table, re.M)[1].split()
        rates.append(dict(zip(("syncfs", "fsync", "split", "split life", "log", "journal", "journal life"), map(float, columns))))
    if o.spool == "journal":
        share = median([rate["journal"] for rate in rates]) / median(batches)
        yield (f"journal alone, 50 writers, to the disk's group commit ({median(batches):.0f}/s)", f"{share:.2f}", "0.6", "", share < 0.6)
    else:
        shares = [rate["split"] / max(rate["syncfs"], rate["fsync"]) for rate in rates]
        yield "split alone, 50 writers, to the disk's files in batches", one_line(shares), "0.7", "", median(shares) < 0.7
    idle = run("idle", ["--system", "ours", "--runs", str(o.runs), "--connections", "2000"], env, o.work)["results"]
    octets = [1024 * one["pss_kib_per_conn"] for data in idle.values() for one in data["ours"]]
    yield "memory of an idle session, octets", one_line(octets, 0), "8192", "4096", median(octets) > 8192
    if o.queued:
        told = example(o, "big_queue", str(o.queued), o.work, o.spool)
        start = seconds(re.search(r"^a new message delivered after (\S+)$", told, re.M)[1])
        known, slowest = re.search(r"^all messages known after (\S+); the slowest new one meanwhile took (\S+)$", told, re.M).groups()
        memory = int(re.search(r"^(\d+) octets of memory", told, re.M)[1])
        counted = re.search(r"^\d+ counted after (\S+)$", told, re.M)
        if counted:
            yield f"{o.queued} queued: qmail-qstat", counted[1], "1 s", "", seconds(counted[1]) > 1
        yield f"{o.queued} queued: new mail delivered after the start", f"{start:.1f} s", "60 s", "10 s", start > 60
        yield f"{o.queued} queued: all known; slowest new message meanwhile", f"{known}; {slowest}", "", "", False
        yield f"{o.queued} queued: memory of a message, octets", f"{memory}", "400", "", memory > 400 and o.queued >= 1_000_000


def one_line(values, digits=2):
    return f"{median(values):.{digits}f} ({min(values):.{digits}f} to {max(values):.{digits}f})" if values else "none"


def compare(o):
    env = environment(o.qmail, o.spool)
    results, missed, rows = {}, [], ROWS[o.spool]
    for scenario in dict.fromkeys(row[1] for row in rows):
        # ext4 passes over inodes that were freed a moment ago, one by one, and the run before ended in removing many.
        time.sleep(40)
        if o.only in scenario:
            arguments = ["--system", "ours", "--system", "postfix", "--runs", str(o.runs), "--sizes", "2k",
                         "--messages", MESSAGES[scenario], "--sessions", sessions(rows, scenario), "--reuse", REUSE[scenario]]
            results[scenario] = run(scenario, arguments, env, o.work)["results"]
    # The limit that local delivery is held against, taken in the minute after it.
    disk = run("disk", ["--runs", str(o.runs), "--sessions", "20", "--batches", "50"], env, o.work)["results"]
    print(f"\nspool {o.spool}, {o.runs} pairs of runs, messages of 2 KiB\n")
    print("| scenario | ours | Postfix | ratio, median (range) | must | goal |")
    print("|---|---|---|---|---|---|")
    for label, scenario, case, (metric, better), must, goal in rows:
        if scenario not in results:
            continue
        data = next(data for name, data in results[scenario].items() if case in name)
        pairs = [(a[metric], b[metric]) for a, b in zip(data["ours"], data["postfix"]) if a.get(metric) and b.get(metric)]
        ratios = [a / b for a, b in pairs]
        if not ratios or (median(ratios) < must if better == "more" else median(ratios) > must):
            missed.append(label)
        ours, theirs = (f"{median([pair[side] for pair in pairs]):.4g}" if pairs else "none" for side in (0, 1))
        print(f"| {label} | {ours} | {theirs} | {one_line(ratios)} | {must} | {goal} |")
    if LOCAL in results:
        data = next(data for name, data in results[LOCAL].items() if "sessions=50" in name)["ours"]
        limit = median(disk["create_rename_dirsync x20"])
        shares = [run["msgs_per_s"] / limit for run in data if run.get("msgs_per_s")]
        if o.spool == "journal" and (not shares or median(shares) < 0.6):
            missed.append("share of the disk's rate")
        if shares:
            print(f"| SMTP to Maildir, 50 sessions, to the disk's create, sync, rename, sync ({limit:.0f}/s) "
                  f"| {median(shares) * limit:.0f} | | {one_line(shares)} | {'0.6' if o.spool == 'journal' else ''} | |")
    print(f"\ngroup commit of 50 records on this disk: {median(disk['group_append batch=50']):.0f} records/s")
    if FANOUT in results:
        data = next(iter(results[FANOUT].values()))["ours"]
        print(f"transactions for the 1,000 recipients: {median([run['transactions'] for run in data if 'transactions' in run]):.0f}")
    if ACCEPT in results:
        counts = sessions(rows, ACCEPT)
        told = ", ".join(f"{ceiling(o.runs, int(count)):.0f}/s at {count} sessions" for count in counts.split(","))
        print(f"a server that keeps nothing (smtp-sink) gets from the same load generator: {told}")
    print("msgs_per_s, wall_s and CPU seconds per 1000 messages stand under ours and Postfix.")
    if not o.only:
        print("\n| scenario | ours | must | goal |\n|---|---|---|---|")
        for label, ours, must, goal, is_missed in alone(o, env, disk):
            print(f"| {label} | {ours} | {must} | {goal} |")
            if is_missed:
                missed.append(label)
    return missed


if __name__ == "__main__":
    left = compare(options())
    if left:
        sys.exit(f"missed: {'; '.join(left)}")
