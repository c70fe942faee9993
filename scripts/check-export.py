"""Loads folders that llcuda wrote with transformers, and compares logits and token ids with llcuda's own.

    node --import tsx scripts/export-logits.ts DIR ...     writes DIR/llcuda.safetensors with llcuda
    python scripts/check-export.py DIR ...                 needs torch, transformers and safetensors; no GPU

Both run in float32. The bound on the relative L2 error is that of `llcuda verify` for float32. Exit code 0 or 1.
"""

import sys
from pathlib import Path

import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer

BOUND = 1e-4
TEXT = "Hello, world! What is 41 + 17? é 안녕"


def check(directory: Path) -> bool:
    ours = load_file(directory / "llcuda.safetensors")
    model, info = AutoModelForCausalLM.from_pretrained(
        directory, dtype=torch.float32, attn_implementation="eager", output_loading_info=True
    )
    with torch.no_grad():
        theirs = model(ours["input_ids"].long()[None]).logits[0]
    error = float((theirs - ours["logits"]).norm() / theirs.norm())
    complete = not any(info[key] for key in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    tokens = "no tokenizer"
    same = True
    if (directory / "tokenizer.json").exists():
        same = AutoTokenizer.from_pretrained(directory)(TEXT)["input_ids"] == ours["text_ids"].tolist()
        tokens = "token ids equal" if same else "TOKEN IDS DIFFER"
    passed = error <= BOUND and complete and same
    print(f"{directory.name}: relative L2 error {error:.2e}, all keys used: {complete}, {tokens}: {'passed' if passed else 'FAILED'}")
    return passed


results = [check(Path(directory)) for directory in sys.argv[1:]]
sys.exit(0 if all(results) else 1)
