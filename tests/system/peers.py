#!/usr/bin/env python3
"""`qmail serve` among real peers: who sends to it, who reads from it, whom it sends to.

    peers.py --qmail target/release/qmail [--only NAME]

Needs what install-peers installs.
"""
import argparse
import os
import pathlib
import poplib
import re
import smtplib
import socket
import subprocess
import tempfile
import threading
import time

from world import HOST, Peer, World, free_port, program, run_tests, wait_for, wait_port

QMAIL = None

# Dots at line starts, a dot alone, 8-bit octets, an empty line at the end, trailing blanks, a "From " line.
BODY = b"Subject: peers\n\n.dot\n..two\n.\nFrom here\ncaf\xe9 \xf0\x9f\x90\xb4\ntrailing  \n\n"


def world(name, **options):
    return World(QMAIL, name, **options)


def crlf(text):
    return text.replace(b"\n", b"\r\n")


def send(w, text=BODY, sender="s@client.test", to=f"alice@{HOST}"):
    with smtplib.SMTP("127.0.0.1", w.smtp, timeout=30) as s:
        s.sendmail(sender, [to] if isinstance(to, str) else to, crlf(text))


def smtplib_sends_and_poplib_reads_every_octet():
    with world("smtplib") as w:
        send(w)
        (mail,) = w.wait_mails(1)
        assert mail == BODY, mail
        pop = poplib.POP3("127.0.0.1", w.pop3, timeout=30)
        pop.user("alice")
        pop.pass_("x")
        count, octets = pop.stat()
        assert count == 1 and octets == w.files()[0].stat().st_size, (count, octets)
        lines = pop.retr(1)[1]
        stored = w.files()[0].read_bytes()
        assert b"\n".join(lines) + b"\n" == stored, (lines, stored)
        assert len(pop.uidl()[1]) == 1
        assert pop.top(1, 0)[1][-1] == b""
        pop.dele(1)
        pop.quit()
        assert w.files() == []


def swaks_sends():
    with world("swaks") as w:
        done = subprocess.run([program("swaks"), "--server", "127.0.0.1", "--port", str(w.smtp), "--helo", "client.test", "--from", "s@client.test",
                               "--to", f"alice@{HOST}", "--pipeline", "--data", "Subject: swaks\\n\\nhello\\n.\\n..\\nend\\n"],
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=30)
        assert done.returncode == 0, done.stdout.decode()
        (mail,) = w.wait_mails(1)
        assert mail.startswith(b"Subject: swaks\n\nhello\n.\n..\nend\n"), mail
        refused = subprocess.run([program("swaks"), "--server", "127.0.0.1", "--port", str(w.smtp), "--from", "s@client.test", "--to", "x@elsewhere.example"],
                                 stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=30)
        assert b"<** 553" in refused.stdout, refused.stdout.decode()


def curl_sends_and_fetches():
    with world("curl") as w, tempfile.NamedTemporaryFile() as file:
        file.write(crlf(BODY))
        file.flush()
        subprocess.run([program("curl"), "-sS", f"smtp://127.0.0.1:{w.smtp}/client.test", "--mail-from", "s@client.test", "--mail-rcpt", f"alice@{HOST}",
                        "--upload-file", file.name], check=True, timeout=30)
        (mail,) = w.wait_mails(1)
        assert mail == BODY, mail
        got = subprocess.run([program("curl"), "-sS", f"pop3://127.0.0.1:{w.pop3}/1", "-u", "alice:x"], check=True, timeout=30, stdout=subprocess.PIPE).stdout
        assert got == crlf(w.files()[0].read_bytes()), got


def smtp_source_sends_two_thousand():
    with world("source") as w:
        subprocess.run([program("smtp-source"), "-4", "-s", "50", "-m", "2000", "-l", "2048", "-f", "s@client.test", "-t", f"alice@{HOST}", f"127.0.0.1:{w.smtp}"],
                       check=True, timeout=120)
        mails = w.wait_mails(2000, 60)
        assert all(len(mail) >= 2000 for mail in mails)
        assert len({path.name for path in w.files()}) == 2000


def qmqp_source_sends_five_hundred():
    port = free_port()
    with world("qmqp", control={"relayclients": "127.0.0.1"}, options=["--qmqp", f"127.0.0.1:{port}"]) as w:
        source = [program("qmqp-source"), "-4", "-s", "20", "-m", "500", "-l", "2048", "-f", "s@client.test", "-t", f"alice@{HOST}", f"127.0.0.1:{port}"]
        subprocess.run(source, check=True, timeout=60)
        w.wait_mails(500, 60)
        assert all(b" with QMQP; " in path.read_bytes() for path in w.files())
    port = free_port()
    with world("qmqp-stranger", options=["--qmqp", f"127.0.0.1:{port}"]) as w:
        refused = subprocess.run([*source[:-1], f"127.0.0.1:{port}"], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=60)
        assert refused.returncode != 0 and w.files() == [], refused.stdout.decode()


def fetchmail_reads():
    with world("fetchmail") as w, tempfile.TemporaryDirectory() as home:
        for n in range(3):
            send(w, b"Subject: %d\n\nnumber %d\n" % (n, n))
        w.wait_mails(3)
        rc = pathlib.Path(home, "rc")
        rc.write_text(f"poll 127.0.0.1 service {w.pop3} protocol pop3 username alice password x no sslcertck sslproto '' mda \"cat >>{home}/got\"\n")
        rc.chmod(0o600)
        done = subprocess.run([program("fetchmail"), "-f", str(rc), "--nodetach", "--nosyslog", "--pidfile", f"{home}/pid"], timeout=60, env=dict(os.environ, HOME=home),
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        assert done.returncode == 0, done.stdout.decode()
        got = pathlib.Path(home, "got").read_bytes()
        for n in range(3):
            assert b"number %d" % n in got, got
        assert w.files() == [], "fetchmail removes what it fetched"


def mpop_reads():
    with world("mpop") as w, tempfile.TemporaryDirectory() as home:
        send(w)
        w.wait_mails(1)
        rc = pathlib.Path(home, "rc")
        rc.write_text(f"account a\nhost 127.0.0.1\nport {w.pop3}\nuser alice\npassword x\ntls off\nauth user\nkeep off\ndelivery mbox {home}/got\nuidls_file {home}/uidls\n")
        rc.chmod(0o600)
        done = subprocess.run([program("mpop"), "-C", str(rc), "a"], timeout=60, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        assert done.returncode == 0, done.stdout.decode()
        got = pathlib.Path(home, "got").read_bytes()
        assert b"caf\xe9" in got and b"\n..two\n" in got, got
        assert w.files() == []


def second_instance_receives():
    there = World(QMAIL, "there", host="there.test")
    with there:
        with world("here", control={"smtproutes": f"there.test:127.0.0.1:{there.smtp}"}) as w:
            send(w, to="alice@there.test")
            (mail,) = there.wait_mails(1)
            assert mail == BODY, mail
            w.drained()


def sink_receives_many():
    port = free_port()
    with Peer(program("smtp-sink"), "-4", "-u", "nobody", f"127.0.0.1:{port}", "1024"):
        wait_port(port)
        with world("sink", control={"smtproutes": f":127.0.0.1:{port}"}) as w:
            subprocess.run([program("smtp-source"), "-4", "-s", "20", "-m", "500", "-l", "2048", "-f", "s@client.test", "-t", "x@there.test", f"127.0.0.1:{w.smtp}"],
                           check=True, timeout=60)
            w.drained(60)
            # The log is written by a thread of its own, some time after the queue is empty.
            success = r"^delivery \d+: success: "
            w.wait_log(success, 500)
            assert len(re.findall(success, w.log_text(), re.M)) == 500


def sink_down_then_up():
    """Deferred on the quadratic schedule, kept over a restart, delivered once the sink is back."""
    port = free_port()
    # When a message is due stands in the files of a split queue.
    w = world("down", control={"smtproutes": f":127.0.0.1:{port}"}, spool="split")
    try:
        w.start()
        send(w, to="x@there.test")
        w.wait_log(r"^delivery \d+: deferral: ")
        w.stop()
        (info,) = (w.home / "queue" / "info").glob("*/*")
        (remote,) = (w.home / "queue" / "remote").glob("*/*")
        birth, due = info.stat().st_mtime, remote.stat().st_mtime
        # The attempt was made within a second or two of birth: isqrt(0) or isqrt(1), plus 20, squared.
        assert round(due - birth) in (400, 441), due - birth
        # Two hours pass: the next try is due, and after it the schedule goes on from the age then.
        past = int(time.time()) - 7200
        os.utime(info, (past, past))
        os.utime(remote, (past + 400, past + 400))
        w.start()
        w.wait_log(r"^delivery \d+: deferral: ", 2)
        w.stop()
        due = remote.stat().st_mtime - past
        assert round(due) in ((84 + 20) ** 2, (85 + 20) ** 2), due
        w.start()
        with Peer(program("smtp-sink"), "-4", "-u", "nobody", f"127.0.0.1:{port}", "1024"):
            wait_port(port)
            w.retry_now()
            w.wait_log(r"^delivery \d+: success: ")
            w.drained()
    finally:
        w.close()


def sink_refuses_and_the_sender_is_told():
    port = free_port()
    with Peer(program("smtp-sink"), "-4", "-u", "nobody", "-r", "RCPT", f"127.0.0.1:{port}", "1024"):
        wait_port(port)
        # A soft refusal (-r) defers; a hard one (-f) bounces.
        with world("soft", control={"smtproutes": f":127.0.0.1:{port}"}) as w:
            send(w, sender=f"alice@{HOST}", to="x@refused.test")
            w.wait_log(r"^delivery \d+: deferral: ")
            assert w.files() == []
    port = free_port()
    with Peer(program("smtp-sink"), "-4", "-u", "nobody", "-f", "RCPT", f"127.0.0.1:{port}", "1024"):
        wait_port(port)
        with world("hard", control={"smtproutes": f":127.0.0.1:{port}"}) as w:
            send(w, sender=f"alice@{HOST}", to="x@refused.test")
            (bounce,) = w.wait_mails(1)
            assert b"From: MAILER-DAEMON@" in bounce and b"<x@refused.test>:" in bounce and BODY in bounce, bounce
            assert w.files()[0].read_bytes().startswith(b"Return-Path: <>\n")
            w.drained()


def stalled_peers_disturb_nobody():
    with world("stalled") as w:
        idle = []
        for n in range(200):
            s = socket.create_connection(("127.0.0.1", w.smtp), 10)
            s.sendall([b"EHLO x\r\nMAIL FROM:<a@b>\r\n", b"DATA\r\n", b"EHLO " + b"x" * 5000, b"\0\0\0"][n % 4])
            idle.append(s)
        for s in idle[::2]:
            s.shutdown(socket.SHUT_WR)
        started = time.monotonic()
        for _ in range(20):
            send(w)
        w.wait_mails(20)
        assert time.monotonic() - started < 10
        for s in idle:
            s.close()


def rss_kib(pid):
    return int(re.search(r"VmRSS:\s+(\d+)", pathlib.Path(f"/proc/{pid}/status").read_text())[1])


def fifty_megabytes_stay_out_of_memory():
    with world("large") as w:
        send(w)
        w.wait_mails(1)
        before, peak, done = rss_kib(w.process.pid), [0], threading.Event()

        def watch():
            while not done.is_set():
                peak[0] = max(peak[0], rss_kib(w.process.pid))
                time.sleep(0.005)

        watcher = threading.Thread(target=watch)
        watcher.start()
        text = b"Subject: large\n\n" + (b"x" * 75 + b"\n") * (50 * 1024 * 1024 // 76)
        send(w, text)
        mails = w.wait_mails(2, 60)
        done.set()
        watcher.join()
        assert text in mails
        grown = (peak[0] - before) / 1024
        print(f"     50 MB message: resident memory grew by {grown:.1f} MiB")
        assert grown < 8, f"resident memory grew by {grown:.1f} MiB"


def ten_thousand_recipients():
    with world("many", control={"locals": f"{HOST}\nv.test", "rcpthosts": f"{HOST}\nv.test"}) as w:
        s = socket.create_connection(("127.0.0.1", w.smtp), 30)
        f = s.makefile("rb")

        def reply(code):
            while True:
                line = f.readline()
                assert line.startswith(code), line
                if line[3:4] == b" ":
                    return
        reply(b"220")
        s.sendall(b"EHLO client.test\r\n")
        reply(b"250")
        s.sendall(b"MAIL FROM:<>\r\n")
        reply(b"250")
        for start in range(0, 10000, 500):
            s.sendall(b"".join(b"RCPT TO:<alice@%s>\r\n" % HOST.encode() if n == 0 else b"RCPT TO:<nobody%d@%s>\r\n" % (n, HOST.encode()) for n in range(start, start + 500)))
            for _ in range(500):
                reply(b"250")
        s.sendall(b"DATA\r\n")
        reply(b"354")
        s.sendall(re.sub(rb"(?m)^\.", b"..", crlf(BODY)) + b".\r\n")
        reply(b"250")
        s.sendall(b"QUIT\r\n")
        reply(b"221")
        w.wait_mails(1, 60)
        w.drained(120)
        w.wait_log(r"^delivery \d+: success: ")
        w.wait_log(r"^delivery \d+: failure: ", 9999)


def thousand_idle_connections():
    with world("idle") as w:
        send(w)
        w.wait_mails(1)
        before = rss_kib(w.process.pid)
        idle = []
        for _ in range(1000):
            s = socket.create_connection(("127.0.0.1", w.smtp), 10)
            s.sendall(b"EHLO x\r\n")
            idle.append(s)
        for s in idle:
            data = b""
            while b"\r\n250 " not in data:
                data += s.recv(4096)
        each = (rss_kib(w.process.pid) - before) / 1000
        print(f"     1,000 idle sessions: {each:.1f} KiB each")
        assert each < 16, f"{each:.1f} KiB for an idle session"
        send(w)
        w.wait_mails(2)
        for s in idle:
            s.close()


def a_sync_for_every_message():
    """Under one sequential client at least one fsync or fdatasync for each accepted message."""
    with world("sync", options=["--no-deliver"]) as w, tempfile.NamedTemporaryFile() as out:
        tracer = subprocess.Popen([program("strace"), "-f", "-c", "-U", "name,calls", "-o", out.name, "-p", str(w.process.pid)], stderr=subprocess.DEVNULL)
        time.sleep(1)
        subprocess.run([program("smtp-source"), "-4", "-s", "1", "-m", "50", "-l", "2048", "-f", "s@client.test", "-t", f"alice@{HOST}", f"127.0.0.1:{w.smtp}"], check=True, timeout=60)
        tracer.terminate()
        tracer.wait()
        calls = dict(re.findall(r"^\s*(\w+)\s+(\d+)\s*$", pathlib.Path(out.name).read_text(), re.M))
        synced = int(calls.get("fsync", 0)) + int(calls.get("fdatasync", 0))
        assert synced >= 50, calls
        assert w.queued() == 50


TESTS = [smtplib_sends_and_poplib_reads_every_octet, swaks_sends, curl_sends_and_fetches, smtp_source_sends_two_thousand, qmqp_source_sends_five_hundred, fetchmail_reads, mpop_reads,
         second_instance_receives, sink_receives_many, sink_down_then_up, sink_refuses_and_the_sender_is_told, stalled_peers_disturb_nobody,
         fifty_megabytes_stay_out_of_memory, ten_thousand_recipients, thousand_idle_connections, a_sync_for_every_message]

if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--qmail", required=True)
    parser.add_argument("--only", default="")
    arguments = parser.parse_args()
    QMAIL = arguments.qmail
    run_tests([test for test in TESTS if arguments.only in test.__name__])
