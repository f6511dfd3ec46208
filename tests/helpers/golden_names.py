"""What tensors of the original programs are called here."""

from __future__ import annotations

from helpers.golden_networks import Names

STYLEGAN2_G: Names = {
    r"^mapping\.embed": "mapping.embedding", r"\.fc(\d)": r".layers.\1",
    r"w_avg": "average", r"synthesis\.b4\.const": "synthesis.pattern.pattern",
    r"\.b4\.": ".resolutions.0.", r"\.b8\.": ".resolutions.1.", r"\.b16\.": ".resolutions.2.",
    r"\.b32\.": ".resolutions.3.", r"\.0\.conv1": ".0.conv", r"\.conv0\.": ".doubling.",
    r"\.conv1\.": ".conv.", "torgb": "to_image", "noise_strength": "noise.strength",
    "noise_const": "noise.constant", r"(conv|doubling)\.bias": r"\1.activation.bias",
    r"(conv|doubling|to_image)\.weight": r"\1.conv.weight", r"to_image\.bias": "to_image.conv.bias",
}
STYLEGAN2_D: Names = {
    r"^mapping\.embed": "mapping.embedding", r"mapping\.fc(\d)": r"mapping.layers.\1",
    r"^b4\.fc": "linear", r"^b4\.out": "head", r"^b4\.": "", r"^b32": "blocks.0",
    r"^b16": "blocks.1", r"^b8": "blocks.2", "fromrgb": "from_image", "conv0": "first",
    "conv1": "second", "skip": "shortcut",
}

_ATTENTION: Names = {r"attention\.gamma": "attention.gate.gamma", "theta": "query", "phi": "key",
                    r"attention\.g\.": "attention.value.", r"attention\.o\.": "attention.back."}
BIGGAN_G: Names = {
    **_ATTENTION, r"^block(\d)": r"blocks.\1", r"output\.bn\.(bn\.)?stored": "norm.stored",
    r"output\.bn\.gain": "norm.weight", r"output\.bn\.bias": "norm.bias",
    r"output\.conv": "to_image", r"bn(\d)\.(bn\.)?stored": r"norm\1.norm.stored",
    r"bn(\d)": r"norm\1", "stored_": "running_", "conv_sc": "shortcut",
}
BIGGAN_D: Names = {**_ATTENTION, r"^block(\d)": r"blocks.\1", "conv_sc": "shortcut",
                  "linear": "head", "embed": "embedding"}
