"""Models on disk: found, verified, converted, and read without running what is in them.

ModelStore      models by name: styles, generators, encoders, codes
networks        files to networks          write      networks to files
contents        one file, opened           header     the format of our own files
manifest, fetch, convert, verify           what is published, and how it gets here
"""

from dsgcli.store.catalog import ModelFile, StyleInfo
from dsgcli.store.model_store import ModelStore, Style

__all__ = ["ModelFile", "ModelStore", "Style", "StyleInfo"]
