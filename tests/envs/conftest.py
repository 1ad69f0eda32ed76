"""Environments are tested in programs that compile fast."""

import pytest


@pytest.fixture(autouse=True, scope="module")
def _fast(compile_fast):
    return compile_fast
