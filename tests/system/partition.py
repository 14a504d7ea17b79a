#!/usr/bin/env python3
"""`qmail start` as root: installed into a scratch home, mail on every way, parties killed, a classic queue taken over and given back.

    partition.py --qmail target/release/qmail

Makes the classic users and groups if there are none (`qmail install` does). Needs Linux and root; without root it says so and passes.
"""
import argparse
import contextlib
import grp
import json
import os
import pathlib
import poplib
import pwd
import re
import shutil
import signal
import smtplib
import socket as socket_module
import ssl
import subprocess
import tempfile
import time

from world import World, free_port, program, run_tests, wait_for, wait_port

PARTIES = {"network": "qmaild", "keys": "qmailp", "passwords": "qmailp", "writer": "qmailq", "manager": "qmails", "opener": "qmailq",
           "remote": "qmailr", "launcher": "root", "lookup": "qmailp", "log": "qmaill"}
QMAIL = None
NOBODY = 65534
# Of the password file, without accounts of the system.
USERS = {"ann": 7001, "bob": 7002}


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
        users = "".join(f"={name}:{name}:{uid}:{uid}:{self.home}/{name}:::\n" for name, uid in USERS.items())
        (self.home / "users" / "assign").write_text(f"{users}+:alias:{alias.pw_uid}:{alias.pw_gid}:{self.home}/alias:-::\n.\n")
        for name, uid in USERS.items():
            for part in (name, f"{name}/Maildir", *(f"{name}/Maildir/{part}" for part in ("cur", "new", "tmp"))):
                (self.home / part).mkdir(mode=0o700)
                os.chown(self.home / part, uid, uid)
            (self.home / name / ".qmail").write_text("./Maildir/\n")
            subprocess.run([QMAIL, "passwd", "--home", self.home, "set", name], input=f"secret of {name}\n".encode(), check=True)
        self.run("qmail-newu", env=self.environment())
        (self.home / "alias" / ".qmail-joe").write_text("./joebox\n")
        self.port, self.process = free_port(), None
        self.submission, self.smtps, self.pop3, self.pop3s = (free_port() for _ in range(4))

    def run(self, *arguments, **more):
        return subprocess.run([QMAIL, *map(str, arguments)], check=True, stdout=subprocess.PIPE, timeout=60, **more).stdout.decode()

    def environment(self):
        return dict(os.environ, QMAIL_HOME=str(self.home), PATH=f"{self.home}/bin:{os.environ['PATH']}")

    def start(self):
        self.output = open(self.home / "supervisor", "ab")
        ports = [("smtp", self.port), ("submission", self.submission), ("pop3", self.pop3)]
        if (self.home / "control" / "servercert.pem").exists():
            ports += [("smtps", self.smtps), ("pop3s", self.pop3s)]
        ports = [word for name, port in ports for word in (f"--{name}", f"127.0.0.1:{port}")]
        self.process = subprocess.Popen([QMAIL, "start", "--home", self.home, *ports, "./Mailbox"],
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
                if match and match[3] not in ("agent", "maildrop") and f"QMAIL_HOME={self.home}".encode() in pathlib.Path(f"/proc/{match[1]}/environ").read_bytes():
                    found[match[3]] = (int(match[1]), match[2])
        return found

    def certify(self):
        """A certificate, and a key that nobody but root may read."""
        control = self.home / "control"
        subprocess.run([program("openssl"), "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2",
                        "-subj", "/CN=localhost", "-keyout", control / "serverkey.pem", "-out", control / "servercert.pem"],
                       check=True, stderr=subprocess.DEVNULL)
        (control / "serverkey.pem").chmod(0o600)
        (control / "servercert.pem").chmod(0o600)

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
    # It was delivered without being routed, and its files are there for the next one.
    wait_for("the files to be spare", lambda: list((system.home / "queue" / "pid").glob("spare.*")))
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


def unverified():
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return context


@partitioned
def logins_and_tls_work_without_key_or_passwords_in_the_network_party(system):
    system.certify()
    system.start()
    for port, encrypted in ((system.submission, False), (system.smtps, True)):
        kind = smtplib.SMTP_SSL if encrypted else smtplib.SMTP
        with kind("localhost", port, timeout=30, **({"context": unverified()} if encrypted else {})) as client:
            if not encrypted:
                client.starttls(context=unverified())
            try:
                client.login("ann", "wrong")
                raise AssertionError("let in")
            except smtplib.SMTPAuthenticationError:
                pass
        with kind("localhost", port, timeout=30, **({"context": unverified()} if encrypted else {})) as client:
            if not encrypted:
                client.starttls(context=unverified())
            client.login("ann", "secret of ann")
            assert client.sendmail("ann@here.test", ["x@elsewhere.test", "joe@here.test"], "Subject: x\r\n\r\nlogged in\r\n") == {}
    system.wait_mailbox("^logged in$", 2)
    # A password that is changed counts at once, and a new one is still for the party alone.
    subprocess.run([QMAIL, "passwd", "--home", system.home, "set", "ann"], input=b"another\n", check=True)
    with smtplib.SMTP_SSL("localhost", system.smtps, timeout=30, context=unverified()) as client:
        client.login("ann", "another")
    # What the network party has open, by the kernel's word.
    pid = system.parties()["network"][0]
    opened = {os.readlink(path) for path in pathlib.Path(f"/proc/{pid}/fd").iterdir()}
    assert not any(str(system.home) in path for path in opened - {f"{system.home}/supervisor"}), opened
    system.stop()


@partitioned
def mail_is_read_as_its_owner(system):
    system.certify()
    system.start()
    for name in USERS:
        for number in range(3):
            system.send(f"{name}@here.test", text=f"Subject: {number}\r\n\r\nfor {name}, {number}\r\n" + "x" * 70 + "\r\n" * 2)
        wait_for("three mails", lambda: len(list((system.home / name / "Maildir" / "new").iterdir())) == 3)
    for kind, port, more in ((poplib.POP3, system.pop3, {}), (poplib.POP3_SSL, system.pop3s, {"context": unverified()})):
        client = kind("localhost", port, timeout=30, **more)
        client.user("ann")
        client.pass_("secret of ann")
        count, octets = client.stat()
        assert len(client.uidl()[1]) == count and octets > 0
        text = b"\n".join(client.retr(1)[1])
        assert b"for ann, " in text and b"for bob" not in text
        # The process that shows it is hers.
        shows = [line.split() for line in subprocess.run(["ps", "-eo", "uid,args"], stdout=subprocess.PIPE, check=True).stdout.decode().splitlines()
                 if f"party maildrop {system.home}/ann/Maildir" in line]
        assert [line[0] for line in shows] == [str(USERS["ann"])], shows
        client.dele(1)
        client.quit()
    wait_for("two to go", lambda: len([path for path in (system.home / "ann" / "Maildir").rglob("*") if path.is_file()]) == 1)
    client = poplib.POP3("localhost", system.pop3, timeout=30)
    client.user("bob")
    try:
        client.pass_("secret of ann")
        raise AssertionError("let in")
    except poplib.error_proto:
        client.close()
    system.stop()


# Run as the user of a party: what a connection to a socket answers, or the word for an error.
ASK = """
import socket, sys
path, *messages = sys.argv[1:]
for message in messages:
    s = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    s.settimeout(10)
    try:
        s.connect(path)
        sent = eval(message)
        if sent: s.send(sent)
        else: s.shutdown(socket.SHUT_WR)
        print(s.recv(100))
    except OSError as error:
        print(type(error).__name__)
"""


@partitioned
def hostile_messages_are_refused_and_told_and_the_party_lives_on(system):
    system.certify()
    system.start()
    wait_for("all parties", lambda: set(system.parties()) == set(PARTIES))
    before = system.parties()

    def ask(socket, user, *messages):
        return subprocess.run(["python3", "-c", ASK, system.home / "run" / socket, *messages], stdout=subprocess.PIPE, check=True, timeout=60,
                              user=user, group="nofiles", extra_groups=[]).stdout.decode().split()

    # Nobody else gets to them.
    for socket in ("keys", "passwords", "maildrops", "queue", "keeper"):
        for user in ("qmaild", "qmailr", "qmaill", "alias", "nobody"):
            if (socket, user) not in (("keys", "qmaild"), ("passwords", "qmaild")):
                assert ask(socket, user, "b'c'") == ["PermissionError"], (socket, user)
    hostile = ["b'z'", "b'x' * 60000", "b'c' * 2", "b's' + b'x' * 400", "b'p' + b'a' * 900", "b'p\\0\\0\\0\\0'", "b'm' + b'a\\0b'", "b''"]
    for socket in ("keys", "passwords"):
        for answer in ask(socket, "qmaild", *hostile):
            assert answer in ("b'x'", "b''", "ConnectionResetError"), (socket, answer)
        time.sleep(1.1)
    # The passwords party may ask the launcher, and gets nowhere with anything but a name and a descriptor.
    for answer in ask("maildrops", "qmailp", *hostile, "b'ann'", "b'root'", "b'../ann'"):
        assert answer in ("b''", "ConnectionResetError"), answer
    assert ask("passwords", "qmaild", "b'pann\\0secret of ann'", "b'pann\\0wrong'") == ["b'yann'", "b'n'"]
    # Of the manager's side: everybody may connect to run/submit, and breaks off where it likes.
    for sent in (b"", b"\0\0", b"\0\0\0\5ab", b"\xff" * 100, b"QUOT" + bytes(16) + bytes(4) + b"Fa@b\0Tjoe@here.test\0\0"):
        with socket_module.socket(socket_module.AF_UNIX, socket_module.SOCK_STREAM) as client:
            client.connect(str(system.home / "run" / "submit"))
            client.sendall(sent)
            client.shutdown(socket_module.SHUT_WR)
            assert client.recv(5)[:1] not in (b"\0",), sent
    assert system.parties() == before
    log = wait_for("the log", lambda: all(f"{party}: refused a message" in system.log() for party in ("keys", "passwords", "launcher")) and system.log())
    assert log.count("refused a message") < 12, "a flood of them"
    system.send("joe@here.test")
    system.wait_mailbox("invoked from network")
    system.stop()


@partitioned
def orders_reach_the_manager(system):
    (system.home / "control" / "concurrencylocal").write_text("0\n")
    system.start()
    system.send("joe@here.test", text="Subject: held\r\n\r\nbody\r\n")
    wait_for("it to be routed", lambda: [path for path in (system.home / "queue" / "local").rglob("*") if path.is_file()])
    listed = wait_for("it to be listed", lambda: system.run("queue", "list", "--json", "--home", system.home).splitlines())
    number = str(json.loads(listed[0])["message"])

    def held():
        # It may be on its way into the schedule yet.
        return subprocess.run([QMAIL, "queue", "hold", "--home", system.home, number], stdout=subprocess.DEVNULL, timeout=60).returncode == 0
    wait_for("the message to be held", held)
    assert system.run("queue", "count", "--home", system.home) == "1\n"
    system.run("queue", "delete", "--home", system.home, number)
    system.drained()
    wait_for("the order in the log", lambda: re.search(rf"order msg {number}: deleted", system.log()))
    system.stop()


@partitioned
def recipients_of_one_host_share_a_transaction(system):
    (system.home / "control" / "rcpthosts").write_text("here.test\nthere.test\n")
    system.start()
    recipients = [f"user{number}@there.test" for number in range(10)]
    system.send(*recipients, text="Subject: x\r\n\r\nto ten\r\n")
    system.drained()
    taken = r"^info msg \d+: bytes \d+ from <me@there.test>"
    system.sink.wait_log(taken)
    assert len(re.findall(taken, system.sink.log_text(), re.M)) == 1
    system.stop()


@partitioned
def accounts_are_called_as_the_control_file_says(system):
    users = {"qmaild": "qmpnet", "keys": "qmpkeys"}
    try:
        for name in users.values():
            subprocess.run(["useradd", "--system", "--no-create-home", "--user-group", name], check=True)
        (system.home / "control" / "accounts").write_text("".join(f"{role}={name}\n" for role, name in users.items()))
        system.start()
        wait_for("all parties", lambda: set(system.parties()) == set(PARTIES))
        assert {name: user for name, (_, user) in system.parties().items()} == {**PARTIES, "network": "qmpnet", "keys": "qmpkeys"}
        system.send("joe@here.test")
        system.wait_mailbox("invoked from network")
        system.stop()
    finally:
        if system.process:
            system.process.terminate()
            system.process.wait(60)
            system.process = None
        for name in users.values():
            subprocess.run(["userdel", name], check=False)


@partitioned
def control_files_are_read_again(system):
    system.start()
    (system.home / "control" / "rcpthosts").write_text("here.test\nnew.test\n")
    (system.home / "control" / "locals").write_text("here.test\nnew.test\n")
    system.process.send_signal(signal.SIGHUP)

    # Each party reads for itself: until the manager has, what the network takes for the new domain goes elsewhere.
    def arrives():
        try:
            system.send("joe@new.test")
        except (smtplib.SMTPException, OSError):
            return False
        time.sleep(1)
        return "Delivered-To: joe@new.test" in system.mailbox()
    wait_for("mail for the new domain", arrives)
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
    for file, text, told in (("databytes", "lots", "decimal digits"), ("servercert.pem", "none", "put the chain of certificates there"),
                             ("accounts", "qmaild", "write what a classic account is called")):
        (system.home / "control" / file).write_text(text + "\n")
        ended = subprocess.run([QMAIL, "start", "--home", system.home, "--smtp", f"127.0.0.1:{system.port}"], stderr=subprocess.PIPE,
                               stdout=subprocess.PIPE, timeout=60)
        assert ended.returncode == 111, (file, ended)
        lines = [line for line in ended.stderr.decode().splitlines() if file in line]
        assert len(lines) == 1 and told in lines[0], ended.stderr
        assert not system.parties()
        (system.home / "control" / file).unlink()


def accounts():
    """The classic users and groups that there are."""
    users = {"alias", "qmaild", "qmaill", "qmailp", "qmailq", "qmailr", "qmails"} & {user.pw_name for user in pwd.getpwall()}
    return users, {"nofiles", "qmail"} & {group.gr_name for group in grp.getgrall()}


TESTS = [every_party_is_its_own_user_and_mail_goes_every_way, logins_and_tls_work_without_key_or_passwords_in_the_network_party,
         mail_is_read_as_its_owner, hostile_messages_are_refused_and_told_and_the_party_lives_on, orders_reach_the_manager, recipients_of_one_host_share_a_transaction,
         accounts_are_called_as_the_control_file_says, control_files_are_read_again,
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
