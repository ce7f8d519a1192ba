"""What can be told of a bundle without running it, in a second."""

from __future__ import annotations

from inference.notebook.image import Image
from inference.notebook.rehearsal.opened import OpenedBundle
from inference.notebook.rehearsal.static.files import check_files
from inference.notebook.rehearsal.static.metadata import check_metadata
from inference.notebook.rehearsal.static.models import check_models
from inference.notebook.rehearsal.static.mount_paths import check_mount_paths
from inference.notebook.rehearsal.static.source import check_source
from inference.notebook.rehearsal.static.wheels import check_wheels
from inference.notebook.rehearsal.verdict import Findings


def look_through(bundle: OpenedBundle, image: Image | None, rows: int) -> Findings:
    """Everything that is wrong with a bundle before it runs.

    Parameters
    ----------
    image : the notebook's image, if it is known.
    rows : of the visible test set.
    """
    found = Findings()
    check_metadata(bundle, found)
    check_files(bundle, found)
    check_wheels(bundle, image, found)
    check_models(bundle, found)
    check_mount_paths(bundle, found)
    check_source(bundle, rows, found)
    return found
