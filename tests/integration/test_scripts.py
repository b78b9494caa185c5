"""The integration scripts, each with its own coordinator and its own clients."""

import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent
SCRIPTS = sorted(HERE.glob("test_*.sh"))


def test_the_documented_scripts_are_all_there() -> None:
    """The original request names five."""
    assert [script.stem for script in SCRIPTS] == [
        "test_client_dropout",
        "test_invalid_update",
        "test_metrics_endpoint",
        "test_multi_client",
        "test_single_round",
    ]


@pytest.mark.timeout(300)
@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.stem)
def test_the_script_passes_as_a_person_would_run_it(script: Path) -> None:
    """Every script asserts outcomes over real HTTP and says so at its end."""
    result = subprocess.run(
        ["bash", str(script)], env={"PATH": "/usr/bin:/bin", "PYTHON": sys.executable}, capture_output=True, text=True
    )
    assert result.returncode == 0, result.stdout + result.stderr
    assert "PASSED" in result.stdout
