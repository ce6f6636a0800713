"""The audit of the kernel that runs on a board."""

from __future__ import annotations

from embedkit.kernel.audit import Audit, Question, audit
from embedkit.kernel.profile import Profile
from embedkit.kernel.sources import load_running
from embedkit.target.base import Target
from embedkit.target.facts import Facts
from embedkit.target.files import TargetFiles, TargetModules


def audit_running(target: Target, facts: Facts, profile: Profile) -> Audit | None:
    """``profile`` held against the running kernel and its modules; None where it hides its config.

    Modules are looked at where the target has a fast line and a modprobe that would load them.
    """
    if not facts.kernel_config:
        return None
    files = TargetFiles(target)
    modules = None
    if facts.modules.supported and target.carries_binary:
        modules = TargetModules(files, facts.modules.folder)
    return audit(Question(load_running(files), profile, modules=modules))
