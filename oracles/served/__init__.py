"""Reward models behind a server: vLLM, SGLang and Text Embeddings Inference, as a utility.

`duelenv.oracles.make("reward_server", ...)` makes one; `parity` compares what it says with a model at hand. Not for
models that run in this process (`duelenv.oracles.reward_model`), nor for judges that write a verdict.
"""

from duelenv.oracles.served.parity import Parity, parity
from duelenv.oracles.served.server import RewardServer, Unscored

__all__ = ["Parity", "RewardServer", "Unscored", "parity"]
