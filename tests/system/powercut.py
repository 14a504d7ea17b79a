#!/usr/bin/env python3
"""The power is cut under a spool at work, for real: nothing that it promised is lost.

    powercut.py --load target/release/spool-load [--cuts 500] [--seed N] [--spool journal] [--spool split] [--image DIR]

An ext4 image is mounted and a spool on it put under load. After some milliseconds the file system is shut down by ioctl without
flushing anything: what ext4 had not sent to the device by then never gets there. The load ends, the image is mounted again, and
the spool is asked what it holds:

  accepted and not removed            the message is there, text and envelope whole
  routed, noted, marked               that is known, too
  removed                             the message is gone for good

A step that got no yes may be done or not. The spool lives on over all cuts. Needs root, Linux, loop devices and mkfs.ext4; where
one is missing this says so and ends with 0, as nothing can be tested.
"""
import argparse
import contextlib
import fcntl
import os
import pathlib
import random
import shutil
import signal
import struct
import subprocess
import sys
import tempfile
import threading
import time

SHUTDOWN = 0x8004587D  # EXT4_IOC_SHUTDOWN
WITHOUT_FLUSH = 2  # EXT4_GOING_FLAGS_NOLOGFLUSH
IMAGE_OCTETS = 256 << 20
STEPS = {"a": "accepted", "r": "routed", "n": "noted", "m": "marked", "!": "removing", "d": "removed", "?": "writing"}


class Impossible(Exception):
    """This machine cannot cut the power."""


def run(*command):
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    if done.returncode:
        raise OSError(f"{' '.join(map(str, command))}: {done.stdout.strip()}")
    return done.stdout


class Machine:
    """An image that is mounted, and whose power can be cut."""

    def __init__(self, directory):
        self.root = pathlib.Path(tempfile.mkdtemp(prefix="qmail-powercut.", dir=directory))
        self.image, self.mounted = self.root / "image", self.root / "disk"
        self.mounted.mkdir()
        with open(self.image, "wb") as image:
            image.truncate(IMAGE_OCTETS)
        self.is_on = False

    def prepare(self):
        """The first mount and the first cut tell whether this machine can do it at all."""
        if os.geteuid() != 0:
            raise Impossible("it needs root to mount an image")
        if not shutil.which("mkfs.ext4", path=os.environ.get("PATH", "") + ":/usr/sbin:/sbin"):
            raise Impossible("mkfs.ext4 is missing (package e2fsprogs)")
        try:
            run("mkfs.ext4", "-q", "-F", self.image)
            self.switch_on()
            self.cut()
            self.switch_off()
            self.switch_on()
        except OSError as error:
            raise Impossible(str(error)) from error

    def switch_on(self):
        run("mount", "-o", "loop", self.image, self.mounted)
        self.is_on = True

    def cut(self):
        descriptor = os.open(self.mounted, os.O_RDONLY)
        try:
            fcntl.ioctl(descriptor, SHUTDOWN, struct.pack("I", WITHOUT_FLUSH))
        finally:
            os.close(descriptor)

    def switch_off(self):
        # Somebody who looks at all mounts (a disk monitor) may hold it for a moment.
        for attempt in range(50):
            try:
                run("umount", self.mounted)
                break
            except OSError:
                if attempt == 49:
                    raise
                time.sleep(0.1)
        self.is_on = False

    def close(self):
        with contextlib.suppress(OSError):
            if self.is_on:
                self.switch_off()
        shutil.rmtree(self.root, ignore_errors=True)


class Promises:
    """What is known of each message: the steps that got a yes, and those that were begun."""

    def __init__(self):
        self.messages = {}
        self.next = 1
        self.answers = 0

    def hear(self, line):
        letter, number = line.split()
        number = int(number)
        self.next = max(self.next, number + 1)
        self.messages.setdefault(number, set()).add(STEPS[letter])
        self.answers += letter in "arnmd"

    def hold_against(self, lines):
        """Faults of what the spool says it holds. Then that is what is known."""
        faults, seen = [], {}
        for line in lines:
            words = line.split()
            if words[0] == "bad":
                faults.append(line)
            elif int(words[0]) in seen:
                faults.append(f"{words[0]} is there twice")
            else:
                seen[int(words[0])] = set(words[1:])
        for number, steps in self.messages.items():
            state = seen.get(number)
            if state is None:
                if "accepted" in steps and "removing" not in steps:
                    faults.append(f"{number} is lost: {sorted(steps)}")
                continue
            if "removed" in steps:
                faults.append(f"{number} is back: {sorted(steps)}")
            for step in steps & {"routed", "noted", "marked"}:
                if step not in state:
                    faults.append(f"{number} is {sorted(state)} only: {sorted(steps)}")
        for number in seen.keys() - self.messages.keys():
            faults.append(f"{number} came from nowhere")
        # What was begun and is seen now is done, and must stay so.
        self.messages = {number: (state - {"incoming"}) | {"accepted"} for number, state in seen.items()}
        return faults


def one_cut(machine, promises, load, spool, delay):
    """Load, cut, look: the faults."""
    directory = machine.mounted / spool
    process = subprocess.Popen([load, "run", spool, directory, str(promises.next)],
                               stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    lines = []
    reader = threading.Thread(target=lambda: lines.extend(process.stdout))
    reader.start()
    time.sleep(delay)
    if process.poll() is not None:
        reader.join()
        return [f"the load ended by itself with {process.returncode}: {process.stderr.read()}"]
    # Without power no program goes on, and ext4 tells some of those that do that a sync has worked after all. So it stops first:
    # what it said before that, it said with power.
    process.send_signal(signal.SIGSTOP)
    machine.cut()
    process.kill()
    process.wait()
    reader.join()
    trouble = process.stderr.read()
    if "panicked" in trouble:
        return [f"the load failed: {trouble}"]
    for line in lines:
        if line.endswith("\n"):
            promises.hear(line)
    machine.switch_off()
    machine.switch_on()
    check = subprocess.run([load, "check", spool, directory], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    if check.returncode:
        return [f"it cannot be opened: {check.stderr.strip()}"]
    return promises.hold_against(check.stdout.splitlines())


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--load", required=True, help="the program spool-load")
    parser.add_argument("--cuts", type=int, default=500, help="in all, shared by the spools")
    parser.add_argument("--seed", type=int, default=random.randrange(1 << 30))
    parser.add_argument("--spool", action="append", choices=["journal", "split"])
    parser.add_argument("--seconds", type=float, default=450, help="no cut is begun after these")
    parser.add_argument("--image", default="/dev/shm" if os.path.isdir("/dev/shm") else None, help="where the image is made")
    options = parser.parse_args()
    spools = options.spool or ["journal", "split"]
    load = str(pathlib.Path(options.load).resolve())
    print(f"seed {options.seed}", flush=True)
    pick, failed, start, made = random.Random(options.seed), False, time.monotonic(), 0
    for number, spool in enumerate(spools):
        cuts = options.cuts // len(spools) + (number < options.cuts % len(spools))
        until = start + options.seconds * (number + 1) / len(spools)
        machine, promises, done = Machine(options.image), Promises(), 0
        try:
            machine.prepare()
            while done < cuts and not failed and time.monotonic() < until:
                faults = one_cut(machine, promises, load, spool, pick.choice([0.01, 0.03, 0.1]) * pick.uniform(0.3, 2))
                done += 1
                if faults:
                    failed = True
                    print(f"{spool}, cut {done}: {len(faults)} faults: {faults[:5]}")
            made += done
            print(f"{spool}: {done} of {cuts} cuts, {promises.answers} promises, {len(promises.messages)} messages at the end, "
                  f"{time.monotonic() - start:.0f} s", flush=True)
        except Impossible as reason:
            print(f"skipped: this machine cannot cut the power: {reason}")
            return 0
        finally:
            machine.close()
    print(f"{made} cuts" + ("" if made == options.cuts else f" of {options.cuts}: the time was up" if not failed else ""))
    return 1 if failed or made == 0 else 0


if __name__ == "__main__":
    sys.exit(main())
