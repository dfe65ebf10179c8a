"""`python macos.py ARGS`: `selfhost ARGS` as on macOS; `python macos.py` alone: every module of selfhost is imported.

What Linux alone has is taken out of the standard library before anything of selfhost is imported. What selfhost builds
upon is imported before that: it has wheels of its own for macOS, which this machine cannot load.
"""

import ctypes
import importlib
import os
import pathlib
import pkgutil
import platform
import resource
import select
import signal
import socket
import sys
import sysconfig

ONLY_ON_LINUX = {
    os: """pidfd_open sched_getaffinity sched_setaffinity O_PATH O_TMPFILE O_NOATIME P_PIDFD memfd_create eventfd
        posix_fadvise posix_fallocate copy_file_range splice setns unshare getrandom getresuid setresuid""",
    select: "epoll EPOLLIN",
    signal: "pidfd_send_signal sigtimedwait sigwaitinfo SIGPWR SIGPOLL SIGSTKFLT SIGRTMIN SIGRTMAX",
    socket: "SO_PEERCRED SO_DOMAIN SO_PROTOCOL SOCK_CLOEXEC SOCK_NONBLOCK AF_NETLINK AF_PACKET AF_VSOCK",
    resource: "prlimit RLIMIT_NICE RLIMIT_RTPRIO RLIMIT_RTTIME RLIMIT_SIGPENDING RLIMIT_MSGQUEUE",
}
BUILT_UPON = """aiohttp asyncio click httptools httpx2 huggingface_hub huggingface_hub.hf_api multiprocessing orjson
    packaging prometheus_client psutil pydantic pynvml rich.console rich.status subprocess uvloop yaml"""


def become_macos():
    for name in BUILT_UPON.split():
        importlib.import_module(name)
    sysconfig.get_config_vars()  # is read late, from a file that is named after the platform
    for module, names in ONLY_ON_LINUX.items():
        for name in names.split():
            if hasattr(module, name):
                delattr(module, name)
    sys.platform = "darwin"
    platform.system = lambda: "Darwin"
    os.uname = lambda: os.uname_result(("Darwin", "mac", "26.0", "Darwin Kernel", "arm64"))
    ctypes.CDLL = _no_prctl
    pathlib.Path.open = _outside_proc(pathlib.Path.open)
    pathlib.Path.read_text = _outside_proc(pathlib.Path.read_text)
    pathlib.Path.read_bytes = _outside_proc(pathlib.Path.read_bytes)


class _no_prctl:  # noqa: N801 (it stands for a function)
    def __init__(self, *_):
        pass

    def __getattr__(self, name):
        raise AttributeError(f"dlsym: symbol not found: {name}")


def _outside_proc(read):
    def guarded(path, *args, **kwargs):
        if str(path).startswith(("/proc", "/sys")):
            raise FileNotFoundError(2, "No such file or directory", str(path))
        return read(path, *args, **kwargs)

    return guarded


def import_everything():
    import selfhost

    for module in pkgutil.walk_packages(selfhost.__path__, "selfhost."):
        importlib.import_module(module.name)
        sys.stdout.write(f"{module.name}\n")


if __name__ == "__main__":
    become_macos()
    if sys.argv[1:]:
        from selfhost.cli.main import run

        sys.exit(run(sys.argv[1:]))
    import_everything()
