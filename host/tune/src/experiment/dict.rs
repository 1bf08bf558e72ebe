//! Dicts of trials, of which there are many that nobody looks at.

use std::borrow::Cow;

use serde_json::{Map, Value};

/// A dict as it is, or, for one that hardly anybody will look at, as its text: a fifth of the
/// memory, and exactly the same.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Dict {
    Open(Map<String, Value>),
    Packed(Box<str>),
}

impl Dict {
    pub(crate) fn get(&self) -> Cow<'_, Map<String, Value>> {
        match self {
            Self::Open(dict) => Cow::Borrowed(dict),
            Self::Packed(text) => {
                let dict = serde_json::from_str(text);
                Cow::Owned(dict.expect("a dict was written as this text"))
            }
        }
    }

    pub(crate) fn pack(&mut self) {
        if let Self::Open(dict) = self {
            let text = serde_json::to_string(dict).expect("the keys of a dict are texts");
            *self = Self::Packed(text.into_boxed_str());
        }
    }
}

impl From<Map<String, Value>> for Dict {
    fn from(dict: Map<String, Value>) -> Self {
        Self::Open(dict)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_packed_dict_is_the_same() {
        let Value::Object(dict) = json!({
            "pi": std::f64::consts::PI, "least": f64::MIN_POSITIVE, "subnormal": 5e-324,
            "large": u64::MAX, "negative": i64::MIN, "zero": -0.0, "whole": 1.0,
            "text": "ä\u{0}\"\\", "list": [null, {"a": [true]}],
        }) else {
            unreachable!()
        };
        let mut packed = Dict::from(dict.clone());
        packed.pack();
        packed.pack();
        assert!(matches!(packed, Dict::Packed(_)));
        assert_eq!(*packed.get(), dict);
        assert_eq!(
            format!("{:?}", packed.get()),
            format!("{:?}", Dict::from(dict).get())
        );
    }
}
