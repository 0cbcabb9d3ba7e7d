"""Archives: one kind of file, ``.tar.gz``, that is equal byte for byte wherever and whenever it is packed.

What is packed: regular files only, sorted, mode 0644, owner 0, time 0. There are no entries for folders: whoever
unpacks makes them, and a tree has no empty ones. There are no links: a hard-linked file is packed with its own bytes.
Headers are ustar, with PAX records only for names over 100 bytes, names beyond ASCII, and files over 8 GiB.

The gzip layer is ISA-L, level 1, fed with blocks of one size: its bytes depend on how the input is cut, but neither on
the number of threads nor on the kind of x86-64 CPU. (Level 2 is no smaller, level 3 differs between CPUs, level 0 makes
weights larger.)
"""

from builder.tools.archive_names import Limits
from builder.tools.archive_read import read_members, read_small, unpack
from builder.tools.archive_write import pack

__all__ = ["Limits", "pack", "read_members", "read_small", "unpack"]
