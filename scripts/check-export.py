"""Loads folders that llcuda wrote with transformers, and compares logits and token ids with llcuda's own.

    node --import tsx scripts/export-logits.ts DIR ...     writes DIR/llcuda.safetensors with llcuda
    python scripts/check-export.py DIR ...                 needs torch, transformers and safetensors; no GPU
                                                           of folders in NF4 also bitsandbytes and accelerate

Both run in float32. The bound on the relative L2 error is that of `llcuda verify` for float32. Exit code 0 or 1.
Layers in NF4 run with the weights that bitsandbytes dequantizes, which it rounds to the type that they had; its own products,
which may leave that out, are compared beside it.
"""

import sys
from pathlib import Path

import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer

BOUND = 1e-4
TEXT = "Hello, world! What is 41 + 17? é 안녕"


def quantized_layers(model: torch.nn.Module) -> list[tuple[str, torch.nn.Module]]:
    if not getattr(model, "is_quantized", False):
        return []
    from bitsandbytes.nn import Linear4bit

    return [(name, module) for name, module in model.named_modules() if isinstance(module, Linear4bit)]


def dequantize(model: torch.nn.Module, name: str, layer: torch.nn.Module) -> None:
    from bitsandbytes.functional import dequantize_4bit

    plain = torch.nn.Linear(layer.in_features, layer.out_features, bias=layer.bias is not None)
    plain.weight.data = dequantize_4bit(layer.weight.data, layer.weight.quant_state).float()
    if layer.bias is not None:
        plain.bias.data = layer.bias.data.float()
    parent, _, child = name.rpartition(".")
    setattr(model.get_submodule(parent), child, plain)


def check(directory: Path) -> bool:
    ours = load_file(directory / "llcuda.safetensors")
    model, info = AutoModelForCausalLM.from_pretrained(
        directory, dtype=torch.float32, attn_implementation="eager", output_loading_info=True
    )

    def relative_l2() -> float:
        with torch.no_grad():
            theirs = model(ours["input_ids"].long()[None]).logits[0]
        return float((theirs - ours["logits"]).norm() / theirs.norm())

    layers = quantized_layers(model)
    kind = ""
    if layers:
        for _, layer in layers:
            layer.compute_dtype = torch.float32
        for parameter in model.parameters():  # routers and experts come in the type that they are stored in
            if parameter.is_floating_point():
                parameter.data = parameter.data.float()
        kind = f", {len(layers)} layers of bitsandbytes (its own products: {relative_l2():.2e})"
        for name, layer in layers:
            dequantize(model, name, layer)
    error = relative_l2()
    complete = not any(info[key] for key in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    tokens = "no tokenizer"
    same = True
    if (directory / "tokenizer.json").exists():
        same = AutoTokenizer.from_pretrained(directory)(TEXT)["input_ids"] == ours["text_ids"].tolist()
        tokens = "token ids equal" if same else "TOKEN IDS DIFFER"
    passed = error <= BOUND and complete and same
    verdict = "passed" if passed else "FAILED"
    print(f"{directory.name}: relative L2 error {error:.2e}, all keys used: {complete}, {tokens}{kind}: {verdict}")
    return passed


results = [check(Path(directory)) for directory in sys.argv[1:]]
sys.exit(0 if all(results) else 1)
