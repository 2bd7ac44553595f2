# /// script
# requires-python = ">=3.11"
# dependencies = ["duelenv", "tokenizers", "torch", "transformers"]
#
# [tool.uv.sources]
# duelenv = { path = "..", editable = true }
# ///
"""The rare-good-arm bandit on a real language model, with the ordinary agents and exact regret.

A GPT-NeoX of two tokens says nothing nearly always and "b" with log-odds of -9. The oracle likes "b" (good) or, the
control, dislikes it (bad), by one unit of utility. Both responses are listed, so that every round has its regret J* -
J(pi) exactly. `duelenv run exact` plays the same with an exact minimiser in the place of gradient steps.

    python examples/rare_response.py FOLDER [seeds=4] [env.horizon=100]

Out come a table of both worlds, good and bad, and their run folders in FOLDER: an optimist finds "b" and pays for it
where it is bad.
"""

import sys
from pathlib import Path

import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import GPTNeoXConfig, GPTNeoXForCausalLM, PreTrainedTokenizerFast

import duelenv
from duelenv.experiments.config.loading import apply_override

WORDS = ("<eos>", "b")
LOG_PROBS = (0.0, -9.0)
BETA = 0.05


def save_model(folder: Path) -> None:
    """Fit a tiny model to the two log-probs after the prompt "b", and save it with its tokenizer."""
    inner = Tokenizer(models.WordLevel({word: index for index, word in enumerate(WORDS)}, unk_token="<eos>"))
    inner.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=inner, pad_token="<eos>", eos_token="<eos>")
    sizes = {"vocab_size": len(WORDS), "hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    torch.manual_seed(0)
    model = GPTNeoXForCausalLM(
        GPTNeoXConfig(**sizes, intermediate_size=32, max_position_embeddings=16, eos_token_id=0, pad_token_id=0)
    ).eval()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    target = torch.tensor(LOG_PROBS).log_softmax(-1)
    for _ in range(300):
        found = model(torch.tensor([[1]])).logits[0, -1].log_softmax(-1)
        optimizer.zero_grad()
        (found - target).square().mean().backward()
        optimizer.step()
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def settings(model, gap):
    """Return the config of one world: `gap` is the utility of "b", that of nothing is 0."""
    training = {"beta": BETA, "learning_rate": 3e-3, "max_grad_norm": None}
    against = {"name": "composed", "ask": "against_reference", **training}
    return {
        "name": "rare_response",
        "env": {
            "id": "AlignmentDuel",
            "num_envs": 1,
            "horizon": 200,
            "exact_beta": BETA,
            "sources": {"policy": 2, "reference": 1},
        },
        "policy": {"path": {"path": str(model), "max_new_tokens": 1}},
        "prompts": {"list": {"train": ["b"], "test": ["b"]}},
        "oracle": {"name": "rare_word", "word": "b", "scale": gap, "length_scale": 0.0},
        "agents": {
            "pi_ref": against,
            **{
                f"pi_ref_c{name}": {**against, "bonus": "xpo", "bonus_settings": {"alpha": alpha}}
                for name, alpha in {"1e4": 1e-4, "1e3": 1e-3, "1e2": 1e-2}.items()
            },
            # SELM's alpha times beta is XPO's alpha.
            "selm_c1e3": {"name": "selm", "alpha": 1e-3 / BETA, **training},
            "pi_pi": {"name": "passive", "env": {"sources": {"policy": 2}}, **training},
        },
        "seeds": 10,
        "baseline": "pi_ref",
        "metric": "regret_kl",
        "evaluate_every": 50,
        "save_models": "none",
    }


def main(folder, *overrides) -> None:
    """Run both worlds and print their tables."""
    model = Path(folder, "model")
    if not model.exists():
        save_model(model)
    for name, gap in {"good": 1.0, "bad": -1.0}.items():
        config = settings(model, gap)
        for override in overrides:
            apply_override(config, override)
        run = duelenv.experiments.run(config, output=Path(folder, name))
        run.report()
        print(f"\nb is {name}\n{run}")


if __name__ == "__main__":
    if len(sys.argv) < 2:
        raise SystemExit("usage: python examples/rare_response.py FOLDER [seeds=4] [env.horizon=100]")
    main(*sys.argv[1:])
