#!/usr/bin/env python3
"""Measure mail systems side by side. docs/benchmarks.md tells how to read the figures.

  benches/system/run.py --scenario accept --system qmail --system postfix --qmail-home DIR
"""
import argparse
import fcntl
import json
import os
import platform
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import traceback

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from mtabench import disk, scenarios, systems, util  # noqa: E402

DEFAULTS = {  # scenario -> option defaults (scale with the options)
    "accept": dict(messages=500, sizes="1k", sessions="1,10,50,100", reuse="0,1"),
    "local": dict(messages=2000, sizes="2k", sessions="20,50", reuse="1"),
    "relay": dict(messages=2000, sizes="2k", sessions="20", reuse="1"),
    "fanout": dict(messages=1, sizes="2k", sessions="1", reuse="1"),
    "bigqueue": dict(messages=200, sizes="1k", sessions="10", reuse="1"),
    "inject": dict(messages=200, sizes="1k", sessions="1", reuse="1"),
    "pop3": dict(messages=0, sizes="2k", sessions="1", reuse="1"),
    "idle": dict(messages=0, sizes="1k", sessions="1", reuse="1"),
    "syscalls": dict(messages=0, sizes="2k", sessions="1", reuse="0"),
    "disk": dict(messages=0, sizes="2k", sessions="1,10,50", reuse="1"),
}


def options():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--scenario", required=True, choices=sorted(DEFAULTS))
    p.add_argument("--system", action="append", default=[], choices=sorted(systems.SYSTEMS),
                   help="repeat for paired mode: runs A B A B ... and prints ratios to the first")
    p.add_argument("--runs", type=int, default=5, help="runs per system and case (medians are printed)")
    p.add_argument("--work", help="scratch directory; its file system is what is measured (default: a temporary one)")
    p.add_argument("--qmail-home", default=os.environ.get("QMAIL_HOME"), help="installed qmail tree (copied, never changed)")
    p.add_argument("--tcpserver-args", default="", help="more options for tcpserver, e.g. -D (TCP_NODELAY)")
    p.add_argument("--messages", type=int)
    p.add_argument("--sizes", help="bytes, k or m allowed, comma list")
    p.add_argument("--sessions", help="parallel SMTP sessions, comma list (disk: writers)")
    p.add_argument("--reuse", help="0 = one message per connection, 1 = many, comma list")
    p.add_argument("--recipients", default="1000", help="fanout: recipients of the one message")
    p.add_argument("--depths", default="0,10000,50000", help="bigqueue: queued messages")
    p.add_argument("--inner", type=int, default=5, help="bigqueue: timed batches and restarts per filled queue")
    p.add_argument("--mailboxes", default="1000:retr,20000:list", help="pop3: MESSAGES:retr or MESSAGES:list")
    p.add_argument("--connections", default="500", help="idle: connections, comma list")
    p.add_argument("--flows", default="accept,local,relay", help="syscalls: flows to trace")
    p.add_argument("--strace-counts", default="20,120", help="syscalls: two run lengths")
    p.add_argument("--batches", default="1,10,50,200", help="disk: group commit batch sizes")
    p.add_argument("--seconds", type=float, default=1.0, help="disk: seconds per pattern and run")
    p.add_argument("--set", action="append", default=[], metavar="SYSTEM:KEY=VALUE",
                   help="one setting: qmail/ours control file, Postfix or Dovecot parameter")
    p.add_argument("--quiet", type=float, default=None, metavar="CORES",
                   help="before each run wait (at most --quiet-wait s) until the rest of the machine uses less "
                        "than this many cores, and repeat a run (twice at most) that saw more")
    p.add_argument("--quiet-wait", type=float, default=20)
    p.add_argument("--timeout", type=float, default=300, help="seconds to wait for deliveries")
    p.add_argument("--json", help="write every single figure here")
    o = p.parse_args()
    for k, v in DEFAULTS[o.scenario].items():
        if getattr(o, k) is None:
            setattr(o, k, v)
    if not o.system and o.scenario != "disk":
        p.error("at least one --system")
    o.sizes, o.sessions = util.size_list(o.sizes), util.int_list(o.sessions)
    o.reuse = [bool(x) for x in util.int_list(o.reuse)]
    o.recipients, o.depths = util.int_list(o.recipients), util.int_list(o.depths)
    o.connections, o.batches = util.int_list(o.connections), util.int_list(o.batches)
    o.mailboxes, o.flows = o.mailboxes.split(","), o.flows.split(",")
    o.strace_counts = util.int_list(o.strace_counts)
    return o


def private_namespace():
    """re-run ourselves in a private mount namespace (needs root)"""
    if os.environ.get("MTABENCH_NS") == "1":
        return
    if os.geteuid() != 0:
        raise SystemExit("bench: must run as root (mount namespace, mail users, cgroup)")
    un = util.need("unshare")
    os.environ["MTABENCH_NS"] = "1"
    os.execv(un, [un, "-m", "--propagation", "private", sys.executable, *sys.argv])


def environment(work):
    fs = subprocess.run(["findmnt", "-no", "FSTYPE,OPTIONS", "-T", work], stdout=subprocess.PIPE).stdout.decode().strip()
    e = {"kernel": platform.release(), "cpus": os.cpu_count(), "python": platform.python_version(),
         "work_fs": fs, "load": os.getloadavg(), "date": time.strftime("%Y-%m-%d %H:%M:%S")}
    with open("/proc/cpuinfo") as f:
        e["cpu"] = next((x.split(":")[1].strip() for x in f if x.startswith("model name")), "?")
    pc = shutil.which("postconf", path="/usr/sbin:/usr/bin") or ""
    if pc:
        e["postfix"] = subprocess.run([pc, "-h", "mail_version"], stdout=subprocess.PIPE).stdout.decode().strip()
    return e


def fmt(x):
    if x is None:
        return "-"
    if isinstance(x, str):
        return x
    a = abs(x)
    return f"{x:.0f}" if a >= 100 else f"{x:.1f}" if a >= 10 else f"{x:.2f}" if a >= 0.1 else f"{x:.4f}"


def report(case, metrics, data, names):
    print(f"\n### {case}")
    head = [f"{n} (±)" for n in names]
    for n in names[1:]:
        head.append(f"{names[0]}/{n}")
    print("| metric | " + " | ".join(head) + " |")
    print("|---" * (len(head) + 1) + "|")
    for k in metrics + (("foreign_cpu_share",) if any("foreign_cpu_share" in r for n in names for r in data[n]) else ()):
        row = []
        for n in names:
            xs = [r.get(k) for r in data[n]]
            m, s = util.median(xs), util.spread(xs)
            row.append(fmt(m) + (f" (±{s / 2:.0f}%)" if s is not None else ""))
        for n in names[1:]:
            rs = [a[k] / b[k] for a, b in zip(data[names[0]], data[n]) if a.get(k) and b.get(k)]
            row.append(fmt(util.median(rs)))
        print(f"| {k} | " + " | ".join(row) + " |")
    for n in names:
        tops = [r["top"] for r in data[n] if "top" in r]
        if tops:
            print(f"\n{n}, most frequent per message: {tops[-1]}")
    sys.stdout.flush()


def measure(o, case, s):
    best = None
    for _ in range(1 if o.quiet is None else 3):
        subprocess.run(["sync"])
        if o.quiet is not None:
            util.wait_quiet(o.quiet, o.quiet_wait)
        r = case.fn(s)
        f = r.get("foreign_cpu_share")
        if f is None or best is None or f < best["foreign_cpu_share"]:
            best = r
        if o.quiet is None or f is None or f <= o.quiet:
            break
    return best


def run_disk(o, work, out):
    res = out["results"]
    jobs = disk.plan(o.sessions, o.batches)
    try:
        for _ in range(o.runs):
            for label, f in jobs:
                res.setdefault(label, []).append(f(work, o.sizes[0], o.seconds))
    finally:
        disk.cleanup()
    print(f"\n### disk, {o.sizes[0]} byte records, median of {o.runs} runs of {o.seconds} s\n")
    print("| pattern | ops/s | ±% |\n|---|---|---|")
    for k, v in res.items():
        print(f"| {k} | {util.median(v):.0f} | {util.spread(v) / 2:.0f} |")


def main():
    o = options()
    private_namespace()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))   # run the clean-up
    made = None
    if o.work:
        os.makedirs(o.work, exist_ok=True)
        work = os.path.realpath(o.work)
    else:
        work = made = tempfile.mkdtemp(prefix="mtabench-")
    os.chmod(work, 0o755)
    lock = open(os.path.join(work, "lock"), "w")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise SystemExit(f"bench: another run uses {work}") from None
    out = {"args": vars(o), "environment": environment(work), "results": {}}
    print("environment:", json.dumps(out["environment"]))
    ss = []
    try:
        if o.scenario == "disk":
            run_disk(o, work, out)
            return
        systems.setup_user(work)
        for n in o.system:
            s = systems.SYSTEMS[n](work, o)
            for item in o.set:
                who, _, kv = item.partition(":")
                k, _, v = kv.partition("=")
                if who == n:
                    s.set[k] = v
            ss.append(s)
        names = [s.name for s in ss]
        for case in scenarios.SCENARIOS[o.scenario](o):
            data = out["results"][case.label] = {n: [] for n in names}
            for i in range(o.runs):
                for s in ss:
                    try:
                        r = measure(o, case, s)
                    except Exception as e:  # keep the other figures
                        print(f"! {case.label} {s.name} run {i + 1}: {e}", file=sys.stderr)
                        if os.environ.get("MTABENCH_DEBUG"):
                            traceback.print_exc()
                        r = {"error": str(e)}
                    data[s.name].append(r)
            if any(r and "error" not in r for n in names for r in data[n]):
                report(case.label, case.metrics, data, names)
            if o.json:
                with open(o.json, "w") as f:
                    json.dump(out, f, indent=1)
    finally:
        for s in ss:
            s.close()
        if o.json:
            with open(o.json, "w") as f:
                json.dump(out, f, indent=1)
        if made:
            os.chdir("/")
            subprocess.run(["umount", "-q", "/etc/passwd", "/etc/group"], stderr=subprocess.DEVNULL)
            shutil.rmtree(made, ignore_errors=True)


if __name__ == "__main__":
    main()
