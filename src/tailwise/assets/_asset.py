"""What the registry says about one data set or model."""

from dataclasses import dataclass
from typing import Literal

__all__ = ["ArchiveSource", "Asset", "AssetFile", "HubSource", "SiteSource", "Source", "WheelSource"]


@dataclass(frozen=True)
class AssetFile:
    """One file of an asset: its name in the cache, its place in the source, its content."""

    name: str
    """File name inside the asset's folder."""
    member: str
    """Path inside the wheel or archive, after the site's base address, or in the hub repository."""
    sha256: str
    """Of the file itself; a source that serves anything else is refused."""
    n_bytes: int


@dataclass(frozen=True)
class WheelSource:
    """Files inside a Python wheel, from whatever package index the user's pip is set to.

    The package is never installed: only the named members are taken out.
    """

    distribution: str
    version: str
    sha256: str
    """Of the wheel."""
    n_bytes: int
    """Of the wheel."""
    files: tuple[AssetFile, ...]

    @property
    def requirement(self) -> str:
        """What pip is asked for, e.g. ``recbole==1.2.1``."""
        return f"{self.distribution}=={self.version}"

    @property
    def label(self) -> str:
        """How messages name this source."""
        return f"package wheel {self.requirement}"


@dataclass(frozen=True)
class SiteSource:
    """Single files below one web address."""

    base_url: str
    """Ends in a slash; each file's ``member`` is appended."""
    files: tuple[AssetFile, ...]

    @property
    def label(self) -> str:
        """How messages name this source."""
        return f"site {self.base_url}"


@dataclass(frozen=True)
class ArchiveSource:
    """Members of a zip archive at one web address."""

    url: str
    sha256: str
    """Of the archive."""
    n_bytes: int
    """Of the archive."""
    files: tuple[AssetFile, ...]

    @property
    def label(self) -> str:
        """How messages name this source."""
        return f"archive {self.url}"


@dataclass(frozen=True)
class HubSource:
    """Files of a Hugging Face repository at one commit, through ``huggingface_hub``."""

    repo_id: str
    revision: str
    """Commit hash, never a branch."""
    files: tuple[AssetFile, ...]

    @property
    def label(self) -> str:
        """How messages name this source."""
        return f"hub {self.repo_id}@{self.revision[:12]}"


Source = WheelSource | SiteSource | ArchiveSource | HubSource


@dataclass(frozen=True)
class Asset:
    """A data set or model that Tailwise can fetch, with every place it can come from.

    Sources need not carry the same files: one may hold a model as a single GGUF file and
    another as a transformers folder. Each source therefore lists its own *file set*, and a
    fetched asset holds exactly one of them, complete. ``file_sets`` has them in source order.
    """

    name: str
    kind: Literal["dataset", "model"]
    version: str
    licence: str
    description: str
    sources: tuple[Source, ...]

    @property
    def files(self) -> tuple[AssetFile, ...]:
        """Files of the first, preferred source."""
        return self.sources[0].files

    @property
    def file_sets(self) -> tuple[tuple[AssetFile, ...], ...]:
        """The distinct file sets (by name and hash), in source order."""
        sets: dict[frozenset[tuple[str, str]], tuple[AssetFile, ...]] = {}
        for source in self.sources:
            sets.setdefault(frozenset((file.name, file.sha256) for file in source.files), source.files)
        return tuple(sets.values())
