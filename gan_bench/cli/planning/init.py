"""What `gan-bench init` does: the files of a first study, in an empty folder."""

from __future__ import annotations

import re
from pathlib import Path

from gan_bench.atomic import replacing
from gan_bench.config.experiment_file import NAME_PATTERN
from gan_bench.errors import UserError, unwritable

STARTER = Path(__file__).parent / "starter"
CODE, STUDY = "mine.py", "study"
MAX_NAME = 64


def write_starter(name: str | None) -> tuple[Path, str]:
    """Write an experiment and a plug-in file; return the experiment's file and name.

    Args:
        name: Of the experiment and of its new folder; None: `study`, in the working folder.

    Raises:
        UserError: The name cannot be an experiment's, the folder is not empty, or it cannot be
            written.
    """
    if name is not None and (not re.fullmatch(NAME_PATTERN, name) or len(name) > MAX_NAME
                             or name == "Default" or name.endswith((".yaml", ".yml"))):
        raise UserError(f"{name}: is no name for an experiment: a letter or digit, then letters, "
                        f"digits, `_`, `.` and `-`, {MAX_NAME} in all")
    folder, study = Path(name or "."), name or STUDY
    if folder.exists() and (not folder.is_dir() or any(
            not file.name.startswith(".") for file in folder.iterdir())):
        raise UserError(f"{folder.absolute()}: is not empty: give the name of a new folder, "
                        f"gan-bench init NAME")
    yaml = (STARTER / f"{STUDY}.yaml").read_text("utf-8").replace("STUDY", study)
    is_new, written = not folder.exists(), list[Path]()
    try:
        folder.mkdir(exist_ok=True)
        for file, text in ((folder / CODE, (STARTER / CODE).read_text("utf-8")),
                           (folder / f"{study}.yaml", yaml)):
            with replacing(file) as temporary:
                temporary.write_text(text, "utf-8")
            written.append(file)
    except OSError as error:
        for file in written:
            file.unlink(missing_ok=True)
        if is_new and folder.exists():
            folder.rmdir()
        raise unwritable(folder.absolute(), error, elsewhere="name another folder") from None
    return folder / f"{study}.yaml", study
