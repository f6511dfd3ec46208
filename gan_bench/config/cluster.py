"""The `cluster` section of an experiment: what workers ask a scheduler for. In no run's id."""

from __future__ import annotations

import re
from typing import Annotated

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, WithJsonSchema

from gan_bench.errors import shown

# What sbatch takes as --time: minutes, minutes:seconds, hours:minutes:seconds, and after `days-`
# hours, hours:minutes, hours:minutes:seconds.
TIME = r"^(\d{1,5}(:\d{1,2}){0,2}|\d{1,4}-\d{1,2}(:\d{1,2}){0,2})$"
GPUS = r"^([A-Za-z][A-Za-z0-9_.-]*:)?[0-9]{1,4}$"
Word = Annotated[str, Field(pattern=r"^[^\s'\"\\#=][^\s'\"\\#]*$", max_length=200)]
Option = Annotated[str, Field(pattern=r"^--?[A-Za-z][^\n\r]*$", max_length=500)]
Line = Annotated[str, Field(pattern=r"^[^\n\r]+$", max_length=2000)]


def _check_time(given: object) -> object:
    text = str(given) if type(given) is int else given
    if text is None or (isinstance(text, str) and re.match(TIME, text) and seconds_of(text)):
        return text
    raise ValueError(f"a time limit is minutes, hours:minutes:seconds or days-hours, such as 90, "
                     f"4:00:00 or 2-12, not {shown(given)}")


def _check_gpus(given: object) -> object:
    text = str(given) if type(given) is int else given
    if text is None or (isinstance(text, str) and re.match(GPUS, text)):
        return text
    raise ValueError(f"a number of GPUs, or a type and a number such as a100:1, not {shown(given)}")


def seconds_of(time: str) -> int:
    """Return the seconds of a time limit that matches `TIME`."""
    days, separator, rest = time.rpartition("-")
    parts = [int(part) for part in rest.split(":")]
    if separator:
        hours, minutes, seconds = (*parts, 0, 0)[:3]
    elif len(parts) == 3:
        hours, minutes, seconds = parts
    else:
        hours, (minutes, seconds) = 0, (*parts, 0)[:2]
    return int(days or 0) * 86400 + hours * 3600 + minutes * 60 + seconds


class ClusterSpec(BaseModel):
    """What `gan-bench run FILE --on slurm` asks the scheduler for; in no run's id."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)
    partition: Word | None = Field(
        None, description="the partition, or several with commas; null: the cluster's default")
    account: Word | None = Field(
        None, description="the account that is charged; null: the user's default")
    time: Annotated[str | None, BeforeValidator(_check_time), WithJsonSchema({"anyOf": [
        {"type": "string", "pattern": TIME}, {"type": "integer", "minimum": 1},
        {"type": "null"}]})] = Field(
        None, description="time limit of a worker: minutes, `hours:minutes:seconds` or "
        "`days-hours`; what is unfinished by then goes on in the next; null: the partition's")
    gpus: Annotated[str | None, BeforeValidator(_check_gpus), WithJsonSchema({"anyOf": [
        {"type": "integer", "minimum": 0}, {"type": "string", "pattern": GPUS},
        {"type": "null"}]})] = Field(
        None, description="GPUs of a worker, `1` or with a type `a100:1`; null: 1 if "
        "compute.device is cuda, else 0")
    cpus: Annotated[int, Field(ge=1, le=1024)] | None = Field(
        None, description="cores of a worker; without a GPU it trains cpus / compute.threads runs "
        "at once; null: compute.threads, and 4 beside a GPU")
    constraint: Word | None = Field(
        None, description="features that a node must have, such as `a100`; runs of one seed are "
        "comparable if all come from hardware of one kind")
    workers: Annotated[int, Field(ge=1, le=10_000)] = Field(
        8, description="size of the array: workers at once, at most as many as have something to "
        "do")
    options: list[Option] = Field(
        [], description="further options of sbatch, such as `--exclude=n17`")
    setup: list[Line] = Field(
        [], description="lines of shell before the worker starts, such as `module load cuda`")


DEFAULT_CLUSTER = ClusterSpec.model_validate({})
