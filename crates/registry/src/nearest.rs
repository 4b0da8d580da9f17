//! Names that resemble a name, for hints.

/// At most three of `known` that resemble `name`, best first.
pub fn nearest<'a>(name: &str, known: impl Iterator<Item = &'a str>) -> Vec<String> {
    let score = |candidate: &str| {
        let prefix = name.bytes().zip(candidate.bytes()).take_while(|(a, b)| a == b).count();
        strsim::jaro_winkler(name, candidate) + 0.02 * prefix as f64
    };
    let mut scored: Vec<(f64, &str)> = known.map(|candidate| (score(candidate), candidate)).collect();
    scored.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(b.1)));
    scored.dedup_by(|a, b| a.1 == b.1);
    scored.into_iter().filter(|&(score, _)| score > 0.75).take(3).map(|(_, name)| name.to_owned()).collect()
}
