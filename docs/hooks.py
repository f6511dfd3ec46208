"""What MkDocs does beside its plug-ins: pages from the repository's root, no foreign address."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).resolve().parents[1]
# Files of the repository's root that are pages of the site, by their links in docs/.
OUTSIDE = {"../CHANGELOG.md": "changelog.md", "../CONTRIBUTING.md": "contributing.md",
           "../benchmarks/README.md": "benchmarks.md"}
# What a browser fetches by itself, unlike a link that a reader follows.
FETCHED = re.compile(r"""<(?:script|img|link|iframe|source|video|audio|embed|object)\b[^>]*?
                         \b(?:src|href|data)\s*=\s*["']?((?:https?:)?//[^"'\s>]+)""",
                     re.VERBOSE | re.IGNORECASE)
NOT_FETCHED = re.compile(
    r"""<link\b[^>]*\brel\s*=\s*["']?(?:canonical|alternate|next|prev)\b[^>]*>""", re.IGNORECASE)
FETCHED_BY_STYLES = re.compile(r"""(?:url\(|@import)\s*["']?((?:https?:)?//[^"')\s]+)""")


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages whose text lies outside docs/."""
    for link, name in OUTSIDE.items():
        text = (ROOT / link.removeprefix("../")).read_text("utf-8")
        files.append(File.generated(config, name, content=text))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Let links to files outside docs/ lead to their pages."""
    if page.file.src_uri in OUTSIDE.values():  # its links start in the repository's root
        return markdown.replace("](docs/", "](")
    depth = page.file.src_uri.count("/")
    for link, name in OUTSIDE.items():
        markdown = markdown.replace(f"]({'../' * depth}{link}", f"]({'../' * depth}{name}")
    return markdown


def fetched_from_elsewhere(text: str) -> list[str]:
    """Return the addresses of other hosts that a browser fetches with a page or a style sheet."""
    without_links = NOT_FETCHED.sub("", text)
    return [*FETCHED.findall(without_links), *FETCHED_BY_STYLES.findall(text)]


def on_post_build(config: MkDocsConfig, **_: Any) -> None:
    """Refuse a site that cannot be read without a network.

    Raises:
        PluginError: A page or a style sheet fetches something from another host.
    """
    problems = []
    for file in sorted(Path(config.site_dir).rglob("*")):
        if file.suffix in (".html", ".css"):
            problems += [f"{file.relative_to(config.site_dir)}: {address}"
                         for address in fetched_from_elsewhere(file.read_text("utf-8"))]
    if problems:
        raise PluginError("the site fetches from elsewhere:\n" + "\n".join(problems))
