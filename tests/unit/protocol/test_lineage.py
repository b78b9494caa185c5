"""Whoever has a job's versions can check that none was changed."""

from fed_compute.ids import Digest
from fed_compute.protocol.lineage import FIRST_CHAIN, chain_digest


def test_a_chain_digest_depends_on_all_that_came_before() -> None:
    a, b = Digest("a" * 64), Digest("b" * 64)
    chain = chain_digest(FIRST_CHAIN, manifest="[]", model=a)
    others = [
        chain_digest(FIRST_CHAIN, manifest="[]", model=b),
        chain_digest(FIRST_CHAIN, manifest="[[1]]", model=a),
        chain_digest(chain, manifest="[]", model=a),
    ]
    assert len({chain, *others}) == 4
    assert chain_digest(FIRST_CHAIN, manifest="[]", model=a) == chain
