"""The documentation's pages: links, generated pages, and pictures as old as their numbers."""

from __future__ import annotations

import csv
import json
import re
import runpy
import shutil
from collections.abc import Callable
from configparser import ConfigParser
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

import gan_bench
from gan_bench.cli.planning.schema import json_schema

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
README = ROOT / "README.md"
MAX_README = 120
PAGES = [README, ROOT / "CONTRIBUTING.md", *sorted(DOCS.glob("*.md")),
         DOCS / "mnist_saturation" / "README.md"]


def script(name: str) -> dict[str, Any]:
    """Return what a script of docs/ defines."""
    return runpy.run_path(str(DOCS / f"{name}.py"))


def test_the_readme_is_short_and_names_every_page() -> None:
    text = README.read_text("utf-8")
    assert len(text.splitlines()) <= MAX_README
    assert 'make test' in text  # the command of the tests, as continuous integration runs it
    linked = set(re.findall(r"\]\(docs/(\w+\.md)\)", text))
    assert {page.name for page in DOCS.glob("*.md")} - linked == {"index.md"}


def test_every_page_is_in_the_navigation_of_the_site() -> None:
    text = (ROOT / "mkdocs.yml").read_text("utf-8")
    described = YAML(typ="safe", pure=True).load(text)
    named = set(re.findall(r"[\w/]+\.md", json.dumps(described["nav"])))
    outside = set(script_outside().values())
    assert named == outside | {str(page.relative_to(DOCS)) for page in PAGES
                               if page.is_relative_to(DOCS)}
    assert described["theme"]["font"] is False
    assert described["strict"] is True
    for link, name in script_outside().items():
        assert (DOCS / link).resolve().exists(), name


def script_outside() -> dict[str, str]:
    """Return the pages that docs/hooks.py makes of files outside docs/."""
    found = re.search(r"(?s)^OUTSIDE = (\{.*?\})", (DOCS / "hooks.py").read_text("utf-8"), re.M)
    assert found is not None
    pages: dict[str, str] = YAML(typ="safe", pure=True).load(found[1])
    assert len(pages) == 3
    return pages


def anchors_of(page: Path) -> set[str]:
    """Return the anchors of a page's headings, as GitHub and MkDocs make them."""
    text = re.sub(r"(?ms)^( *)```.*?^\1```$", "", page.read_text("utf-8"))
    anchors = set()
    for heading in re.findall(r"(?m)^#+ (.+)$", text):
        words = re.sub(r"[^\w\s-]", "", heading.lower()).strip()
        anchors.add(re.sub(r"[\s-]+", "-", words))
    return anchors | set(re.findall(r"(?m)^::: (\S+)", text))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    for link in re.findall(r"\]\(([^)\s]+)\)", page.read_text("utf-8")):
        if link.startswith("https://"):
            continue
        name, _, anchor = link.partition("#")
        target = (page.parent / name).resolve() if name else page
        assert target.exists(), link
        assert not anchor or anchor in anchors_of(target), link


def test_the_page_of_keys_is_that_of_the_schema() -> None:
    write: Callable[[Any], str] = script("keys")["keys_page"]
    schema = json.loads((ROOT / "experiments" / "schema.json").read_text("utf-8"))
    page = (DOCS / "keys.md").read_text("utf-8")
    assert page == write(schema), "run `python docs/keys.py`"
    before = schema["properties"]["seeds"]["description"]
    schema["properties"]["seeds"]["description"] = "another"
    assert write(schema) == page.replace(before, "another")


def test_every_key_has_a_line_that_says_what_it_is() -> None:
    schema = json_schema()
    tables = [schema["properties"], *(part["properties"] for part in schema["$defs"].values())]
    page = (DOCS / "keys.md").read_text("utf-8")
    for table in tables:
        for key, node in table.items():
            words = " ".join(node["description"].split("\n\n")[0].split())
            assert words, key
            assert [line for line in page.splitlines()
                    if line.startswith(f"| `{key}` |") and line.endswith(f"| {words} |")], key


def test_the_python_page_shows_every_public_name() -> None:
    text = (DOCS / "api.md").read_text("utf-8")
    shown = set(re.findall(r"(?m)^::: gan_bench\.(\w+)$", text))
    registries = {name for name in gan_bench.__all__ if name.isupper()}
    assert shown == set(gan_bench.__all__) - registries
    assert {name for name in registries if f"`{name}`" not in text} == set()


def pictures_in(pages: list[Path]) -> set[str]:
    """Return the pictures of docs/ that pages show."""
    return {Path(name).name for page in pages
            for name in re.findall(r"!\[[^\]]*\]\(([^)\s]+\.png)\)", page.read_text("utf-8"))}


def test_no_picture_is_older_than_the_numbers_beside_it() -> None:
    digest: Callable[[Path], str] = script("screenshots")["digest"]
    record = json.loads((DOCS / "pictures.json").read_text("utf-8"))
    numbers = DOCS / record["numbers"]
    assert digest(numbers) == record["digest"], (
        f"{', '.join(record['pictures'])} are older than {numbers}: "
        f"gan-bench run dcgan_vs_mlp --root ROOT, then {record['command']}")
    assert pictures_in(PAGES) == set(record["pictures"])
    assert all((DOCS / name).exists() for name in record["pictures"])


def test_a_picture_gets_old_when_a_number_changes(tmp_path: Path) -> None:
    digest: Callable[[Path], str] = script("screenshots")["digest"]
    record = json.loads((DOCS / "pictures.json").read_text("utf-8"))
    copy = Path(shutil.copy(DOCS / record["numbers"], tmp_path))
    rows = copy.read_text("utf-8").splitlines()
    column = rows[0].split(",").index("mean")
    for change, is_same in ((1 + 1e-9, True), (1.01, False)):
        cells = rows[1].split(",")
        cells[column] = str(float(cells[column]) * change)
        copy.write_text("\n".join([rows[0], ",".join(cells), *rows[2:]]) + "\n", "utf-8")
        assert (digest(copy) == record["digest"]) is is_same


def test_the_readmes_table_has_the_numbers_of_its_pictures() -> None:
    record = json.loads((DOCS / "pictures.json").read_text("utf-8"))
    with (DOCS / record["numbers"]).open(newline="", encoding="utf-8") as file:
        leading = [row for row in csv.DictReader(file) if row["score"] == "fd_classifier"]
    rows = re.findall(r"(?m)((?:mlp|dcgan)-\w+) +([\d.]+) \[([\d.]+), ([\d.]+)\]",
                      README.read_text("utf-8"))
    assert len(rows) == len(leading) == 4
    numbers = {row["variant"]: row for row in leading}
    for variant, *texts in rows:
        for name, text in zip(("mean", "mean_low", "mean_high"), texts, strict=True):
            assert text == rounded(float(numbers[variant][name]), text), (variant, name)


def rounded(value: float, text: str) -> str:
    """Return a value with as many decimal places as a text."""
    return f"{value:.{len(text.partition('.')[2])}f}"


def test_what_a_page_fetches_from_elsewhere_is_seen() -> None:
    pytest.importorskip("mkdocs")
    fetched: Callable[[str], list[str]] = script("hooks")["fetched_from_elsewhere"]
    for text in ('<script src="https://a.example/x.js"></script>',
                 "<link href='//a.example/x.css' rel=stylesheet>", "<img src=http://a.example/x.png>",
                 "@import 'https://a.example/x.css'", "body {background: url(https://a.example/x)}"):
        assert len(fetched(text)) == 1, text
    for text in ('<a href="https://a.example">link</a>', '<script src="assets/x.js"></script>',
                 '<link rel="canonical" href="https://a.example/">',
                 "body {background: url(x.png)}"):
        assert fetched(text) == [], text


def test_the_environment_of_make_can_build_the_site() -> None:
    described = ConfigParser()
    described.read(ROOT / "setup.cfg")
    names = [line.split("[")[0] for line in
             described["options.extras_require"]["docs"].split("\n") if line]
    assert "mkdocs-material" in names
    pinned = (ROOT / "constraints.txt").read_text().lower().replace("_", "-")
    for name in [*names, "mkdocs", "mkdocstrings-python", "griffelib"]:
        assert re.search(rf"(?m)^{name}==", pinned), name
    assert "[test,dev,docs,ray]" in (ROOT / "Makefile").read_text()
