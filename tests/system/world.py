"""A running `qmail serve` in a scratch home, for the scripts beside this file. Python's standard library alone."""
import contextlib
import os
import pathlib
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time

HOST = "here.test"


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def wait_for(what, condition, seconds=30, pause=0.02):
    """Wait until `condition()` is true, and return what it returned."""
    end = time.monotonic() + seconds
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > end:
            raise AssertionError(f"waited {seconds} s in vain: {what}")
        time.sleep(pause)


def wait_port(port, process=None, seconds=30):
    def open_now():
        if process is not None and process.poll() is not None:
            raise AssertionError(f"exited with {process.returncode} instead of listening on {port}")
        with contextlib.suppress(OSError):
            socket.create_connection(("127.0.0.1", port), 1).close()
            return True
    wait_for(f"port {port}", open_now, seconds)


class World:
    """One instance: its home, its ports, its log. `control` adds or replaces control files."""

    def __init__(self, qmail, name="world", host=HOST, control=None, options=(), spool=None, any_password=True):
        self.qmail = str(pathlib.Path(qmail).resolve())
        self.root = pathlib.Path(tempfile.mkdtemp(prefix=f"qmail-{name}."))
        self.home, self.maildir = self.root / "home", self.root / "alice" / "Maildir"
        for d in ("cur", "new", "tmp"):
            (self.maildir / d).mkdir(parents=True)
        self.smtp, self.pop3 = free_port(), free_port()
        self.host, self.log = host, self.root / "log"
        self.options = list(options) + (["--spool", spool] if spool else [])
        self.options += ["--any-password"] if any_password else []
        self.process = None
        files = {"me": host, "locals": host, "rcpthosts": f"{host}\nthere.test\nrefused.test"}
        files.update(control or {})
        (self.home / "control").mkdir(parents=True)
        for file, text in files.items():
            (self.home / "control" / file).write_text(text + "\n")

    def command(self):
        return [self.qmail, "serve", "--home", str(self.home), "--smtp", f"127.0.0.1:{self.smtp}",
                "--pop3", f"127.0.0.1:{self.pop3}", "--mailbox", f"alice={self.maildir}", *self.options]

    def start(self):
        with open(self.log, "ab") as log:
            self.process = subprocess.Popen(self.command(), stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        wait_port(self.smtp, self.process)
        return self

    def stop(self):
        """TERM, and a clean exit."""
        self.process.terminate()
        code = self.process.wait(30)
        self.process = None
        assert code == 0, f"qmail serve exited with {code}\n{self.log_text()[-2000:]}"

    def kill(self):
        """What a crash leaves."""
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()
        self.process = None

    def retry_now(self):
        self.process.send_signal(signal.SIGALRM)

    def queued(self):
        out = subprocess.run([self.qmail, "queue", "count", "--home", str(self.home)], check=True, stdout=subprocess.PIPE).stdout
        return int(out)

    def password(self):
        """Alice's, as the first start prints it."""
        self.wait_log(r"^user alice@.* password ")
        return re.search(r"^user alice@\S+ +password (\S+)", self.log_text(), re.M).group(1)

    def drained(self, seconds=60):
        wait_for("the queue to drain", lambda: self.queued() == 0, seconds, 0.1)

    def mails(self):
        """Message texts in the Maildir, without the Return-Path, Delivered-To and Received lines added on the way."""
        return [strip_trace(path.read_bytes()) for path in sorted(self.files())]

    def files(self):
        return list((self.maildir / "new").iterdir()) + list((self.maildir / "cur").iterdir())

    def wait_mails(self, count, seconds=30):
        wait_for(f"{count} messages in {self.maildir}", lambda: len(self.files()) >= count, seconds)
        found = len(self.files())
        assert found == count, f"{found} messages instead of {count}"
        return self.mails()

    def log_text(self):
        return self.log.read_text(errors="replace") if self.log.exists() else ""

    def wait_log(self, pattern, count=1, seconds=30):
        wait_for(f"{count} x {pattern} in the log", lambda: len(re.findall(pattern, self.log_text(), re.M)) >= count, seconds)

    def close(self):
        if self.process:
            self.kill()
        shutil.rmtree(self.root, ignore_errors=True)

    def __enter__(self):
        return self.start()

    def __exit__(self, kind, value, trace):
        if kind and self.log.exists():
            sys.stderr.write(f"--- log of {self.root.name}, its end ---\n{self.log_text()[-3000:]}\n---\n")
        self.close()


def strip_trace(text):
    """Drop the leading trace fields (Return-Path, Delivered-To, Received) with their continuation lines."""
    lines = text.split(b"\n")
    at = 0
    while at < len(lines) and lines[at].lower().startswith((b"return-path:", b"delivered-to:", b"received:")):
        at += 1
        while at < len(lines) and lines[at][:1] in (b" ", b"\t"):
            at += 1
    return b"\n".join(lines[at:])


class Peer:
    """A program that runs beside the world, until the block ends."""

    def __init__(self, *command):
        self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.kill()
        self.process.wait()


def program(name):
    found = shutil.which(name, path=os.environ.get("PATH", "") + ":/usr/sbin:/sbin")
    if not found:
        raise SystemExit(f"{name} is missing: run tests/system/install-peers")
    return found


def run_tests(tests):
    """Run functions one after the other; report and exit as a test runner does."""
    failed = []
    for test in tests:
        started = time.monotonic()
        try:
            test()
            print(f"ok   {test.__name__} ({time.monotonic() - started:.1f} s)", flush=True)
        except Exception as error:  # noqa: BLE001 - every failure is reported, then the next test runs
            failed.append(test.__name__)
            print(f"FAIL {test.__name__}: {type(error).__name__}: {error}", flush=True)
    print(f"{len(tests) - len(failed)} passed, {len(failed)} failed")
    sys.exit(1 if failed else 0)
