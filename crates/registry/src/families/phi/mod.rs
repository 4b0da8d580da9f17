//! Microsoft's Phi models.

#[expect(clippy::module_inception, reason = "a folder is a lineage, a file a model type")]
pub mod phi;
pub mod phi3;
pub mod phimoe;
