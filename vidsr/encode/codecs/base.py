"""What every codec tells of itself: what it takes, what it may be asked for, and the words its encoder understands."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from functools import cache
from types import MappingProxyType
from typing import Any

import av

from vidsr.errors import UsageError
from vidsr.frames import ColorSpec, HdrMetadata, PixelFormat
from vidsr.report import Report

YUV420, YUV422, YUV444 = (1, 1), (1, 0), (0, 0)  # as PixelFormat.chroma_shift


class Codec(ABC):
    """An encoder that vidsr drives. A family is a subclass in a file of its own, a codec an instance in CODECS.

    A subclass says what it takes in the attributes below and what its encoder is told in `particular`; the other
    methods it overrides where its encoder differs.
    """

    name: str  # what --codec takes
    aliases: tuple[str, ...] = ()  # what --codec takes as well
    encoder: str  # FFmpeg's name of it
    depths: tuple[int, ...]  # bits a sample, rising
    chroma: tuple[tuple[int, int], ...]  # PixelFormat.chroma_shift; the first instead of one that is not among them
    alpha_depths: tuple[int, ...] = ()  # bits a sample beside an alpha plane; none: it has no place for one
    alpha_chroma: tuple[tuple[int, int], ...] = ()  # as `chroma`, beside an alpha plane
    crf: float | None = None  # what --crf is without being asked for; None: a lossless codec, which takes none
    crf_range: tuple[float, float] = (0, 0)
    crf_option = "crf"  # FFmpeg's name of it
    preset: str | None = None  # what --preset is without being asked for; None: it takes none
    presets: tuple[str, ...] = ()  # FFmpeg's names of them
    on_gpu = False
    cpu_equivalent = ""  # of one on the GPU: the name of the codec that does the same without one
    containers: tuple[str, ...] = ("matroska", "mp4", "mov")  # FFmpeg's muxers it can live in; segments are Matroska
    hdr10 = False  # whether `particular` hands on HDR10's static metadata
    environment: Mapping[str, str] = MappingProxyType({})  # variables set before it is opened, where the user has not
    can_stall = False  # whether it has been seen to stand still for ever, so that it has to be watched

    @abstractmethod
    def particular(
        self, threads: int, color: ColorSpec, hdr: HdrMetadata | None, live: bool
    ) -> tuple[dict[str, str], list[str]]:
        """(options in FFmpeg's words, parts of NAME-params in the encoder's own words), beside quality and preset.

        To be said here is what FFmpeg does not hand to this encoder by itself: where the samples of `color`'s chroma
        lie, `hdr` where it can be carried, and, when `live`, what lets each picture out at once.
        """

    def common(self, threads: int) -> dict[str, str]:
        """Options in FFmpeg's words whatever is asked for. Threads are pinned: x264's bytes depend on their number."""
        return {"threads": str(threads)}

    def layout(self, format: PixelFormat) -> str:
        """FFmpeg's name of the pixel format that the encoder takes `format` in."""
        return format.name

    def alpha_layout(self, format: PixelFormat) -> str:
        """FFmpeg's name of the pixel format that the encoder takes `format` and an alpha plane in."""
        return format.name.replace("yuv", "yuva")

    def holds_alpha(self, format: PixelFormat) -> bool:
        """Whether pictures of `format` can be encoded with an alpha plane beside them."""
        return format.bits in self.alpha_depths and format.chroma_shift in self.alpha_chroma

    def missing(self, width: int, height: int, format: PixelFormat) -> str | None:
        """One line why pictures of that size and format cannot be encoded here, None when they can, as far as known."""
        try:
            av.Codec(self.encoder, "w")
        except av.codec.codec.UnknownCodecError:
            return f"this FFmpeg has no {self.encoder}"
        return None

    def takes(self, format: PixelFormat) -> bool:
        """Whether pictures of `format` can be encoded as they are."""
        return format.family == "yuv" and format.bits in self.depths and format.chroma_shift in self.chroma

    def refuses(self, crf: float | None, preset: str | None) -> str | None:
        """One line why it cannot be asked for that quality and speed (None: its own), None when it can."""
        low, high = self.crf_range
        if crf is not None and self.crf is None:
            return f"--crf: {self.name} is lossless and takes none"
        if crf is not None and not low <= crf <= high:
            return f"--crf {crf:g}: {self.name} takes {low:g} to {high:g}"
        if preset is not None and not self.presets:
            return f"--preset: {self.name} takes none"
        if preset is not None and preset not in self.presets:
            return f"--preset {preset}: {self.name} takes {', '.join(self.presets)}"
        return None

    def faster_preset(self, preset: str | None) -> str | None:
        """The next faster than `preset` (None: its own); None where there is none, or not known."""
        return None

    def frame_packing(self, stereo: str | None) -> list[str]:
        """What NAME-params say so that the coded pictures tell where the two eyes lie; none where they cannot."""
        return []

    def options(
        self, crf: float | None, preset: str | None, extra: Mapping[str, str], color: ColorSpec,
        hdr: HdrMetadata | None, threads: int, live: bool = False, stereo: str | None = None,
    ) -> dict[str, str]:  # fmt: skip
        """All options to open the encoder with. extra: the user's own, in FFmpeg's words, which win.

        stereo: see StreamInfo; containers other than Matroska leave it to the codec, see `frame_packing`.
        live: someone is watching: each picture comes out at once, which costs size, not quality.
        UsageError for a crf, preset or option that the encoder does not know.
        """
        if reason := self.refuses(crf, preset):
            raise UsageError(reason)
        options = self.common(threads)
        if self.crf is not None:
            options[self.crf_option] = f"{self.crf if crf is None else crf:g}"
        if self.preset is not None:
            options["preset"] = preset or self.preset
        more, own = self.particular(threads, color, hdr, live)
        own += self.frame_packing(stereo)
        options |= more
        known = known_options(self.encoder)
        for key, value in extra.items():
            if key not in known:
                raise UsageError(f"--encoder-option {key}: {self.encoder} has no option of that name")
            if key == "threads" and not (value.isascii() and value.isdecimal()):
                raise UsageError(f"--encoder-option threads={value}: choose a number")
            if key == f"{self.name}-params":
                own.append(value)
            else:
                options[key] = value
        if own:
            options[f"{self.name}-params"] = ":".join(own)
        return options

    def result_format(
        self, source: PixelFormat, wanted: str | None, report: Report, alpha: bool = False
    ) -> PixelFormat:  # fmt: skip
        """The pixel format of the result: `wanted`, or the source's as far as the codec takes it; each loss is said.

        alpha: one that has room for an alpha plane where the codec has any.
        UsageError when `wanted` is not a format it takes.
        """
        if wanted is not None:
            try:
                format = PixelFormat.from_name(wanted)
            except ValueError as error:
                raise UsageError(f"--pixel-format: {error}") from error
            if not self.takes(format):
                names = [PixelFormat("yuv", bits, chroma).name for chroma in self.chroma for bits in self.depths]
                raise UsageError(f"--pixel-format {wanted}: {self.name} takes {', '.join(names)}")
            return format
        chroma, depths, chromas = natural_chroma(source), self.depths, self.chroma
        if alpha and self.alpha_depths:
            depths, chromas = self.alpha_depths, self.alpha_chroma
        if chroma not in chromas:
            if chroma < chromas[0]:
                report.warn(f"{self.name} takes 4:2:0 only: the colour resolution is halved")
            chroma = chromas[0]
        bits = max((depth for depth in depths if depth <= source.bits), default=depths[0])
        if bits < source.bits:
            report.warn(f"{self.name} takes {bits} bits at most: the source's {source.bits} bits are reduced")
        if source.family == "rgb":
            report.warn("RGB source: the result is YUV 4:4:4, BT.709")
        return PixelFormat("yuv", bits, chroma)


def natural_chroma(source: PixelFormat) -> tuple[int, int]:
    """PixelFormat.chroma_shift of the YUV format that holds the colours of `source` and no more."""
    return {"yuv": source.chroma_shift, "gray": YUV420, "rgb": YUV444}[source.family]


@cache
def known_options(encoder: str) -> Mapping[str, Any]:
    """FFmpeg's `encoder`'s options by name: its own and those of every encoder."""
    supported = av.CodecContext.create(encoder, "w").supported_options
    return {option.name: option for option in (*supported.generic, *supported.private)}
