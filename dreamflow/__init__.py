"""dreamflow renders DeepDream video: clips, endless zooms and preset-driven batches."""

from importlib.metadata import PackageNotFoundError, version

try:
    __version__ = version("dreamflow")
except PackageNotFoundError:  # a source tree that was never installed
    __version__ = "0+source"
