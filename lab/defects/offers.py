"""Mistakes about what a controller offers, by what is sent; each with the nearest legal thing."""

from __future__ import annotations

from lab.defects.senders import sends
from lab.nvme import commands as c
from lab.nvme.commands import BROADCAST_NSID, Command
from lab.nvme.features import Fid
from lab.nvme.identify import Cns
from lab.nvme.logs import Lid
from lab.reference.controller import Controller


def _log(driver: Controller, lid: int, **more: int) -> Command:
    """Return Get Log Page for 512 bytes into the last quarter of the first I/O completion ring's page."""
    memory = driver.io[0].completion.memory
    return c.GetLogPage.reading(lid, 512, NSID=BROADCAST_NSID, PRP1=memory.address + 3584, **more)


def _identify(driver: Controller, cns: int, nsid: int, **more: int) -> Command:
    """Return Identify into a page that the driver keeps."""
    page = driver.transport.allocate(driver.page_size, driver.page_size)
    return c.Identify.of(CNS=cns, NSID=nsid, PRP1=page.address, **more)


def _download(driver: Controller, *offsets: int) -> list[Command]:
    """Return Firmware Image Download of 4096 bytes for each of these offsets in bytes."""
    page = driver.transport.allocate(driver.page_size, driver.page_size)
    return [c.FirmwareDownload.of(NUMD=1023, OFST=offset // 4, PRP1=page.address) for offset in offsets]


def _behavior(driver: Controller, first: bytes) -> Command:
    """Return Set Features, Host Behavior Support, with these bytes at the start of its data."""
    page = driver.transport.allocate(driver.page_size, driver.page_size)
    page.write(0, first)
    return c.SetFeatures.of(FID=Fid.HOST_BEHAVIOR_SUPPORT, PRP1=page.address)


sends(
    "features/log-gated:telemetry",
    "Reads the telemetry log of a controller that has none.",
    lambda driver: [_log(driver, Lid.TELEMETRY_CONTROLLER)],
    lambda driver: [_log(driver, Lid.COMMANDS_SUPPORTED)],
)
sends(
    "features/log-gated:ana",
    "Reads the ANA log page whatever CMIC says.",
    lambda driver: [_log(driver, Lid.ANA)],
    lambda driver: [_log(driver, Lid.COMMANDS_SUPPORTED)],
)
sends(
    "features/rae-unused:always",
    "Sets Retain Asynchronous Event for every log page.",
    lambda driver: [_log(driver, Lid.COMMANDS_SUPPORTED, RAE=1)],
    lambda driver: [_log(driver, Lid.SMART, RAE=1), _log(driver, Lid.COMMANDS_SUPPORTED)],
)
sends(
    "features/feature-gated:keep-alive",
    "Sets a Keep Alive time-out of a controller without Keep Alive (KAS 0).",
    lambda driver: [c.SetFeatures.of(FID=Fid.KEEP_ALIVE_TIMER, CDW11=100_000)],
    lambda driver: [c.SetFeatures.of(FID=Fid.VOLATILE_WRITE_CACHE, CDW11=1)],
)
sends(
    "features/feature-gated:no-cache",
    "Switches on a write cache that is not there.",
    lambda driver: [c.SetFeatures.of(FID=Fid.VOLATILE_WRITE_CACHE, CDW11=1)],
    None,
    scenarios=("features/no-cache",),
)
sends(
    "features/ns-named:none",
    "Sets Error Recovery, which each namespace has for itself, without naming a namespace.",
    lambda driver: [c.SetFeatures.of(FID=Fid.ERROR_RECOVERY, CDW11=10)],
    lambda driver: [c.SetFeatures.of(FID=Fid.ERROR_RECOVERY, CDW11=10, NSID=BROADCAST_NSID)],
)
sends(
    "features/format-exists:beyond",
    "Formats with an LBA format behind the last one.",
    lambda driver: [c.FormatNvm.of(NSID=1, LBAFL=driver.namespaces[1].identity.NLBAF + 1)],
    lambda driver: [c.FormatNvm.of(NSID=1, LBAFL=driver.namespaces[1].identity.NLBAF)],
)
sends(
    "features/erase-offered:cryptographic",
    "Asks for a cryptographic erase that the controller does not have.",
    lambda driver: [c.FormatNvm.of(NSID=1, SES=2)],
    lambda driver: [c.FormatNvm.of(NSID=1, SES=1)],
    scenarios=("features/bare",),
)
sends(
    "features/sanitize-offered:block-erase",
    "Asks for a block erase, whatever SANICAP says.",
    lambda driver: [c.Sanitize.of(SANACT=2)],
    None,
)
sends(
    "features/firmware:overlapping",
    "Downloads firmware in pieces that overlap.",
    lambda driver: _download(driver, 0, 2048),
    lambda driver: _download(driver, 0, 4096),
)
sends(
    "features/firmware:read-only-slot",
    "Puts firmware into slot 1, which is read only.",
    lambda driver: [c.FirmwareCommit.of(FS=1, CA=1)],
    lambda driver: [c.FirmwareCommit.of(FS=0, CA=1)],
)
sends(
    "identify/nsid-range:zero",
    "Identifies namespace 0.",
    lambda driver: [_identify(driver, Cns.NAMESPACE, 0)],
    lambda driver: [_identify(driver, Cns.NAMESPACE, BROADCAST_NSID)],
)
sends(
    "identify/nsid-range:end-of-list",
    "Asks for the namespaces behind the last id that there can be.",
    lambda driver: [_identify(driver, Cns.ACTIVE_NAMESPACES, BROADCAST_NSID)],
    lambda driver: [_identify(driver, Cns.ACTIVE_NAMESPACES, 0xFFFF_FFFD)],
)
sends(
    "identify/selectors-unused:command-set",
    "Names a command set in an Identify that does not use it.",
    lambda driver: [_identify(driver, Cns.CONTROLLER, 0, CSI=2)],
    lambda driver: [_identify(driver, Cns.CSI_CONTROLLER, 0, CSI=2)],
)
sends(
    "write/pointers-unused:flush",
    "Leaves the pointers of an earlier command in Flush.",
    lambda driver: [c.Flush.of(NSID=1, PRP1=driver.io[0].completion.memory.address)],
    lambda driver: [c.Flush.of(NSID=1)],
    io=True,
    scenarios=("write/basic",),
)
sends(
    "features/io-gated:fused-admin",
    "Sets FUSE in an admin command.",
    lambda driver: [c.SetFeatures.of(FID=Fid.ARBITRATION, CDW11=7, FUSE=1)],
    None,
)
sends(
    "features/coded-values:reserved-feature",
    "Sets a feature whose identifier is reserved.",
    lambda driver: [c.SetFeatures.of(FID=0x40, CDW11=1)],
    lambda driver: [c.SetFeatures.of(FID=Fid.ARBITRATION, CDW11=7)],
)
sends(
    "features/coded-values:protection",
    "Formats with a type of protection information that is reserved.",
    lambda driver: [c.FormatNvm.of(NSID=1, PI=6)],
    lambda driver: [c.FormatNvm.of(NSID=1, PI=1)],
)
sends(
    "features/log-specific:index",
    "Reads the SMART log from an index on, where there are bytes only.",
    lambda driver: [_log(driver, Lid.SMART, OT=1)],
    lambda driver: [_log(driver, Lid.SMART)],
)
sends(
    "features/value-reserved:host-behavior",
    "Sends the Host Behavior Support page with what the buffer held before.",
    lambda driver: [_behavior(driver, b"\x01\x00\x00\x55")],
    lambda driver: [_behavior(driver, b"\x01\x00\x00\x00")],
)
