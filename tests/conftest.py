"""What every test shares."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, settings

# Examples take as long as the machine is busy, which is no fault of the code under test.
settings.register_profile(
    "suite", deadline=None, suppress_health_check=[HealthCheck.too_slow], print_blob=True
)
settings.load_profile("suite")


@pytest.fixture
def anyio_backend() -> tuple[str, dict[str, bool]]:
    return ("asyncio", {"use_uvloop": True})


@pytest.fixture(autouse=True)
def _every_log_line_is_made(caplog: pytest.LogCaptureFixture) -> None:
    """A log call that cannot be formatted is a crash in production, whatever the level here."""
    # Not 0: that is "as the root says", which is warnings alone.
    caplog.set_level(1, "helexa")
