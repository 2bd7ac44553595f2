"""The figures of a run. No numbers are made here."""
