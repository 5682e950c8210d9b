"""Text of drawn scenes: subtitles, titles and credits, Latin or Japanese, in whatever faces are installed."""

from __future__ import annotations

from functools import lru_cache

from train.scenes.brush import Brush, skia
from train.scenes.style import BLACK, WHITE, Colour, hsv, mix

_WIDEST = 0.94  # of the side: longer lines get smaller letters
_LATIN = (
    "I will protect you!", "Next time ...", "To be continued", "What are you doing here?", "Wait for me!", "Part two",
    "It cannot be helped.", "The end", "Somewhere, far away", "Tomorrow we will meet again", "You knew, didn't you?",
)  # fmt: skip
_ROLES = (
    "Director", "Character Design", "Key Animation", "In-Between", "Background Art", "Photography", "Sound", "Music",
    "Color Design", "Producer", "Editing", "Storyboard", "Animation Director", "Finish Check", "3D CG",
)  # fmt: skip
_ROLES_CJK = (
    "監督", "脚本", "原画", "動画", "背景", "美術", "撮影", "編集", "音楽", "制作", "色彩設計", "作画監督", "仕上げ",
    "演出", "絵コンテ",
)  # fmt: skip
_GIVEN = ("Aoi", "Kenji", "Mari", "Haruto", "Yui", "Sora", "Naoko", "Ren", "Emi", "Takumi", "Hana", "Jun")
_FAMILY = ("Sakura", "Hayashi", "Mori", "Tani", "Kawa", "Ishi", "Yama", "Ueno", "Oka", "Hara", "Nishi", "Kita")
_CJK = "夜の街で君を待つ明日また会おう行け飛べ終わり続く次回第話春夏秋冬空海風火山川光闇心ありがとうサヨナラキミノナハ"
_CJK_NAMES = "田中村木林森石原北西南東橋本"


@lru_cache(maxsize=8)
def _typeface(cjk: bool, bold: bool, name: str) -> skia.Typeface | None:
    """A face for this kind of text out of those installed, or None."""
    manager = skia.FontMgr()
    style = skia.FontStyle.Bold() if bold else skia.FontStyle.Normal()
    if cjk:
        return manager.matchFamilyStyleCharacter(name, style, ["ja"], ord("夜"))
    try:
        return manager.matchFamilyStyle(name, style) or skia.Typeface(name, style)
    except TypeError:  # no font at all is installed
        return None


def write(
    brush: Brush,
    text: str,
    x: float,
    y: float,
    height: float,
    face: skia.Typeface | None,
    colour: Colour,
    edge: float,
    middle: bool,
) -> None:
    """Text on the line y. edge: of a dark outline, pixels. What the face has no glyph for is left out."""
    if face is None:
        return
    font = skia.Font(face, height)
    font.setEdging(skia.Font.Edging.kAntiAlias)
    font.setSubpixel(True)
    text = "".join(letter for letter in text if letter == " " or font.unicharToGlyph(ord(letter)))
    if not text.strip():
        return
    if (width := font.measureText(text)) > _WIDEST * brush.size:
        font.setSize(height * _WIDEST * brush.size / width)
    blob_of_text = skia.TextBlob.MakeFromString(text, font)
    if middle:
        x -= font.measureText(text) / 2
    if edge > 0:
        dark = mix(colour, BLACK, 0.92) if sum(colour) > 1.2 else WHITE
        paint = brush.paint(dark)
        paint.setStyle(skia.Paint.kStroke_Style)
        paint.setStrokeJoin(skia.Paint.kRound_Join)
        paint.setStrokeWidth(2 * edge)
        brush.canvas.drawTextBlob(blob_of_text, x, y, paint)
    brush.canvas.drawTextBlob(blob_of_text, x, y, brush.paint(colour))


def _words(brush: Brush, cjk: bool) -> str:
    dice = brush.dice
    return "".join(dice.choice(_CJK) for _ in range(dice.randint(3, 13))) if cjk else dice.choice(_LATIN)


def caption(brush: Brush) -> None:
    """A subtitle of one or two lines, or a large title."""
    dice, size = brush.dice, brush.size
    cjk = dice.chance(0.5)
    face = _typeface(cjk, dice.chance(0.6), dice.choice(("", "serif") if not cjk else ("", "Noto Serif CJK JP")))
    colour = WHITE if dice.chance(0.7) else dice.colour((0.2, 0.9), (0.7, 1))
    if dice.chance(0.7):
        height = dice.log(22, 56)
        for i in range(dice.randint(1, 2)):
            write(
                brush,
                _words(brush, cjk),
                size / 2,
                0.94 * size - 1.25 * i * height,
                height,
                face,
                colour,
                height * dice.uniform(0.03, 0.08),
                True,
            )
    else:
        height = dice.log(60, 0.2 * size)
        write(
            brush,
            _words(brush, cjk),
            size / 2,
            dice.uniform(0.3, 0.8) * size,
            height,
            face,
            colour,
            dice.choice((0.0, 0.04 * height)),
            True,
        )


def credits_roll(brush: Brush) -> None:
    """Lines of small text: roles and names in two columns, down to the end of the canvas, which may be a long one."""
    dice, size = brush.dice, brush.size
    cjk, height = dice.chance(0.5), dice.log(13, 30)
    face = _typeface(cjk, dice.chance(0.3), dice.choice(("", "serif") if not cjk else ("", "Noto Serif CJK JP")))
    colour = WHITE if dice.chance(0.8) else BLACK
    edge = dice.choice((0.0, 1.2)) if colour is WHITE else 1.2
    y = dice.uniform(1, 3) * height
    while y < brush.canvas.getBaseLayerSize().height():
        names = [
            f"{dice.choice(_GIVEN)} {dice.choice(_FAMILY)}"
            if not cjk
            else "".join(dice.choice(_CJK_NAMES) for _ in range(4))
            for _ in range(dice.randint(1, 6))
        ]
        role = dice.choice(_ROLES_CJK) if cjk else dice.choice(_ROLES)
        for i, name in enumerate(names):
            if i == 0:
                write(brush, role, 0.3 * size, y, height * 0.9, face, mix(colour, hsv(0.12, 0.6, 0.9), 0.3), edge, True)
            write(brush, name, 0.66 * size, y, height, face, colour, edge, True)
            y += 1.4 * height
        y += 1.2 * height
