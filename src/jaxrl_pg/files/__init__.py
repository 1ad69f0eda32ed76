"""Files of the program's own: opened, written, locked and deleted here, and nowhere else.

A folder that was sent or downloaded may hold anything. So, inside a folder that the program made,
nothing here follows a link, writes to what is no plain file, or deletes what was not checked. Links
above such a folder, say from `runs` to a bigger disk, are the user's own and are followed. What
another program wrote is read through `schema`, which says what is wrong with it in one line.
"""

from types import ModuleType

from jaxrl_pg.files.folders import (
    HeldFolder,
    make_folder,
    make_new_folder,
    remove_tree,
    set_aside,
    write_folder,
)
from jaxrl_pg.files.growing import GrowingFile
from jaxrl_pg.files.locking import (
    LOCK_NAMES,
    Lock,
    lock,
    require_no_pattern,
    require_writable,
    unwritable,
)
from jaxrl_pg.files.names import MAX_BYTES, as_path, file_name, is_leftover
from jaxrl_pg.files.opening import (
    Identity,
    identity,
    is_file,
    is_folder,
    read_bytes,
    read_text,
    readable_size,
    require_no_link,
)
from jaxrl_pg.files.writing import clear_leftovers, remove_file, write_atomic
from jaxrl_pg.lazy import submodule

__all__ = [
    "LOCK_NAMES",
    "MAX_BYTES",
    "GrowingFile",
    "HeldFolder",
    "Identity",
    "Lock",
    "as_path",
    "clear_leftovers",
    "file_name",
    "identity",
    "is_file",
    "is_folder",
    "is_leftover",
    "lock",
    "make_folder",
    "make_new_folder",
    "read_bytes",
    "read_text",
    "readable_size",
    "remove_file",
    "remove_tree",
    "require_no_link",
    "require_no_pattern",
    "require_writable",
    "set_aside",
    "unwritable",
    "write_atomic",
    "write_folder",
]


def __getattr__(name: str) -> ModuleType:
    return submodule(__name__, name)
