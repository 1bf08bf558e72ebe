//! Where a list goes on: the keys and the id of the last row of a part.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value as Json, json};

use super::source::{Key, KeyKind};

/// The place of a row in an order.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Cursor {
    pub(super) id: String,
    /// One for each key.
    pub(super) values: Vec<KeyValue>,
}

/// What a row has in a key.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum KeyValue {
    Missing,
    Text(String),
    Integer(i64),
    Real(f64),
}

impl Cursor {
    /// The text of the place, which says of which order it is.
    pub(super) fn write(&self, keys: &[Key]) -> String {
        let values = self.values.iter().map(|value| match value {
            KeyValue::Missing => Json::Null,
            KeyValue::Text(text) => json!(text),
            KeyValue::Integer(number) => json!(number),
            // Bits: a number as text would have to be read to the same bits everywhere.
            KeyValue::Real(number) => json!(format!("{:016x}", number.to_bits())),
        });
        let values: Vec<Json> = values.collect();
        URL_SAFE_NO_PAD.encode(json!([order(keys), self.id, values]).to_string())
    }

    /// The place that `text` names, if it is one in this order.
    pub(super) fn read(text: &str, keys: &[Key]) -> Option<Self> {
        let bytes = URL_SAFE_NO_PAD.decode(text).ok()?;
        let (named, id, values): (String, String, Vec<Json>) =
            serde_json::from_slice(&bytes).ok()?;
        if named != order(keys) || values.len() != keys.len() || id.contains('\0') {
            return None;
        }
        let values = values.iter().zip(keys).map(|(value, key)| {
            Some(match (value, key.kind) {
                (Json::Null, _) if key.nullable => KeyValue::Missing,
                (Json::String(text), KeyKind::Text) if !text.contains('\0') => {
                    KeyValue::Text(text.clone())
                }
                (Json::Number(number), KeyKind::Integer) => KeyValue::Integer(number.as_i64()?),
                (Json::String(bits), KeyKind::Real) => {
                    let number = f64::from_bits(u64::from_str_radix(bits, 16).ok()?);
                    KeyValue::Real(Some(number).filter(|number| !number.is_nan())?)
                }
                _ => return None,
            })
        });
        let values: Option<Vec<KeyValue>> = values.collect();
        Some(Self {
            id,
            values: values?,
        })
    }
}

/// Names an order, so that a cursor of another is refused.
fn order(keys: &[Key]) -> String {
    let names: Vec<&str> = keys.iter().map(|key| key.name.as_str()).collect();
    names.join(",")
}
