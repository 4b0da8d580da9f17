//! Dotted keys and the deep merge of objects.

use serde_json::{Map, Value};

/// The value at a dotted key. A key that contains dots itself is found too.
pub(crate) fn get<'a>(map: &'a Map<String, Value>, dotted: &str) -> Option<&'a Value> {
    if let Some(value) = map.get(dotted) {
        return Some(value);
    }
    let (first, rest) = dotted.split_once('.')?;
    get(map.get(first)?.as_object()?, rest)
}

/// Merges `patch` into `target`: objects key by key, anything else replaces what was there.
pub(crate) fn merge(target: &mut Map<String, Value>, patch: &Map<String, Value>) {
    for (key, value) in patch {
        match (target.get_mut(key), value) {
            (Some(Value::Object(old)), Value::Object(new)) if !is_tagged(old) && !is_tagged(new) => merge(old, new),
            _ => {
                target.insert(key.clone(), value.clone());
            }
        }
    }
}

/// Whether the object is a tagged number.
pub(crate) fn is_tagged(map: &Map<String, Value>) -> bool {
    map.len() == 1 && map.contains_key(crate::json::FLOAT_TAG)
}

/// Dotted keys of everything that is not itself an object with keys.
pub(crate) fn leaves(map: &Map<String, Value>) -> Vec<(String, &Value)> {
    fn collect<'a>(prefix: &str, map: &'a Map<String, Value>, found: &mut Vec<(String, &'a Value)>) {
        for (key, value) in map {
            let dotted = if prefix.is_empty() { key.clone() } else { format!("{prefix}.{key}") };
            match value {
                Value::Object(inner) if !inner.is_empty() && !is_tagged(inner) => collect(&dotted, inner, found),
                _ => found.push((dotted, value)),
            }
        }
    }
    let mut found = Vec::new();
    collect("", map, &mut found);
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn any_value() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            "[a-c]{0,3}".prop_map(Value::from),
        ];
        leaf.prop_recursive(3, 24, 4, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..3).prop_map(Value::from),
                prop::collection::vec(("[a-d]", inner), 0..4)
                    .prop_map(|pairs| Value::Object(pairs.into_iter().collect())),
            ]
        })
    }

    fn any_map() -> impl Strategy<Value = Map<String, Value>> {
        prop::collection::vec(("[a-d]", any_value()), 0..4).prop_map(|pairs| pairs.into_iter().collect())
    }

    /// Maps of which `a` and `b` are never objects, and `c` and `d` always.
    fn alike_map() -> impl Strategy<Value = Map<String, Value>> {
        let plain = ("[ab]", any::<i8>().prop_map(Value::from));
        let inner =
            prop::collection::vec(plain.clone(), 0..3).prop_map(|pairs| Value::Object(pairs.into_iter().collect()));
        prop::collection::vec(prop_oneof![plain, ("[cd]", inner)], 0..6).prop_map(|pairs| pairs.into_iter().collect())
    }

    fn merged(target: &Map<String, Value>, patch: &Map<String, Value>) -> Map<String, Value> {
        let mut target = target.clone();
        merge(&mut target, patch);
        target
    }

    proptest! {
        #[test]
        fn merging_nothing_changes_nothing(map in any_map()) {
            prop_assert_eq!(merged(&map, &Map::new()), map.clone());
            prop_assert_eq!(merged(&Map::new(), &map), map);
        }

        #[test]
        fn merging_twice_is_merging_once(map in any_map(), patch in any_map()) {
            let once = merged(&map, &patch);
            prop_assert_eq!(merged(&once, &patch), once);
        }

        #[test]
        fn merged_values_replace_old_ones_and_the_rest_stays(map in any_map(), patch in any_map()) {
            let result = merged(&map, &patch);
            for (key, value) in leaves(&patch) {
                if !value.as_object().is_some_and(Map::is_empty) {
                    prop_assert_eq!(get(&result, &key), Some(value));
                }
            }
            for (key, value) in &map {
                if !patch.contains_key(key) {
                    prop_assert_eq!(result.get(key), Some(value));
                }
            }
        }

        #[test]
        fn merging_is_associative_where_kinds_agree(a in alike_map(), b in alike_map(), c in alike_map()) {
            prop_assert_eq!(merged(&merged(&a, &b), &c), merged(&a, &merged(&b, &c)));
        }
    }
}
