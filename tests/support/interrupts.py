"""Ctrl-C at a chosen round of a run."""

from duelenv.experiments import play


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
