//! Damaged and hostile input through the public API: no panic, and a message that says what is wrong, where, and what to do.

mod calls;
mod config;
mod headers;
mod mutations;
mod weights;

use crate::support::{load, message};
use automodel::AutoModelForCausalLM;
use serde_json::{Map, Value};
use std::fs;
use std::path::Path;

/// The message with which loading a directory is refused. Inspecting must find the same, since no weight is needed for it.
#[track_caller]
fn refusal(directory: &Path) -> String {
    let loaded = message(&load(directory).expect_err("loads although it should be refused"));
    let inspected = AutoModelForCausalLM::from_pretrained(directory.to_str().unwrap()).inspect();
    assert_eq!(message(&inspected.expect_err("only inspecting succeeds")), loaded);
    loaded
}

/// A safetensors file taken apart.
struct Shard {
    header: Map<String, Value>,
    data: Vec<u8>,
}

impl Shard {
    fn read(path: &Path) -> Self {
        let mut bytes = fs::read(path).unwrap();
        let length = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
        let data = bytes.split_off(8 + length);
        Self { header: serde_json::from_slice(&bytes[8..]).unwrap(), data }
    }

    fn write(&self, path: &Path) {
        let header = serde_json::to_vec(&self.header).unwrap();
        fs::write(path, [&(header.len() as u64).to_le_bytes(), header.as_slice(), &self.data].concat()).unwrap();
    }

    /// Where the bytes of a tensor are.
    fn range(&self, tensor: &str) -> std::ops::Range<usize> {
        let offset = |index: usize| self.header[tensor]["data_offsets"][index].as_u64().unwrap() as usize;
        offset(0)..offset(1)
    }
}

/// Changes the safetensors file `name` in `directory`.
fn edit_shard(directory: &Path, name: &str, edit: impl FnOnce(&mut Shard)) {
    let path = directory.join(name);
    let mut shard = Shard::read(&path);
    edit(&mut shard);
    shard.write(&path);
}
