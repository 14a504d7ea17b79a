#!/usr/bin/env python3
"""Real clients come in to `qmail serve` by TLS, with logins, through proxies, by LMTP.

    peers_tls.py --qmail target/release/qmail [--only NAME]

Needs what install-peers installs. The certificates are made anew at each run.
"""
import argparse
import os
import pathlib
import re
import shutil
import smtplib
import ssl
import subprocess
import tempfile

from world import HOST, World, free_port, program, run_tests, wait_for

QMAIL = None
BODY = b"Subject: peers\n\n.dot\n..two\n.\ncaf\xe9\n"


class TlsWorld(World):
    """A world with a certificate, and a listener for each kind of client."""

    def __init__(self, name, control=None, **options):
        self.submission, self.smtps, self.lmtp = free_port(), free_port(), free_port()
        doors = [f"--{door}=127.0.0.1:{getattr(self, door)}" for door in ("submission", "smtps", "lmtp")]
        # Mail for elsewhere stays in the queue, where its text can be looked at.
        held = {"concurrencyremote": "0", **(control or {})}
        super().__init__(QMAIL, name, control=held, options=doors, any_password=False, spool="split", **options)
        self.certificate = self.root / "cert.pem"
        key = self.root / "key.pem"
        run("openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1", "-subj", f"/CN={HOST}", "-addext",
            f"subjectAltName=DNS:{HOST},IP:127.0.0.1", "-keyout", key, "-out", self.certificate)
        both = self.certificate.read_bytes() + key.read_bytes()
        (self.home / "control" / "servercert.pem").write_bytes(both)

    def held_text(self):
        """The text of the one message in the queue."""
        files = lambda: [path for path in (self.home / "queue" / "mess").glob("*/*") if path.is_file()]
        wait_for("a message in the queue", files)
        (path,) = files()
        return path.read_bytes()

    def delivered_text(self):
        self.wait_mails(1)
        return self.files()[0].read_bytes()

    def trust(self):
        return ssl.create_default_context(cafile=str(self.certificate))


def run(name, *arguments, stdin=b"", code=0):
    done = subprocess.run([program(name), *map(str, arguments)], input=stdin, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=60)
    assert code is None or done.returncode == code, f"{name} exited with {done.returncode}\n{done.stdout.decode(errors='replace')[-2000:]}"
    return done.stdout


def crlf(text):
    return text.replace(b"\n", b"\r\n")


def swaks(w, port, *arguments, to=f"alice@{HOST}", code=0):
    return run("swaks", "--server", "127.0.0.1", "--port", port, "--from", "s@client.test", "--to", to, "--ehlo", "client.test", "--timeout",
               "20", *arguments, code=code)


def openssl_makes_every_handshake():
    with TlsWorld("openssl") as w:
        for port, start in ((w.smtp, ("-starttls", "smtp")), (w.smtps, ()), (w.submission, ("-starttls", "smtp"))):
            for version in ("-tls1_2", "-tls1_3"):
                out = run("openssl", "s_client", "-connect", f"127.0.0.1:{port}", *start, version, "-CAfile", w.certificate,
                          "-verify_return_error", "-verify_hostname", HOST, "-crlf", "-ign_eof", stdin=b"EHLO c\nQUIT\n")
                assert b"Verification: OK" in out and b"\n221 " in out, out.decode(errors="replace")
        # What is too old is refused, and the next client is served.
        run("openssl", "s_client", "-connect", f"127.0.0.1:{w.smtps}", "-tls1_1", code=1)
        run("openssl", "s_client", "-connect", f"127.0.0.1:{w.smtps}", "-ign_eof", "-quiet", stdin=b"QUIT\r\n", code=None)


def swaks_sends_encrypted():
    with TlsWorld("swaks-tls") as w:
        out = swaks(w, w.smtp, "--tls", "--pipeline")
        assert b"~> MAIL FROM" in out, out
        assert b"with ESMTPS;" in w.delivered_text()


def swaks_logs_in_and_sends_anywhere():
    with TlsWorld("swaks-auth") as w:
        login = ("--auth-user", "alice", "--auth-password", w.password())
        swaks(w, w.submission, "--tls", "--auth", "PLAIN", *login, to="far@away.test")
        text = w.held_text()
        assert b"(alice@127.0.0.1)" in text and b"with ESMTPSA;" in text, text
        swaks(w, w.smtps, "--tls-on-connect", "--auth", "LOGIN", *login, to="far@away.test")
        # 28: no way to log in; 24: the recipient is refused; 23: the sender is.
        swaks(w, w.submission, "--tls", "--auth", "PLAIN", "--auth-user", "alice", "--auth-password", "wrong", to="far@away.test", code=28)
        swaks(w, w.smtp, "--tls", to="far@away.test", code=24)
        swaks(w, w.submission, "--tls", to=f"alice@{HOST}", code=23)
        w.wait_log(r"^login: failed: alice from 127\.0\.0\.1: name or password refused$")


def swaks_comes_through_a_proxy():
    with TlsWorld("swaks-proxy", control={"proxyclients": "127.0.0.1", "smtprules": "192.0.2.9:deny"}) as w:
        for version in ("1", "2"):
            proxy = ("--proxy-version", version, "--proxy-family", "TCP4" if version == "1" else "AF_INET", "--proxy-source-port", "4000",
                     "--proxy-dest", "198.51.100.1", "--proxy-dest-port", "25")
            if version == "2":
                proxy += ("--proxy-protocol", "STREAM", "--proxy-command", "PROXY")
            swaks(w, w.smtp, "--tls", *proxy, "--proxy-source", "192.0.2.7")
            out = swaks(w, w.smtp, *proxy, "--proxy-source", "192.0.2.9", code=None)
            assert b"220 " not in out, out
        w.wait_mails(2)
        assert all(b"(192.0.2.7)" in path.read_bytes() for path in w.files())


def swaks_speaks_lmtp():
    with TlsWorld("swaks-lmtp") as w:
        swaks(w, w.lmtp, "--protocol", "LMTP", to=f"alice@{HOST},alice@{HOST}")
        w.wait_mails(2)
        assert all(b"with LMTP;" in path.read_bytes() for path in w.files())


def smtplib_logs_in():
    with TlsWorld("smtplib-auth") as w:
        with smtplib.SMTP("127.0.0.1", w.submission, timeout=30) as s:
            s.starttls(context=w.trust())
            try:
                s.login("alice", "wrong")
                raise AssertionError("logged in with a wrong password")
            except smtplib.SMTPAuthenticationError as error:
                assert error.smtp_code == 535, error
            s.login(f"alice@{HOST}", w.password())
            s.sendmail("s@client.test", [f"alice@{HOST}"], crlf(BODY))
        assert w.wait_mails(1) == [BODY]
        with smtplib.SMTP_SSL("127.0.0.1", w.smtps, timeout=30, context=w.trust()) as s:
            s.login("alice", w.password())
            s.sendmail("s@client.test", ["far@away.test"], crlf(BODY))
        assert w.held_text().endswith(BODY)


def smtplib_sends_utf8_addresses():
    with TlsWorld("smtplib-utf8") as w:
        with smtplib.SMTP("127.0.0.1", w.smtp, timeout=30) as s:
            s.sendmail("caf\u00e9@client.test", [f"alice@{HOST}"], crlf(BODY), mail_options=["SMTPUTF8", "BODY=8BITMIME"])
        assert b"with UTF8SMTP;" in w.delivered_text()


def curl_submits():
    with TlsWorld("curl-auth") as w:
        user = f"alice:{w.password()}"
        for url in (f"smtps://{HOST}:{w.smtps}", f"smtp://{HOST}:{w.submission}"):
            run("curl", "-sS", "--ssl-reqd", "--cacert", w.certificate, "--resolve", f"{HOST}:{w.smtps}:127.0.0.1", "--resolve",
                f"{HOST}:{w.submission}:127.0.0.1", "--user", user, "--mail-from", "s@client.test", "--mail-rcpt", f"alice@{HOST}",
                "--crlf", "-T", "-", url, stdin=BODY)
        assert w.wait_mails(2) == [BODY, BODY]


def postfix_probes():
    with TlsWorld("posttls") as w:
        out = run("posttls-finger", "-c", "-t", "10", "-l", "secure", "-F", w.certificate, f"[127.0.0.1]:{w.smtp}", HOST)
        assert b"Verified TLS connection established" in out, out.decode(errors="replace")


def postfix_relays():
    """A Postfix of its own takes messages from its sendmail and hands them over, encrypted and verified."""
    if os.geteuid() != 0:
        print("     postfix_relays needs root: skipped")
        return
    with TlsWorld("postfix") as w, tempfile.TemporaryDirectory(prefix="postfix.") as scratch:
        etc, queue, data = (pathlib.Path(scratch) / name for name in ("etc", "queue", "data"))
        for directory in (etc, queue, data):
            directory.mkdir()
        os.chmod(scratch, 0o755)
        shutil.chown(data, "postfix")
        shutil.copy(w.certificate, etc / "trust.pem")
        (etc / "main.cf").write_text(f"""
compatibility_level = 3.6
queue_directory = {queue}
data_directory = {data}
maillog_file = {data}/log
maillog_file_prefixes = {data}
myhostname = client.test
inet_interfaces = loopback-only
relayhost = [127.0.0.1]:{w.smtp}
smtp_tls_security_level = verify
smtp_tls_CAfile = {etc}/trust.pem
smtp_tls_verify_cert_match = {HOST}
alternate_config_directories =
""")
        services = {"pickup": "unix n - n 60 1 pickup", "cleanup": "unix n - n - 0 cleanup", "qmgr": "unix n - n 300 1 qmgr",
                    "tlsmgr": "unix - - n 1000? 1 tlsmgr", "rewrite": "unix - - n - - trivial-rewrite", "bounce": "unix - - n - 0 bounce",
                    "defer": "unix - - n - 0 bounce", "trace": "unix - - n - 0 bounce", "smtp": "unix - - n - - smtp",
                    "relay": "unix - - n - - smtp", "error": "unix - - n - - error", "retry": "unix - - n - - error",
                    "proxymap": "unix - - n - - proxymap", "anvil": "unix - - n - 1 anvil", "scache": "unix - - n - 1 scache",
                    "postlog": "unix-dgram n - n - 1 postlogd", "local": "unix - n n - - local", "showq": "unix n - n - - showq"}
        (etc / "master.cf").write_text("".join(f"{name} {rest}\n" for name, rest in services.items()))
        run("postfix", "-c", etc, "start")
        try:
            for _ in range(3):
                run("sendmail", "-C", etc, "-f", "s@client.test", f"alice@{HOST}", stdin=BODY)
            w.wait_mails(3)
        except AssertionError:
            print((data / "log").read_text()[-2000:] if (data / "log").exists() else "no log")
            raise
        finally:
            run("postfix", "-c", etc, "stop", code=None)
        assert all(re.search(rb"with ESMTPS;", path.read_bytes()) for path in w.files())


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--qmail", required=True)
    parser.add_argument("--only", default="")
    arguments = parser.parse_args()
    QMAIL = str(pathlib.Path(arguments.qmail).resolve())
    run_tests([test for test in (
        openssl_makes_every_handshake, swaks_sends_encrypted, swaks_logs_in_and_sends_anywhere, swaks_comes_through_a_proxy,
        swaks_speaks_lmtp, smtplib_logs_in, smtplib_sends_utf8_addresses, curl_submits, postfix_probes, postfix_relays,
    ) if arguments.only in test.__name__])
