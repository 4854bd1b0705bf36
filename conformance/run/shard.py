"""Split a campaign into shards of even cost."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from hashlib import sha256

from conformance.judging.models import ShardEntry
from conformance.run import costs
from conformance.run.plan import Campaign, parse_shard


def select_shard(campaign: Campaign, seconds: Mapping[str, float]) -> Campaign:
    """Return the requested part of the campaign.

    ``seconds`` is the cost of each job, the same on all machines, so that each of them finds the same parts.
    """
    if not campaign.request.shard:
        return campaign
    number, of = parse_shard(campaign.request.shard)
    parts = costs.split(seconds, of)
    selection = replace(campaign.request, shard="", times=None, cover=None), parts
    names = frozenset(parts[number - 1])
    return replace(
        campaign,
        jobs=tuple(job for job in campaign.jobs if job.name in names),
        shard=ShardEntry(number=number, of=of, split=sha256(repr(selection).encode()).hexdigest()[:16]),
    )
