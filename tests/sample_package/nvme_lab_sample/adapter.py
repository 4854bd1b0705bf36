"""An adapter: the reference driver in process, which never waits for an interrupt."""

from dataclasses import replace

from lab.data.plan import Scenario
from lab.drivers.reference import ReferenceInProcess
from lab.reference.settings import Settings


class Sample(ReferenceInProcess):
    """See `lab.drivers.base.Adapter`."""

    def settings(self, scenario: Scenario) -> Settings:
        return replace(super().settings(scenario), polling=True)
