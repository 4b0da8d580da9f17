//! Headers of safetensors files that lie.

use super::{Shard, edit_shard, refusal};
use crate::support::{assert_says, copy_of};
use serde_json::json;
use std::fs;

const FILE: &str = "model.safetensors";
const NORM: &str = "model.norm.weight";
const OTHER_NORM: &str = "model.layers.0.input_layernorm.weight";

/// The refusal of the `llama` fixture after `edit` to its file.
#[track_caller]
fn refusal_after(edit: impl FnOnce(&mut Shard)) -> String {
    let directory = copy_of("llama");
    edit_shard(directory.path(), FILE, edit);
    refusal(directory.path())
}

/// The refusal of the `llama` fixture with other bytes in place of its file.
#[track_caller]
fn refusal_of_bytes(bytes: &[u8]) -> String {
    let directory = copy_of("llama");
    fs::write(directory.path().join(FILE), bytes).unwrap();
    refusal(directory.path())
}

#[test]
fn overlapping_tensors() {
    let said = refusal_after(|shard| {
        shard.header[NORM]["data_offsets"] = shard.header[OTHER_NORM]["data_offsets"].clone();
    });
    assert_says(&said, &[FILE, NORM, OTHER_NORM, "overlap", "download it again"]);
}

#[test]
fn offsets_out_of_range() {
    let said = refusal_after(|shard| {
        let length = shard.data.len() as u64;
        shard.header[NORM]["data_offsets"] = json!([length + 1000, length + 1128]);
    });
    assert_says(&said, &[FILE, "needs at least", "cut short", "download it again"]);
}

#[test]
fn overflowing_offsets() {
    let said = refusal_after(|shard| shard.header[NORM]["data_offsets"] = json!([u64::MAX - 128, u64::MAX]));
    assert_says(&said, &[FILE, NORM, "impossible offsets", &u64::MAX.to_string(), "download it again"]);
}

#[test]
fn offsets_that_run_backwards() {
    let said = refusal_after(|shard| shard.header[NORM]["data_offsets"] = json!([128, 0]));
    assert_says(&said, &[FILE, NORM, "impossible offsets 128..0"]);
}

#[test]
fn negative_offsets() {
    let said = refusal_after(|shard| shard.header[NORM]["data_offsets"] = json!([-128, 0]));
    assert_says(&said, &[FILE, "header", "cannot be parsed", "download it again"]);
}

#[test]
fn a_shape_whose_size_overflows() {
    let said = refusal_after(|shard| shard.header[NORM]["shape"] = json!([1_u64 << 62, 4, 4]));
    assert_says(&said, &[FILE, NORM, "overflows"]);
    // A size of zero must not hide it.
    let said = refusal_after(|shard| shard.header[NORM]["shape"] = json!([1_u64 << 62, 4, 4, 0]));
    assert_says(&said, &[FILE, NORM, "overflows"]);
}

#[test]
fn a_range_that_does_not_fit_the_shape() {
    let said = refusal_after(|shard| shard.header[NORM]["shape"] = json!([31]));
    assert_says(&said, &[FILE, NORM, "has 128 bytes", "[31]", "124"]);
}

#[test]
fn bytes_that_belong_to_no_tensor() {
    let said = refusal_after(|shard| shard.data.extend([0; 16]));
    assert_says(&said, &[FILE, "16 bytes", "belong to no tensor"]);
}

#[test]
fn headers_of_a_hundred_megabytes_and_more() {
    for length in [100_000_000, 1 << 40, u64::MAX] {
        let said = refusal_of_bytes(&[&length.to_le_bytes()[..], b"{}      "].concat());
        assert_says(&said, &[FILE, &format!("claims {length} bytes"), "limit is 100000000", "download it again"]);
    }
}

#[test]
fn a_header_longer_than_the_file() {
    let said = refusal_of_bytes(&[&99_999_999_u64.to_le_bytes()[..], b"{}      "].concat());
    assert_says(&said, &[FILE, "has 16 bytes", "needs at least 100000007", "cut short"]);
}

#[test]
fn a_header_that_is_not_json() {
    let said = refusal_of_bytes(&[&8_u64.to_le_bytes()[..], b"not json"].concat());
    assert_says(&said, &[FILE, "header", "cannot be parsed", "line 1"]);
}

#[test]
fn a_header_nested_without_end() {
    let deep = "[".repeat(1_000_000);
    let said = refusal_of_bytes(&[&(deep.len() as u64).to_le_bytes()[..], deep.as_bytes()].concat());
    assert_says(&said, &[FILE, "header", "cannot be parsed"]);
}

#[test]
fn a_dtype_that_does_not_exist() {
    let said = refusal_after(|shard| shard.header[NORM]["dtype"] = json!("F23"));
    assert_says(&said, &[FILE, NORM, "\"F23\""]);
}

#[test]
fn a_pointer_that_git_left() {
    let said = refusal_of_bytes(b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n");
    assert_says(&said, &[FILE, "Git LFS pointer", "git lfs pull"]);
}
