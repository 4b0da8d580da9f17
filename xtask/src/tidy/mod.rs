//! `cargo xtask tidy`: the structure of the workspace, checked from `cargo metadata` and the files themselves.

mod architecture;
mod auto_traits;
mod files;
mod imports;
mod promises;
mod words;
mod workspace;

use std::fs;

use crate::{Result, supported_models, workspace_root};
use workspace::Workspace;

/// The public description of the crates, below the root of the workspace.
const ARCHITECTURE: &str = "docs/ARCHITECTURE.md";

pub fn run() -> Result<()> {
    let root = workspace_root();
    let workspace = Workspace::read(&root)?;
    let manifest = fs::read_to_string(root.join("Cargo.toml"))?;
    let architecture = fs::read_to_string(root.join(ARCHITECTURE)).unwrap_or_default();

    let mut findings = imports::check(&workspace);
    findings.extend(files::check_workspace_lints(&manifest));
    findings.extend(architecture::check(&workspace, &architecture));
    findings.extend(promises::check(&root)?);
    findings.extend(supported_models::check(&root)?);
    for member in workspace.published() {
        findings.extend(files::check_crate(member)?);
        findings.extend(auto_traits::check(&member.name, &member.directory)?);
    }
    report(&findings)
}

fn report(findings: &[String]) -> Result<()> {
    for finding in findings {
        eprintln!("tidy: {finding}");
    }
    match findings.len() {
        0 => Ok(()),
        count => Err(format!("{count} findings").into()),
    }
}
