"""What every test shares: strict ranks, and programs that compile fast and not twice."""

import os

import jax
import pytest

os.environ["JAX_PLATFORMS"] = "cpu"
jax.config.update("jax_platforms", "cpu")
SECONDS_WORTH_KEEPING = 0.2


def pytest_configure(config):
    """Half the time of compiling goes into optimising, which few tests need.

    What still takes long is kept for all workers, the processes they start, and next time. Files
    are found by the program itself and JAX's version, so that nothing stale is loaded.
    """
    os.environ["JAX_DISABLE_MOST_OPTIMIZATIONS"] = "1"
    jax.config.update("jax_disable_most_optimizations", True)
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
def optimised():
    """For modules about what XLA makes of a program, or that compute for long."""
    jax.config.update("jax_disable_most_optimizations", False)
    yield
    jax.config.update("jax_disable_most_optimizations", True)
