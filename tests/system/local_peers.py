#!/usr/bin/env python3
"""Local deliveries among real peers: programs that mail is delivered to, and readers of what was delivered.

    local_peers.py --qmail target/release/qmail [--only NAME]

Needs what install-peers installs; Dovecot runs as root only.
"""
import argparse
import collections
import contextlib
import fcntl
import imaplib
import mailbox
import os
import pathlib
import poplib
import re
import shlex
import shutil
import smtplib
import subprocess
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor

from world import HOST, Peer, World, free_port, program, run_tests, wait_for, wait_port

QMAIL = None

# What a reader of an mbox could take for the start of a message, and what it could lose.
BODIES = [b"plain\n", b"From eve Thu Jan  1 00:00:00 1970\n\nforged\n", b">From eve\n>>From eve\n", b"\nFrom \n\n\nFrom x\n", b"no line end", b"",
          b"\n", b"cr\r\nbare\rcr\n", bytes(range(1, 256)) + b"\n", b"x" * 300_000 + b"\nFrom far\n"]


class Mailbox:
    """A home of joe and the programs of the mail system beside it; qmail-local delivers to it."""

    def __init__(self, instructions):
        self.root = pathlib.Path(tempfile.mkdtemp(prefix="qmail-local."))
        self.home = self.root / "joe"
        for name in ("bin", "control", "joe"):
            (self.root / name).mkdir()
        (self.root / "control" / "me").write_text(HOST + "\n")
        subprocess.run([QMAIL, "applets", "--install", str(self.root / "bin")], check=True, stdout=subprocess.DEVNULL)
        (self.home / ".qmail").write_text(instructions)

    def deliver(self, text, code=0):
        """Delivers a message; gives what qmail-local printed."""
        environment = {"PATH": f"{self.root}/bin:/usr/bin:/bin", "QMAIL_HOME": str(self.root), "QMAILQUEUE": "/bin/false"}
        with tempfile.TemporaryFile() as message:
            message.write(text)
            message.seek(0)
            done = subprocess.run([self.root / "bin" / "qmail-local", "--", "joe", self.home, "joe", "", "", HOST, "sue@client.test", "./Mailbox"],
                                  stdin=message, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment, timeout=60)
        assert done.returncode == code, (done, code)
        return done.stdout + done.stderr

    def __enter__(self):
        return self

    def __exit__(self, *_):
        shutil.rmtree(self.root, ignore_errors=True)


class UserWorld(World):
    """A running system whose user joe has a home of his own. `user`: whom it runs as."""

    def __init__(self, name, instructions, user=None, **options):
        super().__init__(QMAIL, name, **options)
        self.user = user
        self.joe = self.root / "joe"
        self.joe.mkdir()
        (self.home / "users").mkdir()
        (self.home / "users" / "assign").write_text(f"=joe:joe:1000:1000:{self.joe}:::\n+joe-:joe:1000:1000:{self.joe}:-::\n.\n")
        (self.joe / ".qmail").write_text(instructions)
        subprocess.run([QMAIL, "applets", "--install", str(self.home / "bin")], check=True, stdout=subprocess.DEVNULL)

    def start(self):
        if not self.user:
            return super().start()
        subprocess.run(["chown", "-R", self.user, self.root], check=True)
        with open(self.log, "ab") as log:
            self.process = subprocess.Popen(self.command(), stdin=subprocess.DEVNULL, stdout=log, stderr=log, user=self.user, extra_groups=[])
        wait_port(self.smtp, self.process)
        return self

    def send(self, text):
        with smtplib.SMTP("127.0.0.1", self.smtp, timeout=30) as s:
            s.sendmail("sue@client.test", [f"joe@{HOST}"], text.replace(b"\n", b"\r\n"))


def maildir_make(path, owner=None):
    for part in ("", "tmp", "new", "cur"):
        (path / part).mkdir(mode=0o700)
    if owner:
        subprocess.run(["chown", "-R", owner, path], check=True)


def texts(maildir):
    return [path.read_bytes() for part in ("new", "cur") for path in (maildir / part).iterdir()]


# HOME is that of the account by whose rights it runs, whatever the environment says: the names are whole ones.
PROCMAILRC = """\
MAILDIR={home}
DEFAULT=./Maildir/
:0
* ^Subject: later
{{ EXITCODE=75
  HOST }}
:0
* ^Subject: never
{{ EXITCODE=77
  HOST }}
:0
* ^Subject: done
{{ EXITCODE=99
  HOST }}
"""

MAILDROPRC = """\
DEFAULT="{home}/Maildir"
if (/^Subject: later/)
{{
  EXITCODE=75
  exit
}}
if (/^Subject: never/)
{{
  EXITCODE=77
  exit
}}
if (/^Subject: done/)
{{
  EXITCODE=99
  exit
}}
to "$DEFAULT"
"""

FILTERS = {"procmail": ("|preline {program} ./rc\n./after\n", PROCMAILRC), "maildrop": ("|preline -f {program} ./rc\n./after\n", MAILDROPRC)}


def write_rules(name, home, rules):
    (home / "rc").write_text(rules.format(home=home))
    (home / "rc").chmod(0o600)


def instructions_for(name, home):
    instructions, rules = FILTERS[name]
    write_rules(name, home, rules)
    maildir_make(home / "Maildir")
    (home / ".qmail").write_text(instructions.format(program=program(name)))


def filters_are_run_by_qmail_local():
    """What their exit codes mean: 0 goes on, 75 is for later, 77 is for good, 99 is done."""
    for name in FILTERS:
        with Mailbox("") as box:
            instructions_for(name, box.home)
            for subject, code, after in [("kept", 0, True), ("later", 111, False), ("never", 100, False), ("done", 0, False)]:
                box.deliver(b"Subject: %s\n\nbody of %s\n" % (subject.encode(), subject.encode()), code)
                assert (box.home / "after").exists() == after, (name, subject)
                (box.home / "after").unlink(missing_ok=True)
            (stored,) = texts(box.home / "Maildir")
            assert b"Return-Path: <sue@client.test>\nDelivered-To: joe@here.test\n" in stored and stored.endswith(b"Subject: kept\n\nbody of kept\n"), stored
            # Nothing of the sender or the text is a word of the command.
            box.deliver(b"Subject: $(touch planted); `touch planted`\n\n", 0)
            assert not (box.home / "planted").exists()


def filters_are_run_by_qmail_serve():
    for name in FILTERS:
        with UserWorld(name, "") as w:
            instructions_for(name, w.joe)
            w.send(b"Subject: kept\n\nbody\n")
            w.wait_log(r"^delivery \d+: success: did_1\+0\+1/")
            (stored,) = texts(w.joe / "Maildir")
            assert stored.endswith(b"Subject: kept\n\nbody\n"), stored
            w.send(b"Subject: later\n\nbody\n")
            w.wait_log(r"^delivery \d+: deferral: ")
            w.send(b"Subject: done\n\nbody\n")
            w.wait_log(r"^delivery \d+: success: did_0\+0\+1/")
            w.send(b"Subject: never\n\nbody\n")
            w.wait_log(r"^delivery \d+: failure: ")
            assert len(texts(w.joe / "Maildir")) == 1
            # What was put off is tried again once the program would have it.
            write_rules(name, w.joe, FILTERS[name][1].replace("later", "no more"))
            w.retry_now()
            w.wait_log(r"^delivery \d+: success: did_1\+0\+1/", 2)
            w.drained()


def unquoted(message):
    """What was sent, of a message in an mbox: without the lines in front and with mboxrd's quoting taken off."""
    text = message.split(b"\n", 2)[2]
    return re.sub(rb"^>(>*From )", rb"\1", text, flags=re.M)


def python_reads_an_mbox():
    """Every octet of every message, whatever looks like the start of another."""
    with Mailbox("./Mailbox\n") as box:
        sent = [b"Subject: %d\n\n%s" % (number, body) for number, body in enumerate(BODIES)]
        for text in sent:
            box.deliver(text)
        box_file = mailbox.mbox(box.home / "Mailbox", create=False)
        assert len(box_file) == len(sent), len(box_file)
        for number, text in enumerate(sent):
            # A message ends in a line end, and an empty line parts it from the next: the reader takes that off.
            whole = text if text.endswith(b"\n") else text + b"\n"
            read = unquoted(box_file.get_bytes(number)) + b"\n"
            assert read == whole or read == whole + b"\n", (number, read[:300], whole[:300])
            assert box_file[number].get_from().startswith("sue@client.test "), box_file[number].get_from()


def python_reads_a_maildir():
    with Mailbox("./Maildir/\n") as box:
        maildir_make(box.home / "Maildir")
        sent = [b"Subject: %d\n\n%s" % (number, body) for number, body in enumerate(BODIES)]
        with ThreadPoolExecutor(8) as pool:
            list(pool.map(box.deliver, sent * 5))
        folder = mailbox.Maildir(box.home / "Maildir", create=False)
        read = collections.Counter(folder.get_bytes(key).split(b"\n", 2)[2] for key in folder.keys())
        # The module gives line ends of its own for CR LF; it reads as we wrote.
        assert read == collections.Counter(sent * 5), [text[:60] for text in (read - collections.Counter(sent * 5))]


def writers_of_an_mbox_take_turns():
    """Deliveries, and a reader that rewrites the file under the locks that Python takes (fcntl and NAME.lock): nothing is lost or twice."""
    with Mailbox("./Mailbox\n") as box:
        path, count, taken = box.home / "Mailbox", 200, []
        path.touch(mode=0o600)
        done = threading.Event()

        def read_and_remove():
            while True:
                last = done.is_set()
                reader = mailbox.mbox(path, create=False)
                try:
                    reader.lock()
                except mailbox.ExternalClashError:
                    # It does not wait.
                    reader._file.close()
                    time.sleep(0.002)
                    continue
                try:
                    for key, message in list(reader.items()):
                        taken.append((message["subject"], message.get_payload()))
                        del reader[key]
                    # Rewritten in its place, so that whoever waits for the lock finds the same file.
                    with open(path, "r+b") as file:
                        file.truncate(0)
                finally:
                    reader.unlock()
                    reader._file.close()
                if last:
                    return
                time.sleep(0.01)

        reader = threading.Thread(target=read_and_remove)
        reader.start()
        try:
            with ThreadPoolExecutor(8) as pool:
                list(pool.map(lambda number: box.deliver(b"Subject: %d\n\n%s\n" % (number, b"%d " % number * 2000)), range(count)))
        finally:
            done.set()
            reader.join()
        assert sorted(int(subject) for subject, _ in taken) == list(range(count)), len(taken)
        for subject, body in taken:
            assert body.rstrip("\n") == f"{subject} " * 2000, subject


def an_mbox_that_is_locked_is_waited_for():
    """Whoever holds it, and however: flock, fcntl, or a file NAME.lock."""
    def flocked(path):
        file = open(path, "r+b")
        fcntl.flock(file, fcntl.LOCK_EX)
        return file.close

    def locked(path):
        file = open(path, "r+b")
        fcntl.lockf(file, fcntl.LOCK_EX)
        return file.close

    def dotted(path):
        lock = pathlib.Path(f"{path}.lock")
        lock.touch()
        return lock.unlink

    for lock in (flocked, locked, dotted):
        with Mailbox("./Mailbox\n") as box:
            path = box.home / "Mailbox"
            path.touch(mode=0o600)
            unlock = lock(path)
            with ThreadPoolExecutor(1) as pool:
                delivery = pool.submit(box.deliver, b"Subject: x\n\n")
                time.sleep(0.7)
                assert not delivery.done() and path.stat().st_size == 0, lock.__name__
                unlock()
                delivery.result(20)
            assert path.stat().st_size > 0, lock.__name__


def names_are_durable_before_the_delivery_counts():
    """The file is synced before it has a name in new/, and new/ before qmail-local says so."""
    with Mailbox("./Maildir/\n") as box:
        maildir_make(box.home / "Maildir")
        trace = box.root / "trace"
        (box.root / "bin" / "qmail-local").unlink()
        (box.root / "bin" / "qmail-local").write_text(
            f"#!/bin/sh\nexec strace -f -y -o {trace} -e trace=openat,fsync,fdatasync,renameat2,linkat,write {QMAIL} local \"$@\"\n")
        (box.root / "bin" / "qmail-local").chmod(0o755)
        box.deliver(b"Subject: x\n\n")
        calls = [line.split(None, 1)[1] for line in trace.read_text().splitlines()]
        at = lambda pattern: next(n for n, call in enumerate(calls) if re.search(pattern, call))
        steps = [at(r'^openat\(.*"tmp/.*O_EXCL'), at(r"^f(data)?sync\(\d+<[^>]*/Maildir/tmp/"), at(r"^(renameat2|linkat)\(.*/Maildir"),
                 at(r"^f(data)?sync\(\d+<[^>]*/Maildir/new>"), at(r'^write\(1<.*"did 1\+0\+0')]
        assert steps == sorted(steps), (steps, calls)


def mutt_reads_both():
    with Mailbox("./Mailbox\n./Maildir/\n") as box:
        maildir_make(box.home / "Maildir")
        for number in range(3):
            box.deliver(b"From: s@client.test\nSubject: number %d\n\nFrom here to there\n" % number)
        for folder in ("Mailbox", "Maildir"):
            out = box.home / f"{folder}.out"
            environment = {"HOME": str(box.home), "TERM": "xterm", "PATH": "/usr/bin:/bin", "LC_ALL": "C"}
            for number in range(1, 4):
                # On a terminal that nobody looks at: one message is piped to a file, then it ends.
                push = f"<jump>{number}<enter><pipe-message>cat >>{out}<enter><exit>"
                command = [program("mutt"), "-n", "-F", "/dev/null", "-R", "-f", str(box.home / folder), "-e",
                           f"set pipe_decode=no wait_key=no quit=yes; push '{push}'"]
                subprocess.run([program("script"), "-qec", " ".join(map(shlex.quote, command)), "/dev/null"], stdin=subprocess.DEVNULL,
                               stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=environment, timeout=60, check=True)
            assert out.read_bytes().count(b"here to there") == 3, out.read_bytes()
            for number in range(3):
                assert b"Subject: number %d\n" % number in out.read_bytes(), out.read_bytes()


DOVECOT = """\
base_dir = {root}/run
log_path = {root}/log
ssl = no
disable_plaintext_auth = no
protocols = imap pop3
mail_location = maildir:{maildir}
default_login_user = nobody
default_internal_user = nobody
default_internal_group = nogroup
passdb {{
  driver = passwd-file
  args = scheme=PLAIN {root}/passwords
}}
userdb {{
  driver = static
  args = uid=nobody gid=nogroup home={root}
}}
first_valid_uid = 1
first_valid_gid = 1
mail_max_userip_connections = 100
service pop3-login {{
  chroot =
  inet_listener pop3 {{
    address = 127.0.0.1
    port = {pop3}
  }}
}}
service imap-login {{
  chroot =
  inet_listener imap {{
    address = 127.0.0.1
    port = {imap}
  }}
}}
service anvil {{
  chroot =
}}
"""


@contextlib.contextmanager
def dovecot(maildir):
    """Its ports for POP3 and IMAP, at this Maildir, for joe with the password `secret`."""
    root = pathlib.Path(tempfile.mkdtemp(prefix="qmail-dovecot."))
    root.chmod(0o755)
    shutil.chown(root, "nobody", "nogroup")
    (root / "passwords").write_text("joe:secret::::::\n")
    pop3, imap = free_port(), free_port()
    (root / "conf").write_text(DOVECOT.format(root=root, maildir=maildir, pop3=pop3, imap=imap))
    try:
        with Peer(program("dovecot"), "-F", "-c", str(root / "conf")):
            wait_port(pop3)
            wait_port(imap)
            yield pop3, imap
            subprocess.run([program("doveadm"), "-c", str(root / "conf"), "stop"], check=False, stderr=subprocess.DEVNULL)
    finally:
        shutil.rmtree(root, ignore_errors=True)


def number_of(text):
    return int(re.search(rb"^Subject: (\d+)", text, re.M).group(1))


def dovecot_serves_while_we_deliver():
    """A reader by POP3 that removes, one by IMAP that only looks, while mail comes in: each message is read once, and whole."""
    count = 600
    with UserWorld("dovecot", "./Maildir/\n", user="nobody") as w:
        w.root.chmod(0o755)
        maildir = w.joe / "Maildir"
        maildir_make(maildir, "nobody:nogroup")
        body = lambda number: b"Subject: %d\r\n\r\n%s\r\n.dot\r\nFrom here\r\n" % (number, b"%d " % number * 50)
        taken, looked, done = [], set(), threading.Event()
        with dovecot(maildir) as (pop3, imap):
            def send(worker):
                with smtplib.SMTP("127.0.0.1", w.smtp, timeout=60) as s:
                    for number in range(worker, count, 4):
                        s.sendmail("sue@client.test", [f"joe@{HOST}"], body(number))

            def take():
                while not (done.is_set() and len(taken) >= count):
                    pop = poplib.POP3("127.0.0.1", pop3, timeout=60)
                    pop.user("joe")
                    pop.pass_("secret")
                    for at in range(1, pop.stat()[0] + 1):
                        taken.append(b"\r\n".join(pop.retr(at)[1]) + b"\r\n")
                        pop.dele(at)
                    pop.quit()

            def look():
                box = imaplib.IMAP4("127.0.0.1", imap)
                box.login("joe", "secret")
                box.select("INBOX", readonly=True)
                while not done.is_set():
                    box.noop()
                    _, found = box.search(None, "ALL")
                    for at in found[0].split()[-5:]:
                        _, parts = box.fetch(at, "(RFC822)")
                        if parts and isinstance(parts[0], tuple):
                            looked.add(number_of(parts[0][1]))
                box.logout()

            readers = [threading.Thread(target=target) for target in (take, look)]
            for reader in readers:
                reader.start()
            try:
                with ThreadPoolExecutor(4) as pool:
                    list(pool.map(send, range(4)))
                wait_for("the last message to be read", lambda: len(taken) >= count, 120)
            finally:
                done.set()
                for reader in readers:
                    reader.join(60)
        assert sorted(map(number_of, taken)) == list(range(count)), len(taken)
        for text in taken:
            assert text.endswith(body(number_of(text))), text[:400]
        assert looked, "the IMAP client saw nothing"
        assert texts(maildir) == []
        w.drained()


TESTS = [filters_are_run_by_qmail_local, filters_are_run_by_qmail_serve, python_reads_an_mbox, python_reads_a_maildir, writers_of_an_mbox_take_turns,
         an_mbox_that_is_locked_is_waited_for, names_are_durable_before_the_delivery_counts, mutt_reads_both, dovecot_serves_while_we_deliver]

if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--qmail", required=True)
    parser.add_argument("--only", default="")
    arguments = parser.parse_args()
    QMAIL = str(pathlib.Path(arguments.qmail).resolve())
    tests = [test for test in TESTS if arguments.only in test.__name__]
    if os.getuid() != 0:
        tests = [test for test in tests if test is not dovecot_serves_while_we_deliver]
    run_tests(tests)
