#!/usr/bin/env python3
"""The Debian package on a scratch copy of this machine, under systemd: installed, mail by each way in, reloads, a watchdog, taken out again.

    deb.py [--qmail BINARY]         builds the package with packaging/deb, of BINARY or of a build of its own
    deb.py --package FILE           takes a package that is built

Needs what scratch.py needs with systemd, and dpkg. Without it says so and passes.
"""
import argparse
import pathlib
import poplib
import re
import shutil
import smtplib
import subprocess
import sys

import scratch
from world import run_tests, wait_for, wait_port

HOME = pathlib.Path("/var/qmail")
REPOSITORY = pathlib.Path(__file__).resolve().parents[2]
PACKAGE = None
CLASSIC_USERS = ["alias", "qmaild", "qmaill", "qmailp", "qmailq", "qmailr", "qmails"]


def run(*command, check=True, **more):
    done = subprocess.run(list(map(str, command)), check=False, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=180, text=True, **more)
    if check and done.returncode:
        raise AssertionError(f"{command} exited with {done.returncode}: {done.stdout[-2000:]}")
    return done.stdout


def unit(name, what):
    return run("systemctl", "show", "--value", "-p", what, name).strip()


def send(recipient, port=25):
    with smtplib.SMTP("127.0.0.1", port, timeout=30) as client:
        client.sendmail("sender@there.test", [recipient], "Subject: by SMTP\r\n\r\nbody\r\n")


def mailbox():
    path = pathlib.Path("/home/joe/Mailbox")
    return path.read_text() if path.exists() else ""


def wait_mail(pattern, count=1):
    wait_for(f"{count} x {pattern}", lambda: len(re.findall(pattern, mailbox(), re.M)) >= count, 60)


def the_package_says_what_it_is():
    fields = run("dpkg-deb", "-f", PACKAGE)
    assert "Provides: mail-transport-agent" in fields, fields
    assert re.search("^Conflicts: .*mail-transport-agent", fields, re.M), fields
    listing = run("dpkg-deb", "-c", PACKAGE)
    for wanted in [r"-rwxr-xr-x \S+/\S+ .* \./usr/bin/qmail$", r"\./usr/sbin/sendmail -> \.\./bin/qmail$", r"\./usr/lib/sendmail -> \.\./bin/qmail$",
                   r"\./usr/bin/newaliases -> qmail$", r"-rw-r--r-- \S+/\S+ .* \./lib/systemd/system/qmail\.service$",
                   r"\./usr/lib/sysusers\.d/qmail\.conf$", r"\./usr/share/man/man1/qmail-serve\.1\.gz$", r"\./usr/share/man/man8/qmail-smtpd\.8\.gz$",
                   r"\./usr/share/doc/qmail-rs/copyright$"]:
        assert re.search(wanted, listing, re.M), f"{wanted} is not in\n{listing}"
    assert not re.search(r"^-rws", listing, re.M), "nothing is setuid"


def it_is_installed_and_runs():
    # Another mail transport agent cannot stay beside it.
    providers = [line.split()[0] for line in run("dpkg-query", "-W", "-f", "${Package} ${Status} ${Provides}\n").splitlines()
                 if "mail-transport-agent" in line and "ok installed" in line]
    if providers:
        refused = run("dpkg", "-i", PACKAGE, check=False)
        assert "conflict" in refused, refused
        run("dpkg", "--purge", "--force-depends", *providers)
    run("useradd", "--create-home", "joe")
    pathlib.Path("/etc/mailname").write_text("here.test\n")
    # Images for containers forbid packages to start anything.
    pathlib.Path("/usr/sbin/policy-rc.d").unlink(missing_ok=True)
    run("dpkg", "-i", PACKAGE)
    for user in CLASSIC_USERS:
        run("id", user)
    assert unit("qmail.service", "ActiveState") == "active", run("journalctl", "-u", "qmail", "--no-pager")
    assert unit("qmail.service", "StatusText").startswith("listening: "), unit("qmail.service", "StatusText")
    assert run("systemctl", "is-enabled", "qmail.service", "qmail-smtp.socket").split() == ["enabled", "enabled"]
    assert run("qmail", "install", "--dry-run", "--link") == ""
    assert (HOME / "bin/qmail").readlink() == pathlib.Path("/usr/bin/qmail")
    assert "error:" not in run("qmail", "doctor", "--offline", check=False)


def mail_goes_in_by_each_way():
    send("joe@here.test")
    wait_mail("^Subject: by SMTP$")
    for program in ("/usr/sbin/sendmail", "/usr/lib/sendmail", HOME / "bin/qmail-inject"):
        run(program, "joe@here.test", input=f"Subject: by {program}\n\nbody\n", user="nobody", group="nogroup", extra_groups=[])
        wait_mail(f"^Subject: by {program}$")
    (pathlib.Path("/home/joe") / ".qmail").write_text("|cat >program-ran; id -un >>program-ran\n./Mailbox\n")
    send("joe@here.test")
    wait_mail("^Subject: by SMTP$", 2)
    ran = pathlib.Path("/home/joe/program-ran").read_text()
    assert "Subject: by SMTP" in ran and ran.endswith("joe\n"), ran
    wait_for("an empty queue", lambda: run("/usr/bin/mailq") == "")


def control_files_are_read_again():
    for file in ("locals", "rcpthosts"):
        (HOME / "control" / file).write_text("here.test\nnew.test\n")
    run("systemctl", "reload", "qmail")

    def taken():
        try:
            send("joe@new.test")
            return True
        except (smtplib.SMTPException, OSError):
            return False
    wait_for("the new domain", taken)
    wait_mail("^Delivered-To: joe@new.test$")
    assert unit("qmail.service", "ActiveState") == "active"


def who_hangs_is_started_again():
    drop_in = pathlib.Path("/etc/systemd/system/qmail.service.d")
    drop_in.mkdir()
    (drop_in / "soon.conf").write_text("[Service]\nWatchdogSec=2\nRestartSec=0\n")
    run("systemctl", "daemon-reload")
    run("systemctl", "restart", "qmail")
    main = int(unit("qmail.service", "MainPID"))
    run("kill", "-STOP", main)
    wait_for("another process", lambda: unit("qmail.service", "ActiveState") == "active" and int(unit("qmail.service", "MainPID")) != main, 60)
    count = len(re.findall("^Subject: by SMTP$", mailbox(), re.M))
    send("joe@here.test")
    wait_mail("^Subject: by SMTP$", count + 1)


def a_socket_waits_for_the_service():
    run("systemctl", "stop", "qmail.service")
    assert unit("qmail-smtp.socket", "ActiveState") == "active"
    # The client does not notice: systemd holds the port, and its connection starts the service.
    count = len(re.findall("^Subject: by SMTP$", mailbox(), re.M))
    send("joe@here.test")
    wait_mail("^Subject: by SMTP$", count + 1)


def pages_and_completions_are_found():
    run("man", "-w", "qmail-start")
    run("man", "-w", "-M", HOME / "man", "tcpserver")
    for shell, path in {"bash": "bash-completion/completions/qmail", "zsh": "zsh/vendor-completions/_qmail", "fish": "fish/vendor_completions.d/qmail.fish"}.items():
        if shutil.which(shell):
            run(shell, "-n", f"/usr/share/{path}")
    run("systemd-analyze", "verify", *sorted(pathlib.Path("/lib/systemd/system").glob("qmail*")))


def one_process_without_root_runs_as_a_service():
    run("systemctl", "stop", "qmail.service", "qmail-smtp.socket")
    run("systemctl", "start", "qmail-serve-smtp.socket", "qmail-serve-pop3.socket")
    run("systemctl", "start", "qmail-serve.service")
    log = run("journalctl", "-u", "qmail-serve", "--no-pager", "-o", "cat")
    user, secret = re.search(r"^user (\S+)  password (\S+)$", log, re.M).groups()
    send(user)
    wait_port(110)
    def fetched():
        client = poplib.POP3("127.0.0.1", 110, timeout=30)
        client.user(user)
        client.pass_(secret)
        count = client.stat()[0]
        client.quit()
        return count
    wait_for("the message", fetched)
    assert unit("qmail-serve.service", "User") != "root"
    run("systemctl", "stop", "qmail-serve.service", "qmail-serve-smtp.socket", "qmail-serve-pop3.socket")
    run("systemctl", "start", "qmail.service")


def it_is_upgraded_in_place():
    run("dpkg", "-i", PACKAGE)
    assert unit("qmail.service", "ActiveState") == "active"
    assert unit("qmail.service", "NRestarts") == "0"
    count = len(re.findall("^Subject: by SMTP$", mailbox(), re.M))
    send("joe@here.test")
    wait_mail("^Subject: by SMTP$", count + 1)


def it_goes_and_leaves_mail_and_settings():
    (HOME / "control" / "concurrencylocal").write_text("0\n")
    run("systemctl", "restart", "qmail")
    send("joe@here.test")
    run("dpkg", "-r", "qmail-rs")
    assert not pathlib.Path("/usr/sbin/sendmail").exists() and not list((HOME / "bin").iterdir())
    assert not run("pgrep", "-x", "qmail", check=False)
    waiting = [path for path in (HOME / "queue/mess").rglob("*") if path.is_file()]
    assert len(waiting) == 1, waiting
    run("dpkg", "--purge", "qmail-rs")
    assert (HOME / "control/me").read_text() == "here.test\n"
    assert waiting[0].exists() and not (HOME / "run").exists()
    # What waits is delivered when it comes back.
    (HOME / "control" / "concurrencylocal").unlink()
    count = len(re.findall("^Subject: by SMTP$", mailbox(), re.M))
    run("dpkg", "-i", PACKAGE)
    wait_mail("^Subject: by SMTP$", count + 1)


def build(arguments):
    """Outside of the scratch machine, which is told of the package by its arguments."""
    package = arguments.package
    if not package:
        binary = [pathlib.Path(arguments.qmail).resolve()] if arguments.qmail else []
        built = subprocess.run([REPOSITORY / "packaging/deb", *binary], check=True, stdout=subprocess.PIPE, text=True).stdout.split()[-1]
        package = REPOSITORY / built
    sys.argv[1:] = ["--package", str(package)]


TESTS = [the_package_says_what_it_is, it_is_installed_and_runs, mail_goes_in_by_each_way, control_files_are_read_again, who_hangs_is_started_again,
         a_socket_waits_for_the_service, pages_and_completions_are_found, one_process_without_root_runs_as_a_service, it_is_upgraded_in_place,
         it_goes_and_leaves_mail_and_settings]

if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--qmail")
    parser.add_argument("--package")
    arguments = parser.parse_args()
    scratch.enter(systemd=True, before=lambda: build(arguments))
    PACKAGE = str(pathlib.Path(arguments.package).resolve())
    run_tests(TESTS)
