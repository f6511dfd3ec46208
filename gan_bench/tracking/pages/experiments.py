"""The experiments of a store: created, described, and prepared for MLflow's page."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from gan_bench.config.declared import Declared, comparison_tag
from gan_bench.errors import DamagedError
from gan_bench.journal.about import read_about
from gan_bench.journal.spec_file import read_values
from gan_bench.tracking.pages.experiment_page import VIEW, description, view_of, write_description
from gan_bench.tracking.runs import tags
from gan_bench.tracking.runs.hidden import deleted_experiment
from gan_bench.tracking.runs.origin import instance_of
from gan_bench.tracking.store.client import (
    DeletedExperiment,
    MirrorError,
    Store,
    mlflow_errors,
    write_shared,
)
from gan_bench.tracking.store.relocation import local_path
from gan_bench.tracking.store.shared_artifacts import is_within

if TYPE_CHECKING:
    from mlflow.entities import Experiment


class Experiments:
    """What a store holds of experiments.

    Args:
        store: The store.

    Attributes:
        elsewhere: By experiment, the folder of another root that its artifacts go to.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._client = store.client
        self._ids: dict[str, str] = {}
        self._prepared: set[Path] = set()
        self.elsewhere: dict[str, str] = {}

    def open(self, folder: Path) -> str:
        """Return MLflow's id of the experiment in this folder; create it if needed.

        Raises:
            DeletedExperiment: It was deleted in MLflow.
            MirrorError: MLflow fails.
        """
        name, home = folder.name, self._store.artifacts
        if name in self._ids:
            return self._ids[name]
        with mlflow_errors(self._store.uri):
            experiment = self._client.get_experiment_by_name(name)
            if experiment is None:
                self._create(name, (home / name).as_uri() if home else None)
                experiment = self._client.get_experiment_by_name(name)
            assert experiment is not None, "it existed or was just created"
            is_active = experiment.lifecycle_stage == "active"
            if is_active:
                self._declare(folder, experiment)
        if not is_active:
            raise DeletedExperiment(deleted_experiment(self._store.uri, name,
                                                       str(experiment.experiment_id)))
        self._ids[name] = str(experiment.experiment_id)
        location = str(experiment.artifact_location)
        if home and location.startswith(("file:", "/")):
            place = local_path(location)
            if not is_within(place, home):
                self.elsewhere[name] = str(place)
        return self._ids[name]

    def prepare_page(self, run: Path) -> None:
        """Prepare how MLflow's page of a run's experiment opens, once.

        Args:
            run: The run's folder.
        """
        home = run.parent
        if home in self._prepared:
            return
        number, declared = self.open(home), declared_in(home)
        try:
            evaluate = read_values(run).get("evaluate")
        except DamagedError:  # another run of the experiment will do
            return
        view = view_of(declared, evaluate if isinstance(evaluate, dict) else {})
        if self._client.get_experiment(number).tags.get(VIEW) != view:
            write_shared(lambda: self._client.set_experiment_tag(number, VIEW, view))
        if text := description(declared):
            write_description(self._client, number, text, instance_of(home.parents[1]),
                              only_first=True)
        self._prepared.add(home)

    def _create(self, name: str, artifacts: str | None) -> None:
        """Create an experiment, unless it exists by now: another launcher may be faster."""
        from mlflow.exceptions import MlflowException

        try:
            self._client.create_experiment(name, artifacts)
        except MlflowException as error:
            if error.error_code != "RESOURCE_ALREADY_EXISTS":
                raise

    def _declare(self, folder: Path, experiment: Experiment) -> None:
        """Let the experiment's tag say what is declared."""
        try:
            tag = comparison_tag(declared_in(folder))
        except ValueError as error:
            raise MirrorError(f"{folder / 'about.json'}: {error}") from None
        if experiment.tags.get(tags.ABOUT) != tag:
            number = str(experiment.experiment_id)
            write_shared(lambda: self._client.set_experiment_tag(number, tags.ABOUT, tag))


def declared_in(experiment: Path) -> Declared:
    """Return what an experiment's folder says that it declares.

    Raises:
        MirrorError: It is invalid.
    """
    try:
        return read_about(experiment)
    except ValueError as error:
        raise MirrorError(f"{experiment / 'about.json'}: {error}; repeat `gan-bench run` of the "
                          f"experiment, which rewrites it") from None
