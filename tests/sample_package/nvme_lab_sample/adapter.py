"""An adapter: the reference driver in process, which never waits for an interrupt."""

from dataclasses import replace

from conformance.api import ReferenceInProcess, ReferenceSettings, Scenario


class Sample(ReferenceInProcess):
    """See `conformance.api.Adapter`."""

    def settings(self, scenario: Scenario) -> ReferenceSettings:
        return replace(super().settings(scenario), polling=True)
