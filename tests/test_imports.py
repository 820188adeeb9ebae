import statistics
import subprocess
import sys

HEAVY = (
    "numpy",
    "scipy",
    "pandas",
    "sklearn",
    "torch",
    "matplotlib",
    "anndata",
    "dowhy",
    "econml",
    "pyarrow",
    "networkx",
)

TIMED = """
import sys, time
start = time.perf_counter()
import causalfm
seconds = time.perf_counter() - start
print(seconds, *sorted({name.partition(".")[0] for name in sys.modules}))
"""

EVERYTHING = """
import importlib, inspect, pathlib, sys
import causalfm

root = pathlib.Path(causalfm.__file__).parent
folders = [root, *(p for p in root.rglob("*") if p.is_dir()), root / "datasets", root / "estimators"]
names = {
    ".".join(("causalfm", *path.relative_to(root).with_suffix("").parts)).removesuffix(".__init__")
    for folder in folders for path in folder.glob("*.py")
}
for name in sorted(names):
    importlib.import_module(name)
for name in causalfm._NAMES:
    public = getattr(causalfm, name)
    assert callable(public) and not inspect.ismodule(public), name
for name in causalfm._FOLDERS:
    assert inspect.ismodule(getattr(causalfm, name)), name
for module in names - {"causalfm"}:
    module = sys.modules[module]
    for name in getattr(module, "__all__", ()):
        assert not inspect.ismodule(getattr(module, name)), (module.__name__, name)
print(len(names))
"""


def run(code: str) -> list[str]:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


def loaded(lines: list[str]) -> list[str]:
    return [name for name in HEAVY if name in lines]


def test_importing_the_package_is_quick_and_loads_nothing_heavy():
    runs = [run(TIMED) for _ in range(5)]
    assert statistics.median(float(seconds) for seconds, *_ in runs) < 0.2
    assert loaded(runs[0][1:]) == []


def test_the_check_for_heavy_imports_can_fail():
    seconds, *names = run(TIMED.replace("import causalfm", "import causalfm\ncausalfm.Cohort"))
    assert {"numpy", "pandas"} <= set(loaded(names))
    assert float(seconds) > 0.0


def test_the_nouns_and_the_neighbour_engine_stay_light():
    code = "import sys\nimport causalfm.neighbours, causalfm.io\nprint(*{n.partition('.')[0] for n in sys.modules})"
    assert set(loaded(run(code))) <= {"numpy", "scipy", "pandas", "pyarrow"}  # pandas loads pyarrow where it finds it


def test_every_module_imports_and_every_public_name_stays_callable():
    (count,) = run(EVERYTHING)
    assert int(count) > 20


LOADED = """
import sys
import causalfm.estimators, causalfm.estimators.correctors
assert not {"sklearn", "torch", "safetensors"} & set(sys.modules), sorted({"sklearn", "torch"} & set(sys.modules))
causalfm.estimators.MeanAligner
assert "sklearn" in sys.modules
assert not {"torch", "econml", "dowhy", "matplotlib"} & set(sys.modules)
assert causalfm.estimators.MeanAligner is causalfm.estimators.correctors.MeanAligner
"""


def test_correctors_are_loaded_on_first_use():
    done = subprocess.run([sys.executable, "-c", LOADED], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
