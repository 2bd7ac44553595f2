"""What tests of runs share."""

import pytest


@pytest.fixture(scope="module")
def model_path(tmp_path_factory):
    """A folder with a tiny language model, as transformers writes it."""
    from duelenv.policies import tiny_model

    folder = tmp_path_factory.mktemp("model")
    model, tokenizer = tiny_model("llama")
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder
