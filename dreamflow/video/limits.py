"""How much a media file may claim to be: more is refused, from its header where that tells.

A stranger's file can announce in a few bytes what would take all memory or a month. These are the
limits for what is read; for weights see `networks`, for presets `strict_yaml`, for flow
`flow_files`.
"""

from fractions import Fraction

MAX_PIXELS = 64_000_000
"""Of one picture, unless `--max-pixels` says otherwise; 8K is 33 million."""

MAX_FRAMES = 900_000
"""Of a clip, as it is and as it is resampled: ten hours at 25 frames per second."""

MAX_HOURS = 24
"""How long a clip may last."""

MIN_RATE, MAX_RATE = Fraction(1, 3600), Fraction(1000)
"""Frames per second: from one an hour to what the command line takes."""

MAX_STREAMS = 64
"""In one file."""

MAX_TAG_BYTES = 8 << 20
"""All of a file's metadata as text; a recipe of ours takes at most a hundredth of it."""
