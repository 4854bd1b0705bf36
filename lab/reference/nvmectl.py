"""``nvmectl``: the reference driver as a command line tool, one verb a call; ``--json`` prints for programs.

Exit status: 0 done · 1 not done, with one sentence that says why · 2 wrong usage.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from lab.nvme.features import VALUES, Fid
from lab.nvme.logs import CriticalWarning
from lab.nvme.status import describe
from lab.reference import fio_output, jobs, vfio
from lab.reference.bench import reads
from lab.reference.errors import DriverError, Refused
from lab.reference.serve import serve
from lab.reference.service import Open, Reply, Service
from lab.reference.settings import SCHEDULERS, Settings, from_environment
from lab.reference.statistics import Statistics

Opener = Callable[[argparse.Namespace], AbstractContextManager[Open]]
"""Opens what a transport needs, and closes it after the call."""

DEPTHS = 1, 32
"""What ``bench`` measures."""


@contextmanager
def by_vfio(options: argparse.Namespace) -> Iterator[Open]:
    """Open the named functions by VFIO, or all NVMe functions of this machine; what a driver was detached from is open."""
    opened = dict[str, vfio.Vfio]()

    def functions() -> list[vfio.Vfio]:
        addresses = options.device or vfio.controllers()
        for address in addresses:
            vfio.bind(address, force=options.force)
            if address not in opened or not opened[address].is_open:
                opened[address] = vfio.Vfio(address)
        return [opened[address] for address in addresses]

    yield functions


def main(arguments: Sequence[str] | None = None, openers: Mapping[str, Opener] | None = None) -> int:
    """Run the program. ``openers`` are the transports besides VFIO."""
    known = {**(openers or {}), "vfio": by_vfio}
    words = sys.argv[1:] if arguments is None else list(arguments)
    try:
        environment = from_environment()
        if environment.get("benchmark") and not words:
            words = ["bench"]
        options = _parser(known).parse_args(words, _defaults(known, Settings(**environment)))
        chosen = {"io_queues": options.queues, "depth": options.depth, "polling": options.poll, "scheduler": options.scheduler}
        settings = Settings(**environment | chosen)
        with known[options.transport](options) as functions:
            service = Service(functions, settings)
            try:
                return _act(service, options)
            finally:
                service.close()
    except BrokenPipeError:  # the reader of the output has closed it
        sys.stderr.close()
        return 0
    except (DriverError, OSError) as error:
        print(f"nvmectl: {error}", file=sys.stderr)
        return 1


def _act(service: Service, options: argparse.Namespace) -> int:
    if options.verb == "serve":
        serve(options.folder, service)
    reply = service.perform("load", {"until": "detect"} if options.verb == "info" else {})
    for controller in service.controllers:
        for note in controller.notes.values():
            print(f"nvmectl: note: {controller.transport.name}: {note}", file=sys.stderr)
    if reply.status == "success":
        reply = options.request(service, options)
    if options.json:
        print(json.dumps(_as_json(reply)))
    elif reply.status == "success":
        options.show(options, reply)
    if reply.status == "success":
        return 0
    if not options.json:
        print(f"nvmectl: {_status_text(reply)}", file=sys.stderr)
    return 1


def _as_json(reply: Reply) -> dict[str, Any]:
    data = {} if reply.data is None else {"data": reply.data.hex()}
    return {"status": reply.status, **reply.fields, **data}


def _status_text(reply: Reply) -> str:
    """Describe a status that is not success."""
    if isinstance(reply.status, str):
        return str(reply.fields.get("log", reply.status))
    if "words" in reply.status:
        return str(reply.status["words"])
    return f"the controller answered {describe(reply.status['sct'], reply.status['sc'])}"


# -- requests --------------------------------------------------------------------------------------------------------


def _plain(action: str, *names: str) -> Callable[[Service, argparse.Namespace], Reply]:
    """Return a request for an action with these options as arguments."""

    def request(service: Service, options: argparse.Namespace) -> Reply:
        return service.perform(action, {name: getattr(options, name) for name in names})

    return request


def _write(service: Service, options: argparse.Namespace) -> Reply:
    data = sys.stdin.buffer.read() if options.file is None else options.file.read_bytes()
    if not data:
        raise Refused("there is nothing to write")
    return service.perform("write", {"nsid": options.nsid, "lba": options.lba, "fua": options.fua}, data)


def _features(service: Service, options: argparse.Namespace) -> Reply:
    if options.feature is None:
        found = {}
        for fid in VALUES:
            reply = service.perform("get-feature", {"feature": int(fid)})
            if reply.status == "success":
                found[fid.name] = reply.fields["value"]
        return Reply(fields={"features": found})
    if options.value is None:
        return service.perform("get-feature", {"feature": options.feature, "nsid": options.nsid})
    if not 0 <= options.value < 1 << 32:
        raise Refused(f"the value {options.value} of a feature does not fit 32 bits")
    named = {"feature": options.feature, "value": options.value, "save": options.save, "nsid": options.nsid}
    return service.perform("set-feature", named)


def _raw(service: Service, options: argparse.Namespace) -> Reply:
    dwords = {f"cdw{n}": getattr(options, f"cdw{n}") for n in range(10, 16)}
    given = {"queue": options.queue, "opcode": options.opcode, "nsid": options.nsid, **dwords}
    if options.length is not None:
        given["length"] = options.length
    return service.perform("raw", given, options.file.read_bytes() if options.file else None)


def _bench(service: Service, options: argparse.Namespace) -> Reply:
    """Run the standard jobs or the user's own; those that write only where it was allowed, or the disk is a temporary one."""
    controller = service.controller_for({}, "multiqueue")
    namespace = service.namespace({"nsid": options.nsid}, "multiqueue")
    if options.prepared:
        return _prepared_reads(service, options)
    may_write = options.write or (options.transport != "vfio" and options.image is None)
    chosen = options.job or [replace(job, runtime=options.seconds) for job in jobs.STANDARD]
    if forbidden := [job.name for job in chosen if job.writes and not may_write]:
        reason = f"{', '.join(forbidden)} would overwrite data of namespace {options.nsid}; --write allows it"
        if options.job:
            raise Refused(reason)
        print(f"nvmectl: note: left out: {reason}", file=sys.stderr)
    results = []
    for job in chosen:
        if job.name not in forbidden:
            results.append(jobs.run(controller, namespace, job, _show_progress if sys.stderr.isatty() else None))
    if failed := [one for one in results if one.first_error]:
        print(f"nvmectl: note: {failed[0].job.name} stopped at an error: {failed[0].first_error}", file=sys.stderr)
    return Reply(fields=fio_output.as_json(results) if options.json else {"text": fio_output.as_text(results)})


def _show_progress(job: jobs.Job, statistics: Statistics, share: float) -> None:
    end = "\n" if share >= 1 else ""
    print(f"\r\033[K{fio_output.progress_line(job, statistics, share)}", end=end, file=sys.stderr, flush=True)


def _prepared_reads(service: Service, options: argparse.Namespace) -> Reply:
    """Measure commands that were encoded before, one at a time and many at once: the rate of the driver alone."""
    controller = service.controller_for({}, "read")
    namespace = service.namespace({"nsid": options.nsid}, "read")
    measured = [reads(controller, namespace, depth, options.seconds) for depth in DEPTHS]
    figures = [{"name": f"read 4 KiB QD{one.depth}", "value": round(one.rate), "unit": "commands/s"} for one in measured]
    return Reply(fields={"figures": figures})


# -- output ---------------------------------------------------------------------------------------------------------


def _show_info(_options: argparse.Namespace, reply: Reply) -> None:
    for one in reply.fields["controllers"]:
        print(f"{one['address']}: NVMe {one['version']}")
        print(f"  queues of up to {one['max_queue_entries']} entries, doorbells {one['doorbell_stride']} bytes apart")
        print(f"  ready within {one['timeout_ms']} ms, pages of {one['page_size_min']} to {one['page_size_max']} bytes")


def _show_ready(_options: argparse.Namespace, reply: Reply) -> None:
    print("controller is up" if reply.fields["ready"] else "controller is not ready")


def _show_list(_options: argparse.Namespace, reply: Reply) -> None:
    for one in reply.fields["namespaces"]:
        size = one["blocks"] * one["block_size"]
        names = "".join(f", {name} {one[name]}" for name in ("uuid", "nguid", "eui64") if name in one)
        refused = f" ({one['refused']})" if "refused" in one else ""
        print(f"{one['controller']} NSID {one['nsid']}: {one['blocks']} blocks of {one['block_size']} bytes, "
              f"{size / (1 << 20):.1f} MiB{names}{refused}")  # fmt: skip


def _show_identify(_options: argparse.Namespace, reply: Reply) -> None:
    for one in reply.fields["controllers"]:
        print(f"{one['serial']}: {one['model']}, firmware {one['firmware']}, vendor {one['vendor_id']:04X}h")
        print(f"  transfers of up to {one['max_transfer_bytes'] or 'any number of'} bytes, {one['namespaces']} namespaces")
        print(f"  optional commands: {', '.join(one['optional_commands']) or 'none'}")
        print(f"  optional admin commands: {', '.join(one['optional_admin']) or 'none'}")
        for index, form in enumerate(one.get("lba_formats", ())):
            used = " (in use)" if index == one["lba_format"] else ""
            print(f"  LBA format {index}: {form['block_size']} bytes, {form['metadata']} bytes of metadata{used}")


def _show_data(options: argparse.Namespace, reply: Reply) -> None:
    if "result" in reply.fields:
        print(f"result {reply.fields['result']:#x}")
    data = reply.data or b""
    if options.out is not None:
        options.out.write_bytes(data)
        return
    for at in range(0, len(data), 16):
        row = data[at : at + 16]
        text = "".join(chr(byte) if 32 <= byte < 127 else "." for byte in row)
        print(f"{at:08x}: {row.hex(' ', 2):39}  {text}")


def _show_features(options: argparse.Namespace, reply: Reply) -> None:
    found = reply.fields.get("features") or {_feature_name(options.feature): reply.fields["value"]}
    for name, value in found.items():
        meaning = VALUES.get(getattr(Fid, name, None))  # type: ignore[arg-type]
        print(f"{name}: {value:#x} {meaning(value) if meaning else ''}".rstrip())
    if reply.data:
        _show_data(options, Reply(data=reply.data))


def _show_smart(_options: argparse.Namespace, reply: Reply) -> None:
    units = {"temperature": " °C", "available_spare": " %", "spare_threshold": " %", "percentage_used": " %"}
    for name, value in reply.fields.items():
        if name == "critical_warning":
            print(f"critical warning: {_warnings(value)}")
        else:
            print(f"{name.replace('_', ' ')}: {value}{units.get(name, '')}")


def _show_mi(_options: argparse.Namespace, reply: Reply) -> None:
    fields = reply.fields
    state = "functional" if fields["functional"] else "failed"
    print(f"NVMe-MI {fields['version']}, {fields['ports']} port(s), subsystem {state}")
    print(f"  {fields['temperature']} °C, {fields['percentage_used']} % used, warnings: {_warnings(fields['warnings'])}")
    for one in fields["controllers"]:
        state = "ready" if one["ready"] else "not ready"
        print(f"  controller {one['id']} ({one['vendor_id']:04x}:{one['device_id']:04x}): {state}, "
              f"{one['temperature']} °C, {one['available_spare']} % spare, {one['percentage_used']} % used, "
              f"warnings: {_warnings(one['warnings'])}")  # fmt: skip


def _warnings(bits: int) -> str:
    return ", ".join(name for name, on in CriticalWarning(bits).fields().items() if on).lower() or "none"


def _show_bench(_options: argparse.Namespace, reply: Reply) -> None:
    for figure in reply.fields.get("figures", ()):
        print(f"{figure['name']}: {figure['value']} {figure['unit']}")
    print(reply.fields.get("text", ""), end="")


def _show_done(_options: argparse.Namespace, _reply: Reply) -> None:
    print("done")


# -- the command line -----------------------------------------------------------------------------------------------


def _number(text: str) -> int:
    try:
        return int(text, 0)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number") from None


def _at_least(least: int) -> Callable[[str], int]:
    def number(text: str) -> int:
        if (found := _number(text)) < least:
            raise argparse.ArgumentTypeError(f"{text} is less than {least}")
        return found

    return number


def _feature(text: str) -> int:
    name = text.upper().replace("-", "_")
    found = int(Fid[name]) if name in Fid.__members__ else _number(text)
    if not 0 <= found <= 0xFF:
        raise argparse.ArgumentTypeError(f"{text} does not fit a feature's identifier of 8 bits")
    return found


def _feature_name(fid: int) -> str:
    return Fid(fid).name if fid in Fid._value2member_map_ else f"{fid:02X}h"


def _job(text: str) -> jobs.Job:
    try:
        return jobs.parse(text)
    except Refused as refused:
        raise argparse.ArgumentTypeError(str(refused)) from None


def _defaults(openers: Mapping[str, Opener], settings: Settings) -> argparse.Namespace:
    """Return the defaults of the options that may stand before or after the verb."""
    return argparse.Namespace(
        transport=next(iter(openers)), device=None, image=None, force=False, queues=settings.io_queues, depth=settings.depth,
        poll=settings.polling, scheduler=settings.scheduler, json=False, out=None,
    )  # fmt: skip


def _parser(openers: Mapping[str, Opener]) -> argparse.ArgumentParser:
    common = argparse.ArgumentParser(add_help=False, argument_default=argparse.SUPPRESS)
    common.add_argument("--transport", choices=openers, help=f"how the controller is reached (default: {next(iter(openers))})")
    common.add_argument("--device", action="append", metavar="ADDRESS", help="vfio: PCI address; all controllers by default")
    common.add_argument("--image", type=Path, help="in-process, qtest: a raw disk image instead of an empty disk")
    common.add_argument("--force", action="store_true", help="vfio: take the controller from another driver")
    common.add_argument("--queues", type=_at_least(1), help="I/O queue pairs wanted")
    common.add_argument("--depth", type=_at_least(2), help="entries of each I/O queue")
    common.add_argument("--poll", action="store_true", help="poll for completions instead of using interrupts")
    common.add_argument("--scheduler", choices=SCHEDULERS, help="which queue an operation of bench goes to")
    common.add_argument("--json", action="store_true", help="print JSON")
    parser = argparse.ArgumentParser(prog="nvmectl", description="The reference driver's own tool.", parents=[common])
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB")

    def verb(
        name: str,
        help: str | None,
        request: Callable[[Service, argparse.Namespace], Reply],
        show: Callable[[argparse.Namespace, Reply], None] = _show_done,
    ) -> argparse.ArgumentParser:
        if help is None:  # not listed in the help
            added: argparse.ArgumentParser = verbs.add_parser(name, parents=[common])
        else:
            added = verbs.add_parser(name, help=help, parents=[common])
        added.set_defaults(request=request, show=show)
        return added

    def range_of(added: argparse.ArgumentParser, *names: str) -> argparse.ArgumentParser:
        for name in names:
            added.add_argument(name, type=_number)
        return added

    verb("info", "show the registers", _plain("info"), _show_info)
    verb("ready", "bring the controller up", _plain("ready"), _show_ready)
    verb("list", "list every namespace with its capacity", _plain("list"), _show_list)
    verb("identify", "show the controller's identity", _plain("identify"), _show_identify)
    reading = range_of(verb("read", "read blocks, as a hex dump", _plain("read", "nsid", "lba", "blocks"), _show_data),
                       "nsid", "lba", "blocks")  # fmt: skip
    reading.add_argument("--out", type=Path, help="write the bytes to a file instead")
    writing = range_of(verb("write", "write a file, or the standard input", _write), "nsid", "lba")
    writing.add_argument("file", type=Path, nargs="?")
    writing.add_argument("--fua", action="store_true", default=False, help="force unit access: on the medium when it is done")
    range_of(verb("flush", "put what was written on the medium", _plain("flush", "nsid")), "nsid")
    trimming = verb("trim", "deallocate blocks", _plain("trim", "nsid", "lba", "blocks"))
    range_of(trimming, "nsid", "lba", "blocks")
    features = verb("features", "get all features, get one, or set one", _features, _show_features)
    features.add_argument("feature", type=_feature, nargs="?", help="identifier or name: volatile-write-cache")
    features.add_argument("value", type=_number, nargs="?")
    features.add_argument("--save", action="store_true", default=False, help="over resets and power cycles")
    features.add_argument("--nsid", type=_number, default=0)
    verb("smart", "show temperature, wear and errors", _plain("smart"), _show_smart)
    managing = verb("mi", "ask the management endpoint in band: identity and health", _plain("mi", "clear"), _show_mi)
    managing.add_argument("--clear", action="store_true", default=False, help="clear the composite status first")
    verb("reset", "reset the controller", _plain("reset"))
    raw = verb("raw", "send one command as it is", _raw, _show_data)
    raw.add_argument("queue", choices=("admin", "io"))
    raw.add_argument("opcode", type=_number)
    raw.add_argument("--nsid", type=_number, default=0)
    for n in range(10, 16):
        raw.add_argument(f"--cdw{n}", type=_number, default=0)
    raw.add_argument("--length", type=_number, help="bytes that the command returns")
    raw.add_argument("--file", type=Path, help="the bytes that it takes")
    raw.add_argument("--out", type=Path, help="write the bytes to a file instead")
    bench = verb("bench", "run fio's standard jobs, or your own", _bench, _show_bench)
    bench.add_argument("--nsid", type=_number, default=1)
    bench.add_argument("--seconds", type=float, default=1.0, help="for each of the standard jobs")
    bench.add_argument(
        "--job",
        type=_job,
        action="append",
        metavar="NAME=VALUE,...",
        help=f"a job of your own (repeatable); options as fio's: {', '.join(jobs.OPTIONS)}",
    )
    bench.add_argument("--write", action="store_true", default=False, help="allow jobs that overwrite data of a real disk")
    bench.add_argument("--prepared", action="store_true", default=False, help="measure prepared reads instead, at 1 and 32")
    serving = verb("serve", None, _plain("info"))  # for the lab, not for people
    serving.add_argument("folder", type=Path)
    return parser
