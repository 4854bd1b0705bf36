"""What a driver says of namespaces, judged."""

from __future__ import annotations

import pytest

from conformance.proof.recording import verdicts
from conformance.suite.check import Outcome
from lab.reference.namespace import Namespace


@pytest.mark.parametrize(
    ("scenario", "expected"), [("read/interleaved", Outcome.INCONCLUSIVE), ("identify/basic", Outcome.FAIL)]
)
def test_a_namespace_without_blocks_is_legal_only_where_metadata_excuses_it(
    scenario: str, expected: Outcome, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Namespace, "blocks", 0)
    (found,) = [verdict for verdict in verdicts(scenario, 1) if verdict.check.id == "identify/capacity64"]
    assert found.outcome is expected
