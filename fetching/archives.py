"""Zip archives from elsewhere: listed with suspicion, unpacked one wanted file at a time.

A member takes its name only after its checksum held, so whatever stands unpacked is whole.
"""

import os
import shutil
import stat
import zipfile
import zlib

from system.errors import UserError
from system.files import replacing, size_text

_BROKEN = (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError)


class CorruptArchive(UserError):
    """The archive itself is damaged: fetching it again can help."""


def members(path):
    """Return {member name: ZipInfo} of the files in an archive, folders left out.

    Raises:
        CorruptArchive: not a zip archive, or cut short.
        UserError: a member's path leads out of the folder it is unpacked to, is a link, or is encrypted.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            infos = archive.infolist()
    except _BROKEN as error:
        raise _corrupt(path, error) from error
    for info in infos:
        reason = _hostile(info)
        if reason:
            raise UserError(
                f"the archive has a member that {reason} ({ascii(info.filename)[:120]})",
                path,
                "delete it and take the archive from a source you trust; nothing was unpacked",
            )
    return {info.filename: info for info in infos if not info.is_dir()}


def unpack(path, targets, largest=None, each=None):
    """Write members of an archive to files; those that are already there stay.

    Args:
        targets: {member name: file path}, written in this order.
        largest: refuse members that unpack to more bytes than this.
        each: called after each member with its number of bytes.
    Returns:
        the number of files written.
    Raises:
        CorruptArchive: a checksum fails or the data ends early; no file is left of the member concerned.
        UserError: a hostile archive (see `members`), a member too large, or no room on the disk.
    """
    listed, written = members(path), 0
    with zipfile.ZipFile(path) as archive:
        for name, target in targets.items():
            if os.path.exists(target):
                continue
            if name not in listed:
                raise UserError(f"the archive has no member {name}", path, "check that it is what its name says")
            if largest is not None and listed[name].file_size > largest:
                raise UserError(
                    f"{name} in the archive would unpack to {listed[name].file_size} bytes",
                    path,
                    "this is not the file it claims to be; delete it",
                )
            _write_member(archive, listed[name], target, path)
            written += 1
            if each:
                each(listed[name].file_size)
    return written


def check_room(folder, needed, what, fix="free some space or choose another folder"):
    """Raise `UserError` unless the disk of `folder` (or of the nearest folder that exists) has `needed` bytes free."""
    free = free_bytes(folder)
    if free < needed:
        raise UserError(
            f"not enough disk space for {what}: {size_text(needed)} needed, {size_text(free)} free", folder, fix
        )


def free_bytes(folder):
    """Return the free bytes of the disk that `folder` lies on or will lie on."""
    folder = os.path.abspath(folder)
    while not os.path.isdir(folder):
        folder = os.path.dirname(folder)
    return shutil.disk_usage(folder).free


def _write_member(archive, info, target, path):
    with replacing(target) as file:
        try:
            with archive.open(info) as member:
                while block := member.read(1 << 20):
                    file.write(block)
        except _BROKEN as error:
            raise _corrupt(path, error) from error


def _corrupt(path, error):
    return CorruptArchive(f"the archive is damaged ({error or type(error).__name__})", path, "fetch it again")


def _hostile(info):
    name = info.filename.replace("\\", "/")
    if name.startswith("/") or (len(name) > 1 and name[1] == ":"):
        return "has an absolute path"
    if ".." in name.split("/"):
        return "leads out of its folder"
    if "\0" in info.orig_filename or not name:
        return "has no proper name"
    mode = info.external_attr >> 16
    if mode and stat.S_IFMT(mode) not in (0, stat.S_IFREG, stat.S_IFDIR):
        return "is a link or a device"
    if info.flag_bits & 1:
        return "is encrypted"
    return None
