"""What stands beside a failure, so that its cause is seen without another command: a sentence, and rows of the wire."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from functools import cached_property

from conformance.record.record import Record
from conformance.suite.check import Finding
from conformance.wire.decode import WireLine, timeline
from conformance.wire.excerpts import Key, brief, key
from conformance.wire.story import story
from lab.data.events import ActionEnded

LOG = logging.getLogger(__name__)


class Explainer:
    """Explains findings of one record; the timeline is decoded when the first one asks for it.

    Evidence that is damaged spoils the explanation, and never the verdict.
    """

    def __init__(self, record: Record) -> None:
        """Take the record that the findings are about."""
        self._record = record

    def cause(self, finding: Finding) -> str:
        """Return what the device saw of an action whose answer violates a rule; "" for any other event."""
        if not isinstance(finding.event, ActionEnded):
            return ""
        asked = next((one for one in self._record.asked if one.ended is finding.event), None)
        try:
            return story(self._record, asked) if asked else ""
        except Exception:  # damaged evidence of any kind
            LOG.debug("no story of %s", self._record.evidence.folder, exc_info=True)
            return ""

    def wire(self, finding: Finding) -> tuple[str, ...]:
        """Return the rows that lead to a finding's event, that one last; none without an event."""
        at = self._places.get(key(finding.event)) if finding.event else None
        return () if at is None else tuple(row.line for row in brief(self._rows, at))

    @cached_property
    def _rows(self) -> Sequence[WireLine]:
        try:
            return list(timeline(self._record.scenario, self._record.events))
        except Exception:  # damaged evidence of any kind
            LOG.debug("no timeline of %s", self._record.evidence.folder, exc_info=True)
            return []

    @cached_property
    def _places(self) -> dict[Key, int]:
        return {key(row.event): at for at, row in enumerate(self._rows)}
