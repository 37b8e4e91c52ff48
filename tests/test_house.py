"""The rules of the house: imports, public names, what is loaded, what is never written."""

from __future__ import annotations

import ast
import json
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from graphlib import TopologicalSorter
from importlib import import_module
from pathlib import Path

import pytest

import headstart
from headstart.options import DEFAULT_BACKBONE

ROOT = Path(__file__).resolve().parents[1]
SOURCE = ROOT / "src" / "headstart"
TESTS = ROOT / "tests"

# Each module imports from tiers above its own and, as the notes say, from its own.
TIERS = (
    ("errors",),
    ("files",),
    ("intervals", "store"),  # neither of the other
    ("cache", "inputspec", "log", "memory", "metrics"),  # none of each other
    ("backbones", "data", "strategy"),  # none of each other; a package, its own modules
    ("options", "training"),  # neither of the other; a package, its own modules
    (  # each other, not in circles
        *(
            "bundle",
            "card",
            "catalogue",
            "classifier",
            "embedding",
            "evaluation",
            "figures",
            "fitting",
        ),
        *("adjust", "checkpointing", "clock", "difference", "division", "feeding", "images"),
        "judging",
        *("labelled", "machine", "phases", "plan_text", "prediction", "resuming", "sizing"),
        "solving",
        *("matrix", "outcome", "page", "plan", "report", "run", "sklearn"),
        *("comparing", "comparison", "comparison_page", "lineup", "scatter", "significance"),
        *("costs", "measuring", "trial"),
        *("study", "study_text", "trust", "verdict"),
        *("curves", "markup", "panels", "png", "scales", "training_text"),
        *("rate_figure", "rate_finding"),
        *(
            "audit",
            "feature_neighbours",
            "file_facts",
            "label_errors",
            "near_copies",
            "out_of_fold",
        ),
        *("outliers", "overlap", "shortcuts"),
        *("label_lint", "lint_result", "linting", "normalisation", "phase_guard", "preparation"),
        "rehearsal",
        *("candidates", "probe_difference", "probe_neighbours", "probe_sample", "probe_score"),
        *("probe_symmetry", "probe_views", "probing", "ranking"),
        *("ascent", "auto", "choice", "decided", "decided_text", "forecast", "planning"),
        "proposing",
        *("check_page", "check_sections", "check_text", "checking", "fixed_table", "fixing"),
    ),
    (  # each other, not in circles
        *("__main__", "cli", "cli_cache", "cli_check", "cli_compare", "cli_fit", "cli_models"),
        *("cli_options", "cli_plan", "cli_predict", "cli_values"),
        "console",
    ),
)
SOCIABLE = TIERS[-2:]

# Modules that never load torch, themselves or through what they import.
LIGHT = (
    *("cache", "console", "errors", "figures", "files", "inputspec", "log", "matrix"),
    *("intervals", "memory", "metrics", "options", "page", "report", "run", "store"),
    *("clock", "data", "difference", "division", "prediction", "strategy"),
    *("curves", "markup", "panels", "png", "rate_figure", "scales", "training_text"),
    *("check_page", "check_sections", "check_text", "checking", "fixed_table", "fixing"),
)
HEAVY = ("torch", "numpy", "timm", "keras", "sklearn", "PIL")

# Tests that are not those of one module, and the folder of those that go through many.
ACROSS = {
    *("test_docs", "test_faults", "test_golden", "test_golden_training", "test_house"),
    *("test_bad_files", "test_own_weights", "test_real_data", "test_resume", "test_ways_in"),
}
CONTRACTS = TESTS / "contracts"
# Modules of plain data, with nothing in them to test.
PLAIN = {"data.objects.given_rows", "data.items", "data.reading"}


def modules() -> dict[str, Path]:
    """Return the files of our modules by dotted name, ``headstart.`` left away."""
    found = {}
    for path in sorted(SOURCE.rglob("*.py")):
        parts = path.relative_to(SOURCE).with_suffix("").parts
        if parts != ("__init__",):
            found[".".join(parts).removesuffix(".__init__")] = path
    return found


MODULES = modules()


def imports(tree: ast.AST, *, for_types: bool = True) -> Iterator[str]:
    """Yield what a module imports of ours, ``headstart.`` left away, wherever it does it.

    Args:
        tree: The module.
        for_types: Whether to look into ``if TYPE_CHECKING`` as well.
    """
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING" and not for_types:
            continue
        if isinstance(node, ast.ImportFrom):
            yield from _imported(node)
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
            yield from (n.removeprefix("headstart.") for n in names if n.startswith("headstart."))
        else:
            yield from imports(node, for_types=for_types)


def _imported(node: ast.ImportFrom) -> Iterator[str]:
    package, _, module = (node.module or "").partition(".")
    if node.level or package != "headstart":
        assert not node.level, "imports are absolute"
        return
    for alias in node.names:
        name = f"{module}.{alias.name}".removeprefix(".")
        if name in MODULES:
            yield name
        elif module:
            yield module
        else:
            assert alias.name == "__version__", f"{alias.name} has a home of its own"


def tree_of(name: str) -> ast.Module:
    return ast.parse(MODULES[name].read_text("utf-8"))


def tier_of(name: str) -> int:
    return next(number for number, tier in enumerate(TIERS) if name.partition(".")[0] in tier)


def run_python(program: str, *arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", program, *arguments], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def texts() -> Iterator[tuple[Path, str]]:
    """Yield every text of the repository that is not made by a tool."""
    made = {".git", ".venv", "__pycache__", "runs", "build", "dist", "node_modules"}
    for path in sorted(ROOT.rglob("*")):
        parts = path.relative_to(ROOT).parts
        if made & set(parts) or any(re.fullmatch(r"\..*_cache|\.hypothesis", p) for p in parts):
            continue
        if path.is_file() and path.stat().st_size < 1 << 20:
            content = path.read_bytes()
            if b"\0" not in content:
                yield path.relative_to(ROOT), content.decode("utf-8", "replace")


# Who imports whom


def test_every_module_has_a_place_and_every_place_a_module() -> None:
    assert {name.partition(".")[0] for name in MODULES} == {name for t in TIERS for name in t}


@pytest.mark.parametrize("name", MODULES)
def test_imports_go_down_only(name) -> None:
    own = name.partition(".")[0]
    for other in imports(tree_of(name)):
        above = tier_of(other) < tier_of(name)
        sociable = TIERS[tier_of(name)] in SOCIABLE and tier_of(other) == tier_of(name)
        assert above or sociable or other.partition(".")[0] == own, f"{name} imports {other}"


def test_no_imports_go_in_circles() -> None:
    graph = {name: set(imports(tree_of(name), for_types=False)) - {name} for name in MODULES}
    assert len(list(TopologicalSorter(graph).static_order())) == len(MODULES)


def test_imports_are_found_wherever_they_are() -> None:
    program = """
import headstart.cache
from headstart import __version__, bundle
if TYPE_CHECKING:
    from headstart.report import Report
def later():
    from headstart.strategy import presets
    from headstart.strategy.phase import HEAD
"""
    found = ["cache", "bundle", "report", "strategy.presets", "strategy.phase"]
    assert list(imports(ast.parse(program))) == found
    assert "report" not in list(imports(ast.parse(program), for_types=False))
    with pytest.raises(AssertionError):
        list(imports(ast.parse("from headstart import fit")))
    with pytest.raises(AssertionError):
        list(imports(ast.parse("from . import files")))


# What is public


def test_all_public_names_have_a_home_and_can_be_imported() -> None:
    assert set(headstart.__all__) == set(headstart._HOMES) | {"__version__"}
    assert dir(headstart) == sorted(headstart.__all__)
    for name, home in headstart._HOMES.items():
        value = getattr(headstart, name)
        assert value.__module__ == f"headstart.{home}"
        assert value.__name__ == name
        assert name in import_module(f"headstart.{home}").__all__


def test_type_checkers_see_the_same_public_names() -> None:
    tree = ast.parse((SOURCE / "__init__.py").read_text("utf-8"))
    block = next(node for node in tree.body if isinstance(node, ast.If))
    seen = {alias.name: node.module for node in block.body for alias in node.names}
    assert seen == {name: f"headstart.{home}" for name, home in headstart._HOMES.items()}


def test_a_name_that_is_not_public_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="nothing"):
        headstart.nothing  # noqa: B018


@pytest.mark.parametrize(
    "name", [n for n, path in MODULES.items() if path.stem not in ("__init__", "__main__")]
)
def test_every_module_names_what_is_public(name) -> None:
    module = import_module(f"headstart.{name}")
    assert module.__all__
    assert all(hasattr(module, public) for public in module.__all__)
    assert not [public for public in module.__all__ if public.startswith("_")]
    assert module.__doc__


def test_the_default_backbone_is_the_zoos() -> None:
    from headstart.backbones import zoo

    assert zoo.DEFAULT == DEFAULT_BACKBONE


# What is loaded


def test_importing_headstart_loads_nothing_heavy() -> None:
    program = "import json, sys, headstart; print(json.dumps(list(sys.modules)))"
    loaded = set(json.loads(run_python(program)))
    assert loaded & {*HEAVY, "headstart.cli"} == set()
    assert "headstart" in loaded


@pytest.mark.parametrize("arguments", [["--help"], ["fit", "--help"], ["--version"]])
def test_help_loads_nothing_heavy(arguments) -> None:
    program = """
import json, sys
from headstart.cli import main
sys.argv[0] = "headstart"
try:
    main()
except SystemExit as end:
    print(json.dumps([end.code, list(sys.modules)]))
"""
    *shown, last = run_python(program, *arguments).splitlines()
    code, loaded = json.loads(last)
    assert code == 0
    assert "headstart" in " ".join(shown)
    assert set(loaded) & set(HEAVY) == set()


def test_light_modules_load_no_torch() -> None:
    names = [name for name in MODULES if name.partition(".")[0] in LIGHT]
    program = """
import sys
from importlib import import_module
for name in sys.argv[1:]:
    import_module(f"headstart.{name}")
    assert "torch" not in sys.modules, name
"""
    run_python(program, *names)
    assert {name.partition(".")[0] for name in names} == set(LIGHT)


# Tests


def test_every_module_has_its_tests_and_every_test_its_module() -> None:
    wanted = {n for n, path in MODULES.items() if path.stem not in ("__init__", "__main__")}
    found = {
        ".".join((*path.relative_to(TESTS).parent.parts, path.stem.removeprefix("test_")))
        for path in TESTS.rglob("test_*.py")
        if path.stem not in ACROSS and path.parent != CONTRACTS
    }
    assert found - wanted == set()
    assert wanted - found == PLAIN


def test_no_two_test_files_have_the_same_name() -> None:
    names = [path.name for path in TESTS.rglob("test_*.py")]
    assert len(set(names)) == len(names)


# What is never written


def forbidden() -> dict[str, str]:
    """Return patterns, none of which this file itself may hold, by what they are."""
    hosts = ("py" + r"pi\.org", r"pythonhosted\.org", r"download\.py" + r"torch\.org/whl")
    here = {str(ROOT), str(ROOT.parent), str(Path.home()), tempfile.gettempdir()}
    places = [re.escape(place) for place in here if len(Path(place).parts) > 1]
    return {
        "a package index": "|".join([*(f"{host}" for host in hosts), r"--(extra-)?index-" + "url"]),
        "a path of this machine": rf"(?<![\w.~])({'|'.join(places)})/",
    }


@pytest.mark.parametrize("what", forbidden())
def test_no_file_names_what_is_only_here(what) -> None:
    pattern = re.compile(forbidden()[what])
    read = list(texts())
    assert {Path("pyproject.toml"), Path("tests/test_house.py")} <= {path for path, _ in read}
    found = {str(path): hit[0] for path, text in read if (hit := pattern.search(text))}
    assert found == {}


def test_what_is_only_here_is_recognised() -> None:
    for what, text in (
        ("a package index", "see https://py" + "pi.org/project/headstart"),
        ("a package index", "pip install --index-" + "url=x"),
        ("a path of this machine", f"read {ROOT}/src"),
        ("a path of this machine", f'"{tempfile.gettempdir()}/x"'),
    ):
        assert re.search(forbidden()[what], text)
    assert not re.search(forbidden()["a path of this machine"], f"photos{tempfile.gettempdir()}/x")


PICKLES = {"pickle", "cPickle", "dill", "joblib", "cloudpickle", "shelve", "marshal"}


def unsafe(tree: ast.AST) -> list[str]:
    """Return what could run code that a file brings along; an error's name is harmless."""
    found: list[ast.AST] = []
    for node in ast.walk(tree):
        match node:
            case ast.Import(names=names):
                found += [a for a in names if a.name.partition(".")[0] in PICKLES - {"pickle"}]
                found += [a for a in names if a.name == "pickle" and a.asname]
            case ast.ImportFrom(module=module, names=names):
                imported = {alias.name for alias in names} - {"UnpicklingError"}
                if (module or "").partition(".")[0] in PICKLES and imported:
                    found.append(node)
                if module in ("torch", "numpy") and "load" in imported:
                    found.append(node)
            case ast.Attribute(value=ast.Name(id="pickle"), attr=name):
                found += [node] * (name != "UnpicklingError")
            case ast.Call(func=function, keywords=keywords):
                given = {keyword.arg: ast.unparse(keyword.value) for keyword in keywords}
                name = ast.unparse(function)
                loads = name == "torch.load" and given.get("weights_only") != "True"
                unpickles = given.get("allow_pickle", "False") != "False"
                found += [node] * (loads or unpickles or name in ("eval", "exec"))
    return [ast.unparse(node) for node in found]


def test_nothing_that_is_shipped_can_run_code_from_a_file() -> None:
    paths = [
        path for top in ("src", "benchmarks", "examples") for path in (ROOT / top).rglob("*.py")
    ]
    assert len(paths) >= len(MODULES)
    found = {str(p): hits for p in paths if (hits := unsafe(ast.parse(p.read_text("utf-8"))))}
    assert found == {}


@pytest.mark.parametrize(
    "line",
    [
        "pickle.loads(data)",
        "import pickle as p",
        "import joblib.hashing",
        "from pickle import loads",
        "from torch import load",
        "torch.load(path)",
        "torch.load(path, weights_only=False)",
        "torch.load(path, weights_only=safe)",
        "np.load(path, allow_pickle=True)",
        "eval(text)",
    ],
)
def test_what_can_run_code_is_recognised(line) -> None:
    assert unsafe(ast.parse(f"def f():\n    {line}"))


def test_what_is_harmless_is_let_be() -> None:
    program = """
import pickle
from pickle import UnpicklingError
try:
    torch.load(path, weights_only=True); np.load(path); json.load(path)
except pickle.UnpicklingError:
    pass
"""
    assert unsafe(ast.parse(program)) == []
