//! Keys that open a workspace.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::digest::Digest;
use crate::time::Timestamp;

/// Hexadecimal digits of the id of a key.
const ID_DIGITS: usize = 16;

/// The id of the key whose digest is `digest`: enough of it to tell keys apart, and nothing
/// that the key could be guessed from.
pub fn key_id(digest: &Digest) -> String {
    digest.to_string()[..ID_DIGITS].to_owned()
}

/// A key, without the key itself: only its digest is kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct KeyView {
    /// 16 hexadecimal digits, the first ones of its SHA-256.
    pub id: String,
    /// Whose it is, and the creator of the tasks that are made with it; empty for the keys that
    /// the server made by itself.
    pub name: String,
    /// When it was made.
    pub created: Timestamp,
    /// Whether the call that asks came with it.
    #[serde(default)]
    pub current: bool,
}

/// Asks for a key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewKey {
    /// Whose it is: 1 to 200 bytes without control characters.
    pub name: String,
}

/// A key that was just made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct MadeKey {
    /// The key. It is shown this once.
    pub key: String,
    /// What is known of it.
    #[serde(flatten)]
    pub about: KeyView,
}
