"""The HTTP service: titiler factories over a rio-tiler reader of a generated world, and the web map.

Importing this package loads no neural network code; the engine is opened when an app starts.
"""

from tileserver.app import create_app
from tileserver.factory import WorldFactory
from tileserver.reader import WorldReader
from tileserver.serve import serve
from tileserver.settings import Settings

__all__ = ["Settings", "WorldFactory", "WorldReader", "create_app", "serve"]
