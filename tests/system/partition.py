#!/usr/bin/env python3
"""`qmail start` as root: installed into a scratch home, mail on every way, parties killed, a classic queue taken over and given back.

    partition.py --qmail target/release/qmail

Makes the classic users and groups if there are none (`qmail install` does). Needs Linux and root; without root it says so and passes.
"""
import argparse
import contextlib
import grp
import os
import pathlib
import pwd
import re
import shutil
import signal
import smtplib
import subprocess
import tempfile
import time

from world import World, free_port, run_tests, wait_for, wait_port

PARTIES = {"network": "qmaild", "writer": "qmailq", "manager": "qmails", "cleaner": "qmailq", "remote": "qmailr", "launcher": "root", "log": "qmaill"}
QMAIL = None
NOBODY = 65534


class Partitioned:
    """An installation in a scratch home, and `qmail start` on it."""

    def __init__(self):
        self.home = pathlib.Path(tempfile.mkdtemp(prefix="qmail-partition."))
        self.home.chmod(0o755)
        self.sink = World(QMAIL, "sink", host="there.test").start()
        self.run("install", "--home", self.home)
        for name, text in {"me": "here.test", "locals": "here.test", "rcpthosts": "here.test", "smtproutes": f"there.test:127.0.0.1:{self.sink.smtp}"}.items():
            (self.home / "control" / name).write_text(text + "\n")
        # The account may be there already, with a home elsewhere.
        alias = pwd.getpwnam("alias")
        (self.home / "users" / "assign").write_text(f"+:alias:{alias.pw_uid}:{alias.pw_gid}:{self.home}/alias:-::\n.\n")
        self.run("qmail-newu", env=self.environment())
        (self.home / "alias" / ".qmail-joe").write_text("./joebox\n")
        self.port, self.process = free_port(), None

    def run(self, *arguments, **more):
        return subprocess.run([QMAIL, *map(str, arguments)], check=True, stdout=subprocess.PIPE, timeout=60, **more).stdout.decode()

    def environment(self):
        return dict(os.environ, QMAIL_HOME=str(self.home), PATH=f"{self.home}/bin:{os.environ['PATH']}")

    def start(self):
        self.output = open(self.home / "supervisor", "ab")
        self.process = subprocess.Popen([QMAIL, "start", "--home", self.home, "--smtp", f"127.0.0.1:{self.port}", "./Mailbox"],
                                        stdin=subprocess.DEVNULL, stdout=self.output, stderr=self.output)
        wait_port(self.port, self.process)
        return self

    def stop(self):
        self.process.terminate()
        code = self.process.wait(60)
        self.process = None
        assert code == 0, f"qmail start exited with {code}: {(self.home / 'supervisor').read_text()}"
        assert not self.parties(), "a party is left"

    def parties(self):
        """Name, pid and user of each."""
        found = {}
        for line in subprocess.run(["ps", "-eo", "pid,user:20,args"], stdout=subprocess.PIPE, check=True).stdout.decode().splitlines():
            match = re.match(r"\s*(\d+) (\S+) +qmail party (\w+)", line)
            # One that ends meanwhile is none of them.
            with contextlib.suppress(OSError):
                if match and f"QMAIL_HOME={self.home}".encode() in pathlib.Path(f"/proc/{match[1]}/environ").read_bytes():
                    found[match[3]] = (int(match[1]), match[2])
        return found

    def send(self, *recipients, sender="me@there.test", text="Subject: x\r\n\r\nbody\r\n", port=None):
        with smtplib.SMTP("127.0.0.1", port or self.port, timeout=30) as client:
            return client.sendmail(sender, list(recipients), text)

    def mailbox(self):
        path = self.home / "alias" / "joebox"
        return path.read_text() if path.exists() else ""

    def wait_mailbox(self, pattern, count=1):
        wait_for(f"{count} x {pattern} in the mailbox", lambda: len(re.findall(pattern, self.mailbox(), re.M)) >= count)

    def drained(self):
        # What a killed writer left half-way is no message.
        wait_for("the queue to drain", lambda: self.run("queue", "count", "--home", self.home) == "0\n", 60)

    def log(self):
        return (self.home / "log" / "current").read_text()

    def close(self):
        if self.process:
            self.process.kill()
            self.process.wait()
        self.sink.close()
        shutil.rmtree(self.home, ignore_errors=True)


def partitioned(test):
    def run():
        system = Partitioned()
        try:
            test(system)
        except BaseException:
            for file in ("supervisor", "log/current"):
                if (system.home / file).exists():
                    print((system.home / file).read_text()[-3000:])
            raise
        finally:
            system.close()
    run.__name__ = test.__name__
    return run


@partitioned
def every_party_is_its_own_user_and_mail_goes_every_way(system):
    system.start()
    wait_for("all parties", lambda: set(system.parties()) == set(PARTIES))
    assert {name: user for name, (_, user) in system.parties().items()} == PARTIES
    # From the network to a mailbox, to another host, and back to the sender.
    system.send("joe@here.test")
    system.wait_mailbox("invoked from network")
    refused = system.send("joe@here.test", "nobody-here@here.test", sender="joe@here.test")
    assert refused == {}
    system.wait_mailbox("invoked for bounce")
    # The manager cannot read messages; the writer quotes this one for it.
    system.wait_mailbox("(?s)--- Below this line is a copy of the message.*^body$")
    # From a program of somebody who has no rights at all.
    subprocess.run([QMAIL, "sendmail", "-f", "joe@here.test", "alice@there.test", "joe@here.test"], input=b"Subject: local\n\nlocal body\n",
                   env=system.environment(), check=True, timeout=30, user=NOBODY, group=NOBODY, extra_groups=[])
    system.wait_mailbox(f"invoked by uid {NOBODY}")
    assert any(b"local body" in mail for mail in system.sink.wait_mails(1))
    system.drained()
    # A relay attempt is refused.
    try:
        system.send("x@elsewhere.test")
        raise AssertionError("relayed")
    except smtplib.SMTPRecipientsRefused as refused:
        assert refused.recipients["x@elsewhere.test"][0] == 553
    assert re.search(r"^@4\S+ end msg", system.log(), re.M)
    system.stop()


@partitioned
def control_files_are_read_again(system):
    system.start()
    (system.home / "control" / "rcpthosts").write_text("here.test\nnew.test\n")
    (system.home / "control" / "locals").write_text("here.test\nnew.test\n")
    system.process.send_signal(signal.SIGHUP)

    def taken():
        try:
            return system.send("joe@new.test") == {}
        except (smtplib.SMTPException, OSError):
            return False
    wait_for("the new domain", taken)
    system.wait_mailbox("Delivered-To: joe@new.test")
    system.stop()


@partitioned
def parties_that_are_killed_are_started_again_and_nothing_is_lost(system):
    system.start()
    wait_for("all parties", lambda: set(system.parties()) == set(PARTIES))
    time.sleep(2.5)
    accepted = 0
    for number, party in enumerate([*PARTIES, *PARTIES]):
        for part in range(3):
            try:
                system.send("joe@here.test", text=f"Subject: x\r\n\r\nnumber {number}.{part}.\r\n")
                accepted += 1
            except (smtplib.SMTPException, OSError):
                pass
            if part == 1 and party in system.parties():
                os.kill(system.parties()[party][0], signal.SIGKILL)
        wait_for("all parties again", lambda: set(system.parties()) == set(PARTIES), 60)
        wait_port(system.port)
    assert accepted >= 14, accepted
    system.process.send_signal(signal.SIGALRM)
    system.drained()
    numbers = set(re.findall(r"^number (\d+\.\d)\.$", system.mailbox(), re.M))
    assert len(numbers) >= accepted, f"{len(numbers)} of {accepted}"
    system.stop()


@partitioned
def a_classic_system_is_taken_over_and_given_back(system):
    hold = system.home / "control" / "concurrencylocal"
    hold.write_text("0\n")

    def classic():
        return subprocess.Popen([QMAIL, "qmail-start", "./Mailbox"], env=system.environment(), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE)

    def queue_by_hand(text):
        # As the user that a setuid qmail-queue would be: a setuid program would not look at QMAIL_HOME.
        subprocess.run([system.home / "bin" / "qmail-inject", "-f", "me@there.test", "joe@here.test"], input=text, env=system.environment(),
                       check=True, timeout=30, user="qmailq", group="qmail", extra_groups=[])

    # Mail waits in a queue that the classic programs keep.
    process = classic()
    queue_by_hand(b"\nfrom the classic system\n")
    wait_for("the message", lambda: list((system.home / "queue" / "local").rglob("*/[0-9]*")))
    process.terminate()
    process.wait(30)
    system.start()
    system.send("joe@here.test", text="Subject: x\r\n\r\nfrom the parties\r\n")
    wait_for("both messages", lambda: len([path for path in (system.home / "queue" / "local").rglob("*/[0-9]*") if path.is_file()]) == 2)
    system.stop()
    # And back: the classic programs deliver what waits.
    hold.unlink()
    process = classic()
    system.wait_mailbox("^from the classic system$")
    system.wait_mailbox("^from the parties$")
    system.drained()
    process.terminate()
    process.wait(30)


@partitioned
def what_cannot_start_says_so_in_one_line(system):
    (system.home / "control" / "databytes").write_text("lots\n")
    ended = subprocess.run([QMAIL, "start", "--home", system.home, "--smtp", f"127.0.0.1:{system.port}"], stderr=subprocess.PIPE, stdout=subprocess.PIPE, timeout=60)
    assert ended.returncode == 111
    lines = [line for line in ended.stderr.decode().splitlines() if "databytes" in line]
    assert len(lines) == 1 and "decimal digits" in lines[0], ended.stderr
    assert not system.parties()


def accounts():
    """The classic users and groups that there are."""
    users = {"alias", "qmaild", "qmaill", "qmailp", "qmailq", "qmailr", "qmails"} & {user.pw_name for user in pwd.getpwall()}
    return users, {"nofiles", "qmail"} & {group.gr_name for group in grp.getgrall()}


TESTS = [every_party_is_its_own_user_and_mail_goes_every_way, control_files_are_read_again,
         parties_that_are_killed_are_started_again_and_nothing_is_lost, a_classic_system_is_taken_over_and_given_back,
         what_cannot_start_says_so_in_one_line]

if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--qmail", required=True)
    parser.add_argument("--only", default="")
    arguments = parser.parse_args()
    QMAIL = str(pathlib.Path(arguments.qmail).resolve())
    if os.geteuid() != 0:
        print("partition.py needs root: skipped")
    else:
        before = accounts()
        try:
            run_tests([test for test in TESTS if arguments.only in test.__name__])
        finally:
            # Other tests, as root, are not to meet the accounts that these made.
            for program, made in zip(("userdel", "groupdel"), (now - then for now, then in zip(accounts(), before))):
                for name in sorted(made):
                    subprocess.run([program, name], check=False)
