"""The server on loopback that behaves as a script says, of `duelenv bench oracles --faults`."""

from duelenv.experiments.bench.rude_server import GOOD, Behaviour, RudeServer, Seen, rude_server

__all__ = ["GOOD", "Behaviour", "RudeServer", "Seen", "rude_server"]
