"""Make episode.mkv: an anime episode in miniature, with everything in it that vidsr must keep.

    python demo/make_episode.py CLIP.mkv DejaVuSans.ttf [episode.mkv] [--seconds 3]

Run from a checkout. Needs fonttools (`pip install fonttools`) beside what vidsr needs. README.md says where CLIP and
the font come from. The picture is copied, not encoded again.
"""

from __future__ import annotations

import argparse
import io
from collections.abc import Iterator
from fractions import Fraction
from importlib import import_module
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np

from vidsr.files import as_file
from vidsr.mux.matroska import details as matroska
from vidsr.mux.matroska import ebml
from vidsr.mux.matroska.details import MatroskaDetails, read_details
from vidsr.mux.matroska.ebml import master, text, uint
from vidsr.mux.matroska.restore import TrackPatch, restore

RATE = 48000  # samples a second
COMMENT = "Picture: Morevna Project (CC0 1.0). Sound, subtitles: vidsr (CC0 1.0). Font: DejaVu, see demo/README.md."
CHAPTERS = ((0, "Cold open", "アバン"), (1000, "Part A", "Aパート"), (2200, "Preview", "次回予告"))  # milliseconds

ASS = r"""[Script Info]
Title: A word in passing
ScriptType: v4.00+
PlayResX: 480
PlayResY: 270
YCbCr Matrix: TV.709

[V4+ Styles]
Format: Name, Fontname, Fontsize, PrimaryColour, SecondaryColour, OutlineColour, BackColour, Bold, Italic, Underline, StrikeOut, ScaleX, ScaleY, Spacing, Angle, BorderStyle, Outline, Shadow, Alignment, MarginL, MarginR, MarginV, Encoding
Style: Default,DejaVu Sans,20,&H00FFFFFF,&H000000FF,&H00302010,&H80000000,0,0,0,0,100,100,0,0,1,2,1,2,16,16,14,1
Style: Sign,DejaVu Sans,14,&H0060E0FF,&H000000FF,&H00202020,&H00000000,0,0,0,0,100,100,1,0,1,1,0,8,10,10,10,1

[Events]
Format: Layer, Start, End, Style, Name, MarginL, MarginR, MarginV, Effect, Text
Dialogue: 0,0:00:00.20,0:00:01.40,Default,Saha,0,0,0,,You can see every line now.
Dialogue: 0,0:00:01.50,0:00:02.90,Default,Saha,0,0,0,,Every {\i1}single{\i0} one, naïve or not.
Dialogue: 1,0:00:01.00,0:00:02.20,Sign,,0,0,0,,{\pos(240,20)\fad(200,200)}Part A
"""  # noqa: E501
SRT = "1\n00:00:01,000 --> 00:00:02,200\n<i>Part A</i>\n"


def main() -> None:
    parser = argparse.ArgumentParser(description="Make the demo episode.")
    parser.add_argument("clip", type=Path, help="Matroska file with the picture")
    parser.add_argument("font", type=Path, help="DejaVuSans.ttf")
    parser.add_argument("output", type=Path, nargs="?", default=Path(__file__).parent / "episode.mkv")
    parser.add_argument("--seconds", type=float, default=3.0, help="pictures up to here are kept")
    options = parser.parse_args()

    with av.open(as_file(options.clip)) as clip, av.open(as_file(options.output), "w", format="matroska") as result:
        result.metadata.update(title="Saha says: 01", DATE_RELEASED="2026", COMMENT=COMMENT)
        picture: Any = clip.streams.video[0]
        packets: list[Any] = [p for p in clip.demux(picture) if p.size]
        packets = [p for p in packets if p.pts * p.time_base <= options.seconds]
        seconds = float(max(p.pts for p in packets) * picture.time_base + 1 / picture.average_rate)
        step = round(1 / picture.average_rate / picture.time_base)
        early = sum(p.dts is None for p in packets)  # Matroska does not store decoding times: the first are unknown
        for i, packet in enumerate(packets[:early]):
            packet.dts = packets[early].dts - (early - i) * step
        video: Any = result.add_stream_from_template(picture, opaque=True)
        _describe(video, "Picture", "jpn", "default")
        ja: Any = result.add_stream("libopus", rate=RATE, layout="stereo", bit_rate=56000)
        _describe(ja, "Japanese", "jpn", "default", "original")
        en: Any = result.add_stream("aac", rate=RATE, layout="mono", bit_rate=56000)
        _describe(en, "English dub", "eng")
        texts: list[Any] = [
            av.open(io.BytesIO(ASS.encode()), format="ass"),
            av.open(io.BytesIO(SRT.encode()), format="srt"),
        ]
        subtitles: list[Any] = [result.add_stream_from_template(t.streams.subtitles[0], opaque=True) for t in texts]
        _describe(subtitles[0], "Full", "eng", "default")
        _describe(subtitles[1], "Signs", "eng", "forced")
        result.add_attachment("DejaVuSans-Latin.ttf", "font/ttf", _latin_part(options.font))
        result.add_attachment("cover.jpg", "image/jpeg", _cover(options.clip))

        for packet in packets:
            packet.stream = video
        packets += _encode(ja, _voice("aiueo", 220, seconds, stereo=True))
        packets += _encode(en, _voice("oaeui", 165, seconds, stereo=False))
        for text_file, stream in zip(texts, subtitles):
            for packet in text_file.demux(text_file.streams.subtitles[0]):
                if packet.size:
                    packet.stream = stream
                    packets.append(packet)
        packets.sort(key=lambda p: (p.dts if p.dts is not None else p.pts) * p.time_base)
        for packet in packets:
            result.mux(packet)

    languages = ("ja", "ja", "en-GB", "en", "en")
    patches = [TrackPatch(i, language_bcp47=language) for i, language in enumerate(languages)]
    patches[0] = TrackPatch(0, source=0, language_bcp47="ja", sample_aspect=Fraction(1))
    details = read_details(options.clip) or MatroskaDetails()
    for line in restore(options.output, patches, MatroskaDetails(details.tracks, _chapters())):
        print(line)
    print(f"{options.output}: {len(packets)} packets, {options.output.stat().st_size} bytes")


def _describe(stream: Any, title: str, language: str, *flags: str) -> None:
    stream.metadata.update(title=title, language=language)
    disposition = av.stream.Disposition(0)
    for flag in flags:
        disposition |= av.stream.Disposition[flag]
    stream.disposition = disposition


def _voice(vowels: str, pitch: float, seconds: float, stereo: bool) -> np.ndarray:
    """A sung tune, one vowel a note: [1 or 2, samples] float32, -1..1, in RATE. pitch: the first note's, in Hz."""
    formants = {"a": (800, 1200), "i": (300, 2300), "u": (350, 1100), "e": (450, 1900), "o": (450, 850)}  # Hz
    tune = (0, 4, 7, 9, 7, 4, 2, 0)  # semitones above the first note
    note = int(seconds * RATE / len(tune))
    time = np.arange(note) / RATE
    envelope = np.minimum(1, time / 0.03) * np.minimum(1, (time[-1] - time) / 0.08)
    notes = []
    for i, step in enumerate(tune):
        tone = pitch * 2 ** (step / 12)
        vibrato = 0.6 * np.sin(2 * np.pi * 5.5 * time) * np.minimum(1, time / 0.2)
        wave = np.zeros(note)
        for harmonic in range(1, int(5000 / tone)):
            near = [np.exp(-(((harmonic * tone - f) / 160) ** 2)) for f in formants[vowels[i % len(vowels)]]]
            wave += (max(near) + 0.05) / harmonic**0.7 * np.sin(harmonic * (2 * np.pi * tone * time + vibrato / 4))
        notes.append(wave * envelope / np.abs(wave).max())
    mono = np.zeros(int(seconds * RATE), np.float32)
    mono[: note * len(tune)] = 0.3 * np.concatenate(notes)
    late = np.concatenate([np.zeros(RATE // 50, np.float32), mono[: -RATE // 50]])  # 20 ms: a little room
    return np.stack([mono + 0.3 * late, 0.8 * mono + 0.5 * late]) if stereo else mono[None]


def _encode(stream: Any, samples: np.ndarray) -> Iterator[Any]:
    layout = "stereo" if len(samples) == 2 else "mono"
    frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(samples, dtype=np.float32), "fltp", layout)
    frame.sample_rate, frame.pts, frame.time_base = RATE, 0, Fraction(1, RATE)
    yield from stream.encode(frame)
    yield from stream.encode(None)


def _latin_part(font: Path) -> bytes:
    """The font with Latin letters only (U+0020 to U+017E and a few signs), about a thirtieth of the whole."""
    subset, tt_lib = import_module("fontTools.subset"), import_module("fontTools.ttLib")
    options = subset.Options(hinting=False, layout_features=["kern"], name_IDs=["*"], notdef_outline=True)
    options.drop_tables += ["FFTM"]
    whole = tt_lib.TTFont(font)
    cutter = subset.Subsetter(options)
    cutter.populate(unicodes=[*range(0x20, 0x7F), *range(0xA0, 0x17F), 0x2013, 0x2014, 0x2018, 0x2019, 0x2026])
    cutter.subset(whole)
    data = io.BytesIO()
    whole.save(data)
    return data.getvalue()


def _cover(clip: Path) -> bytes:
    """A picture from the clip's middle, 320 pixels wide, as JPEG."""
    with av.open(as_file(clip)) as file:
        frames = list(file.decode(video=0))
    image = frames[len(frames) // 2].to_ndarray(format="bgr24")
    small = cv2.resize(image, (320, round(320 * image.shape[0] / image.shape[1])), interpolation=cv2.INTER_AREA)
    return cv2.imencode(".jpg", small, [cv2.IMWRITE_JPEG_QUALITY, 85])[1].tobytes()


def _chapters() -> bytes:
    """CHAPTERS as a Matroska element, each named in English and in Japanese."""
    atoms = b""
    for i, (start, english, japanese) in enumerate(CHAPTERS):
        displays = b""
        for language, code, name in (("en", "eng", english), ("ja", "jpn", japanese)):
            words = text(matroska.CHAPTER_STRING, name) + text(matroska.CHAPTER_LANGUAGE, code)
            displays += master(matroska.CHAPTER_DISPLAY, words + text(matroska.CHAPTER_BCP47, language))
        begin = uint(matroska.CHAPTER_UID, i + 1) + uint(matroska.CHAPTER_START, start * 1_000_000)
        atoms += master(matroska.CHAPTER, begin + displays)
    default = ebml.uint(matroska.EDITION_DEFAULT, 1)
    return master(matroska.CHAPTERS, master(matroska.EDITION, default + atoms))


if __name__ == "__main__":
    main()
