#!/usr/bin/env python3
"""Killed at random moments, `qmail serve` loses nothing that it answered with 250.

    kill.py --qmail target/release/qmail [--messages 2000] [--sessions 50] [--kills 10] [--spool split] [--seed N]

Sessions send numbered messages and write down which were answered with 250. Meanwhile the process is killed with SIGKILL and
started again. At the end every message answered with 250 must lie in the Maildir, whole; a message that got no answer may.
"""
import argparse
import collections
import random
import re
import smtplib
import sys
import threading
import time

from world import HOST, World


def text(seed, number):
    pick = random.Random(seed * 1_000_003 + number)
    lines = "".join("%016x line %d\n" % (pick.getrandbits(64), n) for n in range(pick.randrange(5, 200)))
    return f"Subject: {number}\n\n{lines}end {number}\n"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--qmail", required=True)
    parser.add_argument("--messages", type=int, default=2000)
    parser.add_argument("--sessions", type=int, default=50)
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--spool", choices=["journal", "split"], default="journal")
    parser.add_argument("--seed", type=int, default=random.randrange(1 << 30))
    options = parser.parse_args()
    print(f"seed {options.seed}", flush=True)
    pick = random.Random(options.seed)
    numbers = iter(range(options.messages))
    lock, accepted, unanswered = threading.Lock(), set(), set()

    w = World(options.qmail, "kill", spool=options.spool)
    w.start()

    def session():
        connection = None
        while True:
            with lock:
                number = next(numbers, None)
            if number is None:
                break
            message = text(options.seed, number)
            while True:
                try:
                    if connection is None:
                        connection = smtplib.SMTP("127.0.0.1", w.smtp, "client.test", timeout=20)
                    connection.sendmail(f"s{number}@client.test", [f"alice@{HOST}"], message)
                    accepted.add(number)
                    break
                except (OSError, smtplib.SMTPException):
                    # No answer, or a refusal: it may have been accepted or not. The same number is sent again.
                    unanswered.add(number)
                    connection = None
                    time.sleep(0.02)

    threads = [threading.Thread(target=session, daemon=True) for _ in range(options.sessions)]
    for thread in threads:
        thread.start()
    kills = 0
    while kills < options.kills and any(thread.is_alive() for thread in threads):
        time.sleep(pick.uniform(0.02, 0.5))
        w.kill()
        kills += 1
        w.start()
    for thread in threads:
        thread.join(180)
    # The rest of the kills, if the senders were faster: while deliveries still run.
    while kills < options.kills:
        time.sleep(pick.uniform(0.0, 0.05))
        w.kill()
        kills += 1
        w.start()
    w.drained(120)

    delivered, damaged = collections.Counter(), []
    for mail in w.mails():
        match = re.match(rb"Subject: (\d+)\n", mail)
        number = int(match[1]) if match else None
        if number is None or mail != text(options.seed, number).encode():
            damaged.append(mail[:200])
        else:
            delivered[number] += 1
    lost = sorted(accepted - set(delivered))
    # A number is sent again after a lost answer, and a delivery cut off before its mark is made again: each kill may double some.
    doubled = sorted(n for n, count in delivered.items() if count > 1 and n not in unanswered)
    print(f"{kills} kills; {len(accepted)} of {options.messages} answered with 250; {sum(delivered.values())} delivered, "
          f"{len(doubled)} of them twice without having been sent twice; {len(lost)} lost, {len(damaged)} damaged")
    w.stop()
    good = not lost and not damaged and len(accepted) == options.messages and kills == options.kills
    if good:
        w.close()
    else:
        print(f"seed {options.seed}: lost {lost[:20]}, damaged {damaged[:3]}; kept {w.root}")
    print(f"{int(good)} passed, {int(not good)} failed")
    sys.exit(0 if good else 1)


if __name__ == "__main__":
    main()
