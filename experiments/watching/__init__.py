"""`duelenv watch RUN`: a run as it stands, in the terminal, out of its folder alone."""
