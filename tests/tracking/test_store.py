"""The store is right before any training: created whole, or refused in one clear line."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
from helpers.journals import new_run, write_journal
from helpers.runs import write_experiment

from gan_bench.cli.results.ui import ui_command
from gan_bench.errors import Stopped, UserError
from gan_bench.journal import reading
from gan_bench.journal.layout import Workspace
from gan_bench.journal.writing import Journal
from gan_bench.tracking.mirror import Mirror
from gan_bench.tracking.runs.cursor import mirrored
from gan_bench.tracking.store.address import (
    is_server,
    mlflow_environment,
    reason,
    resolve_uri,
    sqlite_path,
    without_password,
)
from gan_bench.tracking.store.client import open_store
from gan_bench.tracking.store.database import _schemas, check_sqlite, has_run
from gan_bench.tracking.sync import sync_runs, update_store


@pytest.fixture(autouse=True)
def _no_tracking_uri(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)


@pytest.fixture(scope="module")
def fresh(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """A new MLflow database."""
    root = tmp_path_factory.mktemp("fresh")
    open_store(Workspace(root, tracking_uri=f"sqlite:///{root / 'mlflow.db'}"))
    with closing(sqlite3.connect(root / "mlflow.db")) as connection:
        connection.execute("pragma wal_checkpoint(truncate)")
    return (root / "mlflow.db").read_bytes()


def test_where_the_store_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    default = f"sqlite:///{tmp_path / 'root' / 'mlflow.db'}"
    assert resolve_uri(Workspace(Path("root"))) == default
    assert resolve_uri(Workspace(tmp_path / "root")) == default
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://team:5000/")
    assert resolve_uri(Workspace(Path("root"))) == "http://team:5000"
    mine = Workspace(Path("root"), tracking_uri="sqlite:///mine.db")
    assert resolve_uri(mine) == f"sqlite:///{tmp_path / 'mine.db'}"


@pytest.mark.parametrize("uri", ["mlruns", "./mlruns", "file:///tmp/mlruns"])
def test_a_folder_is_no_store(uri: str) -> None:
    with pytest.raises(UserError, match=r"^cannot track runs in .*: give --tracking-uri"):
        resolve_uri(Workspace(Path("root"), tracking_uri=uri))


def test_addresses() -> None:
    assert without_password("postgresql://me:secret@db:5432/x") == "postgresql://me:***@db:5432/x"
    assert without_password("http://127.0.0.1:5000/a@b:c") == "http://127.0.0.1:5000/a@b:c"
    assert [is_server(u) for u in ("http://a", "https://a", "databricks")] == [True] * 3
    assert [is_server(u) for u in ("sqlite:////a.db", "postgresql://a/b")] == [False] * 2
    assert sqlite_path("sqlite:////a/b.db") == Path("/a/b.db")
    assert sqlite_path("http://a") is None


@pytest.mark.parametrize(("uri", "shown"), [
    ("postgresql://me:se/cret@db/x", "postgresql://me:***@db/x"),
    ("postgresql://me:12/cret@db/x", "postgresql://me:***@db/x"),
    ("postgresql://me:se@cret@db/x", "postgresql://me:***@db/x"),
    ("postgresql://me:se@cr/e@t@db/x", "postgresql://me:***@db/x"),
    ("postgresql://me:se?cr=et@db/x", "postgresql://me:***@db/x"),
    ("postgresql://me@corp:secret@db/x", "postgresql://me@corp:***@db/x"),
    ("postgresql://:secret@db/x?sslrootcert=/a@b", "postgresql://:***@db/x?sslrootcert=/a@b"),
    ("postgresql://db/x?user=me&password=se@c/ret&a=b",
     "postgresql://db/x?user=me&password=***&a=b"),
    ("mysql://db/x?ssl=1&SSL_Passphrase=secret", "mysql://db/x?ssl=1&SSL_Passphrase=***"),
    ("mssql+pyodbc:///?odbc_connect=UID%3Dme%3BPWD%3Dsecret",
     "mssql+pyodbc:///?odbc_connect=***"),
    ("https://me:se/cret@team:5000", "https://me:***@team:5000"),
    ("https://me:se@cret@team/a", "https://me:***@team/a"),
    ("https://team/?access_token=secret#x", "https://team/?access_token=***#x"),
    ("me:secret@team:5000", "me:***@team:5000"),
    ("https://secret@team:5000/a@b:c", "https://***@team:5000/a@b:c"),
    ("//secret@team", "//***@team"),
])
def test_no_part_of_a_password_is_shown(uri: str, shown: str) -> None:
    assert without_password(uri) == shown
    assert "cret" not in reason(ValueError(f"cannot parse {uri!r} at all"), uri)
    assert "cret" not in reason(RuntimeError(f"no {uri}/api"), uri)


@pytest.mark.parametrize("uri", [
    "http://127.0.0.1:5000", "http://team:5000/a@b:c", "postgresql://me@db:5432/x",
    "postgresql://db/x?user=me@corp:b", "sqlite:////home/me:x@y/mlflow.db", "databricks",
    "databricks://profile:scope", "file:/a:b@c", "sqlite:////a/b.db?mode=ro"])
def test_what_is_no_password_is_shown(uri: str) -> None:
    assert without_password(uri) == uri


def test_an_error_that_may_quote_a_piece_of_the_password_says_how_to_write_it() -> None:
    error = ValueError("invalid literal for int() with base 10: 'c@db'")
    assert reason(error, "postgresql://me:a@b:c@db/x") == (
        "ValueError; in its password, write / as %2F, @ as %40, ? as %3F and # as %23")
    assert reason(error, "postgresql://me:a@db/x") == f"ValueError: {error}"


def test_an_address_that_is_refused_is_refused_without_its_password(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"^cannot track runs in 'me:\*\*\*@team:5000': give "):
        resolve_uri(Workspace(tmp_path, tracking_uri="me:secret@team:5000"))
    with pytest.raises(UserError, match=r"keep a database at .*b\?password=\*\*\*: choose "):
        open_store(Workspace(
            tmp_path, tracking_uri=f"sqlite:///{tmp_path / 'mlflow.db'}?password=secret"))
    with pytest.raises(UserError, match=r"^MLflow cannot use http://me:\*\*\*@127.0.0.1:9: "
                                        r"\w+; in its password, write / as %2F, ") as refused:
        open_store(Workspace(tmp_path, tracking_uri="http://me:se/cret@127.0.0.1:9"))
    assert "se/" not in str(refused.value)
    assert "cret" not in str(refused.value)


@pytest.mark.usefixtures("from_nothing")
def test_a_new_root_gets_a_database(tmp_path: Path) -> None:
    root = tmp_path / "new" / "root"
    store = open_store(Workspace(root))
    assert store.uri == f"sqlite:///{root / 'mlflow.db'}"
    home = (root / "artifacts").as_uri()
    assert [e.artifact_location.startswith(home) for e in
            store.client.search_experiments()] == [True]
    experiment = store.client.get_experiment(Mirror(store).open_experiment(tmp_path / "a study"))
    assert experiment.artifact_location == (root / "artifacts" / "a study").as_uri()
    with closing(sqlite3.connect(root / "mlflow.db")) as connection:
        assert connection.execute("pragma journal_mode").fetchone() == ("wal",)
    assert {p.name.removesuffix("-wal").removesuffix("-shm") for p in root.iterdir()} == {
        "mlflow.db"}
    open_store(Workspace(root))


@pytest.mark.usefixtures("from_nothing")
@pytest.mark.parametrize(("name", "good"), [("a#b c", True), ("a?b", False), ("a%41", False)])
def test_mlflow_cannot_write_everywhere(tmp_path: Path, name: str, good: bool) -> None:
    if good:
        open_store(Workspace(tmp_path / name))
    else:
        with pytest.raises(UserError, match=r"^MLflow cannot keep a database at .*without"):
            open_store(Workspace(tmp_path / name))
    assert [path.name for path in tmp_path.iterdir()] == ([name] if good else [])


def test_launchers_that_start_at_once_share_one_database(tmp_path: Path) -> None:
    script = ("import sys, pathlib; from gan_bench.tracking.store.client import *; "
              "from gan_bench.journal import layout; "
              "open_store(layout.Workspace(pathlib.Path(sys.argv[1])))")
    processes = [subprocess.Popen([sys.executable, "-c", script, tmp_path],
                                  stderr=subprocess.PIPE, text=True) for _ in range(2)]
    assert [(p.communicate()[1], p.returncode) for p in processes] == [("", 0)] * 2
    check_sqlite(tmp_path / "mlflow.db")
    assert list(tmp_path.glob(".*")) == []


def revise(version: str) -> Callable[[sqlite3.Connection], object]:
    return lambda c: c.execute("update alembic_version set version_num = ?", [version])


def elsewhere(connection: sqlite3.Connection) -> object:
    return connection.execute(
        "insert into experiments (experiment_id, name, artifact_location, lifecycle_stage) "
        "values (7, 'study', 'file:///old/place/artifacts/study', 'active')")


@pytest.mark.parametrize(("change", "message"), [
    (revise("ffffffffffff"), r"is from a newer MLflow .*upgrade with `pip install --upgrade mlf"),
    (revise("451aebb31d03"), r"is from an older MLflow .*run `mlflow db upgrade sqlite:////.*`$"),
    (lambda c: c.execute("delete from alembic_version"), r"^cannot use .*mlflow.db as MLflow's"),
    (lambda c: c.execute("drop table alembic_version"), r"no such table: alembic_version"),
    (elsewhere, r"experiment 'study' is not of gan-bench, and keeps its artifacts in file:///old/"),
])
def test_a_database_that_cannot_be_used_is_refused_and_left_alone(
        fresh: bytes, tmp_path: Path, change: Callable[[sqlite3.Connection], object],
        message: str) -> None:
    database = tmp_path / "mlflow.db"
    database.write_bytes(fresh)
    (tmp_path / "runs" / "study").mkdir(parents=True)
    open_store(Workspace(tmp_path))  # it is good before the change
    with closing(sqlite3.connect(database)) as connection, connection:
        change(connection)
    before = dump(database)
    with pytest.raises(UserError, match=message) as error:
        open_store(Workspace(tmp_path))
    assert len(str(error.value).splitlines()) == 1
    with pytest.raises(UserError, match=message):
        ui_command(Workspace(tmp_path), 5000)
    assert dump(database) == before


def test_the_schemas_are_those_that_alembic_finds() -> None:
    import mlflow
    from alembic.script import ScriptDirectory

    scripts = ScriptDirectory(str(Path(mlflow.__file__).parent / "store" / "db_migrations"))
    head = scripts.get_current_head()
    older = {script.revision for script in scripts.walk_revisions()} - {head}
    assert _schemas() == (head, older)


def dump(database: Path) -> list[str]:
    with closing(sqlite3.connect(database)) as connection:
        return list(connection.iterdump())


def test_a_file_that_is_no_database(tmp_path: Path) -> None:
    (tmp_path / "mlflow.db").write_text("not a database, and somebody's file\n" * 100)
    before = (tmp_path / "mlflow.db").read_bytes()
    with pytest.raises(UserError, match=r"as MLflow's database \(file is not a database\); move"):
        open_store(Workspace(tmp_path))
    assert (tmp_path / "mlflow.db").read_bytes() == before


def test_a_root_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match=r"^/.*file.*: cannot be written: .*; choose another "
                                        r"--root$"):
        open_store(Workspace(tmp_path / "file" / "root"))


def test_a_server_that_does_not_answer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in mlflow_environment():
        monkeypatch.setenv(name, mlflow_environment()[name])
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with pytest.raises(UserError, match=r"^MLflow cannot use http://me:\*\*\*@127.0.0.1:9: "
                                        r"Connection refused; give another --tracking-uri"):
        open_store(Workspace(tmp_path, tracking_uri="http://me:secret@127.0.0.1:9"))
    assert not (tmp_path / "mlflow.db").exists()


def test_being_stopped_while_it_opens_is_no_error_of_mlflow(
        tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def stop(client: object, **more: object) -> None:
        raise Stopped(130)

    monkeypatch.setattr("mlflow.MlflowClient.search_experiments", stop)
    with pytest.raises(Stopped):
        open_store(Workspace(tmp_path, tracking_uri="http://127.0.0.1:9"))


def test_the_page_is_bound_to_this_machine(fresh: bytes, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"^there is no .*mlflow.db yet: run an experiment first"):
        ui_command(Workspace(tmp_path), 5000)
    assert not (tmp_path / "mlflow.db").exists()
    (tmp_path / "mlflow.db").write_bytes(fresh)
    command, variables = ui_command(Workspace(tmp_path), 5123)
    assert command[command.index("--host") + 1] == "127.0.0.1"
    assert command[command.index("--port") + 1] == "5123"
    assert variables["MLFLOW_BACKEND_STORE_URI"] == f"sqlite:///{tmp_path / 'mlflow.db'}"
    assert variables["MLFLOW_DISABLE_TELEMETRY"] == "true"


def test_a_server_has_its_own_page(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"open http://me:\*\*\*@team:5000$"):
        ui_command(Workspace(tmp_path, tracking_uri="http://me:secret@team:5000"), 5000)


def test_light_commands_do_not_import_mlflow(fresh: bytes, tmp_path: Path) -> None:
    (tmp_path / "mlflow.db").write_bytes(fresh)
    script = ("import sys, pathlib; r = pathlib.Path(sys.argv[1]); "
              "from gan_bench.journal import layout; "
              "from gan_bench.tracking import mirror; "
              "from gan_bench.tracking.runs import cursor; "
              "from gan_bench.tracking.store import address, client, database, relocation; "
              "assert not cursor.mirrored(r, address.resolve_uri(layout.Workspace(r))); "
              "database.check_sqlite(r / 'mlflow.db'); "
              "relocation.check_addresses(r / 'mlflow.db'); "
              "assert not {'mlflow', 'torch', 'numpy', 'alembic'} & set(sys.modules)")
    subprocess.run([sys.executable, "-c", script, tmp_path], check=True)
    assert not has_run(tmp_path / "mlflow.db", "0" * 32)
    assert not has_run(tmp_path / "none.db", "0" * 32)
    assert not (tmp_path / "none.db").exists()


@pytest.mark.parametrize("uri", [None, "sqlite:///a/../root/mlflow.db",
                                 "sqlite:///link/../mlflow.db", "sqlite:////{}/root/mlflow.db"])
def test_every_spelling_of_a_root_is_the_same_store(
        tmp_path: Path, monkeypatch: pytest.MonkeyPatch, uri: str | None) -> None:
    root = tmp_path / "root"
    (root / "deep").mkdir(parents=True)
    (tmp_path / "link").symlink_to(root / "deep")
    (tmp_path / "work").mkdir()
    database = f"sqlite:///{root / 'mlflow.db'}"
    spellings = [(tmp_path, "work/../root"), (tmp_path / "work", "../root"), (tmp_path, "link/.."),
                 (tmp_path, f"/{root}"), (tmp_path, "root")]
    for count, (work, spelling) in enumerate(spellings):
        monkeypatch.chdir(work)
        store = open_store(Workspace(Path(spelling)))
        assert (store.uri, store.artifacts) == (database, root / "artifacts")
        experiment = Mirror(store).open_experiment(root / "runs" / f"study {count}")
        assert store.client.get_experiment(experiment).artifact_location == (
            root / "artifacts" / f"study {count}").as_uri()
        _, variables = ui_command(Workspace(Path(spelling)), 5000)
        assert variables["MLFLOW_BACKEND_STORE_URI"] == database
    monkeypatch.chdir(tmp_path)
    uri = uri and uri.format(str(tmp_path).lstrip("/"))
    assert resolve_uri(Workspace(Path("root"), tracking_uri=uri)) == database


def test_a_database_with_dots_in_its_addresses_goes_on_working(tmp_path: Path) -> None:
    """An earlier version wrote such addresses for a root given as `../root`."""
    workspace = Workspace(tmp_path / "root")
    (tmp_path / "work").mkdir()
    dotted = f"{tmp_path}/work/../root"
    folders = [new_run(workspace.root, seed) for seed in (0, 1)]
    write_journal(folders[0])
    Mirror(open_store(workspace)).sync(folders[0])
    with closing(sqlite3.connect(workspace.database)) as connection, connection:
        for column in ("experiments set artifact_location", "runs set artifact_uri"):
            connection.execute(f"update {column} = replace({column.split()[-1]}, ?, ?)",
                               (f"file://{workspace.root}/", f"file://{dotted}/"))
    cursor = folders[0] / "mirror.json"
    cursor.write_text(cursor.read_text().replace('"mlflow.db"',
                                                 f'"sqlite:///{dotted}/mlflow.db"'))
    before = dump(workspace.database)
    assert any("/work/../root/" in line for line in before)
    write_journal(folders[1])
    done = sync_runs(workspace, lambda line: None)
    assert (done.runs, done.brought, done.missing) == (2, 2, [])
    store = open_store(workspace)
    ui_command(workspace, 5000)
    experiments = [e.experiment_id for e in store.client.search_experiments()]
    runs = store.client.search_runs(experiments)
    assert sorted(run.data.tags["seed"] for run in runs) == ["0", "1"]
    assert all(run.info.artifact_uri.startswith(f"file://{dotted}/artifacts/") for run in runs)
    for run in runs:
        assert "spec.json" in [item.path for item in store.client.list_artifacts(run.info.run_id)]
        assert Path(run.info.artifact_uri.removeprefix("file://")).resolve().is_relative_to(
            workspace.artifacts)
    assert all(mirrored(folder, store.uri) for folder in folders)


@pytest.mark.parametrize("where", ["artifacts/../../elsewhere", "mlruns", "experiment"])
def test_what_others_keep_in_the_database_is_no_matter(tmp_path: Path, where: str) -> None:
    """Runs that were logged by hand, and experiments with artifacts of their own elsewhere."""
    workspace = Workspace(tmp_path / "root")
    folders = [new_run(workspace.root, seed) for seed in (0, 1)]
    write_journal(folders[0])
    assert sync_runs(workspace, lambda line: None).brought == 1
    client = open_store(workspace).client
    if where == "experiment":
        client.create_experiment("notebook", (tmp_path / "elsewhere").as_uri())
    else:
        notebook = client.create_experiment("notebook", f"file://{tmp_path}/{where}/2")
        run = client.create_run(notebook, run_name="by hand").info.run_id
        client.log_metric(run, "fid", 12.3)
        client.log_text(run, "hello", "note.txt")
    write_journal(folders[1])
    done = sync_runs(workspace, lambda line: None)
    assert (done.runs, done.brought, done.missing, done.hidden) == (2, 1, [], [])
    ui_command(workspace, 5000)
    if where != "experiment":
        assert client.get_run(run).data.metrics == {"fid": 12.3}
        assert [item.path for item in client.list_artifacts(run)] == ["note.txt"]


@pytest.mark.usefixtures("from_nothing")
def test_the_log_of_a_database_that_was_moved_is_not_mixed_into_a_new_one(tmp_path: Path) -> None:
    (tmp_path / "mlflow.db-wal").write_bytes(b"some")
    with pytest.raises(UserError, match=r"mlflow\.db-wal: has no database beside it; move it to "):
        open_store(Workspace(tmp_path))
    assert [file.name for file in tmp_path.iterdir()] == ["mlflow.db-wal"]


def test_a_disk_that_is_full_while_the_database_is_made_is_one_line(tmp_path: Path) -> None:
    """A limit on the size of files fails as a full disk does, and needs no disk of its own."""
    script = ("import resource, signal, sys; signal.signal(signal.SIGXFSZ, signal.SIG_IGN); "
              "resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, 300_000)); "
              "from gan_bench.cli.app import main; main()")
    root = tmp_path / "root"
    write_journal(new_run(root))
    done = subprocess.run([sys.executable, "-c", script, "sync", "--root", root],
                          capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1), done.stderr
    assert done.stderr.startswith(f"error: cannot make {root / 'mlflow.db'}: ")
    assert done.stderr.endswith("free some space, or choose another --root or --tracking-uri\n")
    assert [file.name for file in root.glob("*mlflow*")] == []
    assert sync_runs(Workspace(root), lambda line: None).brought == 1


@pytest.mark.long
@pytest.mark.process
@pytest.mark.parametrize("disk", ["full", "read-only"])
def test_a_root_that_is_full_or_read_only_is_said_with_what_helps(tmp_path: Path, disk: str,
                                                                  ) -> None:
    """The root is a small file system in a mount namespace; no line advises to move files away."""
    if subprocess.run(["unshare", "-rm", "true"], check=False, capture_output=True).returncode:
        pytest.skip("this machine lets nobody mount a file system in a namespace (unshare -rm)")
    (tmp_path / "small").mkdir()
    write_experiment(tmp_path)
    (tmp_path / "setup.py").write_text(
        "from pathlib import Path\nfrom helpers.journals import new_run, write_journal\n"
        "from gan_bench.journal.layout import Workspace\n"
        "from gan_bench.tracking.sync import sync_runs\n"
        "write_journal(new_run(Path('small')))\n"
        "assert sync_runs(Workspace(Path('small')), print).brought == 1\n"
        "Path('small/instance.json').unlink()\n")
    (tmp_path / "instance.py").write_text(
        "from pathlib import Path\nfrom gan_bench.errors import UserError\n"
        "from gan_bench.tracking.runs.origin import instance_of\n"
        "try:\n    instance_of(Path('small'))\n"
        "except UserError as error:\n    print('error:', error)\n")
    change = {"full": "dd if=/dev/zero of=small/filler bs=512 2> filled",
              "read-only": "mount -o remount,ro small"}[disk]
    (tmp_path / "all.sh").write_text(f"""\
set -e
mount -t tmpfs -o size=40m tmpfs small
python setup.py
set +e
{change}
each() {{ echo "# $1"; shift; timeout 60 python "$@"; echo "$?"; }}
each instance instance.py
each run -m gan_bench run tiny.yaml --root small
each sync -m gan_bench sync --root small --to sqlite:///{tmp_path}/other.db
each report -m gan_bench report study-small --root small
each ui -m gan_bench ui --root small --port 1
""")
    helpers = str(Path(__file__).parents[1])
    done = subprocess.run(
        ["unshare", "-rm", "bash", "all.sh"], cwd=tmp_path, check=True, timeout=200, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env={
            **os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            "PYTHONPATH": os.pathsep.join([helpers, *sys.path])})
    assert "move" not in done.stdout
    assert "Traceback" not in done.stdout
    said = dict(part.split("\n", 1) for part in done.stdout.split("# ")[1:])
    cause, cure = {"full": ("No space left on device", "make room"),
                   "read-only": ("Read-only file system", "make it writable")}[disk]
    used = f"cannot be used: {cause}; {cure}, then repeat the command\n"
    written = f"cannot be written: {cause}; {cure}, then repeat the command\n"
    assert said["instance"] == f"error: small/instance.json: {used}0\n"
    folder = tmp_path / "small"
    if disk == "full":
        assert said["run"] == f"error: {folder}/preparation.1: {written}2\n"
        assert said["sync"].endswith(f"{folder}/runs/study-small/mirror.2: {written}3\n")
        assert "has room, or name another with --tracking-uri\n2\n" in said["ui"]
    else:
        assert said["run"] == (f"error: --root {folder}: is not writable; give another with "
                               f"--root\n2\n")
        assert said["sync"].endswith(f"{folder}/runs/study-small/mirror.2: {written}3\n")
        assert said["report"].endswith(f"{cause}; {cure}, or choose another --out\n2\n")
        assert "); make it and its folder writable, or name another with --tr" in said["ui"]


def test_a_damaged_run_does_not_hold_up_an_update(tmp_path: Path) -> None:
    """Of a store that only the runs' cursors show to be this root's."""
    database = tmp_path / "team.db"
    workspace = Workspace(tmp_path / "root", tracking_uri=f"sqlite:///{database}")
    damaged, late = sorted(new_run(workspace.root, seed) for seed in (3, 4))
    for folder in (damaged, late):
        write_journal(folder)
    assert sync_runs(workspace, lambda line: None).brought == 2
    journal = damaged / reading.FILE
    journal.write_text(f"no record\n{journal.read_text()}")
    book = Journal(late)
    book.protocol({"evaluate-1/fd_random": {"extractor": "random"}})
    book.close()
    assert not mirrored(late, f"sqlite:///{database}")
    (line,) = update_store(workspace, late.parent.name)
    assert line.startswith(f"MLflow may lack some results: {journal}")
    assert mirrored(late, f"sqlite:///{database}")
