"""The state of a binfmt_misc, and plans to change it: on a folder that stands for the kernel's."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.emulation import program

from embedkit import process
from embedkit.emulate import binfmt, register, versions
from embedkit.emulate.binfmt import Instance, Status
from embedkit.emulate.entry import Entry
from embedkit.emulate.magic import architecture, native
from embedkit.emulate.register import Act, carry_out, find_qemu, plan_register, plan_unregister
from embedkit.errors import InputError, LackError, TargetError

_ARM = architecture("arm" if native()[0].name != "arm" else "arm64")
_HERE = native()[0]


@pytest.fixture
def instance(tmp_path: Path) -> Instance:
    """A mounted binfmt_misc without entries."""
    made = Instance(tmp_path)
    made.folder.mkdir(parents=True)
    (made.folder / "register").touch()
    (made.folder / "status").write_text("enabled\n")
    return made


@pytest.fixture
def qemu(tmp_path: Path) -> Path:
    """A static program of this machine."""
    path = tmp_path / "qemu-static"
    path.write_bytes(program(_HERE))
    return path


def _entry(qemu: Path, flags: str = "OPF", name: str = _ARM.entry) -> Entry:
    return Entry(name, str(qemu), flags, _ARM.magic, _ARM.mask)


def _show(instance: Instance, entry: Entry) -> None:
    (instance.folder / entry.name).write_text(
        f"{'enabled' if entry.enabled else 'disabled'}\ninterpreter {entry.interpreter}\n"
        f"flags: {entry.flags}\noffset 0\nmagic {entry.magic.hex()}\nmask {entry.mask.hex()}\n"
    )


def _plan(instance: Instance, entry: Entry, **options: bool) -> register.Plan:
    return plan_register(binfmt.status(instance), ((_ARM, entry),), instance=instance, **options)


def test_nothing_is_registered_where_it_is_not_mounted(tmp_path: Path) -> None:
    status = binfmt.status(Instance(tmp_path))
    assert (status.mounted, status.enabled, status.entries) == (False, False, ())
    assert status.usable(_ARM) is None


@pytest.mark.parametrize(
    ("flags", "content", "enabled", "trouble"),
    [
        ("OPF", "static", True, ""),
        ("F", "missing", True, ""),  # held open by the kernel
        ("OP", "static", True, "lacks the flag F"),
        ("F", "dynamic", True, "dynamic"),
        ("F", "static", False, "disabled"),
    ],
)
def test_what_works_in_containers(
    instance: Instance, tmp_path: Path, flags: str, content: str, enabled: bool, trouble: str
) -> None:
    path = tmp_path / "qemu"
    if content != "missing":
        path.write_bytes(program(_HERE, loader=b"/lib/ld.so" if content == "dynamic" else b""))
    entry = Entry(_ARM.entry, str(path), flags, _ARM.magic, _ARM.mask, enabled=enabled)
    _show(instance, entry)
    status = binfmt.status(instance)
    (found,) = status.of(_ARM)
    assert found.interpreter.exists == (content != "missing")
    assert found.interpreter.static == {"static": True, "dynamic": False}.get(content)
    if trouble:
        assert trouble in found.trouble
        assert status.usable(_ARM) is None
    else:
        assert status.usable(_ARM) == found
    (instance.folder / "status").write_text("disabled\n")
    assert binfmt.status(instance).usable(_ARM) is None


def test_an_entry_is_known_by_what_it_takes_not_by_its_name(instance: Instance, qemu: Path) -> None:
    _show(instance, _entry(qemu, name="mine"))
    (instance.folder / "python").write_text("enabled\ninterpreter /x\nflags: \nextension .pyc\n")
    status = binfmt.status(instance)
    assert [found.entry.name for found in status.of(_ARM)] == ["mine"]
    assert [found.entry.name for found in status.entries if not found.architectures] == ["python"]


def test_who_registered_it(instance: Instance, qemu: Path) -> None:
    entry = _entry(qemu)
    assert binfmt.owner(entry, instance.root).kind == "unknown"
    admin = instance.root / "var/lib/binfmts" / entry.name
    admin.parent.mkdir(parents=True)
    admin.write_text(f"qemu-user-static\nmagic\n0\n\\x7f\n\\xff\n{qemu}\n\n\n\nyes\n")
    assert str(binfmt.owner(entry, instance.root)) == (
        f"update-binfmts (/var/lib/binfmts/{entry.name}, package qemu-user-static)"
    )
    for folder in ("usr/lib", "etc"):
        file = instance.root / folder / "binfmt.d/qemu.conf"
        file.parent.mkdir(parents=True)
        file.write_text(f"# said\n{entry.line()}\n")
        assert binfmt.owner(entry, instance.root).where == f"/{folder}/binfmt.d/qemu.conf"
    # What /etc hides does not count.
    (instance.root / "etc/binfmt.d/qemu.conf").write_text("")
    assert binfmt.owner(entry, instance.root).kind == "update-binfmts"


def test_a_dynamic_qemu_is_refused_with_the_reason(tmp_path: Path, qemu: Path) -> None:
    assert find_qemu(_ARM, qemu) == qemu
    qemu.write_bytes(program(_HERE, loader=b"/lib64/ld.so"))
    with pytest.raises(LackError, match=r"dynamic.*loader /lib64/ld.so is missing") as caught:
        find_qemu(_ARM, qemu)
    assert caught.value.hint == "on Debian: apt-get install qemu-user-static"
    qemu.write_bytes(program(_ARM))
    with pytest.raises(LackError, match="no program of this machine"):
        find_qemu(_ARM, qemu)
    with pytest.raises(InputError):
        find_qemu(_ARM, tmp_path / "nothing")


def test_the_static_qemu_of_path_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    dynamic, static = tmp_path / f"qemu-{_ARM.qemu}", tmp_path / f"qemu-{_ARM.qemu}-static"
    found = {static.name: None, dynamic.name: None}
    monkeypatch.setattr(process, "find", lambda name: found[name])
    with pytest.raises(LackError, match="is not installed"):
        find_qemu(_ARM)
    dynamic.write_bytes(program(_HERE, loader=b"/ld"))
    found[dynamic.name] = dynamic  # type: ignore[assignment]
    with pytest.raises(LackError, match="is dynamic"):
        find_qemu(_ARM)
    static.write_bytes(program(_HERE))
    found[static.name] = static  # type: ignore[assignment]
    assert find_qemu(_ARM) == static
    static.unlink()
    dynamic.write_bytes(program(_HERE))  # as Alpine builds it
    assert find_qemu(_ARM, dynamic) == dynamic


def test_plans_to_register(instance: Instance, qemu: Path) -> None:
    entry = _entry(qemu)
    plan = _plan(instance, entry)
    assert [step.act for step in plan.steps] == [Act.REGISTER]
    assert plan.steps[0].undo == f"echo -1 > {instance.folder / entry.name}"
    _show(instance, _entry(qemu, "FPO"))
    plan = _plan(instance, entry)
    assert plan.steps == () and "just so already" in plan.remarks[0]
    (instance.folder / entry.name).unlink()
    other = _entry(qemu, "OC", name="theirs")
    _show(instance, other)
    with pytest.raises(InputError, match=r"taken by the entry theirs .*lacks the flag F") as caught:
        _plan(instance, entry)
    assert "--replace" in str(caught.value.hint)
    plan = _plan(instance, entry, replace=True)
    assert [(step.act, step.entry and step.entry.name) for step in plan.steps] == [
        (Act.REMOVE, "theirs"),
        (Act.REGISTER, entry.name),
    ]
    assert other.line() in plan.steps[0].undo


def test_what_cannot_be_registered(instance: Instance, qemu: Path) -> None:
    own = Entry(_HERE.entry, str(qemu), "F", _HERE.magic, _HERE.mask)
    with pytest.raises(InputError, match="run on this machine as they are"):
        plan_register(binfmt.status(instance), ((_HERE, own),), instance=instance)
    (instance.folder / "status").write_text("disabled\n")
    with pytest.raises(LackError, match="as a whole is disabled"):
        _plan(instance, _entry(qemu))
    nothing = Status(False, False, False, (), True, False)
    with pytest.raises(LackError, match="no binfmt_misc"):
        plan_register(nothing, ((_ARM, _entry(qemu)),), instance=instance)


def test_an_unmounted_one_is_mounted_first(tmp_path: Path, qemu: Path) -> None:
    bare = Instance(tmp_path)
    bare.folder.mkdir(parents=True)
    acts = [step.act for step in _plan(bare, _entry(qemu)).steps]
    assert acts == [Act.MOUNT, Act.REGISTER]


def test_a_file_for_every_boot(instance: Instance, qemu: Path) -> None:
    entry = _entry(qemu)
    _show(instance, entry)  # as if registered: only the file is left to do
    plan = _plan(instance, entry, persistent=True)
    assert [step.act for step in plan.steps] == [Act.WRITE]
    carry_out(plan, instance)
    file = instance.root / f"etc/binfmt.d/{entry.name}.conf"
    assert file.read_text().splitlines()[1] == entry.line()
    assert binfmt.owner(entry, instance.root).where == f"/etc/binfmt.d/{entry.name}.conf"
    assert _plan(instance, entry, persistent=True).steps == ()
    (instance.folder / entry.name).unlink()
    plan = plan_unregister(binfmt.status(instance), (_ARM,), instance=instance)
    assert [step.act for step in plan.steps] == [Act.DELETE] and plan.remarks == ()
    assert entry.line() in plan.steps[0].undo
    carry_out(plan, instance)
    assert not file.exists()


def test_files_of_others_stay(instance: Instance, qemu: Path) -> None:
    entry = _entry(qemu)
    file = instance.root / f"etc/binfmt.d/{entry.name}.conf"
    file.parent.mkdir(parents=True)
    file.write_text(entry.line() + "\n")
    with pytest.raises(InputError, match="written by someone else"):
        _plan(instance, entry, persistent=True)
    _show(instance, entry)
    plan = plan_unregister(binfmt.status(instance), (_ARM,), instance=instance)
    assert [step.act for step in plan.steps] == [Act.REMOVE]
    assert "comes back at the next boot" in plan.remarks[0]


def test_what_is_not_read_back_is_undone_and_said(instance: Instance, qemu: Path) -> None:
    """This folder takes lines and makes no entry, as no kernel should."""
    entry = _entry(qemu)
    plan = _plan(instance, entry, persistent=True)
    with pytest.raises(TargetError) as caught:
        carry_out(plan, instance)
    # Undoing removes the entry, which is not there either: said too, with what to do by hand.
    assert "not as planned: no such entry" in caught.value.message
    assert str(caught.value.hint).startswith("by hand: echo -1 >")
    assert not (instance.root / f"etc/binfmt.d/{entry.name}.conf").exists()


def test_nothing_registered_is_nothing_to_unregister(instance: Instance) -> None:
    plan = plan_unregister(binfmt.status(instance), (_ARM,), instance=instance)
    assert plan.steps == () and plan.remarks == (f"nothing is registered for {_ARM.name}",)


@pytest.mark.parametrize(
    ("listed", "good", "bad"),
    [
        ("Available CPUs:\n  arm1176\n  arm926\n  cortex-a15\n", "cortex-a15", "cortex-a51"),
        (
            "x86 486  (alias of 486-v1)\nx86 max  x\n\nRecognized CPUID flags:\n  3dnow apic\n",
            "max",
            "3dnow",
        ),
    ],
)
def test_a_cpu_that_qemu_has_not_is_refused(
    monkeypatch: pytest.MonkeyPatch, listed: str, good: str, bad: str
) -> None:
    answer = process.Completed(("q",), 0, listed.encode(), b"")
    monkeypatch.setattr(process, "run", lambda *_, **__: answer)
    versions.check_cpu(Path("/q"), good)
    versions.check_cpu(Path("/q"), f"{good},feature=off")
    with pytest.raises(InputError, match=f"no CPU '{bad}'"):
        versions.check_cpu(Path("/q"), bad)


@pytest.mark.parametrize(
    ("said", "release", "flags"),
    [
        ("qemu-arm version 7.2.22 (Debian)", "6.1.0-1", "OPF"),
        ("qemu-arm version 5.2.0", "6.1.0-1", "OF"),
        ("qemu-arm version 7.2.22", "5.10.1", "OF"),
        ("", "6.1", "OF"),
    ],
)
def test_argv0_is_kept_where_both_sides_can(
    monkeypatch: pytest.MonkeyPatch, said: str, release: str, flags: str
) -> None:
    answer = process.Completed(("q",), 0, said.encode(), b"")
    monkeypatch.setattr(process, "run", lambda *_, **__: answer)
    monkeypatch.setattr(versions, "kernel", lambda: versions._first_pair(release))
    assert versions.flags(Path("/q")) == flags
    assert versions.flags(Path("/q"), credentials=True) == flags.replace("O", "OC")
