"""Damaged checkpoints: a state that was saved, bit for bit, or a line that says what is wrong."""

import contextlib
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from fuzz_data import damaged_bytes, damaged_json, fuzzed
from fuzz_folders import answer_of, bits, copied, damage, digest
from hypothesis import given, note
from hypothesis import strategies as st

from jaxrl_pg import checkpoint
from jaxrl_pg.checkpoint import Checkpoints
from jaxrl_pg.checkpoint import manifest as manifests

STEPS = (1, 2)
MANIFEST = "_CHECKPOINT_METADATA"


def state_of(step):
    """Small leaves of many kinds, none of which is the same in two steps."""
    return {
        "params": {
            "kernel": jnp.arange(6.0).reshape(2, 3) * step,
            "bias": jnp.full(3, -1.0 * step),
        },
        "replay": np.arange(200, dtype=np.uint8) * step,
        "count": jnp.int32(step),
        "flags": jnp.array([True, step > 1]),
        "empty": jnp.zeros((0, 3)),
        "key": jax.random.key(step),
    }


@pytest.fixture(scope="module")
def sample(tmp_path_factory):
    folder = tmp_path_factory.mktemp("fuzz") / "checkpoints"
    with Checkpoints(folder) as saves:
        for step in STEPS:
            saves.save(step, state_of(step), {"seconds": 1.5 * step})
    return folder


@pytest.fixture(scope="module")
def truth():
    return {step: bits(state_of(step)) for step in STEPS}


def require_saved(folder, root, truth):
    """Restoring gives what was saved under that number, or nothing; saying what was skipped."""
    before = digest(root)
    restored, _ = answer_of(lambda: checkpoint.restore(folder, state_of(1)), root)
    assert digest(root) == before
    if restored is not None:
        assert restored.step in truth, "under another number than it was saved"
        assert bits(restored.state) == truth[restored.step]
        assert restored.host == {"seconds": 1.5 * restored.step}
        newest = restored.step == max(STEPS)
        place = folder / str(
            max(STEPS)
        )  # a file or a pipe there is somebody else's, and left alone
        assert newest or restored.skipped or not (place.is_dir() or place.is_symlink())


@fuzzed(40)
@given(data=st.data())
def test_files_and_folders(data, sample, truth):
    name, apply = data.draw(damage(sample))
    note(name)
    with copied(sample) as root:
        apply(root / sample.name)
        require_saved(root / sample.name, root, truth)


@fuzzed(30)
@given(data=st.data())
def test_bytes_of_arrays(data, sample, truth):
    """Most of a checkpoint's files are small, and one holds all arrays: all are hit alike here."""
    files = sorted(str(p.relative_to(sample)) for p in sample.rglob("*") if p.is_file())
    name = data.draw(st.sampled_from(files))
    content = data.draw(damaged_bytes((sample / name).read_bytes()))
    note(f"{name}: {content[:80]!r}")
    with copied(sample) as root:
        (root / sample.name / name).write_bytes(content)
        require_saved(root / sample.name, root, truth)


@fuzzed(30)
@given(data=st.data())
def test_manifests(data, sample, truth):
    """Even where the manifest's own checksum fits what was changed."""
    path = f"{STEPS[-1]}/{MANIFEST}"
    document = json.loads((sample / path).read_bytes())
    content = data.draw(damaged_json(document))
    if data.draw(st.booleans()):
        sealed = document["custom_metadata"]["manifest"]
        changed = data.draw(damaged_json(sealed))
        with contextlib.suppress(ValueError, RecursionError):
            document["custom_metadata"] = manifests.seal(json.loads(changed))
            content = json.dumps(document).encode()
    note(content[:300])
    with copied(sample) as root:
        (root / sample.name / path).write_bytes(content)
        before = digest(root)
        answer_of(lambda: checkpoint.restore(root / sample.name, state_of(1)), root)
        answer_of(lambda: checkpoint.newest_host(root / sample.name), root)
        assert digest(root) == before
