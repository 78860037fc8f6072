"""The iPXE script that a machine is served."""

from __future__ import annotations

from dataclasses import replace

from mulligan.control.boot import boot_script
from tests.unit.test_control_policy import machine

BASE = "http://10.0.0.1:7404/"


def test_a_machine_without_kernel_gets_the_endpoints_own() -> None:
    script = boot_script(machine(1), BASE, "TOKEN")
    assert script.splitlines() == [
        "#!ipxe",
        "# machine m1, operation o1",
        "kernel http://10.0.0.1:7404/boot/files/kernel initrd=initrd"
        " mulligan.phone_home=http://10.0.0.1:7404/phone-home/TOKEN",
        "initrd --name initrd http://10.0.0.1:7404/boot/files/initrd",
        "boot",
    ]


def test_a_machine_with_kernel_gets_that_with_its_arguments() -> None:
    wanted = replace(machine(1), kernel_url="http://h/k", kernel_args="console=ttyS0")
    assert boot_script(wanted, BASE, "TOKEN").splitlines()[2:] == [
        "kernel http://h/k console=ttyS0 mulligan.phone_home=http://10.0.0.1:7404/phone-home/TOKEN",
        "boot",
    ]
    assert "initrd --name initrd http://h/i" in boot_script(replace(wanted, initrd_url="http://h/i"), BASE, "T")
