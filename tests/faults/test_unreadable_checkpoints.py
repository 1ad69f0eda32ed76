"""What cannot be read is not damaged, and what is damaged never brings the process down."""

import errno
import json
import os

import jax.numpy as jnp
import pytest
import tensorstore

from jaxrl_pg import checkpoint
from jaxrl_pg.checkpoint import Checkpoints, orbax_file, restore

TARGET = {"x": jnp.zeros(8), "n": jnp.int32(0)}


@pytest.fixture
def saved(tmp_path):
    """Checkpoints 3 and 6."""
    with Checkpoints(tmp_path) as saves:
        for number in (3, 6):
            saves.save(number, {"x": jnp.full(8, 1.0 * number), "n": jnp.int32(number)}, {})
    return tmp_path


REFUSALS = [errno.EACCES, errno.EPERM, errno.EMFILE, errno.ENFILE, errno.EIO, errno.ENOMEM]


@pytest.mark.parametrize("number", REFUSALS)
@pytest.mark.parametrize("name", ["_CHECKPOINT_METADATA", "manifest.ocdbt"])
def test_what_the_system_refuses_to_read_is_an_error_of_one_line(saved, monkeypatch, number, name):
    real = os.open

    def refuse(path, *args, **kwargs):
        if os.fspath(path).endswith(name) and "/6/" in os.fspath(path):
            raise OSError(number, os.strerror(number), os.fspath(path))
        return real(path, *args, **kwargs)

    before = sorted(os.listdir(saved))
    with monkeypatch.context() as patch:
        patch.setattr(os, "open", refuse)
        with pytest.raises(OSError, match=rf"6/.*{name}") as caught:
            restore(saved, TARGET)
    assert caught.value.errno == number
    assert sorted(os.listdir(saved)) == before
    assert restore(saved, TARGET).step == 6


@pytest.mark.parametrize("number", REFUSALS)
@pytest.mark.parametrize("form", ["PERMISSION_DENIED: x [os_error_code='{}']", "[OS error {}: X]"])
def test_what_tensorstore_is_refused_is_not_damaged(saved, monkeypatch, number, form):
    def refuse(*_, **__):
        raise ValueError(form.format(number))

    monkeypatch.setattr(tensorstore, "open", refuse)
    with pytest.raises(OSError, match="6/state") as caught:
        restore(saved, TARGET)
    assert caught.value.errno == number
    assert "\n" not in str(caught.value)


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="changes the user")
def test_a_folder_of_another_user_is_not_damaged(saved):
    saved.chmod(0o700)
    os.seteuid(65534)
    try:
        with pytest.raises(PermissionError, match=saved.name):
            restore(saved, TARGET)
    finally:
        os.seteuid(0)


# --- crafted ones ---------------------------------------------------------------------------------


def change_header(folder, **changes):
    """Write another header of the array x into checkpoint 6."""
    store = {"driver": "ocdbt", "base": {"driver": "file", "path": f"{folder / '6' / 'state'}/"}}
    values = tensorstore.KvStore.open(store).result()
    header = json.loads(values.read("x/zarr.json").result().value)
    values.write("x/zarr.json", json.dumps({**header, **changes}).encode()).result()


def pieces(size):
    """A grid of pieces, and the codec that writes each as one."""
    little = {"name": "bytes", "configuration": {"endian": "little"}}
    inside = {
        "chunk_shape": [size],
        "codecs": [little],
        "index_codecs": [little, {"name": "crc32c"}],
    }
    codec = {"name": "sharding_indexed", "configuration": inside}
    grid = {"name": "regular", "configuration": {"chunk_shape": [size]}}
    return {"chunk_grid": grid, "codecs": [codec]}


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"shape": [3 * 10**12]}, r"leaf x: float32\[3000000000000\] in place of float32\[8\]"),
        ({"shape": [8, 10**12]}, "leaf x: "),
        ({"shape": [0]}, r"leaf x: float32\[0\] in place of float32\[8\]"),
        ({"data_type": "complex128", "fill_value": [0.0, 0.0]}, "leaf x: complex128"),
        (pieces(10**12), r"leaf x: pieces of \[1000000000000\] in an array of \[8\]"),
    ],
)
def test_a_header_that_claims_too_much_is_damage(saved, changes, why):
    change_header(saved, **changes)
    restored = restore(saved, TARGET)
    assert (restored.step, restored.state["n"]) == (3, 3)
    (line,) = restored.skipped
    assert line.startswith("checkpoint 6 is damaged (")
    with pytest.raises(ValueError, match=why):
        restore(saved, TARGET, 6)


@pytest.mark.parametrize(
    "name", ["_CHECKPOINT_METADATA", "state/manifest.ocdbt", "state/_METADATA"]
)
def test_a_file_of_holes_is_damage(saved, name):
    os.truncate(saved / "6" / name, 10**13)
    assert restore(saved, TARGET).step == 3


def test_a_pipe_is_damage_and_nobody_waits_for_it(saved):
    (saved / "6" / "state" / "manifest.ocdbt").unlink()
    os.mkfifo(saved / "6" / "state" / "manifest.ocdbt")
    assert restore(saved, TARGET).step == 3


def change_manifest(folder, change):
    """Change the manifest of checkpoint 6, and seal it again."""
    path = folder / "6" / orbax_file.METADATA
    whole = json.loads(path.read_text())
    manifest = whole["custom_metadata"]["manifest"]
    change(manifest)
    whole["custom_metadata"] = checkpoint.manifest.seal(manifest)
    path.write_text(json.dumps(whole))


def set_leaf(**changes):
    return lambda manifest: manifest["leaves"]["x"].update(changes)


@pytest.mark.parametrize(
    "change",
    [
        set_leaf(shape=[10**12]),
        set_leaf(shape=[10**12, 0]),
        set_leaf(shape=[-8]),
        set_leaf(shape=8),
        set_leaf(shape=["8"]),
        set_leaf(dtype="float1024"),
        set_leaf(dtype=None),
        set_leaf(key_impl="threefry2x32"),
        set_leaf(stored_as=7),
        set_leaf(stored_as="../x"),
        set_leaf(stored_as="n"),
        set_leaf(crc32="0"),
        lambda manifest: manifest.update(leaves=[]),
        lambda manifest: manifest.update(leaves={"x": 5}),
        lambda manifest: manifest.update(host=None),
        lambda manifest: manifest.update(step="6"),
        lambda manifest: manifest.update(metric="best"),
        lambda manifest: manifest.pop("step"),
        lambda manifest: manifest.update(run=7),
    ],
)
def test_a_manifest_of_another_shape_is_damage(saved, change):
    change_manifest(saved, change)
    restored = restore(saved, TARGET)
    assert restored.step == 3
    assert restored.skipped[0].startswith("checkpoint 6 is damaged (")
    assert restored.skipped[0].isprintable()


@pytest.mark.parametrize(
    "text",
    [
        *("", "5", "null", "[]", "{}", '{"custom_metadata": 5}'),
        '{"custom_metadata": {"manifest": 5}}',
        "[" * 100_000,
        '{"custom_metadata":' * 50_000,
        "\ud800".encode("utf-8", "surrogatepass"),
    ],
)
def test_metadata_of_another_shape_is_damage(saved, text):
    data = text if isinstance(text, bytes) else text.encode()
    (saved / "6" / orbax_file.METADATA).write_bytes(data)
    assert restore(saved, TARGET).step == 3
    assert checkpoint.newest_host(saved) == {}


def test_a_damaged_one_alone_is_an_error_and_stays(saved):
    checkpoint.set_aside(saved, 3)
    with Checkpoints(saved) as saves:
        assert saves.rewind(-1) == ["3.damaged"]
    assert sorted(os.listdir(saved)) == ["3.damaged", "6.damaged"]
    assert not checkpoint.never_saved(saved)
