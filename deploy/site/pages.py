"""MkDocs hook: pages that stand outside docs/ join the site, and links between the two lead to pages of the site.

Links work on both sides: in the repository they name files. A link to a file that is no page, such as an example,
becomes its name, since the site does not know where the repository is published.
"""

import posixpath
import re
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).parents[2]
TAKEN_IN = {
    "README.md": "index.md",
    "CHANGELOG.md": "changelog.md",
    "SECURITY.md": "security.md",
    "CONTRIBUTING.md": "contributing.md",
    "weights/default/README.md": "weights.md",
    "weights/mpnet/README.md": "weights_mpnet.md",
}
"""Name on the site by path in the repository."""
_IN_REPOSITORY = {page: path for path, page in TAKEN_IN.items()}
_LINK = re.compile(r"(!?)\[((?:[^\[\]]|\[[^\]]*\])*)\]\(([^)\s]+)\)")


def on_files(files: Files, *, config: MkDocsConfig) -> Files:
    """Adds the pages from outside docs/."""
    for path, page in TAKEN_IN.items():
        files.append(File.generated(config, page, abs_src_path=str(ROOT / path)))
    return files


def on_page_markdown(markdown: str, *, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Turns links between files of the repository into links between pages."""
    del config
    here = posixpath.dirname(_IN_REPOSITORY.get(page.file.src_uri, f"docs/{page.file.src_uri}"))

    def rewritten(link: re.Match[str]) -> str:
        mark, label, target = link.groups()
        path, hash_mark, anchor = target.partition("#")
        if "://" in target or not path:
            return link[0]
        aimed = posixpath.normpath(posixpath.join(here, path))
        on_site = TAKEN_IN.get(aimed, aimed.removeprefix("docs/"))
        if files.get_file_from_path(on_site) is None and (ROOT / aimed).exists():
            return label
        return f"{mark}[{label}]({on_site}{hash_mark}{anchor})"

    return _LINK.sub(rewritten, markdown)
