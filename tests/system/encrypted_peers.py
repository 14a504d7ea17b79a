#!/usr/bin/env python3
"""`qmail serve` among real peers that want TLS, logins or LMTP: who reads from it, whom it sends to.

    encrypted_peers.py --qmail target/release/qmail [--only NAME]

Needs what install-peers installs; Postfix and Dovecot run as root only.
"""
import argparse
import contextlib
import os
import pathlib
import poplib
import re
import shutil
import smtplib
import ssl
import subprocess
import tempfile

from world import HOST, Peer, World, free_port, program, run_tests, wait_for, wait_port

QMAIL = None

BODY = b"Subject: encrypted\n\n.dot\n.\ncaf\xe9\n\n"


@contextlib.contextmanager
def certificate(name="127.0.0.1"):
    """A certificate for a name, by itself, and its key."""
    with tempfile.TemporaryDirectory() as scratch:
        cert, key = f"{scratch}/cert.pem", f"{scratch}/key.pem"
        subprocess.run([program("openssl"), "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2",
                        "-subj", f"/CN={name}", "-addext", f"subjectAltName=DNS:{name},IP:127.0.0.1", "-keyout", key, "-out", cert],
                       check=True, stderr=subprocess.DEVNULL)
        os.chmod(scratch, 0o755)
        yield cert, key


@contextlib.contextmanager
def encrypted_world(name, scram=False, **options):
    """A world with a certificate, a POP3 port over TLS, and the password `secret`."""
    with certificate() as (cert, key):
        w = World(QMAIL, name, **options)
        both = pathlib.Path(cert).read_text() + pathlib.Path(key).read_text()
        (w.home / "control" / "servercert.pem").write_text(both)
        w.pop3s, w.cert = free_port(), cert
        w.options += ["--pop3s", f"127.0.0.1:{w.pop3s}"]
        (w.home / "users").mkdir()
        command = w.command
        w.command = lambda: [word for word in command() if word != "--any-password"]
        set_password = [w.qmail, "passwd", "--home", str(w.home), "set", "alice"] + (["--scram"] if scram else [])
        subprocess.run(set_password, input=b"secret\n", check=True)
        with w:
            yield w


def send(w, text=BODY, to=f"alice@{HOST}"):
    with smtplib.SMTP("127.0.0.1", w.smtp, timeout=30) as s:
        s.sendmail("s@client.test", [to], text.replace(b"\n", b"\r\n"))


def trusting(cert):
    context = ssl.create_default_context(cafile=cert)
    context.check_hostname = False
    return context


def poplib_reads_by_stls_and_over_tls():
    with encrypted_world("poplib") as w:
        send(w)
        w.wait_mails(1)
        pop = poplib.POP3("127.0.0.1", w.pop3, timeout=30)
        assert "STLS" in pop.capa() and "SASL" in pop.capa()
        pop.stls(trusting(w.cert))
        assert "STLS" not in pop.capa()
        pop.user("alice")
        pop.pass_("secret")
        stored = w.files()[0].read_bytes()
        assert b"\n".join(pop.retr(1)[1]) + b"\n" == stored
        pop.quit()
        pop = poplib.POP3_SSL("127.0.0.1", w.pop3s, timeout=30, context=trusting(w.cert))
        pop.user("alice")
        try:
            pop.pass_("wrong")
            raise AssertionError("a wrong password was taken")
        except poplib.error_proto as refused:
            assert b"authorization failed" in refused.args[0], refused
        pop.user("alice")
        pop.pass_("secret")
        pop.dele(1)
        pop.quit()
        assert w.files() == []


def curl_reads_in_every_way():
    with encrypted_world("curl") as w:
        send(w)
        w.wait_mails(1)
        stored = w.files()[0].read_bytes().replace(b"\n", b"\r\n")
        for where, options in [(f"pop3s://127.0.0.1:{w.pop3s}/1", []), (f"pop3://127.0.0.1:{w.pop3}/1", ["--ssl-reqd"]),
                               (f"pop3://127.0.0.1:{w.pop3}/1", ["--ssl-reqd", "--login-options", "AUTH=LOGIN"]),
                               (f"pop3://127.0.0.1:{w.pop3}/1", ["--ssl-reqd", "--login-options", "AUTH=PLAIN", "--sasl-ir"])]:
            got = subprocess.run([program("curl"), "-sS", "--cacert", w.cert, where, "-u", "alice:secret", *options], check=True, timeout=30,
                                 stdout=subprocess.PIPE).stdout
            assert got == stored, (where, options, got)


def fetchmail_reads_by_stls():
    with encrypted_world("fetchmail") as w, tempfile.TemporaryDirectory() as home:
        send(w)
        w.wait_mails(1)
        rc = pathlib.Path(home, "rc")
        rc.write_text(f"poll 127.0.0.1 service {w.pop3} protocol pop3 username alice password secret sslcertfile {w.cert} sslcertck sslproto 'TLS1.2+' "
                      f"mda \"cat >>{home}/got\"\n")
        rc.chmod(0o600)
        done = subprocess.run([program("fetchmail"), "-v", "-f", str(rc), "--nodetach", "--nosyslog", "--pidfile", f"{home}/pid"], timeout=60,
                              env=dict(os.environ, HOME=home), stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        assert done.returncode == 0 and b"upgrade to TLS succeeded" in done.stdout, done.stdout.decode()
        assert b"encrypted" in pathlib.Path(home, "got").read_bytes()
        assert w.files() == []


def mpop_reads_by_scram():
    with encrypted_world("mpop", scram=True, control={"authmechanisms": "SCRAM-SHA-256\nPLAIN"}) as w, tempfile.TemporaryDirectory() as home:
        for auth in ["plain", "scram-sha-256"]:
            send(w)
            wait_for("a message", lambda: w.files())
            rc = pathlib.Path(home, "rc")
            rc.write_text(f"account a\nhost 127.0.0.1\nport {w.pop3}\nuser alice\npassword secret\ntls on\ntls_starttls on\ntls_trust_file {w.cert}\nauth {auth}\n"
                          f"keep off\ndelivery mbox {home}/got\nuidls_file {home}/uidls\n")
            rc.chmod(0o600)
            done = subprocess.run([program("mpop"), "-C", str(rc), "a"], timeout=60, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
            assert done.returncode == 0, (auth, done.stdout.decode())
            assert w.files() == [], auth


DOVECOT = """\
base_dir = {root}/run
log_path = {root}/log
ssl = no
protocols = lmtp
postmaster_address = postmaster@there.test
mail_location = maildir:{root}/mail/%n
default_login_user = nobody
default_internal_user = nobody
default_internal_group = nogroup
auth_username_format = %n
auth_mechanisms = plain login cram-md5 scram-sha-256
passdb {{
  driver = passwd-file
  args = scheme=PLAIN {root}/passwords
}}
userdb {{
  driver = passwd-file
  args = {root}/passwords
  override_fields = uid=nobody gid=nogroup home={root}/mail/%n
}}
first_valid_uid = 1
first_valid_gid = 1
service lmtp {{
  inet_listener lmtp {{
    address = 127.0.0.1
    port = {lmtp}
  }}
}}
service anvil {{
  chroot =
}}
service auth {{
  unix_listener {root}/auth {{
    mode = 0666
  }}
}}
"""


@contextlib.contextmanager
def dovecot():
    """Its LMTP port, and the socket by which Postfix checks passwords: of `joe`, `secret`."""
    root = pathlib.Path(tempfile.mkdtemp(prefix="qmail-dovecot."))
    root.chmod(0o755)
    (root / "mail").mkdir()
    shutil.chown(root / "mail", "nobody", "nogroup")
    (root / "passwords").write_text("joe:secret::::::\n")
    port = free_port()
    (root / "conf").write_text(DOVECOT.format(root=root, lmtp=port))
    try:
        with Peer(program("dovecot"), "-F", "-c", str(root / "conf")):
            wait_port(port)
            wait_for("dovecot's socket", (root / "auth").exists)
            yield root, port
            subprocess.run([program("doveadm"), "-c", str(root / "conf"), "stop"], check=False, stderr=subprocess.DEVNULL)
    finally:
        shutil.rmtree(root, ignore_errors=True)


def dovecot_takes_lmtp():
    with dovecot() as (root, port), World(QMAIL, "lmtp", control={"smtproutes": f"there.test:lmtp://127.0.0.1:{port}"}) as w:
        send(w, to="joe@there.test")
        got = wait_for("a message at dovecot", lambda: list((root / "mail").glob("joe/new/*")))
        assert BODY.rstrip(b"\n") in got[0].read_bytes().replace(b"\r\n", b"\n"), got[0].read_bytes()
        w.drained()
        with smtplib.SMTP("127.0.0.1", w.smtp, timeout=30) as s:
            s.sendmail(f"alice@{HOST}", ["eve@there.test", "joe@there.test"], BODY.replace(b"\n", b"\r\n"))
        (bounce,) = w.wait_mails(1)
        assert b"<eve@there.test>:" in bounce and b"<joe@there.test>:" not in bounce, bounce
        wait_for("the other recipient's message", lambda: len(list((root / "mail").glob("joe/new/*"))) == 2)


MASTER = """\
127.0.0.1:{port} inet n - n - - smtpd
cleanup unix n - n - 0 cleanup
qmgr unix n - n 300 1 qmgr
rewrite unix - - n - - trivial-rewrite
bounce unix - - n - 0 bounce
defer unix - - n - 0 bounce
trace unix - - n - 0 bounce
verify unix - - n - 1 verify
discard unix - - n - - discard
error unix - - n - - error
retry unix - - n - - error
proxymap unix - - n - - proxymap
tlsmgr unix - - n 1000? 1 tlsmgr
anvil unix - - n - 1 anvil
postlog unix-dgram n - n - 1 postlogd
"""


@contextlib.contextmanager
def postfix(**settings):
    """A Postfix that takes mail and throws it away; gives its port, its certificate and its log."""
    import pwd
    root = pathlib.Path(tempfile.mkdtemp(prefix="qmail-postfix."))
    root.chmod(0o755)
    port = free_port()
    with certificate() as (cert, key):
        for name in ("conf", "spool", "data"):
            (root / name).mkdir()
        os.chown(root / "data", pwd.getpwnam("postfix").pw_uid, -1)
        main = {"compatibility_level": "3.6", "queue_directory": root / "spool", "data_directory": root / "data", "myhostname": "there.test",
                "mydestination": "", "mynetworks": "", "inet_interfaces": "127.0.0.1", "inet_protocols": "ipv4", "alias_maps": "", "alias_database": "",
                "maillog_file": root / "log", "maillog_file_prefixes": "/", "relay_domains": "there.test", "relay_transport": "discard:",
                "smtpd_peername_lookup": "no", "smtpd_relay_restrictions": "permit_sasl_authenticated,reject_unauth_destination",
                "default_transport": "discard:", "smtpd_tls_cert_file": cert, "smtpd_tls_key_file": key, "smtpd_tls_security_level": "may",
                "smtpd_tls_loglevel": "1", "smtpd_tls_session_cache_database": ""}
        main.update(settings)
        (root / "conf" / "main.cf").write_text("".join(f"{name} = {value}\n" for name, value in main.items()))
        (root / "conf" / "master.cf").write_text(MASTER.format(port=port))
        try:
            with Peer(program("postfix"), "-c", str(root / "conf"), "start-fg"):
                wait_port(port)
                yield port, cert, lambda: (root / "log").read_text(errors="replace")
                subprocess.run([program("postfix"), "-c", str(root / "conf"), "abort"], check=False, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        finally:
            shutil.rmtree(root, ignore_errors=True)


def postfix_takes_mail_by_starttls():
    for tls in ["", "required"]:
        with postfix() as (port, _, log):
            control = {"smtproutes": f"there.test:127.0.0.1:{port}"}
            if tls:
                control["remotetls"] = tls
            with World(QMAIL, "starttls", control=control) as w:
                send(w, to="x@there.test")
                w.wait_log(r"^delivery \d+: success: ")
                w.drained()
                assert "TLS connection established from" in log(), log()


def a_wrong_certificate_is_told():
    with postfix() as (port, _, log):
        control = {"smtproutes": f"there.test:127.0.0.1:{port}", "remotetls": "verified"}
        with World(QMAIL, "verified", control=control) as w:
            send(w, to="x@there.test")
            w.wait_log(r"^delivery \d+: deferral: .*there_is_no_TLS_that_I_may_use")
            assert "discard" not in log(), log()


def postfix_is_logged_in_at():
    """By each mechanism that Dovecot checks for it; without a login it relays for nobody."""
    with dovecot() as (root, _):
        for mechanism in ["plain", "login", "cram-md5", "scram-sha-256"]:
            settings = {"smtpd_sasl_auth_enable": "yes", "smtpd_sasl_type": "dovecot", "smtpd_sasl_path": root / "auth",
                        "smtpd_sasl_mechanism_filter": mechanism, "smtpd_tls_auth_only": "yes"}
            with postfix(**settings) as (port, _, log):
                control = {"smtproutes": f":127.0.0.1:{port} joe secret", "remotetls": "required"}
                with World(QMAIL, "login", control=control) as w:
                    send(w, to="x@refused.test")
                    w.wait_log(r"^delivery \d+: success: ")
                    found = re.search(r"sasl_method=(\S+), sasl_username=joe", log())
                    assert found and found[1].lower() == mechanism, (mechanism, log())
        with postfix(**settings) as (port, _, log):
            control = {"smtproutes": f":127.0.0.1:{port} joe wrong", "remotetls": "required"}
            with World(QMAIL, "wrong", control=control) as w:
                send(w, to="x@refused.test")
                w.wait_log(r"^delivery \d+: deferral: ")


TESTS = [poplib_reads_by_stls_and_over_tls, curl_reads_in_every_way, fetchmail_reads_by_stls, mpop_reads_by_scram, dovecot_takes_lmtp,
         postfix_takes_mail_by_starttls, a_wrong_certificate_is_told, postfix_is_logged_in_at]

if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--qmail", required=True)
    parser.add_argument("--only", default="")
    arguments = parser.parse_args()
    QMAIL = arguments.qmail
    run_tests([test for test in TESTS if arguments.only in test.__name__])
