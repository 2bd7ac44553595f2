"""Whose weights play policy, reference and start: frozen copies, or adapters on one model; not how a model is run.

The policy learns. The start is what it began from and never changes. The reference of the KL penalty is the start
until `move_reference` makes it a copy of the policy. Whether a model carries PEFT adapters matters here and nowhere
else.
"""

from __future__ import annotations

import copy
import hashlib
import shutil
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import Any, Literal, Protocol

import torch
from transformers import PreTrainedModel

from duelenv.ground.errors import UserError
from duelenv.policies import sharding
from duelenv.policies.export import save_whole
from duelenv.policies.loading import load_model

Role = Literal["policy", "reference", "start"]
Weights = dict[str, torch.Tensor]

# The adapters that play a moved reference, and a start that is more than the base model.
_REFERENCE = "duelenv_reference"
_START = "duelenv_start"


class Roles(Protocol):
    """The three sets of weights behind one policy.

    Attributes:
        model: the trainable model, which plays the policy.
        moved: whether the reference is no longer the start.
        adapter: the name of the trained adapter; None where whole models are kept.
    """

    model: Any

    @property
    def moved(self) -> bool: ...

    @property
    def adapter(self) -> str | None: ...

    def playing(self, role: Role) -> AbstractContextManager[Any]:
        """Lend the model that has the weights of `role`."""
        ...

    def move_reference(self) -> None:
        """Make the reference a frozen copy of the policy."""
        ...

    def clone(self) -> Roles:
        """Make independent roles with the same weights."""
        ...

    def shard(self, by: sharding.Sharder) -> None:
        """Share out the weights of every model over processes."""
        ...

    def fingerprint(self) -> str:
        """Name the start by a hash over the beginning of every tensor; the same on every device."""
        ...

    def weights(self) -> dict[str, Weights | None]:
        """Copy what learning changes to CPU tensors: "model", and "reference", which is None until it moves."""
        ...

    def load_weights(self, weights: dict[str, Weights | None]) -> None:
        """Put back what `weights` gave."""
        ...

    def save(self, folder: Path) -> None:
        """Write below `folder` what is no part of the policy's own model: the start and a moved reference."""
        ...

    def load(self, folder: Path, policy: Path, *, moved: bool) -> None:
        """Read what `save` wrote, into roles made of the model that `read_model` gives for the same folders.

        Args:
            folder: As of `save`.
            policy: Holds the policy's own model, as `duelenv.policies.export.write_model` writes it.
            moved: Whether there is a moved reference.
        """
        ...


def roles_of(model: PreTrainedModel) -> Roles:
    """Make the roles of a policy that starts at this model, which it will train."""
    return Adapters(model) if hasattr(model, "peft_config") else FrozenCopies(model)


def read_model(folder: Path, policy: Path, adapter: str | None, base_model: PreTrainedModel | None) -> Any:
    """Read the model to make the roles of before they `load`: the saved start, or the base model with its adapter.

    Raises:
        UserError: an adapter that does not name its base model, and none given.
    """
    return FrozenCopies.read(folder) if adapter is None else Adapters.read(policy, adapter, base_model)


class FrozenCopies:
    """The start is a copy of the model, and so is the reference once it has moved.

    Copies are never written to, so clones share them.
    """

    adapter = None

    def __init__(self, model: PreTrainedModel) -> None:
        self.model = model
        self._start = _frozen(model)
        self._reference: PreTrainedModel | None = None

    @property
    def moved(self) -> bool:
        return self._reference is not None

    def playing(self, role: Role) -> AbstractContextManager[Any]:
        if role == "policy":
            return nullcontext(self.model)
        return nullcontext(self._start if role == "start" or self._reference is None else self._reference)

    def move_reference(self) -> None:
        _check_whole(self.model)
        self._reference = _frozen(self.model)

    def shard(self, by: sharding.Sharder) -> None:
        for model in (self.model, self._start, self._reference):
            if model is not None:
                _shard(model, by)

    def clone(self) -> FrozenCopies:
        _check_whole(self.model)
        twin = copy.copy(self)
        twin.model = copy.deepcopy(self.model)
        return twin

    def fingerprint(self) -> str:
        return _digest(self._start.state_dict())

    def weights(self) -> dict[str, Weights | None]:
        reference = None if self._reference is None else _on_cpu(self._reference.state_dict())
        return {"model": _on_cpu(self.model.state_dict()), "reference": reference}

    def load_weights(self, weights: dict[str, Weights | None]) -> None:
        assert weights["model"] is not None
        self.model.load_state_dict(_shared_like(weights["model"], self.model.state_dict()))
        self._reference = None
        if weights["reference"] is not None:
            _check_whole(self.model)
            self._reference = _frozen(self.model)
            self._reference.load_state_dict(weights["reference"])

    def save(self, folder: Path) -> None:
        for name, model in (("start", self._start), ("reference", self._reference)):
            if model is not None:
                state = sharding.whole_state(model)
                if sharding.is_writer(model):
                    save_whole(model, folder / name, state=state)

    @staticmethod
    def read(folder: Path) -> PreTrainedModel:
        return load_model(folder / "start")

    def load(self, folder: Path, policy: Path, *, moved: bool) -> None:
        reference = load_model(folder / "reference").state_dict() if moved else None
        self.load_weights({"model": load_model(policy).state_dict(), "reference": reference})


class Adapters:
    """The start is the PEFT model with its adapter off, a moved reference a second adapter: no model is copied.

    An adapter that was trained before, so that switching it off changes what the model says, is a part of the start: a
    frozen copy of it plays the start then. Which parameters train stays as it is, whoever plays.
    """

    def __init__(self, model: Any) -> None:
        self.model = model
        self._moved = False
        if self.adapter in (_REFERENCE, _START):
            raise UserError(
                f"the adapter that is trained is called {self.adapter!r}, as the copies of a policy are that never "
                "change; load it under another adapter_name"
            )
        if self._says_something():
            self._write(_START, self._weights_of(self.adapter))

    def _says_something(self) -> bool:
        """Tell whether the model answers otherwise with its adapter off, on a few tokens."""
        embedding = self.model.get_input_embeddings().weight
        config = self.model.peft_config[self.adapter]
        trained = getattr(config, "trainable_token_indices", None) or getattr(config, "token_indices", None) or []
        if isinstance(trained, dict):  # by the layer that holds them
            trained = [token for tokens in trained.values() for token in tokens]
        # An adapter of a few tokens says nothing of the others.
        ids = torch.tensor([[*range(min(8, len(embedding))), *trained[:8]]], device=embedding.device)
        training = self.model.training
        self.model.eval()
        try:
            with torch.no_grad():
                own = self.model(input_ids=ids).logits
                with self._trainable_kept(), self.model.disable_adapter():
                    base = self.model(input_ids=ids).logits
        finally:
            self.model.train(training)
        return not torch.equal(own, base)

    @property
    def _started(self) -> bool:
        return _START in self.model.peft_config

    @property
    def moved(self) -> bool:
        return self._moved

    @property
    def adapter(self) -> str:
        return str(self.model.active_adapter)

    @contextmanager
    def playing(self, role: Role) -> Iterator[Any]:
        if role == "policy":
            yield self.model
        elif role == "reference" and self._moved:
            with self._switched_to(_REFERENCE):
                yield self.model
        elif self._started:
            with self._switched_to(_START):
                yield self.model
        else:
            with self._trainable_kept(), self.model.disable_adapter():
                yield self.model

    @contextmanager
    def _switched_to(self, adapter: str) -> Iterator[None]:
        own = self.adapter
        with self._trainable_kept():
            self.model.set_adapter(adapter)
            try:
                yield
            finally:
                self.model.set_adapter(own)

    def move_reference(self) -> None:
        _check_whole(self.model)
        self._set_reference(self._weights_of(self.adapter))

    def shard(self, by: sharding.Sharder) -> None:
        _shard(self.model, by)

    def _set_reference(self, weights: Weights) -> None:
        self._write(_REFERENCE, weights)
        self._moved = True

    def clone(self) -> Adapters:
        _check_whole(self.model)
        twin = copy.copy(self)
        twin.model = copy.deepcopy(self.model)
        return twin

    def fingerprint(self) -> str:
        parts = [f".{adapter}" for adapter in self.model.peft_config if adapter != _START]
        state = self.model.state_dict()
        return _digest({name: state[name] for name in state if not any(part in name for part in parts)})

    def weights(self) -> dict[str, Weights | None]:
        reference = self._weights_of(_REFERENCE) if self._moved else None
        return {"model": self._weights_of(self.adapter), "reference": reference}

    def load_weights(self, weights: dict[str, Weights | None]) -> None:
        assert weights["model"] is not None
        self._write(self.adapter, weights["model"])
        self._moved = False
        if weights["reference"] is not None:
            self._set_reference(weights["reference"])

    def save(self, folder: Path) -> None:
        """Write the adapters of a moved reference and of a start that has one; the policy's names the base model."""
        kept = [name for name, there in ((_REFERENCE, self._moved), (_START, self._started)) if there]
        state = sharding.whole_state(self.model) if kept else None
        if not sharding.is_writer(self.model):
            return
        if not self._started and (folder / _START).is_dir():  # of another policy that was saved here
            shutil.rmtree(folder / _START)
        if kept:
            self.model.save_pretrained(folder, selected_adapters=kept, state_dict=state)

    @staticmethod
    def read(place: Path, adapter: str, base_model: PreTrainedModel | None) -> Any:
        from peft import PeftConfig, PeftModel

        if base_model is None:
            name = PeftConfig.from_pretrained(str(place)).base_model_name_or_path
            if not name:
                raise UserError(f"the adapter in {str(place)!r} does not name its base model; pass base_model=")
            base_model = load_model(name)
        with _own_randomness():
            return PeftModel.from_pretrained(base_model, str(place), adapter_name=adapter, is_trainable=True)

    def load(self, folder: Path, policy: Path, *, moved: bool) -> None:
        self._moved = moved
        if self._started:  # what was taken for it is the policy as it was trained
            self.model.delete_adapter(_START)
        for name, there in ((_REFERENCE, moved), (_START, (folder / _START).is_dir())):
            if there:
                with self._trainable_kept(), _own_randomness():
                    self.model.load_adapter(str(folder / name), name, is_trainable=False)

    def _weights_of(self, adapter: str) -> Weights:
        from peft import get_peft_model_state_dict

        return _on_cpu(get_peft_model_state_dict(self.model, adapter_name=adapter))

    def _write(self, adapter: str, weights: Weights) -> None:
        """Give an adapter weights; one that is not there is made, frozen."""
        from peft import get_peft_model_state_dict, set_peft_model_state_dict

        if adapter not in self.model.peft_config:
            _check_whole(self.model)
            config = copy.deepcopy(self.model.peft_config[self.adapter])
            config.inference_mode = True  # kinds that keep a budget train one adapter only
            if hasattr(config, "init_lora_weights"):
                config.init_lora_weights = True  # others (pissa, olora) would change the base model once more
            with self._trainable_kept(), _own_randomness():
                self.model.add_adapter(adapter, config)
            for name, parameter in self.model.named_parameters():
                if f".{adapter}" in name:
                    parameter.requires_grad_(False)
        if sharding.is_sharded(self.model):
            weights = _shared_like(weights, get_peft_model_state_dict(self.model, adapter_name=adapter))
        set_peft_model_state_dict(self.model, weights, adapter_name=adapter)

    @contextmanager
    def _trainable_kept(self) -> Iterator[None]:
        """Put back which parameters train, since PEFT's switches set it."""
        trains = [(parameter, parameter.requires_grad) for parameter in self.model.parameters()]
        try:
            yield
        finally:
            for parameter, flag in trains:
                parameter.requires_grad_(flag)


def _own_randomness() -> AbstractContextManager[Any]:
    """Leave torch's generator as it was: a new adapter draws initial weights, which are overwritten at once."""
    return torch.random.fork_rng(devices=[])


def _frozen(model: PreTrainedModel) -> PreTrainedModel:
    twin = copy.deepcopy(model)
    twin.requires_grad_(False)
    twin.eval()
    return twin


def _on_cpu(weights: Weights) -> Weights:
    return {name: sharding.whole(tensor.detach()).cpu().clone() for name, tensor in weights.items()}


def _shared_like(weights: Weights, places: Weights) -> Weights:
    return {name: sharding.shared_like(tensor, places.get(name, tensor)) for name, tensor in weights.items()}


def _shard(model: Any, by: sharding.Sharder) -> None:
    """Share a model's weights out, and run it once: which weights train is read at the first pass."""
    by(model)
    ids = torch.zeros((1, 1), dtype=torch.long, device=next(model.parameters()).device)
    with torch.no_grad():
        model(input_ids=ids, attention_mask=torch.ones_like(ids))
    sharding.gathered_apart(model)


def _check_whole(model: Any) -> None:
    """Raise `UserError` if a model that is to be copied is sharded: torch copies none, and peft adds no weights."""
    if sharding.is_sharded(model):
        raise UserError(
            f"{type(model).__name__.removeprefix('FSDP')} is sharded, and such a model cannot be copied; keep "
            "reference='fixed', and clone a policy before it is sharded"
        )


def _digest(weights: Weights) -> str:
    digest = hashlib.sha256()
    for name, tensor in sorted(weights.items()):
        head = sharding.whole(tensor.detach()).flatten()[:64].cpu().contiguous()
        digest.update(f"{name} {tuple(tensor.shape)} {tensor.dtype}".encode())
        digest.update(head.view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()
