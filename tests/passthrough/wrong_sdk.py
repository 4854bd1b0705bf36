"""An SDK program with one deliberate mistake, or one legal oddity, named as its only argument. It runs in the guest.

Each takes the lab's own program and changes a part of it. `MISTAKES` are named after the check that must catch them.
"""

from __future__ import annotations

import fcntl
import signal
import sys
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from lab.nvme.commands import Command
from lab.passthrough import buffers, commands, consent, interfaces, lengths, program, structures
from lab.passthrough.device import Device
from lab.passthrough.interfaces import Interface
from lab.passthrough.program import Program, Reply, Step
from lab.passthrough.request import Answer, Request

Changed = type[Program]
MISTAKES: dict[str, Changed] = {}
ODDITIES: dict[str, Changed] = {}


def named(name: str, where: dict[str, Changed]) -> Callable[[Changed], Changed]:
    """Register the decorated program under a name."""

    def add(changed: Changed) -> Changed:
        where[name] = changed
        return changed

    return add


def nothing(*_: Any, **__: Any) -> None:
    """Check nothing."""


class _Rewriting(Program):
    """Changes the answer to each command."""

    def change(self, result: Reply) -> Reply:
        return result

    def _send(self, step: Step, request: Request) -> Reply:
        return self.change(super()._send(step, request))

    def _queued(self, *arguments: Any) -> list[Reply]:
        return [self.change(result) for result in super()._queued(*arguments)]


# -- mistakes -----------------------------------------------------------------------------------------------------------


@named("passthrough/command:last-dwords-lost", MISTAKES)
class LastDwordsLost(Program):
    """Dwords 13 to 15 stay zero."""

    def raw(self, step: Step) -> Request:
        request = super().raw(step)
        return replace(request, command=Command(request.command[:52] + bytes(12)))


@named("passthrough/answer:nothing-returned", MISTAKES)
class NothingTold(Program):
    """Sends the command and returns nothing."""

    def answer(self, step: Step) -> Reply:
        super().answer(step)
        return {}


@named("passthrough/zeros-based:one-more", MISTAKES)
class OneMore(Program):
    """NLB is the number of blocks."""

    def __init__(self) -> None:
        super().__init__()
        commands.zeros_based = lambda count, bits, what: count
        lengths.check = nothing


@named("passthrough/once:sent-twice", MISTAKES)
class SentTwice(Program):
    """Each command goes out twice."""

    def _send(self, step: Step, request: Request) -> Reply:
        super()._send(step, request)
        return super()._send(step, request)


@named("passthrough/completion:status-code-only", MISTAKES)
class StatusCodeOnly(_Rewriting):
    """The caller gets SC and SCT alone."""

    def change(self, result: Reply) -> Reply:
        return {**result, "status": result["status"] & 0x7FF}


@named("passthrough/completion:no-dword-0", MISTAKES)
class NoDword0(_Rewriting):
    """The caller gets no command specific dword."""

    def change(self, result: Reply) -> Reply:
        return {name: value for name, value in result.items() if name != "dw0"}


@named("passthrough/completion:dword-1-lost", MISTAKES)
class Dword1Lost(_Rewriting):
    """The caller gets zeros for dword 1."""

    def change(self, result: Reply) -> Reply:
        return {**result, "dw1": 0} if "dw1" in result else result


@named("passthrough/data:last-byte", MISTAKES)
class LastByte(_Rewriting):
    """The last byte of what was read is lost."""

    def change(self, result: Reply) -> Reply:
        return {**result, "data": result["data"][:-2] + "00"} if result.get("data") else result


@named("passthrough/data:one-buffer-for-all", MISTAKES)
class OneBufferForAll(Program):
    """All threads share a buffer."""

    def __init__(self) -> None:
        super().__init__()
        shared = buffers.Buffer(64 << 10)

        class Shared(buffers.Buffers):
            def __init__(self, request: Request) -> None:
                super().__init__(request)
                shared._length = request.data_length
                self.data = shared

        vars(interfaces)["Buffers"] = Shared


@named("passthrough/metadata:left-out", MISTAKES)
class MetadataLeftOut(_Rewriting):
    """Metadata of what was read are zeros."""

    def change(self, result: Reply) -> Reply:
        return {**result, "metadata": "00" * (len(result.get("metadata", "")) // 2)} if "metadata" in result else result


@named("passthrough/namespace:always-the-first", MISTAKES)
class AlwaysTheFirst(Program):
    """Whatever namespace is asked for, the first one gets the command."""

    def device(self, path: str) -> Device:
        return super().device(path.replace("n2", "n1"))

    def _send(self, step: Step, request: Request) -> Reply:
        first = request.command.but(NSID=1) if request.queue == "io" else request.command
        return super()._send(step, replace(request, command=first))


@named("passthrough/length:unchecked", MISTAKES)
class LengthUnchecked(Program):
    """Any buffer will do."""

    def __init__(self) -> None:
        super().__init__()
        lengths.check = nothing


@named("passthrough/privilege:reports-success", MISTAKES)
@named("passthrough/timeout:reports-success", MISTAKES)
class ToldDone(Program):
    """Reports success for whatever fails."""

    def answer(self, step: Step) -> Reply:
        result = super().answer(step)
        return {"status": 0, "dw0": 0, "data": "", "metadata": ""} if "error" in result or result.get("status") else result


class _NumberKept(Device):
    """Uses the number of its descriptor after it was closed, for whatever that is by then."""

    def close(self) -> None:
        number = self._descriptor
        super().close()
        self._descriptor = number

    def submit(self, request: Request, *, yes: bool = False, interface: Interface | None = None) -> Answer:
        nsid = fcntl.ioctl(self._descriptor, structures.ID)
        return interfaces.call(self._descriptor, Interface.IO64, replace(request, command=request.command.but(NSID=nsid)))


@named("passthrough/closed:number-kept", MISTAKES)
class NumberKept(Program):
    """The descriptor's number outlives it."""

    def device(self, path: str) -> Device:
        return _NumberKept(path)


@named("passthrough/mounted:not-looked", MISTAKES)
class NotLooked(Program):
    """Does not look whether a namespace is mounted."""

    def device(self, path: str) -> Device:
        return Device(path, mounted_too=True)


@named("passthrough/consent:never-asked", MISTAKES)
class NeverAsked(Program):
    """Destructive commands need no yes."""

    def __init__(self) -> None:
        super().__init__()
        consent.require_yes = nothing


@named("passthrough/reason:just-no", MISTAKES)
class JustNo(Program):
    """All refusals are alike."""

    def answer(self, step: Step) -> Reply:
        result = super().answer(step)
        return {"error": "refused", "words": "no"} if "error" in result else result


@named("passthrough/availability:always", MISTAKES)
class Always(Program):
    """Every device is available."""

    def available(self, step: Step) -> Reply:
        return {**super().available(step), "commands": True}


@named("passthrough/signal:sent-again", MISTAKES)
class SentAgain(Program):
    """A signal during the wait makes it send the command again."""

    interrupted = False

    def _send(self, step: Step, request: Request) -> Reply:
        signal.signal(signal.SIGUSR1, self._note)
        self.interrupted = False
        result = super()._send(step, request)
        return super()._send(step, request) if self.interrupted else result

    def _note(self, *_: object) -> None:
        self.interrupted = True


# -- legal oddities -------------------------------------------------------------------------------------------------------


@named("one-block-a-command", ODDITIES)
class OneBlockACommand(Program):
    """A read or write of many blocks becomes many commands: how an SDK cuts them is its own affair."""

    def read(self, step: Step) -> Reply:
        parts = [super(OneBlockACommand, self).read({**step, "lba": lba, "blocks": 1}) for lba in self._blocks(step)]
        return {**parts[-1], "data": "".join(part["data"] for part in parts)}

    def _blocks(self, step: Step) -> range:
        return range(step["lba"], step["lba"] + step["blocks"])


@named("narrow-interfaces", ODDITIES)
class NarrowInterfaces(Program):
    """The oldest ioctls, which carry no dword 1."""

    def __init__(self) -> None:
        super().__init__()
        interfaces.DEFAULT = {"admin": Interface.ADMIN_CMD, "io": Interface.IO_CMD}


@named("character-devices", ODDITIES)
class CharacterDevices(Program):
    """Namespaces by their character devices only."""

    def device(self, path: str) -> Device:
        return super().device(path.replace("nvme0n", "ng0n"))


@named("identifies-first", ODDITIES)
class IdentifiesFirst(Program):
    """Before each command it identifies the controller."""

    def _send(self, step: Step, request: Request) -> Reply:
        if "handle" not in step:
            with self.device(step["device"]) as opened:
                opened.submit(commands.identify())
        return super()._send(step, request)


@named("one-by-one", ODDITIES)
class OneByOne(Program):
    """What may be done together is done one after the other."""

    def together(self, step: Step) -> Reply:
        return {"answers": [self.answer({"device": step["device"], **part}) for part in step["steps"]]}


@named("unaligned-buffers", ODDITIES)
class UnalignedBuffers(Program):
    """Buffers begin inside a page, at a dword."""

    def __init__(self) -> None:
        super().__init__()

        class Unaligned(buffers.Buffer):
            def __init__(self, length: int, content: bytes = b"") -> None:
                super().__init__(length + 36 if length else 0, bytes(36) + content if length else b"")
                self.address += 36 if length else 0

            def read(self) -> bytes:
                return super().read()[36:]

        vars(buffers)["Buffer"] = Unaligned


@named("ignores-signals", ODDITIES)
class IgnoresSignals(Program):
    """Signals never interrupt it."""

    def answer(self, step: Step) -> Reply:
        signal.signal(signal.SIGUSR1, signal.SIG_IGN)
        return super().answer(step)


@named("refuses-more", ODDITIES)
class RefusesMore(Program):
    """Every command that could destroy anything is refused, even with a yes."""

    def _send(self, step: Step, request: Request) -> Reply:
        return super()._send({**step, "yes": False}, request)


if __name__ == "__main__":
    program.serve({**MISTAKES, **ODDITIES}[sys.argv[1]](), sys.stdin, sys.stdout)
