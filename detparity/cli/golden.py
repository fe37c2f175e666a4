"""`detparity golden`: record goldens of your own exports, and compare the next release."""

from __future__ import annotations

import argparse
from pathlib import Path

from detparity.cli.options import (
    Parser,
    add_home_model,
    add_nms,
    choice_of,
    opset_of,
    require_nms,
    say,
    size_of,
)
from detparity.core.signals import held_back
from detparity.models.choice import require_home_named, require_one_model


def add(parser: argparse.ArgumentParser) -> None:
    verbs = parser.add_subparsers(dest="verb", required=True, parser_class=Parser)
    for verb, about in (
        ("record", "record the goldens of a file for the first time"),
        ("check", "compare a file with them"),
    ):
        one = verbs.add_parser(verb, help=about)
        one.add_argument("artifact", type=Path, metavar="ARTIFACT", help="the exported file")
        add_home_model(one)
        one.add_argument("--name", required=True, help="what the goldens go by, such as car-detector")
        one.add_argument("--variant", help="what the file promises to be (default: read from it)")
        one.add_argument(
            "--img-size", type=int, nargs="+", metavar="N", help="height, width, where the file declares none"
        )
        add_nms(one, None, None, None)
        one.add_argument("--opset", type=int, metavar="N", help="promised opset")
        one.add_argument("--golden", type=Path, default=Path("golden"), metavar="DIR", help="where goldens lie")
        if verb == "record":
            one.add_argument("--why", default="first recorded", metavar="TEXT", help="what the index says of them")
            one.add_argument("--parity-lost", action="store_true", help="record a file that is not what the model is")
        else:
            one.add_argument("--pending", type=Path, metavar="DIR", help="where to put what waits for review")
        one.set_defaults(run=run)
    removal = verbs.add_parser("remove", help="take a golden that no test asks for away, with its entry")
    removal.add_argument("name", metavar="NAME", help="such as graph/car-detector")
    removal.add_argument("--golden", type=Path, metavar="DIR", help="where goldens lie")
    removal.set_defaults(run=_remove)


def run(options: argparse.Namespace) -> int:
    with held_back():
        from detparity.artifacts.open import Asked
        from detparity.tools.golden import user_goldens
    from detparity.tools.golden.evaluate import Folders
    from detparity.tools.golden.pending import folder_for

    require_nms(options)
    choice = choice_of(options)
    require_one_model(choice)
    require_home_named(choice, (options.artifact,))
    promise = Asked(options.iou_thres, options.conf_thres, options.topk_all, options.max_wh, opset_of(options))
    size = size_of(options.img_size)
    asked = user_goldens.Asked(options.artifact, choice, options.name, options.variant, size, promise)
    if options.verb == "record":
        folders = Folders(options.golden, folder_for(options.golden))
        return user_goldens.record_all(asked, folders, options.why, options.parity_lost, say)
    return user_goldens.check_all(asked, Folders(options.golden, folder_for(options.golden, options.pending)), say)


def _remove(options: argparse.Namespace) -> int:
    from detparity.tools.golden.index import discard
    from detparity.tools.golden.user_goldens import default_folders

    folder, _ = default_folders(options.golden, None)
    discard(folder, options.name)
    print(f"removed {options.name}")
    return 0
