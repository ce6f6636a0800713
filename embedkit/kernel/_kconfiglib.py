"""kconfiglib, taught what kernels have learnt since its last release (14.1.0, July 2020).

A private copy of the module is loaded, so that what is changed here reaches nobody else who
imports kconfiglib in this process. What differs from the stock module:

* three constructs are rewritten line by line as they are read: the bare ``modules`` attribute
  (kernel 5.13), ``transitional`` (6.18) and ``depends on X if Y`` (7.2);
* ``imply`` follows ``sym_calc_value()`` of kernel 5.7 and newer where the tree is that new: the
  implied value obeys the direct dependency, an implied y no longer turns m into y, and an
  implied symbol is written even when its dependency holds it at n;
* the environment that a tree reads (``$(ARCH)``, ``option env="ARCH"``, ``$ARCH`` in old
  trees) is a plain mapping, and ``$(shell …)`` goes to a function of the caller's;
* choices follow ``sym_calc_choice()`` of kernel 6.11 where the tree is that new: the members
  hang on the choice's dependencies but not on its prompt, the last member set to y wins, and
  members set to n are passed over;
* the top file and the prefix ``CONFIG_`` are the caller's to say, and macros are left alone where
  the tree has none (Buildroot);
* numbers without a value are 0 where the tree's own tools say so (6.9 and newer);
* characters that the kernel's own lexer skips with a warning do not end the parse;
* it can tell which symbols are selected against their dependencies.
"""

from __future__ import annotations

import importlib.util
import io
import os
import re
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

from embedkit.errors import LackError

TRANSITIONAL_PROMPT = "a transitional symbol"
# Runs one ``$(shell …)`` command and returns its output, as text.
Shell = Callable[[str], str]

_TRANSITIONAL = re.compile(r"\s*transitional\s*(#.*)?$")
_OLD_MACRO = re.compile(r"\$\{?([A-Za-z_]\w*)\}?")


@cache
def load() -> ModuleType:
    """The private, adapted module. Raises LackError where kconfiglib is not installed."""
    spec = importlib.util.find_spec("kconfiglib")
    if spec is None or spec.loader is None:
        raise LackError("kconfiglib is not installed", hint="pip install kconfiglib")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    nothing: dict[str, str] = {}
    shim: Any = SimpleNamespace(
        environ=nothing,
        # Stock kconfiglib imports whatever module is called kconfigfunctions.
        getenv=lambda name, default=None: "embedkit._none" if "FUNCTIONS" in name else default,
        sep=os.sep,
        path=os.path,
        uname=os.uname,
    )
    adapted: Any = module
    adapted.os = shim
    adapted.expandvars = lambda text: text
    adapted.Symbol = _symbol_class(adapted)
    adapted.Choice = _choice_class(adapted)
    # The module compares classes by identity, here through a set made at import.
    adapted._SYMBOL_CHOICE = frozenset({adapted.Symbol, adapted.Choice})
    adapted.Kconfig = _kconfig_class(adapted)
    return module


def _symbol_class(lib: Any) -> Any:
    base = lib.Symbol
    expr_value = lib.expr_value
    zero = {lib.INT: "0", lib.HEX: "0x0"}
    stock_tri, stock_str = base.tri_value.fget, base.str_value.fget

    class Symbol(base):  # type: ignore[misc,valid-type]
        __slots__ = ()

        @property
        def tri_value(self: Any) -> int:
            if self._cached_tri_val is not None:
                return int(self._cached_tri_val)
            if self.name in self.kconfig.unmet:
                self.kconfig.unmet.discard(self.name)
            if not self.kconfig.modern_imply or self.weak_rev_dep is self.kconfig.n:
                return int(stock_tri(self))
            implied = expr_value(self.weak_rev_dep)
            if implied == 1 and self.type is lib.BOOL:
                implied = 2
            # sym_calc_value() of 5.7: newval = (default || implied) && dir_dep, unless the user
            # gave a value for a visible symbol; then select.
            visible = self.visibility
            if visible and self.user_value is not None:
                value = min(self.user_value, visible)
                write = True
            else:
                value = 0
                for default, condition in self.defaults:
                    limit = expr_value(condition)
                    if limit:
                        value = min(expr_value(default), limit)
                        break
                write = bool(visible or value or implied)
                if implied:
                    value = min(max(value, implied), expr_value(self.direct_dep))
            selected = expr_value(self.rev_dep)
            if selected:
                write = True
                if expr_value(self.direct_dep) < selected:
                    self._warn_select_unsatisfied_deps()
                value = max(value, selected)
            if value == 1 and self.type is lib.BOOL:
                value = 2
            self._write_to_conf = write
            self._cached_tri_val = value
            return int(value)

        def set_value(self: Any, value: Any) -> bool:
            accepted = bool(base.set_value(self, value))
            if accepted and self.choice is not None and self.kconfig.modern_choices:
                if self in self.choice.order:
                    self.choice.order.remove(self)
                self.choice.order.insert(0, self)
                self.choice._rec_invalidate()
            return accepted

        @property
        def str_value(self: Any) -> str:
            if self._cached_str_val is None:
                value = stock_str(self)
                if value == "" and self.kconfig.zero_numbers:
                    self._cached_str_val = zero.get(self.orig_type, value)
            return str(self._cached_str_val)

        def _str_default(self: Any) -> str:
            value = str(base._str_default(self))
            if value == "" and self.kconfig.zero_numbers:
                return zero.get(self.orig_type, value)
            return value

        @property
        def config_string(self: Any) -> str:
            if self.name in self.kconfig.transitional:
                return ""
            return str(base.config_string.fget(self))

        def _warn_select_unsatisfied_deps(self: Any) -> None:
            # Called whenever a value is calculated that is selected beyond its dependencies. For
            # a bool, a dependency of m is as good as y (sym_calc_visibility()).
            if self.orig_type is not lib.BOOL or not expr_value(self.direct_dep):
                self.kconfig.unmet.add(self.name)

    return Symbol


def _choice_class(lib: Any) -> Any:
    base: Any = lib.Choice
    expr_value = lib.expr_value

    class Choice(base):  # type: ignore[misc]
        # Members with a user value, the newest first (choice_link in the kernel's parser).
        __slots__ = ("order",)

        def __init__(self: Any) -> None:
            base.__init__(self)
            self.order: list[Any] = []

        @property
        def tri_value(self: Any) -> int:
            if not self.kconfig.modern_choices:
                return int(base.tri_value.fget(self))
            # A cached visibility is what tells kconfiglib that there is something to invalidate.
            _ = self.visibility
            return 2 if any(expr_value(node.dep) for node in self.nodes) else 0

        def _selection(self: Any) -> Any:
            if not self.kconfig.modern_choices:
                return base._selection(self)
            ranked = [*self.order, *(item for item in self.syms if item not in self.order)]
            for member in ranked:
                if member.user_value == 2 and member.visibility:
                    return member
            chosen = self._selection_from_defaults()
            if chosen is not None and chosen.user_value != 0:
                return chosen
            for member in self.syms:
                if member.visibility and member.user_value is None:
                    return member
            return next((member for member in reversed(ranked) if member.visibility), None)

    return Choice


def _kconfig_class(lib: Any) -> Any:
    base = lib.Kconfig

    class Kconfig(base):  # type: ignore[misc,valid-type]
        """One tree. ``root`` is its folder, ``environment`` what make would have exported."""

        def __init__(
            self,
            root: str,
            environment: Mapping[str, str],
            shell: Shell,
            *,
            modern_imply: bool,
            modern_choices: bool,
            zero_numbers: bool,
            top: str = "Kconfig",
            prefix: str = "CONFIG_",
            macros: bool = True,
        ) -> None:
            self.modern_imply = modern_imply
            self.modern_choices = modern_choices
            self.zero_numbers = zero_numbers
            self.unmet: set[str] = set()
            self.transitional: set[str] = set()
            self._root = root
            self._prefix = prefix
            self._macros = macros
            self._environment = environment
            self._shell = shell
            self._opened_top = False
            self._node: Any = None
            self._config_text = ""
            self.filename, self.linenr, self._line = top, 1, ""
            try:
                super().__init__(top, warn=True, warn_to_stderr=False)
            except (AttributeError, TypeError, ValueError, IndexError, AssertionError) as error:
                # The stock parser takes some malformed lines for granted and trips over them.
                raise lib.KconfigError(
                    f"{self.filename}:{self.linenr}: error: couldn't parse "
                    f"'{self._line.strip()}': {error}"
                ) from error

        def load_text(self, text: str) -> None:
            """Replaces the configuration by ``text``, as load_config() does from a file."""
            self._config_text = text
            self._warn_assign_no_prompt = False
            for choice in self.unique_choices:
                choice.order.clear()
            try:
                self._load_config("", replace=True)
            finally:
                self._warn_assign_no_prompt = True

        def _open_config(self, _filename: str) -> Any:
            # Universal newlines, as a file would be read.
            return io.StringIO(self._config_text.replace("\r\n", "\n"))

        def _open(self, filename: str, mode: str) -> Any:
            if mode != "r":
                raise ValueError("a tree is only ever read")
            if not self._opened_top:
                # The first thing that the constructor opens, just before it parses: the one
                # place where what it took from the environment can be put right.
                self._opened_top = True
                self.srctree = self._root
                self._srctree_prefix = os.path.realpath(self._root) + os.sep
                self._functions["shell"] = (_call_shell, 1, 1)
                self._functions["info"] = (lambda *_: "", 1, 1)
                self.config_prefix = self._prefix
                self._set_match = re.compile(rf"{self._prefix}([^=]+)=(.*)", re.ASCII).match
                unset = rf"# {self._prefix}([^ ]+) is not set"
                self._unset_match = re.compile(unset, re.ASCII).match
                filename = f"{self._root}/{self.filename}"
            return Path(filename).open(encoding="utf-8", errors="surrogateescape")

        def _parse_props(self, node: Any) -> None:
            self._node = node
            super()._parse_props(node)

        def _fn_val(self, args: list[str]) -> str:
            name = args[0]
            if name in self.variables or name in self._functions:
                return str(super()._fn_val(args))
            return self._environment.get(name, "")

        def _expand_macro(self, text: str, start: int, args: Any) -> Any:
            # Before 4.18 Kconfig knew no macros: $(X) in a string is for make, later.
            if not self._macros:
                return (text, start + 2)
            return super()._expand_macro(text, start, args)

        def _tokenize(self, text: str) -> Any:
            symbol: Any = self._node.item if self._node is not None else None
            in_symbol = symbol.__class__ is lib.Symbol
            if in_symbol and "transitional" in text and _TRANSITIONAL.match(text):
                # Its old value is read although it has no prompt, and it is never written:
                # a prompt that is always visible does the first, config_string the second.
                self._line = text
                self.transitional.add(symbol.name)
                return (lib._T_PROMPT, TRANSITIONAL_PROMPT, None)
            if "$" in text:
                text = self._old_macros(text)
            tokens = self._tokens_of(text)
            first = tokens[0]
            if first is lib._T_MODULES:
                return (lib._T_OPTION, lib._T_MODULES, None)
            if first is lib._T_DEPENDS and lib._T_IF in tokens:
                return self._conditional(tokens)
            if in_symbol and first is lib._T_OPTION and lib._T_ENV in tokens and len(tokens) > 4:
                return self._from_environment(tokens[3])
            return tokens

        def _tokens_of(self, text: str) -> Any:
            while True:
                try:
                    return super()._tokenize(text)
                except lib.KconfigError as error:
                    shorter = _without_stray(text, str(error))
                    if shorter is None:
                        raise
                    self._warn("ignoring an unsupported character", self.filename, self.linenr)
                    text = shorter

        def _conditional(self, tokens: Any) -> Any:
            """``depends on A if B`` is ``depends on !B || A``, as in the kernel's menu.c."""
            middle = tokens.index(lib._T_IF)
            opening, closing = lib._T_OPEN_PAREN, lib._T_CLOSE_PAREN
            negated = [lib._T_NOT, opening, *tokens[middle + 1 : -1], closing]
            needed = [opening, *tokens[2:middle], closing]
            return [*tokens[:2], *negated, lib._T_OR, *needed, None]

        def _from_environment(self, variable: Any) -> Any:
            """``option env="X"`` is a default that never reaches a .config."""
            self._node.item.env_var = variable
            if variable.__class__ is not str:
                self._parse_error("expected a variable's name")
            value = self._lookup_const_sym(self._environment.get(variable, ""))
            return [lib._T_DEFAULT, value, None]

        def _old_macros(self, text: str) -> str:
            """Trees before 4.18 write ``$SRCARCH`` in strings instead of ``$(SRCARCH)``."""

            def value(match: re.Match[str]) -> str:
                return self._environment.get(match.group(1), match.group(0))

            return _OLD_MACRO.sub(value, text)

    return Kconfig


def _call_shell(kconf: Any, _name: str, command: str) -> str:
    return str(kconf._shell(command))


def _without_stray(text: str, complaint: str) -> str | None:
    """``text`` without the first character that the kernel's lexer would skip, if that helps."""
    if "unknown token" not in complaint:
        return None
    quote = ""
    for index, character in enumerate(text):
        if quote:
            if character == quote:
                quote = ""
        elif character in "\"'":
            quote = character
        elif character == "#":
            return None
        elif not (character.isalnum() or character.isspace() or character in "_-/.$()&|=!<>{},:"):
            return text[:index] + text[index + 1 :]
    return None
