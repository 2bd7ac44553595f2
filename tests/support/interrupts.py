"""Ctrl-C at a chosen round of a run, and processes that take it."""

import signal

from duelenv.experiments.running import play


def stop_after(monkeypatch, rounds):
    """Ctrl-C after so many rounds, counted over all cells of this process."""
    count = 0
    original = play._Run._round

    def counted(self):
        nonlocal count
        if count == rounds:
            raise KeyboardInterrupt
        count += 1
        original(self)

    monkeypatch.setattr(play._Run, "_round", counted)


def take_signals():
    """What is ignored stays so, and some who start a suite ignore them: nohup, a shell in the background."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)
