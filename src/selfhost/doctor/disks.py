"""Checks of the disks that engines, weights and state lie on. Pure."""

from collections.abc import Iterator
from itertools import groupby
from shlex import quote

from selfhost.doctor.facts import Facts
from selfhost.doctor.finding import Verdict, blocking, fine, note, warning
from selfhost.hardware.inventory import Disk, Inventory, Storage
from selfhost.units import KIB, MIB, format_bytes

FULL_BYTES = 64 * KIB  # a record, a key and a line of a log
LITTLE_BYTES = 256 * MIB  # logs alone may take 128
INODES_OF_ENGINE = 100_000  # an environment has 44,000 files (counted), and uv's cache the same again

_VARIABLES = {
    "engines": "SELFHOST_HOME",
    "weights": "HF_HOME",
    "state": "SELFHOST_STATE",
    "runtime": "SELFHOST_RUNTIME",
}
_GONE = {
    Storage.EPHEMERAL: "the container's own layer, and gone with the container",
    Storage.MEMORY: "memory, and gone with the next boot",
}
_LOSS = {
    "engines": "engines and compiled kernels are built again",
    "weights": "weights are fetched again",
    "state": "API keys and records are lost",
}


def room(facts: Facts) -> Iterator[Verdict]:
    """Free bytes for what is still to be written."""
    for disk in facts.inventory.disks:
        missing = sum((facts.missing_weights or {}).values()) if disk.purpose == "weights" else 0
        free = f"{format_bytes(disk.free_bytes)} of {format_bytes(disk.total_bytes)} free"
        if missing > disk.free_bytes:
            yield blocking(
                f"{format_bytes(missing)} of weights are to be fetched, and {disk.path} has {free}",
                fix=_elsewhere(disk),
            )
        elif disk.purpose in {"state", "runtime"} and disk.free_bytes < FULL_BYTES:
            yield blocking(f"No space left on device for {disk.purpose}: {disk.path} has {free}", fix=_elsewhere(disk))
        elif disk.purpose == "state" and disk.free_bytes < LITTLE_BYTES:
            yield warning(f"{disk.path} has {free} for {disk.purpose} and logs", fix=_elsewhere(disk))
        else:
            yield fine(f"{disk.path} has {free} for {disk.purpose}")


def storage(inventory: Inventory) -> Iterator[Verdict]:
    """How long what is written stays, and whether locks and sockets work there."""
    known = sorted((disk for disk in inventory.disks if disk.storage), key=_kind)
    for (kind, where), group in groupby(known, key=_kind):
        disks = list(group)
        # Runtime files are made anew at every start: memory is the best place for them.
        lasting = [disk for disk in disks if disk.purpose in _LOSS]
        if kind in _GONE and lasting:
            lost = "; ".join(_LOSS[disk.purpose] for disk in lasting)
            yield warning(
                f"{_lie(lasting)} on {where}, which is {_GONE[Storage(kind)]}: {lost}",
                fix="; ".join(f"export {_VARIABLES[disk.purpose]}=/PERSISTENT/{disk.purpose}" for disk in lasting),
            )
        elif kind == Storage.NETWORK:
            yield from _on_network(disks, where)
        else:
            yield fine(f"{_lie(disks)} on {where} ({kind})")


def answering(inventory: Inventory) -> Iterator[Verdict]:
    """Whether every disk answers: whoever asks one whose server is gone waits for as long as it is."""
    for folder in inventory.silent_disks:
        yield warning(
            f"the disk of {folder} does not answer: whatever reads or writes there may hang",
            fix=f"timeout 5 df -h {quote(folder)}; mount | grep -e nfs -e cifs -e fuse",
        )
    if inventory.disks and not inventory.silent_disks:
        yield fine("every disk answers")


def writable(facts: Facts) -> Iterator[Verdict]:
    """Whether this user may write there at all; weights that are all there are only read."""
    missing = None if facts.missing_weights is None else sum(facts.missing_weights.values())
    for disk in facts.inventory.disks:
        if disk.writable is not False:
            continue
        sentence = f"{disk.path} for {disk.purpose} cannot be written"
        if disk.purpose == "weights" and missing == 0:
            yield note(f"{sentence}, and nothing is to be fetched into it")
        else:
            # without a plan nobody knows whether anything is to be fetched
            say = warning if disk.purpose == "weights" and missing is None else blocking
            yield say(sentence, fix=_elsewhere(disk))
    if facts.inventory.disks and all(disk.writable for disk in facts.inventory.disks):
        yield fine("every folder that selfhost writes to can be written")


def inodes(inventory: Inventory) -> Iterator[Verdict]:
    """Files that a disk can still hold; an engine environment has very many."""
    for disk in inventory.disks:
        if disk.free_inodes is None or disk.purpose != "engines":
            continue
        if disk.free_inodes < INODES_OF_ENGINE:
            yield warning(
                f"the disk of {disk.path} can hold {disk.free_inodes:,} more files, and an engine has 44,000",
                fix=f"df -i {disk.mount or disk.path}",
            )
        else:
            yield fine(f"the disk of {disk.path} can hold {disk.free_inodes:,} more files")


def _on_network(disks: list[Disk], where: str) -> Iterator[Verdict]:
    for disk in disks:
        fix = f"export {_VARIABLES[disk.purpose]}=/LOCAL/{disk.purpose}"
        match disk.purpose:
            case "runtime":
                # not certain: gVisor and Kata containers have roots of 9p and virtiofs, and sockets work there
                yield warning(
                    f"runtime files lie on {where}, a network filesystem: sockets and locks may fail there", fix=fix
                )
            case "state" | "engines":
                yield warning(f"{_lie([disk])} on {where}, a network filesystem: locks may fail there", fix=fix)
            case _:
                yield note(f"weights lie on {where}, a network filesystem: engines start slower")


def _kind(disk: Disk) -> tuple[str, str]:
    filesystem = f"{disk.mount or disk.path}" + (f" ({disk.filesystem})" if disk.filesystem else "")
    return disk.storage or "", filesystem


def _lie(disks: list[Disk]) -> str:
    names = ["runtime files" if disk.purpose == "runtime" else disk.purpose for disk in disks]
    if len(names) == 1:
        return f"{names[0]} {'lies' if names[0] == 'state' else 'lie'}"
    return f"{', '.join(names[:-1])} and {names[-1]} lie"


def _elsewhere(disk: Disk) -> str:
    return f"export {_VARIABLES.get(disk.purpose, 'SELFHOST_HOME')}=/LARGER/{disk.purpose}"
