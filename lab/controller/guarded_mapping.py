"""Mappings of a client's files that may shrink at any moment: an access beyond the end reads zeros instead of killing us.

Memory that is mapped from a file raises SIGBUS where the file ends (mmap(2)). A vfio-user client keeps the descriptor, so no
check before the access helps, and only memfds can be sealed. The signal handler puts an anonymous page under the address and
returns, so the access is made again and succeeds; `GuardedMapping.lost` says that it happened. The handler runs Python: the
fault comes in the middle of a copy that holds the interpreter's lock, never inside the allocator or the interpreter.
"""

from __future__ import annotations

import ctypes
import mmap
import os
import signal
import threading
import weakref

_PAGE = mmap.PAGESIZE
_ADDRESS_AT = 16  # of si_addr in siginfo_t, on 64-bit Linux
_SA_SIGINFO, _SA_NODEFER = 0x4, 0x40000000
_MAP_PRIVATE, _MAP_FIXED, _MAP_ANONYMOUS = 0x02, 0x10, 0x20
_READ_WRITE = mmap.PROT_READ | mmap.PROT_WRITE
_FAILED = ctypes.c_void_p(-1).value

_libc = ctypes.PyDLL(None, use_errno=True)  # which keeps the interpreter's lock
_libc.mmap.restype = ctypes.c_void_p
_libc.mmap.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_long)
_libc.munmap.argtypes = (ctypes.c_void_p, ctypes.c_size_t)
_HANDLER = ctypes.CFUNCTYPE(None, ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p)


class _SigAction(ctypes.Structure):
    """``struct sigaction`` of glibc on 64-bit Linux."""

    _fields_ = (
        ("handler", ctypes.c_void_p),
        ("mask", ctypes.c_ulong * 16),
        ("flags", ctypes.c_int),
        ("restorer", ctypes.c_void_p),
    )


class GuardedMapping:
    """A whole file in memory, writable if its descriptor is. OSError if it cannot be mapped."""

    def __init__(self, fd: int, size: int) -> None:
        """Map ``size`` bytes of ``fd``, which stays the caller's."""
        _guard.install()
        self.size = size
        self.lost = False
        """The file was shorter than its mapping when it was accessed: what was read there are zeros."""
        address = _libc.mmap(None, size, _READ_WRITE, mmap.MAP_SHARED, fd, 0)
        self.writable = address != _FAILED
        if address == _FAILED:
            address = _libc.mmap(None, size, mmap.PROT_READ, mmap.MAP_SHARED, fd, 0)
        if address == _FAILED:
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
        self.address = int(address)
        memory = (ctypes.c_char * size).from_address(self.address)
        view = memoryview(memory).cast("B")
        self.view = view if self.writable else view.toreadonly()
        """The file's bytes; the mapping ends with the last view on it."""
        _guard.mappings[self.address] = size, weakref.ref(self)
        weakref.finalize(memory, _unmap, self.address, size)


def _unmap(address: int, size: int) -> None:
    _guard.mappings.pop(address, None)
    _libc.munmap(address, size)


class _Guard:
    """The process's handler of SIGBUS, once there is a mapping to guard."""

    def __init__(self) -> None:
        """Begin with no mapping, and the process's own signal handler."""
        self.mappings: dict[int, tuple[int, weakref.ref[GuardedMapping]]] = {}
        """By address: the size in bytes, and who maps it. Weak: memory must go with its last view."""
        self._lock = threading.Lock()
        self._before: _SigAction | None = None
        self._handler = _HANDLER(self._on_fault)

    def install(self) -> None:
        """Install the handler, unless it is there.

        Each mapping asks again: faulthandler, and with it every run of pytest in this process, restores a handler from before.
        """
        with self._lock:
            installed = _SigAction()
            _libc.sigaction(int(signal.SIGBUS), None, ctypes.byref(installed))
            if installed.handler == ctypes.cast(self._handler, ctypes.c_void_p).value:
                return
            self._before = self._before or installed  # the first: a later one may lead back to us
            action = _SigAction(handler=ctypes.cast(self._handler, ctypes.c_void_p), flags=_SA_SIGINFO | _SA_NODEFER)
            if _libc.sigaction(int(signal.SIGBUS), ctypes.byref(action), None):
                raise OSError(ctypes.get_errno(), "the guard of mapped memory cannot be installed")

    def _on_fault(self, _signal: int, info: int, _context: int) -> None:
        """Put a page of zeros under a guarded address; leave any other to who handled it before."""
        at = int(ctypes.c_void_p.from_address(info + _ADDRESS_AT).value or 0)
        for start, (size, owner) in list(self.mappings.items()):  # another thread may be mapping
            if start <= at < start + size:
                flags = _MAP_PRIVATE | _MAP_FIXED | _MAP_ANONYMOUS
                page = _libc.mmap(at - at % _PAGE, _PAGE, _READ_WRITE, flags, -1, 0)
                if page != _FAILED:
                    if mapping := owner():
                        mapping.lost = True
                    return
        _libc.sigaction(int(signal.SIGBUS), ctypes.byref(self._before or _SigAction()), None)


_guard = _Guard()
