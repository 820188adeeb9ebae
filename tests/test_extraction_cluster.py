"""Extraction on a cluster of worker processes: the bytes of one process, whatever fails or dies on the way."""

import os
import pickle
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from cluster_samples import tiles, watched
from extraction_samples import FirstPixels, expected, images, spec

import causalfm as cfm
from causalfm import clusters
from causalfm.clusters import client_of
from causalfm.errors import DataError, ShardError
from causalfm.extraction import load_encoder, open_images, own_encoder
from causalfm.extraction.cluster_tasks import TOKEN, Made, Order, describe, make_shard
from causalfm.extraction.on_cluster import recipe_of
from causalfm.extraction.scattering import _where, places_of
from causalfm.extraction.shards import Job
from causalfm.extraction.sources.protocol import part_of
from causalfm.extraction.staging import FOLDER

pytest.importorskip("torch")
pytest.importorskip("distributed")
N = 22
OPTIONS = {"shard_rows": 4, "batch_size": 2}
HEADER = {"rows": 10, "dimension": 6, **OPTIONS, "identity": {"encoder": {}}}


@pytest.fixture(scope="module")
def client():
    with client_of("local:2") as found:
        yield found


def content(folder):
    files = [p for p in folder.rglob("*") if p.is_file() and p.name != ".lock"]
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in files}


def lines(path):
    return path.read_text().split() if path.exists() else []


@pytest.mark.parametrize("kind", ["npy", "parquet"])
def test_the_bytes_are_those_of_one_process(kind, client, tmp_path):
    table = pd.DataFrame({"site": [f"site {i % 3}" for i in range(N)]})
    options = {"obs": table, "format": kind, **OPTIONS}
    cfm.extract(images(N), watched(tmp_path), out=tmp_path / "one", **options)
    reports = []
    cohort = cfm.extract(
        images(N), watched(tmp_path), out=tmp_path / "many", scheduler=client, **options,
        progress=lambda *said: reports.append(said),
    )  # fmt: skip
    assert content(tmp_path / "one") == content(tmp_path / "many")  # the journal included
    np.testing.assert_array_equal(cohort.X, expected(images(N)))
    assert reports[-1][1:] == (N, N)
    loads = lines(tmp_path / "loads")
    assert 1 <= len(loads) == len(set(loads)) <= 2  # once per worker, not once per shard
    assert str(os.getpid()) not in loads


def test_a_worker_killed_in_a_shard_changes_nothing(client, tmp_path):
    cfm.extract(images(N), watched(tmp_path), out=tmp_path / "one", **OPTIONS)
    (tmp_path / "kill").touch()
    before = set(client.run(os.getpid).values())
    cfm.extract(images(N), watched(tmp_path), out=tmp_path / "many", scheduler=client, **OPTIONS)
    assert not (tmp_path / "kill").exists()
    client.wait_for_workers(2)
    assert len(before - set(client.run(os.getpid).values())) == 1
    assert content(tmp_path / "one") == content(tmp_path / "many")


def test_a_shard_that_fails_once_is_tried_again(client, tmp_path):
    (tmp_path / "fail").touch()
    cohort = cfm.extract(images(N), watched(tmp_path), out=tmp_path / "out", scheduler=client, **OPTIONS)
    assert not (tmp_path / "fail").exists()
    np.testing.assert_array_equal(cohort.X, expected(images(N)))


def test_a_shard_that_fails_always_is_listed_and_made_after_the_repair(client, tmp_path):
    pixels = tiles(tmp_path / "tiles", N)
    call = {"images": tmp_path / "tiles", "encoder": watched(tmp_path), **OPTIONS}
    cfm.extract(out=tmp_path / "one", **call)
    damaged = tmp_path / "tiles" / "006.png"
    whole = damaged.read_bytes()
    damaged.write_bytes(whole[:40])
    with pytest.raises(
        ShardError, match=r"1 of 6 shards.*shard 1 \(rows 4 to 7, tried 2 times\).*row 6.*All others are kept"
    ) as said:
        cfm.extract(out=tmp_path / "many", scheduler=client, retries=1, **call)
    (failed,) = said.value.failed
    assert (failed.number, failed.rows, failed.attempts, [row for row, _ in failed.errors]) == (1, (4, 7), 2, [6])
    assert "006" not in str(said.value)  # names of images can be patients
    waiting = tmp_path / "many" / "shards.unfinished"
    assert {p.stem for p in waiting.glob("*.safetensors")} == {"000002", "000003", "000004", "000005"}
    assert '"rows": [\n   4,\n   7\n  ]' in (waiting / "failed.json").read_text()
    with pytest.raises(DataError, match="not finished"):
        cfm.read(tmp_path / "many")

    damaged.write_bytes(whole)
    (tmp_path / "batches").unlink()
    cohort = cfm.extract(out=tmp_path / "many", scheduler=client, **call)
    assert len(lines(tmp_path / "batches")) == 2  # of one shard
    np.testing.assert_array_equal(cohort.X, expected(pixels))
    one, many = content(tmp_path / "one"), content(tmp_path / "many")
    assert one.keys() == many.keys()
    assert all(one[name] == many[name] for name in one if name != "extraction.jsonl")


def test_one_process_takes_the_shards_that_a_cluster_left(client, tmp_path):
    pixels = tiles(tmp_path / "tiles", N)
    (tmp_path / "tiles" / "001.png").write_bytes(b"no image")
    call = {"images": tmp_path / "tiles", "encoder": watched(tmp_path), "out": tmp_path / "out", **OPTIONS}
    with pytest.raises(ShardError, match=r"1 of 6 shards.*shard 0 \(rows 0 to 3, tried 1 times\).*row 1"):
        cfm.extract(scheduler=client, retries=0, **call)
    (tmp_path / "batches").unlink()
    cohort = cfm.extract(on_error="record", **call)
    assert len(lines(tmp_path / "batches")) == 1  # of two images; the batch of one goes uncounted
    assert cohort.info["images_unreadable"] == 1
    np.testing.assert_array_equal(cohort.X, np.delete(expected(pixels), 1, axis=0))
    assert not (tmp_path / "out" / "shards.unfinished").exists()
    # what is there is of these images: others are refused still
    (tmp_path / "tiles" / "009.png").write_bytes((tmp_path / "tiles" / "010.png").read_bytes())
    with pytest.raises(DataError, match="differs: the images"):
        cfm.extract(on_error="record", **call)


def test_unreadable_images_are_recorded_as_in_one_process(client, tmp_path):
    tiles(tmp_path / "tiles", N)
    for name in ("000", "005", "006", "021"):
        (tmp_path / "tiles" / f"{name}.png").write_bytes(b"no image")
    call = {"images": tmp_path / "tiles", "encoder": watched(tmp_path), "on_error": "record", **OPTIONS}
    cfm.extract(out=tmp_path / "one", **call)
    cfm.extract(out=tmp_path / "many", scheduler=client, **call)
    assert content(tmp_path / "one") == content(tmp_path / "many")


def test_workers_that_see_no_folder_or_no_images_are_refused(client, tmp_path):
    here, there = tmp_path / "here", tmp_path / "there"
    here.mkdir(), there.mkdir()
    tiles(here / "tiles", 6)
    own, theirs = Path.cwd(), client.run(os.getcwd)
    try:  # one path, two places: as on machines that share no disk
        os.chdir(here)
        client.run(os.chdir, there)
        with pytest.raises(DataError, match="2 of 2 workers do not see the folder 'out'"):
            cfm.extract(here / "tiles", watched(tmp_path), out="/proc/self/cwd/out", scheduler=client)
        with pytest.raises(DataError, match=r"2 of 2 workers cannot read images.*cannot be read.*share"):
            cfm.extract("/proc/self/cwd/tiles", watched(tmp_path), out=tmp_path / "out", scheduler=client)
    finally:
        os.chdir(own)
        for address, folder in theirs.items():
            client.run(os.chdir, folder, workers=[address])
    assert not (tmp_path / "batches").exists()


def test_workers_that_end_are_listed(client, tmp_path):
    scheduler = client.cluster.scheduler
    allowed, scheduler.allowed_failures = scheduler.allowed_failures, 0
    try:
        (tmp_path / "kill").touch()
        with pytest.raises(ShardError, match="every worker that made it ended"):
            cfm.extract(images(4), watched(tmp_path), out=tmp_path / "out", scheduler=client, **OPTIONS)
    finally:
        scheduler.allowed_failures = allowed
    client.wait_for_workers(2)


def test_encoders_that_cannot_travel_are_refused(client, tmp_path):
    call = {"images": images(4), "out": tmp_path / "out", "scheduler": client}
    file = (tmp_path / "open").open("w")
    with file, pytest.raises(DataError, match=r"network of 'first pixels' cannot be sent.*give a name or a spec"):
        cfm.extract(encoder=spec(lambda batch: print(batch, file=file)), **call)
    with pytest.raises(DataError, match=r"loaded in this process.*give its name"):
        cfm.extract(encoder=load_encoder(spec(FirstPixels())), **call)
    (tmp_path / "only_here.py").write_text("def network(batch):\n    return batch[:, 0].flatten(1)[:, :6]\n")
    sys.path.insert(0, str(tmp_path))
    try:
        import only_here
    finally:
        sys.path.remove(str(tmp_path))
    with pytest.raises(DataError, match=r"cannot import what the network of 'own encoder' is made of.*PYTHONPATH"):
        cfm.extract(encoder=own_encoder(only_here.network, input_size=4), **call)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"scheduler": "local:0"}, "give 'local', 'local:N'"),
        ({"scheduler": 8786}, "give 'local', 'local:N'"),
        ({"scheduler": "local", "out": None}, "needs out="),
        ({"scheduler": "local", "workers": 2}, "reads its own images"),
        ({"scheduler": "local:1", "workers_per_gpu": 2}, "goes with scheduler='local' and GPUs"),
        ({"workers_per_gpu": 2}, "belongs to scheduler='local'"),
        ({"scheduler": "local", "retries": -1}, "retries=-1"),
        ({"scheduler": "local:1", "device": "gpu"}, "device 'gpu' is no torch device"),
    ],
)
def test_impossible_arguments(arguments, message, tmp_path):
    call = {"images": images(4), "encoder": spec(FirstPixels()), "out": tmp_path / "out", **arguments}
    with pytest.raises(DataError, match=message):
        cfm.extract(**call)


def test_a_worker_that_failed_is_not_asked_first():
    places = {"tcp://a": 1, "tcp://b": 1}
    assert _where(places, (), gpu=False) == {}
    assert _where(places, ("tcp://a",), gpu=False) == {"workers": ["tcp://b"], "allow_other_workers": True}
    assert _where(places, ("tcp://a", "tcp://b"), gpu=True) == {"resources": {"GPU": 1}}


def test_a_task_asks_for_a_gpu_only_where_there_are_some(client, tmp_path):
    assert list(places_of(client, gpu=False).values()) == [1, 1]
    assert places_of(client, gpu=True) == {}
    with pytest.raises(DataError, match=r"no worker that declares the resource GPU"):
        cfm.extract(images(4), spec(FirstPixels()), out=tmp_path, scheduler=client, device="cuda")
    with pytest.raises(DataError, match=r"on a running cluster it is 'cpu' or 'cuda'"):
        cfm.extract(images(4), spec(FirstPixels()), out=tmp_path, scheduler=client, device="cuda:1")


def test_a_running_scheduler_is_found_by_its_address(client, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # a relative folder is not the workers' own
    cohort = cfm.extract(images(N), spec(FirstPixels()), out="out", scheduler=client.scheduler.address, **OPTIONS)
    np.testing.assert_array_equal(cohort.X, expected(images(N)))
    client.wait_for_workers(2)  # it is there still
    monkeypatch.setattr(clusters, "SECONDS", 1)
    with pytest.raises(DataError, match="no Dask scheduler answers"):
        cfm.extract(images(N), spec(FirstPixels()), out="other", scheduler="tcp://127.0.0.1:9")


def test_a_cluster_without_what_the_encoder_needs_says_so(client, tmp_path):
    def network(batch):
        raise RuntimeError("the GPU is on fire")

    with pytest.raises(DataError, match=r"cannot load the encoder \(RuntimeError: the GPU is on fire\).*same causalfm"):
        cfm.extract(images(4), spec(network), out=tmp_path / "out", scheduler=client)


def test_a_lost_scheduler_loses_no_shard(tmp_path):
    import dask
    from distributed import Client, LocalCluster

    here = {"host": "127.0.0.1", "protocol": "tcp", "dashboard_address": "127.0.0.1:0", "silence_logs": 60}
    call = {"images": images(40), "encoder": watched(tmp_path), "out": tmp_path / "out", **OPTIONS}
    ended = []

    def stop(what, done, steps):
        if done >= 8 and not ended:
            ended.append(cluster.sync(cluster.scheduler.close))

    with dask.config.set({"distributed.comm.timeouts.connect": "1s"}):
        cluster = LocalCluster(n_workers=1, threads_per_worker=1, processes=False, **here)
        client = Client(cluster, set_as_default=False)
        try:
            with pytest.raises(DataError, match=r"connection to the scheduler was lost.*the same call goes on"):
                cfm.extract(scheduler=client, progress=stop, **call)
        finally:
            for each in (client, cluster):
                with suppress(TimeoutError):  # of those who wait for the scheduler
                    each.close(timeout=5)
    made = len(lines(tmp_path / "batches"))
    assert 4 <= made < 20
    np.testing.assert_array_equal(cfm.extract(**call).X, expected(images(40)))
    assert len(lines(tmp_path / "batches")) <= 20 + 4  # but for shards that were cut


SCRIPT = """
import sys
from pathlib import Path
from cluster_samples import watched
from extraction_samples import images
import causalfm as cfm
if __name__ == "__main__":
    folder = Path(sys.argv[1])
    say = lambda what, done, steps: print(done, flush=True)
    cfm.extract(images(120), watched(folder), out=folder / "out", shard_rows=4, batch_size=2, scheduler="local:1",
                progress=say)
"""


def test_a_driver_that_is_killed_leaves_no_process_and_loses_no_shard(tmp_path):
    (tmp_path / "script.py").write_text(SCRIPT)
    paths = os.pathsep.join(map(str, [Path(__file__).parents[1], Path(__file__).parent]))
    driver = subprocess.Popen(
        [sys.executable, tmp_path / "script.py", tmp_path],
        env={**os.environ, "PYTHONPATH": paths},
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    with driver:
        for said in driver.stdout:
            if int(said) >= 12:
                break
        driver.send_signal(signal.SIGKILL)
    (worker,) = set(lines(tmp_path / "loads"))
    end = time.monotonic() + 20
    while Path(f"/proc/{worker}/cmdline").exists() and Path(f"/proc/{worker}/cmdline").read_bytes():
        assert time.monotonic() < end, "the worker outlives its driver"
        time.sleep(0.1)
    cfm.extract(images(120), watched(tmp_path), out=tmp_path / "one", **OPTIONS)
    before = len(lines(tmp_path / "batches"))
    cfm.extract(images(120), watched(tmp_path), out=tmp_path / "out", **OPTIONS)
    assert len(lines(tmp_path / "batches")) - before <= 60 - 6
    one, many = content(tmp_path / "one"), content(tmp_path / "out")
    assert one["embeddings.npy"] == many["embeddings.npy"]
    assert one.keys() == many.keys()


def test_without_dask_only_a_scheduler_is_refused(tmp_path):
    code = (
        "import sys; sys.modules.update(dict.fromkeys(['dask', 'distributed', 'cloudpickle']))\n"
        "import causalfm as cfm, numpy as np\n"
        "from extraction_samples import *\n"
        "pixels, network = images(4), spec(FirstPixels())\n"
        "assert len(cfm.extract(pixels, network)) == 4\n"
        "try: cfm.extract(pixels, network, out=sys.argv[1], scheduler='local:1')\n"
        "except ImportError as error: print(type(error).__name__, error)\n"
    )
    paths = os.pathsep.join(map(str, [Path(__file__).parents[1], Path(__file__).parent]))
    done = subprocess.run(
        [sys.executable, "-c", code, tmp_path], env={**os.environ, "PYTHONPATH": paths}, capture_output=True, text=True,
        check=False,
    )  # fmt: skip
    assert done.stdout.startswith("MissingDependencyError a scheduler needs Dask: pip install"), done.stderr


def orders(folder):
    """Return what a task gets, for each shard of an extraction that waits for its shards."""
    job = Job(open_images(images(10)), HEADER, "of the images", "raise", 2, True)
    (folder / FOLDER).mkdir(parents=True)
    (folder / FOLDER / TOKEN).write_text("now")
    return [
        Order(k, pickle.dumps(replace(job, source=part_of(job.source, job.rows(k)))), folder, "now") for k in (0, 1)
    ]


def test_a_task_writes_the_same_bytes_whenever_it_is_run(tmp_path):
    recipe = recipe_of(spec(FirstPixels()), precision=None, compile=False, weights=None)
    recipe, facts = replace(recipe, device="cpu"), describe(replace(recipe, device="cpu"))
    asked = orders(tmp_path)
    path = tmp_path / FOLDER / "000001.safetensors"
    assert make_shard(asked[1], recipe, facts) == Made(1)
    first = path.read_bytes()
    path.unlink()
    with ThreadPoolExecutor(4) as pool:  # several workers on one shard
        assert list(pool.map(lambda _: make_shard(asked[1], recipe, facts), range(8))) == [Made(1)] * 8
    assert path.read_bytes() == first
    path.write_bytes(first[:-1])  # damaged while it waits
    assert make_shard(asked[1], recipe, facts) == Made(1)
    assert path.read_bytes() == first
    assert sorted(p.name for p in path.parent.iterdir()) == ["000001.safetensors", TOKEN]


def test_a_task_of_a_run_that_has_ended_writes_nothing(tmp_path):
    recipe = replace(recipe_of(spec(FirstPixels()), precision=None, compile=False, weights=None), device="cpu")
    asked = orders(tmp_path)
    (tmp_path / FOLDER / TOKEN).write_text("of the next run")
    failed = make_shard(asked[0], recipe, describe(recipe))
    assert "does not see the folder of the run" in failed.reason
    assert [p.name for p in (tmp_path / FOLDER).iterdir()] == [TOKEN]


def test_a_worker_with_another_encoder_makes_no_shard(tmp_path):
    recipe = replace(recipe_of(spec(FirstPixels()), precision=None, compile=False, weights=None), device="cpu")
    facts = describe(recipe)
    other = replace(facts, record={**facts.record, "sha256": "of other weights"})
    assert "what differs: sha256" in make_shard(orders(tmp_path)[0], recipe, other).reason
