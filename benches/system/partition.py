#!/usr/bin/env python3
"""`qmail start` beside `qmail serve`, in turns, on one disk: what the parties cost.

  benches/system/partition.py --qmail target/release/qmail --work DIR [--spool split|journal] [--runs 5] [--only relay]

Prints for each scenario of run.py (`relay`, `local`) the rate of both and the median ratio of the pairs. `qmail start` keeps the
split-directory spool; --spool is that of `qmail serve`. Wants root, smtp-source and smtp-sink (Debian: postfix). Makes the classic
users and groups if there are none, and takes them away again. Ends with 1 if a ratio is below 0.7.
"""
import argparse
import grp
import json
import os
import pwd
import subprocess
import sys
import tempfile

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, HERE)
from mtabench.util import median  # noqa: E402

SCENARIOS = ("relay", "local")
MUST = 0.7
USERS, GROUPS = {"alias", "qmaild", "qmaill", "qmailp", "qmailq", "qmailr", "qmails"}, {"nofiles", "qmail"}


def options():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--qmail", required=True, help="the program, built with --release")
    parser.add_argument("--work", required=True, help="directory on the disk that is measured")
    parser.add_argument("--spool", default="split", choices=["split", "journal"], help="of qmail serve")
    parser.add_argument("--runs", type=int, default=5, help="pairs of runs for each scenario")
    parser.add_argument("--messages", default="2000")
    parser.add_argument("--sessions", default="20")
    parser.add_argument("--only", default="", help="only scenarios whose name contains this")
    return parser.parse_args()


def environments(qmail, spool):
    serve = f"{qmail} serve --home {{home}} --smtp 127.0.0.1:{{port}} --pop3 none --spool {spool} --mailbox {{user}}={{maildir}}"
    count = f"{qmail} queue count --home {{home}}"
    # As it is installed: any other program is not this one's qmail-getpw, and would be run for each message.
    start = f"{{home}}/bin/qmail start --home {{home}} --smtp 127.0.0.1:{{port}} ./Maildir/"
    return {"start": dict(os.environ, OURS_INIT_CMD=f"{qmail} install --home {{home}}", OURS_SERVE_CMD=start, OURS_COUNT_CMD=count),
            "serve": dict(os.environ, OURS_SERVE_CMD=serve, OURS_COUNT_CMD=count)}


def run(scenario, env, o):
    """One run: messages a second, CPU seconds of 1,000 messages."""
    with tempfile.NamedTemporaryFile(suffix=".json") as out:
        subprocess.run([sys.executable, f"{HERE}/run.py", "--scenario", scenario, "--system", "ours", "--runs", "1", "--work", o.work,
                        "--messages", o.messages, "--sessions", o.sessions, "--json", out.name], env=env, check=True, stdout=sys.stderr)
        [[measured]] = [data["ours"] for data in json.load(open(out.name))["results"].values()]
        return measured["msgs_per_s"], measured["cpu_s_per_1000"]


def compare(o):
    missed, ways = [], environments(os.path.abspath(o.qmail), o.spool)
    print(f"| scenario, {o.sessions} sessions | qmail start | qmail serve, {o.spool} spool | ratio, median (range) | CPU ratio |")
    print("|---|---|---|---|---|", flush=True)
    for scenario in SCENARIOS:
        if o.only not in scenario:
            continue
        found = {way: [] for way in ways}
        for _ in range(o.runs):
            for way, env in ways.items():
                found[way].append(run(scenario, env, o))
        ratios = [start[0] / serve[0] for start, serve in zip(*found.values())]
        cpu = median([start[1] / serve[1] for start, serve in zip(*found.values())])
        start, serve = (median([rate for rate, _ in rates]) for rates in found.values())
        print(f"| {scenario} | {start:.0f} | {serve:.0f} | {median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f}) | {cpu:.1f} |", flush=True)
        if median(ratios) < MUST:
            missed.append(scenario)
    return missed


def accounts():
    """The classic users and groups that there are."""
    return USERS & {user.pw_name for user in pwd.getpwall()}, GROUPS & {group.gr_name for group in grp.getgrall()}


def main(o):
    os.makedirs(o.work, exist_ok=True)
    # Every party must get through to its files.
    os.chmod(o.work, 0o755)
    before = accounts()
    try:
        # run.py gives each run a table of users that cannot be added to.
        with tempfile.TemporaryDirectory(dir=o.work) as scratch:
            subprocess.run([os.path.abspath(o.qmail), "install", "--home", scratch], check=True, stdout=subprocess.DEVNULL)
        return compare(o)
    finally:
        for program, made in zip(("userdel", "groupdel"), (now - then for now, then in zip(accounts(), before))):
            for name in sorted(made):
                subprocess.run([program, name], check=False)


if __name__ == "__main__":
    left = main(options())
    if left:
        sys.exit(f"below {MUST}: {', '.join(left)}")
