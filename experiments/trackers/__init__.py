"""Where else the figures of a run go while it is played."""
