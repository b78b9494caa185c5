"""Nodes that would compute something else are found before they do."""

import pytest

from fed_compute.errors import ClusterUnusable
from fed_compute.simulator.ray.surroundings import check_versions, versions

HERE = {"fed-compute": "0.1.0 (source 0123)", "torch": "2.9"}


def test_this_machine_has_the_versions_of_itself() -> None:
    check_versions(versions(), versions(), node="here")
    assert set(versions()) == {"fed-compute", "numpy", "torch"}


@pytest.mark.parametrize(
    ("found", "said"),
    [
        (HERE | {"torch": "2.8"}, r"node 10\.0\.0\.7 has torch 2\.8 \(here 2\.9\); install the same"),
        (HERE | {"fed-compute": "0.1.0 (source 4567)"}, r"fed-compute 0\.1\.0 \(source 4567\) \(here 0\.1\.0 \(source"),
        ({"torch": "2.9"}, r"fed-compute none \(here"),
    ],
)
def test_another_version_is_named_with_its_node(found: dict[str, str], said: str) -> None:
    with pytest.raises(ClusterUnusable, match=said):
        check_versions(found, HERE, node="10.0.0.7")
