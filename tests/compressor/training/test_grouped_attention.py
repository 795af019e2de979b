"""One token at a time with shared keys: the same logits as transformers' own attention."""

from __future__ import annotations

import pytest
import torch
from transformers import Qwen2Config, Qwen2ForCausalLM

from compressor.training.grouped_attention import register


@pytest.mark.parametrize("shared", [1, 2, 4])
def test_a_padded_batch_gives_the_logits_of_sdpa(shared: int) -> None:
    torch.manual_seed(1)
    config = Qwen2Config(
        vocab_size=97,
        hidden_size=64,
        intermediate_size=96,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=shared,
    )
    model = Qwen2ForCausalLM(config).eval()
    ids = torch.randint(3, 97, (3, 9))
    mask = torch.ones_like(ids)
    mask[0, :4] = 0
    mask[1, :1] = 0
    found = {}
    for name in ("sdpa", register()):
        model.set_attn_implementation(name)
        with torch.inference_mode():
            said = model.generate(
                input_ids=ids,
                attention_mask=mask,
                max_new_tokens=6,
                do_sample=False,
                output_logits=True,
                return_dict_in_generate=True,
            )
        found[name] = (said.sequences, torch.stack(said.logits))
    (ours, mine), (theirs, wanted) = found[register()], found["sdpa"]
    assert torch.equal(ours, theirs)
    assert torch.allclose(mine, wanted, atol=1e-5)
