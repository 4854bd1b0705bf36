"""What a driver says of namespaces, judged."""

from __future__ import annotations

from types import SimpleNamespace
from typing import cast

import pytest

from conformance.proof.recording import verdicts
from conformance.record.record import Record
from conformance.suite.check import Outcome
from conformance.suite.stages.identify import namespace_claims
from lab.data.plan import Controller
from lab.data.plan import Namespace as SpecifiedNamespace
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


@pytest.mark.parametrize(
    ("nsids", "claims", "expected"),
    [
        ((1, 3), [{"blocks": 64}, {"blocks": 32}], []),
        ((1, 3), [{"blocks": 64, "nsid": 3}], [3]),
        ((5,), [{"blocks": 64}], [5]),
    ],
)
def test_a_disk_without_a_namespace_id_is_the_only_namespace_or_none(
    nsids: tuple[int, ...], claims: list[dict[str, int]], expected: list[int]
) -> None:
    held = (*(SpecifiedNamespace(nsid=nsid, blocks=64) for nsid in nsids), SpecifiedNamespace(nsid=9, blocks=8, attached=False))
    asked = SimpleNamespace(all=lambda _: claims, ended=None)
    controller = Controller(serial="S", namespaces=held)
    record = SimpleNamespace(controllers=(controller,), answers=lambda _: [asked], spec_at=lambda one, _: one)
    assert [namespace.nsid for _, _, namespace in namespace_claims(cast(Record, record))] == expected
