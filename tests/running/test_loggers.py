"""Loggers and `on_rows`: what they are given, and that nothing they do changes what is learned."""

import csv
import io
import json
import math
import re
import shutil
import struct
import sys

import jax
import numpy as np
import pytest
from tensorboardX.proto import event_pb2

import jaxrl_pg
from jaxrl_pg import checkpoint, ppo
from jaxrl_pg.running.loggers import CSV, Logger, MLflow, TensorBoard, Wandb, require_extra
from jaxrl_pg.running.options import Options
from jaxrl_pg.running.run_folder import RunFolder

NUM, STEPS = 8, 64  # iterations, and the timesteps of one
CONFIG = ppo.Config(
    num_envs=8,
    num_steps=8,
    num_epochs=2,
    num_minibatches=2,
    hidden_sizes=(8, 8),
    total_timesteps=NUM * STEPS,
)
OPTIONS = Options(quiet=True, num_evals=4, num_eval_episodes=2)  # chunks of two iterations
SAVED = {
    "agent": "ppo",
    "env": "CartPole-v1",
    "seed": 3,
    "config": {"env": "CartPole-v1", "gamma": 0.9, "hidden_sizes": [8, 8]},
    "options": {"quiet": True},
}


class Recorder:
    """Keeps what it is given, and spoils its own copy of the rows."""

    def __init__(self):
        self.starts, self.rows, self.chunks, self.closed = [], [], 0, 0

    def start(self, config, run_dir, timesteps):
        self.starts.append((config, run_dir, timesteps))

    def write(self, rows):
        self.rows += [dict(row) for row in rows]
        self.chunks += 1
        for row in rows:
            row.clear()

    def close(self):
        self.closed += 1


class Failing(Recorder):
    """Raises in one method, with a message of two lines."""

    def __init__(self, method):
        super().__init__()
        self.calls = 0

        def fail(*args):
            self.calls += 1
            raise OSError("the server\nis away")

        setattr(self, method, fail)


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    """A run without loggers, which the others are compared with."""
    return jaxrl_pg.run(CONFIG, tmp_path_factory.mktemp("runs") / "plain", 3, OPTIONS)


def comparable(rows):
    """Rows without their wall-clock time, null for what is not finite."""
    return [
        {
            key: None if isinstance(value, float) and not math.isfinite(value) else value
            for key, value in row.items()
            if key != "seconds"
        }
        for row in rows
    ]


def rows_of(run_dir):
    return comparable(RunFolder.open(run_dir).rows())


def assert_same(result, reference):
    """Every leaf of the state and every row are those of the other run."""
    assert jax.tree.structure(result.state) == jax.tree.structure(reference.state)
    for a, b in zip(jax.tree.leaves(result.state), jax.tree.leaves(reference.state), strict=True):
        if jax.dtypes.issubdtype(a.dtype, jax.dtypes.prng_key):
            a, b = jax.random.key_data(a), jax.random.key_data(b)
        np.testing.assert_array_equal(a, b, strict=True)
    assert rows_of(result.run_dir) == rows_of(reference.run_dir)


def row(iteration, **metrics):
    return {"iteration": iteration, "timesteps": iteration * 100, **metrics}


# --- what they are given --------------------------------------------------------------------------


def test_loggers_and_on_rows_are_given_every_row_and_change_nothing(plain, tmp_path):
    logger, seen = Recorder(), []

    def on_rows(rows):
        seen.extend(dict(row) for row in rows)
        rows.clear()

    loggers = [logger, CSV(), TensorBoard()]
    result = jaxrl_pg.run(CONFIG, tmp_path / "run", 3, OPTIONS, on_rows=on_rows, loggers=loggers)
    assert_same(result, plain)
    assert comparable(logger.rows) == comparable(seen) == rows_of(plain.run_dir)
    assert logger.chunks == NUM // 2
    config, run_dir, timesteps = logger.starts[0]
    assert config == json.loads((run_dir / "config.json").read_text())
    assert (run_dir, timesteps) == (tmp_path / "run", 0)
    assert (len(logger.starts), logger.closed) == (1, 1)


def test_a_return_that_is_not_known_is_nan_not_none(tmp_path):
    logger = Recorder()
    config = CONFIG.replace(total_timesteps=2 * STEPS)
    jaxrl_pg.run(config, tmp_path / "run", 3, OPTIONS, num_evals=0, loggers=[logger])
    values = [row["train/return_mean"] for row in logger.rows if not row["train/episodes"]]
    assert values
    assert all(math.isnan(value) for value in values)


@pytest.mark.parametrize("quiet", [True, False])
@pytest.mark.parametrize("method", ["start", "write", "close"])
def test_a_logger_that_raises_is_named_once_and_stops_nothing(
    plain, tmp_path, capfd, method, quiet
):
    bad, good = Failing(method), Recorder()
    result = jaxrl_pg.run(CONFIG, tmp_path / "run", 3, OPTIONS, quiet=quiet, loggers=[bad, good])
    assert_same(result, plain)
    assert bad.calls == 1
    assert bad.closed == (method == "write")  # what it has opened is closed
    assert comparable(good.rows) == rows_of(plain.run_dir)
    assert good.closed == 1
    said = capfd.readouterr().err.splitlines()
    lines = [line for line in said if line.startswith("logger")]
    assert lines == [
        f"logger Failing failed in {method} and is switched off (OSError: the server is away)"
    ]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"loggers": [CSV]}, r"loggers\[0\]=<class .*CSV'>: give an object with the methods"),
        ({"loggers": [CSV(), print]}, r"loggers\[1\]=<built-in function print>: give an object"),
        ({"on_rows": 3}, r"on_rows=3: give a function of a list of rows"),
    ],
)
def test_what_cannot_be_called_is_refused_before_anything_is_written(tmp_path, given, message):
    with pytest.raises(ValueError, match=message):
        jaxrl_pg.run(CONFIG, tmp_path / "run", 3, OPTIONS, **given)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("logger", "module", "extra"),
    [
        (TensorBoard, "tensorboardX", "tensorboard"),
        (Wandb, "wandb", "wandb"),
        (MLflow, "mlflow", "mlflow"),
    ],
)
def test_a_missing_library_names_the_command(tmp_path, monkeypatch, logger, module, extra):
    monkeypatch.setitem(sys.modules, module, None)
    message = re.escape(f'{module} is not installed: pip install "jaxrl-pg[{extra}]"')
    with pytest.raises(ValueError, match=f"^{message}$"):
        logger()
    if extra == "tensorboard":
        with pytest.raises(ValueError, match=message):
            jaxrl_pg.run(CONFIG, tmp_path / "run", 3, OPTIONS, tensorboard=True)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_of_the_librarys_name_is_not_the_library(tmp_path, monkeypatch):
    (tmp_path / "no_such_library").mkdir()
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ValueError, match="no_such_library is not installed"):
        require_extra("no_such_library", "none")


def test_the_loggers_keep_the_protocol():
    for kind in (CSV, TensorBoard, Wandb, MLflow, Recorder):
        assert issubclass(kind, Logger)
    assert not issubclass(dict, Logger)


# --- ending a run ---------------------------------------------------------------------------------


def stop_at(iteration, answer):
    """A function that ends the run with an answer, in the chunk that ends at an iteration."""
    return lambda rows: answer if rows[-1]["iteration"] == iteration else None


@pytest.mark.parametrize("answer", [True, np.bool_(True), "good enough"])
def test_on_rows_ends_the_run_and_resume_goes_on_bit_for_bit(plain, tmp_path, capfd, answer):
    stopped = jaxrl_pg.run(
        CONFIG, tmp_path / "run", 3, OPTIONS, quiet=False, on_rows=stop_at(4, answer)
    )
    assert int(stopped.state.iteration) == 4
    assert checkpoint.steps(stopped.run_dir / "checkpoints")[-1] == 4
    assert stopped.metrics["loss/policy"].shape == (4,)
    assert (stopped.run_dir / "curve.png").exists()
    reason = ": good enough" if isinstance(answer, str) else ""
    line = f"on_rows ends the run after 256 timesteps{reason}"
    assert line in capfd.readouterr().err.splitlines()
    assert_same(jaxrl_pg.resume(stopped.run_dir), plain)


@pytest.mark.parametrize("answer", [None, False, "", np.bool_(False)])
def test_any_other_answer_goes_on(plain, tmp_path, answer):
    result = jaxrl_pg.run(CONFIG, tmp_path / "run", 3, OPTIONS, on_rows=stop_at(4, answer))
    assert_same(result, plain)


def test_a_run_that_does_not_evaluate_is_saved_where_on_rows_ends_it(plain, tmp_path, monkeypatch):
    monkeypatch.setattr(jaxrl_pg.training.program, "_CHUNK_TIMESTEPS", STEPS)
    options = Options(quiet=True, num_evals=0)
    jaxrl_pg.run(CONFIG, tmp_path / "run", 3, options, on_rows=stop_at(3, True))
    assert checkpoint.steps(tmp_path / "run" / "checkpoints") == [3]
    result = jaxrl_pg.resume(tmp_path / "run")
    np.testing.assert_array_equal(result.metrics["loss/policy"], plain.metrics["loss/policy"])


def test_what_on_rows_raises_is_raised_after_saving(plain, tmp_path):
    logger = Recorder()

    def on_rows(rows):
        return {}["no such key"] if rows[-1]["iteration"] == 6 else None

    with pytest.raises(KeyError, match="no such key"):
        jaxrl_pg.run(CONFIG, tmp_path / "run", 3, OPTIONS, on_rows=on_rows, loggers=[logger])
    assert checkpoint.steps(tmp_path / "run" / "checkpoints")[-1] == 6
    assert [row["iteration"] for row in logger.rows][-1] == 6
    assert logger.closed == 1
    assert_same(jaxrl_pg.resume(tmp_path / "run"), plain)


def test_on_rows_may_end_a_resumed_run_too(plain, tmp_path):
    run_dir = tmp_path / "run"
    jaxrl_pg.run(CONFIG, run_dir, 3, OPTIONS, on_rows=stop_at(2, True))
    assert int(jaxrl_pg.resume(run_dir, on_rows=stop_at(6, True)).state.iteration) == 6
    assert_same(jaxrl_pg.resume(run_dir), plain)


# --- going on -------------------------------------------------------------------------------------


def stopped_then_rewound(run_dir, loggers):
    """Stop a run after four iterations, and lose the last checkpoint."""
    jaxrl_pg.run(CONFIG, run_dir, 3, OPTIONS, on_rows=stop_at(4, True), loggers=loggers)
    shutil.rmtree(run_dir / "checkpoints" / "4")


def test_loggers_of_a_resumed_run_begin_at_its_checkpoint(plain, tmp_path):
    stopped_then_rewound(tmp_path / "run", [])
    logger = Recorder()
    result = jaxrl_pg.resume(tmp_path / "run", loggers=[logger])
    assert_same(result, plain)
    assert logger.starts[0][1:] == (tmp_path / "run", 2 * STEPS)
    expected = [row for row in rows_of(plain.run_dir) if row["iteration"] > 2]
    assert comparable(logger.rows) == expected


def test_resume_takes_options_whole_or_one_by_one(plain, tmp_path):
    path = shutil.copytree(plain.run_dir, tmp_path / "run")

    def options():
        return json.loads((path / "config.json").read_text())["options"]

    jaxrl_pg.resume(path)
    assert options() == json.loads((plain.run_dir / "config.json").read_text())["options"]
    jaxrl_pg.resume(path, options=Options(quiet=True, keep_last=7))
    assert (options()["keep_last"], options()["num_evals"]) == (7, Options().num_evals)
    jaxrl_pg.resume(path, options=Options(quiet=True, keep_last=7), keep_last=5)
    assert options()["keep_last"] == 5
    jaxrl_pg.resume(path, num_evals=2)
    assert (options()["keep_last"], options()["num_evals"]) == (5, 2)


def test_the_result_has_the_policy_of_the_final_state(plain):
    obs = np.linspace(-1, 1, 20, dtype=np.float32).reshape(5, 4)
    loaded = jaxrl_pg.load(plain.run_dir)
    assert plain.policy.step == loaded.step == NUM
    np.testing.assert_array_equal(plain.policy(obs), loaded(obs))
    key = jax.random.key(1)
    np.testing.assert_array_equal(plain.policy(obs, key), loaded(obs, key))


# --- CSV ------------------------------------------------------------------------------------------


def csv_rows(run_dir):
    """The lines of metrics.csv as the rows that they were."""
    with (run_dir / "metrics.csv").open(newline="") as file:
        lines = list(csv.DictReader(file))
    return [
        {key: json.loads(x.replace("nan", "NaN")) for key, x in line.items() if x} for line in lines
    ]


def test_csv_holds_every_row_also_after_a_resume_that_rewinds(plain, tmp_path):
    run_dir = tmp_path / "run"
    stopped_then_rewound(run_dir, [CSV()])
    assert csv_rows(run_dir)[-1]["iteration"] == 4
    with (run_dir / "metrics.csv").open("a") as file:
        file.write("5,0.25")  # torn by a kill
    assert_same(jaxrl_pg.resume(run_dir, loggers=[CSV()]), plain)
    assert comparable(csv_rows(run_dir)) == rows_of(plain.run_dir)


def test_csv_gets_a_column_where_a_row_brings_one(tmp_path):
    logger = CSV()
    logger.start(SAVED, tmp_path, 0)
    logger.write([row(1, a=0.1)])
    logger.write([row(2, a=math.nan), row(2, b=1e-30)])
    logger.write([row(3, b=2)])
    logger.close()
    assert (tmp_path / "metrics.csv").read_text() == (
        "iteration,timesteps,a,b\n1,100,0.1,\n2,200,nan,\n2,200,,1e-30\n3,300,,2\n"
    )


# --- TensorBoard ----------------------------------------------------------------------------------


def events(folder):
    """Every event in a log folder, oldest file first: frames of length, crc, event, crc."""
    found = []
    for path in sorted(folder.iterdir(), key=lambda p: int(p.name.rsplit(".", 1)[1])):
        file = io.BytesIO(path.read_bytes())
        while header := file.read(12):
            event = event_pb2.Event()
            event.ParseFromString(file.read(struct.unpack("<Q", header[:8])[0]))
            file.read(4)
            found.append(event)
    return found


def scalars_of(found):
    return sorted((e.step, v.tag, v.simple_value) for e in found for v in e.summary.value)


def write(logger, run_dir, timesteps, rows):
    logger.start(SAVED, run_dir, timesteps)
    logger.write(rows)
    logger.close()


def test_tensorboard_writes_finite_scalars_and_purges_on_resume(tmp_path):
    first = row(1, **{"train/return_mean": math.nan, "train/num_episodes": 4})
    second = row(2, **{"train/return_mean": np.float32(2.5), "train/num_episodes": 4})
    write(TensorBoard(), tmp_path, 0, [first, {**second, "note": "x", "none": None}])
    write(TensorBoard(), tmp_path, 100, [{**second, "train/return_mean": 3.5}])
    found = events(tmp_path / "tensorboard")
    assert scalars_of(found) == [
        (100, "train/num_episodes", 4.0),
        (200, "train/num_episodes", 4.0),
        (200, "train/num_episodes", 4.0),
        (200, "train/return_mean", 2.5),
        (200, "train/return_mean", 3.5),
    ]
    starts = [event.step for event in found if event.HasField("session_log")]
    assert starts == [101]  # what the first session wrote at step 101 and past it is hidden


def expected_scalars(rows):
    """The finite metrics of rows, by timesteps and name."""
    return {
        (row["timesteps"], key): value
        for row in rows
        for key, value in row.items()
        if value is not None and key not in ("iteration", "timesteps", "seconds")
    }


def test_the_option_tensorboard_is_the_logger(plain, tmp_path):
    result = jaxrl_pg.run(CONFIG, tmp_path / "run", 3, OPTIONS, tensorboard=True)
    assert_same(result, plain)
    found = scalars_of(events(tmp_path / "run" / "tensorboard"))
    written = {(step, tag): value for step, tag, value in found if tag != "seconds"}
    assert written == pytest.approx(expected_scalars(rows_of(plain.run_dir)), rel=1e-6)


# --- wandb and MLflow, where the extras are installed ---------------------------------------------


def wandb_records(path):
    """The records of a .wandb file: a header of 7 bytes, then LevelDB's log format."""
    from wandb.proto.wandb_internal_pb2 import Record

    data, at, parts = path.read_bytes(), 7, b""
    while at < len(data):
        left = 2**15 - at % 2**15  # of the block; a record's header does not cross its end
        if left < 7:
            at += left
            continue
        _, size, kind = struct.unpack_from("<IHB", data, at)
        parts += data[at + 7 : at + 7 + size]
        at += 7 + size
        if kind in (1, 4):  # a whole record, or the last part of one
            record = Record()
            record.ParseFromString(parts)
            yield record
            parts = b""


def test_a_wandb_run_is_written_offline_and_read_back(plain, tmp_path, monkeypatch):
    pytest.importorskip("wandb", reason="wandb is not installed")
    monkeypatch.setenv("WANDB_ERROR_REPORTING", "false")
    run_dir = tmp_path / "run"
    for session in range(2):
        logger = Wandb(project="demo", mode="offline")
        if session == 0:
            stopped_then_rewound(run_dir, [logger])
        else:
            assert_same(jaxrl_pg.resume(run_dir, loggers=[logger]), plain)
    history, runs, configs = {}, [], {}
    for path in sorted(run_dir.glob("wandb/offline-run-*/*.wandb")):
        for record in wandb_records(path):
            if record.WhichOneof("record_type") == "run":
                runs.append((record.run.project, record.run.display_name, record.run.run_id))
                configs |= {x.key: json.loads(x.value_json) for x in record.run.config.update}
            for item in record.history.item:
                key = item.key or "/".join(item.nested_key)
                history[record.history.step.num, key] = json.loads(item.value_json)
    assert set(runs) == {
        ("demo", "run", (run_dir / "wandb_run.txt").read_text())
    }  # one run goes on
    assert (configs["agent"], configs["seed"], configs["num_steps"]) == ("ppo", 3, 8)
    kept = {key: x for key, x in history.items() if key[1][0] != "_" and key[1] != "seconds"}
    assert kept == expected_scalars(rows_of(plain.run_dir))


def test_an_mlflow_file_store_is_written_and_read_back(plain, tmp_path, monkeypatch):
    pytest.importorskip("mlflow", reason="mlflow-skinny is not installed")
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "")  # restored afterwards
    monkeypatch.delenv("MLFLOW_ALLOW_FILE_STORE")
    from mlflow.tracking import MlflowClient

    run_dir, uri = tmp_path / "run", f"file:{tmp_path}/mlruns"
    stopped_then_rewound(run_dir, [MLflow(uri, "demo")])
    assert_same(jaxrl_pg.resume(run_dir, loggers=[MLflow(uri, "demo")]), plain)
    client = MlflowClient(uri)
    experiment = client.get_experiment_by_name("demo").experiment_id
    (found,) = client.search_runs([experiment])  # one run goes on
    assert (found.info.run_name, found.info.status) == ("run", "FINISHED")
    params = found.data.params
    assert (params["agent"], params["seed"], params["num_steps"]) == ("ppo", "3", "8")
    history = {
        (metric.step, key): metric.value
        for key in found.data.metrics
        if key != "seconds"
        for metric in client.get_metric_history(found.info.run_id, key)
    }
    assert history == expected_scalars(rows_of(plain.run_dir))


def test_mlflow_takes_more_than_one_request_holds(tmp_path, monkeypatch):
    pytest.importorskip("mlflow", reason="mlflow-skinny is not installed")
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    from mlflow.tracking import MlflowClient

    uri = f"file:{tmp_path}/mlruns"
    config = {**SAVED, "config": {f"field{i}": i for i in range(150)}}
    logger = MLflow(uri)
    logger.start(config, tmp_path, 0)
    logger.write([row(i, **{f"m{j}": float(i * j) for j in range(12)}) for i in range(1, 101)])
    logger.close()
    client = MlflowClient(uri)
    found = client.get_run((tmp_path / "mlflow_run.txt").read_text())
    assert len(found.data.params) == 152  # with agent and seed
    assert found.data.metrics == {f"m{j}": 100.0 * j for j in range(12)}
    assert len(client.get_metric_history(found.info.run_id, "m3")) == 100
