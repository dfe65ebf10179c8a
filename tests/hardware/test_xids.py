from selfhost.hardware.xids import find_xids, read_xids, since_boot

KMSG = """\
6,1,10,-;NVRM: loading NVIDIA UNIX x86_64 Kernel Module  580.95.05
4,2,20,-;NVRM: Xid (PCI:0000:1b:00): 31, pid=4242, name=python, Ch 00000008
 SUBSYSTEM=pci
 DEVICE=+pci:0000:1b:00.0
4,3,30,-;NVRM: Xid (0000:3b:00): 13, Graphics Exception
4,4,40,-;NVRM: Xid (PCI:0000:1B:00): 79, pid='<unknown>', name=<unknown>, GPU has fallen off the bus.
4,5,50,-;something else with Xid (PCI:0000:1b:00): 8
"""
KERN_LOG = """\
Nov 21 03:00:00 box kernel: [    0.000000] Linux version 6.8.0-45-generic
Nov 21 04:00:00 box kernel: [ 3600.000000] NVRM: Xid (PCI:0000:1b:00): 48, pid=1
Nov 22 03:00:00 box kernel: [    0.000000] Linux version 6.8.0-45-generic
Nov 22 04:00:00 box kernel: [ 3600.000000] NVRM: Xid (PCI:0000:1b:00): 94, pid=1
"""


def test_the_kernels_buffer_tells_each_gpu_its_own_latest_last(machine) -> None:
    machine.write("dev/kmsg", KMSG)
    machine.write("var/log/kern.log", KERN_LOG)
    assert read_xids(machine.root) == {"0000:1b:00.0": (31, 79), "0000:3b:00.0": (13,)}


def test_without_it_the_log_file_tells_what_happened_since_the_boot(machine) -> None:
    assert read_xids(machine.root) == {}
    machine.write("var/log/kern.log", KERN_LOG)
    assert read_xids(machine.root) == {"0000:1b:00.0": (94,)}


def test_a_file_that_was_begun_anew_after_the_boot_counts_whole() -> None:
    tail = KERN_LOG.splitlines(keepends=True)[1]
    assert find_xids(since_boot(tail)) == {"0000:1b:00.0": (48,)}
