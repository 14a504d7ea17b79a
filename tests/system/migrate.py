#!/usr/bin/env python3
"""A classic installation is taken over by `qmail start` and given back, on a scratch copy of this machine: docs/migration.md, step by step.

    migrate.py --qmail target/release/qmail
    migrate.py --qmail target/release/qmail --peer DIR

The installation is made here, file by file, as the classic programs leave it: control files, users, aliases, a queue with a message in
each state that a crash can leave. Its programs are ours under their classic names, or with --peer those of another build of qmail, such
as a tree of notqmail after `make it man`. Needs what scratch.py needs; without it says so and passes.
"""
import argparse
import os
import pathlib
import re
import shutil
import signal
import smtplib
import subprocess
import time

import scratch
from world import World, free_port, run_tests, wait_for, wait_port

HOME = pathlib.Path("/var/qmail")
QUEUE = HOME / "queue"
SPLIT = 23
QMAIL = None
PEER = None
#        user      group     directory
USERS = [("alias", "nofiles", "/var/qmail/alias"), ("qmaild", "nofiles", "/var/qmail"), ("qmaill", "nofiles", "/var/qmail"),
         ("qmailp", "nofiles", "/var/qmail"), ("qmailq", "qmail", "/var/qmail"), ("qmailr", "qmail", "/var/qmail"), ("qmails", "qmail", "/var/qmail")]
PROGRAMS = ["qmail-clean", "qmail-getpw", "qmail-inject", "qmail-local", "qmail-lspawn", "qmail-newu", "qmail-qread", "qmail-qstat", "qmail-remote",
            "qmail-rspawn", "qmail-send", "qmail-showctl", "qmail-smtpd", "qmail-start", "qmail-tcpto", "sendmail"]
HOURS = 3600
SYSTEM = None


def run(*command, check=True, **more):
    done = subprocess.run(list(map(str, command)), check=False, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=120, **more)
    if check and done.returncode:
        raise AssertionError(f"{command} exited with {done.returncode}: {done.stdout[-2000:]}")
    return done.stdout.decode()


def make(path, user, mode, text=None):
    """A directory, or a file if it has a text, as the tables of the classic system have it."""
    if text is None:
        path.mkdir(parents=True, exist_ok=True)
    else:
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
    shutil.chown(path, user, "qmail")
    path.chmod(mode)
    return path


class Classic:
    """The classic installation, and who is sent to."""

    def __init__(self):
        for group in ("nofiles", "qmail"):
            run("groupadd", "--system", group)
        for user, group, directory in USERS:
            run("useradd", "--system", "--gid", group, "--home-dir", directory, "--no-create-home", user)
        run("useradd", "--create-home", "joe")
        self.sink = World(QMAIL, "sink", host="there.test").start()
        for path, user, mode in [("", "root", 0o755), ("alias", "alias", 0o2755), ("bin", "root", 0o755), ("control", "root", 0o755),
                                 ("man", "root", 0o755), ("users", "root", 0o755)]:
            make(HOME / path, user, mode)
        for path, user, mode in [("", "qmailq", 0o750), ("pid", "qmailq", 0o700), ("intd", "qmailq", 0o700), ("todo", "qmailq", 0o750),
                                 ("bounce", "qmails", 0o700), ("lock", "qmailq", 0o750), ("mess", "qmailq", 0o750), ("info", "qmails", 0o700),
                                 ("local", "qmails", 0o700), ("remote", "qmails", 0o700)]:
            make(QUEUE / path, user, mode)
            if path in ("mess", "info", "local", "remote"):
                for part in range(SPLIT):
                    make(QUEUE / path / str(part), user, mode)
        make(QUEUE / "lock/sendmutex", "qmails", 0o600, "")
        make(QUEUE / "lock/tcpto", "qmailr", 0o644, bytes([192, 0, 2, 1, 3, 0, 0, 0]) + int(time.time()).to_bytes(8, "little") + bytes(1008))
        os.mkfifo(QUEUE / "lock/trigger")
        shutil.chown(QUEUE / "lock/trigger", "qmails", "qmail")
        (QUEUE / "lock/trigger").chmod(0o622)
        self.programs()
        for file, text in {"me": "here.test", "locals": "here.test", "rcpthosts": "here.test\nvirtual.test", "virtualdomains": "virtual.test:joe-virtual",
                           "smtproutes": f"there.test:127.0.0.1:{self.sink.smtp}", "bouncefrom": "bounces", "queuelifetime": "600000"}.items():
            make(HOME / "control" / file, "root", 0o644, text + "\n")
        for name in ("mailer-daemon", "postmaster", "root"):
            make(HOME / f"alias/.qmail-{name}", "alias", 0o644, "&joe\n")
        make(HOME / "alias/.qmail-list", "alias", 0o644, "&joe\n&alice@there.test\n")
        uid, gid = (int(run("id", option, "joe")) for option in ("-u", "-g"))
        make(HOME / "users/assign", "root", 0o644, f"=boss:joe:{uid}:{gid}:/home/joe:-:boss:\n.\n")
        run(HOME / "bin/qmail-newu")
        for extension in ("boss", "virtual-default"):
            path = pathlib.Path(f"/home/joe/.qmail-{extension}")
            path.write_text(f"./{extension}-box\n")
            shutil.chown(path, "joe", "joe")

    def programs(self):
        if PEER:
            run("make", "-C", PEER, "setup")
            assert (HOME / "bin/qmail-send").read_bytes() == pathlib.Path(PEER, "qmail-send").read_bytes()
            return
        for name in PROGRAMS:
            make(HOME / "bin" / name, "root", 0o755, f"#!/bin/sh\nexec {QMAIL} {name} \"$@\"\n")
        shutil.copy(QMAIL, HOME / "bin/qmail-queue")
        shutil.chown(HOME / "bin/qmail-queue", "qmailq", "qmail")
        (HOME / "bin/qmail-queue").chmod(0o4711)
        make(HOME / "man/man8", "root", 0o755)
        make(HOME / "man/man8/qmail-send.8", "root", 0o644, "the page of before\n")

    def message(self, name, hours=0, **files):
        """Puts a message into the queue in a state: by name of directory, what its file holds. Its number is that of its inode."""
        text = f"Received: (qmail 1 invoked by uid 0); 1 Jan 2026 00:00:00 -0000\nSubject: {name}\n\nbody\n"
        newborn = make(QUEUE / "pid/newborn", "qmailq", 0o644, text)
        number = newborn.stat().st_ino
        paths = [newborn.rename(QUEUE / "mess" / str(number % SPLIT) / str(number))]
        for directory, content in files.items():
            split = directory in ("info", "local", "remote")
            path = QUEUE / directory / str(number % SPLIT if split else "") / str(number)
            if directory == "todo":
                os.link(QUEUE / "intd" / str(number), path)
                continue
            user, mode = ("qmailq", 0o644) if directory == "intd" else ("qmails", 0o600)
            paths.append(make(path, user, mode, content))
        for path in paths:
            when = time.time() - hours * HOURS
            os.utime(path, (when, when))
        return number

    def start_classic(self):
        command = ["qmail-start", "./Mailbox"]
        environment = {"PATH": f"{HOME}/bin:/usr/local/bin:/usr/bin:/bin"}
        self.log = open("/tmp/classic.log", "ab")
        return subprocess.Popen(command, env=environment, executable=str(HOME / "bin/qmail-start"), stdin=subprocess.DEVNULL, stdout=self.log)

    def start(self):
        port = free_port()
        log = open("/tmp/supervisor.log", "ab")
        process = subprocess.Popen([str(HOME / "bin/qmail"), "start", "--smtp", f"127.0.0.1:{port}", "./Mailbox"], stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        wait_port(port, process)
        return process, port


def stop_classic(process):
    # The process that was started has become qmail-send.
    process.send_signal(signal.SIGTERM)
    process.wait(60)


def state_of(*names):
    """What an administrator keeps: content, owner, group and mode of every file below these."""
    found = {}
    for name in names:
        for path in [HOME / name, *sorted((HOME / name).rglob("*"))]:
            what = path.lstat()
            content = path.read_bytes() if path.is_file() else path.readlink() if path.is_symlink() else None
            found[str(path)] = (what.st_uid, what.st_gid, oct(what.st_mode), content)
            if path.is_file():
                # What nobody reads for a day and a half is forgotten: looking at it here does not count.
                os.utime(path, ns=(what.st_atime_ns, what.st_mtime_ns))
    return found


def subjects(path):
    path = pathlib.Path(path)
    return sorted(re.findall("^Subject: (.*)$", path.read_text(), re.M)) if path.exists() else []


def queued():
    return sorted(int(path.name) for path in (QUEUE / "mess").rglob("*") if path.is_file())


def it_is_taken_over_as_it_is():
    system = SYSTEM
    env = "u0\0p1\0F{}\0"
    system.fresh = [system.message("half a text"), system.message("half an envelope", intd="u0\0p1\0Fme@there.test\0Tjo")]
    system.message("forgotten", hours=40)
    make(QUEUE / "pid/stale", "qmailq", 0o644, "")
    os.utime(QUEUE / "pid/stale", (time.time() - 40 * HOURS,) * 2)
    system.message("accepted", intd=env.format("me@there.test") + "Tjoe@here.test\0Talice@there.test\0Tboss@here.test\0", todo=True)
    system.message("half routed", intd=env.format("me@there.test") + "Tjoe@here.test\0Tx@virtual.test\0", todo=True, info="Fme@there.test\0", local="Tjo")
    system.message("half done", hours=2, info="Fme@there.test\0", local="Djoe@here.test\0Tboss@here.test\0", remote="Dbob@there.test\0Talice@there.test\0")
    system.message("failed before", hours=2, info="Falice@there.test\0", local="Tjoe@here.test\0",
                   bounce="<gone@here.test>:\nSorry, no mailbox here by that name. (#5.1.1)\n\n")
    system.message("to a list", hours=1, info="Fowner-@there.test-@[]\0", remote="Talice@there.test\0")
    system.before = state_of("control", "users", "alias", "queue")
    system.programs_before = state_of("bin", "man")

    refused = run(QMAIL, "install", check=False)
    assert "--replace" in refused, refused
    assert state_of("bin", "man") == system.programs_before, "a refusal changes nothing"
    said = run(QMAIL, "install", "--replace")
    assert "add the" not in said and "change the mode" not in said and "give " not in said, f"the classic tree is right as it is: {said}"
    after = state_of("control", "users", "alias", "queue")
    assert after.pop(str(QUEUE / "hold"))
    assert after == system.before, {path for path in after if after[path] != system.before.get(path)}
    assert run(HOME / "bin/qmail", "install", "--dry-run") == ""
    assert "error:" not in run(HOME / "bin/qmail", "doctor", "--offline", check=False)


def what_waited_is_delivered_and_nothing_twice():
    system = SYSTEM
    system.process, system.port = system.start()
    wait_for("all but what is half there", lambda: queued() == sorted(system.fresh), 60)
    wait_for("all at the sink", lambda: len(system.sink.mails()) >= 4)
    assert subjects("/home/joe/Mailbox") == ["accepted", "failed before", "half routed"], subjects("/home/joe/Mailbox")
    assert subjects("/home/joe/boss-box") == ["accepted", "half done"], subjects("/home/joe/boss-box")
    assert subjects("/home/joe/virtual-default-box") == ["half routed"]
    remote = sorted(re.search(rb"^Subject: (.*)$", mail, re.M)[1].decode() for mail in system.sink.mails())
    assert remote == ["accepted", "failure notice", "half done", "to a list"], remote
    bounce = next(mail for mail in system.sink.mails() if b"failure notice" in mail)
    assert b"<gone@here.test>:\nSorry, no mailbox here by that name. (#5.1.1)" in bounce and b"From: bounces@here.test" in bounce, bounce
    assert any(b"owner-alice=there.test@there.test" in path.read_bytes() for path in system.sink.files()), "VERP"
    assert not (QUEUE / "pid/stale").exists()
    # Users, aliases and programs of the host are served as before.
    run("sendmail", "list@here.test", input=b"Subject: by sendmail\n\n", env={"PATH": f"{HOME}/bin"}, user="joe", group="joe", extra_groups=[], executable=str(HOME / "bin/sendmail"))
    wait_for("the list", lambda: "by sendmail" in subjects("/home/joe/Mailbox"))
    wait_for("the list, elsewhere", lambda: any(b"by sendmail" in mail for mail in system.sink.mails()))


def it_is_given_back_with_what_waits():
    system = SYSTEM
    for file in ("concurrencylocal", "concurrencyremote"):
        make(HOME / "control" / file, "root", 0o644, "0\n")
    system.process.terminate()
    assert system.process.wait(60) == 0
    system.process, system.port = system.start()
    with smtplib.SMTP("127.0.0.1", system.port, timeout=30) as client:
        client.sendmail("me@there.test", ["joe@here.test", "y@virtual.test"], "Subject: waits\r\n\r\nbody\r\n")
    wait_for("its recipients", lambda: [path for path in (QUEUE / "local").rglob("*") if path.is_file()])
    wait_for("its envelope to go", lambda: not list((QUEUE / "todo").iterdir()))
    system.process.terminate()
    assert system.process.wait(60) == 0
    run(HOME / "bin/qmail", "install", "--give-back")
    assert state_of("bin", "man") == system.programs_before
    for file in ("concurrencylocal", "concurrencyremote"):
        (HOME / "control" / file).unlink()
    now = state_of("control", "users", "alias")
    assert now == {path: state for path, state in system.before.items() if not path.startswith(str(QUEUE))}

    # As the classic tables have it, and as the classic programs see it.
    number, = set(queued()) - set(system.fresh)
    part = str(number % SPLIT)
    files = {path: what[:3] for path, what in state_of("queue").items() if path.endswith(f"/{number}")}
    uid = {name: int(run("id", "-u", name)) for name in ("qmailq", "qmails")}
    assert {path: (what[0], what[2]) for path, what in files.items()} == {
        str(QUEUE / "mess" / part / str(number)): (uid["qmailq"], "0o100644"),
        str(QUEUE / "info" / part / str(number)): (uid["qmails"], "0o100600"),
        str(QUEUE / "local" / part / str(number)): (uid["qmails"], "0o100600")}, files
    assert (QUEUE / "mess" / part / str(number)).stat().st_ino == number
    assert (QUEUE / "info" / part / str(number)).read_bytes() == b"Fme@there.test\0"
    assert (QUEUE / "local" / part / str(number)).read_bytes() == b"Tjoe@here.test\0Tjoe-virtual-y@virtual.test\0"
    seen = run(HOME / "bin/qmail-qread")
    assert re.search(rf"GMT  #{number}  \d+  <me@there\.test> ?\n\tlocal\tjoe@here\.test\n\tlocal\tjoe-virtual-y@virtual\.test\n", seen), seen
    assert run(HOME / "bin/qmail-qstat") == f"messages in queue: {1 + len(system.fresh)}\nmessages in queue but not yet preprocessed: 0\n"


def the_classic_programs_go_on():
    system = SYSTEM
    process = system.start_classic()
    wait_for("what waited", lambda: "waits" in subjects("/home/joe/Mailbox") and "waits" in subjects("/home/joe/virtual-default-box"), 60)
    run(HOME / "bin/qmail-inject", "boss@here.test", input=b"Subject: as ever\n\n", user="joe", group="joe", extra_groups=[])
    wait_for("new mail", lambda: "as ever" in subjects("/home/joe/boss-box"), 60)
    wait_for("the queue", lambda: queued() == sorted(system.fresh), 60)
    stop_classic(process)
    system.sink.close()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--qmail", required=True)
    parser.add_argument("--peer")
    arguments = parser.parse_args()
    QMAIL = str(pathlib.Path(arguments.qmail).resolve())
    PEER = arguments.peer and str(pathlib.Path(arguments.peer).resolve())
    scratch.enter()
    SYSTEM = Classic()
    try:
        run_tests([it_is_taken_over_as_it_is, what_waited_is_delivered_and_nothing_twice, it_is_given_back_with_what_waits, the_classic_programs_go_on])
    except SystemExit as end:
        if end.code:
            for log in (HOME / "log/current", pathlib.Path("/tmp/supervisor.log"), pathlib.Path("/tmp/classic.log")):
                print(log.read_text()[-4000:] if log.exists() else f"no {log}")
        raise
