"""A source in one file: requests lie in a folder, and another process answers them when it gets round to it.

In the test it is `MailSource(folder)`; in the other process `python mail_source.py FOLDER SEED SHARE` answers a share
of what lies there, in random order, and goes home.
"""

import json
import random
import sys
from pathlib import Path


def win_probability(prompt, first, second):
    """The taste of whoever answers: longer is better."""
    return 0.5 if len(first) == len(second) else 0.8 if len(first) > len(second) else 0.2


class MailSource:
    """Puts each request into a file of its own, named by its id, and reads the answers beside them."""

    def __init__(self, folder):
        self.folder = Path(folder)
        self.asked = 0

    def ask(self, requests):
        for request in requests:
            self.asked += 1
            path = self.folder / f"{request.id}.json"
            known = path.with_suffix(".collected")
            if known.exists():  # asked again by somebody who forgot
                known.rename(path.with_suffix(".answer"))
            elif not path.exists():
                path.write_text(json.dumps([request.prompt, request.first, request.second]))

    def collect(self):
        from duelenv.oracles.sources import Answer

        for path in sorted(self.folder.glob("*.answer")):
            yield Answer(path.stem, **json.loads(path.read_text()))
            path.rename(path.with_suffix(".collected"))


def main(folder, seed, share):
    generator = random.Random(seed)
    waiting = [
        path
        for path in sorted(Path(folder).glob("*.json"))
        if not any(path.with_suffix(suffix).exists() for suffix in (".answer", ".collected"))
    ]
    for path in generator.sample(waiting, round(len(waiting) * share)):
        win = win_probability(*json.loads(path.read_text()))
        temporary = path.with_suffix(".tmp")
        temporary.write_text(json.dumps({"win": win}))
        temporary.rename(path.with_suffix(".answer"))


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), float(sys.argv[3]))
