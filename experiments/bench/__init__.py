"""Speed and memory, measured: `duelenv bench`."""
