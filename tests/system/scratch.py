"""A scratch copy of this machine: its files under an overlay, accounts, processes and a network of its own, all gone at the end.

    scratch.enter()                 the rest of the script runs in it, as root
    scratch.enter(systemd=True)     the same, with systemd as process 1

Needs Linux, root and overlayfs, and systemd where it is asked for. Where something is missing it says so, and the script passes.
"""
import fcntl
import os
import pathlib
import shutil
import socket
import struct
import subprocess
import sys
import tempfile
import time

INSIDE = "QMAIL_SCRATCH"
SYSTEMD = "/lib/systemd/systemd"
BOOT_SECONDS = 60
ACCOUNTS = {"alias", "qmaild", "qmaill", "qmailp", "qmailq", "qmailr", "qmails", "nofiles", "qmail", "joe"}
TARGET = """[Unit]
Description=Scratch machine
DefaultDependencies=no
AllowIsolate=yes
Wants=systemd-journald.service
"""


def enter(systemd=False, before=None):
    """Returns in the scratch machine alone. Outside of it the process calls `before`, waits, and exits as the script in it does."""
    if os.environ.get(INSIDE):
        return
    lack = missing(systemd)
    if lack:
        print(f"{pathlib.Path(sys.argv[0]).name} needs {lack}: skipped")
        sys.exit(0)
    if before:
        before()
    directory = tempfile.mkdtemp(prefix="qmail-scratch.")
    result, report = os.pipe()
    spaces = ["--mount", "--pid", "--fork", "--kill-child", "--net", "--ipc", "--uts", *(["--cgroup"] if systemd else [])]
    # It runs in another directory there.
    arguments = [str(path.resolve()) if (path := pathlib.Path(word)).exists() else word for word in sys.argv[1:]]
    script = [sys.executable, str(pathlib.Path(sys.argv[0]).resolve()), *arguments]
    # Whatever ends this process ends the machine.
    process = subprocess.Popen(["setpriv", "--pdeathsig", "KILL", "unshare", *spaces, sys.executable, __file__, directory, str(report), "systemd" if systemd else "plain", *script],
                               pass_fds=[report], env={**os.environ, INSIDE: "1"})
    os.close(report)
    with os.fdopen(result) as pipe:
        # Not to the end: unshare(1) has the pipe open, too, and lasts as long as the machine.
        code = pipe.readline()
    process.kill()
    process.wait()
    # Its mounts went with its processes.
    shutil.rmtree(directory, ignore_errors=True)
    sys.exit(int(code or 1))


def missing(systemd):
    if not sys.platform.startswith("linux"):
        return "Linux"
    if os.geteuid() != 0:
        return "root"
    if not shutil.which("unshare") or not shutil.which("setpriv"):
        return "unshare and setpriv"
    if systemd and not os.path.exists(SYSTEMD):
        return "systemd"
    probe = "d=$(mktemp -d) && mount -t tmpfs t $d && mkdir $d/u $d/w $d/r && mount -t overlay o -o lowerdir=/,upperdir=$d/u,workdir=$d/w $d/r"
    if systemd:
        probe += " && mount -t cgroup2 c $d/w"
    probed = subprocess.run(["unshare", "--mount", "--pid", "--fork", "--net", "sh", "-c", f"{probe}; code=$?; umount -R $d; rmdir $d; exit $code"],
                            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=False)
    return "namespaces and overlayfs" if probed.returncode else None


def prepare(directory, systemd, repository):
    """In the new namespaces: mounts everything. Returns the root of the scratch machine."""
    def mount(kind, where, *options):
        subprocess.run(["mount", "-t", kind, kind, *options, str(where)], check=True)
    scratch = pathlib.Path(directory)
    mount("tmpfs", scratch)
    upper, work, root = scratch / "upper", scratch / "work", scratch / "root"
    for path in (upper, work, root):
        path.mkdir()
    mount("overlay", root, "-o", f"lowerdir=/,upperdir={upper},workdir={work}")
    if not pathlib.Path(f"{root}{repository}").exists():
        pathlib.Path(f"{root}{repository}").mkdir(parents=True)
        subprocess.run(["mount", "--rbind", repository, f"{root}{repository}"], check=True)
    subprocess.run(["mount", "--rbind", "/dev", str(root / "dev")], check=True)
    mount("proc", root / "proc")
    mount("tmpfs", root / "run")
    if systemd:
        mount("sysfs", root / "sys")
        mount("cgroup2", root / "sys/fs/cgroup")
        (root / "etc/systemd/system").mkdir(parents=True, exist_ok=True)
        (root / "etc/systemd/system/scratch.target").write_text(TARGET)
    with socket.socket() as any_socket:
        up, set_flags = 1, 0x8914
        fcntl.ioctl(any_socket, set_flags, struct.pack("16sH22x", b"lo", up))
    forget_accounts(root)
    return root


def forget_accounts(root):
    """Takes the users and groups of a mail system out of the scratch machine: tests make their own."""
    for file in ("passwd", "shadow", "group", "gshadow"):
        path = root / "etc" / file
        if path.exists():
            lines = path.read_text().splitlines(keepends=True)
            path.write_text("".join(line for line in lines if line.split(":")[0] not in ACCOUNTS))


def wait_for_systemd():
    for _ in range(BOOT_SECONDS * 10):
        state = subprocess.run(["systemctl", "is-system-running"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, check=False).stdout
        if state.strip() in (b"running", b"degraded"):
            return
        time.sleep(0.1)
    raise SystemExit("systemd does not come up")


def main(directory, report, way, *script):
    """Process 1 of the scratch machine, and what runs the script beside it."""
    report = int(report)
    os.set_inheritable(report, False)
    root = prepare(directory, way == "systemd", str(pathlib.Path(__file__).resolve().parents[2]))
    os.chroot(root)
    os.chdir("/")
    if way == "systemd" and os.fork() != 0:
        null = os.open("/dev/null", os.O_RDWR)
        for standard in range(3):
            os.dup2(null, standard)
        os.execve(SYSTEMD, [SYSTEMD, "--system", "--unit=scratch.target"], {"container": "scratch", "PATH": os.environ["PATH"]})
    code = 1
    try:
        if way == "systemd":
            wait_for_systemd()
        code = subprocess.run(script, check=False).returncode
    finally:
        os.write(report, f"{code}\n".encode())


if __name__ == "__main__":
    main(*sys.argv[1:])
