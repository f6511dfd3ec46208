"""Reading `spec.json`, which stands in the folder of each run."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from gan_bench.config.run_id import digest_of, identifying_settings
from gan_bench.config.spec import RunSpec
from gan_bench.data_facts import DataFacts
from gan_bench.errors import DamagedError, one_line, shown
from gan_bench.registry import Part


def read_values(folder: Path) -> dict[str, Any]:
    """Return a run's `spec.json` as plain data, also if a plug-in that it names has gone since.

    Raises:
        DamagedError: It is damaged, or not that of the run and experiment that its folder is named
            after.
    """
    try:
        values: dict[str, Any] = json.loads((folder / "spec.json").read_text())
        identity = {**identifying_settings(values), "seed": values["seed"]}
        found = (values["experiment"], digest_of(identity))
        if not isinstance(values["variant"], str):
            raise TypeError("its variant is no string")
    except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise DamagedError(f"{folder / 'spec.json'}: cannot be read ({one_line(error)}); run the "
                        f"experiment again, which writes it anew, or delete {folder}") from None
    if found != (folder.parent.name, folder.name):
        raise DamagedError(f"{folder / 'spec.json'}: is of the run {shown(found[1])} of "
                        f"{shown(found[0])}, and not of this folder; run the experiment again, "
                        f"which writes it anew, or delete {folder}")
    return values


def read_spec(folder: Path) -> RunSpec:
    """Read a run's `spec.json` back.

    Raises:
        OSError: It cannot be read.
        ValueError, TypeError, KeyError: It is no JSON, or not of such a shape; pydantic's
            ValidationError and PartError, of a name that nobody knows here, are ValueErrors.
    """
    values = json.loads((folder / "spec.json").read_text())
    data = values.pop("data")
    facts = DataFacts(**{**data, "shape": tuple(data["shape"])})
    for key, value in values.items():
        if isinstance(value, dict) and set(value) == {"name", "args"}:
            values[key] = Part(**value)
    values["penalties"] = [Part(**value) for value in values.get("penalties", [])]
    return RunSpec(**values, data=facts)
