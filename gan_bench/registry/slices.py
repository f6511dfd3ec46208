"""Which statements of a plug-in file stand behind one of its parts.

So that another metric in the same file retrains no run that uses its loss. A statement is left out
only if it can change nothing else: a registered factory of another part, and functions, classes,
plain constants and imports that nothing which remains names. Where that
cannot be told, the whole file counts.
"""

from __future__ import annotations

import ast
from collections.abc import Iterable, Mapping, Sequence

# The registries by the kinds of their entries.
REGISTRIES = {"dataset": "DATASETS", "model": "MODELS", "loss": "LOSSES", "penalty": "PENALTIES",
              "optimizer": "OPTIMIZERS", "extractor": "EXTRACTORS", "metric": "METRICS",
              "augmentation": "AUGMENTATIONS"}
# Names by which code may reach others that it does not spell out.
DYNAMIC = {"globals", "locals", "vars", "eval", "exec", "__import__", "import_module", "getmembers"}
Function = ast.FunctionDef | ast.AsyncFunctionDef


def statements_of(tree: ast.Module, kind: str, name: str,
                  beside: Mapping[str, Sequence[ast.AST]]) -> list[ast.stmt]:
    """Return the statements behind a part; all of the module where that cannot be told.

    Args:
        tree: The plug-in file.
        kind, name: Of the part.
        beside: The files of each module beside it that it imports.
    """
    roots = [s for s in tree.body if (REGISTRIES[kind], name) in _registrations(s)]
    if not roots or _names(tree.body) & DYNAMIC or any(map(_imports_all, tree.body)):
        return tree.body
    own_names, acting = _own_names(tree.body, {*beside}), _acting(beside)
    kept = {id(s) for s in tree.body if s in roots or not _is_optional(s, own_names, acting)}
    while True:
        names = _names(s for s in tree.body if id(s) in kept)
        needed = {id(s) for s in tree.body if set(_bound(s)) & names} - kept
        if not needed:
            return [s for s in tree.body if id(s) in kept]
        kept |= needed


def imported_modules(nodes: Iterable[ast.AST]) -> set[str]:
    """Return the first part of the name of each module that code imports, anywhere within."""
    return {module for node in nodes for inner in ast.walk(node) for module in _modules(inner)}


def _modules(node: ast.AST) -> set[str]:
    """Return the first parts of the names of the modules that a statement or a call imports."""
    names: list[str] = []
    if isinstance(node, ast.Call) and node.args and isinstance(node.args[0], ast.Constant):
        called = node.func.id if isinstance(node.func, ast.Name) else getattr(node.func, "attr", "")
        if called in ("import_module", "__import__"):
            names = [str(node.args[0].value).lstrip(".")]
    if isinstance(node, ast.Import):
        names = [alias.name for alias in node.names]
    elif isinstance(node, ast.ImportFrom):
        names = [node.module] if node.module else [alias.name for alias in node.names]
    return {name.partition(".")[0] for name in names}


def _own_names(body: Iterable[ast.stmt], beside: set[str]) -> set[str]:
    """Return the names in a module that are not those of installed packages."""
    return {name for s in body if not isinstance(s, ast.Import | ast.ImportFrom)
            or _modules(s) & beside for name in _bound(s)}


def _acting(beside: Mapping[str, Sequence[ast.AST]]) -> set[str]:
    """Return the modules beside a file whose import does more than to bind names."""
    acting: set[str] = set()
    while True:
        more = {module for module, files in beside.items() if module not in acting and not all(
            isinstance(file, ast.Module) and not any(map(_imports_all, file.body))
            and all(_is_optional(s, _own_names(file.body, {*beside}), acting) for s in file.body)
            for file in files)}
        if not more:
            return acting
        acting |= more


def _is_optional(s: ast.stmt, own_names: set[str], acting: set[str]) -> bool:
    """Whether a statement changes nothing if nothing names what it binds."""
    if isinstance(s, ast.Import | ast.ImportFrom):
        return not _modules(s) & {*acting, "__future__"}
    if isinstance(s, Function):
        defaults = [*s.args.defaults, *(d for d in s.args.kw_defaults if d is not None)]
        return len(_registrations(s)) == len(s.decorator_list) and not _calls(defaults)
    if isinstance(s, ast.ClassDef):  # a base of the user's may count its subclasses
        return not s.decorator_list and not s.keywords and not _names(s.bases) & own_names
    if isinstance(s, ast.Assign | ast.AnnAssign):
        return bool(_bound(s)) and (s.value is None or not _calls([s.value]))
    return isinstance(s, ast.Expr) and isinstance(s.value, ast.Constant)  # a docstring


def _registrations(s: ast.stmt) -> list[tuple[str, str]]:
    """Return (registry, name) for each decorator of a function that registers it."""
    found: list[tuple[str, str]] = []
    for call in s.decorator_list if isinstance(s, Function) else []:
        if not (isinstance(call, ast.Call) and isinstance(call.func, ast.Attribute)
                and call.func.attr == "register" and call.args):
            continue
        holder, name = call.func.value, call.args[0]
        registry = holder.id if isinstance(holder, ast.Name) else getattr(holder, "attr", "")
        if registry in REGISTRIES.values() and isinstance(name, ast.Constant):
            found.append((registry, str(name.value)))
    return found


def _bound(s: ast.stmt) -> list[str]:
    """Return the names that a statement binds; none if it may do more than that."""
    if isinstance(s, Function | ast.ClassDef):
        return [s.name]
    if isinstance(s, ast.Import | ast.ImportFrom):
        return [alias.asname or alias.name.partition(".")[0] for alias in s.names]
    targets: list[ast.expr] = []
    if isinstance(s, ast.Assign):
        targets = s.targets
    elif isinstance(s, ast.AnnAssign):
        targets = [s.target]
    names = [target.id for target in targets if isinstance(target, ast.Name)]
    return names if len(names) == len(targets) else []


def _imports_all(s: ast.stmt) -> bool:
    return isinstance(s, ast.ImportFrom) and any(alias.name == "*" for alias in s.names)


def _names(nodes: Iterable[ast.AST]) -> set[str]:
    """Return every name in the code; words in strings too, which annotations may be.

    A string that stands alone, as docstrings do, names nothing.
    """
    names: set[str] = set()
    alone: set[int] = set()
    for node in nodes:
        for inner in ast.walk(node):  # a statement comes before what it consists of
            if isinstance(inner, ast.Expr):
                alone.add(id(inner.value))
            elif isinstance(inner, ast.Name):
                names.add(inner.id)
            elif isinstance(inner, ast.Attribute):
                names.add(inner.attr)
            elif isinstance(inner, ast.Global):
                names |= {*inner.names}
            elif (isinstance(inner, ast.Constant) and isinstance(inner.value, str)
                  and id(inner) not in alone):
                names |= {*inner.value.replace("[", " ").replace("]", " ").split()}
    return names


def _calls(nodes: Iterable[ast.AST]) -> bool:
    return any(isinstance(inner, ast.Call | ast.Await | ast.NamedExpr)
               for node in nodes for inner in ast.walk(node))
