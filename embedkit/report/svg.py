"""Drawings in reports: which SVG a page takes in.

A drawing is rebuilt from a short list of shapes and attributes, so that a string from a board
that ends up in one can neither run anything nor fetch anything. Colours that follow the
page's light or dark look come from classes (``fill-ok``, ``fill-1``…``fill-6``, ``muted``,
``line``); ``currentColor`` works too.
"""

from __future__ import annotations

import math
import re
from xml.etree import ElementTree

from embedkit.report.clean import safe

_SVG = "http://www.w3.org/2000/svg"
_SHAPES = """
    svg g rect line path circle ellipse polygon polyline text tspan title desc defs
    linearGradient stop pattern clipPath marker
""".split()  # noqa: SIM905 (a column of words is easier to keep than of quoted ones)
# Presentation attributes of SVG 2, section 6.6, that drawings of ours use, and geometry.
_ATTRIBUTES = """
    viewBox x y x1 y1 x2 y2 dx dy cx cy r rx ry width height d points transform id class
    fill fill-opacity fill-rule stroke stroke-width stroke-opacity stroke-dasharray
    stroke-linecap stroke-linejoin opacity font-family font-size font-weight font-style
    text-anchor dominant-baseline letter-spacing textLength lengthAdjust clip-path
    offset stop-color stop-opacity gradientUnits gradientTransform patternUnits
    markerWidth markerHeight refX refY orient marker-start marker-end preserveAspectRatio
""".split()  # noqa: SIM905 (a column of words is easier to keep than of quoted ones)
_LOCAL_URL = re.compile(r"url\(#[\w-]+\)")
_DEEPEST = 40


def cleaned(svg: str, label: str) -> str:
    """``svg`` with what is harmless, named ``label`` for a screen reader; "" if it is no SVG."""
    # An entity could expand without end; no drawing needs a document type.
    if not svg.strip() or "<!DOCTYPE" in svg.upper() or "<!ENTITY" in svg.upper():
        return ""
    try:
        root = ElementTree.fromstring(safe(svg))
    except (ElementTree.ParseError, RecursionError):
        return ""
    if _local(root.tag) != "svg":
        return ""
    drawing = _rebuilt(root, 0)
    if drawing is None:
        return ""
    drawing.set("role", "img")
    drawing.set("aria-label", label)
    return ElementTree.tostring(drawing, encoding="unicode")


def width(drawing: str) -> float:
    """How wide a cleaned drawing was made, in its own units; infinite where it does not say."""
    found = re.search(r'viewBox="\S+ \S+ ([\d.]+) ', drawing)
    return float(found[1]) if found else math.inf


def _local(tag: object) -> str:
    """The name without a namespace; "" for comments, instructions and foreign elements."""
    if not isinstance(tag, str):
        return ""
    if tag.startswith("{"):
        space, _, name = tag[1:].partition("}")
        return name if space == _SVG else ""
    return tag


def _rebuilt(element: ElementTree.Element, depth: int) -> ElementTree.Element | None:
    name = _local(element.tag)
    if name not in _SHAPES or depth > _DEEPEST:
        return None
    made = ElementTree.Element(name, _attributes(element))
    made.text = element.text
    last: ElementTree.Element | None = None
    for child in element:
        kept = _rebuilt(child, depth + 1)
        if kept is not None:
            made.append(kept)
            last = kept
        if last is None:
            made.text = (made.text or "") + (child.tail or "")
        else:
            last.tail = (last.tail or "") + (child.tail or "")
    return made


def _attributes(element: ElementTree.Element) -> dict[str, str]:
    given = dict(element.attrib)
    # The page's policy forbids inline style; what it says can be said in attributes.
    for declaration in given.pop("style", "").split(";"):
        key, _, value = declaration.partition(":")
        given[key.strip()] = value.strip()
    return {
        name: value
        for name, value in given.items()
        if name in _ATTRIBUTES and ("url(" not in value.lower() or _LOCAL_URL.fullmatch(value))
    }
