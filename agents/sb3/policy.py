"""An actor and a critic that treat candidates alike: permuting them permutes the logits; for PPO and A2C.

A flattened observation makes each slot an input of its own, and what is learned of a candidate in one slot is unknown
in the others. Here one network scores every candidate, given its own features and a mean over all of them, as in deep
sets (Zaheer et al. 2017, arXiv 1703.06114, equation 4).
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from stable_baselines3.common.policies import ActorCriticPolicy
from stable_baselines3.common.type_aliases import Schedule
from torch import Tensor, nn

from duelenv.ground.errors import UserError


class _CandidateNetwork(nn.Module):
    """Logits of the candidates, and what the critic's last layer reads.

    Args:
        shape: Candidates K and features d.
        slots: Arms that an action names, 1 or 2; each has a logit per candidate.
        width: Units of the hidden layers.
    """

    def __init__(self, shape: tuple[int, int], slots: int, width: int) -> None:
        super().__init__()
        self.shape = shape
        self.latent_dim_vf = width
        self.actor = _encoder(shape[1], width)
        self.scorer = nn.Sequential(nn.Linear(2 * width, width), nn.Tanh())
        self.logits = nn.Linear(width, slots, bias=False)  # a softmax does not see a shift
        self.critic = _encoder(shape[1], width)

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor]:
        return self.forward_actor(features), self.forward_critic(features)

    def forward_actor(self, features: Tensor) -> Tensor:
        codes = self.actor(features.unflatten(1, self.shape))  # (N, K * d) -> (N, K, width)
        others = codes.mean(dim=1, keepdim=True).expand_as(codes)
        scores = self.logits(self.scorer(torch.cat([codes, others], dim=2)))  # (N, K, slots)
        return scores.transpose(1, 2).flatten(1)  # (N, slots * K), one slot after the other

    def forward_critic(self, features: Tensor) -> Tensor:
        return self.critic(features.unflatten(1, self.shape)).mean(dim=1)  # (N, width)


class EquivariantPolicy(ActorCriticPolicy):
    """A policy class for PPO and A2C: `PPO(EquivariantPolicy, vec_env, gamma=0.0, policy_kwargs={"width": 32})`.

    The observation is `features` [K, d], alone or as the one entry of a `Dict`. The action is an arm, `Discrete(K)`,
    or a pair, `MultiDiscrete([K, K])` with two independent softmaxes.

    Args:
        observation_space: As Stable-Baselines3 passes it.
        action_space: As Stable-Baselines3 passes it.
        lr_schedule: As Stable-Baselines3 passes it.
        width: Units of each hidden layer.
        **settings: The optimiser's, as `ActorCriticPolicy` takes them.

    Raises:
        UserError: Other spaces.
    """

    def __init__(
        self,
        observation_space: spaces.Space[Any],
        action_space: spaces.Space[Any],
        lr_schedule: Schedule,
        width: int = 64,
        **settings: Any,
    ) -> None:
        self.width = width
        self._shape = candidates_shape(observation_space)
        self._slots = named_arms(action_space, self._shape[0])
        if isinstance(observation_space, spaces.Dict):
            from stable_baselines3.common.torch_layers import CombinedExtractor

            settings["features_extractor_class"] = CombinedExtractor
        super().__init__(observation_space, action_space, lr_schedule, **settings)

    def _get_constructor_parameters(self) -> dict[str, Any]:
        return super()._get_constructor_parameters() | {"width": self.width}

    def _build(self, lr_schedule: Schedule) -> None:
        network = _CandidateNetwork(self._shape, self._slots, self.width)
        self.mlp_extractor = network  # type: ignore[assignment]  # of the same methods
        self.action_net = nn.Identity()  # the network's latent values are the logits
        self.value_net = nn.Linear(network.latent_dim_vf, 1)
        # Almost uniform at first, whatever the features: exploration starts from every candidate.
        nn.init.orthogonal_(network.logits.weight, gain=0.01)
        options: dict[str, Any] = {"lr": lr_schedule(1)} | self.optimizer_kwargs
        self.optimizer = self.optimizer_class(self.parameters(), **options)


def candidates_shape(space: spaces.Space[Any]) -> tuple[int, int]:
    """Return (K, d) of an observation space with features [K, d], alone or in a `Dict`."""
    if isinstance(space, spaces.Dict) and list(space.spaces) == ["features"]:
        space = space["features"]
    if not isinstance(space, spaces.Box) or len(space.shape) != 2:
        raise UserError(f"expected observations of candidates' features [K, d], got {space}; train on a VecEnv of ours")
    return space.shape[0], space.shape[1]


def named_arms(space: spaces.Space[Any], num_candidates: int) -> int:
    """Return how many arms an action names: 1 for `Discrete(K)`, 2 for `MultiDiscrete([K, K])`."""
    if isinstance(space, spaces.Discrete) and space.n == num_candidates and space.start == 0:
        return 1
    if isinstance(space, spaces.MultiDiscrete) and np.array_equal(space.nvec, [num_candidates, num_candidates]):
        return 2
    raise UserError(
        f"actions {space} do not name arms of K={num_candidates}; "
        f"expected Discrete({num_candidates}) or MultiDiscrete([{num_candidates}, {num_candidates}])"
    )


def _encoder(dim: int, width: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(dim, width), nn.Tanh(), nn.Linear(width, width), nn.Tanh())
