"""What all tests of attacks need."""

import pytest
from pyautoattack import checks


@pytest.fixture(autouse=True)
def tracing_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    """pyautoattack's check for dynamic defences ends Python's tracing, and so coverage."""
    monkeypatch.setattr(checks, "check_dynamic", lambda *arguments, **options: None)
