"""Mutated experiment files: each is a validated specification, or lines that say what and where.

Never another exception, never a hang, never much memory: of whatever a file holds.
"""

from __future__ import annotations

import json
import re
import resource
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch  # noqa: F401  `plan` imports it where snapshots are asked for
from helpers.limits import within
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from ruamel.yaml import YAML

from gan_bench.cli.planning import plan
from gan_bench.config.cluster import ClusterSpec
from gan_bench.config.experiment import load_experiment
from gan_bench.config.experiment_file import ExperimentFile
from gan_bench.config.spec import ComputeSpec, EvaluateSpec, ExperimentSpec, RunSettings
from gan_bench.errors import SpecError
from gan_bench.journal.spec_file import read_spec

FULL = """\
name: everything
question: What is there to set?
baseline: wide-non_saturating-lr=0.0001
dataset: {name: image_folder, path: pictures, image_size: 16, channels: 1}
plugins: []
labels: {wide-non_saturating-lr=0.0001: "Wide, plain", fd_random: FD}
seeds: [0, 1, 9223372036854775807]
base:
  model: {name: dcgan, width: 8, latent_dim: 16}
  loss: {name: non_saturating, label_smoothing: 0.1}
  condition: none
  penalties: [instance_noise, {name: spectral_norm, iterations: 2}]
  augmentation: [flip, {name: diffaugment, transforms: [translation]}]
  g_optimizer: {name: adam, lr: 2e-4, betas: [0.5, 0.999], weight_decay: 0.0, schedule: cosine}
  d_optimizer: {name: sgd, lr: 0.1, momentum: 0.9}
  optimizer: {name: rmsprop, lr: 1e-3}
  batch_size: 4
  steps: 10
  epochs: null
  order: g_first
  share_fakes: true
  d_loss_reduction: sum
  d_steps: 2
  g_steps: 2
  joint_weight: 0.5
  latents: uniform
  ema: 0.99
  ema_ramp: 0.1
  ema_start: 2
  ema_statistics: averaged
  accumulate: 1
  one_pass: false
  fake_labels: beside
  init: {file: given.safetensors, networks: [generator]}
  log_every: 5
  sample_every: 5
variants:
  plain:
  wide: {model: {width: 16}, d_optimizer: {lr: 0.2}}
matrix:
  loss: [saturating, non_saturating]
  g_optimizer.lr: [1e-4, 2e-4]
  include: [{batch_size: 2, model: mlp}]
  exclude: [{loss: saturating, g_optimizer.lr: 1e-4}]
evaluate:
  every: 5
  samples: 20
  metrics: [nearest_train_mse, d_accuracy]
  final_samples: 30
  final_metrics: [nearest_train_mse]
  snapshots: true
  reference: null
  latent_sets: 2
compute: {device: cpu, threads: 1, deterministic: false, precision: auto, graphs: false, pack: 2}
cluster:
  {partition: gpu, account: lab, time: 4:00:00, gpus: 1, cpus: 4, constraint: a100, workers: 8,
   options: [--exclude=n17], setup: [module load cuda]}
paired: true
margin: {nearest_train_mse: 5%, d_accuracy_real: 0.01}
curve_means:
  early: {of: train/g_grad_norm, steps: [1, 5], better: higher}
"""
HEADER = b'{"generator.w": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}'
GIVEN = len(HEADER).to_bytes(8, "little") + HEADER + bytes(4)  # the weights in given.safetensors
SECONDS = 20  # for one file; each takes milliseconds
MEGABYTES = 300  # that 2,000 files may add to what the process holds
PLACE = re.compile(r"(?:x\.yaml:\d+:\d+: |x\.yaml: |--set )\s*\S")


class Raw(str):
    """YAML that is written into a file as it is."""


@dataclass
class Map:
    """A mapping, in which a key may stand twice."""

    pairs: list[tuple[Any, Any]]


def laughs(open_: str, close: str, levels: int = 40, times: int = 9) -> str:
    """Aliases of aliases: a few hundred bytes that stand for `times ** levels` values."""
    lines = [f"a0: &a0 {open_}x{close}"]
    lines += [f"a{i}: &a{i} {open_}{', '.join([f'*a{i - 1}'] * times)}{close}"
              for i in range(1, levels)]
    return "\n".join(lines) + "\n"


NASTY = [Raw(text) for text in (
    "-1", "0", "-0.0", "1e400", "-1e400", "1e-400", ".nan", ".inf", "-.inf", "9" * 25, "9" * 5000,
    "-" + "9" * 5000, "0x" + "f" * 5000, "0b" + "1" * 20_000, "0o7", "1_000", "1.5", "2e-4",
    "true", "False", "null", "~", "", "''", '""', '"\\0"', '"\\ud800"', '"\\x1b[2J"', '"a\\nb"',
    '"\\uFEFF"', "\u00e9", "\U0001F600", '"\\u202e"', "x" * 70_000, '"' + "y " * 2_000 + '"',
    "../../up", "/etc/passwd", "~no-one/x", "2020-01-01", "2020-99-99", "2020-01-01 10:00:00+99:99",
    "!!python/object/apply:os.system [ls]", "!!python/name:os.system", "!!binary aGk=",
    "!!binary =", "!!set {a, b}", "!!omap [a: 1]", "!!pairs [a: 1]", "!!int x", "!!int ''",
    "!!float []", "!!bool maybe", "!!null x", "!!str 5", "!!timestamp x", "!!map []", "!!seq {}",
    "!own {a: 1}", "!own", "!<tag:x> 1", "&a [*a]", "&a {b: *a}", "&a {<<: *a}", "*nope", "&a", "*",
    "{<<: {steps: 3}}", "{<<: 3}", "{<<: [3]}", "{<<: [{steps: 3}, {steps: 4}]}", "<<", "=",
    "{[1]: 2}", "{{a: 1}: 2}", "{1: 2}", "{null: 1}", "{1.5: 2}", "{true: 1}", "{2020-01-01: 1}",
    "{? a}", "{a: 1, a: 2}", "{name: mlp, name: dcgan}", "[" * 200, "{a: " * 200, "[" * 5000,
    "[" * 20 + "1" + "]" * 20, "[" * 90 + "1" + "]" * 90, "- " * 3000, "? " * 500, "[[], {}]", "[]",
    "{}", "|\n  text\n", ">-\n  text\n", "# comment", "%YAML 1.1", "--- x", "...", "\t", "@", "`",
    "{name: mlp}", "{name: 3}", "{name: }", "{name: {name: mlp}}", "{name: nope, a: 1}", "[1, 1]",
    "[&a 1, *a]", "5%", "-5%", "1e999%", "nan%", "{nope: 1}",
    "{fid: []}", "[" + "1, " * 3000 + "]", "{" + "".join(f"k{i}: {i}, " for i in range(500)) + "}",
    "saturating", "mlp", "digits", "gaussians", "fd_classifier", "include", "exclude", "optimizer",
    "{name: gaussians, samples: 1}", "{name: digits, image_size: 8}", "{name: mnist, image_size: 9}"
)]
NOISE = [b"\t", b"\0", b"\xff", b"\xef\xbb\xbf", b"\r", b"\n", b"\n\n---\n", b"...\n", b"'", b'"',
         b"{", b"}", b"[", b"]", b":", b": ", b"- ", b"#", b"&a ", b"*a", b"!", b"!!", b"|", b">",
         b"%", b"@", b"?", b"? ", b",", b"<<: ", b"\xc2\x85", b"\xe2\x80\xa8", b"\xed\xa0\x80",
         b" ", b"\x1b", b"%YAML 9.9\n---\n", b"%TAG ! x\n---\n", b"\x7f", b"~", b"=", b"\\"]
CODECS = ["utf-16", "utf-32", "utf-16-le", "latin-1", "utf-8-sig", "utf-7", "cp1252", "shift-jis"]


def tree(text: str) -> Map:
    def convert(node: Any) -> Any:
        if isinstance(node, dict):
            return Map([(key, convert(value)) for key, value in node.items()])
        return [convert(value) for value in node] if isinstance(node, list) else node

    converted: Map = convert(YAML(typ="safe", pure=True).load(text))
    return converted


def emit(node: Any, depth: int = 0) -> str:
    """YAML of a tree: in block style at the top, in flow style below."""
    if isinstance(node, Map):
        pairs = [(key if isinstance(key, Raw) else json.dumps(key), emit(value, depth + 1))
                 for key, value in node.pairs]
        if depth < 2 and node.pairs:
            indent = "\n" + "  " * depth
            return (indent if depth else "") + indent.join(f"{k}: {v}" for k, v in pairs)
        return "{" + ", ".join(f"{k}: {v}" for k, v in pairs) + "}"
    if isinstance(node, list):
        return "[" + ", ".join(emit(value, 2) for value in node) + "]"
    return node if isinstance(node, Raw) else json.dumps(node)


def places(node: Any) -> Iterator[tuple[Any, int]]:
    """All (container, index) within a tree."""
    below = node.pairs if isinstance(node, Map) else node if isinstance(node, list) else []
    for index, item in enumerate(below):
        yield below, index
        yield from places(item[1] if isinstance(node, Map) else item)


payloads = st.one_of(
    st.sampled_from(NASTY), st.integers().map(lambda i: Raw(str(i))),
    st.floats().map(lambda f: Raw(repr(f))), st.text(max_size=40).map(json.dumps).map(Raw),
    st.text(max_size=20).map(Raw), st.booleans(), st.none())
SOURCES = [file.read_text() for file in
           sorted(Path(__file__).parents[2].glob("experiments/**/*.yaml"))] + [FULL]


@st.composite
def mutants(draw: st.DrawFn) -> tuple[bytes, list[str]]:
    """The bytes of a file, and values for `--set`."""
    node = tree(draw(st.sampled_from(SOURCES)))
    keys = [".".join(str(c[i][0]) for c, i in [place]) for place in places(node)
            if isinstance(place[0][place[1]], tuple)]
    for _ in range(draw(st.sampled_from([0, 1, 1, 1, 2, 3]))):
        mutate(node, draw)
    content = (emit(node) + "\n").encode(errors="surrogatepass")
    for _ in range(draw(st.sampled_from([0, 0, 0, 1, 2]))):
        content = scribble(content, draw)
    if draw(st.integers(0, 19)) == 0:
        content = content.decode(errors="replace").encode(
            draw(st.sampled_from(CODECS)), errors="replace")
    settings = []
    for _ in range(draw(st.sampled_from([0, 0, 0, 1, 2]))):
        key = draw(st.one_of(st.lists(st.sampled_from(keys or ["x"]), min_size=1, max_size=3)
                             .map(".".join), st.text(max_size=10)))
        settings.append(f"{key}={emit(draw(payloads), 2)}")
    return content, settings


def mutate(node: Map, draw: st.DrawFn) -> None:
    """Change one place of the tree."""
    spots = list(places(node))
    if not spots:
        return
    below, index = draw(st.sampled_from(spots))
    item = below[index]
    paired = isinstance(item, tuple)
    value = item[1] if paired else item

    def put(new: Any) -> None:
        below[index] = (item[0], new) if paired else new

    match draw(st.sampled_from(["delete", "double", "replace", "replace", "replace", "key", "swap",
                                "nest", "graft", "retype"])):
        case "delete":
            del below[index]
        case "double":
            below.insert(draw(st.integers(0, len(below))), item)
        case "replace":
            put(draw(payloads))
        case "key" if paired:
            below[index] = (draw(payloads), value)
        case "swap":
            other, at = draw(st.sampled_from(spots))
            if isinstance(other[at], tuple) == paired:
                below[index], other[at] = other[at], below[index]
        case "nest":
            before, after = draw(st.sampled_from(["[]", ("{name: ", "}"), ("{a: ", "}")]))
            times = draw(st.sampled_from([1, 2, 40, 400]))
            put(Raw(before * times + emit(value, 2) + after * times))
        case "graft":
            other, at = draw(st.sampled_from(spots))
            put(Raw(emit(other[at][1] if isinstance(other[at], tuple) else other[at], 2)))
        case "retype":
            put(Raw(draw(st.sampled_from(["!!str ", "!!int ", "!!float ", "!!bool ", "!!null ",
                                          "!!map ", "!!seq ", "!own ", "&a "])) + emit(value, 2)))


def scribble(content: bytes, draw: st.DrawFn) -> bytes:
    """Change some bytes."""
    at = draw(st.integers(0, len(content)))
    to = min(len(content), at + draw(st.integers(0, 30)))
    match draw(st.sampled_from(["insert", "cut", "twice", "flip", "tabs", "end"])):
        case "insert":
            return content[:at] + draw(st.sampled_from(NOISE)) + content[at:]
        case "cut":
            return content[:at] + content[to:]
        case "twice":
            return content[:to] + content[at:]
        case "flip":
            return content[:at] + bytes(b ^ draw(st.integers(1, 255)) for b in content[at:at + 1]
                                        ) + content[at + 1 :]
        case "tabs":
            return content.replace(b"  ", b"\t")
    return content[:at]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data root with a folder of pictures, of which only names and sizes matter here."""
    folder = tmp_path_factory.mktemp("data")
    (folder / "pictures").mkdir()
    for i in range(60):
        (folder / "pictures" / f"{i}.png").write_bytes(b"x" * i)
    return folder


def check(folder: Path, data: Path, content: bytes, overrides: list[str]) -> ExperimentSpec | None:
    """Load a file; return its specification, or None after checking how it was refused."""
    file = folder / "x.yaml"
    file.write_bytes(content)
    (folder / "given.safetensors").write_bytes(GIVEN)
    try:
        with within(SECONDS):
            spec = load_experiment(file, data, overrides)
    except SpecError as error:
        refused = error
    else:
        assert len({run.id for run in spec.runs}) == len(spec.runs) >= 1
        assert spec.declared.baseline in spec.variants
        for run in spec.runs[0], spec.runs[-1]:
            written = run.write(folder)
            assert written == folder / "runs" / spec.name / run.id
            assert read_spec(written) == run
        plan.plan_text(spec, folder).encode()
        return spec
    assert str(refused).splitlines() == refused.lines != []
    for line in refused.lines:
        assert line.isprintable(), line
        assert len(line) < 2_000, line[:200]
        assert PLACE.match(line.removeprefix(f"{folder}/")), line[:200]
    return None

@pytest.mark.parametrize("text", SOURCES)
def test_what_is_mutated_is_valid(tmp_path: Path, data: Path, text: str) -> None:
    assert check(tmp_path, data, text.encode(), [])
    assert check(tmp_path, data, emit(tree(text)).encode(), [])


def test_one_of_them_has_every_key() -> None:
    file = YAML(typ="safe", pure=True).load(FULL)
    # `search` has seeds of its own, and is in a file that comes with the program.
    assert set(file) == set(ExperimentFile.model_fields) - {"search"}
    assert set(file["base"]) == {*RunSettings.model_fields, "optimizer"}
    assert set(file["evaluate"]) == set(EvaluateSpec.model_fields)
    assert set(file["compute"]) == set(ComputeSpec.model_fields)
    assert set(file["cluster"]) == set(ClusterSpec.model_fields)


@settings(deadline=None, suppress_health_check=list(HealthCheck), database=None)
@given(mutants())
def test_a_mutant_is_a_specification_or_lines_with_places(
        data: Path, mutant: tuple[bytes, list[str]]) -> None:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with tempfile.TemporaryDirectory() as folder:
        check(Path(folder), data, *mutant)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < MEGABYTES * 1024


HOSTILE = {
    "laughing lists": (laughs("[", "]"), "x.yaml:1:10: more than 100,000 values, aliases counted"),
    "laughing mappings": ("a0: &a0 {x: 1}\n" + "".join(
        f"a{i}: &a{i} {{{', '.join(f'k{j}: *a{i - 1}' for j in range(9))}}}\n"
        for i in range(1, 40)), "x.yaml:1:13: more than 100,000 values"),
    "laughing merges": ("a0: &a0 {x: 1}\n" + "".join(
        f"a{i}: &a{i} {{<<: [{', '.join([f'*a{i - 1}'] * 9)}]}}\n" for i in range(1, 40)),
        "more than 100,000 values"),
    "laughing keys": ("a0: &a0 [x]\n" + "".join(
        f"a{i}: &a{i}\n  ? [{', '.join([f'*a{i - 1}'] * 9)}]\n  : 1\n" for i in range(1, 40)),
        "x.yaml:3:5: the key is not a string"),
    "laughing top": ("- &a0 [x]\n" + "".join(
        f"- &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]\n" for i in range(1, 40)),
        "more than 100,000 values"),
    "laughing sets": (laughs("!!set {", "}"), "x.yaml:1:5: the tag 'tag:yaml.org,2002:set'"),
    "itself": ("a: &a [*a]\n", "x.yaml:1:4: nested too deeply"),
    "itself, merged": ("a: &a {<<: *a}\n", "x.yaml:1:4: nested too deeply"),
    "lists": ("[" * 199_000, "nested too deeply"),
    "mappings": ("{a: " * 49_000, "nested too deeply"),
    "dashes": ("- " * 99_000, "nested too deeply"),
    "python": ("name: !!python/object/apply:os.system [touch ran]\n",
               "x.yaml:1:7: the tag 'tag:yaml.org,2002:python/object/apply:os.system' is not"),
    "long": ("name: " + "x" * 200_000, "x.yaml: has more than 200,000 bytes"),
    "digits": ("seeds: [" + "9" * 5_000 + "]\n", "x.yaml:1:9: 99999999999999999999 is too large"),
    "hexadecimal digits": ("seeds: [0x" + "f" * 5_000 + "]\n", "x.yaml:1:9: 0xffffffffffffffffff "),
    "seeds": ("seeds: [" + "1," * 30_000 + "]\nname: x\ndataset: digits", "1 is given twice"),
    "runs": (FULL.replace("seeds: [0, 1,", f"seeds: [{', '.join(map(str, range(10_000)))},")
             .replace("exclude:", f"log_every: {list(range(1, 500))}\n  exclude:"),
             "seeds: 2,995 variants × 10,001 seeds are more than 100,000 runs"),
    "errors": (FULL.replace("[saturating, non_saturating]", f"{[f'l{i}' for i in range(4_000)]}")
               .replace("exclude: [{loss: saturating", "exclude: [{loss: l0"),
               "there are more errors than these"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_what_would_take_for_ever_is_refused_at_once(tmp_path: Path, data: Path, name: str) -> None:
    """Each within the seconds and the memory of any other file, and in few lines."""
    text, words = HOSTILE[name]
    (tmp_path / "x.yaml").write_text(text)
    (tmp_path / "given.safetensors").write_bytes(GIVEN)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with within(SECONDS), pytest.raises(SpecError) as caught:
        load_experiment(tmp_path / "x.yaml", data)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < MEGABYTES * 1024
    assert words in str(caught.value).replace(f"{tmp_path}/", "")
    assert len(caught.value.lines) <= 101
    assert all(len(line) < 1_000 for line in caught.value.lines)


def plan_of(folder: Path, file: object, *more: str) -> subprocess.CompletedProcess[str]:
    """Run `gan-bench plan` with two gigabytes of memory."""
    command = [sys.executable, "-m", "gan_bench", "plan", str(file), "--root", "root", *more]
    return subprocess.run(
        command, capture_output=True, text=True, check=False, timeout=60, cwd=folder,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_AS, (2 << 30, 2 << 30)))


@pytest.mark.parametrize(("content", "words"), [
    (laughs("[", "]").encode(), "x.yaml:1:10: more than 100,000 values"),
    (b"[" * 10_000, "x.yaml:1:1: nested too deeply"),
    (b"name: !!python/object/apply:os.system [touch ran]\n", "x.yaml:1:7: the tag"),
    (b'name: "a\\nb\\e[2J"\n', "x.yaml:1:7: the character '\\x1b' is not allowed in text"),
    (b'"\\ud800": 1\n', "x.yaml:1:1: the character '\\ud800' is not allowed in text"),
    (b"\xff\xfe\0", "x.yaml:1:1: the byte 0xff is not UTF-8; save the file as UTF-8"),
    ("name: x\n".encode("utf-16"), "x.yaml:1:1: the byte 0xff is not UTF-8"),
    (b"name: x\nquestion: \xc3\xa9 caf\xe9\n", "x.yaml:2:16: the byte 0xe9 is not UTF-8"),
    (b"\xef\xbb\xbfname: \xe9\n", "x.yaml:1:7: the byte 0xe9 is not UTF-8"),
    (b"name: x\0\n", "x.yaml:1:1: not valid YAML: unacceptable character #x0000"),
    (b'"a\\nb\\tc": 1\n', "x.yaml:1:1: a\\nb\\tc: unknown key"),
])
def test_the_command_says_it_in_a_line_and_ends_with_2(tmp_path: Path, content: bytes, words: str,
                                                       ) -> None:
    (tmp_path / "x.yaml").write_bytes(content)
    done = plan_of(tmp_path, "x.yaml")
    assert (done.returncode, done.stdout) == (2, "")
    assert words in done.stderr
    assert all(PLACE.match(line.removeprefix("error: ")) for line in done.stderr.splitlines())
    assert sorted(path.name for path in tmp_path.iterdir()) == ["x.yaml"]


@pytest.mark.parametrize(("file", "more", "words"), [
    ("/dev/zero", [], "/dev/zero: has more than 200,000 bytes"),
    (".", [], ".: is a folder; give one of its files: x.yaml"),
    ("x.yaml", ["--set", "base.model=" + "[" * 5_000], "the value is not valid YAML: nested too "
     "deeply"),
    ("x.yaml", ["--set", "a." * 5_000 + "a=1"], "write it as a.b=value"),
    ("x.yaml", ["--set", "\x1b]0;a=1"], "--set \\x1b]0;a=1: \\x1b]0;a: unknown key"),
    ("x.yaml", ["--set", "name=!!python/name:os.system"], "the tag "),
    ("x.yaml", ["--set", "seeds=&a [*a]"], "nested too deeply"),
    ("x.yaml", ["--set", "dataset={name: image_folder, path: ~no-one/x, image_size: 8}"], "home"),
])
def test_what_is_no_file_and_what_is_set(tmp_path: Path, file: str, more: list[str], words: str,
                                         ) -> None:
    (tmp_path / "x.yaml").write_text(SOURCES[0])
    done = plan_of(tmp_path, file, *more)
    assert (done.returncode, done.stdout) == (2, "")
    assert len(done.stderr.splitlines()) == 1
    assert done.stderr.isascii() or done.stderr.strip().isprintable()
    assert words in done.stderr
