//! The arrows between crates, and the libraries that only some may use.

use super::workspace::{Member, Workspace};
use crate::arrows::{ARROWS, Arrow, ISOLATED, NETWORK, NETWORK_LIBRARIES, WITHOUT_BURN};

pub fn check(workspace: &Workspace) -> Vec<String> {
    let mut findings = check_table(workspace);
    for member in &workspace.members {
        findings.extend(check_arrows(member));
    }
    for member in workspace.published() {
        findings.extend(check_network(member));
        findings.extend(check_burn(member));
    }
    findings
}

/// The table and the workspace name the same crates.
fn check_table(workspace: &Workspace) -> Vec<String> {
    let published: Vec<&str> = workspace.published().map(|member| member.name.as_str()).collect();
    let absent = ARROWS.iter().filter(|arrow| !published.contains(&arrow.name));
    let unknown = published.iter().filter(|name| arrow(name).is_none());
    absent
        .map(|arrow| format!("the arrow table has `{}`, which is not a published crate of the workspace", arrow.name))
        .chain(unknown.map(|name| format!("`{name}` is not in the arrow table (xtask/src/arrows.rs)")))
        .collect()
}

/// A published crate imports only what its arrows allow; unpublished ones import anything, except the isolated one.
fn check_arrows(member: &Member) -> Vec<String> {
    let may_import: &[&str] = match arrow(&member.name) {
        Some(arrow) if member.is_published => arrow.may_import,
        _ if member.name == ISOLATED => &[],
        _ => return Vec::new(),
    };
    let forbidden = member.imports.iter().filter(|import| !may_import.contains(&import.as_str()));
    forbidden.map(|import| format!("`{}` imports `{import}`, which its arrows do not allow", member.name)).collect()
}

/// Declared dependencies alone: the resolved graph also has libraries behind features that are off.
fn check_network(member: &Member) -> Vec<String> {
    if member.name == NETWORK {
        return Vec::new();
    }
    let network = member.libraries.iter().filter(|library| NETWORK_LIBRARIES.contains(&library.as_str()));
    network.map(|library| format!("`{}` imports `{library}`: only `{NETWORK}` uses the network", member.name)).collect()
}

fn check_burn(member: &Member) -> Vec<String> {
    if !WITHOUT_BURN.contains(&member.name.as_str()) {
        return Vec::new();
    }
    let is_burn = |library: &&String| *library == "burn" || library.starts_with("burn-");
    let burn: Vec<&str> = member.reaches.iter().filter(is_burn).map(String::as_str).collect();
    if burn.is_empty() {
        return Vec::new();
    }
    vec![format!("`{}` must not depend on Burn, but reaches {}", member.name, burn.join(", "))]
}

fn arrow(name: &str) -> Option<&'static Arrow> {
    ARROWS.iter().find(|arrow| arrow.name == name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    fn names(names: &[&str]) -> BTreeSet<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    fn member(name: &str, imports: &[&str], libraries: &[&str], reaches: &[&str]) -> Member {
        Member {
            name: name.to_owned(),
            directory: "".into(),
            is_published: true,
            imports: names(imports),
            libraries: names(libraries),
            reaches: names(reaches),
        }
    }

    #[test]
    fn arrows_allow_what_the_table_has_and_nothing_else() {
        assert_eq!(check_arrows(&member("loader", &["config", "registry"], &[], &[])), Vec::<String>::new());
        let findings = check_arrows(&member("config", &["hub", "models"], &[], &[]));
        assert_eq!(findings.len(), 2, "{findings:?}");
    }

    #[test]
    fn unpublished_crates_import_anything_but_xtask_nothing() {
        let mut tests = member("tests", &["automodel", "config"], &[], &[]);
        tests.is_published = false;
        assert!(check_arrows(&tests).is_empty());
        let mut xtask = member("xtask", &["config"], &[], &[]);
        xtask.is_published = false;
        assert_eq!(check_arrows(&xtask).len(), 1);
    }

    #[test]
    fn only_the_hub_uses_the_network() {
        assert_eq!(check_network(&member("loader", &[], &["reqwest", "serde"], &[])).len(), 1);
        assert!(check_network(&member("hub", &[], &["reqwest"], &[])).is_empty());
    }

    #[test]
    fn burn_is_found_behind_other_crates() {
        assert_eq!(check_burn(&member("registry", &[], &[], &["burn-tensor", "serde"])).len(), 1);
        assert!(check_burn(&member("registry", &[], &[], &["serde", "burnt"])).is_empty());
        assert!(check_burn(&member("models", &[], &[], &["burn"])).is_empty());
    }

    #[test]
    fn the_table_is_complete_and_without_cycles() {
        let complete = ARROWS.iter().map(|arrow| member(arrow.name, arrow.may_import, &[], &[])).collect();
        assert!(check_table(&Workspace { members: complete }).is_empty());
        let one = Workspace { members: vec![member("newcomer", &[], &[], &[])] };
        assert_eq!(check_table(&one).len(), ARROWS.len() + 1);

        // Each row imports only rows that are settled before it: possible in some order, or there is a cycle.
        let mut settled: Vec<&str> = Vec::new();
        while settled.len() < ARROWS.len() {
            let next = ARROWS.iter().find(|arrow| {
                !settled.contains(&arrow.name) && arrow.may_import.iter().all(|import| settled.contains(import))
            });
            settled.push(next.expect("a cycle among the rest").name);
        }
    }
}
