"""What every test shares: strict ranks, and programs that compile fast and not twice."""

import os

import jax
import pytest

os.environ["JAX_PLATFORMS"] = "cpu"
jax.config.update("jax_platforms", "cpu")
SECONDS_WORTH_KEEPING = 0.2
EMITTERS = "xla_cpu_use_fusion_emitters"
# A flag that jaxlib does not know ends the process, so only the versions that are known to have it.
QUICK_CODE = {"0.10": f"--{EMITTERS}=false --xla_cpu_parallel_codegen_split_count=1"}


def pytest_configure(config):
    """Most of the time of compiling goes into fast machine code, which few tests need.

    PPO's program takes 2 seconds instead of 9. What still takes long is kept for all workers, the
    processes they start, and next time. Files are found by the program itself and JAX's version, so
    that nothing stale is loaded.
    """
    if config.option.markexpr != "slow":
        version = jax.__version__.rpartition(".")[0]
        flags = os.environ.get("XLA_FLAGS", ""), QUICK_CODE.get(version, "")
        os.environ["XLA_FLAGS"] = " ".join(filter(None, flags))
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
    """For modules about what XLA makes of a program, or that compute for long.

    Gives the compiler's options for programs as users have them.
    """
    jax.config.update("jax_disable_most_optimizations", False)
    yield {EMITTERS: True} if EMITTERS in os.environ.get("XLA_FLAGS", "") else {}
    jax.config.update("jax_disable_most_optimizations", True)
