"""The systems under test.

Every system gets a scratch directory, listens on 127.0.0.1 only, and keeps all
its processes in one cgroup. The caller runs inside a private mount namespace
(run.py arranges that), so nothing outside the scratch directory is changed.
"""
import glob
import os
import shlex
import shutil
import subprocess
import time

from . import util
from .load import count_dir

USER, UID, DOMAIN, RELAY_DOMAIN = "mtabench", 54321, "bench.test", "relay.test"


def bind(src, dst):
    subprocess.run([util.need("mount"), "--bind", src, dst], check=True)


def setup_user(work):
    """an unprivileged mailbox owner that exists only in our mount namespace"""
    home = os.path.join(work, "home")
    os.makedirs(home, exist_ok=True)
    os.chmod(home, 0o755)
    os.chown(home, UID, UID)
    for db, line in (("passwd", f"{USER}:x:{UID}:{UID}::{home}:/bin/sh\n"),
                     ("group", f"{USER}:x:{UID}:\n")):
        with open(f"/etc/{db}") as f:
            text = f.read()
        if f"\n{USER}:" in text:
            continue
        p = os.path.join(work, db)
        with open(p, "w") as f:
            f.write(text + line)
        bind(p, f"/etc/{db}")
    return home


class System:
    name = "?"

    def __init__(self, work, opts):
        self.opts = opts
        self.root = os.path.join(work, self.name)
        self.home = os.path.join(work, "home")
        self.maildir = os.path.join(self.home, "Maildir")
        self.set = {}                     # per-system overrides, --set name:key=value
        self.procs = []
        self.cg = util.Cgroup(self.name)
        self.trash, self.gone = os.path.join(work, f"trash.{os.getpid()}"), 0
        os.makedirs(self.trash, exist_ok=True)
        self.strace_out = None            # write "strace -f -c" summaries here
        self.sink_port = 0

    # -- life cycle ---------------------------------------------------------
    def fresh(self):
        """empty queue, empty Maildir, new ports"""
        shutil.rmtree(self.root, ignore_errors=True)
        os.makedirs(self.root)
        os.chmod(self.root, 0o755)
        self.fresh_maildir()
        self.port = util.free_port()
        self.pop3_port = util.free_port()
        self.sink_port = util.free_port()
        self.prepare()

    def fresh_maildir(self):
        if os.path.isdir(self.maildir):
            self.gone += 1
            os.rename(self.maildir, f"{self.trash}/Maildir.{self.name}.{self.gone}")
        for d in ("", "/cur", "/new", "/tmp"):
            os.mkdir(self.maildir + d)
            os.chown(self.maildir + d, UID, UID)

    def spawn(self, cmd, log, env=None, trace=False):
        cmd = list(cmd)
        if trace and self.strace_out:
            out = f"{self.strace_out}.{len(self.procs)}"
            cmd = [util.need("strace"), "-f", "-c", "-U", "name,calls", "-o", out] + cmd
        with open(os.path.join(self.root, log), "ab") as f:
            p = subprocess.Popen(cmd, stdin=subprocess.DEVNULL, stdout=f, stderr=f,
                                 env=env, preexec_fn=self.cg.enter, start_new_session=True)
        self.procs.append(p)
        return p

    def stop(self):
        spare = set()
        if self.strace_out:               # end the traced, let strace write its table
            spare = {p.pid for p in self.procs}
        self.cg.kill(spare=spare)
        for p in self.procs:
            p.wait()
        self.procs = []

    def close(self):
        self.stop()
        self.cg.remove()
        shutil.rmtree(self.trash, ignore_errors=True)

    def wipe(self):
        """put the tree aside; it is deleted when the harness ends, because deleting
        thousands of files can slow down file creation in the next run"""
        if os.path.isdir(self.root):
            self.gone += 1
            os.rename(self.root, f"{self.trash}/{self.name}.{self.gone}")

    # -- to be given by each system -----------------------------------------
    def prepare(self):
        raise NotImplementedError

    def start_accept(self):
        """SMTP in, no delivery"""
        raise NotImplementedError

    def start_serve(self, hold_remote=False):
        """SMTP in and delivery; hold_remote: never try remote deliveries"""
        raise NotImplementedError

    def start_pop3(self):
        raise NotImplementedError

    def queued(self):
        """number of messages in the queue"""
        raise NotImplementedError

    def inject_cmds(self, rcpt):
        """dict label -> (argv, needs_envelope_on_fd1)"""
        return {}

    def wait_up(self):
        util.wait_port(self.port, 60, self.procs[0])

    def control(self, d, hold_remote=False):
        """qmail-style control directory"""
        os.makedirs(d, exist_ok=True)
        files = {"me": DOMAIN, "locals": DOMAIN, "rcpthosts": f"{DOMAIN}\n{RELAY_DOMAIN}",
                 "smtproutes": f":127.0.0.1:{self.sink_port}"}
        if hold_remote:
            files["concurrencyremote"] = "0"
        files.update(self.set)
        for k, v in files.items():
            with open(os.path.join(d, k), "w") as f:
                f.write(str(v).replace("\\n", "\n") + "\n")


class Qmail(System):
    """An already installed qmail tree. It is copied to the scratch directory and
    bind-mounted over the path compiled into the binaries (asked of qmail-showctl),
    inside our private mount namespace."""
    name = "qmail"

    def __init__(self, work, opts):
        super().__init__(work, opts)
        if not opts.qmail_home:
            raise SystemExit("bench: system qmail needs --qmail-home (or QMAIL_HOME): "
                             "the path of an installed qmail tree")
        src = os.path.realpath(opts.qmail_home)
        out = subprocess.run([os.path.join(src, "bin/qmail-showctl")],
                             stdout=subprocess.PIPE, cwd="/").stdout.decode(errors="replace")
        self.compiled = out.split("qmail home directory: ", 1)[1].split("\n")[0].rstrip(".")
        # keep the original reachable after the bind mount hides it
        self.pristine = os.path.join(work, "qmail.pristine")
        if not os.path.exists(os.path.join(self.pristine, "bin")):
            subprocess.run(["cp", "-a", src, self.pristine], check=True)
        self.mounted = False

    def prepare(self):
        os.rmdir(self.root)
        if self.mounted:
            subprocess.run([util.need("umount"), self.compiled], check=True)
            self.mounted = False
        subprocess.run(["cp", "-a", self.pristine, self.root], check=True)
        os.makedirs(self.compiled, exist_ok=True)
        bind(self.root, self.compiled)
        self.mounted = True
        self.control(f"{self.root}/control")
        with open(f"{self.root}/stub", "w") as f:
            f.write(f"#!/bin/sh\ncd {shlex.quote(self.home)} && exec \"$@\"\n")
        os.chmod(f"{self.root}/stub", 0o755)

    def wipe(self):
        if self.mounted:
            subprocess.run([util.need("umount"), self.compiled], check=True)
            self.mounted = False
        super().wipe()

    def _bin(self, x):
        return os.path.join(self.compiled, "bin", x)

    def _tcpserver(self, port, log, argv, user=None):
        cmd = [util.need("tcpserver"), "-H", "-R", "-l", DOMAIN, "-c", "2000", "-b", "1024",
               *shlex.split(self.opts.tcpserver_args)]
        if user:
            cmd += ["-u", str(user[0]), "-g", str(user[1])]
        env = {"PATH": f"{self.compiled}/bin:/usr/sbin:/usr/bin:/sbin:/bin"}
        return self.spawn(cmd + ["127.0.0.1", str(port)] + argv, log, env, trace=True)

    def start_accept(self):
        import grp
        import pwd
        u = pwd.getpwnam("qmaild")
        g = [x.gr_gid for x in grp.getgrall() if x.gr_name == "nofiles"] or [u.pw_gid]
        self._tcpserver(self.port, "smtpd.log", [self._bin("qmail-smtpd")], (u.pw_uid, g[0]))
        self.wait_up()

    def start_send(self, hold_remote=False):
        self.control(f"{self.root}/control", hold_remote)
        env = {"PATH": f"{self.compiled}/bin:/usr/sbin:/usr/bin:/sbin:/bin"}
        self.send_log = os.path.join(self.root, "send.log")
        self.spawn([self._bin("qmail-start"), "./Maildir/"], "send.log", env, trace=True)

    def start_serve(self, hold_remote=False):
        self.start_send(hold_remote)
        self.start_accept()

    def start_pop3(self):
        self._tcpserver(self.pop3_port, "pop3.log",
                        [self._bin("qmail-popup"), DOMAIN, f"{self.compiled}/stub",
                         self._bin("qmail-pop3d"), "Maildir"], (UID, UID))   # refuses uid 0
        util.wait_port(self.pop3_port, 20, self.procs[-1])

    def queued(self):
        return sum(count_dir(d) for d in glob.glob(f"{self.root}/queue/mess/*"))

    def inject_cmds(self, rcpt):
        return {"inject": ([self._bin("qmail-inject"), "-f", "sender@client.test", rcpt], False),
                "queue": ([self._bin("qmail-queue")], True)}


MASTER = """\
{port} inet n - n - - smtpd
pickup unix n - n 60 1 pickup
cleanup unix n - n - 0 cleanup
qmgr unix n - n 300 1 qmgr
rewrite unix - - n - - trivial-rewrite
bounce unix - - n - 0 bounce
defer unix - - n - 0 bounce
trace unix - - n - 0 bounce
verify unix - - n - 1 verify
flush unix n - n 1000? 0 flush
proxymap unix - - n - - proxymap
proxywrite unix - - n - 1 proxymap
smtp unix - - n - - smtp
relay unix - - n - - smtp
showq unix n - n - - showq
error unix - - n - - error
retry unix - - n - - error
discard unix - - n - - discard
local unix - n n - - local
virtual unix - n n - - virtual
anvil unix - - n - 1 anvil
scache unix - - n - 1 scache
postlog unix-dgram n - n - 1 postlogd
"""


class Postfix(System):
    """The installed Postfix, with its own config, queue and data directories."""
    name = "postfix"

    def prepare(self):
        import pwd
        self.conf = f"{self.root}/conf"
        self.spool = f"{self.root}/spool"
        for d in (self.conf, self.spool, f"{self.root}/data"):
            os.makedirs(d)
        os.chown(f"{self.root}/data", pwd.getpwnam("postfix").pw_uid, -1)
        self.write_conf({})

    def write_conf(self, extra):
        c = {
            "compatibility_level": "3.6",
            "queue_directory": self.spool,
            "data_directory": f"{self.root}/data",
            "myhostname": DOMAIN, "mydestination": DOMAIN, "mynetworks": "127.0.0.0/8",
            "inet_interfaces": "127.0.0.1", "inet_protocols": "ipv4",
            "relayhost": f"[127.0.0.1]:{self.sink_port}",
            "smtp_host_lookup": "native",
            "smtpd_peername_lookup": "no",         # as tcpserver -H -R
            "smtpd_tls_security_level": "none", "smtp_tls_security_level": "none",
            "alias_maps": "", "alias_database": "", "local_recipient_maps": "",
            "home_mailbox": "Maildir/", "mailbox_size_limit": "0", "biff": "no",
            "message_size_limit": "102400000",
            "in_flow_delay": "0",                  # its default (1s) throttles the input
            "maillog_file": f"{self.root}/maillog", "maillog_file_prefixes": "/",
            "smtpd_relay_restrictions": "permit_mynetworks,reject",
            "smtpd_recipient_limit": "2000",
        }
        c.update(extra)
        c.update(self.set)
        with open(f"{self.conf}/main.cf", "w") as f:
            f.writelines(f"{k} = {v}\n" for k, v in c.items())
        with open(f"{self.conf}/master.cf", "w") as f:
            f.write(MASTER.format(port=f"127.0.0.1:{self.port}"))

    def _go(self):
        self.spawn([util.need("postfix"), "-c", self.conf, "start-fg"], "start.log", trace=True)
        self.wait_up()

    def start_accept(self):
        self.write_conf({"smtpd_client_restrictions": "check_client_access static:HOLD"})
        self._go()

    def start_send(self, hold_remote=False):
        self.start_serve(hold_remote)

    def start_serve(self, hold_remote=False):
        self.write_conf({"defer_transports": "smtp"} if hold_remote else {})
        self._go()

    def start_pop3(self):
        pass

    def stop(self):
        # master must go first, or it restarts its children
        mp = os.path.join(self.spool, "pid/master.pid") if hasattr(self, "spool") else ""
        if os.path.exists(mp):
            with open(mp) as f:
                try:
                    os.kill(int(f.read()), 15)
                    time.sleep(0.1)
                except (ProcessLookupError, ValueError):
                    pass
        super().stop()

    def queued(self):
        n = 0
        for q in ("maildrop", "incoming", "active", "deferred", "hold"):
            for _, _, files in os.walk(f"{self.spool}/{q}"):
                n += len(files)
        return n

    def inject_cmds(self, rcpt):
        return {"inject": ([util.need("sendmail"), "-C", self.conf, "-i",
                            "-f", "sender@client.test", rcpt], False)}


class Dovecot(System):
    """POP3 peer only: plain, static password, default process model."""
    name = "dovecot"

    def prepare(self):
        run = f"{self.root}/run"
        os.makedirs(run)
        with open(f"{self.root}/dovecot.conf", "w") as f:
            f.write(f"""\
base_dir = {run}
state_dir = {run}
protocols = pop3
listen = 127.0.0.1
ssl = no
disable_plaintext_auth = no
log_path = {self.root}/dovecot.log
mail_location = maildir:{self.maildir}
first_valid_uid = 1
service pop3-login {{
  inet_listener pop3 {{
    address = 127.0.0.1
    port = {self.pop3_port}
  }}
  inet_listener pop3s {{
    port = 0
  }}
}}
passdb {{
  driver = static
  args = password=secret
}}
userdb {{
  driver = static
  args = uid={UID} gid={UID} home={self.home}
}}
""" + "".join(f"{k} = {v}\n" for k, v in self.set.items()))

    def start_pop3(self):
        self.spawn([util.need("dovecot"), "-F", "-c", f"{self.root}/dovecot.conf"], "start.log")
        util.wait_port(self.pop3_port, 20, self.procs[-1])


class Ours(System):
    """The project's own program. Command lines come from the environment:

    OURS_INIT_CMD    run once on every fresh home (optional)
    OURS_SMTPD_CMD   SMTP in, queue, NO delivery
    OURS_SERVE_CMD   SMTP in, queue and delivery
    OURS_HOLD_CMD    as SERVE but remote deliveries held (default: SERVE with
                     control/concurrencyremote = 0)
    OURS_POP3_CMD    POP3 server
    OURS_INJECT_CMD  one message on stdin, {rcpt} as argument
    OURS_QUEUE_CMD   message on fd 0, qmail envelope on fd 1
    OURS_QUEUE_GLOB  one match per queued message, relative to {home}
                     (default queue/mess/*/*)
    OURS_COUNT_CMD   instead of the glob: a command that prints the number

    Placeholders: {home} {port} {pop3_port} {sink_port} {maildir} {user}
    {user_home} {domain} {relay_domain} {rcpt}. The harness first writes
    {home}/control/{me,locals,rcpthosts,smtproutes,...} as qmail has them.
    """
    name = "ours"

    def _cmd(self, key, default=None, **kw):
        t = os.environ.get(key, default)
        if not t:
            raise SystemExit(f"bench: system ours needs {key} for this scenario (docs/benchmarks.md names it)")
        d = dict(home=self.root, port=self.port, pop3_port=self.pop3_port,
                 sink_port=self.sink_port, maildir=self.maildir, user=USER,
                 user_home=self.home, domain=DOMAIN, relay_domain=RELAY_DOMAIN, rcpt="", **kw)
        d.update(kw)
        return [w.format(**d) for w in shlex.split(t)]

    def prepare(self):
        self.control(f"{self.root}/control")
        if os.environ.get("OURS_INIT_CMD"):
            subprocess.run(self._cmd("OURS_INIT_CMD"), check=True)

    def start_accept(self):
        self.spawn(self._cmd("OURS_SMTPD_CMD"), "smtpd.log", trace=True)
        self.wait_up()

    def start_send(self, hold_remote=False):
        self.start_serve(hold_remote)

    def start_serve(self, hold_remote=False):
        self.control(f"{self.root}/control", hold_remote)
        key = "OURS_HOLD_CMD" if hold_remote and os.environ.get("OURS_HOLD_CMD") else "OURS_SERVE_CMD"
        self.spawn(self._cmd(key), "serve.log", trace=True)
        self.wait_up()

    def start_pop3(self):
        self.spawn(self._cmd("OURS_POP3_CMD"), "pop3.log")
        util.wait_port(self.pop3_port, 20, self.procs[-1])

    def queued(self):
        if os.environ.get("OURS_COUNT_CMD"):
            return int(subprocess.run(self._cmd("OURS_COUNT_CMD"), check=True, stdout=subprocess.PIPE).stdout)
        return len(glob.glob(os.path.join(self.root, os.environ.get("OURS_QUEUE_GLOB", "queue/mess/*/*"))))

    def inject_cmds(self, rcpt):
        r = {}
        if os.environ.get("OURS_INJECT_CMD"):
            r["inject"] = (self._cmd("OURS_INJECT_CMD", rcpt=rcpt), False)
        if os.environ.get("OURS_QUEUE_CMD"):
            r["queue"] = (self._cmd("OURS_QUEUE_CMD"), True)
        return r


SYSTEMS = {c.name: c for c in (Qmail, Postfix, Dovecot, Ours)}
