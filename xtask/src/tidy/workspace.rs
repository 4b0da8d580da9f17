//! The workspace as the checks see it, read from `cargo metadata`.

use cargo_metadata::{Dependency, DependencyKind, Metadata, MetadataCommand, Node, Package, PackageId};
use std::{
    collections::{BTreeSet, HashMap, HashSet},
    path::{Path, PathBuf},
};

use crate::{Result, arrows::short_name};

/// The crates of the workspace.
pub struct Workspace {
    pub members: Vec<Member>,
}

/// One crate of the workspace. Its name is short: `config` for `automodel-config`.
pub struct Member {
    pub name: String,
    pub directory: PathBuf,
    pub is_published: bool,
    /// Crates of the workspace among its dependencies of every kind, by short name; those that only its tests use and that are
    /// not published do not count.
    pub imports: BTreeSet<String>,
    /// Other crates among its dependencies of every kind.
    pub libraries: BTreeSet<String>,
    /// Everything it depends on, however indirectly. Features that are off may add names, so that this is an upper bound.
    pub reaches: BTreeSet<String>,
}

impl Workspace {
    pub fn read(root: &Path) -> Result<Self> {
        let metadata = MetadataCommand::new().current_dir(root).exec()?;
        Ok(Self { members: members(&metadata)? })
    }

    pub fn published(&self) -> impl Iterator<Item = &Member> {
        self.members.iter().filter(|member| member.is_published)
    }
}

fn members(metadata: &Metadata) -> Result<Vec<Member>> {
    let packages = metadata.workspace_packages();
    let ours: HashSet<&str> = packages.iter().map(|package| package.name.as_str()).collect();
    let of_tests = |dependency: &Dependency| {
        let package = packages.iter().find(|package| package.name.as_str() == dependency.name);
        dependency.kind == DependencyKind::Development && package.is_some_and(|package| !is_published(package))
    };
    let reached = Reached::new(metadata)?;
    let mut members = Vec::new();
    for package in &packages {
        let directory = package.manifest_path.parent().ok_or("a manifest has no directory")?;
        let dependencies = package
            .dependencies
            .iter()
            .filter(|dependency| !of_tests(dependency))
            .map(|dependency| dependency.name.as_str());
        let (imports, libraries): (Vec<&str>, Vec<&str>) = dependencies.partition(|name| ours.contains(name));
        members.push(Member {
            name: short_name(&package.name).to_owned(),
            directory: directory.as_std_path().to_owned(),
            is_published: is_published(package),
            imports: imports.into_iter().map(|name| short_name(name).to_owned()).collect(),
            libraries: libraries.into_iter().map(str::to_owned).collect(),
            reaches: reached.from(&package.id),
        });
    }
    Ok(members)
}

fn is_published(package: &Package) -> bool {
    package.publish.as_ref().is_none_or(|registries| !registries.is_empty())
}

/// The resolved graph of dependencies.
struct Reached<'a> {
    nodes: HashMap<&'a PackageId, &'a Node>,
    names: HashMap<&'a PackageId, &'a str>,
}

impl<'a> Reached<'a> {
    fn new(metadata: &'a Metadata) -> Result<Self> {
        let resolve = metadata.resolve.as_ref().ok_or("cargo metadata resolved nothing")?;
        Ok(Self {
            nodes: resolve.nodes.iter().map(|node| (&node.id, node)).collect(),
            names: metadata.packages.iter().map(|package| (&package.id, package.name.as_str())).collect(),
        })
    }

    /// Names of the dependencies of `start`. Development dependencies count for `start` itself and not further on.
    fn from(&self, start: &PackageId) -> BTreeSet<String> {
        let mut found = HashSet::new();
        let mut pending = vec![start];
        while let Some(id) = pending.pop() {
            let Some(node) = self.nodes.get(id) else { continue };
            for dependency in &node.deps {
                let kinds = &dependency.dep_kinds;
                let is_used = id == start || kinds.iter().any(|kind| kind.kind != DependencyKind::Development);
                if is_used && found.insert(&dependency.pkg) {
                    pending.push(&dependency.pkg);
                }
            }
        }
        found.into_iter().filter_map(|id| self.names.get(id)).map(|name| (*name).to_owned()).collect()
    }
}
