"""Campaigns: scenarios are recorded undisturbed once, then struck again and again, and all verdicts are compared.

``python -m tests.chaos.campaign --strikes 1000 --out FOLDER`` goes on where it was ended. Each round strikes a sample of
scenarios; the folder keeps the calm verdicts, a line for each round, and the results of rounds that went wrong.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import uuid
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

import jsonschema

from conformance.judging.files import read, schema
from conformance.judging.models import FILE, Results
from conformance.suite.check import Outcome
from conformance.suite.selection import SCENARIOS
from lab import settings
from lab.guest.folder import shared_root, sweep

HERE = Path(__file__).parent
MAIN = "import mayhem; from conformance.cli import main; main()"
CALM = "from conformance.cli import main; main()"
UNBLAMED = {Outcome.PASS, Outcome.INCONCLUSIVE}
"""What is sampled from the memory of a guest on QEMU's device may be seen in one run and overwritten in another."""
NOT_THE_DRIVERS = {Outcome.ERROR, Outcome.FLAKY}
ACCIDENTS = ("qemu", "thread", "socket", "worker")
ALL = (*ACCIDENTS, "stop", "suspend", "disk", "load", "bit")
DRIVERS = ("linux", "u-boot", "edk2", "reference")
SAMPLE = 5
"""Scenarios of a round."""
POOL = 30
"""Scenarios that are recorded undisturbed; later rounds strike these again, which spares a campaign half of its time."""
MORE = 2
"""Further strikes at a recording, at most."""
CALM_FILE, ROUNDS_FILE, STRIKES_FILE = "calm.json", "rounds.jsonl", "strikes"


@dataclass
class Round:
    """What became of a struck run."""

    seed: int
    scenarios: Sequence[str]
    seconds: float = 0.0
    strikes: dict[str, int] = field(default_factory=dict)  # by victim, without those that missed
    verdicts: dict[str, int] = field(default_factory=dict)  # by outcome
    wrong: list[str] = field(default_factory=list)  # verdicts that differ from the calm ones otherwise than they may
    leaks: list[str] = field(default_factory=list)


def run(
    folder: Path, runtime: Path, main: str, *arguments: str, seed: int = 0, mark: str = "",
    victims: Sequence[str] = ACCIDENTS, more: int = 0, cache: Path | None = None,
) -> Results:  # fmt: skip
    """``nvme-lab run`` in a child; its results, which must be whole."""
    env = {
        **os.environ, "PYTHONPATH": os.pathsep.join([str(HERE), *sys.path]), "XDG_RUNTIME_DIR": str(runtime),
        "CHAOS_MARK": mark, "MAYHEM_LOG": str(folder / STRIKES_FILE), "MAYHEM_SEED": str(seed),
        "MAYHEM_VICTIMS": " ".join(victims), "MAYHEM_MORE": str(more),
        **({"MAYHEM_CACHE": str(cache), "NVME_LAB_CACHE": str(cache)} if cache else {}),
    }  # fmt: skip
    out = folder / ("struck" if main == MAIN else "calm")
    command = [sys.executable, "-c", main, "run", "--jobs", "2", "--out", str(out), *arguments]
    done = subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True, check=False)
    assert done.returncode in range(4), done.stdout + done.stderr
    assert "Traceback" not in done.stdout + done.stderr, done.stdout + done.stderr
    jsonschema.validate(json.loads((out / FILE).read_text()), schema())
    found = read(out)
    assert not found.unfinished, done.stdout + done.stderr
    for recorded in found.runs:
        assert (out / recorded.evidence / "identity.json").is_file()
        assert not recorded.retry_reason or f"recorded again  {'/'.join(recorded.key)}, after" in done.stdout
    return found


def marked(mark: str) -> list[int]:
    """Return the processes that have the mark in their environment."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if f"CHAOS_MARK={mark}".encode() in (process / "environ").read_bytes().split(b"\0"):
                found.append(int(process.name))
        except OSError:  # it has ended
            continue
    return found


def leaks(runtime: Path, mark: str) -> list[str]:
    """Return what has outlived a run."""
    left = [f"process {pid}" for pid in marked(mark)]
    return [*left, *map(str, runtime.rglob("run-*")), *map(str, sweep(shared_root()) if shared_root().is_dir() else ())]


def same(outcome: Outcome, calm: Outcome) -> bool:
    """Return whether a verdict may come instead of a calm run's."""
    return outcome == calm or outcome in NOT_THE_DRIVERS or {outcome, calm} == UNBLAMED


class Campaign:
    """A folder with all that was struck so far."""

    def __init__(self, out: Path, drivers: Sequence[str], victims: Sequence[str]) -> None:
        """Begin, or go on; a copy of the cache is made first, in which bits are flipped."""
        out.mkdir(parents=True, exist_ok=True)
        self.out, self.drivers, self.victims = out.resolve(), drivers, victims
        self.cache, pristine = self.out / "cache", settings.load().cache
        if not self.cache.exists():
            partial = self.out / "cache.partial"
            shutil.rmtree(partial, ignore_errors=True)
            command = ["cp", "-a", "--sparse=always", "--reflink=auto", str(pristine), str(partial)]
            subprocess.run(command, check=True)
            partial.rename(self.cache)
        file = self.out / CALM_FILE
        self.calm: dict[str, dict[str, str]] = json.loads(file.read_text()) if file.exists() else {}
        file = self.out / ROUNDS_FILE
        lines = file.read_text().splitlines() if file.exists() else []
        self.rounds = [Round(**json.loads(line)) for line in lines]

    @property
    def struck(self) -> int:
        """Return how many strikes have hit."""
        return sum(sum(one.strikes.values()) for one in self.rounds)

    def next_round(self) -> Round:
        """Record a sample of the scenarios under strikes, and keep what came of it."""
        seed = len(self.rounds)
        known = sorted(self.calm.keys() & SCENARIOS.keys())
        sample = random.Random(seed).sample(known if len(known) >= POOL else sorted(SCENARIOS), SAMPLE)
        chosen = [argument for name in self.drivers for argument in ("--driver", name)]
        with tempfile.TemporaryDirectory(prefix="chaos-") as runtime, tempfile.TemporaryDirectory(prefix="chaos-") as scratch:
            folder = Path(scratch)
            if missing := [id for id in sample if id not in self.calm]:
                self._keep_calm(missing, run(folder, Path(runtime), CALM, *chosen, *_scenarios(missing)))
            mark, began = uuid.uuid4().hex, time.monotonic()
            found = run(
                folder, Path(runtime), MAIN, "--confirm", "--strict", *chosen, *_scenarios(sample),
                seed=seed, mark=mark, victims=self.victims, more=MORE, cache=self.cache,
            )  # fmt: skip
            lines = (folder / STRIKES_FILE).read_text().splitlines() if (folder / STRIKES_FILE).exists() else []
            one = Round(seed, sample, round(time.monotonic() - began, 1), leaks=leaks(Path(runtime), mark))
            expected = {key: outcome for id in sample for key, outcome in self.calm[id].items()}
            outcomes = {"/".join(verdict.key): verdict.outcome for verdict in found.verdicts}
            known_faults = {"/".join(verdict.key) for verdict in found.verdicts if verdict.known}  # load brings some out
            one.wrong = [
                f"{key}: {outcomes.get(key, 'nothing')} instead of {expected.get(key, 'nothing')}"
                for key in sorted(expected.keys() | outcomes.keys())
                if key not in outcomes or key not in expected
                or not (key in known_faults or same(outcomes[key], Outcome(expected[key])))
            ]  # fmt: skip
            one.strikes = hits(lines)
            one.verdicts = dict(Counter(outcomes.values()))
            if one.wrong or one.leaks:
                shutil.copytree(folder, self.out / f"round-{seed}", symlinks=True)
        self._flip_back(lines)
        with (self.out / ROUNDS_FILE).open("a") as file:
            file.write(json.dumps(asdict(one)) + "\n")
        self.rounds.append(one)
        return one

    def _keep_calm(self, scenarios: Sequence[str], found: Results) -> None:
        for id in scenarios:
            verdicts = [verdict for verdict in found.verdicts if verdict.scenario == id]
            self.calm[id] = {"/".join(verdict.key): verdict.outcome for verdict in verdicts}
        (self.out / CALM_FILE).write_text(json.dumps(self.calm, indent=1))

    def _flip_back(self, lines: Sequence[str]) -> None:
        """Repair what was flipped and not removed, so that each round begins with a sound cache."""
        for line in reversed(lines):
            if line.startswith("flipped "):
                name, at, byte = line.removeprefix("flipped ").rsplit(" ", 2)
                path = self.cache / name
                if path.is_file() and path.stat().st_size > int(at):
                    with path.open("r+b") as file:
                        file.seek(int(at))
                        file.write(bytes([int(byte)]))


def _scenarios(ids: Sequence[str]) -> list[str]:
    return [argument for id in ids for argument in ("--scenario", id)]


def hits(lines: Sequence[str]) -> dict[str, int]:
    """Return the number of strikes by victim, without those that missed."""
    struck: Counter[str] = Counter()
    for line, after in zip(lines, [*lines[1:], ""], strict=True):
        victim, _, name = line.partition(" ")
        struck[victim] += victim in ALL and not after.startswith(f"missed {name}:")
    return dict(+struck)


def main() -> None:
    """Strike until there were enough strikes, or the time is over."""
    parser = argparse.ArgumentParser(prog="python -m tests.chaos.campaign", description=__doc__.partition("\n")[0])
    parser.add_argument("--strikes", type=int, default=1000, help="how many, those of earlier calls included (default: 1000)")
    parser.add_argument("--seconds", type=float, default=float("inf"), help="no round begins after this time")
    parser.add_argument("--out", type=Path, required=True, help="the campaign's folder, new or of an earlier call")
    parser.add_argument("--driver", action="append", help=f"of these drivers (default: {', '.join(DRIVERS)})")
    parser.add_argument("--victim", action="append", choices=ALL, help="strike only these")
    asked = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))  # the round that is running ends, too
    campaign = Campaign(asked.out, asked.driver or DRIVERS, asked.victim or ALL)
    began = time.monotonic()
    while campaign.struck < asked.strikes and time.monotonic() - began < asked.seconds:
        one = campaign.next_round()
        print(f"round {one.seed}: {one.seconds:.0f} s, strikes {one.strikes}, verdicts {one.verdicts}", flush=True)
        for what in (*one.wrong, *one.leaks):
            print(f"  {what}", flush=True)
    total = sum((Counter(one.strikes) for one in campaign.rounds), Counter[str]())
    verdicts = sum((Counter(one.verdicts) for one in campaign.rounds), Counter[str]())
    wrong, left = (sum(len(getattr(one, key)) for one in campaign.rounds) for key in ("wrong", "leaks"))
    print(f"{campaign.struck} strikes in {len(campaign.rounds)} rounds: {dict(total)}")
    print(f"verdicts: {dict(verdicts)}; wrong: {wrong}; left behind: {left}")
    sys.exit(1 if wrong or left else 0)


if __name__ == "__main__":
    main()
