"""Tags that hold all settings and protocols of a run."""

from __future__ import annotations

import base64
import json
import os
import zlib

import pytest

from gan_bench.tracking.runs.packed_tags import (
    LARGEST,
    LIMIT,
    PROTOCOLS,
    SETTINGS,
    pack,
    unpack,
    with_protocols,
    with_settings,
)

MANY = {f"eval/score_{i}": {"extractor": "classifier", "weights": "0a1b" * 16, "generated": 2000,
                            "data": "train", "note": "é" * 100} for i in range(60)}


def test_what_is_packed_comes_back_and_fits() -> None:
    for values in ({}, {"loss": "lsgan"}, MANY):
        text = pack(values)
        assert text is not None
        assert len(text) <= LIMIT
        assert unpack(text) == values
    assert len(json.dumps(MANY)) > 2 * LIMIT


def test_what_does_not_fit_is_not_packed() -> None:
    assert pack({"path": os.urandom(LIMIT).hex()}) is None


@pytest.mark.parametrize("text", [
    "", "no base64!", base64.b64encode(b"no zlib").decode(),
    base64.b64encode(zlib.compress(b"no json")).decode(),
    base64.b64encode(zlib.compress(b"[1]")).decode(),
    base64.b64encode(zlib.compress(b" " * (LARGEST + 1) + b"{}")).decode()])
def test_another_text_holds_nothing(text: str) -> None:
    assert unpack(text) == {}


def test_tags_and_params_of_earlier_versions_count_first() -> None:
    tags = {PROTOCOLS: pack({"eval/fd": {"generated": 5}, "eval/is": {}}) or "",
            "protocol.eval/is": '{"generated": 7}', "seed": "1"}
    assert with_protocols(tags) == {
        **tags, "protocol.eval/fd": '{"generated": 5}', "protocol.eval/is": '{"generated": 7}'}
    assert with_protocols({"seed": "1"}) == {"seed": "1"}
    packed = {SETTINGS: pack({"loss": "lsgan", "steps": "8", "odd": 3}) or ""}
    assert with_settings(packed, {"loss": "hinge"}) == {"loss": "hinge", "steps": "8"}
    assert with_settings({}, {"loss": "hinge"}) == {"loss": "hinge"}
