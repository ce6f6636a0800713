"""The stages about the card: composed as an image, then on the medium."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from embedkit import board
from embedkit.bringup.stages import Chain, Done, Stage, Todo, Tone
from embedkit.bringup.state import Record
from embedkit.errors import EmbedkitError, InputError
from embedkit.media import bmap as bmaps
from embedkit.media import devices
from embedkit.media.compare import compare
from embedkit.media.compose import inputs as card_inputs
from embedkit.media.devices import DeviceInfo
from embedkit.media.layout import CardPlan
from embedkit.media.outcome import Options, Outcome, State
from embedkit.media.planner import plan
from embedkit.media.precheck import check_image
from embedkit.media.publish import SUFFIXES, Published, publish
from embedkit.media.ranges import total
from embedkit.media.ready import question, refuse_own_backing, unmounted
from embedkit.media.stream import open_image
from embedkit.media.subject import Request, Subject, opened
from embedkit.media.verdicts import judge, require_writable
from embedkit.media.write import write_image
from embedkit.progress import NullProgress, Progress
from embedkit.units import format_size


@dataclass(frozen=True)
class Composed:
    """A card that was made, and its plan."""

    plan: CardPlan
    published: Published


@dataclass(frozen=True)
class ReadBack:
    """A card's file that was read anew and compared with its block map."""

    image: Path
    compared_bytes: int


class Compose(Stage):
    """The card as an image file, with block map and manifest."""

    name = "compose"
    title = "Compose the card"

    def absent(self, chain: Chain) -> str:
        return "" if chain.settings.composes else "the file gives nothing for a card"

    def inputs(self, chain: Chain) -> object:
        settings = chain.settings
        card = _plan(chain)
        files = {str(path): chain.digests.of(path) for path in card_inputs(card)}
        described = chain.digests.of(board.board_file(settings.board))
        return [described, settings.card, str(settings.image), card.size_bytes, files]

    def verify(self, chain: Chain, record: Record) -> bool:
        """The image is as its block map says; a compressed one as when it was written."""
        image = chain.settings.image
        try:
            if image.suffix in SUFFIXES:
                return super().verify(chain, record)
            _checked(image)
        except EmbedkitError:
            return False
        return True

    def preview(self, chain: Chain) -> tuple[Todo, ...]:
        card = _plan(chain)
        written = format_size(sum(extent.length for extent in card.extents))
        todos = [Todo(f"{region.name}", _place(region.first_byte, region.length))
                 for region in card.regions]  # fmt: skip
        size = format_size(card.size_bytes)
        head = f"compose {card.board} ({card.layout}), {size}, {written} in its regions"
        return (Todo(head, str(chain.settings.image), "remove the file"), *todos)

    def do(self, chain: Chain) -> Done:
        card = _plan(chain)
        image = chain.settings.image
        done = publish(card, image, progress=chain.progress)
        mapped = f"{format_size(done.mapped_bytes)} of {format_size(done.size_bytes)} to be written"
        outputs = (image,) if image.suffix in SUFFIXES else ()
        return Done(
            f"{image.name} is a card for {card.board}: {mapped}",
            Tone.WARN if card.warnings else Tone.OK,
            Composed(card, done),
            outputs,
            {"sha256": done.sha256, "size_bytes": done.size_bytes},
            hint="; ".join(card.warnings),
        )


class Flash(Stage):
    """The image on the medium, read back."""

    name = "flash"
    title = "Flash the card"

    def absent(self, chain: Chain) -> str:
        if not chain.settings.device:
            return "the file names no device"
        return "QEMU boots the image itself" if chain.settings.emulated else ""

    def inputs(self, chain: Chain) -> object:
        return [chain.settings.device, chain.carried("compose").get("sha256")]

    def verify(self, chain: Chain, record: Record) -> bool:
        """A card that is out of this machine is where it belongs, in the board; one that is here
        is read again."""
        if chain.settings.file is not None:
            return True  # compose has just compared it
        if not Path(chain.settings.device).exists():
            return True
        device = devices.find(chain.settings.device)
        try:
            with _subject(chain, device, NullProgress()) as subject:
                found = compare(subject.image, subject.content, device.identity, chain.progress)
        except EmbedkitError:
            return False
        return found.mismatch is None

    def preview(self, chain: Chain) -> tuple[Todo, ...]:
        if chain.settings.file is not None:
            return (Todo("read the image back and compare it with its block map"),)
        device = devices.find(chain.settings.device)
        path = str(device.path)
        return (
            *(Todo(f"unmount {use.by}", use.part, "mount it again") for use in device.mounts),
            Todo(f"write {chain.settings.image.name} to {device.title}", path, "none: all is lost"),
            Todo("read everything back past the caches and compare", path),
        )

    def do(self, chain: Chain) -> Done:
        if chain.settings.file is not None:
            return _read_back(chain.settings.image)
        device = devices.find(chain.settings.device)
        hands = chain.hands
        require_writable(
            device,
            judge(device),
            unmount=hands.unmount,
            accept_suspicious=hands.accept_suspicious,
        )
        with _subject(chain, device, chain.progress) as subject:
            refuse_own_backing([device], subject)
            if not hands.confirm(question([device], subject.title), str(device.path)):
                raise InputError("not confirmed; nothing was written", where=str(device.path))
            (ready,) = unmounted(
                [device], chain.progress.say, accept_suspicious=hands.accept_suspicious
            )
            (outcome,) = write_image(
                subject.image, subject.content, [ready.identity], Options(), chain.progress
            )
        return _flashed(outcome)


def _flashed(outcome: Outcome) -> Done:
    path = outcome.identity.path
    if outcome.error is not None:
        outcome.error.hint = outcome.error.hint or "; ".join(outcome.warnings)
        raise outcome.error
    if outcome.state is not State.VERIFIED:
        where = f": {outcome.mismatch.text}" if outcome.mismatch is not None else ""
        hint = "try another reader; if it differs again, the card is broken or counterfeit"
        return Done(f"{path} does not hold what was written{where}", Tone.FAIL, outcome, hint=hint)
    return Done(f"{path} holds the card: written, read back and compared", value=outcome)


def _read_back(image: Path) -> Done:
    if image.suffix in SUFFIXES:
        return Done(f"{image.name} is the card, compressed", Tone.INFO)
    compared = _checked(image)
    return Done(
        f"{image.name} holds the card: {format_size(compared)} read back and compared",
        value=ReadBack(image, compared),
    )


def _checked(image: Path) -> int:
    """Bytes of the image that its block map vouches for. Raises InputError where they differ."""
    path = bmaps.beside(image)
    if path is None:
        raise InputError("the image's block map is gone", where=str(image))
    content = check_image(open_image(str(image)), bmaps.read(path), None, NullProgress())
    return total(content.mapped or ())


def _plan(chain: Chain) -> CardPlan:
    """The card's plan, as large as its medium."""
    settings = chain.settings
    card = settings.card
    described = board.load(settings.board)
    size, power_of_two = card.size, card.power_of_two
    if settings.emulated and described.emulation is not None:
        power_of_two = power_of_two or (size is None and described.emulation.power_of_two)
    elif settings.device and settings.file is None and size is None:
        device = Path(settings.device)
        remembered = chain.carried("compose").get("size_bytes")
        # A card that is in the board by now has the size that it had when it was flashed.
        size = devices.find(settings.device).size_bytes if device.exists() else remembered
        if size is None:
            devices.find(settings.device)
    return plan(
        described,
        layout=card.layout,
        artifacts=card.artifacts,
        chosen=dict(card.files),
        size_bytes=size,
        power_of_two=power_of_two,
        seed=card.seed,
    )


@contextmanager
def _subject(chain: Chain, device: DeviceInfo, progress: Progress) -> Iterator[Subject]:
    """The composed image, for ``device``; what the board's layout keeps stays on the card."""
    card = _plan(chain)
    request = Request(str(chain.settings.image))
    with opened(request, device.size_bytes, progress) as subject:
        content = replace(subject.content, kept=card.kept, name_at=card.region_at, zero_gaps=False)
        yield replace(subject, content=content, title=f"{card.board} ({card.layout})")


def _place(first_byte: int, length: int) -> str:
    return f"sectors {first_byte // 512} to {(first_byte + length - 1) // 512}"
