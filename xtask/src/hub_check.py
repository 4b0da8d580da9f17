"""Checks a cache with huggingface_hub: hub_check.py ours|theirs DIRECTORY NAME..."""

import sys
from pathlib import Path

from huggingface_hub import _CACHED_NO_EXIST, hf_hub_download, scan_cache_dir, snapshot_download, try_to_load_from_cache

REPO = "org/checked"
mode, directory, *names = sys.argv[1:]


def compare(path, name):
    assert Path(path).read_bytes() == (Path(directory) / name).read_bytes(), f"{name} differs"


if mode == "ours":
    for name in names:
        assert isinstance(try_to_load_from_cache(REPO, name), str), f"{name} is not found"
        compare(hf_hub_download(REPO, name, local_files_only=True), name)
        compare(hf_hub_download(REPO, name), name)
    assert try_to_load_from_cache(REPO, "vocab.json") is _CACHED_NO_EXIST, "vocab.json is not known to be absent"
    assert try_to_load_from_cache(REPO, "pytorch_model.bin") is None
snapshot = snapshot_download(REPO, allow_patterns=names)
for name in names:
    compare(Path(snapshot) / name, name)
report = scan_cache_dir()
assert not report.warnings, report.warnings
(repo,) = report.repos
(revision,) = repo.revisions
assert (repo.repo_id, set(revision.refs)) == (REPO, {"main"}), repo
assert {file.file_name for file in revision.files} == set(names), revision.files
print(f"{len(names)} files, {report.size_on_disk} bytes")
