//! Labels of models: class names with their numbers, as JSON an object.

use std::collections::{HashMap, HashSet};
use std::fmt;

use serde::de::{MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serializer};

/// Labels, however they are written.
struct Labels(Vec<(String, i64)>);

impl<'de> Deserialize<'de> for Labels {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct ObjectOrPairs;
        impl<'de> Visitor<'de> for ObjectOrPairs {
            type Value = Labels;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object of class names and their numbers, or pairs of both")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Labels, A::Error> {
                let mut labels = Vec::new();
                while let Some(label) = map.next_entry()? {
                    labels.push(label);
                }
                Ok(Labels(labels))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut pairs: A) -> Result<Labels, A::Error> {
                let mut labels = Vec::new();
                while let Some(label) = pairs.next_element()? {
                    labels.push(label);
                }
                Ok(Labels(labels))
            }
        }
        deserializer.deserialize_any(ObjectOrPairs)
    }
}

pub(crate) fn deserialize<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Vec<(String, i64)>, D::Error> {
    Labels::deserialize(deserializer).map(|Labels(labels)| labels)
}

/// In their order; of a name that is there twice, which an object cannot have, the last number.
pub(crate) fn serialize<S: Serializer>(
    labels: &[(String, i64)],
    serializer: S,
) -> Result<S::Ok, S::Error> {
    let last: HashMap<&str, i64> = pairs(labels).collect();
    let mut seen = HashSet::new();
    serializer.collect_map(
        pairs(labels)
            .filter(|(name, _)| seen.insert(*name))
            .map(|(name, _)| (name, last[name])),
    )
}

fn pairs(labels: &[(String, i64)]) -> impl Iterator<Item = (&str, i64)> {
    labels.iter().map(|(name, number)| (name.as_str(), *number))
}

/// Labels that may be absent.
pub(crate) mod given {
    use serde::{Deserialize as _, Deserializer, Serializer};

    use super::Labels;

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Option<Vec<(String, i64)>>, D::Error> {
        let given = Option::deserialize(deserializer)?;
        Ok(given.map(|Labels(labels)| labels))
    }

    #[expect(clippy::ref_option, reason = "as serde calls it")]
    pub(crate) fn serialize<S: Serializer>(
        labels: &Option<Vec<(String, i64)>>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        match labels {
            Some(labels) => super::serialize(labels, serializer),
            None => serializer.serialize_none(),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use crate::model::{ModelEdit, Registration};

    #[test]
    fn labels_are_written_as_an_object_and_read_as_pairs_too() {
        let given = json!({"name": "net", "labels": {"cat": 1, "dog": 0}});
        let model: Registration = serde_json::from_value(given).unwrap();
        assert_eq!(model.labels, [("cat".to_owned(), 1), ("dog".to_owned(), 0)]);
        assert_eq!(json!(model)["labels"], json!({"cat": 1, "dog": 0}));

        let pairs = json!({"labels": [["dog", 0], ["cat", 1], ["dog", 2]]});
        let edit: ModelEdit = serde_json::from_value(pairs).unwrap();
        let text = serde_json::to_string(&edit).unwrap();
        assert_eq!(text, r#"{"labels":{"dog":2,"cat":1}}"#);

        let none: ModelEdit = serde_json::from_value(json!({"labels": null})).unwrap();
        assert_eq!(serde_json::to_string(&none).unwrap(), "{}");
    }
}
