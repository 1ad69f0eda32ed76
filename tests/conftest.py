"""What every test shares: two CPU devices, strict ranks, and programs that compile fast.

This is the one place of compiler options. Everything is compiled quickly rather than well, unless a
module asks for the fixture `optimised`.
"""

import ctypes
import gc
import os
import warnings

import jax
import pytest

NUM_DEVICES = 2
SECONDS_WORTH_KEEPING = 0.2
EMITTERS = "xla_cpu_use_fusion_emitters"
# Two devices wait 40 seconds for each other and then end the process: too short on a busy machine.
PATIENCE = "--xla_cpu_collective_call_terminate_timeout_seconds=300"
# A flag that jaxlib does not know ends the process, so only the versions that are known to have it.
QUICK_CODE = f"--{EMITTERS}=false --xla_cpu_parallel_codegen_split_count=1 {PATIENCE}"
FLAGS = {"0.9": QUICK_CODE, "0.10": QUICK_CODE}


def pytest_configure(config):
    """Set up JAX before it starts, here and (by the environment) in processes that tests start.

    Most of the time of compiling goes into fast machine code, which few tests need: PPO's program
    takes 2 seconds instead of 9. What still takes long is kept for all workers, the processes they
    start, and next time. Files are found by the program itself and JAX's version, so that nothing
    stale is loaded.
    """
    version = ".".join(jax.__version__.split(".")[:2])
    flags = os.environ.get("XLA_FLAGS", "")
    if EMITTERS not in flags:  # workers are told by the process that starts them
        os.environ["XLA_FLAGS"] = f"{flags} {FLAGS.get(version, '')}".strip()
    options = {
        "jax_platforms": "cpu",
        "jax_num_cpu_devices": NUM_DEVICES,
        "jax_cpu_enable_async_dispatch": False,  # why: jaxrl_pg.training.devices.prepare
        "jax_disable_most_optimizations": True,
        "jax_compilation_cache_dir": str(config.rootpath / ".pytest_cache" / "compiled"),
        "jax_persistent_cache_min_compile_time_secs": SECONDS_WORTH_KEEPING,
    }
    for name, value in options.items():
        os.environ[name.upper()] = str(int(value) if isinstance(value, bool) else value)
        jax.config.update(name, value)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config, log):
    """Give the tests of a file to one worker, and of the contract's file the tests of a case.

    They share what was compiled for them.
    """
    from xdist.scheduler import LoadScopeScheduling

    class ByFileOrCase(LoadScopeScheduling):
        def _split_scope(self, nodeid):
            case = nodeid.partition("[")[2] if "contract/" in nodeid else ""
            return super()._split_scope(nodeid) + case

    return ByFileOrCase(config, log) if config.getvalue("dist") == "loadscope" else None


@pytest.fixture(autouse=True)
def _strict_ranks():
    with jax.numpy_rank_promotion("raise"):
        yield


@pytest.fixture(autouse=True, scope="module")
def _programs_go_with_their_module(request):
    """Forget what a module compiled and cached: kept, it is gigabytes by the end of a session."""
    yield
    forget(request.module)


def forget(module):
    """Empty the caches of a test module's functions and all of JAX's, and give the memory back.

    Measured over four files of tests/ops: 690 MB before, as much after (freed, but kept by the C
    library for later), and 310 MB once that is asked to return it.
    """
    for value in vars(module).values():
        if hasattr(value, "cache_clear") and value.__module__ == module.__name__:
            value.cache_clear()
    jax.clear_caches()
    gc.collect()
    if hasattr(libc := ctypes.CDLL(None), "malloc_trim"):
        libc.malloc_trim(0)


@pytest.fixture(scope="module")
def optimised():
    """For modules about what XLA makes of a program, or that compute for long.

    Gives the compiler's options for programs as users have them.
    """
    jax.config.update("jax_disable_most_optimizations", False)
    yield {EMITTERS: True} if EMITTERS in os.environ.get("XLA_FLAGS", "") else {}
    jax.config.update("jax_disable_most_optimizations", True)


@pytest.fixture(scope="session")
def rlax():
    """Independent implementations to compare with."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import rlax

        return rlax
