"""What every test shares: strict ranks, and programs that need not be compiled twice."""

import os

import jax
import pytest

os.environ["JAX_PLATFORMS"] = "cpu"
jax.config.update("jax_platforms", "cpu")
SECONDS_WORTH_KEEPING = 0.2


def pytest_configure(config):
    """What takes long to compile is kept for all workers, the processes they start, and next time.

    Files are found by the program itself and JAX's version, so that nothing stale is loaded.
    """
    folder = str(config.rootpath / ".pytest_cache" / "compiled")
    os.environ["JAX_COMPILATION_CACHE_DIR"] = folder
    os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = str(SECONDS_WORTH_KEEPING)
    jax.config.update("jax_compilation_cache_dir", folder)
    jax.config.update("jax_persistent_cache_min_compile_time_secs", SECONDS_WORTH_KEEPING)


@pytest.fixture(autouse=True)
def _strict_ranks():
    with jax.numpy_rank_promotion("raise"):
        yield


@pytest.fixture(scope="module")
def compile_fast():
    """For modules whose claims hold however XLA optimises: half the time goes into optimising."""
    jax.config.update("jax_disable_most_optimizations", True)
    yield
    jax.config.update("jax_disable_most_optimizations", False)
