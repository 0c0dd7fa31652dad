"""What is installed: the command, the package's face, and a wheel that works alone."""

from __future__ import annotations

import importlib.metadata
import os
import re
import site
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest
from typer.main import get_command
from typer.testing import CliRunner

import nas
from nas.cli import app
from nas.support.resources import shipped

ROOT = Path(__file__).resolve().parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
VERBS = sorted(get_command(app).commands)  # type: ignore[attr-defined]
HELP_SECONDS, RUNS = 0.7, 3
KINDS = ("search_spaces", "budgets", "recipes")


def plain(text: str) -> str:
    """Help without colours and frames, in one line."""
    return " ".join(re.sub(r"\x1b\[[0-9;]*m|[│╭╮╰╯─]", " ", text).split())


def python(code: str, *, cwd: Path, executable: Path | str = sys.executable) -> str:
    """What a program prints, run in a process of its own that sees no checkout by chance."""
    env = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    command = [str(executable), "-c", code]
    done = subprocess.run(command, cwd=cwd, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


# Where the project is


def test_every_address_is_below_the_homepage():
    """A project that moves changes pyproject.toml, and these two files that cannot read it."""
    home, *others = PROJECT["urls"].values()
    others += re.findall(r'https://github.com/[^"\s]+', (ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    contacts = ROOT / ".github" / "ISSUE_TEMPLATE" / "config.yml"
    others += re.findall(r"https://\S+", contacts.read_text(encoding="utf-8"))
    assert len(others) >= 5
    assert all(each == home or each.startswith(f"{home}/") for each in others)


def test_no_other_file_names_the_address():
    known = {"pyproject.toml", "CITATION.cff", ".github/ISSUE_TEMPLATE/config.yml"}
    folders = ("nas", "docs", "experiments", "benchmarks", "notebooks", ".github", ".ci")
    suffixes = {".py", ".md", ".ipynb", ".yaml", ".yml", ".cff", ".toml", ".js", ".html", ".css"}
    files = [*ROOT.iterdir(), *(file for folder in folders for file in (ROOT / folder).rglob("*"))]
    read = [
        file
        for file in files
        if file.is_file() and file.suffix in suffixes and "node_modules" not in file.parts
    ]
    home = PROJECT["urls"]["Homepage"]
    naming = {file.relative_to(ROOT).as_posix() for file in read if home in file.read_text(encoding="utf-8")}
    assert naming <= known


# The command line's face


def test_help_lists_exactly_the_verbs_that_are_defined():
    shown = CliRunner().invoke(app, ["--help"], env={"COLUMNS": "200"})
    assert shown.exit_code == 0
    listed = re.findall(r"^  ([a-z][a-z-]*) {2,}\S", shown.stdout.partition("Commands")[2], re.MULTILINE)
    assert sorted(listed) == VERBS
    assert {"demo", "train", "search", "pareto", "export", "compress", "decompress"} <= set(VERBS)


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_explains_itself_with_an_example(verb):
    shown = CliRunner().invoke(app, [verb, "--help"], env={"COLUMNS": "200"})
    assert shown.exit_code == 0
    example = plain(shown.stdout).partition("Example:")[2]
    assert example.strip().startswith(f"nas {verb}")
    assert "--json" in shown.stdout


@pytest.mark.parametrize("verb", VERBS)
def test_examples_use_options_that_exist(verb):
    command = get_command(app).commands[verb]  # type: ignore[attr-defined]
    known = {
        option for parameter in command.params for option in (*parameter.opts, *parameter.secondary_opts)
    }
    assert set(re.findall(r"--[a-z-]+", command.epilog)) <= known


@pytest.mark.parametrize(
    ("typed", "completed"), [("nas tra", ["train", "transcode"]), ("nas export --tar", ["--target"])]
)
def test_the_shell_completes_verbs_and_options(typed, completed, tmp_path):
    words = {"COMP_WORDS": typed, "COMP_CWORD": str(typed.count(" ")), "_NAS_COMPLETE": "complete_bash"}
    command = [sys.executable, "-c", "from nas.cli import app; app(prog_name='nas')"]
    done = subprocess.run(
        command, cwd=tmp_path, env=os.environ | words, capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == completed


def test_help_is_quick(tmp_path):
    command = [sys.executable, "-m", "nas", "--help"]
    before = os.times()
    for _ in range(RUNS):
        subprocess.run(command, cwd=tmp_path, capture_output=True, check=True)
    after = os.times()  # of the processor, which other work does not lengthen much
    own = after.children_user + after.children_system - before.children_user - before.children_system
    assert own / RUNS < HELP_SECONDS


def test_light_parts_leave_torch_alone(tmp_path):
    heavy = "{'torch', 'compressai', 'optuna', 'matplotlib', 'pandas'}"
    code = (
        f"import sys, nas; assert not {heavy} & set(sys.modules), 'nas'\n"
        f"import nas.cli; assert not {heavy} & set(sys.modules), 'nas.cli'\n"
        f"nas.SearchSpace.load('joint-ar-tiny'); nas.Budget.load('three-levels')\n"
        f"assert not {heavy} & set(sys.modules), 'spaces and budgets'"
    )
    python(code, cwd=tmp_path)


def test_a_codec_is_read_without_what_only_training_and_searching_need(tmp_path):
    heavy = "{'compressai.models', 'scipy.stats._stats_py', 'optuna', 'matplotlib', 'pandas', 'fvcore'}"
    code = (
        "import sys, nas.codec.folder, nas.codec.bitstream\n"
        f"assert not (found := {heavy} & set(sys.modules)), found"
    )
    python(code, cwd=tmp_path)


def test_what_is_put_off_is_whole_once_it_is_used(tmp_path):
    code = (
        "import nas.codec.folder, scipy.stats, compressai\n"
        "assert abs(scipy.stats.norm.ppf(0.975) - 1.96) < 0.01\n"
        "from scipy.stats import distributions, kendalltau\n"
        "assert distributions.norm is scipy.stats.norm\n"
        "assert compressai.available_entropy_coders() == ['ans']"
    )
    python(code, cwd=tmp_path)


@pytest.mark.slow  # importing CompressAI's models takes ten seconds
def test_compressais_models_are_whole_once_they_are_used(tmp_path):
    code = "import nas.codec.folder, compressai.zoo; assert 'mbt2018' in compressai.zoo.models"
    python(code, cwd=tmp_path)


# The package's face


def test_public_names_exist_and_none_is_a_modules_name():
    assert sorted(nas.__all__) == list(nas.__all__)
    modules = {path.stem for path in Path(nas.__file__).parent.iterdir()}
    for name in nas.__all__:
        assert getattr(nas, name).__name__ == name
        assert name in dir(nas)
        assert name not in modules
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = nas.nothing


def test_versions_agree():
    version = importlib.metadata.version(PROJECT["name"])
    assert version == PROJECT["version"]
    changes = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    assert re.search(rf"^## \[?{re.escape(version)}\b", changes, re.MULTILINE)
    assert nas.__version__ == version


def test_the_licence_is_whole():
    text = (ROOT / "LICENSE").read_text(encoding="utf-8")
    assert PROJECT["license"] == "Apache-2.0"
    assert "Version 2.0, January 2004" in text
    assert "END OF TERMS AND CONDITIONS" in text


def test_readme_and_continuous_integration_run_the_same_commands():
    readme = (ROOT / "README.md").read_text(encoding="utf-8").splitlines()
    script = (ROOT / ".ci" / "run").read_text(encoding="utf-8")
    assert os.access(ROOT / ".ci" / "run", os.X_OK)
    assert "pip install uv && uv run nas demo" in readme
    assert "uv run pytest" in readme
    assert re.search(r"readme uv run pytest$", script, re.MULTILINE)


# The wheel


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built from a source distribution as an installer would build it."""
    out = tmp_path_factory.mktemp("dist")
    command = [sys.executable, "-m", "build", "--outdir", str(out), str(ROOT)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, (done.stdout + done.stderr)[-2000:]
    assert len(list(out.glob("*.tar.gz"))) == 1
    (found,) = out.glob("*.whl")
    return found


@pytest.mark.slow
def test_the_wheel_holds_everything_that_is_shipped(wheel):
    names = set(zipfile.ZipFile(wheel).namelist())
    expected = {path.relative_to(ROOT).as_posix() for path in (ROOT / "nas").rglob("*.py")}
    expected |= {path.relative_to(ROOT).as_posix() for path in (ROOT / "nas" / "supernets").rglob("*.*")}
    parts = [path for name in ("page", "library") for path in (ROOT / "nas/report/front" / name).iterdir()]
    expected |= {path.relative_to(ROOT).as_posix() for path in parts if path.is_file()}
    expected |= {f"nas/{kind}/{n}.yaml" for kind in KINDS for n in shipped(kind)}
    assert expected <= names
    inside = {name for name in names if ".dist-info/" not in name}
    assert all(name.startswith("nas/") for name in inside)
    assert not [name for name in inside if "__pycache__" in name or "test" in Path(name).name]
    assert [name for name in names if name.endswith("LICENSE")]


@pytest.mark.slow
def test_the_wheel_works_alone(wheel, tmp_path):
    """Installed without the checkout, in an environment that borrows the other packages from this one."""
    home = tmp_path / "venv"
    subprocess.run([sys.executable, "-m", "venv", str(home)], check=True, capture_output=True)
    install = [str(home / "bin" / "pip"), "install", "--no-deps", "--no-index", str(wheel)]
    done = subprocess.run(install, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    (packages,) = home.glob("lib/python*/site-packages")
    # a folder named in a .pth file joins the path, and .pth files in it (an editable install's) do not count
    (packages / "borrowed.pth").write_text("\n".join(site.getsitepackages()) + "\n")
    code = (
        "import nas\n"
        "from nas.support.resources import folder, shipped\n"
        "print(nas.__file__)\n"
        "for kind, load in (('search_spaces', nas.SearchSpace.load), ('budgets', nas.Budget.load)):\n"
        "    print(folder(kind))\n"
        "    print(*(load(name).name for name in shipped(kind)))\n"
    )
    where, spaces_at, spaces, budgets_at, budgets = python(
        code, cwd=tmp_path, executable=home / "bin" / "python"
    ).splitlines()
    assert Path(where).is_relative_to(packages)
    assert Path(spaces_at) == packages / "nas" / "search_spaces"
    assert Path(budgets_at) == packages / "nas" / "budgets"
    assert spaces.split() == shipped("search_spaces")
    assert budgets.split() == shipped("budgets")
    help_text = subprocess.run(
        [str(home / "bin" / "nas"), "--help"], capture_output=True, text=True, check=True
    )
    assert all(verb in help_text.stdout for verb in VERBS)
