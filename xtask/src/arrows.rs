//! Who may import whom: the arrow table of `docs/ARCHITECTURE.md` as data.

/// One published crate and the crates that it may import. Names are those of the directories under `crates/`.
pub struct Arrow {
    /// The crate.
    pub name: &'static str,
    /// Crates of the workspace that it may import, in dependencies of every kind; in its tests also the unpublished ones.
    pub may_import: &'static [&'static str],
}

/// Every published crate. No exceptions.
pub const ARROWS: &[Arrow] = &[
    Arrow { name: "config", may_import: &[] },
    Arrow { name: "hub", may_import: &[] },
    Arrow { name: "registry", may_import: &["config"] },
    Arrow { name: "quant", may_import: &["config"] },
    Arrow { name: "attention", may_import: &[] },
    Arrow { name: "models", may_import: &["config", "registry", "quant", "attention"] },
    Arrow { name: "loader", may_import: &["config", "registry", "quant"] },
    Arrow { name: "generation", may_import: &["config", "models"] },
    Arrow {
        name: "automodel",
        may_import: &["config", "hub", "registry", "quant", "attention", "models", "loader", "generation"],
    },
    Arrow { name: "cli", may_import: &["automodel"] },
];

/// The unpublished crate that imports nothing of ours, so that it runs even when the rest does not compile.
pub const ISOLATED: &str = "xtask";

/// Crates that must not reach Burn, however indirectly.
pub const WITHOUT_BURN: &[&str] = &["config", "hub", "registry"];

/// The one crate that may import a network library.
pub const NETWORK: &str = "hub";

/// Network libraries.
pub const NETWORK_LIBRARIES: &[&str] = &["attohttpc", "curl", "hf-hub", "hyper", "isahc", "minreq", "reqwest", "ureq"];

/// Crates that need no example: the command is its own.
pub const WITHOUT_EXAMPLE: &[&str] = &["cli"];

/// `config` for the package `automodel-config`, `automodel` for itself.
pub fn short_name(package: &str) -> &str {
    package.strip_prefix("automodel-").unwrap_or(package)
}
