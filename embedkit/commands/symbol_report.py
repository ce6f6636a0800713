"""A kernel symbol on a real tree as a report."""

from __future__ import annotations

from typing import Any

from embedkit.kernel.config import KernelConfig
from embedkit.kernel.symbol import Condition, Link, SymbolView
from embedkit.kernel.tree import KernelTree
from embedkit.report.model import Finding, Report, Section, Status, Table

_STATE = {"n": "off", "m": "a module", "y": "built in"}
_MOST_LINKS = 12


def build(tree: KernelTree, config: KernelConfig, view: SymbolView) -> Report:
    """The report of ``explain SYMBOL --tree DIR``."""
    sections = [
        _where(view),
        _depends(view),
        _links("Selected by", view.selected_by),
        _links("Implied by", view.implied_by),
        _turning_on(view),
    ]
    if view.help:
        sections.append(Section("Help", text=view.help))
    state = _STATE.get(view.value, view.value or "empty")
    prompt = view.prompts[0].text if view.prompts else "no prompt: only other symbols set it"
    facts = [
        ("prompt", prompt),
        ("type", view.type),
        ("value", f"{view.value or 'empty'} with {config.origin}"),
        ("defined", ", ".join(view.places)),
        ("kernel", f"Linux {tree.release}, {tree.arch}"),
    ]
    if view.protected:
        facts.append(("protected", view.protected))
    return Report(
        command="explain",
        title=f"CONFIG_{view.name}",
        verdict=f"CONFIG_{view.name} is {state}" + _outlook(view),
        status=Status.OK if view.value != "n" else Status.INFO,
        facts=tuple(facts),
        sections=tuple(
            section for section in sections if section.findings or section.text or section.table
        ),
        notes=tree.notes,
        data=_data(tree, view),
    )


def _outlook(view: SymbolView) -> str:
    if view.refused is not None:
        return f" and cannot be turned on: {view.refused.reason}"
    if view.value == "n" and view.pulls_in:
        return f"; turning it on takes {len(view.pulls_in)} more"
    return ""


def _where(view: SymbolView) -> Section:
    rows = [
        (" → ".join((*prompt.menus, prompt.text)), "shown" if prompt.visible else "hidden now")
        for prompt in view.prompts
    ]
    table = Table(("menuconfig", ""), tuple(rows)) if rows else None
    return Section("Where", table=table)


def _depends(view: SymbolView) -> Section:
    return Section("Depends on", findings=tuple(_condition(part) for part in view.depends))


def _condition(part: Condition) -> Finding:
    values = ", ".join(f"{name}={value}" for name, value in part.symbols)
    return Finding(
        id=f"depends:{part.text}",
        status=Status.WARN if part.blocking else Status.OK,
        label=part.text,
        state=f"{part.value} — this blocks it" if part.blocking else part.value,
        detail=f"now: {values}" if part.blocking and values else "",
    )


def _links(title: str, links: tuple[Link, ...]) -> Section:
    active = [link for link in links if link.active]
    shown = active or list(links[:_MOST_LINKS])
    findings = tuple(
        Finding(
            id=f"{title.lower()}:{link.symbol}",
            status=Status.OK if link.active else Status.SKIP,
            label=link.symbol + (f" (if {link.condition})" if link.condition else ""),
            state="now" if link.active else f"not now, it is {link.value}",
        )
        for link in shown
    )
    left = len(links) - len(shown)
    return Section(title, findings=findings, text=f"and {left} more" if left else "")


def _turning_on(view: SymbolView) -> Section:
    if view.refused is not None:
        hint = " ".join(f"--allow {name}" for name in view.refused.allow)
        finding = Finding(
            f"CONFIG_{view.name}", Status.WARN, "cannot be had", view.refused.reason, hint=hint
        )
        return Section("Turning it on", findings=(finding,))
    findings = tuple(
        Finding(
            id=f"CONFIG_{item.symbol}",
            status=Status.INFO,
            label=f"CONFIG_{item.symbol}={item.raw}",
            state=item.because,
            where=item.where,
        )
        for item in view.pulls_in
    )
    selects = f"selects {', '.join(view.selects)}" if view.selects else ""
    return Section("Turning it on", text=selects, findings=findings)


def _data(tree: KernelTree, view: SymbolView) -> dict[str, Any]:
    return {
        "symbol": view.name,
        "type": view.type,
        "value": view.value,
        "kernel": {"release": tree.release, "arch": tree.arch},
        "prompts": [
            {"text": p.text, "menus": list(p.menus), "where": p.where, "visible": p.visible}
            for p in view.prompts
        ],
        "places": list(view.places),
        "depends": [
            {"text": part.text, "value": part.value, "blocking": part.blocking}
            for part in view.depends
        ],
        "selected_by": [
            {"symbol": link.symbol, "condition": link.condition, "active": link.active}
            for link in view.selected_by
        ],
        "implied_by": [
            {"symbol": link.symbol, "condition": link.condition, "active": link.active}
            for link in view.implied_by
        ],
        "selects": list(view.selects),
        "defaults": list(view.defaults),
        "choice": list(view.choice),
        "protected": view.protected or None,
        "pulls_in": [
            {"symbol": item.symbol, "value": item.value, "because": item.because}
            for item in view.pulls_in
        ],
        "refused": view.refused.reason if view.refused else None,
    }
