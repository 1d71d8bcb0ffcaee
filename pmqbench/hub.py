"""Files from the Hugging Face hub, for models (`sources/hub.py`) and data sets (`tasks/sources/hub.py`).

Only files that are used, of one commit, verified against the hub's checksums; errors name the repository and the remedy.
Everything goes through huggingface_hub's own cache, so HF_HOME, HF_ENDPOINT, HF_HUB_OFFLINE and tokens work as everywhere.
A download that is cut off resumes; a file in the cache is not fetched again, and a pinned commit needs no request at all.
"""

from __future__ import annotations

import errno
import hashlib
import logging
import re
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from pmqbench.errors import ConfigError, DataError, HubError, PMQError
from pmqbench.files import sha256_file

if TYPE_CHECKING:
    from huggingface_hub.hf_api import RepoFile

logger = logging.getLogger(__name__)
T = TypeVar("T")

ID = re.compile(r"[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)?", re.ASCII)
COMMIT = re.compile(r"[0-9a-f]{40}")
WAITS = (1, 2, 4)
"""Seconds before each retry of a first request that the hub refuses for now (429, 5xx)."""
BUSY = (429, 500, 502, 503, 504)


@dataclass(frozen=True)
class Repo:
    """A repository of the hub.

    Attributes:
        id: "owner/name".
        kind: "model" or "dataset".
        revision: commit sha, branch or tag; None for the default branch.
    """

    id: str
    kind: str = "model"
    revision: str | None = None

    def __str__(self) -> str:
        return f"{self.kind} {self.id}" + (f" at {self.revision}" if self.revision else "")

    @property
    def pinned(self) -> bool:
        """Whether the revision is a commit: branches and tags move."""
        return self.revision is not None and COMMIT.fullmatch(self.revision) is not None

    @property
    def page(self) -> str:
        """The repository's page, where terms are accepted and revisions listed."""
        from huggingface_hub import constants

        return f"{constants.ENDPOINT}/{'datasets/' if self.kind == 'dataset' else ''}{self.id}"


@dataclass(frozen=True)
class Snapshot:
    """Verified files of one commit.

    Attributes:
        commit: the commit's sha.
        files: path in the repository -> path on this machine.
    """

    commit: str
    files: dict[str, Path]


def check_id(repo: str, where: str) -> None:
    """Raises ConfigError for what cannot be a repository's id; no request is made."""
    if not ID.fullmatch(repo) or ".." in repo or "--" in repo:
        raise ConfigError(f'"{repo}" is no id of a repository.', where=where, remedy="It is owner/name.")


def fetch(repo: Repo, choose: Callable[[Sequence[str], Callable[[str], Path]], Sequence[str]]) -> Snapshot:
    """Brings the chosen files of a repository into huggingface_hub's cache and verifies them.

    Args:
        repo: the repository.
        choose: gets the paths of all its files, and a function that brings one small file at once, to choose by its contents;
            returns the paths wanted.

    Raises:
        HubError: no network, no such repository, revision or file, access refused, disk full.
        DataError: a file's checksum is not the hub's; the file is removed from the cache.
    """
    from huggingface_hub import snapshot_download
    from huggingface_hub.utils import disable_progress_bars

    disable_progress_bars()
    with explained(repo):
        commit = resolve(repo)
        listed = {file.path: file for file in listing(repo, commit)}

    def bring(paths: Sequence[str]) -> dict[str, Path]:
        with explained(repo):
            check_space(repo, commit, [listed[path] for path in paths])
            exact = [re.sub(r"([*?\[])", r"[\1]", path) for path in paths]
            folder = snapshot_download(repo.id, repo_type=repo.kind, revision=commit, allow_patterns=exact)
        found = {path: Path(folder) / path for path in paths}
        for path, file in found.items():
            verify(repo, listed[path], file)
        return found

    chosen = choose(sorted(listed), lambda path: bring([path])[path])
    logger.info("%s, commit %s: %d files, %.1f MB", repo, commit, len(chosen), sum(listed[p].size for p in chosen) / 1e6)
    return Snapshot(commit, bring(chosen))


def resolve(repo: Repo) -> str:
    """The commit that `repo.revision` stands for; a warning if it is no commit, since numbers may then change with the hub."""
    import httpx2
    from huggingface_hub import HfApi, constants
    from huggingface_hub.errors import OfflineModeIsEnabled

    if repo.pinned and is_listed(repo, repo.revision):
        return repo.revision
    api, known = HfApi(), {"repo_id": repo.id, "repo_type": repo.kind, "revision": repo.revision}
    try:
        patiently(lambda: api.repo_info(**known, timeout=constants.HF_HUB_DOWNLOAD_TIMEOUT))
        commit = api.resolve_revision(**known).resolved
    except (httpx2.TransportError, OfflineModeIsEnabled) as error:
        logger.warning("%s: the hub cannot be reached (%s); looking in the cache.", repo, error)
        commit = cached_commit(repo)
        if commit is None:
            raise
    if commit != repo.revision:
        logger.info("%s is not pinned; it is commit %s now. Give `revision: %s` to keep it.", repo, commit, commit)
    return commit


def cached_commit(repo: Repo) -> str | None:
    """The commit that the cache knows for the revision, if it knows that commit's files too."""
    from huggingface_hub import resolve_revision
    from huggingface_hub.errors import RevisionResolutionError

    try:
        commit = resolve_revision(repo.id, repo_type=repo.kind, revision=repo.revision, local_files_only=True).resolved
    except RevisionResolutionError:
        return None
    return commit if is_listed(repo, commit) else None


def patiently(call: Callable[[], T]) -> T:
    """The call's result; a hub that is busy is asked again a few times, after the seconds it names or a growing pause."""
    from huggingface_hub.errors import HfHubHTTPError

    for wait in WAITS:
        try:
            return call()
        except HfHubHTTPError as error:
            if error.response.status_code not in BUSY:
                raise
            named = error.response.headers.get("Retry-After", "")
            logger.warning("the hub is busy (%d), asking again", error.response.status_code)
            time.sleep(min(float(named), 60) if named.isdigit() else wait)
    return call()


def is_listed(repo: Repo, commit: str) -> bool:
    """Whether the commit's file list is in the cache, so that no request is needed for it."""
    from huggingface_hub import get_cached_repo_tree
    from huggingface_hub.errors import CachedRepoTreeNotFoundError

    try:
        get_cached_repo_tree(repo.id, repo_type=repo.kind, revision=commit)
    except CachedRepoTreeNotFoundError:
        return False
    return True


def listing(repo: Repo, commit: str) -> list[RepoFile]:
    """All files of a commit with sizes and checksums, from the cache if it has them."""
    from huggingface_hub import HfApi, get_cached_repo_tree
    from huggingface_hub.hf_api import RepoFile

    if is_listed(repo, commit):
        return get_cached_repo_tree(repo.id, repo_type=repo.kind, revision=commit)
    tree = HfApi().list_repo_tree(repo.id, repo_type=repo.kind, revision=commit, recursive=True)
    return [entry for entry in tree if isinstance(entry, RepoFile)]


def check_space(repo: Repo, commit: str, files: Sequence[RepoFile]) -> None:
    """Raises HubError before a download that the disk cannot hold."""
    from huggingface_hub import constants, try_to_load_from_cache

    missing = [
        file.size
        for file in files
        if not isinstance(try_to_load_from_cache(repo.id, file.path, repo_type=repo.kind, revision=commit), str)
    ]
    cache = Path(constants.HF_HUB_CACHE)
    free = shutil.disk_usage(next(folder for folder in (cache, *cache.parents) if folder.is_dir())).free
    if sum(missing) > free:
        raise full_disk(f"{sum(missing) / 1e9:.2f} GB are needed, {free / 1e9:.2f} GB are free.", repo)


def verify(repo: Repo, listed: RepoFile, file: Path) -> None:
    """Compares a file with the hub's checksum, SHA-256 of large files, git's blob id of small ones; removes a damaged one."""
    if listed.lfs is not None:
        actual, expected = sha256_file(file), listed.lfs.sha256
    else:
        content = file.read_bytes()
        actual, expected = hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest(), listed.blob_id
    if actual != expected:
        file.resolve().unlink()
        file.unlink(missing_ok=True)
        raise DataError(
            f"{listed.path} has checksum {actual[:12]}, the hub says {expected[:12]}.",
            where=str(repo),
            remedy="The download was damaged and is removed: run again.",
        )


@contextmanager
def explained(repo: Repo) -> Iterator[None]:
    """Turns errors of huggingface_hub into short ones with a remedy."""
    import httpx2

    try:
        yield
    except PMQError:
        raise
    except (OSError, httpx2.HTTPError) as error:
        raise explain(repo, error) from error


def explain(repo: Repo, error: Exception) -> PMQError:
    """The HubError for an error of huggingface_hub, httpx or the file system."""
    from huggingface_hub import errors

    cases: list[tuple[type[Exception] | tuple[type[Exception], ...], str, str]] = [
        (
            errors.GatedRepoError,
            "access is restricted to users who accepted its terms.",
            f"Accept them on {repo.page}, then log in with `hf auth login` or set HF_TOKEN.",
        ),
        (
            errors.RepositoryNotFoundError,
            "there is no such repository, or it is private.",
            "Check the id; for a private one log in with `hf auth login` or set HF_TOKEN.",
        ),
        (errors.RevisionNotFoundError, "there is no such revision.", f"Choose a commit of {repo.page}/commits/main."),
        (errors.RemoteEntryNotFoundError, "a file is not there any more.", f"Choose another revision of {repo.page}."),
    ]
    for kind, what, remedy in cases:
        if isinstance(error, kind):
            return HubError(what, where=str(repo), remedy=remedy)
    if isinstance(error, errors.HfHubHTTPError):
        status = error.response.status_code
        return HubError(
            f"the hub answered with status {status}.", where=str(repo), remedy="Try again later, or check HF_TOKEN."
        )
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return full_disk("the disk is full.", repo)
    if isinstance(error, PermissionError) or (isinstance(error, OSError) and error.errno == errno.EROFS):
        return HubError(f"the cache cannot be written ({error}).", where=str(repo), remedy="Set HF_HOME to a folder of yours.")
    if isinstance(error, OSError) and "Consistency check failed" in str(error):
        return HubError("a download ended early.", where=str(repo), remedy="Run again.")
    return unreachable(repo, error)


def full_disk(what: str, repo: Repo) -> HubError:
    """The error for a disk that cannot hold a download."""
    from huggingface_hub import constants

    return HubError(
        what, where=f"{repo}, cache {constants.HF_HUB_CACHE}", remedy="Free space, or set HF_HOME to a larger disk."
    )


def unreachable(repo: Repo, error: Any) -> HubError:
    """The error for a hub that does not answer, and files that are not in the cache."""
    from huggingface_hub import constants

    if constants.is_offline_mode():
        what, remedy = "it is not in the cache, and offline mode is on.", "Unset HF_HUB_OFFLINE, or run once with a network."
    else:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        what = f"the hub at {constants.ENDPOINT} cannot be reached, and the cache lacks the files ({reason})."
        remedy = "Check network, proxy and HF_ENDPOINT, or use a local folder (`source: local`)."
    return HubError(what, where=str(repo), remedy=remedy)
