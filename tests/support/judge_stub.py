"""A model that judges, behind the stub server, of `duelenv bench oracles --faults`."""

from duelenv.experiments.bench.judge_stub import MODEL, Model, completion, judge_server, longer, texts_of

__all__ = ["MODEL", "Model", "completion", "judge_server", "longer", "texts_of"]
