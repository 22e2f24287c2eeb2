"""What a user can put right: an error with three parts, and what operating-system errors mean for the user.

It is raised where it is noticed; `command_line.command` turns it into one line on stderr and exit code 2.
"""

import errno


class UserError(Exception):
    """Something the user can put right.

    Args:
        what: what is wrong, a short phrase without a full stop.
        which: the value, path or line it is about.
        fix: what to do about it.
    """

    def __init__(self, what, which, fix):
        super().__init__(what, which, fix)
        self.what, self.which, self.fix = what, which, fix

    def __str__(self):
        return "; ".join(" ".join(str(part).split()) for part in (self.what, self.which, self.fix))


class UserErrors(UserError):
    """Several mistakes found at once; each gets its line."""

    def __init__(self, problems):
        super().__init__(problems[0].what, problems[0].which, problems[0].fix)
        self.problems = list(problems)

    def __reduce__(self):
        return type(self), (self.problems,)


class NotFinite(UserError):
    """A file's weights or moments hold numbers that are not finite. `path`: the file; `entry`: the place in it."""

    def __init__(self, what, path, entry, fix):
        super().__init__(what, f"{path}: {entry}", fix)
        self.path, self.entry = path, entry


# Operating-system errors that are the surroundings' fault, with the advice that goes with each.
ADVICE = {
    errno.ENOSPC: ("the disk is full", "free some space or choose another folder, then run the command again"),
    errno.EDQUOT: ("the disk quota is used up", "free some space or choose another folder, then run the command again"),
    errno.EROFS: ("the file system is read-only", "choose a folder that can be written to"),
    errno.EACCES: ("permission denied", "change its permissions, or choose another place"),
    errno.EPERM: ("permission denied", "change its permissions, or choose another place"),
    errno.ENOENT: ("no such file or folder", "check the path"),
    errno.ENOTDIR: ("a part of the path is not a folder", "check the path"),
    errno.EEXIST: ("a file stands where a folder is expected", "move it away or choose another folder"),
    errno.EISDIR: ("a folder stands where a file is expected", "check the path"),
    errno.ENAMETOOLONG: ("the path is too long", "choose a shorter one"),
    errno.ELOOP: ("the path leads in a circle of links", "check the path"),
    errno.EMFILE: ("too many open files", "raise the limit (ulimit -n) or use fewer workers"),
    errno.ENFILE: ("too many open files on this machine", "close other programs or use fewer workers"),
    errno.EAGAIN: ("no more processes or threads can be started", "raise the limit (ulimit -u) or use fewer workers"),
    errno.ENOMEM: ("the memory is full", "close other programs, use fewer workers or a smaller batch"),
    errno.EFBIG: ("a file grows beyond what this process may write", "raise the limit (ulimit -f)"),
    errno.ENAMETOOLONG: ("the path is too long", "choose a shorter one"),
    errno.ELOOP: ("links that lead in a circle", "check the path"),
    errno.EXDEV: ("a rename across file systems", "keep a run's folders on one file system"),
    errno.EPIPE: ("nobody reads the output any more", "send it to a file"),
    errno.ESTALE: ("the network file system has lost the file", "mount it again, then run the command again"),
    errno.EIO: ("the disk reports an input/output error", "check the disk"),
}


def from_os_error(error, path=None):
    """Return the `UserError` that says what an OSError means for the user; `path` where the error names none."""
    said = error.strerror or str(error) or type(error).__name__
    what, fix = ADVICE.get(error.errno, (said, "check the path and the disk"))
    return UserError(what, path or error.filename or "unnamed file", fix)
