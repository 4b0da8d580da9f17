//! Selects the files of a repo that a load needs.

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;

use super::listing::{Entry, Listing};
use crate::{
    HubError,
    auxiliary::{SMALL, is_auxiliary},
    file_name::is_contained,
    suggestions,
};

/// The file of unsharded weights, which takes precedence over an index, as in transformers.
const SINGLE: &str = "model.safetensors";
/// The file that names the shards.
const INDEX: &str = "model.safetensors.index.json";
/// Extensions of weights in unsupported formats.
const OTHER_WEIGHTS: [&str; 6] = [".bin", ".gguf", ".h5", ".msgpack", ".pt", ".pth"];

/// The files of a commit, relative to one folder of the repo.
pub(crate) struct Selection<'a> {
    pub(crate) listing: &'a Listing,
    /// Empty, or a folder with `/` at its end.
    pub(crate) folder: &'a str,
    pub(crate) repo: &'a str,
    pub(crate) commit: &'a str,
}

impl<'a> Selection<'a> {
    fn in_folder(&self, name: &str) -> Option<&'a Entry> {
        self.listing.get(&format!("{}{name}", self.folder))
    }

    /// Config, tokenizer, templates, and the index if the weights are sharded.
    pub(crate) fn small_files(&self) -> Result<Vec<&'a Entry>, HubError> {
        let mut files: Vec<&Entry> = SMALL.iter().filter_map(|name| self.in_folder(name)).collect();
        files.extend(self.listing.iter().filter(|entry| {
            let name = entry.name.strip_prefix(self.folder);
            name.is_some_and(|name| !SMALL.contains(&name) && is_auxiliary(name))
        }));
        if self.in_folder("config.json").is_none() {
            return Err(self.missing("config.json"));
        }
        if self.in_folder(SINGLE).is_none() {
            files.push(self.in_folder(INDEX).ok_or_else(|| self.no_weights())?);
        }
        Ok(files)
    }

    /// The index, if the weights are sharded.
    pub(crate) fn index(&self) -> Option<&'a Entry> {
        if self.in_folder(SINGLE).is_some() { None } else { self.in_folder(INDEX) }
    }

    /// The files with weights; `index` is the text of the index, if there is one.
    pub(crate) fn weights(&self, index: Option<&[u8]>) -> Result<Vec<&'a Entry>, HubError> {
        let Some(text) = index else {
            return self.in_folder(SINGLE).map(|entry| vec![entry]).ok_or_else(|| self.no_weights());
        };
        let index = Index::parse(text).map_err(|error| HubError::InvalidResponse {
            url: format!("{}{INDEX} of `{}`", self.folder, self.repo),
            reason: format!("it is not a shard index ({error})"),
        })?;
        let names: BTreeSet<String> = index.weight_map.into_values().collect();
        if let Some(name) = names.iter().find(|name| !is_contained(name)) {
            let origin = format!("{}{INDEX} of `{}`", self.folder, self.repo);
            return Err(HubError::HostileName { origin, name: name.clone() });
        }
        names.iter().map(|name| self.in_folder(name).ok_or_else(|| self.missing(name))).collect()
    }

    fn missing(&self, name: &str) -> HubError {
        let file = format!("{}{name}", self.folder);
        // If a hostile name was dropped, that error is more useful than a missing file.
        if let Some(name) = &self.listing.hostile {
            return HubError::HostileName { origin: format!("`{}`", self.repo), name: name.clone() };
        }
        HubError::MissingRemoteFile {
            nearest: suggestions::nearest(&file, self.listing.iter().map(|entry| entry.name.clone())),
            repo: self.repo.to_owned(),
            commit: self.commit.to_owned(),
            file,
        }
    }

    fn no_weights(&self) -> HubError {
        let is_other = |entry: &&Entry| OTHER_WEIGHTS.iter().any(|ending| entry.name.ends_with(ending));
        let found = self.listing.iter().filter(is_other).map(|entry| entry.name.clone()).collect();
        let (repo, commit) = (self.repo.to_owned(), self.commit.to_owned());
        HubError::NoSafetensors { repo, commit, found: suggestions::first_few(found) }
    }
}

/// The shard of each tensor.
#[derive(Deserialize)]
pub(crate) struct Index {
    /// From names of tensors to names of files, which are not checked.
    pub(crate) weight_map: BTreeMap<String, String>,
}

impl Index {
    pub(crate) fn parse(text: &[u8]) -> serde_json::Result<Self> {
        serde_json::from_slice(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::network::hash::ContentHash;

    fn listing(names: &[&str]) -> Listing {
        let hash = ContentHash::from_name(&"a".repeat(40)).unwrap();
        let mut listing = Listing::default();
        for name in names {
            listing.insert(Entry { name: (*name).to_owned(), bytes: 1, hash: hash.clone(), git: "a".repeat(40) });
        }
        listing
    }

    fn names(files: Vec<&Entry>) -> Vec<&str> {
        files.into_iter().map(|entry| entry.name.as_str()).collect()
    }

    #[test]
    fn only_what_a_load_needs_is_selected() {
        let listing = listing(&[
            "README.md",
            "config.json",
            "model-1.safetensors",
            "model-2.safetensors",
            "model.gguf",
            "pytorch_model.bin",
            "model.safetensors.index.json",
            "original/consolidated.00.pth",
            "original/tokenizer.model",
            "tokenizer.json",
            "onnx/model.onnx",
            "chat_template.jinja",
            "additional_chat_templates/tool.jinja",
            "qwen.tiktoken",
            "x/y.jinja",
        ]);
        let selection = Selection { listing: &listing, folder: "", repo: "a/b", commit: "c" };
        let small = names(selection.small_files().unwrap());
        let expected = [
            "chat_template.jinja",
            "config.json",
            "tokenizer.json",
            "additional_chat_templates/tool.jinja",
            "qwen.tiktoken",
            "model.safetensors.index.json",
        ];
        assert_eq!(small, expected);
        let weights = |text: &str| selection.weights(Some(text.as_bytes())).map(names);
        let text = r#"{"weight_map": {"a": "model-2.safetensors", "b": "model-2.safetensors"}}"#;
        assert_eq!(weights(text).unwrap(), ["model-2.safetensors"]);
        for bad in ["", "{}", "[1]", r#"{"weight_map": {"a": 1}}"#] {
            assert!(matches!(weights(bad), Err(HubError::InvalidResponse { .. })), "{bad}");
        }
        for hostile in ["../x", "/etc/passwd", "C:x", "a\\\\b", "x\\u0000", "//server/share/x"] {
            let text = format!(r#"{{"weight_map": {{"a": "{hostile}"}}}}"#);
            assert!(matches!(weights(&text), Err(HubError::HostileName { .. })), "{hostile}");
        }
        let absent = weights(r#"{"weight_map": {"a": "model-3.safetensors"}}"#).unwrap_err();
        assert!(absent.to_string().contains("similar names there: model-"), "{absent}");
    }

    #[test]
    fn a_folder_is_a_repo_of_its_own() {
        let listing = listing(&["config.json", "model.safetensors", "small/config.json", "small/model.safetensors"]);
        let selection = Selection { listing: &listing, folder: "small/", repo: "a/b", commit: "c" };
        assert_eq!(names(selection.small_files().unwrap()), ["small/config.json"]);
        assert_eq!(names(selection.weights(None).unwrap()), ["small/model.safetensors"]);
    }

    #[test]
    fn other_formats_are_named() {
        let listing = listing(&["config.json", "pytorch_model.bin", "model.gguf"]);
        let selection = Selection { listing: &listing, folder: "", repo: "a/b", commit: "c" };
        let error = selection.small_files().unwrap_err();
        assert!(matches!(&error, HubError::NoSafetensors { found, .. } if found.len() == 2), "{error}");
    }
}
