"""What all suites share."""

import gc
from collections.abc import Iterator

import hypothesis
import pytest

hypothesis.settings.register_profile("vdcos", deadline=None)  # machines are busy, and no test is timed
hypothesis.settings.load_profile("vdcos")


@pytest.fixture(scope="module", autouse=True)
def _collected() -> Iterator[None]:
    """Finalizers of what a module leaves behind run here, and not in the middle of the compiler.

    CPython 3.11 formats a traceback with ``ast.parse``; when the collector does that (a task whose exception nobody
    asked for) while another parse is under way, the outer one ends in SystemError (recursion depth mismatch).
    """
    yield
    gc.collect()
